from dataclasses import replace

import numpy as np
import pytest

from ecg import calibration
from ecg.batches import Batch
from ecg.calibration import Pace, calibrated, pace, read_sample, report_seconds, steady
from ecg.headers import RecordError
from ecg.memory import Peak
from ecg.pipeline import Settings
from ecg.synthetic import synthesize


def test_a_pace_goes_through_what_was_timed_and_tells_batches_from_samples():
    found = pace(40_000, 10_000, large=4.5, small=1.5, first=3.5)
    assert found == pytest.approx(Pace(0.5, 1e-4, 2.0))
    plan = [Batch(np.arange(16), np.zeros(16), 2500), Batch(np.arange(4), np.zeros(4), 2500)] * 2
    assert found.of(plan) == pytest.approx(2 * (4.5 + 1.5))
    assert found.of_shapes(plan) == pytest.approx(2 * 2.0)


@pytest.mark.parametrize(("fewer", "small"), [(10_000, 0.1), (10_000, 4.6), (40_000, 4.5)])
def test_where_a_smaller_batch_tells_nothing_samples_take_all(fewer, small):
    assert pace(40_000, fewer, large=4.0, small=small, first=0.0) == pytest.approx(Pace(0.0, 1e-4, 0.0))


def test_the_first_steps_do_not_count(monkeypatch):
    now, runs = [0.0], []

    def run(count):
        for _ in range(count):
            runs.append(count)
            now[0] += 1.5 if len(runs) == 1 else 0.5 if len(runs) < 4 else 0.25

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    assert steady(run) == (1.5, 0.25)
    assert runs == [1] + [2] * 2 + [6] * 6  # 3 s of 1.5 s, then 3 s of 0.5 s


def test_a_sample_is_stored_as_a_training_does_it(made_up, store, tmp_path):
    sample, starting, reading = read_sample(made_up, sorted(made_up.glob("*.hea")), tmp_path, Settings(jobs=1))
    assert starting >= 0 and 0 < reading < 1
    assert len(set(sample.names)) == len(sample) > 35
    places = {name: place for place, name in enumerate(store.names)}
    for number, name in enumerate(sample.names):
        np.testing.assert_array_equal(sample.signal(number), store.signal(places[name]))


def test_records_of_one_name_in_two_folders_are_both_read(tmp_path):
    for folder, count in (("a", 2), ("b", 1)):
        synthesize(tmp_path / "data" / folder, count, seed=1, sources={"Georgia": 1.0})
    paths = sorted((tmp_path / "data").rglob("*.hea"))
    sample, *_ = read_sample(tmp_path, paths, tmp_path / "place", Settings(jobs=1))
    assert sorted(sample.names) == ["E00001", "E00001", "E00002"]


def test_a_folder_without_anything_to_train_on_is_told(tmp_path):
    synthesize(tmp_path / "left out", 2, seed=1, sources={"PTB": 1.0})
    paths = sorted(tmp_path.rglob("*.hea"))
    with pytest.raises(RecordError, match="2 recordings, all of sources that are not trained on"):
        read_sample(tmp_path, paths, tmp_path / "place", Settings(jobs=1))
    (tmp_path / "E00001.hea").write_text("E00001 x\n")
    with pytest.raises(RecordError, match="of a sample none can be used: .*E00001.hea line 1"):
        read_sample(tmp_path, [tmp_path / "E00001.hea"], tmp_path / "place", Settings(jobs=1))


def test_a_network_and_a_report_are_timed_on_a_sample(made_up, small, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "WARM_SECONDS", 0.01)
    monkeypatch.setattr(calibration, "TIMED_SECONDS", 0.01)
    monkeypatch.setattr("ecg.training.settle", lambda *_: None)
    trained = []

    def train_epoch(network, taught, sized, *_):
        count = len(taught.records)
        trained.append((count, sized.batch_for(count), sized.passes_for(count)))

    monkeypatch.setattr(calibration, "train_epoch", train_epoch)
    settings = Settings(network=replace(small, kernels=()), jobs=1)
    sample, *_ = read_sample(made_up, sorted(made_up.glob("*.hea")), tmp_path, settings)
    with Peak() as peak:
        taken = calibrated(sample, 16, settings, peak)
    assert taken.ready > 0 and taken.training.sample > 0 and taken.answering.sample > 0
    assert taken.memory > 100 and 0 <= taken.left < 1000
    assert {batch for _, batch, _ in trained} == {16, 4} and {passes for *_, passes in trained} == {1}
    assert all(records % batch == 0 for records, batch, _ in trained)
    charts, page = report_seconds(sample, tmp_path, settings)
    assert charts > 0 and page > 0
    assert len(list(tmp_path.glob("*.png"))) == 2
