"""Pictures of a training: learning curves, precision and recall of the classes, what the Challenge metric credits."""

import textwrap
from itertools import groupby

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from ecg.data.labels import ABBREVIATIONS
from ecg.evaluation.metrics import SINUS, weighted_confusion
from ecg.reports.ecg_paper import INK, MARKS

BLUE, ORANGE, GREEN, GREY, PALE = "#1f5fa8", "#d9730d", "#2f8f5b", "#5b5b66", "#e6e6ea"
SCORES = ((GREY, "o-"), (GREEN, "o-"), (GREY, "o:"), (GREEN, "o:"))  # of the scores in a stage's epochs, in order
STAGES_IN_ROW = 3
SMALLEST_SHOWN = 0.005  # of the credit of a recording; below it a cell has no number
DARK = 0.6  # of the colour scale; above it numbers are white
TITLE_CHARACTERS = 88
DPI = 130


def learning_curves(epochs):
    """Draw each stage's losses and scores by epoch, and mark the epoch whose weights were kept.

    Takes a list of ecg.training.trainer.Epoch, one stage after the other. The scores share one scale, the losses do not,
    for the rounds have different ones.
    """
    stages = [list(group) for _, group in groupby(epochs, key=lambda epoch: epoch.stage)]
    columns = min(len(stages), STAGES_IN_ROW)
    rows = -(-len(stages) // columns)
    figure = Figure((0.6 + 4.2 * columns, 0.4 + 4.4 * rows), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    scores = [score for epoch in epochs for score in epoch.scores.values() if np.isfinite(score)] or [0]
    space = 0.06 * np.ptp(scores) + 0.02
    for stage, part in zip(stages, figure.subfigures(rows, columns, squeeze=False).flat, strict=False):
        losses, marks = part.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        number = [epoch.epoch for epoch in stage]
        losses.plot(number, [epoch.loss for epoch in stage], "o-", color=BLUE, label="training")
        losses.plot(number, [epoch.validation_loss for epoch in stage], "o-", color=ORANGE, label="validation")
        for name, (colour, line) in zip(stage[0].scores, SCORES, strict=False):
            marks.plot(number, [epoch.scores[name] for epoch in stage], line, color=colour, label=name)
        kept = max((epoch.epoch for epoch in stage if epoch.best), default=None)
        for axes in (losses, marks):
            for line in axes.lines:
                line.set(linewidth=1.6, markersize=3)
            axes.grid(color=PALE, linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
            if kept:
                axes.axvline(kept, color=GREY, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
        losses.set_title(stage[0].stage, fontweight="bold", fontsize=11, loc="left")
        losses.set_title(f"kept: epoch {kept}" if kept else "", fontsize=9, color=GREY, loc="right")
        losses.set(ylabel="loss", ylim=(0, None))
        marks.set(xlabel="epoch", ylabel="score", xlim=(0.5, number[-1] + 0.5),
                  ylim=(min(scores) - space, max(scores) + space))  # fmt: skip
        marks.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        losses.legend(framealpha=0.8, edgecolor="none", fontsize=8, loc="lower left")
        if stage[0].scores:
            marks.legend(framealpha=0.8, edgecolor="none", fontsize=7, loc="best", ncols=2)
    return figure


def peak_chart(recordings):
    """Draw lead II of recordings, below each other, with the peaks that are known above and those found below.

    Takes a list of ecg.systems.stage.PeakExample.
    """
    figure = Figure((12, 0.6 + 2.1 * len(recordings)), dpi=DPI, layout="constrained")
    for axes, (name, signal, rate, known, found) in zip(
        np.atleast_1d(figure.subplots(len(recordings), 1)), recordings, strict=True
    ):
        low, high = np.quantile(signal, (0.001, 0.999))
        height = max(high - low, 0.1)
        axes.plot(np.arange(len(signal)) / rate, signal, color=INK, linewidth=0.8)
        for peaks, row in ((known, high + 0.2 * height), (found, low - 0.2 * height)):
            for number, (wave, (colour, marker, _)) in enumerate(MARKS.items()):
                times = peaks.samples[peaks.waves == number] / rate
                axes.plot(times, np.full(len(times), row), marker, color=colour, markersize=4, linestyle="none",
                          label=wave if row > high else None)  # fmt: skip
        axes.set(xlim=(0, len(signal) / rate), ylim=(low - 0.4 * height, high + 0.4 * height), ylabel="mV")
        axes.set_title(f"{name}, lead II", loc="left", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(ncols=len(MARKS), fontsize=7, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    axes.set_xlabel("s")
    figure.suptitle("Peaks: above those by NeuroKit2, below those found by the network", fontsize=11, x=0.01, ha="left")
    return figure


def class_chart(labelled, precision, recall, title, subtitle, names, trained):
    """Draw precision and recall of the classes, the most frequent on top.

    Takes how many recordings have each of the C classes, and the two rates, NaN where they do not exist, (C,); their
    names, and which are trained (C,) bool. Classes neither labelled nor answered are named below the chart.
    """
    seen = ~(np.isnan(precision) & np.isnan(recall))
    order = [column for column in np.argsort(labelled, kind="stable") if seen[column]]
    height = np.arange(len(order))
    figure = Figure((8.5, 2.2 + 0.27 * len(order)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.hlines(height, np.fmin(precision, recall)[order], np.fmax(precision, recall)[order], color="#b9b9c2", zorder=2)
    axes.scatter(recall[order], height, 52, ORANGE, marker="D", zorder=3,
                 label="recall: of the labelled, how many are answered")  # fmt: skip
    axes.scatter(precision[order], height, 46, BLUE, zorder=4,
                 label="precision: of the answered, how many are labelled")  # fmt: skip
    axes.set_yticks(height, [names[column] + " (not trained)" * (not trained[column]) for column in order])
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.7, len(order) - 0.3))
    _right_column(axes, height, [f"{labelled[column]:,}" for column in order], "labelled")
    axes.tick_params(axis="y", length=0)
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    missing = ", ".join(name for name, there in zip(names, seen, strict=True) if not there)
    axes.set_xlabel(f"neither labelled nor answered: {missing}" if missing else "", fontsize=9, color=GREY)
    _titles(figure, axes, title, subtitle)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def confusion_chart(labels, answers, weights, title, subtitle):
    """Draw what a recording of each class earns in the Challenge metric by each answer, on the average.

    labels, answers (N, 26) bool, weights (26, 26). Row j, column k is weights times credit(labels, answers), over
    the number of recordings labelled j; beside the row, its sum, of what the labels themselves would earn. Classes
    neither labelled nor answered are left out, but for sinus rhythm.
    """
    labelled = labels.sum(axis=0)
    seen = (labels | answers).any(axis=0)
    seen[SINUS] = True  # what "inactive" answers in the metric, and something to show where nothing is seen
    shown = np.flatnonzero(seen)
    share = np.full(len(labelled), np.nan)
    np.divide(1, labelled, out=share, where=labelled > 0)
    weights = np.nan_to_num(weights) * share[:, np.newaxis]
    earned, best = ((weights * weighted_confusion(labels, given))[np.ix_(shown, shown)] for given in (answers, labels))
    texts = np.where(earned >= SMALLEST_SHOWN, np.char.mod("%.0f", 100 * np.nan_to_num(earned)), "")
    sums = zip(100 * earned.sum(axis=1), 100 * best.sum(axis=1), strict=True)
    sums = ["" if np.isnan(most) else f"{got:.0f} of {most:.0f}" for got, most in sums]
    bar = ("credit that a recording with the label earns by the answer\n(in the cells: hundredths; sum: of what the "
           "labels themselves would earn)")  # fmt: skip
    names = [ABBREVIATIONS[column] for column in shown]
    return _matrix(earned, texts, names, labelled[shown], (sums, "sum"), bar, title, subtitle)


def confusion_matrix_chart(counts, names, title, subtitle):
    """Draw the confusion matrix of classes that exclude each other: counts (K, K) int, labels by row; their names."""
    labelled = counts.sum(axis=1)
    shares = np.divide(counts, labelled[:, np.newaxis], out=np.full(counts.shape, np.nan), where=labelled[:, None] > 0)
    right = [f"{100 * share:.0f} %" if total else "" for share, total in zip(shares.diagonal(), labelled, strict=True)]
    texts = np.where(counts > 0, np.char.mod("%d", counts), "")
    bar = "share of the recordings with the label\n(in the cells: recordings)"
    return _matrix(shares, texts, names, labelled, (right, "right"), bar, title, subtitle)


def _matrix(shades, texts, names, labelled, beside, bar_label, title, subtitle):
    """Draw a matrix of shades from 0 to 1 with a text in each cell, labels by row, answers by column."""
    side = 0.36 * max(len(names), 8)
    figure = Figure((4.4 + side, 2.6 + side), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    norm = PowerNorm(0.6, 0, 1)
    image = axes.imshow(shades, cmap=colormaps["Blues"].with_extremes(bad=PALE), norm=norm)
    for row, column in np.argwhere(texts != ""):
        axes.text(column, row, texts[row, column], ha="center", va="center", fontsize=7.5,
                  color="white" if norm(shades[row, column]) > DARK else "#22222c",
                  fontweight="bold" if row == column else "normal")  # fmt: skip
    places = np.arange(len(names))
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(places, [f"{name}  ({count:,})" for name, count in zip(names, labelled, strict=True)])
    _right_column(axes, places, *beside)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=PALE, linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.set(xlabel="answered", ylabel="labelled (recordings)")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=25, pad=0.02)
    bar.set_label(bar_label, fontsize=9)
    bar.outline.set_visible(False)
    _titles(figure, axes, title, subtitle)
    return figure


def _right_column(axes, places, texts, title):
    """Write a text to the right of each row, and a title above them."""
    column = axes.secondary_yaxis("right")
    column.set_yticks(places, texts, fontsize=9)
    column.tick_params(length=0)
    column.spines[:].set_visible(False)
    axes.text(1.01, 1.005, title, transform=axes.transAxes, fontsize=9, color=GREY, va="bottom")


def _titles(figure, axes, title, subtitle):
    figure.suptitle(title, fontweight="bold", fontsize=12)
    axes.set_title(textwrap.fill(subtitle, TITLE_CHARACTERS), fontsize=9, color=GREY, pad=12)
