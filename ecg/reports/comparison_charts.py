"""Draw the metrics of a comparison: scores, areas by class, costs.

An estimate is an array (3,): a value and the ends of its interval, as in ecg.evaluation.bootstrap. NaN is drawn as n/a.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ecg.data.labels import ABBREVIATIONS
from ecg.evaluation.bootstrap import (
    AT_HALF,
    AUPRC,
    AUROC,
    F1_OPTIMISED,
    F1_PREDICTED,
    OPTIMISED,
    PREDICTED,
    Comparison,
    MetricTable,
)
from ecg.reports.training_charts import BLUE, DARK, GREEN, GREY, ORANGE, PALE
from ecg.runtime.console import escape_unprintable, format_estimate, pluralise

SCORE_PANELS = (OPTIMISED, AUROC, AUPRC, F1_OPTIMISED)
DIFFERENCE_PANELS = (OPTIMISED, PREDICTED, AUROC, AUPRC, F1_OPTIMISED, F1_PREDICTED)
COST_TITLES = ("weights", "seconds of training", "milliseconds to predict a recording")
FEW = 10  # recordings of a class; with fewer its area depends on chance

WIDTH = 10.9  # inches of a page's column
PANELS_IN_ROW = 4
NAMES_IN_ROW = 5  # in a legend
FEW_TENFOLDS = 50  # ratio of an axis' ends; below it a logarithmic axis also shows 2 and 5
COLOURS = (BLUE, ORANGE, GREEN, "#8f2d56", "#6b4aa0", "#0b7a8a", "#8a6d1d", "#c2478f", "#4a4a55", "#7a9a2b", "#22306b",
           "#b0522c")  # fmt: skip
MARKS = (("|", 10, ORANGE), ("D", 4, "#6b4aa0"))  # marker, size and colour of additional values
CHANCE = 0.5  # area under the ROC curve at which the colour scale begins
WHITE_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 1}
AREA_TICKS = (0.5, 0.7, 0.8, 0.9, 1.0)
NOT_KNOWN = "–"
# An axis reaches this many times as far below the best value as the median, and at least MIN_REACH below it. Values
# that are worse are written at its end.
REACH, MIN_REACH = 4, 0.05
SPACE, MIN_SPACE = 0.08, 0.015  # at the ends of an axis: share of its length, and at least


class ComparisonFigure(NamedTuple):
    """A figure of the page.

    Attributes:
        section: The part of the page that it belongs to, such as "scores 12".
        name: Name of its file without extension.
        figure: The figure.
        title: Its title.
        caption: What it shows.
        alternative: The same in words, for those who cannot see it.
    """

    section: str
    name: str
    figure: Figure
    title: str
    caption: str
    alternative: str


def draw_comparison(comparison: Comparison, metrics: MetricTable) -> Iterator[ComparisonFigure]:
    """Draw all figures of a page; one at a time is in memory."""
    for leads in comparison.lead_sets:
        yield draw_scores(comparison, metrics, leads)
        if any(metrics.differences[index] for index in comparison.indices_with_leads(leads)):
            yield draw_differences(comparison, metrics, leads)
        if comparison.labels.any():
            yield draw_classes(comparison, metrics, leads)
        if len(set(comparison.sources.tolist())) > 1:
            yield draw_sources(comparison, metrics, leads)
    yield draw_costs(comparison, metrics)


def draw_scores(comparison: Comparison, metrics: MetricTable, leads: int) -> ComparisonFigure:
    """Draw the scores of all systems with a number of leads."""
    indices = comparison.indices_with_leads(leads)
    systems = comparison.systems_at(indices)
    panels = {name: np.array([metrics.overall[index][name] for index in indices]) for name in SCORE_PANELS}
    by_rule, at_half, f1_by_rule = (
        [metrics.overall[index][name][0] for index in indices] for name in (PREDICTED, AT_HALF, F1_PREDICTED)
    )
    marks = {OPTIMISED: {"by its own rule": by_rule, "at 0.5": at_half}, F1_OPTIMISED: {"by its own rule": f1_by_rule}}
    caption = (
        f"Dots are values, bars their 95 % intervals; the dashed line is the value of {systems[0]}. A value far below "
        "the others is written at the end of the axis. Each lead set has its own axes."
    )
    alternative = describe_estimates(systems, OPTIMISED, panels[OPTIMISED])
    title = f"Scores, {pluralise(leads, 'lead')}"
    figure = forest_plot(systems, panels, marks)
    return ComparisonFigure(f"scores {leads}", f"scores_{leads}_leads", figure, title, caption, alternative)


def draw_differences(comparison: Comparison, metrics: MetricTable, leads: int) -> ComparisonFigure:
    """Draw how the other systems with a number of leads differ from the first one."""
    indices = [index for index in comparison.indices_with_leads(leads) if metrics.differences[index]]
    first, systems = comparison.systems[0], comparison.systems_at(indices)
    estimates = [difference for index in indices if (difference := metrics.differences[index])]
    panels = {name: np.array([estimate[name] for estimate in estimates]) for name in DIFFERENCE_PANELS}
    title = f"Differences to {first}, {pluralise(leads, 'lead')}"
    caption = f"A system right of the dashed line is better than {first}. Bars are 95 % intervals of the difference."
    alternative = describe_estimates(systems, f"{OPTIMISED}, minus {first}", panels[OPTIMISED])
    figure = forest_plot(systems, panels, zero=True)
    return ComparisonFigure(f"differences {leads}", f"differences_{leads}_leads", figure, title, caption, alternative)


def draw_classes(comparison: Comparison, metrics: MetricTable, leads: int) -> ComparisonFigure:
    """Draw the areas under the ROC curve by class, the most frequent on top."""
    indices, labelled = comparison.indices_with_leads(leads), comparison.labels.sum(axis=0)
    results, order = [comparison.results[index] for index in indices], rank_classes(labelled)
    areas = np.array([metrics.by_class[index][AUROC][0, order] for index in indices])
    known = np.array([result.known_classes[order] for result in results])
    classes = [(ABBREVIATIONS[column], labelled[column]) for column in order]
    figure = area_map([result.system for result in results], classes, areas, known)
    rare = ", ".join(name for name, count in classes if count < FEW)
    missing = ", ".join(name for name, count in zip(ABBREVIATIONS, labelled, strict=True) if not count)
    caption = f"In brackets the recordings of a class; {NOT_KNOWN} marks a class that the system does not know."
    caption += f" Fewer than {FEW} recordings, so that chance decides: {rare}." if rare else ""
    caption += f" In no recording: {missing}." if missing else ""
    title = f"Area under the ROC curve by class, {pluralise(leads, 'lead')}"
    alternative = f"{len(classes)} classes by {pluralise(len(results), 'system')}; the numbers are in by_class.csv"
    return ComparisonFigure(f"class {leads}", f"classes_{leads}_leads", figure, title, caption, alternative)


def rank_classes(labelled: np.ndarray) -> list[int]:
    """Rank classes by their number of recordings, without those of none."""
    return [int(column) for column in np.argsort(-labelled, kind="stable") if labelled[column]]


def draw_sources(comparison: Comparison, metrics: MetricTable, leads: int) -> ComparisonFigure:
    """Draw the scores of all systems with a number of leads by source."""
    indices, panels = comparison.indices_with_leads(leads), {}
    systems = comparison.systems_at(indices)
    for source in np.unique(comparison.sources).tolist():
        title = f"{source}\n{pluralise((comparison.sources == source).sum(), 'recording')}"
        panels[title] = np.array([metrics.by_source[index][source][OPTIMISED] for index in indices])
    caption = f"Each source has its own axis; the dashed line is the value of {systems[0]}."
    alternative = "; ".join(
        describe_estimates(systems, title.replace("\n", ", "), panel) for title, panel in panels.items()
    )
    title, figure = f"{OPTIMISED.capitalize()} by source, {pluralise(leads, 'lead')}", forest_plot(systems, panels)
    return ComparisonFigure(f"source {leads}", f"sources_{leads}_leads", figure, title, caption, alternative)


def draw_costs(comparison: Comparison, metrics: MetricTable) -> ComparisonFigure:
    """Draw the scores against what they cost."""
    points = [
        CostPoint(result.system, result.leads, estimates[OPTIMISED],
                  (result.parameters, result.training_seconds, 1e3 * result.prediction_seconds))
        for result, estimates in zip(comparison.results, metrics.overall, strict=True)
    ]  # fmt: skip
    caption = "The number in a dot is the number of leads; bars are 95 % intervals."
    alternative = f"{OPTIMISED} of each system against {', '.join(COST_TITLES)}; the numbers are in the table above"
    figure = cost_chart(points, OPTIMISED, COST_TITLES)
    return ComparisonFigure("costs", "costs", figure, "Scores and costs", caption, alternative)


def describe_estimates(systems: Sequence[str], name: str, estimates: np.ndarray) -> str:
    """Put the values of systems into words."""
    values = (
        f"{escape_unprintable(system)} {format_estimate(estimate)[0]}"
        for system, estimate in zip(systems, estimates, strict=True)
    )
    return f"{name}: {', '.join(values)}"


def forest_plot(
    systems: Sequence[str],
    panels: Mapping[str, np.ndarray],
    marks: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    zero: bool = False,
) -> Figure:
    """Draw estimates with intervals: a panel for each title, a row for each system.

    Args:
        systems: Names of the systems.
        panels: By title the estimates, (n_systems, 3).
        marks: By the title of a panel additional values by their name, (n_systems,).
        zero: Whether the values are differences. The dashed line is then at 0, and else at the first system's value.
    """
    rows = -(-len(panels) // PANELS_IN_ROW)
    columns = -(-len(panels) // rows)
    height = (0.35 if marks else 0) + rows * (0.93 + 0.27 * len(systems))
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.1, wspace=0.02, hspace=0.03)
    figure = Figure((WIDTH, height), layout=layout)
    panel_axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes in panel_axes[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, estimates) in zip(panel_axes, panels.items(), strict=False):
        _draw_panel(axes, np.asarray(estimates), (marks or {}).get(title, {}), zero)
        axes.set_title("\n".join(map(escape_formula, title.split("\n"))), fontsize=10, fontweight="bold", loc="left")
    panel_axes[0].set_yticks(range(len(systems)), map(escape_formula, systems))
    panel_axes[0].set_ylim(len(systems) - 0.4, -0.6)
    if marks:
        figure.legend(*panel_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False,
                      fontsize=9)  # fmt: skip
    return figure


def _draw_panel(axes: Axes, estimates: np.ndarray, marks: Mapping[str, Sequence[float]], zero: bool) -> None:
    value, low, high = estimates.T
    height = np.arange(len(value))
    reference = 0 if zero else value[0]
    if not np.isnan(reference):
        axes.axvline(reference, color=GREY, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    left, right = axis_range(estimates, zero)
    marked = [np.asarray(values)[value >= left] for values in marks.values()]
    shown = np.concatenate([[left, right], *marked])
    space = SPACE * (np.nanmax(shown) - np.nanmin(shown)) if marked else 0
    left, right = np.nanmin(shown) - space, np.nanmax(shown) + space
    while (cut := (value >= left) & (low < left)).any():  # no bar may leave the axis
        left = low[cut].min() - MIN_SPACE
    axes.set_xlim(left, right)
    near = ~(value < left)
    axes.hlines(height[near], low[near], high[near], color=BLUE, linewidth=2.4, alpha=0.55, zorder=2)
    axes.scatter(value[near], height[near], 34, BLUE, zorder=4, label="value, with its 95 % interval")
    for (name, values), (form, size, colour) in zip(marks.items(), MARKS, strict=False):
        axes.plot(values, height, form, color=colour, markersize=size, markeredgewidth=1.6, zorder=3, label=name,
                  linestyle="none")  # fmt: skip
    for row in height[~near]:
        axes.text(0.02, row, f"◂ {value[row]:.3f}".replace("-", "−"), color=BLUE, fontsize=8.5, va="center",
                  transform=axes.get_yaxis_transform(), bbox=WHITE_BOX)  # fmt: skip
    for row in height[np.isnan(value)]:
        axes.text(0.5, row, "n/a", color=GREY, fontsize=9, ha="center", va="center", bbox=WHITE_BOX,
                  transform=axes.get_yaxis_transform())  # fmt: skip
    _remove_frame(axes)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))


def axis_range(estimates: np.ndarray, zero: bool = False) -> tuple[float, float]:
    """Choose the ends of an axis so that values near the best are shown.

    Args:
        estimates: (n, 3).
        zero: Whether 0 must be on the axis.
    """
    known = np.asarray(estimates)
    known = known[~np.isnan(known[:, 0])]
    always = [0.0] if zero or not len(known) else []
    best = max([*known[:, 0], *always])
    floor = best - max(REACH * (best - np.median(known[:, 0])), MIN_REACH) if len(known) else best
    shown = np.append(known[known[:, 0] >= floor], always)
    shown = shown[~np.isnan(shown)]
    space = SPACE * np.ptp(shown) + MIN_SPACE
    return float(shown.min() - space), float(shown.max() + space)


def area_map(
    systems: Sequence[str], classes: Sequence[tuple[str, int]], areas: np.ndarray, known: np.ndarray
) -> Figure:
    """Draw the area under the ROC curve of each class (row) and system (column).

    Args:
        systems: Names of the systems.
        classes: Name and number of recordings of each class.
        areas: (n_systems, n_classes), NaN if an area does not exist.
        known: Whether the system knows the class, (n_systems, n_classes) bool.
    """
    figure = Figure((min(2.4 + 0.85 * len(systems), WIDTH), 1.7 + 0.25 * len(classes)), layout="constrained")
    axes = figure.add_subplot()
    norm = PowerNorm(2, CHANCE, 1, clip=True)
    shown = np.where(known, areas, np.nan).T
    edges = np.arange(len(systems) + 1) - 0.5, np.arange(len(classes) + 1) - 0.5
    image = axes.pcolormesh(*edges, np.ma.masked_invalid(shown), cmap=colormaps["Blues"].with_extremes(bad="#f4f4f6"),
                            norm=norm, edgecolors="white", linewidth=1.2)  # fmt: skip
    for row, column in np.ndindex(shown.shape):
        value = shown[row, column]
        text = NOT_KNOWN if not known[column, row] else "n/a" if np.isnan(value) else f"{100 * value:.1f}"
        dark = not np.isnan(value) and norm(value) > DARK
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "#22222c")
    slanted = max(map(len, systems)) > 8
    axes.set_xticks(np.arange(len(systems)), map(escape_formula, systems), rotation=35 if slanted else 0,
                    ha="left" if slanted else "center", rotation_mode="anchor")  # fmt: skip
    axes.set_yticks(np.arange(len(classes)), [f"{name}  ({count:,})" for name, count in classes], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.7, aspect=40, pad=0.01)
    bar.set_ticks(AREA_TICKS)
    bar.set_label("area under the ROC curve (in the cells: hundredths)", fontsize=9)
    bar.outline.set_visible(False)
    return figure


class CostPoint(NamedTuple):
    """A point of the cost chart; `estimate` is (3,), `costs` in the order of titles."""

    system: str
    leads: int
    estimate: np.ndarray
    costs: tuple[float, ...]


def cost_chart(points: Sequence[CostPoint], measure: str, titles: Sequence[str]) -> Figure:
    """Draw a measure against costs: a panel for each cost, a colour for each system.

    Args:
        points: What is drawn; the points of a system are joined. A cost that is not above 0 has no point.
        measure: Name of the measure.
        titles: Title of each cost.
    """
    figure = Figure((WIDTH, 4.6), layout="constrained")
    panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    handles = {}
    for cost, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        for number, system in enumerate(dict.fromkeys(point.system for point in points)):
            colour = COLOURS[number % len(COLOURS)]
            chosen = [point for point in points if point.system == system and point.costs[cost] > 0]
            if not chosen:
                continue
            chosen = sorted(chosen, key=lambda point: point.costs[cost])
            x = [point.costs[cost] for point in chosen]
            value, low, high = np.transpose([point.estimate for point in chosen])
            axes.plot(x, value, "-", color=colour, linewidth=1, alpha=0.5, zorder=2)
            axes.vlines(x, low, high, color=colour, linewidth=1.6, alpha=0.45, zorder=2)
            handles[escape_formula(system)] = axes.scatter(x, value, 130, colour, edgecolors="white", linewidths=0.8,
                                                           zorder=3)  # fmt: skip
            for across, up, point in zip(x, value, chosen, strict=True):
                if not np.isnan(up):
                    axes.text(across, up, str(point.leads), color="white", fontsize=7, ha="center",
                              va="center_baseline", zorder=4)  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlabel(title, fontsize=9.5)
        axes.margins(x=0.12)
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < FEW_TENFOLDS * low else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(format_count))
        axes.xaxis.set_minor_locator(NullLocator())
        _remove_frame(axes)
    panels[0].set_ylabel(measure)
    if handles:
        columns = -(-len(handles) // -(-len(handles) // NAMES_IN_ROW))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False,
                      fontsize=9)  # fmt: skip
    return figure


def format_count(number: float, _: object = None) -> str:
    """Format a number for an axis: "0.5", "2,000", "20 M" for millions."""
    return f"{number / 1e6:,g} M" if number >= 1e6 else f"{number:,g}"


def escape_formula(text: str) -> str:
    """Escape unprintable characters and the dollar signs of formulas."""
    return escape_unprintable(str(text)).replace("$", r"\$")


def _remove_frame(axes: Axes) -> None:
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
