import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from helpers import capture_log, drop_progress, write_reviews
from result_helpers import get_network, predict_stage

import team_code
from benchmarks.interruption import PLACES, measure
from ecg.commands.train import Settings, publish, train
from ecg.data import synthetic
from ecg.data.batches import Dataset
from ecg.data.class_files import load_weights
from ecg.data.headers import RecordError
from ecg.data.labels import CHALLENGE_CLASSES, CLASS_INDEX, TRAINED
from ecg.data.leads import LEAD_SETS, LEADS, lead_indices
from ecg.data.records import find_records, read_record
from ecg.data.store import open_store
from ecg.evaluation.metrics import challenge_score
from ecg.evaluation.thresholds import search_thresholds
from ecg.models.bundle import load_bundle
from ecg.models.network_settings import NetworkSettings
from ecg.reports import training_charts, training_report
from ecg.reports.training_charts import draw_disagreements
from ecg.reports.training_report import draw_training
from ecg.runtime.executors import LocalExecutor
from ecg.runtime.locks import lock_folder
from ecg.systems.label_cleaning import CleaningSettings
from ecg.systems.label_comparison import label_masks
from ecg.systems.plan import split_validation
from ecg.systems.recipes import RECIPES
from ecg.systems.stage_runner import Outcome, StageRunner
from ecg.training.settings import TrainingSettings
from ecg.training.trainer import TrainingError, predict_dataset

ROOT = Path(__file__).parents[2]
REPORTED = ("epochs", "scores", "thresholds", "relabelled", "masks", "disagreements", "classes")
NO_CLEANING = CleaningSettings((), (), masks=False)
QUICK = TrainingSettings(epochs=2, steps=3)


class Untrained(StageRunner):
    """A runner that loads results from their caches, and trains nothing."""

    def train(self, stage, cache):
        raise TrainingError(f"{stage.title}: at work")


class Interrupted(StageRunner):
    """A runner that is interrupted as soon as it is to train something."""

    def train(self, stage, cache):
        raise KeyboardInterrupt


def make_fake_runner(network, stages):
    """Return a class of runners that predict without training; they collect their stages by title."""

    class FakeRunner(StageRunner):
        def train_or_load(self, stage):
            stages[stage.title] = stage
            weights = network.build(len(stage.leads), None, stage.targets.shape[1]).get_weights()
            return Outcome([], weights, predict_stage(stage), "")

    return FakeRunner


@pytest.fixture(scope="module", autouse=True)
def few_figures():
    """Draw a chart and a disagreement of each training; the tests of the report draw all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_report, "draw_training", lambda results: islice(draw_training(results), 1))
        patch.setattr(training_charts, "draw_disagreements", lambda folder, rows, *rest, **options: draw_disagreements(
            folder, rows[:1], *rest, **options))  # fmt: skip
        yield


@pytest.fixture(scope="module")
def small_network():
    """Settings of a network without blocks, which is compiled quickly."""
    return NetworkSettings(width=4, kernels=(), squeeze_ratio=2, hidden=8)


@pytest.fixture(scope="module")
def trained(few_figures, synthetic_recordings, small_network, tmp_path_factory):
    """A model folder for 12 and 2 leads, trained for two epochs, its stages kept, and the lines logged."""
    folder, lines = tmp_path_factory.mktemp("model"), capture_log()
    settings = Settings(network=small_network, training=QUICK, lead_sets=(12, 2), keep_stages=True)
    train(synthetic_recordings, folder, settings)
    return folder, settings, lines


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_training_writes_models_a_report_and_log_messages(trained):
    folder, _, lines = trained
    assert sorted(path.name for path in folder.iterdir()) == [
        "12_leads.json", "12_leads.weights.h5", "2_leads.json", "2_leads.weights.h5", "model_card.md", "report",
        "stages"]  # fmt: skip
    text = "\n".join(lines)
    for printed in (
        "stored",
        "system cai2021: ",
        "training.epochs 2 instead of 100",
        "for validation",
        "round 1, 12 leads, epoch 2: loss",
        "masked",
        "round 2, 2 leads",
    ):
        assert printed in text
    assert "AFL or AF in Ningbo: not relabelled, the other sources have" in text
    assert "classes omitted by CPSC: 8 recordings examined; added:" in text


def test_thresholds_and_scores_are_those_of_the_validation_set(trained):
    folder, settings, _ = trained
    store = open_store(folder / "stages" / "store")
    training, validation = split_validation(len(store), settings, "split")
    assert {row["record"]: row["split"] for row in table(folder / "report" / "split.csv")} == {
        **{str(name): "training" for name in store.names[training]},
        **{str(name): "validation" for name in store.names[validation]},
    }
    labels = store.labels[validation].copy()
    for row in table(folder / "report" / "relabelled.csv"):
        labels[store.names[validation] == row["record"], CLASS_INDEX[row["class"]]] = row["after"] == "1"
    weights = load_weights()[1]
    cleaned = [row for row in table(folder / "report" / "scores.csv") if row["labels"] == "cleaned"]
    scores = {int(row["leads"]): row for row in cleaned}
    for count in settings.lead_sets:
        bundle = load_bundle(folder, LEAD_SETS[count])
        probabilities = CHALLENGE_CLASSES.expand(
            predict_dataset(get_network(bundle), Dataset(store, validation, lead_indices(LEAD_SETS[count])), "checking")
        )
        search = search_thresholds(labels, probabilities, weights, settings.resamples, settings.seed)
        np.testing.assert_allclose(bundle.rule.thresholds, search.thresholds)
        score = challenge_score(labels, probabilities >= bundle.rule.thresholds, weights)
        assert float(scores[count]["score at 0.5"]) == pytest.approx(search.score_at_half, abs=1e-5)
        assert float(scores[count]["score with one threshold"]) == pytest.approx(search.score_common, abs=1e-5)
        assert float(scores[count]["score with one for each class"]) == pytest.approx(search.score_by_class, abs=1e-5)
        assert float(scores[count]["score as predicted"]) == pytest.approx(score, abs=1e-5)


def test_training_and_prediction_agree(trained, headers):
    folder, _, _ = trained
    store = open_store(folder / "stages" / "store")
    paths = {path.stem: path for path in headers}
    for leads in ((*reversed(LEADS),), ("II", "I")):
        model = team_code.load_model(folder, leads)
        expected = CHALLENGE_CLASSES.expand(
            predict_dataset(get_network(model), Dataset(store, np.arange(9), lead_indices(model.leads)), "checking")
        )
        for record, name in enumerate(store.names[:9]):
            text, recording = paths[name].read_text(), read_record(paths[name])[1]
            np.testing.assert_allclose(team_code.run_model(model, text, recording)[2], expected[record], atol=1e-5)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_done_is_not_done_again_and_comes_to_the_same(trained, synthetic_recordings, tmp_path):
    folder, settings, _ = trained
    model, lines = tmp_path / "model", capture_log()
    shutil.copytree(folder / "stages", model / "stages")
    train(synthetic_recordings, model, settings, Untrained)
    assert sum(line.endswith(": loaded from cache") for line in lines) == 4
    names = [f"{leads}_leads.json" for leads in (12, 2)] + [f"report/{name}.csv" for name in REPORTED]
    names += ["model_card.md"]
    for name in names:
        assert (model / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.slow
def test_another_decision_needs_no_other_networks_and_predicts_what_is_reported(
    trained, synthetic_recordings, headers, tmp_path
):
    folder, settings, _ = trained
    shutil.copytree(folder / "stages", tmp_path / "stages")
    weights = load_weights()[1]
    weights[:, CLASS_INDEX["SB"]] += 1  # predicted often, as it earns much
    changes = {"decision": "expected_credit", "weights": tuple(map(tuple, weights.tolist()))}
    results = train(synthetic_recordings, tmp_path, replace(settings, **changes), Untrained)
    paths = {path.stem: path for path in headers}
    for count in settings.lead_sets:
        first, second = (load_bundle(path, LEAD_SETS[count]) for path in (folder, tmp_path))
        assert first.rule.calibration == second.rule.calibration and first.rule.weights is None
        assert (second.rule.decision, second.rule.weights) == tuple(changes.values())
        for ours, theirs in zip(get_network(first).get_weights(), get_network(second).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        outputs, scores = results.predictions(count), table(tmp_path / "report" / "scores.csv")
        mismatches = 0
        for row, record in enumerate(results.scored_rows):
            path = paths[results.store.names[record]]
            _, predicted, probabilities = team_code.run_model(second, path.read_text(), read_record(path)[1])
            np.testing.assert_array_equal(predicted, second.rule.decide(probabilities, np.arange(26)))
            mismatches += (predicted != outputs[row]).sum()  # probabilities differ by rounding, decisions hardly ever
        assert mismatches <= 2
        (score,) = (row for row in scores if (row["leads"], row["labels"]) == (str(count), "cleaned"))
        expected = challenge_score(results.scored_labels, outputs, weights)
        assert float(score["score as predicted"]) == pytest.approx(expected, abs=1e-5)
        assert (outputs != replace(results.rule(count), decision="thresholds").decide(
            results.validated[count][results.scored], results.columns)).any()  # fmt: skip


def test_stages_that_a_change_of_settings_does_not_touch_are_not_done_again(trained, synthetic_recordings, tmp_path):
    folder, settings, _ = trained
    lines = capture_log()
    shutil.copytree(folder / "stages", tmp_path / "stages")
    with pytest.raises(TrainingError, match="round 2, 3 leads: at work"):
        train(synthetic_recordings, tmp_path, replace(settings, lead_sets=(2, 3, 12)), Untrained)
    assert [line for line in lines if line.endswith(": loaded from cache")] == [
        f"{title}: loaded from cache" for title in ("classes omitted by CPSC", "round 1, 12 leads", "round 2, 2 leads")
    ]


@pytest.mark.parametrize("change", [{"seed": 1}, {"training": replace(QUICK, rate=0.1)}, {"network": {"width": 5}}])
def test_other_settings_are_another_training(trained, synthetic_recordings, tmp_path, change):
    folder, settings, _ = trained
    shutil.copytree(folder / "stages", tmp_path / "stages")
    if "network" in change:
        change = {"network": replace(settings.network, **change["network"])}

    with pytest.raises(TrainingError, match="at work"):
        train(synthetic_recordings, tmp_path, replace(settings, **change), Untrained)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": 1}, "seed 2021, not 1"),
        (
            {"fallback": "NSR", "training": replace(QUICK, rate=0.5)},
            "fallback None, not 'NSR', training.rate 0.001, not 0.5",
        ),
    ],
)
def test_an_unfinished_training_of_other_settings_is_not_continued(
    small_network, synthetic_recordings, tmp_path, change, message
):
    settings = Settings(network=small_network, training=QUICK, lead_sets=(2,), cleaning=NO_CLEANING)
    for _ in range(2):  # the same settings are welcome again, and so are those that change no result
        with pytest.raises(KeyboardInterrupt):
            train(synthetic_recordings, tmp_path, settings, Interrupted)
        settings = replace(settings, hours=2.0, keep_stages=True)
    before = contents(tmp_path)
    with pytest.raises(
        TrainingError, match=rf"{tmp_path}: holds a training of {message}; give an empty folder, or the same"
    ):
        train(synthetic_recordings, tmp_path, replace(settings, **change))
    assert contents(tmp_path) == before


def test_an_unfinished_training_of_other_data_is_not_continued(small_network, synthetic_recordings, headers, tmp_path):
    data, model = tmp_path / "data", tmp_path / "model"
    shutil.copytree(synthetic_recordings, data)
    settings = Settings(network=small_network, training=QUICK, lead_sets=(2,), cleaning=NO_CLEANING)
    with pytest.raises(KeyboardInterrupt):
        train(data, model, settings, Interrupted)
    before, header = contents(model), next(data.glob("HR*.hea"))
    text = header.read_text()
    header.unlink()
    with pytest.raises(TrainingError, match="of other recordings; give an empty folder"):
        train(data, model, settings)
    assert contents(model) == before  # it was told before anything was read
    header.write_text(text.replace("Dx: ", "Dx: 164934002,"))
    with pytest.raises(TrainingError, match="of other recordings; give an empty folder"):
        train(data, model, settings)


def write_groups(path, names, size):
    """Write a table in which each `size` recordings in turn are of one patient; return the patient by name."""
    patients = {name: f"P{index // size}" for index, name in enumerate(names)}
    path.write_text("record,patient\n" + "".join(f"{name},{patient}\n" for name, patient in patients.items()))
    return patients


def test_no_network_is_validated_on_patients_that_it_is_trained_on(
    synthetic_recordings, headers, small_network, tmp_path
):
    patients = write_groups(tmp_path / "groups.csv", [path.stem for path in headers], 4)
    settings = Settings(network=small_network, lead_sets=(12, 2), keep_stages=True)
    names, splits = {}, []
    for groups in (tmp_path / "groups.csv", None):
        stages, model = {}, tmp_path / f"model{groups is None}"
        train(synthetic_recordings, model, settings, make_fake_runner(small_network, stages), groups)
        store = open_store(model / "stages" / "store")
        assert set(stages) == {"classes omitted by CPSC", "round 1, 12 leads", "round 2, 12 leads", "round 2, 2 leads"}
        for title, stage in stages.items():
            parts = [store.names[stage.records[part]] for part in (stage.training, stage.validation)]
            names[title] = [{patients[name] for name in part} for part in parts]
            assert sum(map(len, parts)) == len(stage.records) and min(map(len, parts)) > 0
            assert bool(names[title][0] & names[title][1]) == (groups is None), title
        splits.append({row["record"]: row["split"] for row in table(model / "report" / "split.csv")})
        recordings = json.loads((model / "report" / "report.json").read_text())["recordings"]
        assert recordings.get("patients") == (None if groups is None else len({patients[name] for name in store.names}))
    assert splits[0] != splits[1]


def test_corrections_are_trained_on_and_reported(synthetic_recordings, headers, small_network, tmp_path):
    names = [path.stem for path in headers]
    rows = [("Anna", names[0], "AF", "present"), ("Ben", names[0], "AF", "present"), ("Anna", names[1], "SB", "absent"),
            ("Ben", names[1], "SB", "unsure"), ("Ben", "elsewhere", "SB", "unsure")]  # fmt: skip
    settings = Settings(network=small_network, lead_sets=(2,), cleaning=NO_CLEANING)
    stages, log = {}, capture_log()
    runner = make_fake_runner(small_network, stages)
    train(synthetic_recordings, tmp_path / "model", settings, runner, None, write_reviews(tmp_path / "reviews", *rows))
    (stage,) = stages.values()
    first, second = (stage.targets[row, settings.classes.index(name)] for row, name in ((0, "AF"), (1, "SB")))
    assert first == 1 and stage.masks[1, settings.classes.index("SB")] == 0 and (stage.masks == 0).sum() == 1
    written = table(tmp_path / "model" / "report" / "corrected_labels.csv")
    assert [list(row.values())[3:] for row in written] == [["present", "2", "0", "0"], ["unsure", "0", "1", "1"]]
    assert written[1]["label of the header"] == ("present" if second else "absent")
    text = " ".join(" ".join(log).split())
    assert "Corrections: 2 labels of 2 recordings reviewed; 1 present" in text and "elsewhere" in text
    page = (tmp_path / "model" / "report" / "index.html").read_text()
    assert "Corrected labels" in page and "Corrections: 2 labels" in page


def test_an_unfinished_training_of_other_corrections_is_not_continued(
    small_network, synthetic_recordings, headers, tmp_path
):
    settings = Settings(network=small_network, training=QUICK, lead_sets=(2,), cleaning=NO_CLEANING)
    row = ("Anna", headers[0].stem, "AF", "present")
    reviews, model = write_reviews(tmp_path / "reviews", row), tmp_path / "model"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(synthetic_recordings, model, settings, Interrupted, None, reviews)
        write_reviews(reviews, ("Ben", *row[1:]))  # the same verdict by more reviewers
    write_reviews(reviews, ("Ben", *row[1:3], "unsure"), ("Anna", *row[1:3], "unsure"))
    for given in (reviews, None):
        with pytest.raises(TrainingError, match="holds a training of other corrections of labels; give an empty"):
            train(synthetic_recordings, model, settings, Interrupted, None, given)
    with pytest.raises(RecordError, match="nowhere: reviews cannot be read"):
        train(synthetic_recordings, tmp_path / "other", settings, Interrupted, None, tmp_path / "nowhere")
    assert not (tmp_path / "other").exists()


def test_an_unfinished_training_of_other_groups_is_not_continued(
    small_network, synthetic_recordings, headers, tmp_path
):
    settings = Settings(network=small_network, training=QUICK, lead_sets=(2,), cleaning=NO_CLEANING)
    names = [path.stem for path in headers]
    groups, model = tmp_path / "groups.csv", tmp_path / "model"
    write_groups(groups, names, 4)
    with pytest.raises(KeyboardInterrupt):
        train(synthetic_recordings, model, settings, Interrupted, groups)
    groups.write_text(groups.read_text().replace("P", "another "))  # the same patients by other names
    with pytest.raises(KeyboardInterrupt):
        train(synthetic_recordings, model, settings, Interrupted, groups)
    before = contents(model)
    write_groups(groups, names, 3)
    for given in (groups, None):
        with pytest.raises(TrainingError, match="holds a training of other groups of recordings; give an empty"):
            train(synthetic_recordings, model, settings, Interrupted, given)
    groups.write_text("record,person\n")
    with pytest.raises(RecordError, match="groups.csv, line 1: expected the columns"):
        train(synthetic_recordings, model, settings, Interrupted, groups)
    assert contents(model) == before


def test_a_folder_with_nothing_to_train_on_claims_nothing(small_network, synthetic_recordings, tmp_path):
    model, unscored = tmp_path / "model", tmp_path / "unscored"
    settings = Settings(network=small_network, training=QUICK, lead_sets=(2,), cleaning=NO_CLEANING)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError):
        train(tmp_path / "nothing", model, settings)
    shutil.copytree(synthetic_recordings, unscored)
    for header in unscored.glob("*.hea"):
        header.write_text(re.sub("Dx: .*", "Dx: 55827005", header.read_text()))
    with pytest.raises(RecordError, match="none of [0-9]+ recordings has a diagnosis that is trained"):
        train(unscored, model, replace(settings, seed=1))
    assert not (model / "training.json").exists()


def test_two_trainings_in_one_folder_are_one_too_many(synthetic_recordings, tmp_path):
    with (
        lock_folder(tmp_path / "stages"),
        pytest.raises(BlockingIOError, match="another process is at work in this folder"),
    ):
        train(synthetic_recordings, tmp_path, Settings())


def test_labels_are_cleaned_before_everything_else_counts_them(
    synthetic_recordings, small_network, tmp_path, monkeypatch
):
    """Each stage predicts without training; both rounds are trained on the labels with what was added."""
    stages, drawn = {}, []
    monkeypatch.setattr(
        "ecg.reports.training_charts.draw_disagreements", lambda folder, rows, *rest, **options: drawn.extend(rows)
    )
    settings = Settings(network=small_network, lead_sets=(2,), keep_stages=True)
    train(synthetic_recordings, tmp_path, settings, make_fake_runner(small_network, stages))
    store = open_store(tmp_path / "stages" / "store")
    omission = settings.cleaning.partially_labelled[0]
    cpsc = np.flatnonzero(store.sources == "CPSC")
    labels = store.labels.copy()
    labels[np.ix_(cpsc[::2], omission.find_columns())] = True
    first, second = stages["round 1, 12 leads"], stages["round 2, 2 leads"]
    for stage in (first, second):
        np.testing.assert_array_equal(stage.targets, labels[:, TRAINED])
    assert (first.masks == 1).all()
    np.testing.assert_array_equal(second.masks, label_masks(first.targets, predict_stage(first)))
    counts = [int(row["training"]) + int(row["validation"]) for row in table(tmp_path / "report/classes.csv")]
    assert counts == labels.sum(axis=0).tolist()
    assert [row["record"] for row in table(tmp_path / "report/disagreements.csv")] == [
        disagreement.path.stem for disagreement in drawn
    ]
    assert len(drawn) == 20 and all(disagreement.path.exists() for disagreement in drawn)
    assert all(
        disagreement.labelled == labels[store.names == disagreement.path.stem, disagreement.column].item()
        for disagreement in drawn
    )


def test_without_masks_there_is_no_round_1(synthetic_recordings, small_network, tmp_path):
    stages, settings = {}, Settings(network=small_network, lead_sets=(2,), cleaning=NO_CLEANING)
    train(synthetic_recordings, tmp_path, settings, make_fake_runner(small_network, stages))
    assert list(stages) == ["round 2, 2 leads"] and (stages["round 2, 2 leads"].masks == 1).all()
    assert table(tmp_path / "report/relabelling.csv") == table(tmp_path / "report/disagreements.csv") == []


def test_an_earlier_training_stays_until_the_new_one_is_done(trained, synthetic_recordings, tmp_path, monkeypatch):
    folder, settings, _ = trained
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    before = contents(model)

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr("ecg.commands.train.write_report", fails)
    with pytest.raises(OSError, match="disk full"):
        train(synthetic_recordings, model, replace(settings, lead_sets=(2,)), Untrained)
    after = contents(model)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"training.json"} | {name for name in after if "finished" in name}


@pytest.fixture
def finished(trained, synthetic_recordings, tmp_path):
    """The model folder of a finished training, which was taken up from its stages, and its settings."""
    folder, settings, _ = trained
    model, settings = tmp_path / "model", replace(settings, keep_stages=False)
    shutil.copytree(folder / "stages", model / "stages")
    assert train(synthetic_recordings, model, settings, Untrained)
    return model, settings


@pytest.mark.slow
def test_a_finished_training_is_not_replaced_by_that_of_other_data_or_settings(
    finished, synthetic_recordings, tmp_path, monkeypatch
):
    model, settings = finished
    before, data = contents(model), tmp_path / "data"
    networks = {f"{leads}_leads.{ending}" for leads in (12, 2) for ending in ("json", "weights.h5")}
    assert {name.split("/")[0] for name in before} == {*networks, "model_card.md", "report", "training.json"}
    shutil.copytree(synthetic_recordings, data, ignore=shutil.ignore_patterns("HR*"))
    with pytest.raises(TrainingError, match="holds a training of other recordings; give an empty folder"):
        train(data, model, settings)
    with pytest.raises(
        TrainingError, match=r"holds a training of lead_sets \[12, 2\], not \[2\]; give an empty folder"
    ):
        train(synthetic_recordings, model, replace(settings, lead_sets=(2,)))
    with monkeypatch.context() as patch, pytest.raises(TrainingError, match="holds a training of model_format"):
        patch.setattr("ecg.systems.training_manifest.FORMAT", 0)
        train(synthetic_recordings, model, settings)
    (model / "training.json").unlink()
    with pytest.raises(TrainingError, match="holds 12_leads.json of an unknown training; give an empty"):
        train(synthetic_recordings, model, settings)
    assert contents(model) | {"training.json": before["training.json"]} == before and not (model / "stages").exists()


@pytest.mark.slow
def test_a_finished_training_is_not_done_again_unless_a_network_is_missing(finished, synthetic_recordings):
    model, settings = finished
    before, lines = contents(model), capture_log()
    assert train(synthetic_recordings, model, settings) is None
    assert lines[-1] == f"{model}: holds this training already; give an empty folder to train anew"
    assert contents(model) == before and not (model / "stages").exists()
    (model / "2_leads.json").unlink()
    with pytest.raises(TrainingError, match="at work"):
        train(synthetic_recordings, model, settings, Untrained)


def test_a_model_card_of_something_else_is_not_replaced(synthetic_recordings, tmp_path):
    (tmp_path / "model_card.md").write_text("of another model")
    with pytest.raises(TrainingError, match="holds model_card.md of an unknown training"):
        train(synthetic_recordings, tmp_path, Settings())
    assert contents(tmp_path) == {"model_card.md": b"of another model"}


@pytest.mark.slow
def test_a_finished_training_without_a_model_card_stays_as_it_is(finished, synthetic_recordings):
    model, settings = finished
    (model / "model_card.md").unlink()
    before = contents(model)
    assert train(synthetic_recordings, model, settings, Untrained) is None
    assert contents(model) == before


def test_the_model_card_is_of_this_training(trained):
    folder, settings, _ = trained
    card = (folder / "model_card.md").read_text("utf-8")
    assert card.startswith("# Model card: cai2021 for 12, 2 leads\n")
    assert f"digest of the stored recordings: {open_store(folder / 'stages' / 'store').digest}" in card
    assert "```python\n" in card and "network=NetworkSettings(" in card  # no option makes so small a network
    for row in table(folder / "report/groups.csv"):
        name = "all recordings" if row["grouping"] == "all" else f"{row['grouping'].capitalize()}: {row['group']}"
        assert f"| {name} | {row['recordings']} | {row['training']} | {row['validation']} | {row['scored']} |" in card
    assert "Model card" in (folder / "report/index.html").read_text("utf-8")


def test_a_report_of_something_else_is_not_replaced(synthetic_recordings, tmp_path):
    (tmp_path / "report").mkdir()
    with pytest.raises(TrainingError, match="holds report of an unknown training"):
        train(synthetic_recordings, tmp_path, Settings())
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_training_is_published_as_a_whole(tmp_path):
    model, finished = tmp_path / "model", tmp_path / "finished"
    for folder, text, names in ((model, "old", ("12_leads", "2_leads")), (finished, "new", ("2_leads",))):
        (folder / "report").mkdir(parents=True)
        (folder / "report" / f"{text}.csv").write_text(text)
        (folder / "model_card.md").write_text(text)
        for name in names:
            (folder / f"{name}.json").write_text(text)
            (folder / f"{name}.weights.h5").write_text(text)
    publish(finished, model)
    names = ["2_leads.json", "2_leads.weights.h5", "model_card.md", "report/new.csv"]
    assert contents(model) == dict.fromkeys(names, b"new")


def test_one_recording_is_too_few(tmp_path):
    synthetic.synthesize(tmp_path, 1, settings=synthetic.SyntheticSettings(sources={"Georgia": 1}))
    with pytest.raises(RecordError, match="E00001 alone can be used"):
        train(tmp_path, tmp_path / "model", Settings())


def run(*arguments):
    """Run a script of ours as a user does; return what it printed."""
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_all_is_done_and_saved_within_the_hours(synthetic_recordings, small_network, tmp_path, monkeypatch):
    """Epochs without end, in two minutes: each network has its share, and there is a whole model at the end."""
    monkeypatch.setattr("ecg.runtime.limits.LEAST_CLOSING", 40.0)  # of 60 s that the end of a training is given
    endless = TrainingSettings(epochs=10**5, patience=10**5)
    settings = Settings(network=small_network, training=endless, hours=1 / 30, lead_sets=(12, 2))
    begun = time.monotonic()
    results = train(synthetic_recordings, tmp_path, settings)
    taken = time.monotonic() - begun
    assert 60 < taken < 120
    assert set(results.ends.values()) == {"time limit reached"} and len(results.ends) == 4
    assert load_bundle(tmp_path, LEADS).leads == LEADS and load_bundle(tmp_path, LEAD_SETS[2]).leads == LEAD_SETS[2]
    assert {row["stop reason"] for row in table(tmp_path / "report/stages.csv")} == {"time limit reached"}


@pytest.fixture
def apprentice(small_network):
    """The strongest system with a small network, a few synthetic recordings and short trainings."""
    recipe = RECIPES["apprentice"]
    short = replace(recipe.pretraining.training, epochs=2, steps=1)
    return replace(
        recipe, network=small_network, training=replace(recipe.training, epochs=2, steps=3),
        pretraining=replace(recipe.pretraining, recordings=24, training=short), lead_sets=(12, 2),
    )  # fmt: skip


@pytest.mark.slow
def test_the_strongest_system_is_trained_and_predicts_by_the_challenges_functions(
    apprentice, synthetic_recordings, headers, monkeypatch, tmp_path
):
    monkeypatch.setitem(RECIPES, "apprentice", apprentice)
    monkeypatch.setattr(team_code, "SYSTEM", "apprentice")
    team_code.training_code(synthetic_recordings, tmp_path)
    assert table(tmp_path / "report/repaired.csv")  # there are defects
    rates = {(row["stage"], row["epoch"]): float(row["rate"]) for row in table(tmp_path / "report/epochs.csv")}
    pretrained = [f"pretraining, {leads} leads" for leads in (12, 2)]
    final = [f"{leads} leads, fold {fold} of 5" for leads in (12, 2) for fold in range(1, 6)]
    cleaning = ["classes omitted by CPSC", "round 1, 12 leads"]
    assert [row["stage"] for row in table(tmp_path / "report/stages.csv")] == pretrained + cleaning + final
    for stage in cleaning + final:  # these start from a pretrained network
        expected = [apprentice.training.rate / 10, apprentice.training.rate / 2]
        assert [rates[stage, epoch] for epoch in ("1", "2")] == pytest.approx(expected)
    for leads in (LEADS, LEAD_SETS[2]):
        model = team_code.load_model(tmp_path, leads)
        assert model.rule.decision == "expected_credit" and model.rule.calibration.slope > 0
        assert [len(group.members) for group in model.ensemble.groups.values()] == [5]
        predicted = []
        for path in headers:
            codes, outputs, probabilities = team_code.run_model(model, path.read_text(), read_record(path)[1])
            assert len(codes) == 26 and ((probabilities >= 0) & (probabilities <= 1)).all()
            np.testing.assert_array_equal(outputs, model.rule.decide(probabilities, np.arange(26)))
            predicted.append(outputs)
        assert np.any(predicted)


@pytest.mark.slow
def test_the_strongest_system_says_which_of_its_trainings_the_time_limit_ended(
    apprentice, synthetic_recordings, tmp_path
):
    """There is time for the first step of each training alone."""
    longer = replace(apprentice.training, epochs=10**5)
    results = train(synthetic_recordings, tmp_path, replace(apprentice, training=longer, lead_sets=(2,), hours=1e-6))
    titles = [epoch.title for epoch in results.epochs]
    assert len(titles) == len(results.ends) == 8 and titles[0] == "pretraining, 2 leads"
    assert results.limitations[-1] == f"the time limit ended 8 of 8 trainings: {', '.join(titles)}"
    assert load_bundle(tmp_path, LEAD_SETS[2]).rule.decision == "expected_credit"


@pytest.mark.slow
def test_a_training_killed_at_any_moment_comes_to_the_same_to_the_bit(tmp_path):
    """Ten times at least, everywhere: in the stores, in steps, while saving, at the end.

    With this seed a kill at a step mostly falls into the pretraining. A second run follows if the first ends before a
    kill from outside would have hit it.
    """
    runs, differing = measure(kills=10, seed=6, folder=tmp_path)
    hits = sum(runs, Counter())
    assert hits.total() >= 10 and set(hits) == set(PLACES) and differing == []


@pytest.mark.slow
def test_the_whole_entry_on_synthetic_recordings(tmp_path):
    """As in `make demo`, for 12 leads. The labels themselves would score 1, or less if headers lack some."""
    data, held_out, model, outputs = (tmp_path / name for name in ("data", "held_out", "model", "outputs"))
    synthetic.synthesize(data, 420, seed=1, executor=LocalExecutor(2))
    synthetic.synthesize(held_out, 160, seed=2, executor=LocalExecutor(2))
    printed = run("-m", "ecg", "train", data, model, "--epochs", 6, "--width", 8, "--leads", 12)
    assert drop_progress(printed.stderr) == []
    run("test_model.py", model, held_out, outputs)
    scores = run("evaluate_model.py", held_out, outputs).stdout.splitlines()[-1].split(",")
    assert float(scores[-1]) > 0.4
    assert len(os.listdir(outputs)) == len(find_records(held_out))
    assert set(json.loads((model / "12_leads.json").read_text())["leads"]) == set(LEADS)
