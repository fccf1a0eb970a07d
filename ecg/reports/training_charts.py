"""Draw learning curves, wave peaks, rates by class, calibration and disagreements."""

import logging
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from ecg.data.class_tables import ClassTable
from ecg.data.headers import Header, RecordError
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.preprocessing import correct_gains
from ecg.data.records import read_record
from ecg.evaluation.calibration import calibration_error, reliability_table
from ecg.evaluation.metrics import weighted_confusion
from ecg.reports.ecg_paper import INK, MARKS, ModelPanel, draw_record
from ecg.runtime.console import Progress, describe_error
from ecg.runtime.files import save_figure
from ecg.systems.label_comparison import Disagreement

if TYPE_CHECKING:  # these import Keras
    from ecg.systems.stage_runner import PeakExample
    from ecg.training.checkpoint import Epoch

LOGGER = logging.getLogger("ecg")

BLUE, ORANGE, GREEN, GREY, PALE = "#1f5fa8", "#d9730d", "#2f8f5b", "#5b5b66", "#e6e6ea"
SCORE_STYLES = ((GREY, "o-"), (GREEN, "o-"), (GREY, "o:"), (GREEN, "o:"))  # style of each score of a stage, in order
STAGES_IN_ROW = 3
SMALLEST_SHOWN = 0.005  # credit of a recording; a cell with less has no number
DARK = 0.6  # on the colour scale; above it numbers are white
TITLE_CHARACTERS = 88
DPI = 130
MAX_NAME_LENGTH = 50  # characters of a record's name in the name of a file, because it may be very long


def learning_curves(epochs: Sequence["Epoch"]) -> Figure:
    """Draw losses and scores of each stage by epoch, and mark the best epoch.

    Scores share one scale. Losses do not, because the rounds have different ones.

    Args:
        epochs: All epochs, one stage after the other.
    """
    stages = [list(group) for _, group in groupby(epochs, key=lambda epoch: epoch.title)]
    columns = min(len(stages), STAGES_IN_ROW)
    rows = -(-len(stages) // columns)
    figure = Figure((0.6 + 4.2 * columns, 0.4 + 4.4 * rows), dpi=DPI)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    scores = [score for epoch in epochs for score in epoch.scores.values() if np.isfinite(score)] or [0]
    space = 0.06 * np.ptp(scores) + 0.02
    for stage, subfigure in zip(stages, figure.subfigures(rows, columns, squeeze=False).flat, strict=False):
        losses, marks = subfigure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        number = [epoch.epoch for epoch in stage]
        losses.plot(number, [epoch.loss for epoch in stage], "o-", color=BLUE, label="training")
        losses.plot(number, [epoch.validation_loss for epoch in stage], "o-", color=ORANGE, label="validation")
        for name, (colour, line) in zip(stage[0].scores, SCORE_STYLES, strict=False):
            marks.plot(number, [epoch.scores[name] for epoch in stage], line, color=colour, label=name)
        kept = max((epoch.epoch for epoch in stage if epoch.best), default=None)
        for axes in (losses, marks):
            for line in axes.lines:
                line.set(linewidth=1.6, markersize=3)
            axes.grid(color=PALE, linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
            if kept:
                axes.axvline(kept, color=GREY, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
        losses.set_title(stage[0].title, fontweight="bold", fontsize=11, loc="left")
        losses.set_title(f"kept: epoch {kept}" if kept else "", fontsize=9, color=GREY, loc="right")
        lowest = min(min(epoch.loss, epoch.validation_loss) for epoch in stage)
        losses.set(ylabel="loss", ylim=(None if lowest < 0 else 0, None))  # with a credit, a loss can be negative
        marks.set(xlabel="epoch", ylabel="score", xlim=(0.5, number[-1] + 0.5),
                  ylim=(min(scores) - space, max(scores) + space))  # fmt: skip
        marks.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        losses.legend(framealpha=0.8, edgecolor="none", fontsize=8, loc="lower left")
        if stage[0].scores:
            marks.legend(framealpha=0.8, edgecolor="none", fontsize=7, loc="best", ncols=2)
    return figure


def peak_chart(examples: Sequence["PeakExample"]) -> Figure:
    """Draw lead II of recordings with known wave peaks above, predicted ones below."""
    figure = Figure((12, 0.6 + 2.1 * len(examples)), dpi=DPI, layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(examples), 1))
    for axes, (name, signal, rate, known, predicted) in zip(panels, examples, strict=True):
        low, high = np.quantile(signal, (0.001, 0.999))
        height = max(high - low, 0.1)
        axes.plot(np.arange(len(signal)) / rate, signal, color=INK, linewidth=0.8)
        for peaks, row in ((known, high + 0.2 * height), (predicted, low - 0.2 * height)):
            for number, (wave, (colour, marker, _)) in enumerate(MARKS.items()):
                times = peaks.samples[peaks.waves == number] / rate
                axes.plot(times, np.full(len(times), row), marker, color=colour, markersize=4, linestyle="none",
                          label=wave if row > high else None)  # fmt: skip
        axes.set(xlim=(0, len(signal) / rate), ylim=(low - 0.4 * height, high + 0.4 * height), ylabel="mV")
        axes.set_title(f"{name}, lead II", loc="left", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(ncols=len(MARKS), fontsize=7, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    panels[-1].set_xlabel("s")
    figure.suptitle("Wave peaks: above by NeuroKit2, below by the network", fontsize=11, x=0.01, ha="left")
    return figure


def class_chart(
    labelled: np.ndarray,
    precision: np.ndarray,
    recall: np.ndarray,
    titles: tuple[str, str],
    names: Sequence[str],
    trained: np.ndarray,
) -> Figure:
    """Draw precision and recall of the classes, the most frequent on top.

    Args:
        labelled: Number of recordings with each class, (n_classes,).
        precision: (n_classes,), NaN if it does not exist.
        recall: (n_classes,), NaN if it does not exist.
        titles: Title and subtitle.
        names: Names of the classes.
        trained: Whether each class is trained, (n_classes,) bool.

    Returns:
        The figure. Classes that are neither labelled nor predicted are named below the chart.
    """
    seen = ~(np.isnan(precision) & np.isnan(recall))
    order = [column for column in np.argsort(labelled, kind="stable") if seen[column]]
    height = np.arange(len(order))
    figure = Figure((8.5, 2.2 + 0.27 * len(order)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.hlines(height, np.fmin(precision, recall)[order], np.fmax(precision, recall)[order], color="#b9b9c2", zorder=2)
    axes.scatter(recall[order], height, 52, ORANGE, marker="D", zorder=3,
                 label="recall: share of the labelled that are predicted")  # fmt: skip
    axes.scatter(precision[order], height, 46, BLUE, zorder=4,
                 label="precision: share of the predicted that are labelled")  # fmt: skip
    axes.set_yticks(height, [names[column] + " (not trained)" * (not trained[column]) for column in order])
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.7, len(order) - 0.3))
    _right_column(axes, height, [f"{labelled[column]:,}" for column in order], "labelled")
    axes.tick_params(axis="y", length=0)
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    missing = ", ".join(name for name, is_seen in zip(names, seen, strict=True) if not is_seen)
    axes.set_xlabel(f"neither labelled nor predicted: {missing}" if missing else "", fontsize=9, color=GREY)
    _set_titles(figure, axes, titles)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def reliability_chart(labels: np.ndarray, probabilities: Mapping[str, np.ndarray], titles: tuple[str, str]) -> Figure:
    """Draw a reliability diagram: how often classes of a probability are present.

    Args:
        labels: (n,) bool.
        probabilities: By the name of a line the probabilities of the labels, (n,).
        titles: Title and subtitle.

    Returns:
        The figure: the share of present labels by probability, and below it the number of labels in each bin.
    """
    figure = Figure((7.5, 8), dpi=DPI, layout="constrained")
    axes, bars = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    width = 0.8 / len(probabilities)
    for number, ((name, values), (colour, mark)) in enumerate(
        zip(probabilities.items(), ((ORANGE, "D-"), (BLUE, "o-")), strict=False)
    ):
        counts, predicted, observed = reliability_table(labels, values).T
        error = calibration_error(labels, values)
        filled = counts > 0
        axes.plot(predicted[filled], observed[filled], mark, color=colour, markersize=5, linewidth=1.6,
                  label=f"{name}, expected calibration error {error:.3f}")  # fmt: skip
        left = (np.arange(len(counts)) + 0.1 + width * number) / len(counts)
        bars.bar(left, counts, width / len(counts), align="edge", color=colour)
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of labels that are present")
    bars.set(xlabel="probability", ylabel="labels", yscale="log")
    for panel in (axes, bars):
        panel.grid(color=PALE, linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    _set_titles(figure, axes, titles)
    return figure


def confusion_chart(
    labels: np.ndarray,
    predictions: np.ndarray,
    weights: np.ndarray,
    titles: tuple[str, str],
    classes: ClassTable = CHALLENGE_CLASSES,
) -> Figure:
    """Draw the mean credit in the metric by label and prediction.

    Cell (j, k) is weights times credit(labels, predictions), divided by the number of recordings with label j. Right
    of a row are its sum and the sum that the labels themselves would earn. Classes that are neither labelled nor
    predicted are not drawn, except sinus rhythm, or the first class if there is no sinus rhythm.

    Args:
        labels: (n_recordings, C) bool.
        predictions: (n_recordings, C) bool.
        weights: (C, C).
        titles: Title and subtitle.
        classes: The C classes.
    """
    labelled = labels.sum(axis=0)
    seen = (labels | predictions).any(axis=0)
    seen[classes.sinus or 0] = True  # the prediction of the "inactive" classifier; there is always a class to draw
    shown = np.flatnonzero(seen)
    weights = np.nan_to_num(weights) * np.where(labelled > 0, 1 / np.maximum(labelled, 1), np.nan)[:, np.newaxis]
    earned, best = (
        (weights * weighted_confusion(labels, outputs))[np.ix_(shown, shown)] for outputs in (predictions, labels)
    )
    texts = np.where(earned >= SMALLEST_SHOWN, np.char.mod("%.0f", 100 * np.nan_to_num(earned)), "")
    totals = zip(100 * earned.sum(axis=1), 100 * best.sum(axis=1), strict=True)
    sums = ["" if np.isnan(most) else f"{total:.0f} of {most:.0f}" for total, most in totals]
    bar = ("credit of a recording with the label by the prediction\n(in the cells: hundredths; sum: of what the "
           "labels themselves would earn)")  # fmt: skip
    names = [classes.abbreviations[column] for column in shown]
    figure, axes = _draw_matrix(earned, texts, names, labelled[shown], bar, titles)
    _right_column(axes, np.arange(len(names)), sums, "sum")
    return figure


def confusion_matrix_chart(counts: np.ndarray, names: Sequence[str], titles: tuple[str, str]) -> Figure:
    """Draw the confusion matrix of exclusive classes.

    Args:
        counts: Recordings by label (row) and most probable class (column), (n_classes, n_classes) int.
        names: Names of the classes.
        titles: Title and subtitle.
    """
    labelled = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        shares = counts / labelled[:, np.newaxis]
    right = [f"{100 * share:.0f} %" if total else "" for share, total in zip(shares.diagonal(), labelled, strict=True)]
    texts = np.where(counts > 0, np.char.mod("%d", counts), "")
    bar = "share of the recordings with the label\n(in the cells: recordings)"
    figure, axes = _draw_matrix(shares, texts, names, labelled, bar, titles)
    _right_column(axes, np.arange(len(names)), right, "right")
    return figure


def _draw_matrix(
    shades: np.ndarray,
    texts: np.ndarray,
    names: Sequence[str],
    labelled: np.ndarray,
    bar_label: str,
    titles: tuple[str, str],
) -> tuple[Figure, Axes]:
    """Draw a matrix of classes by classes with shades from 0 to 1."""
    side = 0.36 * max(len(names), 8)
    figure = Figure((4.4 + side, 2.6 + side), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    draw_cells(axes, shades, texts, PowerNorm(0.6, 0, 1), bar_label)
    axes.set_xticks(np.arange(len(names)), names, rotation=90)
    labels = [f"{name}  ({count:,})" for name, count in zip(names, labelled, strict=True)]
    axes.set_yticks(np.arange(len(names)), labels)
    axes.set(xlabel="predicted", ylabel="labelled (recordings)")
    _set_titles(figure, axes, titles)
    return figure, axes


def draw_cells(
    axes: Axes, shades: np.ndarray, texts: np.ndarray, norm: PowerNorm, bar_label: str, location: str = "right"
) -> Colorbar:
    """Draw a matrix of shades with a string in each cell, and a colour bar.

    Args:
        axes: Where it is drawn.
        shades: (n_rows, n_columns); NaN is grey.
        texts: Strings of the cells, (n_rows, n_columns).
        norm: Scale of the colours.
        bar_label: What the shades mean.
        location: Side of the colour bar.

    Returns:
        The colour bar.
    """
    image = axes.imshow(shades, cmap=colormaps["Blues"].with_extremes(bad=PALE), norm=norm)
    for row, column in np.argwhere(texts != ""):
        axes.text(column, row, texts[row, column], ha="center", va="center", fontsize=7.5,
                  color="white" if norm(shades[row, column]) > DARK else "#22222c")  # fmt: skip
    for axis, count in zip((axes.yaxis, axes.xaxis), shades.shape, strict=True):
        axis.set_ticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=PALE, linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(image, ax=axes, location=location, shrink=0.6, aspect=25, pad=0.02)
    bar.set_label(bar_label, fontsize=9)
    bar.outline.set_visible(False)
    return bar


def _right_column(axes: Axes, rows: np.ndarray, texts: Sequence[str], title: str) -> None:
    """Write a text right of each row, and a title above them."""
    column = axes.secondary_yaxis("right")
    column.set_yticks(rows, texts, fontsize=9)
    column.tick_params(length=0)
    column.spines[:].set_visible(False)
    axes.text(1.01, 1.005, title, transform=axes.transAxes, fontsize=9, color=GREY, va="bottom")


def _set_titles(figure: Figure, axes: Axes, titles: tuple[str, str]) -> None:
    figure.suptitle(titles[0], fontweight="bold", fontsize=12)
    axes.set_title(textwrap.fill(titles[1], TITLE_CHARACTERS), fontsize=9, color=GREY, pad=12)


def draw_disagreements(
    folder: Path,
    disagreements: Sequence[Disagreement],
    thresholds: np.ndarray,
    outputs: Sequence[np.ndarray] | None = None,
    early_gains: bool = False,
) -> int:
    """Draw a page for each disagreement into a folder, named RANK_RECORD_CLASS.png.

    Recordings are read again. One that cannot be drawn is logged.

    Args:
        folder: Where the pages are written.
        disagreements: The most confident first.
        thresholds: (C,), or (n_disagreements, C); NaN if there is none.
        outputs: Predicted classes, (n_disagreements, C) bool; those that reach their thresholds if None.
        early_gains: Whether to correct the gains of early 2020.

    Returns:
        How many pages were drawn.
    """
    thresholds = np.broadcast_to(thresholds, (len(disagreements), np.shape(thresholds)[-1]))
    digits, failures = max(len(str(len(disagreements))), 2), []
    with Progress("drawing", len(disagreements), "pages") as progress:
        for index, item in enumerate(disagreements):
            try:
                header, recording = read_record(item.path)
                header = correct_gains(header, recording)[0] if early_gains else header
                predicted = None if outputs is None else outputs[index]
                panel = ModelPanel(item.probabilities, thresholds[index], predicted, item.column, item.classes)
                figure = draw_record(header, recording, 0.0, panel, describe_disagreement(item, header))
            except (RecordError, OSError) as error:
                failures.append(f"{item.name} cannot be drawn: {describe_error(error)}")
            else:
                name = item.name.replace("/", "_")[:MAX_NAME_LENGTH]
                path = Path(folder) / f"{index + 1:0{digits}}_{name}_{item.abbreviation}.png"
                save_figure(figure, path)
                reduce_colours(path)
            progress.advance()
    for message in failures:
        LOGGER.warning(message)
    return len(disagreements) - len(failures)


def reduce_colours(path: Path) -> None:
    """Save an image with 256 colours, which takes a third of the bytes."""
    with Image.open(path) as image:
        dpi, paletted = image.info["dpi"], image.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE)
    paletted.save(path, optimize=True, dpi=dpi)


def describe_disagreement(disagreement: Disagreement, header: Header) -> str:
    """Describe a disagreement as a caption."""
    labelled = "labelled" if disagreement.labelled else "not labelled"
    if disagreement.classes.encode(header.codes)[disagreement.column] != disagreement.labelled:
        labelled += " after relabelling"
    probability = f"{disagreement.probability:.2f}"
    probability = {"0.00": "less than 0.01", "1.00": "more than 0.99"}.get(probability, probability)
    return f"{disagreement.abbreviation} is {labelled}, and the network gives it {probability}"
