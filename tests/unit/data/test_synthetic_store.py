"""A store of synthetic recordings holds what their files would hold."""

import numpy as np
import pytest

from ecg.data.memory_stores import build_synthetic_store
from ecg.data.resampling import Preprocessing
from ecg.data.store import build_store
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.runtime.executors import ONE_PROCESS, LocalExecutor

KNOWN_LABELS = {"cpsc_omits": False, "ningbo_flutter": False}


def list_shards(folder):
    """Return the times of the files of a store's shards by their names."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("shard_*")}


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("preparation", [Preprocessing(), Preprocessing(500, None)])
def test_it_equals_the_store_of_the_written_files(clean, preparation, tmp_path):
    settings = SyntheticSettings(**KNOWN_LABELS, clean=clean)
    synthesize(tmp_path / "files", 80, 3, settings)
    written = build_store(tmp_path / "files", tmp_path / "written", ONE_PROCESS, preparation)
    store = build_synthetic_store(tmp_path / "store", 80, 3, settings, preparation, ONE_PROCESS)
    index = {name: number for number, name in enumerate(store.names)}
    rows = np.array([index[name] for name in written.names])  # sources that are not trained on have no row there
    assert len(rows) > 60
    for name in ("labels", "as_scored", "additional", "demographics", "lengths", "sources"):
        np.testing.assert_array_equal(getattr(store, name)[rows], getattr(written, name))
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(store.signal(row), written.signal(number))


def test_labels_are_the_truth(tmp_path):
    settings = SyntheticSettings(**KNOWN_LABELS, clean=True)
    truths = {facts.name: facts.classes for facts in synthesize(tmp_path / "files", 60, 5, settings)}
    store = build_synthetic_store(tmp_path / "store", 60, 5, settings, Preprocessing(), ONE_PROCESS)
    for name, labels in zip(store.names, store.labels, strict=True):
        np.testing.assert_array_equal(labels, truths[name])


def test_the_same_store_is_opened_again_and_another_one_replaced(tmp_path):
    settings = SyntheticSettings(**KNOWN_LABELS, clean=True)
    first = build_synthetic_store(tmp_path, 20, 1, settings, Preprocessing(), ONE_PROCESS)
    written = list_shards(tmp_path)
    assert build_synthetic_store(tmp_path, 20, 1, settings, Preprocessing(), ONE_PROCESS).digest == first.digest
    assert list_shards(tmp_path) == written
    different = build_synthetic_store(tmp_path, 20, 2, settings, Preprocessing(), ONE_PROCESS)
    assert different.digest != first.digest and not list_shards(tmp_path).keys() & written.keys()


def test_a_recording_does_not_depend_on_how_many_there_are_nor_on_processes(tmp_path):
    settings = SyntheticSettings(**KNOWN_LABELS)
    few = build_synthetic_store(tmp_path / "few", 10, 1, settings, Preprocessing(), ONE_PROCESS)
    many = build_synthetic_store(tmp_path / "many", 30, 1, settings, Preprocessing(), LocalExecutor(2))
    assert many.names[:10].tolist() == few.names.tolist()
    np.testing.assert_array_equal(many.signal(7), few.signal(7))
