import csv
from dataclasses import replace

import numpy as np
import pytest
from test_measures import made_comparison

from ecg.comparison import differing, recordings, tables, write_comparison
from ecg.labels import ABBREVIATIONS
from ecg.measures import MEASURES, OF_CLASSES, measure

FACTS = {"data": "somewhere", "settings that differ": differing({"a": {"loss": "x"}, "b": {"loss": "y"}})}
NUMBERS = ("recordings", "overall", "differences", "by_class", "by_source", "by_fold", "costs")


@pytest.fixture(scope="module")
def comparison():
    covered = np.arange(150) % 3 < 2
    return made_comparison(trials=({"system": "a"}, {"system": "b", "covered": covered}))


@pytest.fixture(scope="module")
def written(comparison, tmp_path_factory):
    return write_comparison(tmp_path_factory.mktemp("report"), comparison, FACTS, resamples=5, seed=2)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_tables_pictures_and_pages_are_written(written):
    names = {path.name for path in written.parent.iterdir()}
    assert written.name == "comparison.html" and {f"{name}.csv" for name in NUMBERS} <= names
    assert {"comparison.md", "facts.csv", "settings_that_differ.csv", "costs.svg", "scores_12_leads.svg"} <= names
    facts = rows_of(written.with_name("facts.csv"))
    assert facts == [{"fact": "data", "value": "somewhere"}, {"fact": "bootstrap", "value": "5 resamples, seed 2"}]
    for ending in ("html", "md"):
        assert "Georgia" in written.with_suffix(f".{ending}").read_text()


def test_the_same_answers_give_the_same_files_in_place_of_others(written, comparison, tmp_path):
    folder = tmp_path / "comparison"
    folder.mkdir()
    (folder / "old.csv").write_text("of another comparison")
    write_comparison(tmp_path, comparison, FACTS, resamples=5, seed=2)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison"]
    files, others = ({path.name: path.read_bytes() for path in place.iterdir()} for place in (written.parent, folder))
    assert files == others


def test_the_tables_hold_the_estimates(written, comparison):
    found = measure(comparison, 5, 2)
    overall = rows_of(written.with_name("overall.csv"))
    assert [(row["system"], row["leads"], row["recordings"]) for row in overall] == [
        ("a", "12", "150"), ("b", "12", "100")
    ]  # fmt: skip
    ends = ("", " low", " high")
    for row, estimates in zip(overall, found.overall, strict=True):
        for name in MEASURES:
            np.testing.assert_allclose([float(row[f"{name}{end}"]) for end in ends], estimates[name], rtol=1e-5)
    (difference,) = rows_of(written.with_name("differences.csv"))
    assert (difference["system"], difference["minus"], difference["recordings"]) == ("b", "a", "100")
    np.testing.assert_allclose(float(difference["F1 low"]), found.differences[1]["F1"][1], rtol=1e-5)


def test_classes_sources_and_folds_add_up(written, comparison):
    covered = comparison.covered(comparison.trials[1])
    by_class = [row for row in rows_of(written.with_name("by_class.csv")) if row["system"] == "b"]
    assert [row["class"] for row in by_class] == list(ABBREVIATIONS)
    answers = comparison.trials[1].optimised[covered]
    assert [int(row["labelled"]) for row in by_class] == comparison.labels[covered].sum(axis=0).tolist()
    assert [int(row["answered"]) for row in by_class] == answers.sum(axis=0).tolist()
    for row in by_class:
        assert all((row[name] == "") == (row["labelled"] == "0") for name in OF_CLASSES)
    for kind in ("source", "fold"):
        rows = rows_of(written.with_name(f"by_{kind}.csv"))
        for number, system in ((150, "a"), (100, "b")):
            assert sum(int(row["recordings"]) for row in rows if row["system"] == system) == number
    assert [row["metric optimised"] for row in rows if row["system"] == "b"][2] == "", "a fold that was not reached"
    sources = rows_of(written.with_name("recordings.csv"))
    assert sum(int(row["recordings"]) for row in sources) == 150
    assert all(sum(int(row[f"fold {fold}"]) for fold in range(3)) == int(row["recordings"]) for row in sources)


def test_every_table_is_as_wide_as_its_head(comparison):
    for rows in tables(comparison, measure(comparison, 2)).values():
        assert {len(row) for row in rows} == {len(rows[0])}


def test_settings_that_differ_are_told_by_their_full_names():
    settings = {"a": {"loss": "x", "network": {"width": 4, "depth": 2}}, "b": {"loss": "x", "network": {"width": 8}}}
    assert differing(settings) == [("setting", "a", "b"), ("network.width", "4", "8"), ("network.depth", "2", "")]


def test_one_fold_is_not_told_apart(comparison):
    one = replace(comparison, folds=np.zeros(150, int))
    assert recordings(one)[0] == ("source", "recordings") and sum(count for _, count in recordings(one)[1:]) == 150
