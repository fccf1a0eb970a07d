from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ecg.commands import calibration
from ecg.commands.calibration import Networks, Pace, between, calibrated, pace, report_seconds, steady, tried
from ecg.commands.sample import read_sample
from ecg.commands.train import Settings
from ecg.data.batches import DEFAULT_VIEW, Batch, View, Window, plan_prediction, plan_training
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.wave_peaks import WavePeaks
from ecg.models.resnets import LiSettings
from ecg.runtime.processes import MemoryMonitor
from ecg.systems.plan import GATE
from ecg.systems.recipes import LI2021, Gate

TINY = LiSettings(stages=(1,), width=4, first_kernel=3, kernel=3, squeeze_ratio=None, peaks=True, peak_units=4)


def no_peaks(store):
    return WavePeaks(np.zeros(len(store) + 1, int), np.empty(0, np.int32), np.empty(0, np.int8))


def test_a_pace_goes_through_what_was_timed_and_tells_batches_from_samples():
    found = pace(40_000, 10_000, large=4.5, small=1.5, first=3.5)
    assert found == pytest.approx(Pace(0.5, 1e-4, 2.0))
    plan = [Batch(np.arange(16), np.zeros(16), 2500), Batch(np.arange(4), np.zeros(4), 2500)] * 2
    assert found.recording(plan) == pytest.approx(2 * (4.5 + 1.5))
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


def test_what_lies_between_two_numbers_of_leads_lies_evenly_between():
    few = Networks(0.0, 4.0, Pace(1.0, 2.0, 0.0), Pace(0.0, 1.0, 2.0), 3.0, 700.0, 0.0)
    many = Networks(8.0, 8.0, Pace(1.0, 6.0, 4.0), Pace(2.0, 1.0, 2.0), 7.0, 900.0, 60.0)
    assert between(few, many, 0.0) == few and between(few, many, 1.0) == many
    half = Networks(4.0, 6.0, Pace(1.0, 4.0, 2.0), Pace(1.0, 1.0, 2.0), 5.0, 800.0, 30.0)
    assert between(few, many, 0.5) == half


def test_what_is_tried_is_what_a_training_has(store):
    view, leads = View(window=Window(496)), LI2021.leads_of(12)
    settings = replace(LI2021, gate=Gate(network=TINY))
    stage = tried(store, no_peaks(store), settings, view, leads)
    assert (stage.leads, stage.view, stage.network, stage.learning) == (leads, view, LI2021.network, LI2021.training)
    assert (
        stage.targets.shape == (len(store), 26) and stage.loss_weights == (1.0, 0.1) and len(stage.configurations) == 3
    )
    gate = tried(store, None, settings, view, leads, GATE)
    assert gate.network == TINY and gate.peaks is None
    np.testing.assert_array_equal(gate.targets[:, 0], store.sources == "CPSC")


@pytest.mark.parametrize(
    ("compiling", "view", "peaks", "started"),
    [(0.0, DEFAULT_VIEW, False, False), (4.0, DEFAULT_VIEW, False, False), (4.0, View(window=Window(4992)), True, False),
     (0.0, View(window=Window(1000)), False, True)],
)  # fmt: skip
def test_what_networks_take_is_found_again(store, monkeypatch, compiling, view, peaks, started):
    """On a clock that goes on by what is done: a network takes 6 s, the first one 9 s more, a new shape `compiling`.

    What answers within one that finds peaks takes 2 s more.
    """
    now, networks, memory = [0.0], [], iter([900.0, 1000.0, 1100.0])
    pace_of = {"training": Pace(0.5, 1e-4, compiling), "answering": Pace(0.25, 1e-5, compiling / 2)}

    def take(kind, network, plan):
        assert view.window.length is None or {batch.length for batch in plan} == {view.window.length}
        new = {(len(batch.records), batch.length) for batch in plan} - network.seen[kind]
        network.seen[kind] |= new
        now[0] += pace_of[kind].of(plan) + pace_of[kind].shape * len(new)

    def fresh(seconds):
        now[0] += seconds
        return SimpleNamespace(inputs=["signal"], seen={"training": set(), "answering": set()})

    def built(stage, precision):
        assert precision == "float32"
        networks.append(fresh(6.0 if networks else 15.0))
        return networks[-1]

    def train_epoch(network, taught, sized, *_):
        count = len(taught.records)
        assert sized.passes_for(count) == 1 and (taught.peaks is not None) == peaks
        size = sized.batch_for(count)
        take("training", network, plan_training(taught.lengths, size, np.random.default_rng(1), taught.window))

    def predict(network, asked, title, size):
        take("answering", network, plan_prediction(asked.lengths, size, asked.window))

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for part in (built, train_epoch, predict):
        monkeypatch.setattr(calibration, part.__name__, part)
    monkeypatch.setattr(calibration, "compile_network", lambda *_: None)
    monkeypatch.setattr(calibration, "stage_loss", lambda *_: None)
    monkeypatch.setattr(calibration, "distributed_loss", lambda *_: None)
    monkeypatch.setattr(calibration, "prediction_part", lambda *_: fresh(2.0))
    settings = Settings(network=replace(TINY, peaks=peaks), views=(view,), peaks=0.1 if peaks else None)
    stage = tried(store, no_peaks(store) if peaks else None, settings, view, LEADS)
    taken = calibrated(stage, store, 16, 0, SimpleNamespace(taken=lambda: next(memory)), started)
    expected = Networks(0.0, 15.0, None, None, 45.0, 1000.0, 0.0)
    if not started:
        expected = Networks(9.0, 8.0 if peaks else 6.0, None, None, 18.0, 1100.0, 100.0)
    assert taken._replace(training=None, answering=None) == pytest.approx(expected)
    assert taken.training == pytest.approx(pace_of["training"])
    assert taken.answering == pytest.approx(pace_of["answering"])
    assert len(networks) == (1 if started else 2)


def test_a_report_is_timed_on_a_sample(synthetic_recordings, tmp_path, monkeypatch):
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
    sample = read_sample(synthetic_recordings, sorted(synthetic_recordings.glob("*.hea")), tmp_path, settings)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    assert report_seconds(sample, settings) == (5.0, 3.0)
    assert len(list(tmp_path.glob("*.png"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("finding", [False, True])
def test_a_network_is_trained_and_asked_for_a_while(store, small, monkeypatch, finding):
    monkeypatch.setattr(calibration, "WARM_SECONDS", 0.01)
    monkeypatch.setattr(calibration, "TIMED_SECONDS", 0.01)
    settings = replace(LI2021, network=TINY) if finding else Settings(network=small)
    view = View(window=Window(496)) if finding else DEFAULT_VIEW
    stage = tried(store, no_peaks(store) if finding else None, settings, view, LEAD_SETS[2])
    with MemoryMonitor() as peak:
        taken = calibrated(stage, store, 16, 0, peak)
    assert taken.ready > 0 and taken.training.sample > 0 and taken.answering.sample > 0 and taken.saving > 0
    assert taken.memory > 100 and 0 <= taken.left < 1000
