from types import SimpleNamespace

import numpy as np
import pytest

from ecg import calibration
from ecg.batches import Batch, plan_training, plan_whole
from ecg.calibration import Networks, Pace, calibrated, pace, read_sample, report_seconds, steady
from ecg.headers import RecordError
from ecg.memory import Peak
from ecg.networks import NetworkSettings
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


@pytest.mark.parametrize("compiling", [0.0, 4.0])
def test_what_networks_take_is_found_again(store, monkeypatch, compiling):
    """On a clock that goes on by what is done: a network takes 6 s, the first one 9 s more, a new shape `compiling`."""
    now, built, memory = [0.0], [], iter([900.0, 1000.0, 1100.0])
    pace_of = {"training": Pace(0.5, 1e-4, compiling), "answering": Pace(0.25, 1e-5, compiling / 2)}

    def take(kind, plan):
        seen = built[-1][kind]
        new = {(len(batch.records), batch.length) for batch in plan} - seen
        seen |= new
        now[0] += pace_of[kind].of(plan) + pace_of[kind].shape * len(new)

    def build(*_):
        now[0] += 6.0 + (0.0 if built else 9.0)
        built.append({"training": set(), "answering": set()})

    def train_epoch(network, taught, sized, *_):
        count = len(taught.records)
        assert sized.passes_for(count) == 1
        plan = plan_training(store.lengths[taught.records], sized.batch_for(count), np.random.default_rng(1))
        take("training", plan)

    def predict(network, sample, records, columns, title, size):
        take("answering", plan_whole(store.lengths[records], size))

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(NetworkSettings, "build", build)
    for part in (train_epoch, predict):
        monkeypatch.setattr(calibration, part.__name__, part)
    monkeypatch.setattr(calibration, "make_ready", lambda *_: None)
    taken = calibrated(store, 16, Settings(), SimpleNamespace(taken=lambda: next(memory)))
    assert taken._replace(training=None, answering=None) == pytest.approx(Networks(9.0, 6.0, None, None, 1100.0, 100.0))
    assert taken.training == pytest.approx(pace_of["training"])
    assert taken.answering == pytest.approx(pace_of["answering"])
    assert len(built) == 2


def test_a_report_is_timed_on_a_sample(made_up, tmp_path, monkeypatch):
    now = [0.0]

    def taking(function, seconds):
        def timed(*arguments):
            function(*arguments)
            now[0] += seconds(*arguments)

        return timed

    report = taking(calibration.write_report, lambda *_: 5.0)
    drawing = taking(calibration.draw_disagreements, lambda folder, chosen, _: 3.0 * len(chosen))
    monkeypatch.setattr(calibration, "write_report", report)
    monkeypatch.setattr(calibration, "draw_disagreements", drawing)
    settings = Settings(jobs=1)
    sample, *_ = read_sample(made_up, sorted(made_up.glob("*.hea")), tmp_path, settings)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    assert report_seconds(sample, tmp_path, settings) == (5.0, 3.0)
    assert len(list(tmp_path.glob("*.png"))) == 2


@pytest.mark.slow
def test_a_network_is_trained_and_asked_for_a_while(store, small, monkeypatch):
    monkeypatch.setattr(calibration, "WARM_SECONDS", 0.01)
    monkeypatch.setattr(calibration, "TIMED_SECONDS", 0.01)
    with Peak() as peak:
        taken = calibrated(store, 16, Settings(network=small), peak)
    assert taken.ready > 0 and taken.training.sample > 0 and taken.answering.sample > 0
    assert taken.memory > 100 and 0 <= taken.left < 1000
