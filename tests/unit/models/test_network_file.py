import json
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
from export_helpers import make_member
from result_helpers import make_bundle

from ecg import predict
from ecg.data.labels import TRAINED
from ecg.data.leads import LEAD_SETS
from ecg.models.bundle import load_bundle, save_bundle
from ecg.models.config import ModelError, hash_bytes, network_entry, read_network_entry
from ecg.models.ensemble import Member
from ecg.models.network_file import OPERATIONS, find_datasets, read_network_file, write_network_file
from ecg.models.network_settings import NetworkSettings
from ecg.models.numpy_network import NumpyNetwork
from ecg.runtime.files import to_json

SETTINGS = NetworkSettings(width=4, kernels=(5,), squeeze_ratio=2, hidden=8)
SPEC = read_network_entry(network_entry(Member(LEAD_SETS[2], SETTINGS, None), "0" * 64))


@pytest.fixture(scope="module")
def member():
    return make_member(SETTINGS, LEAD_SETS[2], n_classes=3)


@pytest.fixture
def path(member, tmp_path):
    write_network_file(member, tmp_path / "network.weights.h5")
    return tmp_path / "network.weights.h5"


def test_a_network_comes_back_for_numpy_and_for_keras(member, path):
    read = read_network_file(path.read_bytes(), SPEC, 3)
    assert isinstance(read.source, NumpyNetwork) and (read.leads, read.settings) == (LEAD_SETS[2], SETTINGS)
    signal = np.random.default_rng(0).normal(size=(700, 2)).astype(np.float32)
    expected = member.predict(signal, np.zeros(5))
    np.testing.assert_array_equal(read.predict(signal, np.zeros(5)), expected)
    for weights, expected_weights in zip(read.network.get_weights(), member.network.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected_weights)


def test_keras_loads_the_same_file(member, path):
    network = SETTINGS.build(2, None, 3)
    network.load_weights(path)
    for weights, expected in zip(network.get_weights(), member.network.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)


def test_a_file_of_an_earlier_version_has_weights_only(member, path):
    with h5py.File(path, "r+") as file:
        del file[OPERATIONS]
    read = read_network_file(path.read_bytes(), SPEC, 3)
    assert not isinstance(read.source, NumpyNetwork)
    signal = np.random.default_rng(0).normal(size=(700, 2)).astype(np.float32)
    np.testing.assert_array_equal(read.predict(signal, np.zeros(5)), member.predict(signal, np.zeros(5)))


def change_content(path, change):
    with h5py.File(path, "r+") as file:
        content = json.loads(file[OPERATIONS][()])
        change(content)
        del file[OPERATIONS]
        file[OPERATIONS] = json.dumps(content)


def renew_checksums(path):
    """Describe a changed file of weights in the JSON file of its model."""
    description = path.with_name("2_leads.json")
    content = json.loads(description.read_text())
    content["groups"]["general"]["members"][0]["weights"] = hash_bytes(path.read_bytes())
    del content["digest"]
    content["digest"] = hash_bytes(to_json(content, sort_keys=True, allow_nan=False).encode())
    description.write_text(to_json(content))


@pytest.mark.parametrize(("change", "error"), [
    (lambda content: content["network"]["settings"].update(width=8), ValueError),
    (lambda content: content["network"].update(leads=["II", "I"]), ValueError),
    (lambda content: content.update(n_outputs=4), ValueError),
    (lambda content: content["operations"][0].update(kind="eval"), ValueError),
    (lambda content: content["operations"][3].update(inputs=[99]), ValueError),
    (lambda content: content["operations"][0]["options"].pop("strides"), KeyError),
    (lambda content: content["operations"][0]["options"].update(strides=[0]), ZeroDivisionError),
    (lambda content: content["operations"][0]["weights"].update(kernel=-1), ValueError),
    (lambda content: content["operations"].pop(), (ValueError, KeyError)),
    (lambda content: content.update(n_inputs=2), (ValueError, IndexError, TypeError)),
    (lambda content: content["weights"].append("layers"), ValueError),
    (lambda content: content["weights"].append("no/such/dataset"), KeyError),
    (lambda content: content.pop("operations"), KeyError),
])  # fmt: skip
def test_operations_of_another_network_are_refused(change, error, path):
    change_content(path, change)
    with pytest.raises(error):
        read_network_file(path.read_bytes(), SPEC, 3)


def test_settings_that_were_added_later_have_their_defaults(member, path):
    """A file names the settings that its version had."""
    change_content(path, lambda content: content["network"]["settings"].pop("first_kernel"))
    assert read_network_file(path.read_bytes(), SPEC, 3).settings == SETTINGS


def test_arrays_are_found_by_their_content(tmp_path):
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(6, dtype=np.float32), np.zeros(2, np.float32)]
    with h5py.File(tmp_path / "file.h5", "w") as file:
        for number, values in enumerate(arrays):
            file[f"group {number}/values"] = values
        assert find_datasets(file, arrays[::-1]) == [f"group {number}/values" for number in (2, 1, 0)]
        with pytest.raises(LookupError, match="the file lacks weights of the network"):
            find_datasets(file, [np.ones(2, np.float32)])


def test_weights_that_claim_more_memory_than_the_file_are_refused(path):
    """Empty chunks of a dataset take no room in a file."""
    with h5py.File(path, "r+") as file:
        file.create_dataset("large", (10**9,), np.float32, chunks=(10**6,))
    change_content(path, lambda content: content["weights"].append("large"))
    with pytest.raises(ValueError, match="the weights are larger than the file"):
        read_network_file(path.read_bytes(), SPEC, 3)


@pytest.mark.parametrize("change", [
    lambda content: content["operations"][0]["options"].update(strides=[0]),
    lambda content: content["operations"][0]["options"].pop("padding"),
    lambda content: content["operations"][0].update(kind="of a later version"),
])  # fmt: skip
def test_a_model_with_such_a_file_is_refused_by_its_name(change, tmp_path):
    network = SETTINGS.build(2, None, len(TRAINED))
    save_bundle(make_bundle(LEAD_SETS[2], SETTINGS, np.full(26, 0.5), network, "NSR"), tmp_path)
    change_content(path := tmp_path / "2_leads.weights.h5", change)
    renew_checksums(path)
    with pytest.raises(ModelError, match="2_leads.weights.h5: not the weights of the network"):
        load_bundle(tmp_path, LEAD_SETS[2])


def test_a_model_of_an_earlier_version_predicts_the_same(tmp_path):
    network = SETTINGS.build(2, None, len(TRAINED))
    save_bundle(make_bundle(LEAD_SETS[2], SETTINGS, np.full(26, 0.5), network, "NSR"), tmp_path)
    signal = np.random.default_rng(0).normal(size=(5000, 2))
    expected = predict(load_bundle(tmp_path, LEAD_SETS[2]), signal, leads=2, frequency=500)
    with h5py.File(path := tmp_path / "2_leads.weights.h5", "r+") as file:
        del file[OPERATIONS]
    renew_checksums(path)
    predicted = predict(load_bundle(tmp_path, LEAD_SETS[2]), signal, leads=2, frequency=500)
    np.testing.assert_array_equal(predicted.probabilities, expected.probabilities)


def test_a_member_can_be_sent_to_another_process_before_and_after_a_prediction(path):
    member = read_network_file(path.read_bytes(), SPEC, 3)
    signal, person = np.ones((500, 2), np.float32), np.zeros(5)
    expected = member.predict(signal, person)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(member.source)).predict(signal[np.newaxis]), expected)


def test_a_saved_model_predicts_without_keras(tmp_path):
    network = SETTINGS.build(2, None, len(TRAINED))
    save_bundle(make_bundle(LEAD_SETS[2], SETTINGS, np.full(26, 0.5), network, "NSR"), tmp_path)
    code = """
import sys
import numpy as np
from ecg import load, predict, embed
model = load(sys.argv[1], 2)
signal = np.random.default_rng(0).normal(size=(5000, 2))
print(predict(model, signal, leads=2, frequency=500).probabilities.tobytes().hex())
embed(model, [signal], leads=2, frequency=500)
assert not {"keras", "tensorflow", "jax"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    signal = np.random.default_rng(0).normal(size=(5000, 2))
    here = predict(load_bundle(tmp_path, LEAD_SETS[2]), signal, leads=2, frequency=500)
    assert done.stdout.strip() == here.probabilities.tobytes().hex()
