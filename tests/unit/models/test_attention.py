import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
from helpers import predict_in_both_precisions
from numpy.lib.stride_tricks import sliding_window_view

from ecg.models.network_settings import LOGITS, AttentionSettings

SMALL = AttentionSettings(width=8, blocks=2, heads=2, hidden=8)


def count_by_hand(width, classes, attention):
    """Number of weights, from the sizes of the paper; batch normalisation has four for each filter."""
    normalisation = 4 * width
    first = 15 * 12 * width + normalisation
    block = 2 * (9 * width * width + normalisation) + width * width
    projections = 4 * (width * width + width)  # query, key, value and output
    logits = (width + 12) * classes + classes
    second_head = classes * width + width + normalisation + width * classes + classes
    return first + 5 * block + projections * attention + logits + second_head


@pytest.mark.parametrize(("attention", "parameters"), [(True, 6_568_044), (False, 6_304_876)])
def test_number_of_parameters(attention, parameters):
    network = AttentionSettings(attention=attention).build(12, 8192, 26)
    assert network.count_params() == parameters == count_by_hand(256, 26, attention)
    assert network.input_shape == (None, 8192, 12) and network.output_shape == (None, 26)


def test_blocks_and_strides_are_those_of_the_paper():
    layers = AttentionSettings().build(12, 8192, 26).layers
    convolutions = [layer for layer in layers if isinstance(layer, keras.layers.Conv1D)]
    taps = [(layer.kernel_size[0], layer.filters, layer.strides[0]) for layer in convolutions]
    assert [entry for entry in taps if entry[0] > 1] == [(15, 256, 2), *[(9, 256, 2), (9, 256, 1)] * 5]
    assert [entry for entry in taps if entry[0] == 1] == [(1, 256, 1)] * 5
    assert not any(layer.use_bias for layer in convolutions)
    (attention,) = (layer for layer in layers if isinstance(layer, keras.layers.MultiHeadAttention))
    assert (attention.num_heads, attention.key_dim, attention.output.shape) == (8, 32, (None, 128, 256))
    assert [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)] == [0.5]


def test_a_width_that_the_heads_do_not_divide_is_built_too():
    assert AttentionSettings(width=4, blocks=1).build(12, 64, 3).output_shape == (None, 3)


def convolve(x, kernel, stride=1):
    """Convolve (T, C) with a kernel (taps, C, F), padded as Keras does."""
    taps, steps = len(kernel), -(-len(x) // stride)
    padding = max((steps - 1) * stride + taps - len(x), 0)
    padded = np.pad(x, ((padding // 2, padding - padding // 2), (0, 0)))
    return np.einsum("tck,kcf->tf", sliding_window_view(padded, taps, axis=0)[::stride], kernel)


def predict_by_hand(weights, signal, settings):
    """The network in plain numpy, in double precision, of one signal (T, 12); returns logits and probabilities.

    The weights are taken in the order of the paper's layers.
    """
    take = iter(weights).__next__

    def normalise(x):
        gamma, beta, mean, variance = (take() for _ in range(4))
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    def leaky(x):
        return np.where(x > 0, x, x / 100)

    x = leaky(normalise(convolve(signal, take(), 2)))
    for _ in range(settings.blocks):
        shortcut = np.array([x[step : step + 2].mean(axis=0) for step in range(0, len(x), 2)])
        x = leaky(normalise(convolve(x, take(), 2)))
        x = leaky(normalise(convolve(x, take())))
        x = x + shortcut @ take()[0]
    if settings.attention:
        (query, query_bias), (key, key_bias), (value, value_bias) = ((take(), take()) for _ in range(3))
        out, out_bias = take(), take()
        heads = []
        for head in range(settings.heads):
            q, k, v = (x @ kernel[:, head] + bias[head] for kernel, bias in
                       ((query, query_bias), (key, key_bias), (value, value_bias)))  # fmt: skip
            scores = q @ k.T / np.sqrt(q.shape[1])
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(shares / shares.sum(axis=1, keepdims=True) @ v @ out[head])
        x = sum(heads) + out_bias
    joined = np.concatenate([x.max(axis=0), (signal != 0).any(axis=0)])
    logits = joined @ take() + take()
    hidden = logits @ take() + take()
    hidden = leaky(normalise(hidden))
    return logits, 1 / (1 + np.exp(-(hidden @ take() + take())))


def in_order(network, settings):
    """The weights in the order of the paper's layers: the shortcut's convolution comes after those of its block."""
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv1D)]
    normalisations = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    attention = [layer for layer in network.layers if isinstance(layer, keras.layers.MultiHeadAttention)]
    logits, hidden, outputs = (layer for layer in network.layers if isinstance(layer, keras.layers.Dense))
    main = [layer for layer in convolutions if layer.kernel_size[0] > 1]
    shortcuts = [layer for layer in convolutions if layer.kernel_size[0] == 1]
    ordered = [main[0], normalisations[0]]
    for block in range(settings.blocks):
        for index in (2 * block + 1, 2 * block + 2):
            ordered += [main[index], normalisations[index]]
        ordered.append(shortcuts[block])
    ordered += [*attention, logits, hidden, normalisations[-1], outputs]
    assert sum(len(layer.get_weights()) for layer in ordered) == len(network.get_weights())
    return [weights.astype(np.float64) for layer in ordered for weights in layer.get_weights()]


def drawn_network(settings, length=64, classes=3):
    """A network with random weights, those of batch normalisation, too."""
    rng, network = np.random.default_rng(0), settings.build(12, length, classes)
    network.set_weights([
        rng.normal(0, 0.3, weights.shape) if weights.ndim > 1 else rng.uniform(0.5, 1.5, weights.shape)
        for weights in network.get_weights()
    ])  # fmt: skip
    return network


@pytest.mark.parametrize("attention", [True, False])
def test_the_network_computes_what_the_paper_describes(attention):
    settings = replace(SMALL, attention=attention)
    network = drawn_network(settings)
    signals = np.random.default_rng(1).normal(size=(3, 64, 12)).astype(np.float32)
    signals[1, :, 2:] = 0
    signals[2, :40] = 0
    both = keras.Model(network.input, [network.get_layer(LOGITS).output, network.output])
    weights = in_order(network, settings)
    for signal, *got in zip(signals, *both.predict_on_batch(signals), strict=True):
        for values, expected in zip(got, predict_by_hand(weights, signal.astype(float), settings), strict=True):
            np.testing.assert_allclose(values, expected, rtol=2e-4, atol=2e-4)


def test_an_absent_lead_differs_from_one_that_is_nearly_0():
    """By the lead indicators alone: the signals themselves are the same to five digits."""
    network = drawn_network(SMALL)
    signals = np.random.default_rng(1).normal(size=(1, 64, 12)).astype(np.float32)
    signals[..., 5] = 0
    nearly = signals.copy()
    nearly[0, 7, 5] = 1e-8
    first_head = keras.Model(network.input, network.get_layer(LOGITS).output)
    without, present = (first_head(x)[0] for x in (signals, nearly))
    kernel = network.get_layer(LOGITS).kernel
    np.testing.assert_allclose(present - without, kernel[8 + 5], atol=1e-4)


def test_the_second_head_passes_no_gradient_back():
    keras.utils.set_random_seed(0)
    network = SMALL.build(12, 64, 3)
    before = {layer.name: layer.get_weights() for layer in network.layers if hasattr(layer, "kernel")}
    network.compile(keras.optimizers.SGD(1.0), "binary_crossentropy", jit_compile=False)
    signals = np.random.default_rng(1).normal(size=(4, 64, 12)).astype(np.float32)
    with warnings.catch_warnings(action="ignore"):  # of weights without a gradient
        network.train_on_batch(signals, np.eye(4, 3, dtype=np.float32))
    moved = [
        name for name, (kernel, *_) in before.items() if (network.get_layer(name).get_weights()[0] != kernel).any()
    ]
    names = list(before)
    assert moved == names[names.index(LOGITS) + 1 :] and len(moved) == 2


def test_without_a_second_head_the_logits_predict():
    network = replace(SMALL, second_head=False).build(12, 64, 3)
    signals = np.random.default_rng(1).normal(size=(4, 64, 12)).astype(np.float32)
    network.compile(keras.optimizers.SGD(1.0), "binary_crossentropy", jit_compile=False)
    before = network.get_weights()
    network.train_on_batch(signals, np.eye(4, 3, dtype=np.float32))
    assert all((a != b).any() for a, b in zip(before, network.get_weights(), strict=True) if a.ndim > 1)
    assert [type(layer).__name__ for layer in network.layers].count("Dense") == 1


def test_all_randomness_is_that_of_dropout_layers_of_the_network():
    """These are seeded for each epoch (ecg.training.trainer.seed_epoch)."""
    network = SMALL.build(12, 64, 3)
    seeded = [layer for layer in network.layers if isinstance(layer, keras.layers.Dropout)]
    states = {id(layer.seed_generator.state) for layer in seeded}
    assert len(states) == 1
    assert {id(v) for v in network.variables} - {id(v) for v in network.weights} == states


def test_half_precision_predicts_nearly_the_same():
    keras.utils.set_random_seed(0)
    exact, near = predict_in_both_precisions(SMALL, 12, 64, 3)
    assert near.dtype == np.float32
    np.testing.assert_allclose(near, exact, atol=0.05)
