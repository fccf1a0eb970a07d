from dataclasses import dataclass

import numpy as np
import pytest

from ecg.runtime.cache import ResultCache, fingerprint, manifest_differences, source_hash, write_manifest


@dataclass(frozen=True)
class Sizes:
    width: int = 4
    kernels: tuple = (5, 3)


def parts(**changes):
    given = {"text": "a", "number": 1, "settings": Sizes(), "array": np.arange(6, dtype=np.float32)}
    return [*{**given, **changes}.values()]


def test_what_is_kept_comes_back_to_the_bit_under_its_mark_alone(tmp_path):
    arrays = {"probabilities": np.random.default_rng(1).random((3, 2)).astype(np.float32), "epochs": np.array("[1.5]")}
    folder = ResultCache(tmp_path / "stage", "digest")
    assert folder.load("result") is None
    folder.save("result", arrays)
    found = folder.load("result")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert ResultCache(tmp_path / "stage", "another mark").load("result") is None
    assert folder.load("progress") is None


def test_a_new_result_replaces_the_one_before(tmp_path):
    first, second = ResultCache(tmp_path, "first"), ResultCache(tmp_path, "second")
    first.save("result", {"x": np.zeros(2)})
    second.save("result", {"x": np.ones(3)})
    assert first.load("result") is None
    np.testing.assert_array_equal(second.load("result")["x"], np.ones(3))


def test_what_is_discarded_is_gone(tmp_path):
    folder = ResultCache(tmp_path, "digest")
    folder.save("progress", {"x": np.ones(3)})
    folder.delete("progress")
    folder.delete("progress")
    assert folder.load("progress") is None


def test_what_is_written_by_half_is_not_read(tmp_path, monkeypatch):
    def stops(path, **arrays):
        path.write_bytes(b"PK half of it")
        raise KeyboardInterrupt

    folder = ResultCache(tmp_path / "stage", "digest")
    monkeypatch.setattr("ecg.runtime.cache.np.savez", stops)
    with pytest.raises(KeyboardInterrupt):
        folder.save("result", {"x": np.ones(3)})
    assert folder.load("result") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"no archive at all",
        lambda whole: whole.replace(b"key", b"KEY"),
        lambda whole: whole.replace(np.float64(0.123).tobytes(), np.float64(0.124).tobytes()),
    ],
)
def test_what_is_damaged_counts_as_not_there(tmp_path, damage):
    folder = ResultCache(tmp_path, "digest")
    folder.save("result", {"x": np.full(99, 0.123)})
    path = tmp_path / "result.npz"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole and folder.load("result") is None


def test_a_claim_stands_until_facts_differ(tmp_path):
    path, facts = tmp_path / "stages" / "training.json", {"seed": 1, "training": {"rate": 0.1, "steps": (5, 6)}}
    assert manifest_differences(path, facts) == {}
    write_manifest(path, facts)
    assert manifest_differences(path, facts) == manifest_differences(path, facts | {"recordings": "abc"}) == {}
    assert manifest_differences(path, facts | {"seed": 2}) == {"seed": (1, 2)}
    other = {"seed": 1, "training": {"rate": 0.2, "steps": (5, 7)}}
    assert manifest_differences(path, other) == {"training.rate": (0.1, 0.2), "training.steps": ([5, 6], [5, 7])}
    for damaged in ("{half of", "[1, 2]", ""):
        path.write_text(damaged)
        assert manifest_differences(path, other) == {}


def test_source_hash_changes_with_the_text_of_the_modules():
    assert (
        source_hash("data", "runtime")
        == source_hash("data", "runtime")
        != source_hash("data")
        != source_hash("runtime")
    )


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
