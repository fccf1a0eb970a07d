import numpy as np
import pytest

from ecg.reports.comparison_charts import (
    CostPoint,
    area_map,
    axis_range,
    cost_chart,
    escape_formula,
    forest_plot,
    format_count,
)

NOTHING = np.full(3, np.nan)


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


def test_an_axis_shows_near_values_and_writes_far_ones_at_its_end():
    low, high = axis_range(around(0.5, 0.45, 0.48, 0.1))
    assert 0.3 < low < 0.43 and 0.52 < high < 0.6
    axes = shown(forest_plot(list("abcd"), {"x": around(0.5, 0.45, 0.48, -0.1)}))[0]
    assert words(axes) == ["◂ −0.100"]
    low, high = axis_range(around(0.5, 0.6), zero=True)
    assert low < 0 and high > 0.62


@pytest.mark.parametrize("estimates", [[NOTHING], [(0.5, np.nan, np.nan)], np.zeros((2, 3))])
def test_an_axis_has_a_length_for_any_estimates(estimates):
    low, high = axis_range(np.array(estimates))
    assert high - low > 0.02


def test_more_panels_than_a_row_holds_go_into_several():
    axes = shown(forest_plot(["a"], {str(place): around(0.5) for place in range(6)}))
    assert [panel.get_subplotspec().rowspan.start for panel in axes] == [0, 0, 0, 1, 1, 1]


def test_no_bar_leaves_the_axis_and_a_value_written_at_its_end_has_no_dot():
    estimates = around(0.5, 0.5, 0.5, 0.45, 0.1)
    estimates[3, 1] = 0.2
    estimates[2] = 0.44, 0.43, 0.46
    (axes,) = shown(forest_plot([*"abcde"], {"x": estimates}))
    low = axes.get_xlim()[0]
    assert all(bar[0, 0] >= low for bar in axes.collections[0].get_segments())
    assert words(axes) == ["◂ 0.100"] and len(axes.collections[1].get_offsets()) == 4
    estimates = around(0.52, 0.5, 0.5, 0.5, 0.43, width=0.05)
    estimates[4, 1] = 0.1
    (axes,) = shown(forest_plot([*"abcde"], {"x": estimates}))
    assert axes.get_xlim()[0] < 0.1 and words(axes) == []


@pytest.mark.parametrize(
    "values, least", [((1.875e6, 1.876e6, 1.877e6), 2), ((2e6, 5e6, 4.5e7), 3), ((1e3, 5e5, 4.5e7), 2), ((0.4, 0.7), 1)]
)
def test_the_numbers_of_a_cost_axis_do_not_overlap(values, least):
    points = [CostPoint(f"s{place}", 12, around(0.5)[0], 3 * (value,)) for place, value in enumerate(values)]
    for axes in shown(cost_chart(points, "metric", ("a", "b", "c"))):
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


def test_each_system_has_a_point_for_each_lead_set_and_cost():
    points = [CostPoint("a", 12, around(0.5)[0], (1e6, 60, 5)), CostPoint("a", 2, around(0.4)[0], (1e6, 30, 0)),
              CostPoint("b", 12, NOTHING, (1e4, 10, 1))]  # fmt: skip
    axes = shown(cost_chart(points, "metric", ("weights", "seconds", "ms")))
    assert [panel.get_xlabel() for panel in axes] == ["weights", "seconds", "ms"]
    assert [sorted(words(panel)) for panel in axes] == [["12", "2"], ["12", "2"], ["12"]]
    assert all(panel.get_xscale() == "log" for panel in axes)


def test_unknown_costs_leave_an_empty_chart():
    assert len(shown(cost_chart([CostPoint("a", 12, NOTHING, (0, 0, np.nan))], "metric", ("x", "y", "z")))) == 3


def test_names_are_neither_formulas_nor_terminal_commands():
    assert escape_formula("$x_1$ \x1b[31m") == r"\$x_1\$ \x1b[31m"
    figure = forest_plot(["$\\nope$"], {"$\\bad{$": around(0.5)})
    shown(figure)
