import keras
import numpy as np
import pytest

from ecg.data.leads import LEAD_SETS
from ecg.models.layers import mish
from ecg.models.network_settings import NetworkSettings

PARAMETERS = {12: 1_875_346, 6: 1_872_274, 4: 1_871_250, 3: 1_870_738, 2: 1_870_226}


@pytest.mark.parametrize("leads", LEAD_SETS)
def test_the_five_networks_differ_by_the_input_alone(leads):
    network = NetworkSettings().build(leads, None, 22)
    assert network.count_params() == PARAMETERS[leads]
    assert network.input_shape == (None, None, leads) and network.output_shape == (None, 22)


def test_blocks_and_strides_are_the_methods():
    layers = NetworkSettings().build(12, None, 22).layers
    convolutions = [layer for layer in layers if isinstance(layer, keras.layers.Conv1D)]
    taps = [(layer.kernel_size[0], layer.filters, layer.strides[0]) for layer in convolutions]
    assert taps[0] == (16, 32, 2)
    main = [entry for entry in taps[1:] if entry[0] > 1]
    expected = []
    for kernel, filters, stride in ((11, 32, 1), (9, 64, 2), (7, 128, 2), (5, 256, 2)):
        expected += [(kernel, filters, stride)] + [(kernel, filters, 1)] * 3
    assert main == expected
    assert sum(entry[0] == 1 for entry in taps[1:]) == 3
    assert sum(isinstance(layer, keras.layers.Dropout) and layer.rate == 0.2 for layer in layers) == 8


def test_the_prediction_of_a_recording_does_not_depend_on_its_company(small_network):
    network = small_network.build(2, None, 5)
    batch = np.random.default_rng(0).normal(size=(7, 613, 2)).astype(np.float32)
    batched = network.predict_on_batch(batch)
    alone = np.concatenate([network.predict_on_batch(signal[np.newaxis]) for signal in batch])
    np.testing.assert_allclose(batched, alone, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 17, 2500])
def test_any_length_is_predicted(small_network, length):
    answer = small_network.build(3, None, 5).predict_on_batch(np.ones((1, length, 3), np.float32))
    assert answer.shape == (1, 5) and (answer > 0).all() and (answer < 1).all()


@pytest.mark.parametrize(
    ("without", "parameters"), [({"activation": "relu"}, 1_875_346), ({"squeeze_ratio": None}, 1_852_566)]
)
def test_parts_of_a_system_can_be_switched_off(without, parameters):
    settings = NetworkSettings(**without)
    network = settings.build(12, None, 22)
    assert network.count_params() == parameters
    kinds = [type(layer).__name__ for layer in network.layers]
    gates = 0 if "squeeze_ratio" in without else 8
    assert kinds.count("Multiply") == gates and kinds.count("GlobalAveragePooling1D") == gates
    activations = {layer.activation for layer in network.layers if type(layer).__name__ == "Activation"}
    assert activations == ({keras.activations.relu} if "activation" in without else {mish})


def test_one_of_many_classes_is_predicted_if_set(small_network):
    network = small_network.build(2, 64, 5, "softmax")
    assert network.input_shape == (None, 64, 2)
    answer = keras.ops.convert_to_numpy(network(np.ones((3, 64, 2), np.float32)))
    np.testing.assert_allclose(answer.sum(axis=1), 1, rtol=1e-6)
