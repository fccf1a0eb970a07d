import numpy as np
import pytest

from ecg.commands.survey import Survey, survey
from ecg.data.headers import RecordError
from ecg.data.records import find_records
from ecg.data.resampling import Preprocessing
from ecg.data.store import build_store
from ecg.data.synthetic import synthesize


def test_headers_tell_what_the_store_holds(synthetic_recordings, headers, store):
    found = survey(synthetic_recordings, headers, jobs=1)
    np.testing.assert_array_equal(found.sources, store.sources)
    np.testing.assert_array_equal(found.labels, store.labels)
    np.testing.assert_array_equal(found.lengths(250), store.lengths)


def test_lengths_are_those_of_a_store_at_another_sampling_frequency(tmp_path):
    synthesize(tmp_path / "data", 12, seed=2)
    stored = build_store(tmp_path / "data", tmp_path / "store", 1, Preprocessing(257, None, linear=True))
    np.testing.assert_array_equal(survey(tmp_path, find_records(tmp_path / "data"), 1).lengths(257), stored.lengths)
    every = np.arange(1, 144_000)  # in seconds that are not exact
    np.testing.assert_array_equal(Survey(None, None, None, every / 1000).lengths(1000), every)


def test_what_is_left_out_by_its_header_is_left_out_and_a_length_that_is_not_told_is_none(tmp_path):
    texts = {
        "E00001": "E00001 1 500 5000\nE00001.mat 16 1000/mV 16 0 0 0 0 I\n#Dx: 426783006\n",
        "E00002": "E00002 1 500\nE00002.mat 16 1000/mV 16 0 0 0 0 I\n#Dx: 164889003\n",
        "E00003": "E00003 1 500 x\n",
        "E00004": "E00004 1 500 498\nE00004.mat 16 1000/mV 16 0 0 0 0 I\n",
        "E00005": "E00005 1 100 100000\nE00005.mat 16 1000/mV 16 0 0 0 0 I\n",
        "I0001": "I0001 1 257 462600\nI0001.mat 16 1000/mV 16 0 0 0 0 I\n",
        "S0001": "S0001 1 1000 115200\nS0001.mat 16 1000/mV 16 0 0 0 0 I\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.hea").write_text(text)
    paths = sorted(tmp_path.iterdir())
    found = survey(tmp_path, paths, jobs=1)
    assert found.sources.tolist() == ["Georgia"] * 3
    assert found.seconds.tolist() == [10, 0, 144] and found.lengths(250).tolist() == [2500, 0, 36_000]
    assert np.flatnonzero(found.labels.any(axis=1)).tolist() == [0, 1]
    with pytest.raises(RecordError, match="1 of 2 recordings can be used, and training needs two"):
        survey(tmp_path, paths[-3:-1], jobs=1)
