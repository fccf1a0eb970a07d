import keras
import numpy as np
import pytest

from ecg.layers import mish, residual_block, squeeze_excitation


def test_mish_is_x_tanh_softplus():
    x = np.linspace(-100, 100, 4001)
    expected = x * np.tanh(np.logaddexp(0, x))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(mish(x.astype(np.float32))), expected, rtol=2e-6, atol=1e-6)


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
