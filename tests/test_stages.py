from dataclasses import dataclass

import numpy as np
import pytest

from ecg.stages import fingerprint, keep, recall


@dataclass(frozen=True)
class Sizes:
    width: int = 4
    kernels: tuple = (5, 3)


def parts(**changes):
    given = {"text": "a", "number": 1, "settings": Sizes(), "array": np.arange(6, dtype=np.float32)}
    return [*{**given, **changes}.values()]


def test_what_is_kept_comes_back_to_the_bit_under_its_mark_alone(tmp_path):
    arrays = {"probabilities": np.random.default_rng(1).random((3, 2)).astype(np.float32), "epochs": np.array("[1.5]")}
    assert recall(tmp_path / "stage", "mark") is None
    keep(tmp_path / "stage", "mark", arrays)
    found = recall(tmp_path / "stage", "mark")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert recall(tmp_path / "stage", "another mark") is None


def test_a_new_result_replaces_the_one_before(tmp_path):
    keep(tmp_path, "first", {"x": np.zeros(2)})
    keep(tmp_path, "second", {"x": np.ones(3)})
    assert recall(tmp_path, "first") is None
    np.testing.assert_array_equal(recall(tmp_path, "second")["x"], np.ones(3))


def test_what_is_written_by_half_is_not_read(tmp_path, monkeypatch):
    def stops(path, **arrays):
        path.write_bytes(b"PK half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr("ecg.stages.np.savez", stops)
    with pytest.raises(KeyboardInterrupt):
        keep(tmp_path / "stage", "mark", {"x": np.ones(3)})
    assert recall(tmp_path / "stage", "mark") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"no archive at all",
        lambda whole: whole.replace(b"mark", b"MARK"),
        lambda whole: whole.replace(np.float64(0.123).tobytes(), np.float64(0.124).tobytes()),
    ],
)
def test_what_is_damaged_counts_as_not_there(tmp_path, damage):
    keep(tmp_path, "mark", {"x": np.full(99, 0.123)})
    path = tmp_path / "result.npz"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole and recall(tmp_path, "mark") is None


def test_the_same_parts_have_the_same_fingerprint():
    assert fingerprint(*parts()) == fingerprint(*parts())


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "b"},
        {"number": 2},
        {"settings": Sizes(width=5)},
        {"settings": Sizes(kernels=(5,))},
        {"array": np.arange(6, dtype=np.float64)},
        {"array": np.arange(6, dtype=np.float32).reshape(2, 3)},
        {"array": np.arange(7, dtype=np.float32)},
    ],
)
def test_any_other_part_gives_another_fingerprint(changes):
    assert fingerprint(*parts(**changes)) != fingerprint(*parts())


def test_an_array_counts_by_its_values_not_by_its_place_in_memory():
    array = np.arange(6).reshape(2, 3)
    assert fingerprint(array.T) == fingerprint(array.T.copy()) != fingerprint(array)
