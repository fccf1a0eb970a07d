"""Classes of a user's own, from a folder like LUDB to predictions, a review and another training."""

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import capture_log
from ludb_folder import write_ludb

from ecg.commands.review import review
from ecg.commands.settings import choose_class_table
from ecg.commands.train import train
from ecg.data.class_tables import ClassTable, parse_class_table
from ecg.data.labels import load_own_classes
from ecg.data.leads import LEADS
from ecg.data.records import find_records, read_record
from ecg.evaluation.outputs import save_outputs, score_outputs
from ecg.models.bundle import load_bundle
from ecg.models.export_contract import describe_contract
from ecg.models.network_settings import NetworkSettings
from ecg.models.saved_classes import find_model_classes
from ecg.systems.recipes import CAI2021
from ecg.training.settings import TrainingSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-classes.md").read_text()
NAMES = ("NSR", "SB", "STach", "AF", "AFL")


def block(language, containing):
    """Return the block of code of the page that contains a text."""
    blocks = re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    (code,) = [text for text in blocks if containing in text]
    margin = len(code) - len(code.lstrip(" "))
    return re.sub(rf"^ {{{margin}}}", "", code, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def ludb(tmp_path_factory):
    """The folder that the page's script makes of one like LUDB, the rhythms, and the page's table of classes."""
    folder = tmp_path_factory.mktemp("ludb")
    rhythms = write_ludb(folder / "ludb", folder / "synthetic")
    (folder / "label_ludb.py").write_text(block("python", "ludb.csv"))
    command = [sys.executable, "label_ludb.py", "ludb", "data"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "classes.csv").write_text(block("text", "abbreviation,name,code"))
    (folder / "weights.csv").write_text(block("text", "NSR,1,0.5"))
    return folder, rhythms


@pytest.fixture(scope="module")
def trained(ludb):
    """The default system, trained for a moment on the rhythms, with the lines logged."""
    folder, _ = ludb
    lines, network = capture_log(), NetworkSettings(width=4, kernels=(), squeeze_ratio=2, hidden=8)
    settings = replace(CAI2021, network=network, training=TrainingSettings(epochs=2, steps=3), lead_sets=(12,))
    settings = choose_class_table(settings, load_own_classes(folder / "classes.csv"))
    results = train(folder / "data", folder / "model", settings)
    return folder, settings, results, lines


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_rhythms_become_labels(trained, ludb):
    _, settings, results, lines = trained
    store, rhythms = results.store, ludb[1]
    names = {"Sinus rhythm": "NSR", "Sinus bradycardia": "SB", "Sinus tachycardia": "STach",
             "Atrial fibrillation": "AF", "Atrial flutter, typical": "AFL"}  # fmt: skip
    assert len(store) == len(rhythms) and store.labels.shape == (len(store), 5) and store.classes.sinus == 0
    for name, labels in zip(store.names, store.labels, strict=True):
        labelled = [NAMES[column] for column in np.flatnonzero(labels)]
        assert labelled == [names[rhythm] for rhythm in [rhythms[name]] if rhythm in names]
    assert settings.classes == NAMES and not settings.cleaning.rules and settings.cleaning.masks
    assert any("round 1, 12 leads, epoch 2: loss" in line for line in lines)


def test_the_model_holds_its_classes_and_predicts_them(trained):
    folder, settings, results, _ = trained
    saved = json.loads((folder / "model" / "12_leads.json").read_text())
    assert saved["classes"][0] == "Sinus rhythm|426783006" and len(saved["classes"]) == 5
    bundle = load_bundle(folder / "model", LEADS)
    assert bundle.classes == settings.class_table == find_model_classes(folder / "model")
    outputs = folder / "outputs"
    for path in find_records(folder / "data"):
        codes, predicted, probabilities = bundle.predict(path.read_text(), read_record(path)[1])
        assert codes == list(settings.class_table.code_lists) and len(predicted) == len(probabilities) == 5
        outputs.mkdir(exist_ok=True)
        save_outputs(outputs / f"{path.stem}.csv", path.stem, codes, predicted, probabilities)
    scores = score_outputs(folder / "data", outputs, classes=settings.class_table)
    assert scores[0][1] == "426177001|Sinus bradycardia" and np.isfinite(scores[8])
    doubled = settings.class_table.make_weight_array(results.settings.weights) * 2
    assert score_outputs(folder / "data", outputs, doubled, classes=settings.class_table)[8] == pytest.approx(scores[8])
    contract = json.loads(describe_contract(bundle, ["onnx"]))
    assert [diagnosis["abbreviation"] for diagnosis in contract["classes"]] == list(NAMES)
    assert parse_class_table(contract["class_table"]) == bundle.classes


def test_the_report_is_of_the_own_classes(trained):
    folder, *_ = trained
    report = folder / "model" / "report"
    assert [row["class"] for row in table(report / "classes.csv")] == list(NAMES)
    assert [row["class"] for row in table(report / "thresholds.csv")] == list(NAMES)
    page, card = (report / "index.html").read_text(), (folder / "model" / "model_card.md").read_text()
    assert "Metric of your own classes of the model" in page and "NSR (sinus rhythm)" in card
    assert "--classes CLASSES.csv" in card or "load_own_classes('CLASSES.csv')" in card
    assert "Georgia" not in card and "PVC" not in card


def test_a_review_compares_the_own_classes(trained):
    folder, *_ = trained
    assert review(folder / "model", folder / "data", folder / "review", figures=1) >= 0
    assert set(row["class"] for row in table(folder / "review" / "disagreements.csv")) <= set(NAMES)


def test_another_training_starts_from_the_model_with_another_head(trained):
    folder, settings, *_ = trained
    two = ClassTable(settings.class_table.scored[3:])
    start = replace(choose_class_table(settings, two), initial_model=str(folder / "model"), cleaning=replace(
        settings.cleaning, masks=False))  # fmt: skip
    train(folder / "data", folder / "second", start)
    first, second = (load_bundle(folder / name, LEADS).ensemble.general.members[0] for name in ("model", "second"))
    assert first.network.output_shape == (None, 5) and second.network.output_shape == (None, 2)
    assert load_bundle(folder / "second", LEADS).classes.sinus is None
