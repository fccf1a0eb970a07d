import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers import read_millivolts

from ecg.data.headers import RecordError
from ecg.data.inputs import Recording
from ecg.data.labels import LETTERS, make_own_classes
from ecg.data.leads import LEAD_SETS, LEADS, lead_indices
from ecg.data.memory_stores import LabelledRecording, build_labelled_stores
from ecg.data.resampling import DEFAULT_PREPROCESSING, Preprocessing

UNFILTERED = Preprocessing(500, None)


def label_recordings(recordings):
    """Recordings with labels that differ from each other and from those of any header."""
    labels = np.random.default_rng(3).random((len(recordings), 26)) < 0.5
    return [LabelledRecording(*item) for item in zip(range(len(recordings)), recordings, labels, strict=True)]


def test_a_store_of_records_has_the_signals_of_the_records_and_the_given_labels(headers, store, tmp_path):
    chosen = headers[::7]
    labelled = label_recordings([*chosen[:-1], str(chosen[-1].with_suffix(""))])
    stores = build_labelled_stores(tmp_path, labelled, LEADS, [DEFAULT_PREPROCESSING, UNFILTERED])
    assert list(stores) == [DEFAULT_PREPROCESSING, UNFILTERED]
    labelled_store, rows = stores[DEFAULT_PREPROCESSING], [store.names.tolist().index(path.stem) for path in chosen]
    for index, row in enumerate(rows):
        np.testing.assert_array_equal(labelled_store.signal(index), store.signal(row))
    np.testing.assert_array_equal(labelled_store.demographics, store.demographics[rows])
    assert labelled_store.sources.tolist() == store.sources[rows].tolist() and len(set(labelled_store.names)) == len(
        rows
    )
    expected = np.array([item.labels for item in labelled])
    for fields in stores.values():
        np.testing.assert_array_equal(fields.labels, expected)
        np.testing.assert_array_equal(fields.as_scored, expected)
        assert not fields.additional.any() and fields.preparation in stores


def test_recordings_in_memory_have_no_source_and_the_other_leads_are_zero(headers, store, tmp_path):
    leads, row = LEAD_SETS[3], store.names.tolist().index(headers[4].stem)
    labelled = label_recordings([read_millivolts(headers[4], leads)] * 2)
    labelled_store = build_labelled_stores(tmp_path, labelled, leads, [DEFAULT_PREPROCESSING])[DEFAULT_PREPROCESSING]
    assert labelled_store.sources.tolist() == ["recording"] * 2
    signal, columns = labelled_store.signal(1), list(lead_indices(leads))
    np.testing.assert_allclose(signal[:, columns], store.signal(row)[:, columns], atol=1.01e-3)
    assert not np.delete(signal, columns, axis=1).any()


def test_an_unusable_recording_is_an_error_that_names_it(headers, tmp_path):
    flat = Recording(np.zeros((5000, 2)), 2, 500)
    labelled = label_recordings([headers[0], flat, headers[1]])
    with pytest.raises(RecordError, match=r"^recordings\[1\]: every lead is flat"):
        build_labelled_stores(tmp_path / "first", labelled, LEAD_SETS[2], [DEFAULT_PREPROCESSING])
    labelled = label_recordings([headers[0], flat, "nowhere"])
    with pytest.raises(RecordError, match=r"^2 of 3 recordings cannot be used, such as recordings\[1\]: every lead"):
        build_labelled_stores(tmp_path / "second", labelled, LEAD_SETS[2], [DEFAULT_PREPROCESSING])
    with pytest.raises(ValueError, match="'V7' unknown"):
        labelled = label_recordings([headers[0], Recording(np.zeros((5000, 2)), ("I", "V7"), 500)])
        build_labelled_stores(tmp_path / "third", labelled, LEAD_SETS[2], [DEFAULT_PREPROCESSING])


@pytest.fixture
def preprocessed(monkeypatch):
    """The titles of the recordings that are preprocessed from now on."""
    import ecg.data.memory_stores as module

    titles, prepare = [], module.prepare_recording

    def record(path, *arguments):
        titles.append(int(path.parent.name))
        return prepare(path, *arguments)

    monkeypatch.setattr(module, "prepare_recording", record)
    return titles


def test_only_what_has_changed_is_preprocessed_again(headers, preprocessed, tmp_path):
    data, folder, leads = tmp_path / "data", tmp_path / "stores", LEAD_SETS[2]
    data.mkdir()
    for path in headers[:2]:
        for file in (path, path.with_suffix(".mat")):
            shutil.copy(file, data)
    recordings = [
        data / headers[0].name,
        str(data / headers[1].stem),
        *(read_millivolts(path, leads) for path in headers[2:4]),
    ]

    def build(recordings, leads=leads, turn=()):
        preprocessed.clear()
        labelled = label_recordings(recordings)
        for index in turn:
            labelled[index] = labelled[index]._replace(labels=~labelled[index].labels)
        store = build_labelled_stores(folder, labelled, leads, [DEFAULT_PREPROCESSING])[DEFAULT_PREPROCESSING]
        np.testing.assert_array_equal(store.labels, [item.labels for item in labelled])
        return store, preprocessed.copy()

    store, titles = build(recordings)
    assert titles == [0, 1, 2, 3]
    again, titles = build([*recordings[:2], *(replace(item, signal=item.signal.copy()) for item in recordings[2:])])
    assert titles == [] and again.digest == store.digest
    header = data / headers[1].name
    header.write_text(header.read_text() + "# a remark\n")
    again, titles = build(recordings)
    assert titles == [1] and again.digest == store.digest
    halved = replace(recordings[2], signal=recordings[2].signal / 2)
    half = again.signal(2) / 2  # the files of the first store are replaced
    changed, titles = build([*recordings[:2], halved, recordings[3]], turn=[3])
    assert titles == [2, 3] and changed.digest != store.digest
    assert abs(changed.signal(2) - half).max() < 2e-3
    aged = replace(halved, age=80)
    assert build([*recordings[:2], aged, recordings[3]], turn=[3])[1] == [2]
    assert build([*recordings[:2], aged, recordings[3]], leads[:1], turn=[3])[1] == [0, 1, 2, 3]


def test_the_labels_can_be_those_of_your_own_classes(headers, tmp_path):
    classes = make_own_classes(["infarct", "block"])
    labelled = [
        LabelledRecording(number, path, np.eye(2, dtype=bool)[number]) for number, path in enumerate(headers[:2])
    ]
    store = build_labelled_stores(tmp_path, labelled, LEADS, [DEFAULT_PREPROCESSING], classes, LETTERS)[
        DEFAULT_PREPROCESSING
    ]
    assert store.classes == classes and store.labels.tolist() == np.eye(2, dtype=bool).tolist()
    assert store.additional.shape == (2, 0) and store.sources.tolist() == [
        LETTERS.find(path.stem) for path in headers[:2]
    ]
