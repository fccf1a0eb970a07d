from dataclasses import replace

import numpy as np
import pytest
from helpers import make_comparison

from ecg.evaluation.bootstrap import compute_metrics
from ecg.reports.comparison_charts import draw_comparison, rank_classes
from ecg.runtime.console import format_estimate, pluralise

TRIALS = ({"system": "a"}, {"system": "b"}, {"system": "a", "leads": 2})


@pytest.fixture(scope="module")
def comparison():
    return make_comparison(results=TRIALS)


def test_every_lead_set_has_its_figures_with_titles_and_captions(comparison):
    drawn = {figure.name: figure for figure in draw_comparison(comparison, compute_metrics(comparison, 5))}
    kinds = ("scores_12", "differences_12", "classes_12", "sources_12", "scores_2", "classes_2", "sources_2")
    assert list(drawn) == [*(f"{kind}_leads" for kind in kinds), "costs"]
    metrics = compute_metrics(comparison, 5).overall
    dots = drawn["scores_12_leads"].figure.axes[0].collections[1].get_offsets()[:, 0]
    np.testing.assert_allclose(dots, [metrics[index]["metric optimised"][0] for index in (0, 1)])
    assert ", TInv." in drawn["classes_12_leads"].caption
    assert all(figure.title and figure.caption for figure in drawn.values())
    panels = [axes.get_title("left") for axes in drawn["differences_12_leads"].figure.axes]
    assert panels == ["metric optimised", "metric as predicted", "metric by expected credit", "AUROC",
                      "F1 optimised", "F1 as predicted", "F1 by expected credit", "AUPRC"]  # fmt: skip


@pytest.mark.slow
def test_scores_by_each_systems_own_rule_are_marked_next_to_the_optimised_ones(comparison):
    metrics = compute_metrics(comparison, 3)
    drawn = {figure.name: figure for figure in draw_comparison(comparison, metrics)}["scores_12_leads"].figure.axes
    marks = {axes.get_title("left"): {line.get_label(): line.get_xdata() for line in axes.lines} for axes in drawn}
    for name in ("metric", "F1"):
        decisions = {"by its own rule": "as predicted", "by expected credit": "by expected credit", "at 0.5": "at 0.5"}
        for label, decision in decisions.items():
            expected = [metrics.overall[index][f"{name} {decision}"][0] for index in (0, 1)]
            np.testing.assert_array_equal(marks[f"{name} optimised"][label], expected)


@pytest.mark.slow
def test_a_single_source_has_no_figure_of_sources(comparison):
    single_source = replace(comparison, sources=np.full(150, "Georgia"))
    assert not any(
        "sources" in figure.name for figure in draw_comparison(single_source, compute_metrics(single_source, 2))
    )


def test_recordings_without_labels_have_no_figure_of_classes(comparison):
    nothing = replace(comparison, labels=np.zeros_like(comparison.labels))
    names = [figure.name for figure in draw_comparison(nothing, compute_metrics(nothing, 3))]
    assert "scores_12_leads" in names and not any("classes" in name for name in names)


def test_an_estimate_has_an_interval_if_it_is_known():
    assert format_estimate((0.51234, 0.5, 0.525)) == ("0.512", "0.500 to 0.525")
    assert format_estimate((-0.1, -0.2, 0.05), "+") == ("−0.100", "−0.200 to +0.050")
    assert format_estimate((0.5, np.nan, np.nan)) == ("0.500", "") and format_estimate((np.nan, np.nan, np.nan)) == (
        "n/a",
        "",
    )


def test_classes_are_ranked_by_frequency_without_those_of_no_recording():
    assert rank_classes(np.array([3, 0, 7, 3])) == [2, 0, 3]


def test_counts_have_singular_and_plural():
    assert [pluralise(count, "system") for count in (0, 1, 1200)] == ["0 systems", "1 system", "1,200 systems"]
