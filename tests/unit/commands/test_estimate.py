"""The estimate of a training: what it counts, and that it scales linearly."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import capture_log

from ecg.commands import estimate as module
from ecg.commands.estimate import (
    StageCost,
    estimate,
    estimate_rows,
    link_records,
    measure_synthesis,
    plan_costs,
    schedule,
)
from ecg.data.headers import RecordError
from ecg.data.records import find_records
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.models.config import ModelError
from ecg.runtime.console import format_duration
from ecg.runtime.executors import ONE_PROCESS, open_executor
from ecg.systems.plan import split_recordings, stage_keys
from ecg.systems.recipes import SYSTEMS, Settings, SyntheticPretraining
from ecg.training.settings import TrainingSettings


def test_a_stage_takes_a_fixed_time_and_a_time_for_each_recording():
    cost = StageCost("round 1", 12, TrainingSettings(epochs=40), training=64, validation=16, predicted=80)
    assert cost.recordings_per_epoch == 12 * 64 + 16 and cost.usual_epochs == 25
    assert cost.seconds(10.0, 0.5, 2) == 10 + 0.5 * (2 * (12 * 64 + 16) + 80)
    endless = replace(cost, learning=TrainingSettings(epochs=40, patience=40))
    assert endless.usual_epochs == 40  # without early stopping


@pytest.mark.parametrize("name", ["cai2021", "zhao2022"])
def test_all_stages_of_a_training_are_counted_with_scaled_numbers(name, store):
    settings = SYSTEMS[name]
    stages, costs = plan_costs(store, settings, 10.0)
    assert len(costs) == len(stage_keys(settings))
    assert len(stages) == len(settings.lead_sets) * (settings.folds or 1)
    ((training, validation), *_) = split_recordings(store.labels, settings)
    assert (costs[-1].training, costs[-1].validation) == (10 * len(training), 10 * len(validation))


def test_the_total_is_that_of_preprocessing_and_of_all_stages(synthetic_recordings, monkeypatch):
    seconds = {12: (100.0, 0.5), 2: (50.0, 0.25)}
    monkeypatch.setattr(module, "measure", lambda stage, *_: seconds[len(stage.leads)])
    monkeypatch.setattr(module, "prepare_sample", lambda paths, *rest: (*prepare(paths, *rest)[:2], 0.0))
    lines, before = capture_log(), sorted(synthetic_recordings.iterdir())
    settings = Settings(training=TrainingSettings(epochs=2), lead_sets=(12, 3, 2), hours=2.0)
    total = estimate(synthetic_recordings, settings)
    assert sorted(synthetic_recordings.iterdir()) == before
    rows = [line.split() for line in lines]
    assert [row[-4:] for row in rows if row[:2] == ["round", "1"]] and lines[-1].endswith("after 2 h at the latest.")
    assert total > 3 * 100.0 and any(row[:1] == ["all"] for row in rows)


prepare = module.prepare_sample


def test_synthetic_recordings_are_timed_and_are_part_of_the_total(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "N_WARM_UP", 2)
    monkeypatch.setattr(module, "N_SAMPLE", 4)
    settings = Settings(pretraining=SyntheticPretraining(5000))
    ((title, count, seconds),) = measure_synthesis(tmp_path, settings, ONE_PROCESS)
    assert (title, count) == ("synthetic recordings", 5000) and 0 < seconds < 2
    assert [*measure_synthesis(tmp_path, Settings(), ONE_PROCESS)] == []
    cost = StageCost("round 1", 12, TrainingSettings(epochs=2), training=64, validation=16, predicted=80)
    steps = [("preprocessing", 100, 0.5), (title, count, 0.25)]
    rows, total = estimate_rows(steps, [cost], {12: (10.0, 0.1)})
    assert total == 50 + 1250 + cost.seconds(10.0, 0.1, 2)
    assert rows[2] == ("synthetic recordings", "5,000", "", *[format_duration(1250)] * 2)


@pytest.mark.parametrize(("n_slots", "expected"), [(1, 30), (2, 20), (3, 13), (9, 13)])
def test_stages_of_a_group_share_the_slots_and_groups_follow_each_other(n_slots, expected):
    places = [(0, ""), (1, ""), (2, "a"), (2, "a"), (2, "b"), (2, "c")]
    costs = [StageCost("stage", 12, TrainingSettings(), 1, 1, 1, group, chain) for group, chain in places]
    assert schedule(costs, [1, 2, 4, 6, 8, 9], n_slots) == expected


def test_an_estimate_counts_the_synthetic_recordings_of_its_settings(synthetic_recordings, monkeypatch):
    monkeypatch.setattr(module, "measure", lambda *_: (0.0, 0.0))
    monkeypatch.setattr(module, "prepare_sample", lambda paths, *rest: (*prepare(paths, *rest)[:2], 0.0))
    monkeypatch.setattr(
        module, "measure_synthesis", lambda folder, settings, executor: [("made", 3, float(settings.seed))]
    )
    assert estimate(synthetic_recordings, Settings(lead_sets=(2,), seed=7)) == 3 * 7.0


@pytest.mark.slow
def test_a_cluster_measures_on_all_its_slots_at_once(cluster, synthetic_recordings, small_network):
    lines, settings = (
        capture_log(),
        Settings(network=small_network, training=TrainingSettings(epochs=2), lead_sets=(2,)),
    )
    with open_executor(cluster=cluster.address) as executor:
        total = estimate(synthetic_recordings, settings, executor=executor)
    row = next(line for line in lines if line.startswith("all, 2 networks at a time"))
    assert row.split()[-2:] and total > 0
    assert any(line.startswith("measured with 2 leads") for line in lines)
    assert not any("Peak memory" in line for line in lines)


def test_records_of_the_same_name_are_linked_separately(tmp_path):
    for folder in ("a", "b"):
        synthesize(tmp_path / folder, 1, settings=SyntheticSettings(sources={"Georgia": 1}))
    link_records(find_records(tmp_path), tmp_path / "links")
    assert len(find_records(tmp_path / "links")) == 2
    assert np.unique([path.name for path in find_records(tmp_path / "links")]).size == 1


def test_recordings_that_are_not_trained_on_cannot_be_estimated(tmp_path):
    synthesize(tmp_path, 2, settings=SyntheticSettings(sources={"PTB": 1}))
    with pytest.raises(RecordError, match="no recordings of sources that are trained on"):
        estimate(tmp_path, Settings())


def test_a_missing_model_to_start_from_is_reported_before_recordings_are_read(tmp_path):
    with pytest.raises(ModelError, match="no model for 12 leads, 12_leads.json is missing"):
        estimate(tmp_path / "no recordings", Settings(initial_model=str(tmp_path)))
