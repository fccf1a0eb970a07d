import os
import threading
from dataclasses import dataclass

import numpy as np
import pytest

from ecg.runtime import cache
from ecg.runtime.cache import (
    ResultCache,
    find_last_change,
    fingerprint,
    manifest_differences,
    source_hash,
    write_manifest,
)


@dataclass(frozen=True)
class Sizes:
    width: int = 4
    kernels: tuple = (5, 3)


def sample_parts(**changes):
    values = {"text": "a", "number": 1, "settings": Sizes(), "array": np.arange(6, dtype=np.float32)}
    return [*{**values, **changes}.values()]


def test_a_result_is_loaded_bit_by_bit_under_its_key_only(tmp_path):
    arrays = {"probabilities": np.random.default_rng(1).random((3, 2)).astype(np.float32), "epochs": np.array("[1.5]")}
    cache = ResultCache(tmp_path / "stage", "digest")
    assert cache.load("result") is None
    cache.save("result", arrays)
    loaded = cache.load("result")
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    assert ResultCache(tmp_path / "stage", "another digest").load("result") is None
    assert cache.load("progress") is None


def test_a_result_that_another_machine_saves_is_waited_for(tmp_path, monkeypatch):
    cache = ResultCache(tmp_path, "key")
    later = threading.Timer(0.3, cache.save, ["result", {"x": np.arange(3)}])
    later.start()
    np.testing.assert_array_equal(cache.wait_for("result")["x"], np.arange(3))
    later.join()
    monkeypatch.setattr("ecg.runtime.cache.VISIBLE_SECONDS", 0.0)
    with pytest.raises(FileNotFoundError, match="other.npz: was written by another machine and does not appear here"):
        cache.wait_for("other")


def test_a_new_result_replaces_the_one_before(tmp_path):
    first, second = ResultCache(tmp_path, "first"), ResultCache(tmp_path, "second")
    first.save("result", {"x": np.zeros(2)})
    second.save("result", {"x": np.ones(3)})
    assert first.load("result") is None
    np.testing.assert_array_equal(second.load("result")["x"], np.ones(3))


def test_a_deleted_result_is_gone(tmp_path):
    cache = ResultCache(tmp_path, "digest")
    cache.save("progress", {"x": np.ones(3)})
    cache.delete("progress")
    cache.delete("progress")
    assert cache.load("progress") is None


def test_a_half_written_result_is_not_loaded(tmp_path, monkeypatch):
    def write_half(path, **arrays):
        path.write_bytes(b"PK half of it")
        raise KeyboardInterrupt

    cache = ResultCache(tmp_path / "stage", "digest")
    monkeypatch.setattr("ecg.runtime.cache.np.savez", write_half)
    with pytest.raises(KeyboardInterrupt):
        cache.save("result", {"x": np.ones(3)})
    assert cache.load("result") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"no archive at all",
        lambda content: content.replace(b"key", b"KEY"),
        lambda content: content.replace(np.float64(0.123).tobytes(), np.float64(0.124).tobytes()),
    ],
)
def test_a_damaged_result_is_not_loaded(tmp_path, damage):
    cache = ResultCache(tmp_path, "digest")
    cache.save("result", {"x": np.full(99, 0.123)})
    path = tmp_path / "result.npz"
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert path.read_bytes() != content and cache.load("result") is None


def test_a_manifest_differs_only_in_changed_facts(tmp_path):
    path, facts = tmp_path / "stages" / "training.json", {"seed": 1, "training": {"rate": 0.1, "steps": (5, 6)}}
    assert manifest_differences(path, facts) == {}
    write_manifest(path, facts)
    assert manifest_differences(path, facts) == manifest_differences(path, facts | {"recordings": "abc"}) == {}
    assert manifest_differences(path, facts | {"seed": 2}) == {"seed": (1, 2)}
    changed = {"seed": 1, "training": {"rate": 0.2, "steps": (5, 7)}}
    assert manifest_differences(path, changed) == {"training.rate": (0.1, 0.2), "training.steps": ([5, 6], [5, 7])}
    for damaged in ("{half of", "[1, 2]", ""):
        path.write_text(damaged)
        assert manifest_differences(path, changed) == {}


def test_source_hash_changes_with_the_text_of_the_modules():
    assert (
        source_hash("data", "runtime")
        == source_hash("data", "runtime")
        != source_hash("data")
        != source_hash("runtime")
    )


def test_source_hash_changes_with_a_table_but_not_with_another_file(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "runtime/cache.py"))
    (tmp_path / "data").mkdir()
    hashes = []
    for name, text in (("table.csv", "1,2"), ("table.csv", "1,3"), ("notes.txt", "1,2")):
        (tmp_path / "data" / name).write_text(text)
        hashes.append(source_hash("data"))
    assert hashes[0] != hashes[1] == hashes[2]


def test_the_same_parts_have_the_same_fingerprint():
    assert fingerprint(*sample_parts()) == fingerprint(*sample_parts())


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
    assert fingerprint(*sample_parts(**changes)) != fingerprint(*sample_parts())


def test_an_array_counts_by_its_values_not_by_its_memory_layout():
    array = np.arange(6).reshape(2, 3)
    assert fingerprint(array.T) == fingerprint(array.T.copy()) != fingerprint(array)


def test_the_last_change_is_that_of_the_newest_file_of_the_named_folders(tmp_path):
    assert find_last_change(tmp_path, ["a_*"]) == 0
    for name, seconds in (("a_1/x", 5), ("a_2/deep/y", 9), ("b_1/z", 20), ("a_1/.part.x", 30)):
        (path := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, ns=(seconds, seconds))
    os.symlink(tmp_path / "nothing", tmp_path / "a_1" / "gone")
    assert find_last_change(tmp_path, ["a_*"]) == 9 and find_last_change(tmp_path, ["a_*", "b_*"]) == 20
