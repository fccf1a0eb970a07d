"""Draw recordings on ECG paper at 25 mm/s and 10 mm/mV."""

import logging
import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextToPath
from PIL import Image

from ecg.data.headers import MILLIVOLTS, Header, HeaderError, Lead, RecordError
from ecg.data.labels import ABBREVIATIONS, CLASS_OF_CODE, encode, unscored_diagnoses
from ecg.data.leads import LEADS
from ecg.data.preprocessing import correct_gains, explain_unusable
from ecg.data.records import SignalError, read_record
from ecg.data.wave_peaks import LEAD, WAVES, PeakList
from ecg.runtime.console import Progress, describe_error
from ecg.runtime.files import save_figure
from ecg.systems.label_cleaning import Disagreement

LOGGER = logging.getLogger("ecg")

MAX_NAME_LENGTH = 50  # characters of a record's name in the name of a file, because it may be very long

# Sizes of paper and layout, in mm unless stated otherwise.
SPEED, HEIGHT = 25, 10  # per second, per millivolt
SECONDS, COLUMN_SECONDS = 10.0, 2.5
ROW = 30
PULSE_AT, PULSE_WIDTH = 5, 5
LEFT, RIGHT = 15, 5  # margins of the paper around the traces
MARGIN, TITLE, CAPTION, LINE, FOOT, NOTE = 6, 8, 5.5, 4.5, 5, 3.5
PANEL, CLASS_ROW, FULL_BAR = 72, 7.5, 34  # width of the model's panel, height of a class, bar of probability 1
SLOPE_DISTANCE = 0.08  # s, from the peak of a T wave to its slopes
PIXELS = 10  # per mm, such that all grid lines lie on integer pixels
INCH, POINT = 25.4, 25.4 / 72
COLUMNS = (LEADS[:3], LEADS[3:6], LEADS[6:9], LEADS[9:])
MAX_ROWS = 40  # leads on a page; as an image they take 135 MB of memory
LABEL_WIDTH, LEAD_NAME_WIDTH, LABEL_LINES = 90, 55, 8  # width of a label and of a lead's name; lines of labels
FONT = "DejaVu Sans"  # comes with matplotlib, so that all machines draw the same

PAPER, FINE, COARSE, INK, MARKER = "#fffaf8", "#f9d9d4", "#eea9a0", "#14141c", "#fdefc3"
POSITIVE, NEGATIVE, QUIET = "#b5382a", "#c9c9cf", "#5b5b66"
MAX_CHARACTERS = 10  # in a mm, of any style; a longer string is cut before it is measured
Style = dict[str, Any]  # arguments of matplotlib for text
TITLE_STYLE: Style = {"fontsize": 14, "fontweight": "bold"}
LEAD_STYLE: Style = {"fontsize": 10, "fontweight": "bold"}
HEADING: Style = {"fontsize": 11, "fontweight": "bold"}
LABEL: Style = {"fontsize": 9}
SMALL: Style = {"fontsize": 7}
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


class ModelPanel(NamedTuple):
    """What the panel of a model shows, of the 26 classes.

    Attributes:
        probabilities: (26,).
        thresholds: (26,), NaN if a class has none.
        outputs: Predicted classes, (26,) bool; those that reach their thresholds if None.
        highlighted: Index of a class that is always shown, and highlighted.
    """

    probabilities: np.ndarray
    thresholds: np.ndarray
    outputs: np.ndarray | None = None
    highlighted: int | None = None


@rc_context({"text.parse_math": False, "font.family": FONT})  # the strings of a header are no formulas
def draw_record(
    header: Header,
    recording: np.ndarray,
    start: float = 0.0,
    model: ModelPanel | None = None,
    caption: str = "",
    peaks: PeakList | None = None,
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
    width, height = LEFT + SECONDS * SPEED + RIGHT, ROW * (1 + max(strip.row for strip in strips))
    names = [shorten(name, LABEL_WIDTH, LABEL) for name in label_names(header.codes)] or ["none"]
    labels = wrap_words(["Labels:", *(f"{name}," for name in names[:-1]), names[-1]], width, LABEL, LABEL_LINES)
    captions = wrap_words(caption.split(), width, HEADING)
    unusable = explain_unusable(header, recording)
    notes = [f"cannot be used: {unusable}"] * bool(unusable) + [f"not drawn: {', '.join(undrawn)}"] * bool(undrawn)
    foot = FOOT + NOTE * len(notes)
    top = height + foot
    title = top + 3 + LINE * len(labels) + CAPTION * len(captions)
    size = (2 * MARGIN + width + PANEL * (model is not None),
             2 * MARGIN + math.ceil(title + TITLE - 3))  # fmt: skip
    figure = Figure((size[0] / INCH, size[1] / INCH), dpi=PIXELS * INCH, facecolor="white")
    axes = _millimetres(figure, size, (MARGIN, MARGIN + foot, width, height))
    _draw_grid(axes, width, height)
    for row in range(height // ROW):
        _draw_pulse(axes, height - ROW * (row + 0.5))
    for strip in strips:
        _draw_strip(axes, strip, header, recording, height - ROW * (strip.row + 0.5))
    lead_two = header.lead_names.index(LEAD) if LEAD in header.lead_names else None  # the first of this name has peaks
    lead_two_strips = [strip for strip in strips if strip.lead == lead_two]
    if peaks and lead_two_strips:
        strip = lead_two_strips[-1]  # in full
        _draw_peaks(axes, strip, header, recording, height - ROW * (strip.row + 0.5), peaks)

    text = _millimetres(figure, size, (MARGIN, MARGIN, size[0] - 2 * MARGIN, size[1] - 2 * MARGIN))
    text.axis("off")
    summary = describe_recording(header, duration, start, shown)
    room = width - text_width(summary, LABEL) - 8
    text.text(0, title, shorten(header.name, room, TITLE_STYLE), **TITLE_STYLE)
    text.text(width, title, summary, **LABEL, ha="right")
    for row, line in enumerate(reversed(labels)):
        text.text(0, top + 2 + LINE * row, line, **LABEL)
    for row, line in enumerate(captions, 1):
        text.text(0, title - CAPTION * row, line, **HEADING, color=POSITIVE)
    scale = f"{SPEED} mm/s   {HEIGHT} mm/mV   as recorded, not filtered"
    text.text(0, foot - FOOT, scale, **SMALL, color=QUIET)
    if shown < SECONDS and len(strips) > len(LEADS):
        remark = "the columns overlap in time, so that each is full"
        text.text(width, foot - FOOT, remark, **SMALL, color=QUIET, ha="right")
    for row, note in enumerate(notes):
        text.text(0, NOTE * row, shorten(note, width, SMALL), **SMALL, color=QUIET)
    if model is not None:
        panel = _millimetres(figure, size, (MARGIN + width, MARGIN, PANEL, top))
        _draw_model(panel, model, encode(header.codes), top)
    return figure


def choose_rows(header: Header) -> tuple[list[int], list[str]]:
    """Choose the leads that are drawn: the twelve standard ones, or all voltages.

    Returns:
        The rows of the recording that are drawn, and the names of the other leads, with their unit if that is no
        voltage.

    Raises:
        HeaderError: No lead is a voltage.
    """
    voltages = [row for row, lead in enumerate(header.leads) if lead.units.casefold() in MILLIVOLTS]
    first = {header.lead_names[row]: row for row in reversed(voltages)}  # a second lead of this name is not drawn
    drawn = [first[name] for name in LEADS] if set(LEADS) <= first.keys() else voltages[:MAX_ROWS]
    standard = {header.lead_names[row] for row in drawn} & set(LEADS)
    undrawn = [_describe_undrawn(lead, standard) for row, lead in enumerate(header.leads) if row not in drawn]
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
    position = {
        name: lead for lead, name in reversed(list(enumerate(names)))
    }  # a second lead of this name is not drawn
    if not set(LEADS) <= set(names):
        order = sorted(range(len(names)), key=lambda lead: LEADS.index(names[lead]) if names[lead] in LEADS else 99)
        return [Strip(lead, row, 0.0, start, shown) for row, lead in enumerate(order)]
    step = max(shown - COLUMN_SECONDS, 0) / (len(COLUMNS) - 1)
    seconds = min(COLUMN_SECONDS, shown)
    strips = [
        Strip(position[name], row, COLUMN_SECONDS * column, start + step * column, seconds)
        for column, leads in enumerate(COLUMNS)
        for row, name in enumerate(leads)
    ]
    return [*strips, Strip(position[LEAD], len(COLUMNS[0]), 0.0, start, shown)]


def _describe_undrawn(lead: Lead, drawn: set[str]) -> str:
    """Name a lead that is not drawn, and say why; `drawn` are standard leads."""
    name = lead.written or lead.name or "without a name"
    if lead.units.casefold() not in MILLIVOLTS:
        return f"{name} ({lead.units})"
    return f"{name} (a second {lead.name})" if lead.name in drawn else name


def label_names(codes: Sequence[str]) -> list[str]:
    """Return the abbreviations of diagnoses, each once; unknown codes stay."""

    def name(code: str) -> str:
        if code in CLASS_OF_CODE:
            return ABBREVIATIONS[CLASS_OF_CODE[code]]
        return unscored_diagnoses()[code].abbreviation if code in unscored_diagnoses() else code

    return list(dict.fromkeys(map(name, codes)))


def describe_recording(header: Header, duration: float, start: float, shown: float) -> str:
    """Describe in one line who was recorded, and which part of the recording is drawn."""
    age = "age unknown" if math.isnan(header.age) else f"{header.age:g} years"
    sex = "sex unknown" if header.sex == "Unknown" else header.sex.lower()
    section = "" if shown == duration else f", from {start:g} s to {start + shown:g} s"
    return f"{age}, {sex}   {header.sampling_frequency:g} Hz   {duration:g} s{section}"


def to_millivolts(header: Header, recording: np.ndarray, strip: Strip) -> tuple[np.ndarray, np.ndarray]:
    """Return the signal of a strip.

    Returns:
        Time from the beginning of the strip in s, (n_samples,), and the signal without its median in mV, NaN where it
        is invalid.
    """
    lead, frequency = header.leads[strip.lead], header.sampling_frequency
    first = math.ceil(strip.begin * frequency - 1e-6)
    last = math.floor((strip.begin + strip.seconds) * frequency + 1e-6) + 1
    integers = recording[strip.lead, first:last].astype(np.float64)
    signal = (integers - lead.baseline) / lead.per_millivolt
    valid = np.isfinite(signal) & (integers != lead.invalid)
    signal[~valid] = np.nan
    if valid.any():
        signal -= np.median(signal[valid])
    return (first + np.arange(len(signal))) / frequency - strip.begin, signal


@lru_cache(maxsize=4096)
def drawable(character: str) -> str:
    r"""Return a character, or its code such as `\u5fc3` if the font has no glyph."""
    fonts = (get_font(findfont(FontProperties(family=FONT, weight=weight))) for weight in ("normal", "bold"))
    if character.isprintable() and all(font.get_char_index(ord(character)) for font in fonts):
        return character
    return character.encode("unicode_escape").decode()


def text_width(text: str, style: Style) -> float:
    """Return how wide a line of drawable text is at most, in mm."""
    size, weight = style["fontsize"], style.get("fontweight", "normal")
    return sum(_advance(character, size, weight) for character in text)


@lru_cache(maxsize=4096)
def _advance(character: str, size: float, weight: str) -> float:
    """Return the advance of a character in mm, as pixels or as outlines."""
    font = FontProperties(family=FONT, size=size, weight=weight)
    measures = ((RendererAgg(1, 1, PIXELS * INCH), 1 / PIXELS), (TextToPath(), POINT))
    widths = (
        [unit * measure.get_text_width_height_descent(text, font, ismath=False)[0] for text in ("||", f"|{character}|")]
        for measure, unit in measures
    )
    return max(0.0, *(wide - narrow for narrow, wide in widths))


def shorten(text: str, room: float, style: Style) -> str:
    """Return a drawable string; one wider than `room` mm ends in dots."""
    characters = list(map(drawable, text[: round(room * MAX_CHARACTERS)]))
    ends = list(accumulate(text_width(character, style) for character in characters))
    if len(text) == len(characters) and (not ends or ends[-1] <= room):
        return "".join(characters)
    return "".join(characters[: bisect_right(ends, room - text_width("...", style))]) + "..."


def wrap_words(words: list[str], room: float, style: Style, lines: float = math.inf) -> list[str]:
    """Wrap words to lines of at most `room` mm that can be drawn.

    A long word ends in dots, and so does the last line if there are more words than fit.
    """
    wrapped: list[str] = []
    for word in words:
        word = shorten(word, room, style)
        if wrapped and text_width(f"{wrapped[-1]} {word}", style) <= room:
            wrapped[-1] += f" {word}"
        elif len(wrapped) < lines:
            wrapped.append(word)
        else:
            wrapped[-1] = shorten(f"{wrapped[-1]} ...", room, style)
            break
    return wrapped


def _millimetres(figure: Figure, size: tuple[float, float], box: tuple[float, float, float, float]) -> Axes:
    """Add axes in mm at a box (left, bottom, width, height) of a figure."""
    left, bottom, width, height = box
    axes = figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))
    axes.set(xlim=(0, width), ylim=(0, height), xticks=(), yticks=())
    return axes


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
    time, signal = to_millivolts(header, recording, strip)
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


def _draw_peaks(axes: Axes, strip: Strip, header: Header, recording: np.ndarray, zero: float, peaks: PeakList) -> None:
    """Mark the wave peaks on a strip, each wave with its own colour and letter."""
    time, signal = to_millivolts(header, recording, strip)
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
                                 color=colour, gid=ABBREVIATIONS[column]))  # fmt: skip
        if np.isfinite(thresholds[column]):
            axes.plot(2 * (bar + FULL_BAR * thresholds[column],), (middle - 0.42 * spacing, middle + 0.42 * spacing),
                      color=INK, linewidth=1.2, gid=f"threshold of {ABBREVIATIONS[column]}")  # fmt: skip
        axes.text(name, middle, ABBREVIATIONS[column], **text)
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
        thresholds: (26,), or (n_disagreements, 26); NaN if there is none.
        outputs: Predicted classes, (n_disagreements, 26) bool; those that reach their thresholds if None.
        early_gains: Whether to correct the gains of early 2020.

    Returns:
        How many pages were drawn.
    """
    thresholds = np.broadcast_to(thresholds, (len(disagreements), len(ABBREVIATIONS)))
    digits, failures = max(len(str(len(disagreements))), 2), []
    with Progress("drawing", len(disagreements), "pages") as progress:
        for index, item in enumerate(disagreements):
            try:
                header, recording = read_record(item.path)
                header = correct_gains(header, recording)[0] if early_gains else header
                predicted = None if outputs is None else outputs[index]
                panel = ModelPanel(item.probabilities, thresholds[index], predicted, item.column)
                figure = draw_record(header, recording, 0.0, panel, describe_disagreement(item, header))
            except (RecordError, OSError) as error:
                failures.append(f"{item.name} cannot be drawn: {describe_error(error)}")
            else:
                name = item.name.replace("/", "_")[:MAX_NAME_LENGTH]
                path = Path(folder) / f"{index + 1:0{digits}}_{name}_{ABBREVIATIONS[item.column]}.png"
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
    if encode(header.codes)[disagreement.column] != disagreement.labelled:
        labelled += " after relabelling"
    probability = f"{disagreement.probability:.2f}"
    probability = {"0.00": "less than 0.01", "1.00": "more than 0.99"}.get(probability, probability)
    return f"{ABBREVIATIONS[disagreement.column]} is {labelled}, and the network gives it {probability}"
