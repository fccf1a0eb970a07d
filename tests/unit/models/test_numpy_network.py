import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import keras
import numpy as np
import pytest
from export_helpers import SMALL, draw_inputs, make_member, predict_with_keras, randomise
from joblib import cpu_count
from threadpoolctl import threadpool_limits

from ecg.data.leads import LEAD_SETS
from ecg.models.layers import ACTIVATIONS
from ecg.models.network_settings import ACTIVATION_NAMES, NetworkSettings
from ecg.models.numpy_network import NumpyNetwork, Operation, Threads, use_one_thread_per_network
from ecg.models.numpy_translation import translate_for_numpy
from ecg.models.translation import ExportError
from ecg.systems.recipes import RECIPES

NETWORKS = {settings.network: name for name, settings in reversed(RECIPES.items())}
NETWORKS |= {settings.gate.network: f"gate of {name}" for name, settings in RECIPES.items() if settings.gate}
ALL_NETWORKS = {name: replace(network, **SMALL[type(network)]) for network, name in NETWORKS.items()}


def predict(member, signals, demographics):
    windows = np.concatenate([member.split_windows(signal) for signal in signals])
    return member.numpy_network.predict(*([windows, demographics][: member.numpy_network.n_inputs]))


@pytest.mark.parametrize("leads", [12, 3])
@pytest.mark.parametrize("name", ALL_NETWORKS)
def test_every_network_of_the_recipes_predicts_as_keras_does(name, leads):
    member = make_member(ALL_NETWORKS[name], LEAD_SETS[leads])
    spreads = []
    for samples in (64, 257, 1030):
        inputs = draw_inputs(member, 3, samples)
        expected = predict_with_keras(member, *inputs)
        np.testing.assert_allclose(predict(member, *inputs), expected, atol=2e-6)
        spreads.append(np.ptp(expected, axis=0).max())
    assert max(spreads) > 1e-3  # recordings differ


@pytest.mark.parametrize("name", ["cai2021", "se_resnet_rhythm"])
def test_a_prediction_depends_neither_on_threads_nor_on_other_lengths(name):
    member = make_member(ALL_NETWORKS[name], LEAD_SETS[12])
    signals = [draw_inputs(member, 1, samples)[0] for samples in (500, 2500, 311)]
    predicted = [member.numpy_network.predict(signal) for signal in signals]
    with threadpool_limits(1):
        alone = [translate_for_numpy(member.network).predict(signal) for signal in signals[::-1]][::-1]
    for values, expected in zip(predicted, alone, strict=True):
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("given", ["1", "2"])
def test_a_process_that_predicts_has_one_thread_for_a_network_and_as_many_networks_as_it_may(given):
    """The environment of a worker process limits its threads. The second call changes nothing."""
    code = """
from ecg.models.numpy_network import Threads, use_one_thread_per_network
from threadpoolctl import threadpool_info
for _ in range(2):
    use_one_thread_per_network()
    print(Threads.networks, {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
"""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | dict.fromkeys(names, given),
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == f"{min(int(given), cpu_count())} {{1}}\n" * 2


def test_numpy_without_a_library_of_matrix_products_that_is_known_is_used_as_it_is(monkeypatch):
    """Such as Accelerate on macOS."""
    monkeypatch.setattr("ecg.models.numpy_network.ThreadpoolController.info", lambda controller: [])
    monkeypatch.setattr("ecg.models.numpy_network.ThreadpoolController.limit", lambda controller, limits: None)
    monkeypatch.setattr(Threads, "networks", 1)
    use_one_thread_per_network()
    assert Threads.networks == cpu_count()


def test_threads_predict_at_the_same_time():
    network = translate_for_numpy(make_member(ALL_NETWORKS["cai2021"], LEAD_SETS[2]).network)
    signals = [np.full((1, 700, 2), number, np.float32) for number in range(20)]
    expected = [network.predict(signal) for signal in signals]
    with ThreadPoolExecutor(8) as executor:
        predicted = list(executor.map(network.predict, signals))
    np.testing.assert_array_equal(predicted, expected)


LAYERS = {
    "strides and valid padding": [keras.layers.Conv1D(5, 4, 3, padding="valid", activation="relu")],
    "one tap with a stride": [keras.layers.Conv1D(3, 1, 2, padding="same")],
    "a dense layer along time": [keras.layers.Dense(4, activation="sigmoid"), keras.layers.BatchNormalization()],
    "a normalisation that stands alone": [
        keras.layers.Activation("relu"), keras.layers.BatchNormalization(scale=False), keras.layers.Dense(2)],
    "a normalisation without shift": [keras.layers.Conv1D(4, 3, padding="same"),
                                      keras.layers.BatchNormalization(center=False)],
    "mean pooling": [keras.layers.AveragePooling1D(3, 2, padding="same")],
    "mean pooling without padding": [keras.layers.AveragePooling1D(4, 3, padding="valid")],
    "pooling with overlap": [keras.layers.MaxPooling1D(3, 2, padding="same")],
    "pooling of one sample": [keras.layers.MaxPooling1D(1, 2)],
    "softmax": [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(6, activation="softmax")],
    "planes": [keras.layers.Reshape((-1, 3, 2)), keras.layers.Conv2D(4, (2, 3), (2, 1), padding="same"),
               keras.layers.MaxPooling2D((2, 2), padding="same")],
    "attention": [keras.layers.Dense(4)],
}  # fmt: skip


@pytest.mark.parametrize("samples", [8, 9, 10, 31])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_as_keras_does(name, samples):
    signal = keras.Input((None, 6))
    x = signal
    for layer in LAYERS[name]:
        x = type(layer).from_config(layer.get_config())(x)
    if name == "attention":
        x = keras.layers.MultiHeadAttention(2, 3, use_bias=False)(x, x)
    network = keras.Model(signal, x)
    randomise(network)
    signals = np.random.default_rng(samples).normal(0, 2, (2, samples, 6)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(network(signals, training=False))
    predicted = translate_for_numpy(network).predict(signals)
    assert predicted.shape == expected.shape and predicted.dtype == np.float32
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


def test_large_values_are_no_error():
    """Signals have up to 20 mV, and exponentials of large numbers overflow."""
    signal = keras.Input((None, 2))
    for name in ACTIVATION_NAMES:
        network = keras.Model(signal, keras.layers.Activation(ACTIVATIONS[name])(signal))
        values = np.array([[[-1e4, 1e4], [-90.0, 90.0], [-0.5, 20.5]]], np.float32)
        expected = keras.ops.convert_to_numpy(network(values, training=False))
        with np.errstate(all="raise", under="ignore"):
            np.testing.assert_allclose(translate_for_numpy(network).predict(values), expected, rtol=1e-6, atol=1e-30)


def test_names_of_activations_are_those_that_layers_know():
    assert set(ACTIVATION_NAMES) == set(ACTIVATIONS)


@pytest.mark.parametrize(("layer", "reason"), [
    (keras.layers.LSTM(3), "is a LSTM, which cannot be written as numpy operations"),
    (keras.layers.Conv1D(4, 3, dilation_rate=2), "has groups or dilated taps"),
    (keras.layers.Activation("gelu"), "has the activation gelu, which numpy does not know"),
    (keras.layers.Conv1D(4, 3, padding="causal"), "has channels_last and the padding causal"),
    (keras.layers.BatchNormalization(axis=1), "normalises the axis 1, expected the last"),
])  # fmt: skip
def test_what_cannot_be_translated_is_an_error_that_names_the_layer(layer, reason):
    signal = keras.Input((8, 4))
    with pytest.raises(ExportError, match=f"the layer {layer.name} {reason}"):
        translate_for_numpy(keras.Model(signal, layer(signal)))


@pytest.mark.parametrize(("operations", "reason"), [
    ((), "a network has no operations"),
    ((Operation("system", (0,)),), "unknown operation 'system'"),
    ((Operation("addition", (0, 1)),), r"the operation addition takes values \(0, 1\) of 1"),
    ((Operation("addition", ()),), r"the operation addition takes values \(\) of 1"),
    ((Operation("dense", (0,), {}, {"kernel": -1}),), "the operation dense lacks weights of 0"),
])  # fmt: skip
def test_a_network_that_cannot_be_computed_is_refused(operations, reason):
    with pytest.raises(ValueError, match=reason):
        NumpyNetwork(1, operations, [])


def test_memory_is_that_of_the_widest_part():
    """Values are released after their last use, as it takes 144 s at 250 Hz and 12 leads."""
    network = translate_for_numpy(NetworkSettings(width=8, hidden=8).build(12, None, 22))
    signal = np.zeros((1, 36_000, 12), np.float32)
    network.predict(signal)
    tracemalloc.start()
    try:
        network.predict(signal)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 22e6  # the unfolded first convolution takes 13.8 MB; all values together take more
