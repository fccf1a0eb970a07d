"""How scores with their intervals, areas by class, and what a score costs are drawn.

An estimate is value, low and high, as in ecg.evaluation.bootstrap; what is NaN is written n/a.
"""

from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ecg.data.labels import ABBREVIATIONS
from ecg.evaluation.bootstrap import AT_HALF, AUPRC, AUROC, F1_OPTIMISED, F1_PREDICTED, OPTIMISED, PREDICTED
from ecg.reports.training_charts import BLUE, DARK, GREEN, GREY, ORANGE, PALE
from ecg.runtime.console import escape_unprintable, format_estimate, pluralise

SHOWN = (OPTIMISED, AUROC, AUPRC, F1_OPTIMISED)  # of the measures
DIFFERENCES = (OPTIMISED, PREDICTED, AUROC, AUPRC, F1_OPTIMISED, F1_PREDICTED)
COSTS = ("weights", "seconds of training", "milliseconds to answer a recording")
FEW = 10  # recordings of a class, below which its area is a matter of chance


class Picture(NamedTuple):
    """A picture: where it belongs, the name of its file, its title, what it shows, and that for who cannot see it."""

    place: str
    name: str
    figure: Figure
    title: str
    caption: str
    alternative: str


def draw_figures(comparison, found):
    """Yield the Pictures of a page, one at a time in memory."""
    for leads in comparison.lead_sets:
        places = comparison.indices_with_leads(leads)
        yield score_picture(comparison, found, places, leads)
        others = [place for place in places if found.differences[place]]
        if others:
            yield difference_picture(comparison, found, others, leads)
        if comparison.labels.any():
            yield class_picture(comparison, found, places, leads)
        if len(set(comparison.sources.tolist())) > 1:
            yield source_picture(comparison, found, places, leads)
    yield cost_picture(comparison, found)


def score_picture(comparison, found, places, leads):
    """Return the Picture of the scores of the trials at some places."""
    systems = comparison.systems_at(places)
    panels = {name: np.array([found.overall[place][name] for place in places]) for name in SHOWN}
    answered, half, measured = (
        [found.overall[place][name][0] for place in places] for name in (PREDICTED, AT_HALF, F1_PREDICTED)
    )
    beside = {OPTIMISED: {"as predicted": answered, "at 0.5": half}, F1_OPTIMISED: {"as predicted": measured}}
    figure = forest(systems, panels, beside)
    caption = (
        f"Dots are values, bars their 95 % intervals; the broken line is the value of {systems[0]}. What is far behind "
        "is written at the end of the axis. Each lead set has axes of its own."
    )
    alternative = in_words(systems, OPTIMISED, panels[OPTIMISED])
    return Picture(
        f"scores {leads}", f"scores_{leads}_leads", figure, f"Scores, {pluralise(leads, 'lead')}", caption, alternative
    )


def difference_picture(comparison, found, places, leads):
    """Return the Picture of how trials at some places differ from the first system."""
    first, systems = comparison.systems[0], comparison.systems_at(places)
    panels = {name: np.array([found.differences[place][name] for place in places]) for name in DIFFERENCES}
    figure = forest(systems, panels, zero=True)
    title = f"Differences to {first}, {pluralise(leads, 'lead')}"
    caption = (
        f"To the right of the broken line a system is better than {first}. Bars are 95 % intervals of the difference."
    )
    alternative = in_words(systems, f"{OPTIMISED}, minus {first}", panels[OPTIMISED])
    return Picture(f"differences {leads}", f"differences_{leads}_leads", figure, title, caption, alternative)


def class_picture(comparison, found, places, leads):
    """Return the Picture of the areas under the ROC curve by class, the most frequent on top."""
    trials, labelled = [comparison.results[place] for place in places], comparison.labels.sum(axis=0)
    order = by_frequency(labelled)
    areas = np.array([found.by_class[place][AUROC][0, order] for place in places])
    known = np.array([trial.known_classes[order] for trial in trials])
    classes = [(ABBREVIATIONS[column], labelled[column]) for column in order]
    figure = area_map([trial.system for trial in trials], classes, areas, known)
    rare = ", ".join(name for name, count in classes if count < FEW)
    missing = ", ".join(name for name, count in zip(ABBREVIATIONS, labelled, strict=True) if not count)
    caption = f"Beside a class, how many recordings have it; {NOT_KNOWN} where a system does not know it."
    caption += f" Fewer than {FEW} recordings, so that chance decides: {rare}." if rare else ""
    caption += f" In no recording: {missing}." if missing else ""
    title = f"Area under the ROC curve by class, {pluralise(leads, 'lead')}"
    alternative = f"{len(classes)} classes by {pluralise(len(trials), 'system')}; the numbers are in by_class.csv"
    return Picture(f"class {leads}", f"classes_{leads}_leads", figure, title, caption, alternative)


def by_frequency(labelled):
    """Return the places of classes that recordings have, by how many have them, (26,): the most frequent first."""
    return [column for column in np.argsort(-labelled, kind="stable") if labelled[column]]


def source_picture(comparison, found, places, leads):
    """Return the Picture of the scores of trials at some places in the recordings of each source."""
    systems, panels = comparison.systems_at(places), {}
    for source in np.unique(comparison.sources).tolist():
        title = f"{source}\n{pluralise((comparison.sources == source).sum(), 'recording')}"
        panels[title] = np.array([found.by_source[place][source][OPTIMISED] for place in places])
    caption = f"Each source has an axis of its own; the broken line is the value of {systems[0]}."
    alternative = "; ".join(in_words(systems, title.replace("\n", ", "), panel) for title, panel in panels.items())
    title = f"{OPTIMISED.capitalize()} by source, {pluralise(leads, 'lead')}"
    return Picture(f"source {leads}", f"sources_{leads}_leads", forest(systems, panels), title, caption, alternative)


def cost_picture(comparison, found):
    """Return the Picture of the scores against what they cost."""
    points = [
        (
            one.system,
            one.leads,
            estimates[OPTIMISED],
            (one.parameters, one.training_seconds, 1e3 * one.prediction_seconds),
        )
        for one, estimates in zip(comparison.results, found.overall, strict=True)
    ]
    caption = "The number in a dot is that of the leads; bars are 95 % intervals."
    alternative = f"{OPTIMISED} of each system against {', '.join(COSTS)}; the numbers are in the table above"
    figure = cost_chart(points, OPTIMISED, COSTS)
    return Picture("costs", "costs", figure, "What a score costs", caption, alternative)


def in_words(systems, name, estimates):
    """Return estimates of systems as a sentence."""
    told = (
        f"{escape_unprintable(system)} {format_estimate(values)[0]}"
        for system, values in zip(systems, estimates, strict=True)
    )
    return f"{name}: {', '.join(told)}"


WIDTH = 10.9  # inches of a page's column
PANELS_IN_ROW = 4
NAMES_IN_ROW = 5  # of a legend
FEW_TENFOLDS = 50  # times that a logarithmic axis ends beyond its beginning, up to which 2 and 5 are written, too
# Of systems; they are told apart in grey, too, as far as can be.
COLOURS = (BLUE, ORANGE, GREEN, "#8f2d56", "#6b4aa0", "#0b7a8a", "#8a6d1d", "#c2478f", "#4a4a55", "#7a9a2b", "#22306b",
           "#b0522c")  # fmt: skip
MARKS = (("|", 10, ORANGE), ("D", 4, "#6b4aa0"))  # form, size and colour of what is shown beside a value
BAD_AREA = 0.5  # from which the colours of areas begin: chance
ROOM = {"facecolor": "white", "edgecolor": "none", "pad": 1}
AREA_TICKS = (0.5, 0.7, 0.8, 0.9, 1.0)
NOT_KNOWN = "–"
# An axis goes so many times as far below the best value as the median lies, and so far at the least; what is worse is
# told at its end.
REACH, LEAST_REACH = 4, 0.05
SPACE, LEAST_SPACE = 0.08, 0.015  # at the ends of an axis, of its length and at the least


def forest(systems, panels, marks=None, zero=False):
    """Draw estimates of systems one below the other: a panel for each title, a row for each system.

    panels: by title an array (systems, 3). marks: by title what else there is, by its name (systems,). A line goes
    through the first system's value, or where the values are differences through 0. A value that is far behind the
    others is written at the end of the axis.
    """
    rows = -(-len(panels) // PANELS_IN_ROW)
    columns = -(-len(panels) // rows)
    extra = 0.35 if marks else 0
    figure = Figure((WIDTH, extra + rows * (0.93 + 0.27 * len(systems))), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.1, wspace=0.02, hspace=0.03)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, estimates) in zip(grid, panels.items(), strict=False):
        _panel(axes, np.asarray(estimates), (marks or {}).get(title, {}), zero)
        axes.set_title("\n".join(map(plain, title.split("\n"))), fontsize=10, fontweight="bold", loc="left")
    grid[0].set_yticks(range(len(systems)), map(plain, systems))
    grid[0].set_ylim(len(systems) - 0.4, -0.6)
    if marks:
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False,
                      fontsize=9)  # fmt: skip
    return figure


def _panel(axes, estimates, marks, zero):
    value, low, high = estimates.T
    height = np.arange(len(value))
    reference = 0 if zero else value[0]
    if not np.isnan(reference):
        axes.axvline(reference, color=GREY, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    left, right = span_of(estimates, zero)
    beside = [np.asarray(others)[value >= left] for others in marks.values()]
    shown = np.concatenate([[left, right], *beside])
    space = SPACE * (np.nanmax(shown) - np.nanmin(shown)) if beside else 0
    left, right = np.nanmin(shown) - space, np.nanmax(shown) + space
    while (cut := (value >= left) & (low < left)).any():  # no bar is to leave the axis
        left = low[cut].min() - LEAST_SPACE
    axes.set_xlim(left, right)
    near = ~(value < left)
    axes.hlines(height[near], low[near], high[near], color=BLUE, linewidth=2.4, alpha=0.55, zorder=2)
    axes.scatter(value[near], height[near], 34, BLUE, zorder=4, label="value, with its 95 % interval")
    for (name, others), (form, size, colour) in zip(marks.items(), MARKS, strict=False):
        axes.plot(others, height, form, color=colour, markersize=size, markeredgewidth=1.6, zorder=3, label=name,
                  linestyle="none")  # fmt: skip
    for place in height[~near]:
        axes.text(0.02, place, f"◂ {value[place]:.3f}".replace("-", "−"), color=BLUE, fontsize=8.5, va="center",
                  transform=axes.get_yaxis_transform(), bbox=ROOM)  # fmt: skip
    for place in height[np.isnan(value)]:
        axes.text(0.5, place, "n/a", color=GREY, fontsize=9, ha="center", va="center", bbox=ROOM,
                  transform=axes.get_yaxis_transform())  # fmt: skip
    _quiet(axes)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))


def span_of(estimates, zero=False):
    """Return the ends of an axis for estimates (n, 3): from what is not far behind the best to the best, and to 0.

    To 0 where it is asked for.
    """
    known = np.asarray(estimates)
    known = known[~np.isnan(known[:, 0])]
    always = [0.0] if zero or not len(known) else []
    best = max([*known[:, 0], *always])
    floor = best - max(REACH * (best - np.median(known[:, 0])), LEAST_REACH) if len(known) else best
    shown = np.append(known[known[:, 0] >= floor], always)
    shown = shown[~np.isnan(shown)]
    space = SPACE * np.ptp(shown) + LEAST_SPACE
    return float(shown.min() - space), float(shown.max() + space)


def area_map(systems, classes, areas, known):
    """Draw the area under the ROC curve of each class by each system: a row for each class, with its recordings.

    classes: pairs of a name and how many recordings have it, in order; areas (systems, classes), NaN where there are
    none; known (systems, classes) bool, whether the system knows the class.
    """
    figure = Figure((min(2.4 + 0.85 * len(systems), WIDTH), 1.7 + 0.25 * len(classes)), layout="constrained")
    axes = figure.add_subplot()
    norm = PowerNorm(2, BAD_AREA, 1, clip=True)
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
    axes.set_xticks(np.arange(len(systems)), map(plain, systems), rotation=35 if slanted else 0,
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


def cost_chart(points, measure, costs):
    """Draw a measure against what it costs: a panel for each cost, a colour for each system.

    points: tuples of a system, its number of leads, an estimate (3,) and its costs in the order of their titles, of
    which those that are not above 0 are left out. Points of a system are joined.
    """
    figure = Figure((WIDTH, 4.6), layout="constrained")
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    systems = list(dict.fromkeys(point[0] for point in points))
    for place, (axes, title) in enumerate(zip(panels, costs, strict=True)):
        for number, system in enumerate(systems):
            colour = COLOURS[number % len(COLOURS)]
            own = [point for point in points if point[0] == system and point[3][place] > 0]
            own = sorted(own, key=lambda point: point[3][place])
            x, y = [point[3][place] for point in own], [point[2] for point in own]
            if not own:
                continue
            value, low, high = np.transpose(y)
            axes.plot(x, value, "-", color=colour, linewidth=1, alpha=0.5, zorder=2)
            axes.vlines(x, low, high, color=colour, linewidth=1.6, alpha=0.45, zorder=2)
            axes.scatter(x, value, 130, colour, edgecolors="white", linewidths=0.8, zorder=3, label=plain(system))
            for across, up, (_, leads, *_) in zip(x, value, own, strict=True):
                if not np.isnan(up):
                    axes.text(across, up, str(leads), color="white", fontsize=7, ha="center", va="center_baseline",
                              zorder=4)  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlabel(title, fontsize=9.5)
        axes.margins(x=0.12)
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < FEW_TENFOLDS * low else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(count_in_words))
        axes.xaxis.set_minor_locator(NullLocator())
        _quiet(axes)
    panels[0].set_ylabel(measure)
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        columns = -(-len(handles) // -(-len(handles) // NAMES_IN_ROW))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False,
                      fontsize=9)  # fmt: skip
    return figure


def count_in_words(number, _=None):
    """Return a number as an axis shows it: '0.5', '2,000', '20 M' of millions."""
    return f"{number / 1e6:,g} M" if number >= 1e6 else f"{number:,g}"


def plain(text):
    """Return text as a picture shows it: what is not printable escaped, and nothing taken for a formula."""
    return escape_unprintable(str(text)).replace("$", r"\$")


def _quiet(axes):
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
