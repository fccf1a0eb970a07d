from dataclasses import replace

import numpy as np
import pytest

from ecg import estimate
from ecg.batches import plan_training
from ecg.calibration import Networks, Pace
from ecg.estimate import Cost, assumptions, networks_of, table
from ecg.fitting import Outcome
from ecg.headers import RecordError
from ecg.pipeline import Settings, train
from ecg.survey import survey
from ecg.training import TrainingSettings


@pytest.fixture
def timed(monkeypatch):
    """Fixed times of each part, in place of measured ones."""
    networks = Networks(7.0, 5.0, Pace(0.5, 0.0, 2.0), Pace(0.0, 1e-4, 0.0), memory=1e6, left=1e5)
    monkeypatch.setattr(estimate, "calibrated", lambda *_: networks)
    monkeypatch.setattr(estimate, "report_seconds", lambda *_: (3.0, 0.5))
    monkeypatch.setattr(estimate, "seconds_of", lambda run: run())
    # Three arguments, and the resamples.
    monkeypatch.setattr(estimate, "search_thresholds", lambda *given: 0.125 + 0.25 * sum(given[3:]))


def test_the_networks_are_those_that_a_training_trains(made_up, headers, small, tmp_path, monkeypatch):
    trained, lines = [], []

    def fitted(stage, *_):
        trained.append((stage.title, stage.records[stage.training], stage.records[stage.validation], stage.asked))
        weights = small.build(stage.leads, None, stage.targets.shape[1]).get_weights()
        return Outcome([], weights, np.full((len(stage.asked), stage.targets.shape[1]), 0.5, np.float32), "")

    monkeypatch.setattr("ecg.pipeline.fitted", fitted)
    monkeypatch.setattr("ecg.pipeline.write_report", lambda folder, *_: (folder / "report").mkdir())
    settings = Settings(network=small, lead_sets=(12, 2), resamples=3, jobs=1)
    train(made_up, tmp_path, settings, [].append)
    networks = list(networks_of(survey(made_up, headers, 1), settings, lines.append))
    assert [network.title for network in networks] == [title for title, *_ in trained]
    for network, (_, *parts) in zip(networks, trained, strict=True):
        for ours, theirs in zip(network[1:4], parts, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert [network[4:] for network in networks] == [(0, 0), (1, 0), (1, 1), (1, 1)]
    (line,) = lines
    assert line.startswith("AFL or AF in Ningbo: no network, the other sources have")


def test_what_is_switched_off_is_not_counted(made_up, headers):
    settings = Settings(lead_sets=(3,))
    off = replace(settings, cleaning=replace(settings.cleaning, lumpings=(), omissions=(), masks=False))
    titles = [network.title for network in networks_of(survey(made_up, headers, 1), off, None)]
    assert titles == ["round 2, 3 leads"]


def test_costs_are_counted_as_by_hand(made_up, headers, timed):
    before = sorted(made_up.iterdir())
    training = TrainingSettings(batch=8, smallest_batch=8, steps=12, epochs=3)
    lines, settings = [], Settings(training=training, lead_sets=(2,), resamples=30, jobs=1, hours=2.0)
    costs = estimate.estimate(made_up, settings, lines.append)
    assert [cost.title for cost in costs] == ["store", "classes omitted by CPSC", "round 1, 12 leads",
                                              "round 2, 2 leads", "report"]  # fmt: skip
    store, relabelling, first, second, report = costs
    assert store.once > 0 and store.steps is None and report.once == pytest.approx(3.0 + 20 * 0.5)
    found = survey(made_up, headers, 1)
    *_, network = networks_of(found, settings, [].append)
    plan = plan_training(found.lengths[network.training], 8, np.random.default_rng(0))
    shapes = len({(len(batch.records), batch.length) for batch in plan})
    checked, asked = 1e-4 * found.lengths[network.validation].sum(), 1e-4 * found.lengths.sum()
    assert (first.recordings, first.batch, first.steps) == (len(network.training), 8, 2 * len(plan))  # 96 of some 46
    assert first.epoch == second.epoch == pytest.approx(0.5 * first.steps + checked + 0.125)
    assert first.once == pytest.approx(5.0 + 2.0 * shapes + asked)
    assert second.once == pytest.approx(5.0 + 2.0 * shapes + checked + 0.125 + 30 * 0.25)
    assert relabelling.once > 7.0 + 5.0 and relabelling.recordings < first.recordings
    assert first.seconds(3) == pytest.approx(first.once + 3 * first.epoch)
    assert [cost.memory for cost in costs[1:]] == [9e5, 1e6, 1.1e6, 1.1e6] and 100 < store.memory < 1e5
    text = "\n".join(lines)
    assert "recordings to train on" in text and "3 epochs" in text and "25 epochs" not in text
    assert lines[-1].endswith("after 2 h at the latest.")
    assert sorted(made_up.iterdir()) == before


def test_memory_counts_for_the_part_that_takes_it(made_up, store, timed, monkeypatch):
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
        networks, peak = fixed(*arguments), arguments[-1]
        return networks._replace(memory=networks.memory + peak.taken())

    def report_seconds(*_):
        Peak.most = 2e6
        return 3.0, 0.5

    fixed = estimate.calibrated
    parts = {"Peak": Peak, "survey": surveyed, "calibrated": calibrated, "read_sample": lambda *_: (store, 1.0, 0.5),
             "report_seconds": report_seconds}  # fmt: skip
    for name, part in parts.items():
        monkeypatch.setattr(estimate, name, part)
    reading, *networks, report = estimate.estimate(made_up, Settings(lead_sets=(2,), jobs=1), [].append)
    assert [cost.memory for cost in (reading, *networks)] == [700.0, 9e5, 1e6, 1.1e6]
    assert report.memory == 2e6 + 1e5  # three networks have left theirs, not two
    assert reading.once == pytest.approx(1.0 + 0.5 * len(store))


def test_the_table_has_usual_and_most_epochs_and_a_sum():
    costs = [Cost("store", 60.0, 500.0), Cost("round 1", 100.0, 800.0, 10.0, 700, 16, 44), Cost("report", 5.0, 790.0)]
    assert table(costs, Settings()) == [
        ("", "recordings", "batch", "steps", "an epoch", "25 epochs", "100 epochs", "memory"),
        ("store", "", "", "", "", "1 min 00 s", "1 min 00 s", "500 MB"),
        ("round 1", 700, 16, 44, "10 s", "5 min 50 s", "18 min 20 s", "800 MB"),
        ("report", "", "", "", "", "5 s", "5 s", "790 MB"),
        ("all", "", "", "", "", "6 min 55 s", "19 min 25 s", "800 MB"),
    ]
    once = table(costs, Settings(training=TrainingSettings(epochs=1)))
    assert once[0][5:] == ("1 epoch", "memory") and once[-1][5] == "2 min 55 s"
    assert "after all 100; 25 are assumed" in "\n".join(assumptions(Settings(), 5.0))


def test_data_that_hold_nothing_to_train_on_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no header"):
        estimate.estimate(tmp_path)
    (tmp_path / "E00001.hea").write_text("E00001 x\n")
    with pytest.raises(RecordError, match="E00001.hea line 1"):
        estimate.estimate(tmp_path, Settings(jobs=1))
