"""Exported models predict what Keras predicts, say what they need, and are refused where they could not."""

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from result_helpers import make_bundle

import ecg.models.onnx_export as onnx_export
from ecg.__main__ import main
from ecg.data.batches import View, Window
from ecg.data.labels import SCORED, TRAINED_CLASSES, class_indices
from ecg.data.leads import LEAD_SETS, LEADS, lead_indices
from ecg.data.preprocessing import N_DEMOGRAPHICS
from ecg.data.records import find_records, read_record
from ecg.data.resampling import Preprocessing
from ecg.models.bundle import save_bundle
from ecg.models.dcnet import DCNetSettings
from ecg.models.decision import EXPECTED_CREDIT, VOTE, Rule, read_rule, write_rule
from ecg.models.ensemble import Ensemble, Group, Member, serves_all_lead_sets, uses_demographics
from ecg.models.onnx_export import OnnxMissing, build_onnx_model, compare_with_keras, describe_contract, export_bundle
from ecg.models.onnx_graph import ExportError
from ecg.models.resnets import AttentionSettings, LeadWeightedSettings, LiSettings, NetworkSettings, RhythmSettings
from ecg.systems.recipes import RECIPES

ROOT = Path(__file__).parents[3]
# Settings that make the networks of the recipes small. Their kinds of layers stay.
SMALL = {
    NetworkSettings: {"width": 4, "hidden": 8},
    LiSettings: {"stages": (1, 2), "width": 16},
    LeadWeightedSettings: {"widths": (16, 16, 32)},
    RhythmSettings: {"width": 4, "depth": 18},
    AttentionSettings: {"width": 8, "blocks": 2, "heads": 2, "hidden": 8},
    DCNetSettings: {"filters": (4, 8), "plain": 1},
}
RECIPE_NETWORKS = {settings.network: name for name, settings in reversed(RECIPES.items())}
EXPORTABLE = {name: replace(network, **SMALL[type(network)]) for network, name in RECIPE_NETWORKS.items()
              if not getattr(network, "deformable", False)}  # fmt: skip


def randomise(network, seed=0):
    """Move all weights of a network from their first values, those of batch normalisation too."""
    random = np.random.default_rng(seed)
    limits = {"moving_variance": (1, 3), "gamma": (0.4, 1.2), "moving_mean": (-0.5, 0.5), "beta": (-0.5, 0.5)}
    for weight in network.weights:
        name = weight.path.rsplit("/", 1)[-1]
        if name in limits:
            weight.assign(random.uniform(*limits[name], weight.shape))
        else:
            weight.assign_add(random.normal(0, 0.3 if name == "bias" else 0.02, weight.shape))


def make_member(settings, leads, seed=0, n_classes=5, output_activation="sigmoid"):
    """A member with random weights that sees recordings of any length."""
    keras.utils.set_random_seed(seed)
    member = Member.build(tuple(leads), settings, n_classes, output_activation)
    randomise(member.network, seed)
    return member


def start_session(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def predict_with_keras(member, signals, demographics):
    if serves_all_lead_sets(member.settings):
        placed = np.zeros((*signals.shape[:2], len(LEADS)), np.float32)
        placed[..., list(lead_indices(member.leads))] = signals
        signals = placed
    inputs = (signals, demographics) if uses_demographics(member.network) else signals
    outputs = member.network(inputs, training=False)
    return keras.ops.convert_to_numpy(outputs[0] if isinstance(outputs, list | tuple) else outputs)


def draw_inputs(member, batch, samples, seed=1):
    random = np.random.default_rng(seed)
    signals = random.normal(0, 0.5, (batch, samples, len(member.leads))).astype(np.float32)
    return signals, random.random((batch, N_DEMOGRAPHICS), np.float32)


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


@pytest.fixture(scope="module")
def bundle():
    """A model of 2 leads with random weights that predicts some classes and not others."""
    settings = EXPORTABLE["cai2021"]
    network = make_member(settings, LEAD_SETS[2], n_classes=len(TRAINED_CLASSES)).network
    return make_bundle(LEAD_SETS[2], settings, np.linspace(0.3, 0.7, 26), network, fallback="NSR")


@pytest.fixture(scope="module")
def exported(bundle, tmp_path_factory):
    """The path of its ONNX file, which is alone in its folder, and the report."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    return path, export_bundle(bundle, path)


def test_an_exported_file_was_compared_with_keras(exported):
    path, report = exported
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    assert report.recordings == len(onnx_export.CHECKED_SECONDS) and 0 < report.difference < 1e-5


def test_the_metadata_is_complete(bundle, exported):
    metadata = onnxruntime.InferenceSession(exported[0]).get_modelmeta()
    contract = json.loads(metadata.custom_metadata_map["ecg"])
    assert metadata.producer_name == "reduced-lead-ecg"
    assert contract["preprocessing"] == json.loads(json.dumps(asdict(Preprocessing())))
    assert (contract["leads"], contract["unit"], contract["demographics"]) == (["I", "II"], "mV", [])
    diagnoses = {diagnosis.abbreviation: diagnosis for diagnosis in SCORED}
    assert [entry["abbreviation"] for entry in contract["classes"]] == list(TRAINED_CLASSES)
    assert all(tuple(entry["codes"]) == diagnoses[entry["abbreviation"]].codes for entry in contract["classes"])
    assert contract["rule"] == json.loads(json.dumps(write_rule(bundle.rule)))
    assert read_rule(contract["rule"]).calibration == bundle.rule.calibration
    assert {"reduced-lead-ecg", "keras", "numpy", "scipy", "onnx", "onnxruntime"} <= contract["versions"].keys()


def test_demographics_are_described_where_a_network_sees_them(tmp_path):
    member = make_member(EXPORTABLE["zhao2022"], LEAD_SETS[2], n_classes=len(TRAINED_CLASSES))
    bundle = make_bundle(LEAD_SETS[2], member.settings, np.full(26, 0.5), member.network)
    assert len(describe_contract(bundle)["demographics"]) == N_DEMOGRAPHICS
    export_bundle(bundle, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [given.shape for given in session.get_inputs()] == [["batch", "samples", 2], ["batch", N_DEMOGRAPHICS]]


def with_member(bundle, **changes):
    """The bundle with one network, changed so."""
    (member,) = bundle.ensemble.general.members
    group = Group(TRAINED_CLASSES, (replace(member, **changes),))
    return replace(bundle, ensemble=Ensemble(group))


def refused_bundles(bundle):
    """Models that cannot be exported, by what the message says."""
    general = bundle.ensemble.general
    (member,) = general.members
    gate = Group((), (replace(member, network=member.settings.build(2, None, 1)),))
    vote = Rule(bundle.rule.thresholds, VOTE, member_thresholds=np.full((1, 26), 0.5))
    second = replace(member, view=View(Preprocessing(500)))
    return {
        "a gate chooses between two groups": replace(bundle, ensemble=Ensemble(general, general, gate)),
        "its networks vote": replace(bundle, rule=vote),
        "its networks see windows of 4096 samples": with_member(bundle, view=View(window=Window(4096))),
        "scaled within a window": with_member(bundle, view=View(window=Window(standardised=True))),
        "signals of different leads or preprocessing": replace(
            bundle, ensemble=Ensemble(Group(TRAINED_CLASSES, (member, second)))
        ),
    }


def test_a_model_that_one_graph_cannot_hold_is_refused(bundle, tmp_path):
    for reason, refused in refused_bundles(bundle).items():
        with pytest.raises(ExportError, match=reason):
            export_bundle(refused, tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]


@pytest.fixture(scope="module")
def apprentice(bundle, tmp_path_factory):
    """A model of two networks whose expected credit decides, and the path of its ONNX file."""
    (member,) = bundle.ensemble.general.members
    second = make_member(member.settings, LEAD_SETS[2], 1, len(TRAINED_CLASSES))
    ensemble = Ensemble(Group(TRAINED_CLASSES, (member, second)))
    apprentice = replace(bundle, ensemble=ensemble, rule=replace(bundle.rule, decision=EXPECTED_CREDIT))
    path = tmp_path_factory.mktemp("apprentice") / "model.onnx"
    assert export_bundle(apprentice, path).difference < 1e-5
    return apprentice, path


def test_the_rule_of_the_metadata_is_that_of_the_model(apprentice):
    bundle, path = apprentice
    metadata = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map["ecg"]
    rule, probabilities = read_rule(json.loads(metadata)["rule"]), np.random.default_rng(0).random((50, 22))
    assert rule.decision == EXPECTED_CREDIT
    np.testing.assert_array_equal(rule.decide(probabilities), bundle.rule.decide(probabilities))


def test_a_file_that_differs_from_keras_is_not_kept(bundle, tmp_path, monkeypatch):
    """The file that was there stays, whether probabilities or decisions differ."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    monkeypatch.setattr(onnx_export, "TOLERANCE", 1e-12)
    with pytest.raises(
        ExportError, match=r"differ from those of Keras by up to \d\.\de-0\d, and 0 decisions; expected 1e-12 at"
    ):
        export_bundle(bundle, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"] and path.read_bytes() == b"before"


def test_a_file_of_other_weights_decides_differently(bundle, exported):
    member = make_member(EXPORTABLE["cai2021"], LEAD_SETS[2], 7, len(TRAINED_CLASSES))
    with pytest.raises(ExportError, match=r"by up to \S+, and [1-9]\d* decisions; expected 1e-05 at most, and 0"):
        compare_with_keras(with_member(bundle, network=member.network), exported[0])


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(package, bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(OnnxMissing, match=rf"^{package} is missing: pip install 'reduced-lead-ecg\[onnx\]'$"):
        export_bundle(bundle, tmp_path / "model.onnx")


@pytest.fixture(scope="module")
def model_folder(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_bundle(bundle, folder)
    return folder


def test_the_command_writes_the_same_file_each_time(model_folder, exported, tmp_path, capsys):
    path = tmp_path / "other name.onnx"
    main(["export", str(model_folder), "--leads", "2", "--output", str(path)])
    printed = capsys.readouterr().out
    assert re.fullmatch(rf"{re.escape(str(path))}: 2 leads; differs from Keras by \S+ at most, and in no decision, "
                        r"on 6 synthetic recordings\n", printed)  # fmt: skip
    assert path.read_bytes() == exported[0].read_bytes()


def test_the_command_reports_errors_in_one_line(model_folder, tmp_path):
    for arguments, message in (
        (["--leads", "4"], "no model for 4 leads, 4_leads.json is missing"),
        (["--leads", "2", "--output", str(tmp_path / "nowhere" / "model.onnx")], "No such file or directory"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["export", str(model_folder), *arguments])
        assert message in ended.value.code and "\n" not in ended.value.code


def read_example(language):
    """The block of the page that shows how an exported model is used, in a language."""
    text = (ROOT / "docs" / "saved-models.md").read_text("utf-8")
    section = text[text.index("### An ONNX file") :]
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]


def run_example(model, record, folder):
    """Run the example of the page with a model and a recording: probabilities and outputs."""
    example = read_example("python")
    assert len(example.strip().splitlines()) <= 25
    assert example.count('"model.onnx"') == 1 and example.count('"test/HR00013"') == 1
    example = example.replace('"model.onnx"', repr(str(model))).replace('"test/HR00013"', repr(str(record)))
    example += "import sys\nassert not {'keras', 'tensorflow'} & set(sys.modules)\n"
    example += "np.savez('predicted.npz', probabilities=probabilities, outputs=outputs)\n"
    subprocess.run([sys.executable, "-c", example], cwd=folder, env={"PYTHONPATH": str(ROOT)}, check=True)
    predicted = np.load(folder / "predicted.npz")
    return predicted["probabilities"], predicted["outputs"]


def check_example(bundle, model, record, folder):
    """Check that the example predicts a recording as the model does, and return its probabilities."""
    (probabilities, outputs), expected = (
        run_example(model, record, folder),
        bundle.predict_recording(*read_record(record)),
    )
    np.testing.assert_allclose(probabilities, expected.probabilities[class_indices(TRAINED_CLASSES)], atol=1e-5)
    np.testing.assert_array_equal(outputs, expected.outputs)
    assert outputs.any() and not outputs.all()
    return probabilities


def test_the_example_of_the_page_predicts_as_the_model_without_keras(bundle, exported, synthetic_recordings, tmp_path):
    check_example(bundle, exported[0], find_records(synthetic_recordings)[0], tmp_path)


def test_the_example_pools_the_segments_of_a_long_recording_as_the_model(apprentice, write_record, headers, tmp_path):
    (bundle, model), (header, recording) = apprentice, read_record(headers[0])
    samples = round(150 * header.sampling_frequency)
    long = np.tile(recording, -(-samples // recording.shape[1]))[:, :samples]
    text = headers[0].read_text().replace(f" {recording.shape[1]} ", f" {samples} ", 1)
    record = write_record(text, long.astype(np.int16), header.name)
    probabilities = check_example(bundle, model, record, tmp_path)
    assert abs(bundle.predict_recording(header, recording).probabilities[class_indices(TRAINED_CLASSES)]
               - probabilities).max() > 1e-5  # fmt: skip
