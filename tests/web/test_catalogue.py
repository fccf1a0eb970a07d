"""The list of recordings, its cache, and the cache of predictions."""

import os
import shutil
import time

import numpy as np
import pytest
from helpers import capture_log
from web.conftest import make_prediction

from ecg.data.labels import CLASS_INDEX
from ecg.data.records import find_records
from ecg.data.reviews import COLUMNS
from ecg.runtime.executors import ONE_PROCESS
from ecg.web import catalogue as catalogue_module
from ecg.web.catalogue import Catalogue, load_catalogue
from ecg.web.predictions import BLOCK, FAILED, PREDICTED, UNKNOWN, PredictionTable, failed_prediction


@pytest.fixture
def data(synthetic_recordings, tmp_path):
    """A copy of the first 20 recordings, in two folders."""
    for number, path in enumerate(find_records(synthetic_recordings)[:20]):
        folder = tmp_path / "data" / ("a" if number % 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        for file in (path, path.with_suffix(".mat")):
            shutil.copy(file, folder)
    return tmp_path / "data"


def contents(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def same(first, second):
    assert (first.keys, first.diagnoses, first.errors) == (second.keys, second.diagnoses, second.errors)
    for name, column in first.columns.items():
        assert np.array_equal(column, second.columns[name], equal_nan=column.dtype.kind == "f"), name


def test_a_second_start_reads_no_header_and_writes_nothing_in_the_data(data, tmp_path, monkeypatch):
    before = contents(data)
    first = load_catalogue(data, tmp_path / "cache", executor=ONE_PROCESS)
    monkeypatch.setattr(catalogue_module, "read_row", None)
    same(first, load_catalogue(data, tmp_path / "cache", executor=ONE_PROCESS))
    assert contents(data) == before


def test_only_changed_and_new_headers_are_read_again(data, tmp_path, monkeypatch):
    first, read, read_row = (
        load_catalogue(data, tmp_path / "cache", executor=ONE_PROCESS),
        [],
        catalogue_module.read_row,
    )
    path = first.path(3)
    path.write_text(path.read_text().replace("#Dx:", "#Dx: 164889003,").replace("#Age: ", "#Age: 1"))
    (data / "a" / "A0000.hea").write_text("nonsense")
    shutil.copy(first.path(2), data / "b" / "Z0000.hea")
    removed = first.path(9)
    removed.unlink()

    def note_and_read(path, classes):
        read.append(path)
        return read_row(path, classes)

    monkeypatch.setattr(catalogue_module, "read_row", note_and_read)
    second = load_catalogue(data, tmp_path / "cache", executor=ONE_PROCESS)
    assert sorted(read) == sorted([path, data / "a" / "A0000.hea", data / "b" / "Z0000.hea"])
    row = second.index[first.keys[3]]
    assert second.diagnoses[row] == list(dict.fromkeys(["AF", *first.diagnoses[3]]))
    assert second.columns["labels"][row, CLASS_INDEX["AF"]] and second.errors[second.index["a/A0000"]]
    assert len(second) == 21 and first.keys[9] not in second.index
    same(second, load_catalogue(data, tmp_path / "other", executor=ONE_PROCESS))
    read.clear()
    same(second, load_catalogue(data, tmp_path / "cache", executor=ONE_PROCESS))
    assert not read


def test_unreadable_headers_are_listed_with_the_reason(data, tmp_path):
    (data / "a" / "X1.hea").write_text("nonsense")
    (data / "a" / "X2.hea").write_bytes(b"")
    loaded = load_catalogue(data, tmp_path / "cache", executor=ONE_PROCESS)
    same(loaded, load_catalogue(data, tmp_path / "cache", executor=ONE_PROCESS))
    assert len(loaded) == 22
    for name in ("a/X1", "a/X2"):
        row = loaded.index[name]
        assert "line" in loaded.errors[row] and loaded.columns["n_leads"][row] == 0
    assert sum(map(bool, loaded.errors)) == 2


def test_a_name_that_is_not_utf8_can_be_asked_for(data, tmp_path):
    source = find_records(data)[0]
    name = os.fsencode(data / "a") + b"/E\xff1"
    shutil.copy(source, name + b".hea")
    shutil.copy(source.with_suffix(".mat"), name + b".mat")
    loaded = load_catalogue(data, tmp_path / "cache", executor=ONE_PROCESS)
    row = loaded.index["a/E\\xff1"]
    assert os.fsencode(loaded.path(row)) == name + b".hea"
    same(loaded, load_catalogue(data, tmp_path / "cache", executor=ONE_PROCESS))


class TestPredictions:
    @pytest.fixture
    def load(self, catalogue, tmp_path):
        def load(key="key", recordings=catalogue):
            return PredictionTable(recordings, tmp_path / "predictions", key, np.empty(0, int))

        return load

    def test_predictions_are_resumed_at_the_next_start(self, load):
        table = load()
        for row in range(0, 60, 3):
            table.store(row, make_prediction(NSR=row / 60))
        table.store(1, failed_prediction("no sample\nwas recorded", 26))
        table.fail(2, "no memory")
        assert table.counts()["failed"] == 2 and table.reasons[2] == "no memory"
        table.save()
        again = load()
        assert again.counts() == {"recordings": 60, "predicted": 20, "failed": 1}
        assert again.state[2] == UNKNOWN, "it is tried again"
        table.state[2] = UNKNOWN
        for name in ("state", "probabilities", "outputs", "covered", "lead_set", "suspicion", "suspected"):
            assert np.array_equal(getattr(again, name), getattr(table, name), equal_nan=name == "suspicion"), name
        assert again.reasons == {1: "no sample was recorded"}

    def test_full_blocks_are_saved_and_merged_at_the_start(self, load, tmp_path):
        files = lambda: list((tmp_path / "predictions").glob("*.npz"))  # noqa: E731
        table = load()
        for number in range(2 * BLOCK + 5):
            table.store(number % 60, make_prediction(NSR=0.9))
        assert len(files()) == 2, "five are not saved yet"
        assert load().counts()["predicted"] == 60
        assert len(files()) == 1

    def test_a_full_disk_stops_no_prediction(self, load, monkeypatch):
        table, lines = load(), capture_log()

        def fail(*arguments):
            raise OSError(28, "No space left on device", "predictions")

        monkeypatch.setattr("ecg.runtime.cache.atomic_path", fail)
        for number in range(3 * BLOCK):
            table.store(number % 60, make_prediction(NSR=0.9))
        assert lines == ["predictions cannot be kept for the next start: predictions: No space left on device"]
        monkeypatch.undo()
        table.save()
        assert load().counts()["predicted"] == 60

    def test_another_model_or_a_damaged_file_gives_nothing(self, load, tmp_path):
        table = load()
        table.store(0, make_prediction())
        table.save()
        assert load("other").counts()["predicted"] == 0
        [file] = (tmp_path / "predictions").glob("*.npz")
        file.write_bytes(file.read_bytes()[:-30])
        assert load().counts()["predicted"] == 0

    def test_only_changed_recordings_are_predicted_again(self, data, load, tmp_path):
        first = load_catalogue(data, tmp_path / "cache", executor=ONE_PROCESS)
        table = load(recordings=first)
        for row in range(20):
            table.store(row, make_prediction(NSR=row / 20))
        table.save()
        path = first.path(7).with_suffix(".mat")
        os.utime(path, ns=(1, 1))
        shutil.copy(first.path(2), data / "a" / "A0000.hea")
        second = load_catalogue(data, tmp_path / "cache", executor=ONE_PROCESS)
        again = load(recordings=second)
        for name, row in first.index.items():
            state, probability = again.state[second.index[name]], again.probabilities[second.index[name]]
            assert (state == PREDICTED) == (row != 7)
            assert row == 7 or np.array_equal(probability, table.probabilities[row])
        assert again.state[second.index["a/A0000"]] == 0

    def test_labels_are_suspected_as_the_review_suspects_them(self, load, catalogue):
        table = load()
        georgia = next(row for row, source in enumerate(catalogue.sources)
                       if source == "Georgia" and catalogue.diagnoses[row] == ["NSR"])  # fmt: skip
        cpsc = next(row for row, source in enumerate(catalogue.sources) if source == "CPSC")
        sinus, axis, brady = CLASS_INDEX["NSR"], CLASS_INDEX["LAD"], CLASS_INDEX["Brady"]
        table.store(georgia, make_prediction(NSR=0.05, LAD=0.95, AF=0.85, Brady=0.99))
        assert np.flatnonzero(table.suspected[georgia]).tolist() == sorted([sinus, axis])
        assert table.suspicion[georgia] == pytest.approx(0.95) and not table.suspected[georgia, brady]
        table.store(cpsc, make_prediction(LAD=0.99))
        assert not table.suspected[cpsc, axis], "CPSC does not label it"
        table.store(cpsc, failed_prediction("flat", 26))
        assert np.isnan(table.suspicion[cpsc]) and table.state[cpsc] == FAILED

    def test_exclusive_classes_are_compared_with_single_labels_only(self, catalogue, tmp_path):
        exclusive = np.array([CLASS_INDEX["NSR"], CLASS_INDEX["AF"]])
        table = PredictionTable(catalogue, tmp_path / "predictions", "key", exclusive)
        for row in range(60):
            table.store(row, make_prediction(NSR=0.95, AF=0.95))
        labels = catalogue.columns["labels"][:, exclusive]
        assert table.suspected[labels.sum(axis=1) == 1].any()
        assert not table.suspected[labels.sum(axis=1) != 1].any()


def make_large_catalogue(count=100_000):
    """A catalogue without files."""
    random = np.random.default_rng(0)
    labels = random.random((count, 26)) < 0.06
    columns = {
        "age": random.integers(1, 100, count).astype(float), "sex": random.choice(["Female", "Male", "Unknown"], count),
        "seconds": random.choice([10.0, 15, np.nan], count), "n_leads": np.full(count, 12), "labels": labels,
        "additional": np.zeros((count, 2), bool), "diagnosed": np.ones(count, bool),
    }  # fmt: skip
    names = list(CLASS_INDEX)
    diagnoses = [[names[column] for column in np.flatnonzero(row)] for row in labels]
    files = [f"g{number // 1000}/{'EAQ'[number % 3]}{number:06}.hea" for number in range(count)]
    return Catalogue(
        catalogue_module.Path("/nowhere"), files, columns, diagnoses, [""] * count, np.zeros(count, np.uint64)
    )


@pytest.fixture
def large_bench(make_bench, tmp_path):
    """A workbench of 100,000 predicted recordings, of which Ann has reviewed 20,000."""
    recordings, random = make_large_catalogue(), np.random.default_rng(1)
    rows = random.permutation(len(recordings))[:20_000]
    lines = [",".join(COLUMNS), *(f"{recordings.names[row]},AF,absent,,2026-01-01T00:00:00Z,1,no" for row in rows)]
    (tmp_path / "reviews").mkdir()
    (tmp_path / "reviews" / "Ann.csv").write_text("\n".join([*lines, ""]))
    bench = make_bench(recordings, reviewer="Ann")
    table = bench.predictions
    table.state[:] = PREDICTED
    table.probabilities[:] = random.random(table.probabilities.shape)
    table.outputs[:], table.covered[:] = table.probabilities > 0.5, True
    table._suspect(np.arange(len(table.state)))
    return bench


@pytest.mark.slow
def test_pages_of_a_hundred_thousand_recordings_take_no_time(large_bench, make_client):
    client = make_client(large_bench)
    queries = [{}, {"search": "e0 geor"}, {"label": "AF", "predicted": "NSR", "suspected": 1},
               {"source": "Georgia", "sort": "age"}, {"sort": "name"}, {"unreviewed": 1}]  # fmt: skip
    times = []
    for query in [{}, *queries * 3]:  # the first one reads the reviews
        start = time.perf_counter()
        answer = client.get("/api/recordings", params=query | {"limit": 200, "offset": 400})
        times.append(time.perf_counter() - start)
        assert answer.status_code == 200 and len(answer.json()["items"]) == 200, query
    assert answer.json()["total"] == 80_000
    print(f"first page {1000 * times[0]:.0f} ms, others {1000 * np.median(times[1:]):.0f} ms")
    assert times[0] < 10 and np.median(times[1:]) < 0.3


@pytest.mark.slow
def test_a_hundred_thousand_recordings_are_listed_from_the_cache_in_seconds(data, tmp_path, monkeypatch):
    row = catalogue_module.read_row(find_records(data)[0])
    for number in range(100):
        folder = tmp_path / "large" / f"g{number}"
        folder.mkdir(parents=True)
        for index in range(1000):
            (folder / f"E{number:02}{index:03}.hea").touch()
    monkeypatch.setattr(catalogue_module, "read_row", lambda path, classes: row)
    first = load_catalogue(tmp_path / "large", tmp_path / "cache", executor=ONE_PROCESS)
    (folder / "E99999.hea").write_text("changed")
    monkeypatch.setattr(catalogue_module, "read_row", lambda path, classes: row._replace(age=7.0))
    times = []
    for _ in range(2):
        start = time.perf_counter()
        second = load_catalogue(tmp_path / "large", tmp_path / "cache", executor=ONE_PROCESS)
        times.append(time.perf_counter() - start)
    print(f"100,000 headers: with one changed {times[0]:.1f} s, from the cache {times[1]:.1f} s")
    assert (second.columns["age"] == 7).sum() == 1 and first.diagnoses == second.diagnoses
    assert max(times) < 60
