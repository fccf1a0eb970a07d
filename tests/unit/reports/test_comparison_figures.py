from dataclasses import replace

import numpy as np
import pytest
from helpers import make_comparison

from ecg.evaluation.bootstrap import compute_metrics
from ecg.reports.comparison_charts import by_frequency, draw_figures
from ecg.runtime.console import format_estimate, pluralise

TRIALS = ({"system": "a"}, {"system": "b"}, {"system": "a", "leads": 2})


@pytest.fixture(scope="module")
def comparison():
    return make_comparison(results=TRIALS)


def test_every_lead_set_has_its_pictures_and_says_in_words_what_they_show(comparison):
    drawn = {one.name: one for one in draw_figures(comparison, compute_metrics(comparison, 5))}
    kinds = ("scores_12", "differences_12", "classes_12", "sources_12", "scores_2", "classes_2", "sources_2")
    assert list(drawn) == [*(f"{kind}_leads" for kind in kinds), "costs"]
    found = compute_metrics(comparison, 5).overall
    values = [f"{found[place]['metric optimised'][0]:.3f}" for place in (0, 1)]
    assert drawn["scores_12_leads"].alternative == f"metric optimised: a {values[0]}, b {values[1]}"
    assert ", TInv." in drawn["classes_12_leads"].caption
    assert all(one.title and one.caption and one.alternative for one in drawn.values())
    panels = [axes.get_title("left") for axes in drawn["differences_12_leads"].figure.axes]
    assert panels == ["metric optimised", "metric as predicted", "AUROC", "AUPRC", "F1 optimised", "F1 as predicted"]


def test_answers_by_each_systems_own_rule_are_marked_beside_the_optimised_ones(comparison):
    found = compute_metrics(comparison, 3)
    drawn = {one.name: one for one in draw_figures(comparison, found)}["scores_12_leads"].figure.axes
    marks = {axes.get_title("left"): {line.get_label(): line.get_xdata() for line in axes.lines} for axes in drawn}
    for name in ("metric", "F1"):
        expected = [found.overall[place][f"{name} as predicted"][0] for place in (0, 1)]
        np.testing.assert_array_equal(marks[f"{name} optimised"]["as predicted"], expected)


def test_a_source_that_is_the_only_one_has_no_picture_of_its_own(comparison):
    one = replace(comparison, sources=np.full(150, "Georgia"))
    assert not any("sources" in picture.name for picture in draw_figures(one, compute_metrics(one, 2)))


def test_recordings_without_labels_have_no_picture_of_classes(comparison):
    nothing = replace(comparison, labels=np.zeros_like(comparison.labels))
    names = [one.name for one in draw_figures(nothing, compute_metrics(nothing, 3))]
    assert "scores_12_leads" in names and not any("classes" in name for name in names)


def test_estimates_are_said_with_their_interval_where_there_is_one():
    assert format_estimate((0.51234, 0.5, 0.525)) == ("0.512", "0.500 to 0.525")
    assert format_estimate((-0.1, -0.2, 0.05), "+") == ("−0.100", "−0.200 to +0.050")
    assert format_estimate((0.5, np.nan, np.nan)) == ("0.500", "") and format_estimate((np.nan, np.nan, np.nan)) == (
        "n/a",
        "",
    )


def test_classes_come_by_how_many_have_them_without_those_that_none_has():
    assert by_frequency(np.array([3, 0, 7, 3])) == [2, 0, 3]


def test_one_is_one_and_others_are_several():
    assert [pluralise(count, "system") for count in (0, 1, 1200)] == ["0 systems", "1 system", "1,200 systems"]
