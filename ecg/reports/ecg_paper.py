"""Draw recordings on ECG paper at 25 mm/s and 10 mm/mV."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ecg.data.class_tables import ClassTable
from ecg.data.headers import MILLIVOLTS, Header, HeaderError
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.leads import LEADS
from ecg.data.preprocessing import FINITE, explain_unusable
from ecg.data.records import SignalError
from ecg.data.wave_peaks import LEAD, WAVES, PeakList
from ecg.reports.paper_text import (
    FONT,
    INCH,
    PIXELS,
    POSITIVE,
    QUIET,
    Style,
    arrange_sheet,
    describe_recording,
    draw_texts,
    drawable,
    shorten,
)

# Sizes of paper and layout, in mm unless stated otherwise.
SPEED, HEIGHT = 25, 10  # per second, per millivolt
SECONDS, COLUMN_SECONDS = 10.0, 2.5
ROW = 30
PULSE_AT, PULSE_WIDTH = 5, 5
LEFT, RIGHT = 15, 5  # margins of the paper around the traces
WIDTH = LEFT + SECONDS * SPEED + RIGHT
MARGIN, TITLE = 6, 8
PANEL, CLASS_ROW, FULL_BAR = 72, 7.5, 34  # width of the model's panel, height of a class, bar of probability 1
SLOPE_DISTANCE = 0.08  # s, from the peak of a T wave to its slopes
MAX_ROWS = 40  # leads on a page; as an image they take 135 MB of memory
LEAD_NAME_WIDTH = 55

PAPER, FINE, COARSE, INK, MARKER = "#fffaf8", "#f9d9d4", "#eea9a0", "#14141c", "#fdefc3"
NEGATIVE = "#c9c9cf"
# Colour, opacity of the strongest evidence, and the exponent below 1 that makes weak evidence visible.
EVIDENCE, DARKEST, CONTRAST = "#1c62c4", 0.6, 0.7
LEAD_STYLE: Style = {"fontsize": 10, "fontweight": "bold"}
# Colour and marker of the peaks of each wave, and the offset of its letter in mm, such that Q, R and S do not overlap.
MARKS = {
    "P": ("#1f5fbf", "o", (0, 2.2)),
    "Q": ("#8a5a00", "v", (-1.2, -2.2)),
    "R": ("#c2185b", "^", (0, 2.2)),
    "S": ("#0b7a5b", "s", (1.2, -2.2)),
    "T": ("#6a2fa0", "D", (0, 2.2)),
}


class Strip(NamedTuple):
    """A segment of a lead on paper.

    Attributes:
        lead: Row of the recording.
        row: Row on the paper.
        offset: Where it begins on the paper, in s.
        begin: Where it begins in the recording, in s.
        seconds: Its length.
    """

    lead: int
    row: int
    offset: float
    begin: float
    seconds: float


class Shading(NamedTuple):
    """Where evidence lies, drawn behind the traces.

    Attributes:
        leads: Names of the leads.
        rate: Values per second.
        values: From 0 to 1, (n_values, n_leads).
        note: What is shaded, for the foot.
    """

    leads: tuple[str, ...]
    rate: float
    values: np.ndarray
    note: str


class ModelPanel(NamedTuple):
    """What the panel of a model shows, of C classes.

    Attributes:
        probabilities: (C,).
        thresholds: (C,), NaN if a class has none.
        outputs: Predicted classes, (C,) bool; those that reach their thresholds if None.
        highlighted: Index of a class that is always shown, and highlighted.
        classes: The classes.
    """

    probabilities: np.ndarray
    thresholds: np.ndarray
    outputs: np.ndarray | None = None
    highlighted: int | None = None
    classes: ClassTable = CHALLENGE_CLASSES


@rc_context({"text.parse_math": False, "font.family": FONT})  # the strings of a header are no formulas
def draw_record(
    header: Header,
    recording: np.ndarray,
    start: float = 0.0,
    model: ModelPanel | None = None,
    caption: str = "",
    peaks: PeakList | None = None,
    shading: Shading | None = None,
) -> Figure:
    """Draw ten seconds of a recording on ECG paper.

    The signal is drawn as recorded, neither filtered nor resampled. Its median is subtracted, so that each lead lies on
    its line. Invalid samples are gaps. Twelve leads are drawn as 3 rows of 4 columns with lead II below; other leads
    have a row each. If there are less than ten seconds, the columns overlap in time, so that each is full. The foot
    names the leads that are not drawn, and says why a recording cannot be used. Strings that are too long end in dots.

    Args:
        header: Header of the recording.
        recording: Samples as stored, (n_leads, n_samples) of integers.
        start: Where the drawing begins, in s.
        model: Predictions of a model, drawn as a panel on the right.
        caption: A line above the paper.
        peaks: Wave peaks of lead II in samples of the recording. They are marked if that lead is drawn in full.
        shading: Evidence to shade. The foot says what it is.

    Returns:
        The figure; its savefig keeps the scale.

    Raises:
        SignalError: Nothing was recorded from `start` on.
        HeaderError: No lead is a voltage.
    """
    duration = recording.shape[1] / header.sampling_frequency
    if not 0 <= start < duration:
        raise SignalError(f"{header.name}: no signal at {start:g} s in a recording of {duration:g} s")
    shown = min(SECONDS, duration - start)
    drawn, undrawn = choose_rows(header)
    strips = lay_out([header.lead_names[row] for row in drawn], start, shown)
    strips = [strip._replace(lead=drawn[strip.lead]) for strip in strips]
    rows, unusable = 1 + max(strip.row for strip in strips), explain_unusable(header, recording)
    notes = [f"cannot be used: {unusable}"] * bool(unusable) + [f"not drawn: {', '.join(undrawn)}"] * bool(undrawn)
    classes = CHALLENGE_CLASSES if model is None else model.classes
    sheet = arrange_sheet((WIDTH, ROW * rows), header, caption, notes, classes)
    size = 2 * MARGIN + WIDTH + PANEL * (model is not None), 2 * MARGIN + math.ceil(sheet.title + TITLE - 3)
    figure = Figure((size[0] / INCH, size[1] / INCH), dpi=PIXELS * INCH, facecolor="white")
    paper = _millimetres(figure, size, (MARGIN, MARGIN + sheet.foot, WIDTH, sheet.height))
    _draw_grid(paper, WIDTH, sheet.height)
    _draw_traces(paper, strips, header, recording, peaks, shading)
    text = _millimetres(figure, size, (MARGIN, MARGIN, size[0] - 2 * MARGIN, size[1] - 2 * MARGIN))
    scale = describe_scale(shown < SECONDS and len(strips) > len(LEADS), shading)
    draw_texts(text, sheet, header.name, describe_recording(header, duration, start, shown), scale)
    if model is not None:
        panel = _millimetres(figure, size, (MARGIN + WIDTH, MARGIN, PANEL, sheet.top))
        _draw_model(panel, model, model.classes.encode(header.codes), sheet.top)
    return figure


def choose_rows(header: Header) -> tuple[list[int], list[str]]:
    """Choose the leads that are drawn: the twelve standard ones, or all voltages.

    Returns:
        The rows of the recording that are drawn, and the names of the other leads, with a unit that is no voltage.

    Raises:
        HeaderError: No lead is a voltage.
    """
    voltages = [row for row, lead in enumerate(header.leads) if lead.units.casefold() in MILLIVOLTS]
    first = {header.lead_names[row]: row for row in reversed(voltages)}  # a second lead of this name is not drawn
    drawn = [first[name] for name in LEADS] if set(LEADS) <= first.keys() else voltages[:MAX_ROWS]
    undrawn = [
        (lead.written or lead.name or "without a name") + f" ({lead.units})" * (row not in voltages)
        for row, lead in enumerate(header.leads)
        if row not in drawn
    ]
    if not drawn:
        raise HeaderError(f"{header.name}: no lead is in mV, uV or V, but {', '.join(undrawn)}")
    return drawn, undrawn


def lay_out(names: Sequence[str], start: float, shown: float) -> list[Strip]:
    """Lay out leads on paper.

    Args:
        names: Names of the leads.
        start: Where the drawing begins in the recording, in s.
        shown: How many seconds are drawn.
    """
    if not set(LEADS) <= set(names):
        order = sorted(range(len(names)), key=lambda lead: LEADS.index(names[lead]) if names[lead] in LEADS else 99)
        return [Strip(lead, row, 0.0, start, shown) for row, lead in enumerate(order)]
    seconds, step = min(COLUMN_SECONDS, shown), max(shown - COLUMN_SECONDS, 0) / 3
    strips = [Strip(names.index(name), index % 3, COLUMN_SECONDS * (index // 3), start + step * (index // 3), seconds)
              for index, name in enumerate(LEADS)]  # fmt: skip
    return [*strips, Strip(names.index(LEAD), 3, 0.0, start, shown)]


def strip_signal(header: Header, recording: np.ndarray, strip: Strip) -> tuple[np.ndarray, np.ndarray]:
    """Return the time and the signal of a strip.

    Returns:
        Time from the beginning of the strip in s, (n_samples,), and the signal without its median in mV, NaN where it
        is invalid.
    """
    lead, frequency = header.leads[strip.lead], header.sampling_frequency
    first = math.ceil(strip.begin * frequency - 1e-6)
    last = math.floor((strip.begin + strip.seconds) * frequency + 1e-6) + 1
    integers = recording[strip.lead, first:last].astype(np.float64)
    valid = (np.abs(integers) < FINITE * abs(lead.per_millivolt)) & (integers != lead.invalid)  # NaN is not smaller
    signal = (np.where(valid, integers, np.nan) - lead.baseline) / lead.per_millivolt
    if valid.any():
        signal -= np.median(signal[valid])
    return (first + np.arange(len(signal))) / frequency - strip.begin, signal


def _millimetres(figure: Figure, size: tuple[float, float], box: tuple[float, float, float, float]) -> Axes:
    """Add axes in mm at a box (left, bottom, width, height) of a figure."""
    left, bottom, width, height = box
    axes = figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))
    axes.set(xlim=(0, width), ylim=(0, height), xticks=(), yticks=())
    return axes


def _draw_traces(
    axes: Axes,
    strips: Sequence[Strip],
    header: Header,
    recording: np.ndarray,
    peaks: PeakList | None,
    shading: Shading | None,
) -> None:
    """Draw what is on the paper; the arguments are those of `draw_record`."""
    rows = 1 + max(strip.row for strip in strips)
    zeros = [ROW * (rows - row - 0.5) for row in range(rows)]
    for zero in zeros:
        _draw_pulse(axes, zero)
    for strip in strips:
        _draw_strip(axes, strip, header, recording, zeros[strip.row])
        if shading and header.lead_names[strip.lead] in shading.leads:
            _draw_shading(axes, strip, header.lead_names[strip.lead], zeros[strip.row], shading)
    if peaks and LEAD in header.lead_names:
        lead_two = header.lead_names.index(LEAD)  # the first of this name has peaks
        for strip in [strip for strip in strips if strip.lead == lead_two][-1:]:  # the last one is in full
            _draw_peaks(axes, strip, header, recording, zeros[strip.row], peaks)


def describe_scale(is_overlapping: bool, shading: Shading | None) -> str:
    """Return the line below the paper: its scale, and how it is to be read."""
    scale = f"{SPEED} mm/s   {HEIGHT} mm/mV   as recorded, not filtered"
    overlap = "   the columns overlap in time, so that each is full" if is_overlapping else ""
    return scale + overlap + (f"   shaded: {shading.note}" if shading else "")


def _draw_grid(axes: Axes, width: float, height: float) -> None:
    axes.set_facecolor(PAPER)
    axes.spines[:].set(color=COARSE, linewidth=0.6)
    for step, colour, line in ((1, FINE, 0.28), (5, COARSE, 0.5)):
        vertical = [((x, 0), (x, height)) for x in np.arange(0, width + 1, step)]
        horizontal = [((0, y), (width, y)) for y in np.arange(0, height + 1, step)]
        lines = LineCollection([*vertical, *horizontal], colors=colour, linewidths=line, antialiaseds=False, zorder=1)
        axes.add_collection(lines)


def _draw_pulse(axes: Axes, zero: float) -> None:
    """Draw the calibration pulse: 1 mV for 0.2 s."""
    x = PULSE_AT + np.array([-2, 0, 0, PULSE_WIDTH, PULSE_WIDTH, PULSE_WIDTH + 2])
    axes.plot(x, zero + HEIGHT * np.array([0, 0, 1, 1, 0, 0]), color=INK, linewidth=0.8, gid="pulse")


def _draw_strip(axes: Axes, strip: Strip, header: Header, recording: np.ndarray, zero: float) -> None:
    time, signal = strip_signal(header, recording, strip)
    left = LEFT + SPEED * strip.offset
    written = header.lead_names[strip.lead]
    axes.plot(left + SPEED * time, zero + HEIGHT * signal, color=INK, linewidth=0.8, solid_joinstyle="round",
              gid=f"{''.join(map(drawable, written))} row {strip.row}")  # fmt: skip
    name = shorten(written, LEAD_NAME_WIDTH, LEAD_STYLE)
    if strip.offset:
        axes.plot((left, left), (zero - 2.5, zero + 2.5), color=QUIET, linewidth=0.8)
    if np.isnan(signal).all():
        name += " (no signal)"
    elif np.nanmin(signal) == np.nanmax(signal):
        name += " (flat)"
    axes.text(left + 1.5, zero + 9, name, **LEAD_STYLE, color=INK, zorder=1.5,  # below the traces
              path_effects=[withStroke(linewidth=2.5, foreground=PAPER)])  # fmt: skip


def _draw_shading(axes: Axes, strip: Strip, lead: str, zero: float, shading: Shading) -> None:
    """Shade the evidence in a strip; the more there is, the darker."""
    first, last = (round(edge * shading.rate) for edge in (strip.begin, strip.begin + strip.seconds))
    values = shading.values[first:last, shading.leads.index(lead)]
    if not len(values):
        return
    colours = np.empty((1, len(values), 4))
    colours[..., :3], colours[..., 3] = to_rgb(EVIDENCE), DARKEST * np.clip(values, 0, 1) ** CONTRAST
    left, half = LEFT + SPEED * strip.offset, ROW / 2 - 1
    right = left + SPEED * len(values) / shading.rate
    axes.imshow(colours, extent=(left, right, zero - half, zero + half), aspect="auto", interpolation="nearest",
                zorder=1.2, gid=f"evidence in {lead} row {strip.row}")  # fmt: skip


def _draw_peaks(axes: Axes, strip: Strip, header: Header, recording: np.ndarray, zero: float, peaks: PeakList) -> None:
    """Mark the wave peaks on a strip, each wave with its own colour and letter."""
    time, signal = strip_signal(header, recording, strip)
    samples = peaks.samples - round((time[0] + strip.begin) * header.sampling_frequency)
    shown = (samples >= 0) & (samples < len(time))
    samples, waves = samples[shown], peaks.waves[shown]
    near = round(SLOPE_DISTANCE * header.sampling_frequency)
    for number, wave in enumerate(WAVES):
        colour, marker, (right, up) = MARKS[wave]
        chosen = samples[(waves == number) & np.isfinite(signal[samples])]
        x, y = LEFT + SPEED * (strip.offset + time[chosen]), zero + HEIGHT * signal[chosen]
        axes.plot(x, y, marker, color=colour, markersize=3.5, markeredgecolor=PAPER, markeredgewidth=0.4,
                  gid=f"{wave} peaks")  # fmt: skip
        slopes = (signal[np.maximum(chosen - near, 0)] + signal[np.minimum(chosen + near, len(signal) - 1)]) / 2
        letters = y + np.where((wave == "T") & (signal[chosen] < slopes), -up, up)  # T may point down
        for left, height in zip(x, letters, strict=True):
            axes.text(left + right, height, wave, fontsize=7, fontweight="bold", color=colour, ha="center",
                      va="center", path_effects=[withStroke(linewidth=2, foreground=PAPER)])  # fmt: skip


def _draw_model(axes: Axes, model: ModelPanel, labelled: np.ndarray, height: float) -> None:
    """Draw the most probable and all predicted or labelled classes as bars."""
    axes.axis("off")
    probabilities, thresholds = np.asarray(model.probabilities), np.asarray(model.thresholds)
    names = model.classes.abbreviations
    positive = probabilities >= thresholds if model.outputs is None else model.outputs
    wanted = positive | labelled | (np.arange(len(probabilities)) == model.highlighted)
    count = min(len(probabilities), max(int((height - 22) // CLASS_ROW), int(wanted.sum())))
    chosen = np.lexsort((-probabilities, ~wanted))[:count]
    chosen = chosen[np.argsort(-probabilities[chosen], kind="stable")]
    spacing = min(CLASS_ROW, (height - 22) / count)
    name, bar, value, mark = 20, 22, 22 + FULL_BAR + 9, 22 + FULL_BAR + 12
    axes.text(name, height - 5, "Model", fontsize=10, fontweight="bold", ha="right")
    axes.text(bar, height - 5, "probability of a class", fontsize=8, color=QUIET)
    for row, column in enumerate(chosen):
        middle = height - 12 - spacing * row
        colour, weight = (POSITIVE, "bold") if positive[column] else (NEGATIVE, "normal")
        if column == model.highlighted:
            axes.add_patch(Rectangle((3, middle - spacing / 2), PANEL - 4, spacing, color=MARKER, gid="highlighted"))
        text: Style = {"fontsize": 9, "fontweight": weight, "ha": "right", "va": "center_baseline"}
        axes.add_patch(Rectangle((bar, middle - 0.3 * spacing), FULL_BAR, 0.6 * spacing, color="#f3f3f5"))
        axes.add_patch(Rectangle((bar, middle - 0.3 * spacing), FULL_BAR * probabilities[column], 0.6 * spacing,
                                 color=colour, gid=names[column]))  # fmt: skip
        if np.isfinite(thresholds[column]):
            axes.plot(2 * (bar + FULL_BAR * thresholds[column],), (middle - 0.42 * spacing, middle + 0.42 * spacing),
                      color=INK, linewidth=1.2, gid=f"threshold of {names[column]}")  # fmt: skip
        axes.text(name, middle, shorten(names[column], name - 1, text), **text)
        axes.text(value, middle, f"{probabilities[column]:.2f}", **text)
        if labelled[column]:
            axes.plot(mark, middle, "o", color=INK, markersize=4)
    axes.add_patch(Rectangle((4, 3), 4, 3, color=POSITIVE))
    axes.text(10, 3, "positive", fontsize=8)
    if np.isfinite(thresholds).any():
        axes.plot((27, 27), (2.5, 6.5), color=INK, linewidth=1.2)
        axes.text(29, 3, "threshold", fontsize=8)
    axes.plot(50, 4.5, "o", color=INK, markersize=4)
    axes.text(52, 3, "labelled", fontsize=8)
