from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from ecg.budget import Budget
from ecg.fitting import Stage, columns_of, fitted
from ecg.leads import LEAD_SETS, LEADS
from ecg.losses import FocalLoss
from ecg.networks import POLICIES
from ecg.pipeline import Settings
from ecg.training import TrainingError, TrainingSettings


def test_columns_of_a_lead_set_are_its_leads():
    for count, leads in LEAD_SETS.items():
        assert tuple(LEADS[column] for column in columns_of(count)) == leads


@pytest.fixture
def stage(store):
    everything = np.arange(len(store))
    targets = store.labels[:, :3].astype(np.float32)
    training, validation = everything[:32], everything[32:]
    return Stage("round 1, 2 leads", 2, FocalLoss(), everything, targets, np.ones_like(targets), training, validation,
                 everything[::2])  # fmt: skip


def test_a_stage_is_trained_once_and_taken_as_done_afterwards(stage, store, small, tmp_path, monkeypatch):
    settings = Settings(network=small, training=TrainingSettings(epochs=1, steps=2))
    lines, budget = [], Budget(None)

    def fit(stage=stage, settings=settings):
        return fitted(stage, store, tmp_path, settings, lambda p: {"mean": float(p.mean())}, lines.append, budget, 1)

    first = fit()
    assert first.probabilities.shape == (len(stage.asked), 3) and len(first.epochs) == 1
    assert first.ended == "all 1 epochs done"
    assert sorted(path.name for path in (tmp_path / "round_1_2_leads").iterdir()) == ["result.npz"]

    def trains(*_):
        raise TrainingError("at work")

    monkeypatch.setattr("ecg.fitting.train_network", trains)
    again = fit()
    assert lines[-1] == "round 1, 2 leads: done before"
    assert (again.epochs, again.ended) == (first.epochs, first.ended)
    np.testing.assert_array_equal(again.probabilities, first.probabilities)
    for one, other in zip(again.weights, first.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for other in (
        {"settings": replace(settings, seed=1)},
        {"settings": replace(settings, training=TrainingSettings(epochs=2, steps=2))},
        {"stage": replace(stage, masks=1 - stage.masks)},
        {"stage": replace(stage, leads=3)},
        {"stage": replace(stage, asked=stage.asked[1:])},
    ):
        with pytest.raises(TrainingError, match="at work"):
            fit(**other)


def test_a_network_that_the_memory_does_not_hold_is_told(stage, store, small, tmp_path, monkeypatch):
    def fills(*_):
        raise MemoryError("a tensor of shape (5, 200000, 200000)")

    monkeypatch.setattr("ecg.networks.NetworkSettings.build", fills)
    with pytest.raises(TrainingError, match="round 1, 2 leads: the memory is too small"):
        fitted(stage, store, tmp_path, Settings(network=small), None, [].append, Budget(None), 1)


@pytest.mark.parametrize("precision", POLICIES)
def test_a_network_trains_as_asked_on_all_accelerators_and_answers_in_single(
    precision, stage, store, small, tmp_path, monkeypatch
):
    devices, using, networks = ["gpu:0", "gpu:1"], [], []

    @contextmanager
    def together(names):
        using.extend(names)
        yield
        using.clear()

    def trains(network, *_):
        assert using == devices
        networks.append(network)
        network.set_weights([weights + 1 for weights in network.get_weights()])
        return [], "trained"

    def answers(network, *_):
        assert using == devices
        networks.append(network)
        return np.zeros((len(stage.asked), 3))

    monkeypatch.setattr("ecg.fitting.accelerators", lambda: devices)
    for each in (together, trains, answers):
        name = {"trains": "train_network", "answers": "predict"}.get(each.__name__, each.__name__)
        monkeypatch.setattr(f"ecg.fitting.{name}", each)
    settings = Settings(network=small, training=TrainingSettings(precision=precision))
    outcome = fitted(stage, store, tmp_path, settings, None, [].append, Budget(None), 1)
    trained, asked = networks
    assert trained.layers[1].compute_dtype == precision and asked.layers[1].compute_dtype == "float32"
    for one, two, three in zip(trained.get_weights(), asked.get_weights(), outcome.weights, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
