"""Models are exported as their file's ending says, compared with Keras first, and refused where one graph cannot do."""

import re
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from export_helpers import EXPORTABLE, make_exported_bundle, make_member, with_member

import ecg.models.export_contract as export_contract
from ecg.__main__ import main
from ecg.data.batches import View, Window
from ecg.data.labels import TRAINED_CLASSES
from ecg.data.leads import LEAD_SETS
from ecg.data.resampling import BUTTERWORTH, Preprocessing, band_pass_taps, frequency_response
from ecg.models.bundle import save_bundle
from ecg.models.decision import EXPECTED_CREDIT, VOTE, Rule
from ecg.models.ensemble import Ensemble, Group
from ecg.models.export import FORMATS, PackageMissing, export_bundle
from ecg.models.export_contract import CHECKED_SECONDS, compare_with_keras, filter_taps
from ecg.models.onnx_export import load_onnx_file
from ecg.models.translation import ExportError


@pytest.fixture(scope="module")
def bundle():
    """A model of 2 leads with random weights that predicts some classes and not others."""
    return make_exported_bundle(2, fallback="NSR")


@pytest.fixture(scope="module")
def exported(bundle, tmp_path_factory):
    """The path of its ONNX file, which is alone in its folder, and the report."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    return path, export_bundle(bundle, path)


def test_an_exported_file_was_compared_with_keras(exported):
    path, report = exported
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    assert report.recordings == len(CHECKED_SECONDS) and 0 < report.difference < 1e-5


def test_networks_of_an_ensemble_are_averaged(bundle, tmp_path):
    (member,) = bundle.ensemble.general.members
    second = make_member(member.settings, LEAD_SETS[2], 1, len(TRAINED_CLASSES))
    ensemble = Ensemble(Group(TRAINED_CLASSES, (member, second)))
    apprentice = replace(bundle, ensemble=ensemble, rule=replace(bundle.rule, decision=EXPECTED_CREDIT))
    assert export_bundle(apprentice, tmp_path / "model.onnx").difference < 1e-5
    outputs = onnxruntime.InferenceSession(tmp_path / "model.onnx").get_outputs()
    assert [output.shape for output in outputs] == [["batch", 22], ["batch", 2, 22]]


def refused_bundles(bundle):
    """Models that cannot be exported, by what the message says."""
    general = bundle.ensemble.general
    (member,) = general.members
    gate = Group((), (replace(member, source=member.settings.build(2, None, 1)),))
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


def test_a_file_that_differs_from_keras_is_not_kept(bundle, tmp_path, monkeypatch):
    """The file that was there stays, whether probabilities or decisions differ."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    monkeypatch.setattr(export_contract, "TOLERANCE", 1e-12)
    with pytest.raises(
        ExportError, match=r"differ from those of Keras by up to \d\.\de-0\d, and 0 decisions; expected 1e-12 at"
    ):
        export_bundle(bundle, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"] and path.read_bytes() == b"before"


def test_a_file_of_other_weights_decides_differently(bundle, exported):
    member = make_member(EXPORTABLE["cai2021"], LEAD_SETS[2], 7, len(TRAINED_CLASSES))
    with pytest.raises(ExportError, match=r"by up to \S+, and [1-9]\d* decisions; expected 1e-05 at most, and 0"):
        compare_with_keras(with_member(bundle, source=member.source), load_onnx_file(exported[0]))


@pytest.mark.parametrize(
    ("ending", "package", "extra"),
    [(".onnx", "onnx", "onnx"), (".onnx", "onnxruntime", "onnx"), (".tflite", "ai_edge_litert", "litert")],
)
def test_a_missing_package_is_named(ending, package, extra, bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PackageMissing, match=rf"^{package} is missing: pip install 'reduced-lead-ecg\[{extra}\]'$"):
        export_bundle(bundle, tmp_path / f"model{ending}")


@pytest.mark.parametrize("name", ["model", "model.onnx.txt", ".onnx"])
def test_another_ending_is_refused(name, bundle, tmp_path):
    with pytest.raises(ExportError, match=r": expected a file that ends with \.onnx or \.tflite$"):
        export_bundle(bundle, tmp_path / name)
    assert [*FORMATS] == [".onnx", ".tflite"] and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("rate", [250, 257])
def test_the_taps_of_a_contract_have_the_response_of_the_filter(rate):
    """Without a filter they do nothing, but at half the sampling frequency, where a signal has no phase."""
    for band in ((0.5, 45.0), None):
        preparation = Preprocessing(rate, band)
        taps, length = filter_taps(preparation), 3000
        padded = np.zeros(length)
        padded[: len(taps)] = taps
        response = np.fft.rfft(np.roll(padded, -(len(taps) // 2)))
        np.testing.assert_allclose(response[:-1], frequency_response(length, preparation)[:-1], atol=1e-6)
    assert len(filter_taps(Preprocessing(500, (1.0, 47.0), kind=BUTTERWORTH))) == 0
    assert len(band_pass_taps(rate)) == len(taps)


@pytest.fixture(scope="module")
def model_folder(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_bundle(bundle, folder)
    return folder


def test_the_command_writes_the_same_file_each_time(model_folder, exported, tmp_path, capsys):
    path = tmp_path / "other name.ONNX"
    main(["export", str(model_folder), "--leads", "2", "--output", str(path)])
    printed = capsys.readouterr().out
    assert re.fullmatch(rf"{re.escape(str(path))}: 2 leads; differs from Keras by \S+ at most, and in no decision, "
                        r"on 6 synthetic recordings\n", printed)  # fmt: skip
    assert path.read_bytes() == exported[0].read_bytes()


def test_the_command_reports_errors_in_one_line(model_folder, tmp_path):
    for arguments, message in (
        (["--leads", "4"], "no model for 4 leads, 4_leads.json is missing"),
        (["--leads", "2", "--output", str(tmp_path / "nowhere" / "model.onnx")], "No such file or directory"),
        (["--leads", "2", "--output", str(tmp_path / "model.pb")], "model.pb: expected a file that ends with .onnx or"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["export", str(model_folder), *arguments])
        assert message in ended.value.code and "\n" not in ended.value.code
