import csv
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest
from helpers import WEIGHTS, ParsedPage
from result_helpers import COUNT, make_corrected_results, make_exclusive_results, make_results

from ecg.data.labels import ABBREVIATIONS, CLASS_INDEX
from ecg.evaluation.metrics import challenge_score
from ecg.reports.card_tables import card_tables
from ecg.reports.training_report import build_training_page, report_lines, write_report
from ecg.reports.training_tables import training_tables
from ecg.runtime.console import escape_unprintable
from ecg.runtime.limits import TIME_LIMIT_REACHED
from ecg.systems.label_cleaning import describe_relabelling


@dataclass(frozen=True)
class Settings:
    seed: int = 3
    lead_sets: tuple[int, ...] = (12, 2)


@pytest.fixture(scope="module")
def results():
    return make_results()


@pytest.fixture(scope="module")
def report(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_report(folder, results, Settings())
    return folder / "report"


def table(report, name):
    with open(report / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_json_file_has_settings_counts_and_versions(report, results):
    summary = json.loads((report / "report.json").read_text())
    assert summary["settings"] == json.loads(json.dumps(asdict(Settings())))
    assert summary["recordings"] == {
        "found": COUNT + 2, "excluded": 2, "training": COUNT // 2, "validation": COUNT // 2,
        "scored": results.scored.sum(), "without a known diagnosis": results.store.undiagnosed.sum(),
    }  # fmt: skip
    assert summary["scored on"] == ["Georgia"]
    assert summary["versions"]["numpy"] == np.__version__


def test_every_table_is_in_the_json_file_as_it_is_in_its_csv_file(report, results):
    summary = json.loads((report / "report.json").read_text(), parse_constant=pytest.fail)
    names = {path.stem for path in report.glob("*.csv")}
    assert names > {"sources", "excluded", "split", "classes", "epochs", "masks", "thresholds", "scores"}
    for name in names:
        rows = [{key: "" if cell is None else str(cell) for key, cell in row.items()} for row in summary[name]]
        assert rows == table(report, name)
    assert [row["leads"] for row in summary["scores"]] == [12, 12, 2, 2]
    assert summary["epochs"][0]["optimised"] is None
    everything = [row for row in summary["masks"] if row["source"] == "all"]
    assert sum(row["present masked"] + row["absent masked"] for row in everything) == (results.masks == 0).sum()
    assert sum(row["present"] + row["absent"] for row in everything) == results.masks.size


def test_csv_files_are_the_tables_to_six_digits(report, results):
    expected = training_tables(results) | card_tables(results)
    assert {path.stem for path in report.glob("*.csv")} == set(expected)
    for name, rows in expected.items():
        with open(report / f"{name}.csv", newline="") as file:
            header, *cells = list(csv.reader(file))
        assert tuple(header) == rows[0] and len(cells) == len(rows) - 1
        for cell, value in zip((c for row in cells for c in row), (v for row in rows[1:] for v in row), strict=True):
            if value is None or value != value:
                assert cell == ""
            elif isinstance(value, float):
                assert float(cell) == pytest.approx(value, rel=1e-5)
            else:
                assert cell == str(value)


def test_a_table_has_one_line_a_row_in_the_json_file(report, results):
    lines = (report / "report.json").read_text().splitlines()
    assert sum('"split": "' in line for line in lines) == COUNT


def test_every_lead_set_has_its_figures(report):
    names = ["learning_curves"] + [
        f"{kind}_{leads}_leads" for leads in (12, 2) for kind in ("classes", "confusion", "reliability")
    ]
    assert sorted(path.stem for path in report.glob("*.png")) == sorted(names)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in report.glob("*.png"))


def test_the_page_opens_offline_and_has_every_section(report, results):
    read = ParsedPage((report / "index.html").read_text())
    assert not read.wrong and not read.attributes_of("script") and not read.attributes_of("link")
    assert all(
        image["src"].startswith("data:image/png;base64,") and image["alt"] for image in read.attributes_of("img")
    )
    assert len(read.attributes_of("img")) == len(list(report.glob("*.png")))
    assert [text.strip() for text in read.text_in("h2")] == [
        "Scores", "Decisions", "Learning curves", "Thresholds", "Classes", "Label masks", "Relabelling",
        "Disagreements", "Recordings", "Model card", "Settings and versions", "Tables as files",
    ]  # fmt: skip
    assert len(read.attributes_of("caption")) == len(read.attributes_of("table"))
    texts = {text for _, text in read.texts}
    for row in table(report, "scores"):
        assert f"{float(row['score as predicted']):.3f}".replace("-", "−") in texts
    assert {describe_relabelling(relabelling) for relabelling in results.relabellings} <= texts
    assert {"source PTB is not trained on", "flat lead", "lead_sets", "12, 2", "R004", "0.990"} <= texts


def test_a_long_table_is_cut_on_the_page(results, tmp_path, monkeypatch):
    monkeypatch.setattr("ecg.reports.html_page.MAX_ROWS", 3)
    write_report(tmp_path, replace(results, searches={}, epochs=[], disagreements=[]), Settings())
    page = (tmp_path / "report/index.html").read_text()
    assert "Recordings by source; the first 3 of 4 rows, all are in sources.csv" in page
    assert len(table(tmp_path / "report", "sources")) == 4


def test_a_report_replaces_the_one_before_it_and_what_an_interrupted_one_left(results, tmp_path):
    for name in ("report", ".part.report"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "classes_6_leads.png").write_text("of another training")
    (tmp_path / "model_card.md").write_text("of another training")
    write_report(tmp_path, replace(results, searches={}, epochs=[]), Settings())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model_card.md", "report"]
    assert "of another training" not in (tmp_path / "model_card.md").read_text()
    assert not list((tmp_path / "report").glob("*.png"))


@pytest.mark.slow
def test_a_score_that_does_not_exist_is_null(tmp_path):
    results = make_results(rate=0.0)
    write_report(tmp_path, replace(results, searches={12: results.searches[12]}), Settings())
    summary = json.loads((tmp_path / "report" / "report.json").read_text(), parse_constant=pytest.fail)
    assert summary["scores"][0]["AUROC"] is None
    assert table(tmp_path / "report", "scores")[0]["AUROC"] == ""


def test_the_console_gets_a_summary_in_short_lines(results):
    lines = report_lines(results)
    assert max(map(len, lines)) <= 100
    everything = next(line for line in lines if line.startswith("all "))
    assert [int(word) for word in everything.split()[1:]] == [COUNT + 2, 2, COUNT // 2, COUNT // 2]
    assert "1 excluded: source PTB is not trained on (S0001)" in lines
    for leads, search in results.searches.items():
        (by_credit,) = (row[5] for row in training_tables(results)["scores"][1:] if row[:2] == (leads, "cleaned"))
        scores = (search.score_at_half, search.score_common, search.score_by_class, by_credit, search.score)
        cleaned, original = (line for line in lines if line.startswith(f"{leads} leads"))
        assert cleaned.split()[2:] == [f"{score:.3f}" for score in scores]
        assert original.startswith(f"{leads} leads, original labels ")


@pytest.mark.slow
def test_exclusive_classes_have_no_thresholds_in_the_report(tmp_path):
    results = make_exclusive_results()
    lines = report_lines(results)
    assert not any("threshold" in line or "0.5" in line for line in lines)
    (score,) = (line for line in lines if line.startswith("12 leads  "))
    assert score.split()[2:] == [f"{value:.3f}" for value in training_tables(results)["scores"][1][5:7]]
    write_report(tmp_path, replace(results, disagreements=[], epochs=[]), Settings())
    assert not list((tmp_path / "report").glob("thresholds*"))
    for kind in ("confusion_matrix", "reliability"):
        assert (tmp_path / f"report/{kind}_12_leads.png").exists()


@pytest.mark.slow
def test_the_report_says_that_scores_are_by_your_own_weights(results, tmp_path):
    weights = np.eye(26)
    weights[:, CLASS_INDEX["AF"]] -= 0.3
    settings = replace(results.settings, weights=tuple(map(tuple, weights.tolist())), decision="expected_credit")
    results = replace(results, settings=settings, disagreements=[])
    write_report(tmp_path, results, settings)
    page = ParsedPage((tmp_path / "report/index.html").read_text())
    texts = [text for _, text in page.texts]
    assert any(text.startswith("Metric with your own weights of the model on these: ") for text in texts)
    assert any(text.startswith("a table with fingerprint ") for text in texts)
    for row in table(tmp_path / "report", "decisions"):
        outputs = results.predictions_by_decision(int(row["leads"]))[row["decision"]]
        labels = results.label_versions[row["labels"]]
        assert float(row["metric"]) == pytest.approx(challenge_score(labels, outputs, weights), abs=1e-5)
    assert any(line.endswith(", by the metric with your own weights") for line in report_lines(results))


@pytest.mark.parametrize("folds", [None, 5])
def test_the_page_says_if_single_networks_predicted_what_is_scored(results, folds):
    settings = replace(results.settings, folds=folds)
    page = build_training_page(replace(results, settings=settings), settings, training_tables(results), {}, [])
    assert ("by those networks alone that were not trained on it" in " ".join(page.split())) == (folds is not None)


def test_the_console_summarises_relabelling_and_why_a_rule_was_skipped(results):
    lumped, omitted, skipped = results.relabellings
    changed = (lumped.before[:, CLASS_INDEX["AF"]] != lumped.after[:, CLASS_INDEX["AF"]]).sum()
    sentence = describe_relabelling(lumped)
    assert sentence.startswith(f"AFL or AF in Ningbo: {len(lumped.records)} recordings examined; added: AF {changed}; ")
    assert sentence.endswith(f"removed: AFL {changed}")
    assert describe_relabelling(omitted).endswith("removed: none")
    assert describe_relabelling(skipped) == "SB or NSR in Mine: not relabelled, no Mine"
    assert sentence in report_lines(results)


@pytest.mark.slow
def test_disagreements_are_drawn_from_their_recordings(results, headers, tmp_path):
    disagreements = [
        disagreement._replace(path=path) for disagreement, path in zip(results.disagreements, headers, strict=False)
    ]
    write_report(tmp_path, replace(results, disagreements=disagreements, searches={}), Settings())
    drawn = sorted(path.name for path in (tmp_path / "report" / "disagreements").iterdir())
    assert drawn == ["01_R004_AF.png", "02_R006_SB.png"]


def test_no_line_is_printed_if_no_recording_is_excluded(results):
    lines = report_lines(replace(results, store=replace(results.store, excluded=())))
    assert not any(line.startswith(("0 ", "1 ", "2 ")) for line in lines if "excluded:" in line)
    assert "\n\n\n" not in "\n".join(lines)


def test_scores_by_corrected_labels_and_by_the_headers_are_side_by_side_with_a_warning(tmp_path):
    results = make_corrected_results()
    write_report(tmp_path, results, Settings())
    rows = [row for row in table(tmp_path / "report", "scores") if row["leads"] == "12"]
    assert [row["labels"] for row in rows] == ["cleaned", "corrected", "original"]
    outputs = results.predictions(12)
    for row in rows:
        labels = results.label_versions[row["labels"]]
        assert float(row["score as predicted"]) == pytest.approx(challenge_score(labels, outputs, WEIGHTS), rel=1e-5)
    assert rows[1]["score as predicted"] != rows[2]["score as predicted"]
    page, card = (tmp_path / "report" / "index.html").read_text(), (tmp_path / "model_card.md").read_text()
    for text in (" ".join(page.split()), " ".join(card.split()), " ".join(" ".join(report_lines(results)).split())):
        assert "Scores by corrected labels can be too high" in text
    assert f"By the labels of the headers: {float(rows[2]['score as predicted']):.3f} with 12 leads" in page
    lines = "\n".join(report_lines(results))
    assert "12 leads, corrected labels" in lines and "12 leads, original labels" in lines


def test_without_corrections_nothing_warns_of_them(report, results):
    assert "orrected labels can be" not in (report / "index.html").read_text() + " ".join(report_lines(results))


def test_only_the_first_of_many_excluded_recordings_are_named(results):
    dropped = tuple((f"S{number:04}", "source PTB is not trained on") for number in range(1, 1201))
    lines = report_lines(replace(results, store=replace(results.store, excluded=dropped)))
    assert "1,200 excluded: source PTB is not trained on (S0001, S0002, S0003, ...)" in lines


def test_repairs_are_listed_by_kind_with_some_names(results):
    lines = report_lines(results)
    assert "2 repaired: flat lead (R001, R002)" in lines and "1 repaired: beyond 20 mV (R001)" in lines


@pytest.mark.slow
def test_a_name_that_is_not_utf_8_keeps_its_bytes_in_files_and_is_escaped_on_the_console(
    results, headers, tmp_path, caplog
):
    name = os.fsdecode(b"HR\xff8")
    for ending in (".hea", ".mat"):
        shutil.copy(headers[0].with_suffix(ending), tmp_path / f"{name}{ending}")
    names = np.array([f"{name}_{place}" for place in range(len(results.store))])
    dropped = ((name, f"{name}.mat: no such file"), ("S0001", "source PTB is not trained on"))
    repaired = ((name, *results.store.repaired[0][1:]),)
    store = replace(results.store, names=names, excluded=dropped, repaired=repaired)
    disagreements = [results.disagreements[0]._replace(name=name, path=tmp_path / f"{name}.hea"),
             results.disagreements[1]._replace(name=name, path=tmp_path / f"{name}_gone.hea")]  # fmt: skip
    strange = replace(results, store=store, disagreements=disagreements, searches={})
    write_report(tmp_path, strange, Settings())
    lines = [*map(escape_unprintable, caplog.messages), *report_lines(replace(strange, searches=results.searches))]
    report = tmp_path / "report"
    assert [path.name for path in (report / "disagreements").iterdir()] == [f"01_{name}_AF.png"]
    for kind in ("excluded", "repaired", "split", "disagreements"):
        assert b"HR\xff8" in (report / f"{kind}.csv").read_bytes()
    assert rb"HR\udcff8" in (report / "index.html").read_bytes()
    text = (report / "report.json").read_bytes().decode("ascii")
    assert json.loads(text)["excluded"][0]["record"] == name
    assert "\n".join(lines).encode().count(rb"HR\udcff8") >= 3


def test_what_a_training_lacks_is_listed(results):
    titles = {epoch.key: epoch.title for epoch in results.epochs}
    ended = [titles[key] for key, reason in results.ends.items() if reason == TIME_LIMIT_REACHED and key in titles]
    column = results.columns[0]
    labels = results.labels.copy()
    labels[results.training, column] = False
    incomplete = replace(results, labels=labels)
    first, second = incomplete.limitations[0], incomplete.limitations[-1]
    assert ABBREVIATIONS[column] in first.removeprefix("no recording to train on has ").split(", ")
    assert ended and second == f"the time limit ended {len(ended)} of {len(results.ends)} trainings: {', '.join(ended)}"
    assert ABBREVIATIONS[column] in " ".join(report_lines(incomplete))
    assert replace(results, ends={}, labels=np.ones_like(results.labels)).limitations == []
