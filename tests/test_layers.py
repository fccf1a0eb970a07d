import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from ecg.layers import mish, residual_block, squeeze_excitation


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
    (convolution,) = (each for each in block.layers if getattr(each, "kernel_size", ()) == (1,))
    shortcut = keras.Model(signal, convolution.output)
    x = np.random.default_rng(0).normal(size=(2, 41, 4)).astype(np.float32)
    expected = x[:, ::2] @ keras.ops.convert_to_numpy(convolution.kernel)[0]
    np.testing.assert_allclose(shortcut.predict_on_batch(x), expected, rtol=1e-4, atol=1e-5)


NARROW = """
from ecg.startup import start_keras
start_keras()
import keras, numpy as np
from ecg.losses import FocalLoss
from ecg.networks import NetworkSettings, build_network
network = build_network(NetworkSettings(width=8), 12, 22)
network.compile("adam", FocalLoss(), jit_compile=False)
for _ in range(3):
    network.train_on_batch(np.ones((29, 2000, 12)), np.ones((29, 22)), np.ones((29, 22)))
print("trained")
"""


@pytest.mark.slow
def test_a_narrow_network_trains():
    """In a process of its own: where memory is written beyond its end, that process ends."""
    done = subprocess.run([sys.executable, "-c", NARROW], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.stdout.strip() == "trained", done.stderr
