from dataclasses import replace

import numpy as np
import pytest
from helpers import make_comparison

from ecg.data.labels import CLASS_INDEX
from ecg.evaluation.bootstrap import CLASS_METRICS, METRICS, compute_metrics
from ecg.reports.comparison_report import (
    class_rows,
    cost_rows,
    decision_rows,
    difference_cell,
    difference_rows,
    score_rows,
    source_rows,
)
from ecg.runtime.console import pluralise

TRIALS = ({"system": "first", "skill": 1.0, "seed": 0}, {"system": "better", "skill": 3.0},
          {"system": "same", "skill": 1.0, "seed": 0}, {"system": "worse", "skill": 0.2, "time_limited": 1},
          {"system": "other", "leads": 2})  # fmt: skip


@pytest.fixture(scope="module")
def comparison():
    """A comparison whose first system does not know AF."""
    made = make_comparison(results=TRIALS)
    first, *rest = made.results
    probabilities = first.probabilities.copy()
    probabilities[:, CLASS_INDEX["AF"]] = 0
    return replace(made, results=(replace(first, probabilities=probabilities), *rest))


@pytest.fixture(scope="module")
def metrics(comparison):
    return compute_metrics(comparison, 50)


def format_value(estimate):
    return f"{estimate[0]:.3f}".replace("-", "−")


def test_the_best_values_and_the_differences_without_0_are_bold(comparison, metrics):
    rows = score_rows(comparison, metrics, 12)
    assert [row[0].text for row in rows] == ["first", "better", "same", "worse"]
    assert [[cell.strong for cell in row[1:]] for row in rows] == [[index == 1] * 7 for index in range(4)]
    assert not any(cell.strong for row in score_rows(comparison, metrics, 2) for cell in row)
    rows = {row[0].text: row[1] for row in difference_rows(comparison, metrics, 12)}
    assert list(rows) == ["better", "same", "worse"]
    assert rows["better"].strong and rows["worse"].strong and not rows["same"].strong
    assert rows["better"].text.startswith("+") and rows["worse"].text.startswith("−")
    assert difference_rows(comparison, metrics, 2) == []


def test_each_decision_has_its_metric_f1_and_number_of_classes(comparison, metrics):
    groups = decision_rows(comparison, metrics.overall, 12)
    assert list(groups) == ["first", "better", "same", "worse"]
    for index, rows in enumerate(groups.values()):
        for row in rows:
            expected = [metrics.overall[index][f"{kind} {row[0].text}"] for kind in ("metric", "F1", "classes")]
            assert [cell.text for cell in row[1:]] == list(map(format_value, expected))
        result = comparison.results[index]
        assert float(groups[result.system][2][3].text) == pytest.approx(result.by_credit.sum() / 150, abs=5e-4)
    differences = decision_rows(comparison, metrics.differences, 12, difference_cell)
    assert list(differences) == ["better", "same", "worse"]
    assert all(row[1].strong for row in differences["better"])
    assert not any(cell.strong for row in differences["same"][:3] for cell in row[1:])
    assert decision_rows(comparison, metrics.differences, 2, difference_cell) == {}


def test_trainings_that_the_time_limit_stopped_are_noted(comparison, metrics):
    assert [row[0].note for row in score_rows(comparison, metrics, 12)] == ["", "", "", "1 training stopped"]
    costs = cost_rows(comparison, 12)
    assert [(row[5].text, row[5].strong) for row in costs] == [("none", False)] * 3 + [("1 training", True)]


@pytest.mark.parametrize("seconds, expected", [(0.0123, "12.3 ms"), (2.5, "2,500.0 ms")])
def test_costs_have_readable_units(comparison, seconds, expected):
    trial = replace(comparison.results[0], networks=5, epochs=1200, training_seconds=3700.0, prediction_seconds=seconds)
    (row,) = cost_rows(replace(comparison, results=(trial,)), 12)
    assert [cell.text for cell in row] == ["first", "5", "1,000", "1 h 01 min", "1,200", "none", expected]


def test_classes_are_listed_the_most_frequent_first_and_unknown_ones_are_marked(comparison, metrics):
    tables = class_rows(comparison, metrics, 12)
    assert list(tables) == list(CLASS_METRICS)
    labelled = comparison.labels.sum(axis=0)
    for name, rows in tables.items():
        places = [CLASS_INDEX[row[0].text] for row in rows]
        assert sorted(places) == np.flatnonzero(labelled).tolist()
        assert (np.diff(labelled[places]) <= 0).all()
        for row, column in zip(rows, places, strict=True):
            assert row[0].note == pluralise(labelled[column], "recording")
            expected = [format_value(metrics.by_class[index][name][:, column]) for index in range(4)]
            expected[:1] = ["–"] if column == CLASS_INDEX["AF"] else expected[:1]
            assert [cell.text for cell in row[1:]] == expected
            best = np.array([metrics.by_class[index][name][0, column] for index in range(4)])
            best[0] = best[0] if column != CLASS_INDEX["AF"] else np.nan
            assert [cell.strong for cell in row[1:]] == (best == np.nanmax(best)).tolist()


def test_sources_have_all_metrics_with_intervals(comparison, metrics):
    tables = source_rows(comparison, metrics, 12)
    assert list(tables) == list(METRICS)
    for name, rows in tables.items():
        assert [row[0].text for row in rows] == np.unique(comparison.sources).tolist()
        for row in rows:
            source = row[0].text
            assert row[0].note == pluralise((comparison.sources == source).sum(), "recording")
            assert [cell.text for cell in row[1:]] == [
                format_value(metrics.by_source[index][source][name]) for index in range(4)
            ]
            low, high = metrics.by_source[1][source][name][1:]
            assert row[2].note == f"{low:.3f} to {high:.3f}".replace("-", "−")
