import numpy as np
import pytest

from ecg.evaluation.bootstrap import SystemResult
from ecg.reports.comparison_charts import area_map, cost_chart, escape_formula, forest_plot, format_count

NOTHING = np.full(3, np.nan)


def result(system, leads, weights, seconds, milliseconds):
    """Return a result of these costs; nothing else of it is drawn."""
    return SystemResult(system, leads, *[None] * 4, weights, seconds, milliseconds / 1e3)


def words(axes):
    return [text.get_text() for text in axes.texts]


def around(*values, width=0.02):
    return np.array([(value, value - width, value + width) for value in values])


def shown(figure):
    figure.draw_without_rendering()
    return [axes for axes in figure.axes if axes.get_visible()]


def test_each_system_has_its_row_and_each_measure_its_panel():
    panels = {"metric": around(0.5, 0.6, 0.4), "AUROC": np.array([*around(0.9, 0.8), NOTHING])}
    axes = shown(forest_plot(["a", "b", "c"], panels, {"metric": {"at 0.5": [0.45, 0.5, 0.3]}}))
    assert [panel.get_title("left") for panel in axes] == ["metric", "AUROC"]
    for panel, estimates in zip(axes, panels.values(), strict=True):
        bars, dots = panel.collections[:2]
        known = ~np.isnan(estimates[:, 0])
        np.testing.assert_allclose(dots.get_offsets()[known], np.c_[estimates[:, 0], range(3)][known])
        ends = [segment[:, 0] for segment in bars.get_segments() if len(segment)]
        np.testing.assert_allclose(ends, estimates[known, 1:])
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["a", "b", "c"]
    assert axes[0].get_ylim()[0] > axes[0].get_ylim()[1], "the first system is on top"
    assert words(axes[0]) == [] and words(axes[1]) == ["n/a"]
    assert list(axes[0].lines[-1].get_xdata()) == [0.45, 0.5, 0.3] and axes[0].get_xlim()[0] < 0.3


def test_the_line_is_at_the_first_system_or_at_0_for_differences():
    for zero, expected in ((False, 0.5), (True, 0)):
        axes = shown(forest_plot(["a", "b"], {"x": around(0.5, 0.6)}, zero=zero))[0]
        assert axes.lines[0].get_xdata()[0] == expected
    assert not shown(forest_plot(["a"], {"x": np.array([NOTHING])}))[0].lines


def test_more_panels_than_a_row_holds_go_into_several():
    axes = shown(forest_plot(["a"], {str(place): around(0.5) for place in range(6)}))
    assert [panel.get_subplotspec().rowspan.start for panel in axes] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    "values, least", [((1.875e6, 1.876e6, 1.877e6), 2), ((2e6, 5e6, 4.5e7), 3), ((1e3, 5e5, 4.5e7), 2), ((0.4, 0.7), 1)]
)
def test_the_numbers_of_a_cost_axis_do_not_overlap(values, least):
    results = [result(f"s{place}", 12, value, value, value) for place, value in enumerate(values)]
    for axes in shown(cost_chart(results, around(*[0.5] * len(values)))):
        low, high = axes.get_xlim()
        labels = [label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
        boxes = [label.get_window_extent() for label in labels]
        assert len(labels) >= least
        assert all(box.x1 < next_box.x0 for box, next_box in zip(boxes, boxes[1:], strict=False))


def test_numbers_of_an_axis_are_short():
    assert [format_count(number) for number in (0.5, 2000, 2e7, 1.876e6)] == ["0.5", "2,000", "20 M", "1.876 M"]


def test_areas_are_in_hundredths_if_a_system_knows_the_class():
    areas = np.array([[0.991, 0.5, np.nan], [0.75, 0.5, 0.8]])
    known = np.array([[True, False, True], [True, True, True]])
    axes = shown(area_map(["a", "a longer name"], [("AF", 1200), ("SB", 9), ("PR", 1)], areas, known))[0]
    assert words(axes) == ["99.1", "75.0", "–", "50.0", "n/a", "80.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["AF  (1,200)", "SB  (9)", "PR  (1)"]


@pytest.mark.slow
def test_each_system_has_a_point_for_each_lead_set_and_cost():
    results = [result("a", 12, 1e6, 60, 5), result("a", 2, 1e6, 30, 0), result("b", 12, 1e4, 10, 1)]
    axes = shown(cost_chart(results, [*around(0.5, 0.4), NOTHING]))
    assert [panel.get_xlabel() for panel in axes] == [
        "weights", "seconds of training", "milliseconds to predict a recording"
    ]  # fmt: skip
    assert [sorted(words(panel)) for panel in axes] == [["12", "2"], ["12", "2"], ["12"]]
    assert all(panel.get_xscale() == "log" for panel in axes)


def test_unknown_costs_leave_an_empty_chart():
    assert len(shown(cost_chart([result("a", 12, 0, 0, np.nan)], [NOTHING]))) == 3


def test_names_are_neither_formulas_nor_terminal_commands():
    assert escape_formula("$x_1$ \x1b[31m") == r"\$x_1\$ \x1b[31m"
    figure = forest_plot(["$\\nope$"], {"$\\bad{$": around(0.5)})
    shown(figure)
