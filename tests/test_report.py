import csv
import json
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from ecg.labels import ABBREVIATIONS, COLUMN, DROPPED, TRAINED, expand
from ecg.report import Results, summary_lines, write_report
from ecg.scoring import challenge_score, load_weights, search_thresholds
from ecg.store import Store

WEIGHTS = load_weights()[1]
COUNT = 80


@dataclass(frozen=True)
class Settings:
    seed: int = 3
    lead_sets: tuple[int, ...] = (12, 2)


def made_results(seed=0, rate=0.15):
    """Random results: every fourth recording for validation, of which those of Georgia give the score."""
    random = np.random.default_rng(seed)
    sources = random.choice(["CPSC", "Georgia", "Ningbo"], COUNT)
    labels = random.random((COUNT, 26)) < rate
    labels[:, COLUMN["PR"]] = False  # a class that never occurs
    names = np.array([f"R{place:03}" for place in range(COUNT)])
    dropped = (("A0001", "the reason, with a comma"), ("S0001", "source PTB is not trained on"))
    store = Store(names, sources, labels, np.arange(COUNT + 1), np.zeros((COUNT, 12), np.int16), dropped)
    validation = np.arange(0, COUNT, 2)
    scored = sources[validation] == "Georgia"
    masks = (random.random((COUNT, 22)) < 0.9).astype(np.float32)
    validated, searches = {}, {}
    for leads in (12, 2):
        noise = random.normal(0.35, 0.2, (len(validation), 22))
        validated[leads] = np.clip(0.3 * labels[validation][:, TRAINED] + noise, 0, 1).astype(np.float32)
        chosen = validation[scored]
        searches[leads] = search_thresholds(labels[chosen], expand(validated[leads][scored]), WEIGHTS)
    epochs = [
        SimpleNamespace(stage=stage, epoch=1, rate=1e-4, loss=0.5, validation_loss=0.4, scores=scores, seconds=2.0,
                        best=True)
        for stage, scores in (("round 1", {"score at 0.5": -0.1}), ("round 2", {"score at 0.5": 0.1, "optimised": 0.2}))
    ]  # fmt: skip
    return Results(store, np.arange(1, COUNT, 2), validation, scored, epochs, masks, searches, validated)


@pytest.fixture(scope="module")
def results():
    return made_results()


@pytest.fixture(scope="module")
def report(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_report(folder, results, Settings())
    return folder / "report"


def table(report, name):
    with open(report / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_recording_is_counted_once_by_its_source(report, results):
    rows = {row.pop("source"): {name: int(count) for name, count in row.items()} for row in table(report, "sources")}
    assert rows.keys() == {"CPSC", "Georgia", "Ningbo", "PTB"}
    assert sum(row["found"] for row in rows.values()) == COUNT + 2
    assert rows["PTB"] == {"found": 1, "left out": 1, "training": 0, "validation": 0}
    assert all(row["found"] == row["left out"] + row["training"] + row["validation"] for row in rows.values())
    assert rows["Georgia"]["validation"] == results.scored.sum()


def test_dropped_recordings_are_listed_with_their_reasons(report, results):
    assert [tuple(row.values()) for row in table(report, "dropped")] == list(results.store.dropped)


def test_the_split_can_be_read_back(report, results):
    rows = table(report, "split")
    assert [row["record"] for row in rows] == results.store.names.tolist()
    assert [row["source"] for row in rows] == results.store.sources.tolist()
    assert [place for place, row in enumerate(rows) if row["part"] == "training"] == results.training.tolist()
    assert [place for place, row in enumerate(rows) if row["part"] == "validation"] == results.validation.tolist()
    scored = [place for place, row in enumerate(rows) if row["scored"] == "1"]
    assert scored == results.validation[results.scored].tolist()


def test_classes_are_counted_alike_by_part_and_by_source(report, results):
    rows = table(report, "classes")
    assert [row["class"] for row in rows] == list(ABBREVIATIONS)
    assert {row["class"] for row in rows if row["use"] == "dropped"} == set(DROPPED)
    for row, count in zip(rows, results.store.labels.sum(axis=0), strict=True):
        assert int(row["training"]) + int(row["validation"]) == count
        assert sum(int(row[source]) for source in ("CPSC", "Georgia", "Ningbo")) == count
    assert rows[COLUMN["LBBB"]]["codes"] == "733534002|164909002"


def test_scores_that_a_stage_does_not_have_are_empty_cells(report):
    rows = table(report, "epochs")
    assert [(row["stage"], row["score at 0.5"], row["optimised"]) for row in rows] == [
        ("round 1", "-0.1", ""), ("round 2", "0.1", "0.2")
    ]  # fmt: skip
    names = ("rate", "training loss", "validation loss", "best")
    assert [float(rows[0][name]) for name in names] == [1e-4, 0.5, 0.4, 1]


def test_masks_are_counted_by_class_and_source(report, results):
    rows = {(row["class"], row["source"]): row for row in table(report, "masks")}
    assert len(rows) == 22 * 4
    for place, column in enumerate(TRAINED):
        for source in ("all", "CPSC", "Georgia", "Ningbo"):
            counts = dict.fromkeys(("present", "present masked", "absent", "absent masked"), 0)
            for record in range(COUNT):
                if source in ("all", results.store.sources[record]):
                    kind = "present" if results.store.labels[record, column] else "absent"
                    counts[kind] += 1
                    counts[f"{kind} masked"] += results.masks[record, place] == 0
            row = rows[ABBREVIATIONS[column], source]
            assert {name: int(row[name]) for name in counts} == counts


@pytest.mark.parametrize("leads", [12, 2])
def test_the_score_follows_from_the_thresholds_as_written(report, results, leads):
    thresholds = np.array([float(row[f"{leads} leads"]) for row in table(report, "thresholds")])
    row = next(row for row in table(report, "scores") if row["leads"] == str(leads))
    labels = results.store.labels[results.validation[results.scored]]
    probabilities = expand(results.validated[leads][results.scored])
    for name, used in (("score with one for each class", thresholds), ("score at 0.5", 0.5),
                       ("score with one threshold", float(row["one threshold"]))):  # fmt: skip
        assert float(row[name]) == pytest.approx(challenge_score(labels, probabilities >= used, WEIGHTS), abs=1e-5)


@pytest.mark.parametrize("leads", [12, 2])
def test_class_scores_are_those_of_scikit_learn_and_empty_where_there_are_none(report, results, leads):
    labels = results.store.labels[results.validation[results.scored]]
    probabilities = expand(results.validated[leads][results.scored])
    answers = probabilities >= results.searches[leads].thresholds
    rows = table(report, f"class_scores_{leads}_leads")
    assert [row["class"] for row in rows] == list(ABBREVIATIONS)
    empty = {(row["class"], name) for row in rows for name, cell in row.items() if cell == ""}
    expected = set()
    for name, row, truth, answer, score in zip(ABBREVIATIONS, rows, labels.T, answers.T, probabilities.T, strict=True):
        assert int(row["labelled"]) == truth.sum()
        assert int(row["answered"]) == answer.sum()
        assert int(row["both"]) == (truth & answer).sum()
        metrics = {
            "precision": (answer.any(), precision_score, answer),
            "recall": (truth.any(), recall_score, answer),
            "F-measure": (answer.any() or truth.any(), f1_score, answer),
            "AUROC": (truth.any(), roc_auc_score, score),
            "AUPRC": (truth.any(), average_precision_score, score),
        }
        for metric, (exists, reference, given) in metrics.items():
            if exists:
                assert float(row[metric]) == pytest.approx(reference(truth, given), abs=1e-5)
            else:
                expected.add((name, metric))
    assert empty == expected
    assert ("PR", "AUROC") in empty
    means = next(row for row in table(report, "scores") if row["leads"] == str(leads))
    for metric in ("F-measure", "AUROC", "AUPRC"):
        known = [float(row[metric]) for row in rows if row[metric]]
        assert float(means[metric]) == pytest.approx(np.mean(known), abs=1e-5)


def test_the_summary_is_json_with_settings_counts_and_versions(report, results):
    summary = json.loads((report / "report.json").read_text())
    assert summary["settings"] == json.loads(json.dumps(asdict(Settings())))
    assert summary["recordings"] == {
        "found": COUNT + 2, "left out": 2, "training": COUNT // 2, "validation": COUNT // 2,
        "scored": results.scored.sum(),
    }  # fmt: skip
    assert summary["scored on"] == ["Georgia"]
    labels = summary["labels"]
    assert labels["present masked"] + labels["absent masked"] == (results.masks == 0).sum()
    assert labels["present"] + labels["absent"] == results.masks.size
    assert [scores["leads"] for scores in summary["scores"]] == [12, 2]
    assert summary["versions"]["numpy"] == np.__version__


def test_every_lead_set_has_its_pictures(report):
    names = ["learning_curves"] + [f"{kind}_{leads}_leads" for leads in (12, 2) for kind in ("classes", "confusion")]
    assert sorted(path.stem for path in report.glob("*.png")) == sorted(names)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in report.glob("*.png"))


def test_a_report_replaces_the_one_before_it_and_what_an_interrupted_one_left(results, tmp_path):
    for name in ("report", "part.report"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "classes_6_leads.png").write_text("of another training")
    write_report(tmp_path, replace(results, searches={}, epochs=[]), Settings())
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert not list((tmp_path / "report").glob("*.png"))


def test_what_cannot_be_scored_is_null(tmp_path):
    results = made_results(rate=0.0)
    write_report(tmp_path, replace(results, searches={12: results.searches[12]}), Settings())
    summary = json.loads((tmp_path / "report" / "report.json").read_text(), parse_constant=pytest.fail)
    assert summary["scores"][0]["AUROC"] is None
    assert table(tmp_path / "report", "scores")[0]["AUROC"] == ""


def test_the_console_is_told_sources_masks_and_scores_in_short_lines(results):
    lines = summary_lines(results)
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    everything = next(line for line in lines if line.startswith("all "))
    assert [int(word) for word in everything.split()[1:]] == [COUNT + 2, 2, COUNT // 2, COUNT // 2]
    present = results.store.labels[:, TRAINED]
    assert f"masked present labels: {(present & (results.masks == 0)).sum()} of {present.sum()}: " in text
    for leads, search in results.searches.items():
        scores = (search.score_at_half, search.score_common, search.score_by_class)
        line = next(line for line in lines if line.startswith(f"{leads} leads"))
        assert line.split()[2:] == [f"{score:.3f}" for score in scores]
