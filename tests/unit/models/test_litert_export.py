"""Models written as LiteRT files predict what Keras predicts, at any length, and the files say what they need."""

import json
import zipfile
from dataclasses import replace

import keras
import numpy as np
import pytest
from export_helpers import EXPORTABLE, SHALLOW, draw_inputs, make_exported_bundle, make_member, predict_with_keras

from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.preprocessing import N_DEMOGRAPHICS
from ecg.models.ensemble import uses_demographics
from ecg.models.export import export_bundle
from ecg.models.export_contract import describe_contract
from ecg.models.litert_export import LITERT_PACKAGES, build_litert_model, convert_to_litert, translate_for_litert
from ecg.models.onnx_export import ONNX_PACKAGES
from ecg.models.translation import ExportError

# Small networks with all layers that can be translated. The last one sees demographics.
TRANSLATED = (SHALLOW, replace(SHALLOW, activation="relu", squeeze_ratio=None),
              replace(EXPORTABLE["li2021"], stages=(1,)), replace(EXPORTABLE["zhao2022"], widths=(16, 32)))  # fmt: skip
# Networks that cannot be translated, and the kind of the first layer for which that holds.
WINDOWED = {"nejedly2021": "AveragePooling1D", "se_resnet_rhythm": "UnitRange", "xie2022-plain": "Permute"}
SIZES = ((1, 2500), (1, 333), (1, 7), (3, 1001), (1, 1), (2, 512), (1, 2501))  # batch and samples, one after another


@pytest.fixture(scope="module")
def members():
    """Networks of 2 leads."""
    return [make_member(settings, LEAD_SETS[2], seed) for seed, settings in enumerate(TRANSLATED)]


def predict_each(members, signals, demographics):
    """The probabilities of each network in Keras, (batch, M, 5)."""
    return np.stack([predict_with_keras(member, signals, demographics) for member in members], axis=1)


def count_layers(model, kind):
    return sum(isinstance(layer, kind) for layer in model.layers)


def test_the_translated_networks_predict_as_the_networks(members):
    model = build_litert_model(members, 2)
    for batch, samples in ((2, 333), (1, 7)):
        signals, demographics = draw_inputs(members[0], batch, samples)
        expected = predict_each(members, signals, demographics)
        assert expected.std() > 0.01 and np.ptp(expected, axis=1).max() > 1e-3
        predicted = model({"signal": signals, "demographics": demographics}, training=False)
        np.testing.assert_allclose(predicted["network_probabilities"], expected, atol=1e-5)
        np.testing.assert_allclose(predicted["probabilities"], expected.mean(axis=1), atol=1e-5)
    normalisations = sum(count_layers(member.network, keras.layers.BatchNormalization) for member in members)
    assert normalisations > 15 and count_layers(model, keras.layers.BatchNormalization) == 0


def test_a_batch_normalisation_that_another_layer_passes_by_stays():
    signal = keras.Input((None, 2))
    x = keras.layers.Conv1D(4, 5, padding="same")(signal)
    x = keras.layers.Add()([keras.layers.BatchNormalization()(x), x])
    network = keras.Model(signal, keras.layers.GlobalAveragePooling1D()(x))
    for weight in network.weights:
        weight.assign(np.random.default_rng(1).uniform(0.5, 2, weight.shape))
    plane = keras.Input((1, None, 2))
    translated = keras.Model(plane, translate_for_litert(network, [plane], "first_"))
    assert count_layers(translated, keras.layers.BatchNormalization) == 1
    signals = np.random.default_rng(0).normal(size=(2, 100, 2)).astype(np.float32)
    np.testing.assert_allclose(translated(signals[:, np.newaxis]), network(signals), atol=1e-5)


@pytest.mark.parametrize("name", WINDOWED)
def test_a_network_of_windows_is_refused_by_the_name_of_a_layer(name):
    leads = LEADS[1:2] if name == "se_resnet_rhythm" else LEADS
    with pytest.raises(ExportError, match=f"is a {WINDOWED[name]}, which cannot be written as LiteRT operators"):
        build_litert_model([make_member(EXPORTABLE[name], leads)], len(leads))


def test_another_backend_of_keras_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ExportError, match="but Keras runs on jax: set KERAS_BACKEND=tensorflow"):
        convert_to_litert(keras.Model())


def load_interpreter(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    return interpreter


@pytest.mark.slow
def test_a_file_predicts_as_keras_at_any_length_and_batch(members, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(convert_to_litert(build_litert_model(members, 2)))
    predict = load_interpreter(path).get_signature_runner()
    for batch, samples in SIZES:
        signals, demographics = draw_inputs(members[0], batch, samples)
        signals[0, :, 0] = 0  # an absent lead
        predicted = predict(signal=signals, demographics=demographics)
        expected = predict_each(members, signals, demographics)
        np.testing.assert_allclose(predicted["network_probabilities"], expected, atol=1e-5)
        np.testing.assert_allclose(predicted["probabilities"], expected.mean(axis=1), atol=1e-5)


@pytest.mark.slow
def test_an_exported_file_is_complete(tmp_path):
    """It was compared with Keras, has LiteRT's own operators only, and its inputs can be resized as on a telephone."""
    bundle, path = make_exported_bundle(2, SHALLOW, fallback="NSR"), tmp_path / "model.tflite"
    report = export_bundle(bundle, path)
    assert report.recordings == 6 and 0 < report.difference < 1e-5
    assert [file.name for file in tmp_path.iterdir()] == ["model.tflite"]
    description = zipfile.ZipFile(path).read("ecg.json").decode()
    assert description == describe_contract(bundle, LITERT_PACKAGES)
    onnx_description = json.loads(describe_contract(bundle, ONNX_PACKAGES))
    assert {"versions"} == {key for key, value in json.loads(description).items() if onnx_description[key] != value}
    interpreter = load_interpreter(path)
    names = {operator["op_name"] for operator in interpreter._get_ops_details()}
    assert {"CONV_2D", "MAX_POOL_2D"} <= names
    assert not {"SQUEEZE", "SHAPE"} & names and not [name for name in names if name.startswith("Flex")]
    (given,) = interpreter.get_input_details()
    assert given["shape_signature"].tolist() == [-1, -1, 2]
    signals, _ = draw_inputs(bundle.ensemble.general.members[0], 1, 1234)
    interpreter.resize_tensor_input(given["index"], signals.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], signals)
    interpreter.invoke()
    index = {output["shape_signature"].size: output["index"] for output in interpreter.get_output_details()}
    expected = predict_with_keras(bundle.ensemble.general.members[0], signals, None)
    np.testing.assert_allclose(interpreter.get_tensor(index[2]), expected, atol=1e-5)
    export_bundle(bundle, tmp_path / "again.tflite")
    assert (tmp_path / "again.tflite").read_bytes() == path.read_bytes()


def test_demographics_are_an_input_where_a_network_sees_them(members):
    for member in members[-2:]:
        model = build_litert_model([member], 2)
        assert sorted(model.input) == ["demographics"] * uses_demographics(member.network) + ["signal"]
    assert model.input["demographics"].shape == (None, N_DEMOGRAPHICS)
