import csv
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers import make_comparison

from ecg.commands.compare import describe_comparison
from ecg.commands.protocol import Protocol
from ecg.data.labels import ABBREVIATIONS, SCORED
from ecg.evaluation.bootstrap import (
    AUPRC,
    AUROC,
    CLASS_METRICS,
    METRICS,
    OPTIMISED,
    PREDICTED,
    Comparison,
    SystemResult,
    compute_metrics,
)
from ecg.reports.comparison_report import comparison_tables, recording_counts, write_comparison
from ecg.systems.recipes import SYSTEMS
from evaluate_model import evaluate_model

FACTS = {"data": "somewhere", "settings that differ": [("setting", "a", "b"), ("loss", "x", "y")]}
NUMBERS = ("recordings", "overall", "differences", "by_class", "by_source", "by_fold", "costs")


@pytest.fixture(scope="module")
def comparison():
    return make_comparison(results=({"system": "a"}, {"system": "b", "networks": 3, "epochs": 70, "time_limited": 2}))


@pytest.fixture(scope="module")
def written(comparison, tmp_path_factory):
    return write_comparison(tmp_path_factory.mktemp("report"), comparison, FACTS, resamples=5, seed=2)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_tables_figures_and_the_page_are_written(written):
    names = {path.name for path in written.parent.iterdir()}
    assert written.name == "comparison.html" and {f"{name}.csv" for name in NUMBERS} <= names
    assert {"facts.csv", "settings_that_differ.csv", "costs.svg", "scores_12_leads.svg"} <= names
    facts = rows_of(written.with_name("facts.csv"))
    assert facts == [{"fact": "data", "value": "somewhere"}, {"fact": "bootstrap", "value": "5 resamples, seed 2"}]
    assert "Georgia" in written.read_text()


@pytest.mark.slow
def test_the_same_predictions_give_the_same_files_and_replace_others(written, comparison, tmp_path):
    folder = tmp_path / "comparison"
    folder.mkdir()
    (folder / "old.csv").write_text("of another comparison")
    write_comparison(tmp_path, comparison, FACTS, resamples=5, seed=2)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison"]
    files, other_files = (
        {path.name: path.read_bytes() for path in place.iterdir()} for place in (written.parent, folder)
    )
    assert files == other_files


def test_the_tables_hold_the_estimates(written, comparison):
    metrics = compute_metrics(comparison, 5, 2)
    overall = rows_of(written.with_name("overall.csv"))
    assert [(row["system"], row["leads"], row["recordings"]) for row in overall] == [
        ("a", "12", "150"), ("b", "12", "150")
    ]  # fmt: skip
    ends = ("", " low", " high")
    for row, estimates in zip(overall, metrics.overall, strict=True):
        for name in METRICS:
            np.testing.assert_allclose([float(row[f"{name}{end}"]) for end in ends], estimates[name], rtol=1e-5)
    (difference,) = rows_of(written.with_name("differences.csv"))
    assert (difference["system"], difference["reference"]) == ("b", "a")
    for name in ("F1 optimised", "F1 as predicted"):
        np.testing.assert_allclose(float(difference[f"{name} low"]), metrics.differences[1][name][1], rtol=1e-5)


def test_costs_have_networks_epochs_and_stopped_trainings(written):
    first, second = rows_of(written.with_name("costs.csv"))
    names = ("networks", "epochs", "stopped by the time limit", "weights", "training seconds", "prediction seconds")
    assert [second[name] for name in names] == ["3", "70", "2", "1000", "60.0", "0.01"]
    assert [first[name] for name in names[:3]] == ["0", "0", "0"]


def test_classes_sources_and_folds_add_up(written, comparison):
    by_class = [row for row in rows_of(written.with_name("by_class.csv")) if row["system"] == "b"]
    assert [row["class"] for row in by_class] == list(ABBREVIATIONS)
    labels, trial = comparison.labels, comparison.results[1]
    assert [int(row["labelled"]) for row in by_class] == labels.sum(axis=0).tolist()
    for name, answers in (
        ("optimised", trial.optimised),
        ("predicted", trial.predictions),
        ("by expected credit", trial.by_credit),
    ):
        assert [int(row[name]) for row in by_class] == answers.sum(axis=0).tolist()
        assert [int(row[f"{name} correctly"]) for row in by_class] == (labels & answers).sum(axis=0).tolist()
    assert trial.optimised.sum() != trial.predictions.sum()
    for row in by_class:
        assert all((row[name] == "") == (row["labelled"] == "0") for name in CLASS_METRICS)
    for kind in ("source", "fold"):
        rows = rows_of(written.with_name(f"by_{kind}.csv"))
        for system in "ab":
            assert sum(int(row["recordings"]) for row in rows if row["system"] == system) == 150
    sources = rows_of(written.with_name("recordings.csv"))
    assert sum(int(row["recordings"]) for row in sources) == 150
    assert all(sum(int(row[f"fold {fold}"]) for fold in range(3)) == int(row["recordings"]) for row in sources)


def test_every_table_is_as_wide_as_its_head(comparison):
    for rows in comparison_tables(comparison, compute_metrics(comparison, 2)).values():
        assert {len(row) for row in rows} == {len(rows[0])}


def test_a_single_fold_has_no_column(comparison):
    single_fold = replace(comparison, folds=np.zeros(150, int))
    assert (
        recording_counts(single_fold)[0] == ("source", "recordings")
        and sum(count for _, count in recording_counts(single_fold)[1:]) == 150
    )


def test_scores_are_those_of_the_challenges_evaluator_for_the_same_predictions(store, synthetic_recordings, tmp_path):
    """Ventricular ectopic beats among the labels, which are learnt as PVC and not scored."""
    assert (store.as_scored != store.labels).any()
    probabilities = np.random.default_rng(0).random((len(store), 26)).round(2)
    answers = probabilities >= 0.7
    labels, outputs = tmp_path / "labels", tmp_path / "outputs"
    labels.mkdir()
    outputs.mkdir()
    codes = ",".join("|".join(diagnosis.codes) for diagnosis in SCORED)
    for name, path, answer, probability_row in zip(store.names, store.paths, answers, probabilities, strict=True):
        shutil.copy(synthetic_recordings / path, labels)
        lines = (f"#{name}", codes, ",".join(map(str, answer.astype(int))), ",".join(map(str, probability_row)))
        (outputs / f"{name}.csv").write_text("\n".join(lines) + "\n")
    trial = SystemResult("any", 12, probabilities, *[answers] * 3, 1, 1.0, 1.0)
    comparison = Comparison(store.as_scored, store.sources, np.ones(len(store)), (trial,))
    (scores,) = compute_metrics(comparison, resamples=1).overall
    _, auroc, auprc, *_, metric = evaluate_model(labels, outputs)
    assert scores[PREDICTED][0] == scores[OPTIMISED][0] == pytest.approx(metric)
    assert (scores[AUROC][0], scores[AUPRC][0]) == pytest.approx((auroc, auprc))


def test_facts_have_what_was_held_out_and_the_limits(store):
    systems = [replace(SYSTEMS["cai2021"], system="one"), replace(SYSTEMS["xie2022"], system="other")]
    dropped = [("S0001", "source PTB is not trained on"), ("S0002", "source PTB is not trained on")]
    facts = describe_comparison(
        "data", Protocol(tuple(systems), folds=3, epochs=9, width=4), 1.0, systems, store, dropped
    )
    assert facts["held out"] == "each of 3 folds in turn" and facts["recordings used"] == len(store)
    assert facts["recordings excluded"] == "2: source PTB is not trained on (S0001, S0002)"
    assert re.search(r"keras [0-9.]+, .*numpy [0-9.]+", facts["versions"])
    assert facts["time limit of each system and fold"].startswith("1 h")
    assert facts["maximum epochs of each network"] == 9 and facts["width of networks that have one"] == 4
    assert not {"failed", "maximum batch size", "precision", "weights of the metric"} & facts.keys()
    head, *rows = facts["settings that differ"]
    assert head == ("setting", "one", "other")
    assert ("network", "NetworkSettings", "DCNetSettings") in rows
    protocol = Protocol(tuple(systems), leave_out="georgia", batch=8, precision="bfloat16")
    facts = describe_comparison("data", protocol, 3.0, systems, store, [], "three, fold 1: too large")
    assert facts["held out"] == "all of Georgia" and facts["maximum batch size"] == 8
    assert facts["recordings excluded"] == "none"
    assert facts["time limit of each system and fold"].startswith("3 h")
    assert (facts["precision"], facts["failed"]) == ("bfloat16", "three, fold 1: too large")
    assert (
        describe_comparison("data", Protocol(), None, systems, store, [])["time limit of each system and fold"]
        == "none"
    )
