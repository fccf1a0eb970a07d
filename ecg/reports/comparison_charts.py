"""Draw the metrics of a comparison: scores, areas by class, costs.

An estimate is an array (3,): a value and the ends of its interval, as in ecg.evaluation.bootstrap. NaN is drawn as n/a.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ecg.evaluation import bootstrap
from ecg.evaluation.bootstrap import AUPRC, AUROC, F1_OPTIMISED, OPTIMISED, Comparison, MetricTable, SystemResult
from ecg.reports.training_charts import BLUE, GREEN, GREY, ORANGE, PALE, draw_cells
from ecg.runtime.console import escape_unprintable, pluralise

SCORE_PANELS = (OPTIMISED, AUROC, AUPRC, F1_OPTIMISED)
DIFFERENCE_PANELS = (OPTIMISED, bootstrap.PREDICTED, bootstrap.BY_CREDIT, AUROC, F1_OPTIMISED, bootstrap.F1_PREDICTED,
                     bootstrap.F1_BY_CREDIT, AUPRC)  # fmt: skip
FEW = 10  # recordings of a class; with fewer its area depends on chance

WIDTH = 10.9  # inches of a page's column
PANELS_IN_ROW = 4
FEW_TENFOLDS = 50  # ratio of an axis' ends; below it a logarithmic axis also shows 2 and 5
COLOURS = (BLUE, ORANGE, GREEN, "#8f2d56", "#6b4aa0", "#0b7a8a", "#8a6d1d", "#c2478f", "#4a4a55", "#7a9a2b", "#22306b",
           "#b0522c")  # fmt: skip
MARKS = (("|", 10, ORANGE), ("x", 6, GREEN), ("D", 4, "#6b4aa0"))  # marker, size and colour of additional values
CHANCE = 0.5  # area under the ROC curve at which the colour scale begins
NOT_KNOWN = "–"


class ComparisonFigure(NamedTuple):
    """A figure of the page.

    Attributes:
        name: Name of its file without extension, such as "scores_12_leads".
        figure: The figure.
        title: Its title.
        caption: What it shows.
    """

    name: str
    figure: Figure
    title: str
    caption: str


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
    caption = "The number in a dot is the number of leads; bars are 95 % intervals."
    figure = cost_chart(comparison.results, [estimates[OPTIMISED] for estimates in metrics.overall])
    yield ComparisonFigure("costs", figure, "Scores and costs", caption)


def draw_scores(comparison: Comparison, metrics: MetricTable, leads: int) -> ComparisonFigure:
    """Draw the scores of all systems with a number of leads."""
    indices = comparison.indices_with_leads(leads)
    systems = comparison.systems_at(indices)
    panels = {name: np.array([metrics.overall[index][name] for index in indices]) for name in SCORE_PANELS}
    names = ("by its own rule", "by expected credit", "at 0.5")
    marks = {
        decisions[0]: {
            name: [metrics.overall[index][decision][0] for index in indices]
            for name, decision in zip(names, decisions[1:], strict=True)
        }
        for decisions in (bootstrap.CHALLENGE_METRICS, bootstrap.F1_METRICS)
    }
    caption = (f"Dots are values, bars their 95 % intervals; the dashed line is the value of {systems[0]}. "
               "Each lead set has its own axes.")  # fmt: skip
    figure = forest_plot(systems, panels, marks)
    return ComparisonFigure(f"scores_{leads}_leads", figure, f"Scores, {pluralise(leads, 'lead')}", caption)


def draw_differences(comparison: Comparison, metrics: MetricTable, leads: int) -> ComparisonFigure:
    """Draw how the other systems with a number of leads differ from the first one."""
    indices = [index for index in comparison.indices_with_leads(leads) if metrics.differences[index]]
    first, estimates = comparison.systems[0], [metrics.differences[index] or {} for index in indices]
    panels = {name: np.array([estimate[name] for estimate in estimates]) for name in DIFFERENCE_PANELS}
    title = f"Differences to {first}, {pluralise(leads, 'lead')}"
    caption = f"A system right of the dashed line is better than {first}. Bars are 95 % intervals of the difference."
    figure = forest_plot(comparison.systems_at(indices), panels, zero=True)
    return ComparisonFigure(f"differences_{leads}_leads", figure, title, caption)


def draw_classes(comparison: Comparison, metrics: MetricTable, leads: int) -> ComparisonFigure:
    """Draw the areas under the ROC curve by class, the most frequent on top."""
    indices, labelled = comparison.indices_with_leads(leads), comparison.labels.sum(axis=0)
    order = rank_classes(labelled)
    areas = np.array([metrics.by_class[index][AUROC][0, order] for index in indices])
    known = np.array([comparison.results[index].known_classes[order] for index in indices])
    classes = [(comparison.class_table.abbreviations[column], labelled[column]) for column in order]
    figure = area_map(comparison.systems_at(indices), classes, areas, known)
    rare = ", ".join(name for name, count in classes if count < FEW)
    missing = ", ".join(
        name for name, count in zip(comparison.class_table.abbreviations, labelled, strict=True) if not count
    )
    caption = f"In brackets the recordings of a class; {NOT_KNOWN} marks a class that the system does not know."
    caption += f" Fewer than {FEW} recordings, so that chance decides: {rare}." if rare else ""
    caption += f" In no recording: {missing}." if missing else ""
    title = f"Area under the ROC curve by class, {pluralise(leads, 'lead')}"
    return ComparisonFigure(f"classes_{leads}_leads", figure, title, caption)


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
    title = f"{OPTIMISED.capitalize()} by source, {pluralise(leads, 'lead')}"
    return ComparisonFigure(f"sources_{leads}_leads", forest_plot(systems, panels), title, caption)


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
        figure.legend(*panel_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False,
                      fontsize=9)  # fmt: skip
    return figure


def _draw_panel(axes: Axes, estimates: np.ndarray, marks: Mapping[str, Sequence[float]], zero: bool) -> None:
    value, low, high = estimates.T
    height = np.arange(len(value))
    reference = 0 if zero else value[0]
    if not np.isnan(reference):
        axes.axvline(reference, color=GREY, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    axes.hlines(height, low, high, color=BLUE, linewidth=2.4, alpha=0.55, zorder=2)
    axes.scatter(value, height, 34, BLUE, zorder=4, label="value, with its 95 % interval")
    for (name, values), (form, size, colour) in zip(marks.items(), MARKS, strict=False):
        axes.plot(values, height, form, color=colour, markersize=size, markeredgewidth=1.6, zorder=3, label=name,
                  linestyle="none")  # fmt: skip
    for row in height[np.isnan(value)]:
        axes.text(0.5, row, "n/a", color=GREY, fontsize=9, ha="center", va="center",
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    _remove_frame(axes)


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
    shades = np.where(known, areas, np.nan).T
    texts = np.where(np.isnan(shades), "n/a", np.char.mod("%.1f", 100 * shades))
    bar = draw_cells(axes, shades, np.where(known.T, texts, NOT_KNOWN), PowerNorm(2, CHANCE, 1, clip=True),
                     "area under the ROC curve (in the cells: hundredths)", location="bottom")  # fmt: skip
    bar.set_ticks((0.5, 0.7, 0.8, 0.9, 1.0))
    slanted = max(map(len, systems)) > 8
    axes.set_xticks(np.arange(len(systems)), map(escape_formula, systems), rotation=35 if slanted else 0,
                    ha="left" if slanted else "center", rotation_mode="anchor")  # fmt: skip
    axes.set_yticks(np.arange(len(classes)), [f"{name}  ({count:,})" for name, count in classes], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_aspect("auto")
    return figure


def cost_chart(results: Sequence[SystemResult], estimates: Sequence[np.ndarray]) -> Figure:
    """Draw scores against costs: a panel for each cost, a colour for each system.

    Args:
        results: What is drawn; the points of a system are joined. A cost that is not above 0 has no point.
        estimates: The score of each result, (3,).
    """
    costs: dict[str, list[float]] = {
        "weights": [result.parameters for result in results],
        "seconds of training": [result.training_seconds for result in results],
        "milliseconds to predict a recording": [1e3 * result.prediction_seconds for result in results],
    }
    figure = Figure((WIDTH, 4.6), layout="constrained")
    panels = figure.subplots(1, len(costs), sharey=True)
    systems = dict.fromkeys(result.system for result in results)
    for axes, (title, values) in zip(panels, costs.items(), strict=True):
        for system, colour in zip(systems, cycle(COLOURS), strict=False):
            points = sorted(
                (cost, result.leads, *estimate)
                for cost, result, estimate in zip(values, results, estimates, strict=True)
                if result.system == system and cost > 0
            )
            if points:
                x, leads, value, low, high = np.transpose(points)
                axes.plot(x, value, "o-", color=colour, markersize=11, markeredgecolor="white", linewidth=1,
                          label=escape_formula(system))  # fmt: skip
                axes.vlines(x, low, high, color=colour, linewidth=1.6, alpha=0.45)
                for across, up, number in zip(x, value, leads.astype(int), strict=True):
                    if not np.isnan(up):
                        axes.text(across, up, str(number), color="white", fontsize=7, ha="center", va="center_baseline")
        axes.set_xscale("log")
        axes.set_xlabel(title, fontsize=9.5)
        axes.margins(x=0.12)
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < FEW_TENFOLDS * low else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(format_count))
        axes.xaxis.set_minor_locator(NullLocator())
        _remove_frame(axes)
    panels[0].set_ylabel(OPTIMISED)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False,
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
