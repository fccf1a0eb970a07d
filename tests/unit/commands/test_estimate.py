from dataclasses import replace

import numpy as np
import pytest
from helpers import capture_log

from ecg.commands import estimate
from ecg.commands.calibration import Networks, Pace
from ecg.commands.estimate import Cost, Network, Taken, assumptions, costs_of, networks_of, table, taken_by
from ecg.commands.sample import Effort, Sample
from ecg.commands.survey import survey
from ecg.commands.train import Settings, train
from ecg.data.batches import View, Window, plan_training
from ecg.data.headers import RecordError
from ecg.data.labels import class_indices
from ecg.data.leads import LEAD_SETS
from ecg.data.resampling import DEFAULT_PREPROCESSING, Preprocessing
from ecg.data.wave_peaks import WavePeaks
from ecg.models.resnets import LiSettings
from ecg.systems.method import train_system
from ecg.systems.recipes import LI2021, SE_RESNET_RHYTHM, SYSTEMS, Gate
from ecg.systems.stage import Outcome
from ecg.training.checkpoint import Budget
from ecg.training.trainer import TrainingSettings

NETWORKS = Networks(7.0, 5.0, Pace(0.5, 0.0, 2.0), Pace(0.0, 1e-4, 0.0), saving=1.5, memory=1e6, left=1e5)
SHORT, LONG = View(window=Window(496)), View(window=Window(752))
TINY = LiSettings(stages=(1,), width=4, first_kernel=3, kernel=3, squeeze_ratio=None, peak_units=4)
# Li's, with small networks, and views at 250 Hz alone, so that one store will do.
LIKE_LI = replace(LI2021, views=(SHORT, LONG), network=replace(TINY, peaks=True), gate=Gate("Georgia", network=TINY),
                  folds=2, lead_sets=(12, 6, 2), jobs=1)  # fmt: skip


@pytest.fixture
def timed(monkeypatch):
    """Fixed times of each part, in place of measured ones."""
    monkeypatch.setattr(estimate, "calibrated", lambda *_: NETWORKS)
    monkeypatch.setattr(estimate, "report_seconds", lambda *_: (3.0, 0.5))
    monkeypatch.setattr(estimate, "seconds_of", lambda run: run())
    monkeypatch.setattr("ecg.systems.method.ValidationScorer.scores_on", lambda *_: lambda probabilities: 0.125)
    # Validation recordings, probabilities and resamples.
    monkeypatch.setattr(
        "ecg.systems.method.ValidationScorer.search",
        lambda self, validation, probabilities, resamples: 0.25 * resamples,
    )


@pytest.fixture
def trained(monkeypatch):
    """What is trained, each as an ecg.systems.stage.Stage, in place of which nothing is done."""
    stages = []

    def fitted(stage, *_):
        stages.append(stage)
        return Outcome([], [], np.full((len(stage.to_predict), stage.targets.shape[1]), 0.5, np.float32), "")

    monkeypatch.setattr("ecg.systems.method.fit_stage", fitted)
    monkeypatch.setattr("ecg.systems.method.predict_peaks", lambda *_: [])
    return stages


def same(networks, stages):
    """Whether networks, in their order, are what was trained."""
    assert [network.title for network in networks] == [stage.title for stage in stages]
    for network, stage in zip(networks, stages, strict=True):
        parts = stage.records[stage.training], stage.records[stage.validation], stage.to_predict
        for ours, theirs in zip(network[1:4], parts, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert network[4:7] == (stage.learning, stage.view, stage.leads)


def test_the_networks_are_those_that_a_training_trains(
    synthetic_recordings, headers, small, tmp_path, monkeypatch, trained
):
    lines = capture_log()
    monkeypatch.setattr("ecg.systems.method.TrainedSystem.ensemble", lambda *_: None)
    monkeypatch.setattr("ecg.commands.train.Bundle", lambda *_: None)
    monkeypatch.setattr("ecg.commands.train.save_bundle", lambda *_: None)
    monkeypatch.setattr("ecg.commands.train.write_report", lambda folder, *_: (folder / "report").mkdir(parents=True))
    settings = Settings(network=small, lead_sets=(12, 2), resamples=3, jobs=1)
    train(synthetic_recordings, tmp_path, settings)
    networks = list(networks_of(survey(synthetic_recordings, headers, 1), settings))
    same(networks, trained)
    assert [network[7:] for network in networks] == [(False, 0, 0, 0), (False, 1, 0, 0)] + 2 * [(False, 1, 1, 1)]
    (line,) = lines
    assert line.startswith("AFL or AF in Ningbo: no network, the other sources have")


@pytest.mark.parametrize(("system", "fewest"), [("gated", 2), ("not gated", 20), ("exclusive", 20)])
def test_so_are_those_of_other_systems(
    system, fewest, synthetic_recordings, headers, small, store, tmp_path, monkeypatch, trained
):
    monkeypatch.setattr("ecg.systems.method.FEWEST", fewest)
    settings, lines, logged = LIKE_LI, capture_log(), []
    if system == "exclusive":
        settings = replace(SE_RESNET_RHYTHM, views=(SHORT,), network=small)
    peaks = WavePeaks(np.zeros(len(store) + 1, int), np.empty(0, np.int32), np.empty(0, np.int8))
    train_system(
        {DEFAULT_PREPROCESSING: store},
        {DEFAULT_PREPROCESSING: peaks},
        settings,
        tmp_path,
        synthetic_recordings,
        logged.append,
        Budget(None),
    )
    networks = list(networks_of(survey(synthetic_recordings, headers, 1), settings))
    same(networks, trained)
    assert lines == [line for line in logged if "not told from the others" in line] and len(lines) == (
        system == "not gated"
    )
    titles = [network.title for network in networks]
    saved = {network.title: network.saved for network in networks}
    if system == "exclusive":
        assert titles == ["lead II"] and networks[0].leads == ("II",) and networks[0].saved == 5
        count = len(networks[0].training) + len(networks[0].validation)
        assert count == (store.labels[:, class_indices(settings.classes)].sum(axis=1) == 1).sum() < len(store)
    else:  # two numbers of leads, two folds, two views, before them two for peaks, and then those of the gate
        assert len(networks) == 2 * 2 * (4 + (5 if system == "gated" else 0))
        assert titles[:2] == ["8 leads, 250 Hz, 2 s, fold 1 of 2, peaks", "8 leads, 250 Hz, 2 s, fold 1 of 2"]
        assert saved[titles[0]] == 0 and saved[titles[1]] == 1 and saved["2 leads, 250 Hz, 3 s, fold 2 of 2"] == 2
        assert sum(network.averaged for network in networks) == 2
        assert sum(network.searches for network in networks) == 8
    assert [network.gate for network in networks] == ["or not" in title for title in titles]


def test_what_is_switched_off_is_not_counted(synthetic_recordings, headers):
    settings = Settings(lead_sets=(3,))
    off = replace(settings, cleaning=replace(settings.cleaning, conflated_classes=(), omissions=(), masks=False))
    titles = [network.title for network in networks_of(survey(synthetic_recordings, headers, 1), off, None)]
    assert titles == ["round 2, 3 leads"]


def test_costs_are_counted_as_by_hand(synthetic_recordings, headers, timed):
    before = sorted(synthetic_recordings.iterdir())
    training = TrainingSettings(batch=8, smallest_batch=8, steps=12, epochs=3)
    lines, settings = capture_log(), Settings(training=training, lead_sets=(2,), resamples=30, jobs=1, hours=2.0)
    costs = estimate.estimate(synthetic_recordings, settings)
    assert [cost.title for cost in costs] == ["store", "classes omitted by CPSC", "round 1, 12 leads",
                                              "round 2, 2 leads", "models, report"]  # fmt: skip
    store, relabelling, first, second, report = costs
    assert store.once > 0 and store.steps is None and report.once == pytest.approx(1.5 + 3.0 + 20 * 0.5)
    found = survey(synthetic_recordings, headers, 1)
    *_, network = networks_of(found, settings)
    lengths = found.lengths(250)
    plan = plan_training(lengths[network.training], 8, np.random.default_rng(0))
    shapes = len({(len(batch.records), batch.length) for batch in plan})
    checked, asked = 1e-4 * lengths[network.validation].sum(), 1e-4 * lengths.sum()
    assert (first.recordings, first.batch, first.steps) == (len(network.training), 8, 2 * len(plan))  # 96 of some 46
    assert first.epoch == second.epoch == pytest.approx(0.5 * first.steps + checked + 0.125)
    assert first.once == pytest.approx(5.0 + 2.0 * shapes + asked)
    assert second.once == pytest.approx(5.0 + 2.0 * shapes + checked + 30 * 0.25)
    assert relabelling.once > 7.0 + 5.0 and relabelling.recordings < first.recordings
    assert first.seconds(3) == first.seconds(25) == pytest.approx(first.once + 3 * first.epoch)
    assert [cost.memory for cost in costs[1:]] == [9e5, 1e6, 1.1e6, 1.1e6] and 100 < store.memory < 1e5
    text = "\n".join(lines)
    assert "recordings to train on" in text and "3 epochs" in text and "25 epochs" not in text
    assert lines[-1].endswith("after 2 h at the latest.")
    assert sorted(synthetic_recordings.iterdir()) == before


def test_windows_and_sampling_frequencies_are_counted(synthetic_recordings, headers, timed):
    found = survey(synthetic_recordings, headers, 1)._replace(seconds=np.repeat([10.0, 21.0], 30))
    view = View(Preprocessing(500, None), Window(4992))
    learning = TrainingSettings(batch=8, smallest_batch=8, steps=2, epochs=9)
    everything = np.arange(60)
    network = Network("one", everything, everything[:40], everything[:10], learning, view, LEAD_SETS[2], searches=1)
    settings = replace(LI2021, views=(view,), training=learning)
    (cost,) = costs_of([network], found, Taken((2, 2), NETWORKS, NETWORKS, None), settings)
    # 5,000 samples come in 2 pieces, 10,500 in 3.
    assert cost.epoch == pytest.approx(0.5 * cost.steps + 1e-4 * 4992 * (30 * 2 + 10 * 3) + 0.125)
    assert cost.steps == 8 and cost.once == pytest.approx(7.0 + 5.0 + 2.0 * 2 + 1e-4 * 4992 * 20)  # batches of 7 and 8


def test_a_network_takes_what_those_of_its_kind_do(store, monkeypatch):
    tried = []

    def calibrated(stage, store, batch, seed, peak, started):
        tried.append((len(stage.leads), stage.network, stage.view, batch, started))
        return NETWORKS._replace(ready=float(len(tried)))

    monkeypatch.setattr(estimate, "calibrated", calibrated)
    settings, everything = LIKE_LI, np.arange(60)
    learning = TrainingSettings(batch=16, steps=4, smallest_batch=2)
    networks = [
        Network("one", everything[:size], everything, everything, learning, LONG, LEAD_SETS[count], gate)
        for count, size, gate in ((2, 60, False), (12, 10, False), (6, 20, False), (6, 60, True))
    ]
    sample = Sample(None, {}, {DEFAULT_PREPROCESSING: store}, {})
    peaks = {DEFAULT_PREPROCESSING: WavePeaks(np.zeros(61, int), np.empty(0, np.int32), np.empty(0, np.int8))}
    taken = taken_by(networks, sample, peaks, settings, None)
    assert tried == [(12, settings.network, LONG, 15, False), (2, settings.network, LONG, 15, True),
                     (12, settings.gate.network, SHORT, 15, True)]  # fmt: skip
    assert [taken.of(network).ready for network in networks] == pytest.approx([2.0, 1.0, 1.6, 3.0])
    assert taken.networks == 4
    alone = taken_by(networks[1:2], sample, peaks, settings, None)
    assert len(tried) == 4 and alone.networks == 2 and alone.of(networks[1]) == alone.most


def test_each_store_and_its_peaks_are_parts(synthetic_recordings, store, timed, monkeypatch):
    other = Preprocessing(500, None)
    shares = {DEFAULT_PREPROCESSING: Effort(2.0, 0.5), other: Effort(1.0, 0.25)}
    sample = Sample(None, {}, {DEFAULT_PREPROCESSING: store, other: replace(store, preparation=other)}, shares)
    peaks = WavePeaks(np.zeros(61, int), np.empty(0, np.int32), np.empty(0, np.int8))
    monkeypatch.setattr(estimate, "read_sample", lambda *_: sample)
    monkeypatch.setattr(estimate, "find_peaks", lambda *_: (dict.fromkeys(shares, peaks), shares))
    settings = replace(LIKE_LI, views=(SHORT, View(other, Window(992))), gate=None)
    costs = estimate.estimate(synthetic_recordings, settings)
    count = len(store)
    assert [(cost.title, cost.once) for cost in costs[:4]] == [
        ("store, 250 Hz", 2.0 + 0.5 * count), ("store, 500 Hz", 1.0 + 0.25 * count),
        ("peaks, 250 Hz", 2.0 + 0.5 * count), ("peaks, 500 Hz", 1.0 + 0.25 * count),
    ]  # fmt: skip
    assert {cost.most for cost in costs[4:-1]} == {20, 50}


def test_memory_counts_for_the_part_that_takes_it(synthetic_recordings, store, timed, monkeypatch):
    class Peak:
        most = 500.0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def taken(self):
            most, Peak.most = Peak.most, 0.0
            return most

    def surveyed(*arguments):
        Peak.most = 700.0
        return survey(*arguments)

    def calibrated(*arguments):
        networks, peak = fixed(*arguments), arguments[-2]
        return networks._replace(memory=networks.memory + peak.taken())

    def report_seconds(*_):
        Peak.most = 2e6
        return 3.0, 0.5

    fixed = estimate.calibrated
    parts = {"Peak": Peak, "survey": surveyed, "calibrated": calibrated, 
             "read_sample": lambda *_: Sample(None, {}, {DEFAULT_PREPROCESSING: store}, {DEFAULT_PREPROCESSING: Effort(1.0, 0.5)}),
             "report_seconds": report_seconds}  # fmt: skip
    for name, part in parts.items():
        monkeypatch.setattr(estimate, name, part)
    reading, *networks, report = estimate.estimate(synthetic_recordings, Settings(lead_sets=(12,), jobs=1))
    assert [cost.memory for cost in (reading, *networks)] == [700.0, 9e5, 1e6, 1.1e6]
    assert report.memory == 2e6 + 1e5  # three networks have left theirs, not two
    assert reading.once == pytest.approx(1.0 + 0.5 * len(store))


def test_the_table_has_usual_and_most_epochs_and_a_sum():
    costs = [Cost("store", 60.0, 500.0), Cost("peaks", 30.0, 700.0, 1.0, 20, 600, 16, 40),
             Cost("round 1", 100.0, 800.0, 10.0, 100, 700, 16, 44), Cost("report", 5.0, 790.0)]  # fmt: skip
    assert table(costs, Settings()) == [
        ("", "recordings", "batch", "steps", "an epoch", "25 epochs", "100 epochs", "memory"),
        ("store", "", "", "", "", "1 min 00 s", "1 min 00 s", "500 MB"),
        ("peaks", 600, 16, 40, "1 s", "50 s", "50 s", "700 MB"),
        ("round 1", 700, 16, 44, "10 s", "5 min 50 s", "18 min 20 s", "800 MB"),
        ("report", "", "", "", "", "5 s", "5 s", "790 MB"),
        ("all", "", "", "", "", "7 min 45 s", "20 min 15 s", "800 MB"),
    ]
    once = table(costs[:1] + costs[2:], Settings(training=TrainingSettings(epochs=1)))
    assert once[0][5:] == ("1 epoch", "memory")


def test_what_is_assumed_is_said(synthetic_recordings, headers):
    found = survey(synthetic_recordings, headers, 1)

    def said(settings):
        return "\n".join(assumptions(list(networks_of(found, settings)), settings, 5.0))

    text = said(Settings())
    assert "or after all 100.\n25 epochs are assumed" in text
    assert "Networks of 2 and of 12 leads were tried" in text and "Hz" not in text
    whole = said(SYSTEMS["zhao2022"])  # which never ends early
    assert "Training ends after all 50 epochs." in whole and "usual" not in whole
    text = said(LIKE_LI)
    assert "for peaks alone ends once" in text and "after all 20." in text and "Networks of 250 Hz, 3 s were" in text


def test_data_that_hold_nothing_to_train_on_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no header"):
        estimate.estimate(tmp_path)
    (tmp_path / "E00001.hea").write_text("E00001 x\n")
    with pytest.raises(RecordError, match="E00001.hea line 1"):
        estimate.estimate(tmp_path, Settings(jobs=1))
