from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
import pytest

from ecg.commands.sample import Effort, find_peaks, read_sample, timed
from ecg.commands.train import Settings
from ecg.data.headers import RecordError
from ecg.data.records import find_records
from ecg.data.resampling import DEFAULT_PREPROCESSING, Preprocessing
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.data.wave_peaks import WavePeaks
from ecg.systems.recipes import CAI2021


def test_what_starts_and_what_each_recording_takes_are_told_apart(monkeypatch):
    now, seconds = [0.0], {"first": 9.0, "sample": 40.0}

    def work(name):
        now[0] += seconds[name]
        return f"what came of the {name}"

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    found, effort = timed(work, {"first": 8, "sample": 80})
    assert found == "what came of the sample" and effort == Effort(5.0, 0.5) and effort.of(100) == 55.0
    assert timed(work, {"sample": 80})[1] == Effort(0.0, 0.5)


def test_a_sample_is_stored_as_a_training_does_it(synthetic_recordings, store, tmp_path):
    sample = read_sample(synthetic_recordings, sorted(synthetic_recordings.glob("*.hea")), tmp_path, Settings(jobs=1))
    (read,), (effort,) = sample.stores.values(), sample.reading.values()
    assert effort.starting >= 0 and 0 < effort.each < 1
    assert len(set(read.names)) == len(read) == sample.counts["sample"] > 35
    places = {name: place for place, name in enumerate(store.names)}
    for number, name in enumerate(PurePosixPath(path).stem for path in read.paths):
        np.testing.assert_array_equal(read.signal(number), store.signal(places[name]))


def test_records_of_one_name_in_two_folders_are_both_read_whatever_the_case_of_their_extensions(tmp_path):
    for folder, count in (("a", 2), ("b", 1)):
        synthesize(tmp_path / "data" / folder, count, seed=1, settings=SyntheticSettings(sources={"Georgia": 1.0}))
    for ending in (".hea", ".mat"):
        (tmp_path / f"data/b/E00001{ending}").rename(tmp_path / f"data/b/E00001{ending.upper()}")
    paths = find_records(tmp_path / "data")
    sample = read_sample(tmp_path, paths, tmp_path / "place", Settings(jobs=1))
    names = next(iter(sample.stores.values())).names.tolist()
    assert sorted(PurePosixPath(name).name for name in names) == ["E00001", "E00001", "E00002"]


def test_a_folder_without_anything_to_train_on_is_told(tmp_path):
    synthesize(tmp_path / "left out", 2, seed=1, settings=SyntheticSettings(sources={"PTB": 1.0}))
    paths = sorted(tmp_path.rglob("*.hea"))
    with pytest.raises(RecordError, match="2 recordings, all of sources that are not trained on"):
        read_sample(tmp_path, paths, tmp_path / "place", Settings(jobs=1))
    (tmp_path / "E00001.hea").write_text("E00001 x\n")
    with pytest.raises(RecordError, match="of a sample none can be used: .*E00001.hea line 1"):
        read_sample(tmp_path, [tmp_path / "E00001.hea"], tmp_path / "place", Settings(jobs=1))


def test_peaks_are_found_in_the_store_of_each_preparation(tmp_path, monkeypatch):
    synthesize(tmp_path / "data", 8, seed=1, settings=SyntheticSettings(sources={"Georgia": 1.0}))
    other, asked = Preprocessing(100, None), []

    def stored_peaks(store, rate, folder, jobs):
        asked.append((rate, len(store), store.preparation, folder.is_relative_to(tmp_path / "place")))
        return WavePeaks(np.zeros(len(store) + 1, int), np.empty(0, np.int32), np.empty(0, np.int8))

    monkeypatch.setattr("ecg.commands.sample.load_wave_peaks", stored_peaks)
    views = tuple(replace(CAI2021.views[0], preparation=one) for one in (DEFAULT_PREPROCESSING, other))
    settings = Settings(views=views, jobs=1)
    sample = read_sample(tmp_path, find_records(tmp_path / "data"), tmp_path / "place", settings)
    peaks, finding = find_peaks(sample, settings)
    assert asked == [
        (250, 2, DEFAULT_PREPROCESSING, True),
        (250, 6, DEFAULT_PREPROCESSING, True),
        (100, 2, other, True),
        (100, 6, other, True),
    ]
    assert [*peaks] == [*finding] == [*sample.stores] == [DEFAULT_PREPROCESSING, other]
    for one, store in sample.stores.items():
        assert len(peaks[one].starts) == len(store) + 1 == 7 and finding[one].each > 0
