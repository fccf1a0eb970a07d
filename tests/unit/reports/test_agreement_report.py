"""The report on agreement: its tables hold every verdict, and its page is safe and complete."""

import csv

import numpy as np
import pytest
from helpers import ParsedPage

from ecg.data.labels import CLASS_INDEX
from ecg.data.reviewers import LABELS, MODEL
from ecg.data.reviews import ABSENT, PRESENT, UNDECIDED, Review, Verdict
from ecg.evaluation.agreement import build_study
from ecg.reports.agreement_report import AGREEMENT_TABLES, agreement_tables, describe_pair, write_agreement

NAMES = [f"E{row:05}" for row in range(40)]


def make_reviews(seed=0, classes=("LAD", "AF")):
    """Reviews of two people, who agree in part; one of the recordings is not among NAMES."""
    random, reviews = np.random.default_rng(seed), []
    for record in [*NAMES, "elsewhere"]:
        for abbreviation in classes:
            is_present = random.random() < 0.5
            for reviewer, error in (("Anna", 0.1), ("Ben", 0.3)):
                verdict = Verdict.PRESENT if is_present ^ (random.random() < error) else Verdict.ABSENT
                verdict = Verdict.UNSURE if random.random() < 0.1 else verdict
                comment = f"<b>{reviewer}</b>" * (verdict == Verdict.PRESENT)
                time = "2026-01-01T00:00:00Z"
                reviews.append(Review(record, abbreviation, verdict, comment, time, "1.0.0", True, reviewer))
    return reviews


@pytest.fixture(scope="module")
def study():
    random = np.random.default_rng(1)
    labels, predictions = (random.random((2, len(NAMES), 26)) < 0.5).astype(np.int8)
    return build_study(make_reviews(), NAMES, labels, {MODEL: predictions}, resamples=50)


def rows_of(table):
    header, *rows = table
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_labels_and_model_are_compared_where_somebody_has_reviewed(study):
    assert study.names == tuple(NAMES) and [rater.name for rater in study.raters] == ["Anna", "Ben", LABELS, MODEL]
    reviewed = [CLASS_INDEX["LAD"], CLASS_INDEX["AF"]]
    for rater in (study.labels, *study.models):
        verdicts = rater.verdicts
        assert np.isin(verdicts[:, reviewed], (PRESENT, ABSENT)).all()
        assert (np.delete(verdicts, reviewed, axis=1) == UNDECIDED).all()
    assert len(study.pairs) == 6


def test_a_study_without_names_is_of_all_reviewed_recordings():
    study = build_study(make_reviews(), resamples=10)
    assert set(study.names) == {*NAMES, "elsewhere"} and study.labels is None and study.models == []
    assert len(rows_of(agreement_tables(study)["reviewed_labels"])) == 0


def test_the_tables_count_every_verdict_once(study):
    tables = {name: rows_of(table) for name, table in agreement_tables(study).items()}
    assert tuple(tables) == AGREEMENT_TABLES
    for row in tables["agreement"]:
        counts = [row[name] for name in ("both present", "only first present", "only second present", "both absent")]
        assert sum(counts) == row["decisions"] and row["agreed"] == counts[0] + counts[3]
    pair = [row for row in tables["agreement"] if (row["first"], row["second"]) == ("Anna", "Ben")]
    assert [row["class"] for row in pair] == ["all", "AF", "LAD"]
    assert pair[0]["decisions"] == sum(row["decisions"] for row in pair[1:])
    assert pair[0]["decisions"] + pair[0]["unsure"] == 2 * len(NAMES) == len(tables["verdicts"])
    assert sum(row["recordings"] for row in tables["reviewed_labels"]) == 2 * len(NAMES)
    for reviewer in tables["reviewers"]:
        assert reviewer["verdicts"] == reviewer["present"] + reviewer["absent"] + reviewer["unsure"] == 2 * len(NAMES)


def test_contested_recordings_are_those_with_both_verdicts_and_show_the_comments(study):
    tables = {name: rows_of(table) for name, table in agreement_tables(study).items()}
    expected = [row for row in tables["verdicts"] if {row["Anna"], row["Ben"]} == {"present", "absent"}]
    contested = [{name: value for name, value in row.items() if name != "comments"} for row in tables["contested"]]
    assert contested == expected and contested
    assert tables["contested"][0]["comments"] in ("Anna: <b>Anna</b>", "Ben: <b>Ben</b>")


def test_what_most_reviewers_say_is_counted_by_label_and_prediction(study):
    reviews = {(review.reviewer, review.record): review.verdict for review in study.reviews if
               review.abbreviation == "LAD"}  # fmt: skip
    labels, model = (rater.verdicts[:, CLASS_INDEX["LAD"]] for rater in (study.labels, *study.models))
    expected = sum(
        label == PRESENT and predicted == ABSENT and {reviews["Anna", name], reviews["Ben", name]} == {"absent"}
        for name, label, predicted in zip(study.names, labels, model, strict=True)
    )
    (row,) = (row for row in rows_of(agreement_tables(study)["reviewed_labels"])
              if (row["class"], row["label"], row["prediction"]) == ("LAD", "present", "absent"))  # fmt: skip
    assert row["absent"] == expected


def test_models_are_told_apart_and_each_has_its_predictions():
    random = np.random.default_rng(1)
    labels, *predictions = (random.random((3, len(NAMES), 26)) < 0.5).astype(np.int8)
    study = build_study(make_reviews(), NAMES, labels, dict(zip("ab", predictions, strict=True)), resamples=50)
    assert [rater.name for rater in study.raters] == ["Anna", "Ben", LABELS, "a", "b"] and len(study.pairs) == 10
    rows = rows_of(agreement_tables(study)["reviewed_labels"])
    for model, verdicts in zip("ab", predictions, strict=True):
        counts = [row["recordings"] for row in rows if row["model"] == model and row["prediction"] == "present"]
        assert sum(counts) == verdicts[:, [CLASS_INDEX["LAD"], CLASS_INDEX["AF"]]].sum()


def test_the_report_is_a_page_a_figure_and_csv_files(study, tmp_path):
    page = write_agreement(tmp_path / "out", study, {"reviews": "<i>folder</i>"})
    names = {f"{name}.csv" for name in AGREEMENT_TABLES} | {"agreement.html", "kappa.svg"}
    assert {path.name for path in page.parent.iterdir()} == names
    text = page.read_text("utf-8")
    assert "Agreement of 2 reviewers, the labels, the model on 40 recordings" in text
    assert "<b>Anna</b>" not in text and "&lt;b&gt;Anna" in text and "<i>folder</i>" not in text
    assert not ParsedPage(text).wrong
    with open(page.parent / "agreement.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 6 * 3
    before = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    write_agreement(tmp_path / "out", study, {"reviews": "<i>folder</i>"})
    assert {path.name: path.read_bytes() for path in page.parent.iterdir()} == before


def test_one_reviewer_alone_has_a_report(tmp_path):
    reviews = [review for review in make_reviews() if review.reviewer == "Anna"]
    page = write_agreement(tmp_path / "out", build_study(reviews, resamples=10), {})
    assert "Agreement of 1 reviewer on 41 recordings" in page.read_text("utf-8")


def test_an_undefined_kappa_is_a_dash(tmp_path):
    reviews = [
        Review(record, "AF", Verdict.PRESENT, "", "2026-01-01T00:00:00Z", "1", reviewer=reviewer)
        for record in NAMES for reviewer in ("Anna", "$\\frac{1}{2}$ 李")
    ]  # fmt: skip
    study = build_study(reviews, resamples=10)
    assert describe_pair(study.pairs[0]).endswith("kappa -, 40 of 40 decisions the same")
    page = write_agreement(tmp_path / "out", study, {})
    assert ">-<" in page.read_text("utf-8")


def test_a_kappa_of_few_decisions_says_that_they_are_not_enough_for_an_interval(tmp_path):
    reviews = [
        Review(record, "AF", Verdict.PRESENT if record == NAMES[0] else Verdict.ABSENT, "", "2026-01-01T00:00:00Z", "1",
               reviewer=reviewer)
        for record in NAMES for reviewer in ("Anna", "Ben")
    ]  # fmt: skip
    study = build_study(reviews)
    expected = "kappa 1.000 (not enough decisions for an interval), 40 of 40 decisions the same"
    assert describe_pair(study.pairs[0]).endswith(expected)
    page = write_agreement(tmp_path / "out", study, {})
    assert "not enough decisions for an interval" in page.read_text("utf-8")
