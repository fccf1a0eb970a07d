from dataclasses import replace

import numpy as np
import pytest
from test_measures import made_comparison
from test_page import Read

from ecg.measures import MEASURES, OPTIMISED, measure
from ecg.synopsis import difference_rows, duration, html, markdown, score_rows, summary

TRIALS = ({"system": "first", "skill": 1.0, "seed": 0}, {"system": "better", "skill": 3.0},
          {"system": "same", "skill": 1.0, "seed": 0}, {"system": "worse", "skill": 0.2},
          {"system": "none", "covered": np.zeros(150, bool)})  # fmt: skip
FACTS = {"data": "/data/<b> | c", "seed": 7, "settings": [("setting", "first", "better"), ("loss", "<x>", "y|z")]}


@pytest.fixture(scope="module")
def comparison():
    return made_comparison(trials=TRIALS)


@pytest.fixture(scope="module")
def found(comparison):
    return measure(comparison, 50)


@pytest.fixture(scope="module")
def read(comparison, found, tmp_path_factory):
    return Read(html(comparison, found, FACTS, tmp_path_factory.mktemp("page")))


def test_the_page_is_whole_by_itself(read):
    assert not read.wrong
    assert not read.of("script") and not read.of("link") and not read.of("iframe")
    for _, attributes in read.attributes:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/svg+xml;base64,"))
    assert len(read.of("img")) == 5 and all(attributes["alt"] for attributes in read.of("img"))
    assert len(read.of("caption")) == len(read.of("table")) == 5


def test_the_page_tells_facts_scores_and_differences(read, comparison, found):
    told = [text for _, text in read.texts]
    assert {"/data/<b> | c", "7", "<x>", "y|z"} <= set(told)
    for estimates in found.overall[:-1]:
        assert all(f"{estimates[name][0]:.3f}".replace("-", "−") in told for name in MEASURES)
    assert f"{found.differences[1][OPTIMISED][0]:+.3f}" in told
    assert "n/a" in told and "0 of 150 recordings" in told
    assert read.text_in("h1") == ["5 systems on 150 recordings, 1 lead set"]


def test_the_best_of_each_measure_stand_out_and_what_an_interval_tells_from_nothing(comparison, found):
    rows = score_rows(comparison, found, 12)
    assert [row[0].text for row in rows] == [trial["system"] for trial in TRIALS]
    assert [[cell.strong for cell in row[1:]] for row in rows] == [[place == 1] * 6 for place in range(5)]
    rows = {row[0].text: row[1] for row in difference_rows(comparison, found, 12)}
    assert rows["better"].strong and rows["worse"].strong and not rows["same"].strong and not rows["none"].strong
    assert rows["better"].text.startswith("+") and rows["worse"].text.startswith("−")


def test_the_summary_names_the_best_and_counts_who_differs(comparison, found):
    value, low, high = found.overall[1][OPTIMISED]
    assert summary(comparison, found) == [
        f"12 leads: the best Challenge metric is {value:.3f} ({low:.3f} to {high:.3f}), by better. Of 3 others, 1 is "
        "better than first and 1 worse, by differences whose intervals are without 0."
    ]
    nothing = replace(comparison, trials=comparison.trials[-1:])
    assert summary(nothing, measure(nothing, 3)) == ["12 leads: no recording was answered."]


def test_markdown_tells_the_same_in_tables(comparison, found):
    lines = markdown(comparison, found, FACTS).splitlines()
    value, low, high = found.overall[1][OPTIMISED]
    assert any(line.startswith(f"| 12 leads | better | {value:.3f} ({low:.3f} to {high:.3f}) |") for line in lines)
    assert r"| data | /data/&lt;b> \| c |" in lines and r"| loss | &lt;x> | y\|z |" in lines
    tables = "\n".join(lines).split("\n\n")
    for table in (part.splitlines() for part in tables if part.startswith("|")):
        assert len({line.replace(r"\|", "").count("|") for line in table}) == 1


def test_one_system_is_compared_with_none(tmp_path):
    comparison = made_comparison(trials=({"system": "alone", "leads": 1},))
    found = measure(comparison, 3)
    told = html(comparison, found, {}, tmp_path)
    assert "Differences to" not in told and "<strong>" not in told and "1 lead: scores" in told
    assert "Differences to" not in markdown(comparison, found, {})


@pytest.mark.parametrize("seconds, expected", [
    (7200, "2 h"), (90, "1.5 min"), (1, "1 s"), (0.0123, "12.3 ms"), (0.000123, "0.12 ms"), (float("nan"), "n/a")
])  # fmt: skip
def test_durations_are_in_the_unit_that_reads_best(seconds, expected):
    assert duration(seconds) == expected
