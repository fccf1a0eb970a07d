"""A store in shards: what is read again, what survives a kill, and what does not depend on the shards."""

import mmap
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from helpers import read_samples

from ecg.data import samples, shards
from ecg.data.batches import plan_prediction, plan_training, read_batch
from ecg.data.leads import LEADS
from ecg.data.loading import IndexRow, load_training_recording
from ecg.data.preprocessing import INVALID_VALUE
from ecg.data.records import OTHER_FILE, read_record
from ecg.data.samples import WIDTH, MappedFiles
from ecg.data.shards import MOST, ShardContext, ShardTask, read_shard, shard_size, write_shard
from ecg.data.store import INDEX, build_store, open_store
from ecg.runtime.cache import DAMAGED
from ecg.runtime.executors import ONE_PROCESS, LocalExecutor

ROOT = Path(__file__).parents[3]
SIZE = 8  # recordings of a shard in these tests


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Let small data make many shards."""
    monkeypatch.setattr(shards, "FEWEST", SIZE)


@pytest.fixture
def reads(monkeypatch):
    """The names of the recordings that are read, in this process."""
    names = []
    monkeypatch.setattr(
        "ecg.data.store.load_training_recording",
        lambda path, **arguments: names.append(path.stem) or load_training_recording(path, **arguments),
    )
    return names


@pytest.fixture
def data(headers, tmp_path):
    """A data folder of 40 recordings: one has a fault that is repaired, one no header to read, one no samples."""
    folder = tmp_path / "data"
    folder.mkdir()
    copy_recordings(headers[:40], folder)
    path = sorted(folder.glob("*.hea"))[17]
    recording = read_record(path)[1].copy()
    recording[1, 9] = -32768
    scipy.io.savemat(path.with_suffix(".mat"), {"val": recording}, format="4")
    sorted(folder.glob("*.mat"))[5].unlink()
    sorted(folder.glob("*.hea"))[2].write_text("nonsense")
    return folder


def copy_recordings(headers, folder, prefix=""):
    """Copy recordings into a folder, with a prefix before their names."""
    for path in headers:
        text = path.read_text().replace(path.stem, prefix + path.stem)
        (folder / f"{prefix}{path.name}").write_text(text)
        shutil.copy(path.with_suffix(".mat"), folder / f"{prefix}{path.stem}.mat")


def list_shards(folder):
    """Return the times of the files of shards by their names."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("shard_*")}


def assert_same_store(store, expected):
    """Check everything that training or a report sees of two stores."""
    for name in IndexRow._fields:
        actual = getattr(store, name)
        np.testing.assert_array_equal(actual, getattr(expected, name))
        assert actual.dtype == getattr(expected, name).dtype
    for name in ("excluded", "repaired", "digest", "preparation", "unknown_codes"):
        assert getattr(store, name) == getattr(expected, name)
    np.testing.assert_array_equal(read_samples(store), read_samples(expected))


def change_header(folder):
    path = sorted(folder.glob("*.hea"))[9]
    path.write_text(re.sub("Dx:.*", "Dx: 164934002,251238007", path.read_text()))
    return [path.stem]


def change_samples(folder):
    path = sorted(folder.glob("*.mat"))[11]
    scipy.io.savemat(path, {"val": read_record(path.with_suffix(".hea"))[1][:, :-600]}, format="4")
    header = path.with_suffix(".hea")
    header.write_text(re.sub(r"^(\S+ 12 \S+) \S+", r"\1 0", header.read_text()))  # any number of samples
    return [path.stem]


def touch_file(folder):
    path = sorted(folder.glob("*.mat"))[30]
    os.utime(path, ns=(1, 1))
    return [path.stem]


def remove_some(folder):
    for path in sorted(folder.glob("*.hea"))[::3]:
        path.unlink()
        path.with_suffix(".mat").unlink(missing_ok=True)
    return []


def remove_most(folder):
    for path in sorted(folder.glob("*.hea"))[4:-2]:
        path.unlink()
        path.with_suffix(".mat").unlink(missing_ok=True)
    return []


def add_samples(folder):
    """Give the recording without samples those of another."""
    path = next(path for path in sorted(folder.glob("*.hea")) if not path.with_suffix(".mat").exists())
    source = next(path for path in sorted(folder.glob("*.mat")))
    shutil.copy(source, path.with_suffix(".mat"))
    path.write_text(source.with_suffix(".hea").read_text().replace(source.stem, path.stem))
    return [path.stem]


def append(headers):
    def add(folder):
        copy_recordings(headers[:5], folder, "A")  # before the others
        copy_recordings(headers[5:9], folder, "J")  # among them
        (folder / "nested").mkdir()
        copy_recordings(headers[9:12], folder / "nested", "Z")
        return [
            f"{prefix}{path.stem}" for prefix, part in (("A", headers[:5]), ("J", headers[5:9])) for path in part
        ] + [f"Z{path.stem}" for path in headers[9:12]]

    return add


CHANGES = [change_header, change_samples, touch_file, remove_some, remove_most, add_samples, append]


@pytest.mark.parametrize("change", CHANGES)
def test_only_what_is_new_is_read_and_the_result_is_that_of_a_fresh_build(data, headers, tmp_path, reads, change):
    build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert len(reads) == 40
    reads.clear()
    expected_reads = (change(headers) if change is append else change)(data)
    updated = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert sorted(reads) == sorted(expected_reads)
    fresh = build_store(data, tmp_path / "fresh", executor=ONE_PROCESS)
    assert_same_store(updated, fresh)
    assert_same_store(open_store(tmp_path / "store"), fresh)
    assert updated.excluded and (updated.repaired or change is remove_most)


def test_shards_that_did_not_change_stay(data, headers, tmp_path):
    build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    before = list_shards(tmp_path / "store")
    append(headers)(data)
    build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    after = list_shards(tmp_path / "store")
    assert len(before) == 2 * 5 and {name: after[name] for name in before} == before
    assert len(after) == 2 * 7  # 12 recordings more


def test_many_small_additions_make_few_shards_and_removals_free_the_disk(headers, data, tmp_path, reads):
    folder, target = tmp_path / "growing", tmp_path / "store"
    folder.mkdir()
    for count, path in enumerate(headers[:40], 1):
        copy_recordings([path], folder)
        store = build_store(folder, target, executor=ONE_PROCESS)
        assert len(list_shards(target)) / 2 <= 2 * count / SIZE + 1
    assert len(reads) == 40
    for path in headers[:40][::-2]:
        (folder / path.name).unlink()
        store = build_store(folder, target, executor=ONE_PROCESS)
        used = int(store.lengths.sum()) * WIDTH
        assert sum(path.stat().st_size for path in target.glob("*.int16")) <= 3 * used
    assert len(reads) == 40
    assert_same_store(store, build_store(folder, tmp_path / "fresh", executor=ONE_PROCESS))


def test_the_digest_depends_neither_on_processes_nor_on_the_size_of_shards(data, tmp_path, monkeypatch):
    first = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert_same_store(build_store(data, tmp_path / "two", executor=LocalExecutor(2)), first)
    assert list_shards(tmp_path / "two").keys() == list_shards(tmp_path / "store").keys()
    for size in (1, 7, 40):
        monkeypatch.setattr(shards, "FEWEST", size)
        assert_same_store(build_store(data, tmp_path / str(size), executor=ONE_PROCESS), first)
        assert len(list_shards(tmp_path / str(size))) == 2 * -(-40 // size)


def test_a_shard_has_at_most_512_recordings_and_small_data_have_many_shards(monkeypatch):
    monkeypatch.undo()
    assert [shard_size(count) for count in (1, 853, 5_000, 88_000, 10**7)] == [64, 64, 79, MOST, MOST]


def damage_samples(folder):
    path = sorted(folder.glob("*.int16"))[2]
    os.truncate(path, path.stat().st_size - WIDTH)


def damage_index(folder):
    path = sorted(folder.glob("shard_*.npz"))[2]
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 16
    path.write_bytes(content)


def lose_samples(folder):
    sorted(folder.glob("*.int16"))[2].unlink()


def empty_index(folder):
    os.truncate(sorted(folder.glob("shard_*.npz"))[2], 0)


@pytest.mark.parametrize("damage", [damage_samples, damage_index, lose_samples, empty_index])
@pytest.mark.parametrize("has_index", [True, False])
def test_a_damaged_shard_is_written_again_and_no_other(data, tmp_path, reads, damage, has_index):
    build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    expected, before = build_store(data, tmp_path / "fresh", executor=ONE_PROCESS), list_shards(tmp_path / "store")
    damage(tmp_path / "store")
    if not has_index or damage in (damage_index, empty_index):  # it needs these only without its own index
        (tmp_path / "store" / INDEX).unlink()
    reads.clear()
    assert_same_store(build_store(data, tmp_path / "store", executor=ONE_PROCESS), expected)
    after = list_shards(tmp_path / "store")
    assert len(reads) == SIZE and after.keys() == before.keys()
    assert sum(after[name] != before[name] for name in before) == 2


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: os.truncate(path, 100)])
def test_a_damaged_index_of_all_shards_is_written_again_without_reading(data, tmp_path, reads, damage):
    expected = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    before = list_shards(tmp_path / "store")
    damage(tmp_path / "store" / INDEX)
    reads.clear()
    assert_same_store(build_store(data, tmp_path / "store", executor=ONE_PROCESS), expected)
    assert not reads and list_shards(tmp_path / "store") == before


def test_a_changed_bit_of_an_index_is_found(data, tmp_path):
    build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    path = sorted((tmp_path / "store").glob("shard_*.npz"))[0]
    program = str(np.load(path)["program"])
    context = ShardContext(load_training_recording, data, tmp_path / "store", program)
    content, expected = path.read_bytes(), read_shard(context, path.stem)
    undetected = 0
    for bit in np.random.default_rng(0).choice(8 * len(content), 1500, replace=False):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            shard = read_shard(context, path.stem)
        except DAMAGED:
            continue
        undetected += 1  # in what says nothing, such as the time of a file
        for name, column in expected.fields.items():
            np.testing.assert_array_equal(shard.fields[name], column)
        assert (shard.excluded, shard.repaired, shard.unknown_codes) == (
            expected.excluded, expected.repaired, expected.unknown_codes
        )  # fmt: skip
    assert undetected < 300


def test_a_batch_reads_across_shards(data, tmp_path, monkeypatch):
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    monkeypatch.setattr(shards, "FEWEST", 100)
    of_one_shard = build_store(data, tmp_path / "one", executor=ONE_PROCESS)
    assert len(set(store.microvolts.numbers)) == 5 and len(set(of_one_shard.microvolts.numbers)) == 1
    records = np.arange(len(store))[::-1]
    lengths = store.lengths[records]
    for batch in (*plan_training(lengths, 16, np.random.default_rng(3)), *plan_prediction(lengths, 16)):
        for leads in (range(12), (0, 1, 7)):
            ours = read_batch(store, records, leads, batch)
            np.testing.assert_array_equal(ours, read_batch(of_one_shard, records, leads, batch))
            assert ours.any(axis=(1, 2)).all()
    subset, chosen = store.subset(records[3:30:2]), np.arange(14)
    for batch in plan_prediction(subset.lengths, 16):
        theirs = batch._replace(records=records[3:30:2][batch.records])
        np.testing.assert_array_equal(read_batch(subset, chosen, range(12), batch),
                                      read_batch(of_one_shard, np.arange(len(store)), range(12), theirs))  # fmt: skip


def test_few_files_are_mapped_at_the_same_time(data, tmp_path, monkeypatch):
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    expected = read_samples(store)
    monkeypatch.setattr(samples, "MOST_MAPPED", 2)
    store = open_store(tmp_path / "store")
    for record in np.random.default_rng(0).permutation(len(store)):
        store.advise_read(np.array([record]), np.array([0]), 50)
        store.signal(record)
        store.release()
    np.testing.assert_array_equal(read_samples(store), expected)
    assert sum(str(tmp_path / "store") in line for line in Path("/proc/self/maps").read_text().splitlines()) <= 2


def test_a_store_is_pickled_without_its_samples(data, tmp_path):
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    expected, content = read_samples(store), pickle.dumps(store)
    assert len(content) < 40_000 < expected.nbytes
    np.testing.assert_array_equal(read_samples(pickle.loads(content)), expected)


def test_advise_read_covers_the_samples_and_less_than_a_page_more(data, tmp_path):
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    ranges = []

    class WatchedMap(mmap.mmap):
        def madvise(self, advice, start, size):
            super().madvise(advice, start, size)
            ranges.append((self.number, start, start + size))

    class WatchedFiles(MappedFiles):
        def memory_map(self, number):
            with open(self.path(number), "rb") as file:
                mapped = WatchedMap(file.fileno(), 0, access=mmap.ACCESS_READ)
            mapped.number = number
            return mapped

    files = store.microvolts.files
    watched = replace(store, microvolts=replace(store.microvolts, files=WatchedFiles(files.folder, files.names)))
    records, starts = np.array([4, 0, 9, 37]), np.array([17, 0, 250, 3])
    watched.advise_read(records, starts, 200)
    assert [number for number, *_ in ranges] == store.microvolts.numbers[records].tolist()
    for (_, first, last), row in zip(ranges, store.microvolts.starts[records] + starts, strict=True):
        assert row * WIDTH - mmap.PAGESIZE < first <= row * WIDTH and last == (row + 200) * WIDTH


def resident_kilobytes(folder):
    """Return what this process holds of the files in a folder."""
    maps = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    return sum(int(re.search(r"Rss:\s+(\d+) kB", entry)[1]) for entry in maps if str(folder) in entry)


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="only Linux reports the memory of a mapped file")
def test_released_memory_can_be_read_again(data, tmp_path):
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    first = read_samples(store)
    assert resident_kilobytes(tmp_path) * 1000 > 0.9 * first.nbytes / 2
    store.release()
    assert resident_kilobytes(tmp_path) == 0
    np.testing.assert_array_equal(read_samples(store), first)


KILLED = """
import os, signal, sys
from ecg.data import loading, shards, store
from ecg.runtime.executors import ONE_PROCESS

def load(path, **arguments):
    calls.append(path)
    if len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return loading.load_training_recording(path, **arguments)

calls, shards.FEWEST, store.load_training_recording = [], 8, load
store.build_store(sys.argv[1], sys.argv[2], executor=ONE_PROCESS)
"""


@pytest.mark.parametrize(("calls", "written"), [(20, 2), (3, 0)])
def test_after_a_kill_only_the_shard_that_was_being_written_is_written_again(data, tmp_path, reads, calls, written):
    command = [sys.executable, "-c", KILLED, data, tmp_path / "store", str(calls)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    assert len(list_shards(tmp_path / "store")) == 2 * written and list((tmp_path / "store").glob(".part.*"))
    with pytest.raises(FileNotFoundError):
        open_store(tmp_path / "store")
    before = list_shards(tmp_path / "store")
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert len(reads) == 40 - SIZE * written
    assert before.items() <= list_shards(tmp_path / "store").items()
    assert not list((tmp_path / "store").glob(".part.*"))
    assert_same_store(store, build_store(data, tmp_path / "fresh", executor=ONE_PROCESS))


def test_a_kill_while_recordings_are_added_loses_nothing(data, headers, tmp_path, reads):
    build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    append(headers)(data)
    command = [sys.executable, "-c", KILLED, data, tmp_path / "store", "9"]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    reads.clear()
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert len(reads) == 12 - 6  # two shards of six
    assert_same_store(store, build_store(data, tmp_path / "fresh", executor=ONE_PROCESS))


def test_two_processes_may_write_the_same_shard_at_the_same_time(headers, tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    def load_slowly(path):
        begun.set()
        assert go_on.wait(60)
        return load_training_recording(path)

    paths = [path for path in headers if path.stem.startswith("HR")][:4]
    keys = np.array([[b"a", b"A"], [b"b", b"B"], [b"c", b"C"], [b"d", b"D"]], shards.HASH)
    task = ShardTask(paths, keys, [None] * 4)
    quick = ShardContext(load_training_recording, headers[0].parent, tmp_path, "program")
    results = []
    slow = threading.Thread(target=lambda: results.append(write_shard(quick._replace(load=load_slowly), task)))
    slow.start()
    assert begun.wait(60)
    summary = write_shard(quick, task)
    content = {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.startswith(".part")}
    go_on.set()
    slow.join()
    assert results == [summary] == [(summary.name, 4, 0)]
    shard = read_shard(quick, summary.name)
    assert shard.fields["names"].tolist() == [path.stem for path in paths]
    assert {path.name for path in tmp_path.iterdir()} == content.keys()
    name = f"{summary.name}.int16"
    assert (tmp_path / name).read_bytes() == content[name]


def test_a_file_that_is_not_called_like_its_header_is_watched_too(headers, tmp_path, reads):
    data = tmp_path / "data"
    data.mkdir()
    copy_recordings([path for path in headers if path.stem.startswith("HR")][:5], data)
    first, second, *_ = sorted(data.glob("*.hea"))
    first.write_text(first.read_text().replace(f"{first.stem}.mat", "other.MAT"))
    shutil.copy(first.with_suffix(".mat"), data / "other.mat")
    second.write_text(second.read_text().replace(f"{second.stem}.mat", "renamed.mat"))
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert [(name, repair.kind) for name, repair in store.repaired] == [(second.stem, OTHER_FILE)]
    reads.clear()
    recording = read_record(first)[1].copy()
    recording[1, 9] = -32768
    scipy.io.savemat(data / "other.mat", {"val": recording}, format="4")
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert sorted(reads) == [first.stem, second.stem]  # the second might name this file
    assert (first.stem, INVALID_VALUE) in [(name, repair.kind) for name, repair in store.repaired]
    shutil.copy(data / "other.mat", data / "renamed.mat")
    reads.clear()
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert sorted(reads) == [first.stem, second.stem]
    assert OTHER_FILE not in [repair.kind for _, repair in store.repaired]
    assert_same_store(store, build_store(data, tmp_path / "fresh", executor=ONE_PROCESS))


def test_a_store_of_an_earlier_version_is_replaced(data, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "signals.int16").write_bytes(bytes(240))
    np.savez(tmp_path / "store" / INDEX, names=np.array(["A0001"]), origin="earlier")
    (tmp_path / "store" / "peaks.npz").write_bytes(b"peaks")
    assert len(build_store(data, tmp_path / "store", executor=ONE_PROCESS)) == 38
    assert not (tmp_path / "store" / "signals.int16").exists() and (tmp_path / "store" / "peaks.npz").exists()


BUILT = """
import resource, sys
from ecg.data.store import build_store
from ecg.runtime.executors import LocalExecutor
store = build_store(sys.argv[1], sys.argv[2], executor=LocalExecutor(2))
print(len(store), int(store.lengths.sum()) * 24, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_the_memory_of_the_client_does_not_grow_with_the_signals(tmp_path):
    sizes, peaks = [], []
    for seconds in (2, 140):
        folder = tmp_path / str(seconds)
        folder.mkdir()
        integers = np.random.default_rng(0).integers(-500, 500, (12, 250 * seconds)).astype(np.int16)
        lines = "\n".join(f"X.mat 16+24 1000/mV 16 0 0 0 0 {lead}" for lead in LEADS)
        for index in range(96):
            name = f"E{index:05}"
            header = f"{name} 12 250 {250 * seconds}\n{lines}\n# Dx: 426783006\n".replace("X.mat", f"{name}.mat")
            (folder / f"{name}.hea").write_text(header)
            scipy.io.savemat(folder / f"{name}.mat", {"val": np.roll(integers, index, axis=1)}, format="4")
        command = [sys.executable, "-c", BUILT, folder, tmp_path / f"store of {seconds}"]
        output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        count, size, peak = map(int, output.split())
        assert count == 96
        sizes.append(size)
        peaks.append(peak)
    assert sizes[1] > 75e6 > 20 * sizes[0]
    assert peaks[1] - peaks[0] < 0.1 * sizes[1]
