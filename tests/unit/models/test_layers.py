import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from ecg.models.layers import UnitRange, mish, preactivated_block, residual_block, squeeze_excitation


def test_mish_is_x_tanh_softplus():
    x = np.linspace(-100, 100, 4001)
    expected = x * np.tanh(np.logaddexp(0, x))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(mish(x.astype(np.float32))), expected, rtol=2e-6, atol=1e-6)


def test_the_gradient_of_mish_is_that_of_its_definition():
    """By one step of the plainest descent at rate 1, after which numbers are less by the gradient of their sum."""
    numbers = np.linspace(-30, 30, 2001)

    class Numbers(keras.Layer):
        def build(self, shape):
            self.numbers = self.add_weight(shape=numbers.shape)

        def call(self, inputs):
            return mish(self.numbers + inputs)

    model = keras.Sequential([keras.Input((1,)), Numbers()])
    model.set_weights([numbers])
    model.compile(keras.optimizers.SGD(1.0), lambda _, y: keras.ops.sum(y, axis=-1))
    model.train_on_batch(np.zeros((1, 1)), np.zeros((1, 1)))
    inner = np.tanh(np.logaddexp(0, numbers))
    expected = inner + numbers * (1 - inner**2) / (1 + np.exp(-numbers))
    np.testing.assert_allclose(numbers - model.get_weights()[0], expected, atol=1e-5)


def test_squeeze_and_excitation_weighs_channels_by_one_gate_each():
    signal = keras.Input((None, 8))
    layer = keras.Model(signal, squeeze_excitation(signal, 2))
    x = np.random.default_rng(0).normal(size=(3, 50, 8)).astype(np.float32)
    gates = layer.predict_on_batch(x) / x
    assert (np.ptp(gates, axis=1) < 1e-5).all()
    assert (gates > 0).all() and (gates < 1).all() and np.ptp(gates) > 0.01


def test_without_a_ratio_nothing_is_weighed():
    signal = keras.Input((None, 8))
    assert squeeze_excitation(signal, None) is signal


def test_recordings_are_scaled_one_by_one_and_flat_ones_come_to_zero():
    x = np.array([[[1, 2], [3, 5]], [[-400, 0], [0, 400]], [[7, 7], [7, 7]]], np.float32)
    expected = [[[0, 0.25], [0.5, 1]], [[0, 0.5], [0.5, 1]], [[0, 0], [0, 0]]]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(UnitRange()(x)), expected)


@pytest.mark.parametrize(("filters", "stride", "shape"), [(8, 1, (41, 8)), (16, 1, (41, 16)), (16, 2, (21, 16))])
def test_residual_block_shapes(filters, stride, shape):
    signal = keras.Input((None, 8))
    block = keras.Model(signal, residual_block(signal, filters, 5, stride, 4, 0.2))
    assert block.predict_on_batch(np.zeros((2, 41, 8), np.float32)).shape == (2, *shape)
    taps = [layer.kernel_size[0] for layer in block.layers if isinstance(layer, keras.layers.Conv1D)]
    assert sorted(taps) == ([5, 5] if (filters, stride) == (8, 1) else [1, 5, 5])


def test_the_shortcut_of_a_strided_block_takes_every_second_sample():
    signal = keras.Input((None, 4))
    block = keras.Model(signal, residual_block(signal, 8, 3, 2, 4, 0.0))
    (convolution,) = (layer for layer in block.layers if getattr(layer, "kernel_size", ()) == (1,))
    shortcut = keras.Model(signal, convolution.output)
    x = np.random.default_rng(0).normal(size=(2, 41, 4)).astype(np.float32)
    expected = x[:, ::2] @ keras.ops.convert_to_numpy(convolution.kernel)[0]
    np.testing.assert_allclose(shortcut.predict_on_batch(x), expected, rtol=1e-4, atol=1e-5)


def silent(block):
    """A network whose convolutions answer 0."""
    for layer in block.layers:
        if isinstance(layer, keras.layers.Conv1D):
            layer.set_weights([np.zeros_like(values) for values in layer.get_weights()])
    return block


X = np.random.default_rng(0).normal(size=(2, 40, 8)).astype(np.float32)
TAPS = ((8, 3), (8, 3)), ((4, 1), (4, 3), (8, 1))


@pytest.mark.parametrize(
    ("activation", "expected"), [("relu", np.maximum(X, 0)), ("mish", X * np.tanh(np.logaddexp(0, X)))]
)
def test_a_residual_block_that_adds_nothing_activates(activation, expected):
    signal = keras.Input((None, 8))
    block = silent(keras.Model(signal, residual_block(signal, 8, 5, 1, 4, 0.0, activation)))
    np.testing.assert_allclose(block(X), expected, atol=1e-6)


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize("begins", [False, True])
def test_a_preactivated_block_that_adds_nothing_leaves_its_input(taps, begins):
    """But the first of a stage, whose way parts after the activation; fresh batch normalisation divides by 1.0005."""
    signal = keras.Input((None, 8))
    block = silent(keras.Model(signal, preactivated_block(signal, taps, 1, 4, begins)))
    np.testing.assert_allclose(block(X), np.maximum(X, 0) if begins else X, rtol=1e-3)


@pytest.mark.parametrize("taps", TAPS)
def test_a_preactivated_block_halves_on_both_ways(taps):
    signal = keras.Input((None, 6))
    block = keras.Model(signal, preactivated_block(signal, taps, 2, None, True))
    assert block.output_shape == (None, None, 8) and block(X[:, :39, :6]).shape == (2, 20, 8)
    strides = {layer.kernel_size[0] for layer in block.layers if getattr(layer, "strides", 1) == (2,) and
               isinstance(layer, keras.layers.Conv1D)}  # fmt: skip
    assert strides == {3}


NARROW = """
from ecg.runtime.keras_startup import start_keras
start_keras()
import keras, numpy as np
from ecg.training.losses import FocalLoss
from ecg.models.network_settings import NetworkSettings
network = NetworkSettings(width=8).build(12, None, 22)
network.compile("adam", FocalLoss(), jit_compile=False)
for _ in range(3):
    network.train_on_batch(np.ones((29, 2000, 12)), np.ones((29, 22)), np.ones((29, 22)))
print("trained")
"""


@pytest.mark.slow
def test_a_narrow_network_trains():
    """In a process of its own: where memory is written beyond its end, that process ends."""
    done = subprocess.run([sys.executable, "-c", NARROW], cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert done.stdout.strip() == "trained", done.stderr
