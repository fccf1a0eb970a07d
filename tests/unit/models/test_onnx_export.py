"""Networks written as ONNX files predict what Keras predicts, and their metadata says what they need."""

import json
from dataclasses import asdict, replace

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from export_helpers import (
    EXPORTABLE,
    RECIPE_NETWORKS,
    SMALL,
    draw_inputs,
    make_exported_bundle,
    make_member,
    predict_with_keras,
)

from ecg.data.labels import SCORED, TRAINED_CLASSES
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.preprocessing import N_DEMOGRAPHICS
from ecg.data.resampling import Preprocessing, band_pass_taps
from ecg.models.decision import read_rule, write_rule
from ecg.models.ensemble import uses_demographics
from ecg.models.export import export_bundle
from ecg.models.network_settings import DCNetSettings
from ecg.models.onnx_export import build_onnx_model
from ecg.models.translation import ExportError
from ecg.systems.recipes import RECIPES


def start_session(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def predict_with_onnx(session, member, signals, demographics):
    inputs = {"signal": signals} | ({"demographics": demographics} if uses_demographics(member.network) else {})
    return session.run(["probabilities"], inputs)[0]


@pytest.mark.parametrize("name", EXPORTABLE)
def test_the_network_of_a_recipe_predicts_as_in_keras_at_any_length(name):
    leads = ("II",) if RECIPES[name].leads_used and RECIPES[name].leads_of(12) == ("II",) else LEADS
    member = make_member(EXPORTABLE[name], leads, output_activation=RECIPES[name].output_activation)
    model = build_onnx_model([member], len(leads), 5)
    onnx.checker.check_model(model, full_check=True)
    session = start_session(model)
    for batch, samples in ((3, 512), (1, 333), (2, 1000)):
        signals, demographics = draw_inputs(member, batch, samples)
        signals[0, :, 0] = 0  # an absent lead
        expected = predict_with_keras(member, signals, demographics)
        assert expected.shape == (batch, 5) and expected.std() > 0.01 and 0.001 < np.median(expected) < 0.999
        np.testing.assert_allclose(predict_with_onnx(session, member, signals, demographics), expected, atol=1e-5)


def test_every_recipe_has_its_network_among_these_but_the_deformable_one():
    assert len(EXPORTABLE) == len(RECIPE_NETWORKS) - 1 and len(EXPORTABLE) >= 10
    assert {type(settings) for settings in EXPORTABLE.values()} == SMALL.keys()


@pytest.mark.parametrize("count", [12, 4, 2])
def test_a_network_of_all_leads_gets_those_of_the_lead_set_at_their_places(count):
    member = make_member(EXPORTABLE["nejedly2021"], LEAD_SETS[count])
    session = start_session(build_onnx_model([member], count, 5))
    signals, demographics = draw_inputs(member, 2, 400)
    np.testing.assert_allclose(predict_with_onnx(session, member, signals, demographics),
                               predict_with_keras(member, signals, demographics), atol=1e-5)  # fmt: skip


def test_a_constant_recording_is_scaled_to_zero():
    member = make_member(EXPORTABLE["se_resnet_rhythm"], ("II",), output_activation="softmax")
    signals, demographics = np.full((1, 400, 1), 0.7, np.float32), np.zeros((1, N_DEMOGRAPHICS), np.float32)
    predicted = predict_with_onnx(start_session(build_onnx_model([member], 1, 5)), member, signals, demographics)
    np.testing.assert_allclose(predicted, predict_with_keras(member, signals, demographics), atol=1e-5)


def test_networks_are_averaged():
    members = [make_member(EXPORTABLE["cai2021"], ("I", "II"), seed) for seed in range(3)]
    signals, demographics = draw_inputs(members[0], 2, 300)
    expected = [predict_with_keras(member, signals, demographics) for member in members]
    assert np.ptp(expected, axis=0).max() > 1e-3
    predicted = predict_with_onnx(start_session(build_onnx_model(members, 2, 5)), members[0], signals, demographics)
    np.testing.assert_allclose(predicted, np.mean(expected, axis=0), atol=1e-5)


def count_operators(member):
    model = build_onnx_model([member], len(member.leads), 5)
    return {
        name: sum(node.op_type == name for node in model.graph.node) for name in ("BatchNormalization", "Mul", "Add")
    }


def test_batch_normalisation_after_a_convolution_is_folded_into_its_weights():
    member = make_member(replace(EXPORTABLE["cai2021"], activation="relu", squeeze_ratio=None), LEADS)
    blocks = sum(isinstance(layer, keras.layers.Add) for layer in member.network.layers)
    normalisations = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in member.network.layers)
    assert normalisations > 2 * blocks
    assert count_operators(member) == {"BatchNormalization": 0, "Mul": 0, "Add": blocks}


def test_batch_normalisation_that_another_layer_passes_by_stays():
    member = make_member(replace(EXPORTABLE["se_resnet_rhythm"], depth=18, squeeze=False), ("II",))
    layers = {id(layer.output): layer for layer in member.network.layers}
    kept = [layer for layer in member.network.layers if isinstance(layer, keras.layers.BatchNormalization)
            and not isinstance(layers[id(layer.input)], keras.layers.Conv1D)]  # fmt: skip
    assert count_operators(member)["Mul"] >= len(kept) > 0


def test_a_deformable_network_is_refused():
    member = make_member(replace(RECIPES["xie2022"].network, **SMALL[DCNetSettings]), LEADS)
    with pytest.raises(ExportError, match="a DeformableConv2D, which cannot be written as ONNX operators"):
        build_onnx_model([member], 12, 5)


def test_the_metadata_is_complete(tmp_path):
    bundle = make_exported_bundle(2, fallback="NSR")
    export_bundle(bundle, tmp_path / "model.onnx")
    metadata = onnxruntime.InferenceSession(tmp_path / "model.onnx").get_modelmeta()
    contract = json.loads(metadata.custom_metadata_map["ecg"])
    assert metadata.producer_name == "reduced-lead-ecg"
    assert contract["preprocessing"] == json.loads(json.dumps(asdict(Preprocessing())))
    assert (contract["leads"], contract["unit"], contract["demographics"]) == (["I", "II"], "mV", [])
    diagnoses = {diagnosis.abbreviation: diagnosis for diagnosis in SCORED}
    assert [entry["abbreviation"] for entry in contract["classes"]] == list(TRAINED_CLASSES)
    assert all(tuple(entry["codes"]) == diagnoses[entry["abbreviation"]].codes for entry in contract["classes"])
    assert contract["rule"] == json.loads(json.dumps(write_rule(bundle.rule)))
    assert read_rule(contract["rule"]).calibration == bundle.rule.calibration
    assert contract["filter_taps"] == band_pass_taps().tolist()
    assert (contract["resolution"], contract["largest"]) == (0.001, 32.767)
    assert {"reduced-lead-ecg", "keras", "numpy", "scipy", "onnx", "onnxruntime"} <= contract["versions"].keys()


def test_demographics_are_described_where_a_network_sees_them(tmp_path):
    bundle = make_exported_bundle(2, EXPORTABLE["zhao2022"])
    export_bundle(bundle, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [given.shape for given in session.get_inputs()] == [["batch", "samples", 2], ["batch", N_DEMOGRAPHICS]]
    contract = json.loads(session.get_modelmeta().custom_metadata_map["ecg"])
    assert len(contract["demographics"]) == N_DEMOGRAPHICS
