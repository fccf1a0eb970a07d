import numpy as np
import pytest
from helpers import read_millivolts

from ecg.data.headers import RecordError
from ecg.data.inputs import Recording
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
