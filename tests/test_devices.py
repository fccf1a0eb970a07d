import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from ecg.devices import LossOverAll, accelerators, at_work, computing_in, over_all, together
from ecg.losses import AsymmetricLoss, CrossEntropy, FocalLoss
from ecg.networks import NetworkSettings, build_network

ROOT = Path(__file__).parents[1]
PLAIN = NetworkSettings(width=4, kernels=(), hidden=8)  # no blocks, so that it is compiled quickly
# Two devices, which are one processor; TensorFlow is to be told before Keras looks for them.
TRAINED_BY_TWO = """
import os, sys
if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)
from dataclasses import replace
from pathlib import Path
import keras
import numpy as np
from ecg.devices import at_work, together
from ecg.losses import AsymmetricLoss
from ecg.networks import NetworkSettings
from ecg.stages import StageFolder
from tests.test_training import QUICK, beats_store, run

devices = keras.distribution.list_devices()
assert len(devices) == 2, devices
settings = NetworkSettings(width=2, kernels=(), hidden=4)  # no dropout, which TensorFlow draws for each device anew
store = beats_store(20, lengths=(600,))  # 15 of them for training, in batches of 5, which two do not divide
masks = np.random.default_rng(1).integers(0, 2, store.labels.shape).astype(np.float32)
training = replace(QUICK, smallest_batch=5, steps=3, first_rate=1e-2, epochs=2)

class OfFirstEpoch(StageFolder):
    def keep(self, name, arrays):
        if not self.recall(name):
            super().keep(name, arrays)

def trained(names, folder=None):
    with together(names):
        network, epochs, lines, _ = run(settings, store, training, AsymmetricLoss(), masks, folder=folder)
        with at_work(network) as work:
            answer = np.asarray(work.answer(store.signal(0, (0, 1))[np.newaxis]))  # too few for two devices
    figures = [(epoch.loss, epoch.validation_loss, epoch.scores["score"]) for epoch in epochs]
    return lines[0], figures, [answer, *network.get_weights()]

folder = OfFirstEpoch(Path(sys.argv[1]), "mark")
(_, expected, alone), (_, figures, both), (line, again, taken_up) = (
    trained(devices[:1]), trained(devices, folder), trained(devices, folder))
np.testing.assert_allclose(figures, expected, rtol=1e-5)
assert line == "trial: taken up after epoch 1" and again == figures
for one, two, three in zip(alone, both, taken_up, strict=True):
    np.testing.assert_allclose(two, one, atol=1e-5)
    np.testing.assert_array_equal(three, two)
"""


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_two_devices_train_as_one_does_and_take_up_what_was_cut_off(backend, tmp_path):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"} if backend == "jax" else {}
    environment = os.environ | flags | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
    ended = subprocess.run([sys.executable, "-c", TRAINED_BY_TWO, tmp_path], cwd=ROOT, env=environment,
                           capture_output=True, text=True)  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_only_what_is_not_the_processor_is_an_accelerator(monkeypatch):
    assert accelerators() == [] or "cpu:0" not in accelerators()
    monkeypatch.setattr("keras.distribution.list_devices", lambda: ["cpu:0", "cpu:1", "gpu:0", "gpu:1"])
    assert accelerators() == ["gpu:0", "gpu:1"]


@pytest.mark.parametrize("devices", [[], ["gpu:0"]])
def test_one_device_is_left_to_the_backend(devices):
    loss = FocalLoss()
    with together(devices):
        assert keras.distribution.distribution() is None and over_all(loss) is loss


@pytest.mark.parametrize("loss", [FocalLoss(), AsymmetricLoss(), CrossEntropy()])
def test_a_loss_over_all_is_the_same_loss(loss):
    rng = np.random.default_rng(0)
    labels, masks = rng.integers(0, 2, (2, 5, 3)).astype(np.float32)
    probabilities = rng.random((5, 3)).astype(np.float32)
    for weights in (masks, 0 * masks, 0.5 + masks):
        expected = float(loss(labels, probabilities, weights))
        assert float(LossOverAll(loss)(labels, probabilities, weights)) == pytest.approx(expected, rel=1e-6)


def batch(size, seed=0):
    """Signals (B, T, 2), targets (B, 3) and masks (B, 3)."""
    rng = np.random.default_rng(seed)
    signals = rng.normal(size=(size, 250, 2)).astype(np.float32)
    return signals, *((rng.random((size, 3)) < share).astype(np.float32) for share in (0.3, 0.7))


def compiled(precision="float32"):
    """A network that is ready to be trained, always with the same first weights."""
    keras.utils.set_random_seed(1)
    with computing_in(precision):
        network = build_network(PLAIN, 2, 3)
    network.compile(keras.optimizers.Adam(1e-2), FocalLoss(), jit_compile=keras.backend.backend() == "jax")
    network.optimizer.build(network.trainable_variables)
    return network


def test_work_comes_to_what_kerass_own_steps_do_to_the_bit():
    signals, *labels = batch(4)
    network, other = compiled(), compiled()
    expected = [float(network.train_on_batch(signals, labels[0], sample_weight=labels[1])) for _ in range(3)]
    with at_work(other) as work:
        losses = [work.train(signals, *labels) for _ in range(2)]
        between = work.weights()
        losses.append(work.train(signals, *labels))
        answer = np.asarray(work.answer(signals))
    assert [float(loss) for loss in losses] == expected
    np.testing.assert_array_equal(answer, network.predict_on_batch(signals))
    for one, two in zip(network.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    for one, two in zip(network.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    assert any((one != two).any() for one, two in zip(between, other.get_weights(), strict=True))


def test_in_bfloat16_weights_probabilities_and_loss_are_single():
    signals, *labels = batch(4)
    single, half = compiled(), compiled("bfloat16")
    assert keras.config.dtype_policy().name == "float32"
    dtypes = {layer.compute_dtype for layer in half.layers if isinstance(layer, keras.layers.Conv1D)}
    assert dtypes == {"bfloat16"} and half.layers[-1].compute_dtype == "float32"
    figures = []
    for network in (single, half):
        with at_work(network) as work:
            loss, answer = work.train(signals, *labels), np.asarray(work.answer(signals))
        assert str(loss.dtype).endswith("float32'>") or str(loss.dtype) == "float32"
        assert answer.dtype == np.float32
        assert {variable.dtype for variable in [*network.weights, *network.optimizer.variables[2:]]} == {"float32"}
        figures.append((float(loss), answer))
    (expected, answers), (loss, in_half) = figures
    assert loss != expected and loss == pytest.approx(expected, rel=0.02)
    assert 0 < np.abs(in_half - answers).max() < 0.02


@pytest.mark.slow
def test_the_other_backend_does_all_of_this_too():
    """The two tests above run on TensorFlow, this one on JAX."""
    code = "import sys, pytest; sys.exit(pytest.main(['-q', '-k', 'work_comes or bfloat16', 'tests/test_devices.py']))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"KERAS_BACKEND": "jax"},
                           capture_output=True, text=True)  # fmt: skip
    assert ended.returncode == 0 and "2 passed" in ended.stdout, ended.stdout
