import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from ecg.training.backend import GlobalMeanLoss, distributed_loss
from ecg.training.distribution import accelerators, distribution_scope
from ecg.training.losses import AsymmetricLoss, CrossEntropy, FocalLoss, SquaredError, WeightedSumLoss

ROOT = Path(__file__).parents[2]
# Two devices, which are one processor; TensorFlow is to be told before Keras looks for them.
IN_HALVES = """
import os, sys
sys.path[:0] = ["tests", "tests/unit/training"]
if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)
"""
TRAINED_BY_TWO = """
from dataclasses import replace
from pathlib import Path
import keras
import numpy as np
from ecg.training.backend import step_runner, synchronise_layers
from ecg.training.distribution import distribution_scope
from ecg.training.losses import AsymmetricLoss
from ecg.models.network_settings import NetworkSettings
from ecg.runtime.cache import ResultCache
from ecg.training.trainer import seed_epoch
from test_trainer import QUICK, beats_store, run

devices = keras.distribution.list_devices()
assert len(devices) == 2, devices
if os.environ["KERAS_BACKEND"] == "jax":
    settings = NetworkSettings(width=2, kernels=(3,), squeeze_ratio=2, hidden=4)
else:
    settings = NetworkSettings(width=2, kernels=(), hidden=4)  # no dropout, which each device draws for itself
store = beats_store(20, lengths=(600,))  # 15 of them for training, in batches of 5, which two do not divide
masks = np.random.default_rng(1).integers(0, 2, store.labels.shape).astype(np.float32)
training = replace(QUICK, smallest_batch=5, steps=3, first_rate=1e-2, epochs=2)

class OfFirstEpoch(ResultCache):
    def save(self, name, arrays):
        if not self.load(name):
            super().save(name, arrays)

def trained(names, folder=None):
    with distribution_scope(names):
        network, epochs, lines, _ = run(settings, store, training, AsymmetricLoss(), masks, folder=folder)
        with step_runner(network) as work:
            answer = np.asarray(work.predict(store.signal(0, (0, 1))[np.newaxis]))  # too few for two devices
    figures = [(epoch.loss, epoch.validation_loss, epoch.scores["score"]) for epoch in epochs]
    return lines[0], figures, [answer, *network.get_weights()]

folder = OfFirstEpoch(Path(sys.argv[1]), "mark")
(_, expected, alone), (_, figures, both), (line, again, taken_up) = (
    trained(devices[:1]), trained(devices, folder), trained(devices, folder))
np.testing.assert_allclose(figures, expected, rtol=1e-5)
assert line == "trial: resumed after epoch 1" and again == figures
for one, two, three in zip(alone, both, taken_up, strict=True):
    np.testing.assert_allclose(two, one, atol=1e-5)
    np.testing.assert_array_equal(three, two)

if os.environ["KERAS_BACKEND"] == "tensorflow":
    with distribution_scope(devices):
        network = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.5)])
        synchronise_layers(network)
        with step_runner(network) as work:
            step = tf.function(lambda: work.strategy.run(lambda: network(np.ones((1, 64)), training=True)))
            def drawn(epoch):
                seed_epoch(network, 1, "trial", epoch)
                return [[part.numpy().tobytes() for part in work.strategy.experimental_local_results(step())]
                        for _ in range(2)]
            first, other, again = drawn(0), drawn(1), drawn(0)
    assert first == again and len({part for parts in first + other for part in parts}) == 8
"""

OTHERS_BY_TWO = """
from dataclasses import replace
import keras
import numpy as np
from ecg.training.distribution import distribution_scope
from ecg.models.network_settings import DEPTHS
from test_trainer import ONE_BLOCK, SHAPED_LIKE, fit, stage_like

devices, found = keras.distribution.list_devices(), {}
assert len(devices) == 2, devices
DEPTHS[18] = ONE_BLOCK
for system in SHAPED_LIKE:
    stage, store = stage_like(system)
    if system in ("zhao2022", "nejedly2021"):  # no dropout, which each device and each backend draws for itself
        stage = replace(stage, network=replace(stage.network, dropout=0.0))
    # 13 recordings in batches of 5, 4 and 4, not all of which two divide
    learning = replace(stage.learning, batch=5, smallest_batch=5)
    stage = replace(stage, training=np.arange(13), validation=np.arange(13, 16), learning=learning)
    for names in (devices[:1], devices):
        with distribution_scope(names):
            network, epochs, _ = fit(stage, store)
        figures = [(epoch.loss, epoch.validation_loss, epoch.scores["score"]) for epoch in epochs]
        found[f"{system} {len(names)} figures"] = np.array(figures)
        weights = np.concatenate([each.ravel() for each in network.get_weights()])
        found[f"{system} {len(names)} weights"] = weights
np.savez(sys.argv[1], **found)
"""


def by_two(backend, code, *arguments):
    """Run code in a process that has two devices of a backend."""
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"  # and compiled quickly
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
    if backend == "jax":
        environment["XLA_FLAGS"] = flags
    ended = subprocess.run([sys.executable, "-c", IN_HALVES + code, *arguments], cwd=ROOT, env=environment,
                           capture_output=True, text=True)  # fmt: skip
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_two_devices_train_as_one_does_and_resume_an_interrupted_training(backend, tmp_path):
    by_two(backend, TRAINED_BY_TWO, tmp_path)


@pytest.mark.slow
def test_what_other_systems_have_comes_to_the_same_on_two_devices_and_on_either_backend(tmp_path):
    """Peaks, left-out leads and AdamW, persons, leads as rows, rhythms and SGD, two heads with clipped gradients."""
    outcomes = {}
    for backend in ("jax", "tensorflow"):
        by_two(backend, OTHERS_BY_TWO, tmp_path / f"{backend}.npz")
        with np.load(tmp_path / f"{backend}.npz") as arrays:
            outcomes[backend] = dict(arrays)
    assert len(outcomes["jax"]) == 5 * 2 * 2
    for name, values in outcomes["jax"].items():
        for expected in (outcomes["jax"][name.replace(" 1 ", " 2 ")], outcomes["tensorflow"][name]):
            agree = np.isclose(expected, values, rtol=1e-5, atol=5e-5)
            # Adam divides a gradient by its size: a rounding error moves a weight whose gradient is almost 0 more
            assert agree.all() if name.endswith("figures") else agree.mean() > 0.998, name
            np.testing.assert_allclose(expected, values, rtol=1e-5, atol=5e-4, err_msg=name)


def test_only_what_is_not_the_processor_is_an_accelerator(monkeypatch):
    monkeypatch.setattr("keras.distribution.list_devices", lambda: ["cpu:0", "cpu:1", "gpu:0", "gpu:1"])
    assert accelerators() == ["gpu:0", "gpu:1"]


@pytest.mark.parametrize("devices", [[], ["gpu:0"]])
def test_one_device_is_left_to_the_backend(devices):
    loss = FocalLoss()
    with distribution_scope(devices):
        assert keras.distribution.distribution() is None and distributed_loss(loss) is loss


@pytest.mark.parametrize("loss", [FocalLoss(), AsymmetricLoss(), CrossEntropy()])
def test_a_loss_over_all_is_the_same_loss(loss):
    rng = np.random.default_rng(0)
    labels, masks = rng.integers(0, 2, (2, 5, 3)).astype(np.float32)
    probabilities = rng.random((5, 3)).astype(np.float32)
    for weights in (masks, 0 * masks, 0.5 + masks):
        expected = float(loss(labels, probabilities, weights))
        assert float(GlobalMeanLoss(loss)(labels, probabilities, weights)) == pytest.approx(expected, rel=1e-6)


def test_of_joined_losses_each_is_made_one_over_all(monkeypatch):
    joined = WeightedSumLoss((AsymmetricLoss(), SquaredError()), (2, 1), (1, 0.1))
    assert distributed_loss(joined).losses == joined.losses
    monkeypatch.setattr("ecg.training.backend.mirrored_strategy", lambda: "several devices")
    over = distributed_loss(joined)
    assert [loss.loss for loss in over.losses] == list(joined.losses)
    labels, answers, weights = np.random.default_rng(0).random((3, 5, 3)).astype(np.float32)
    assert float(over(labels, answers, weights)) == pytest.approx(float(joined(labels, answers, weights)), rel=1e-6)
