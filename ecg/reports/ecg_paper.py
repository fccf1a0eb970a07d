"""One recording on ECG paper, true to scale: 25 mm for a second, 10 mm for a millivolt."""

import logging
import math
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextToPath

from ecg.data.headers import MILLIVOLTS, Header, HeaderError, Lead, RecordError
from ecg.data.labels import ABBREVIATIONS, CLASS_OF_CODE, encode, unscored_diagnoses
from ecg.data.leads import LEADS
from ecg.data.preprocessing import correct_gains, explain_unusable
from ecg.data.records import SignalError, read_record
from ecg.data.wave_peaks import LEAD, WAVES
from ecg.runtime.console import Progress, describe_error
from ecg.runtime.files import save_figure

LOGGER = logging.getLogger("ecg")

LONGEST_NAME = 50  # characters that a picture's name has of its record's, for that may be as long as names can

# What paper and layout measure, in mm unless the name says otherwise.
SPEED, HEIGHT = 25, 10  # for a second, for a millivolt
SECONDS, COLUMN_SECONDS = 10.0, 2.5
ROW = 30
PULSE_AT, PULSE_WIDTH = 5, 5
LEFT, RIGHT = 15, 5  # of the paper, beside the traces
MARGIN, TITLE, CAPTION, LINE, FOOT, NOTE = 6, 8, 5.5, 4.5, 5, 3.5
PANEL, CLASS_ROW, FULL = 72, 7.5, 34  # width of the model's panel, height of a class in it, bar of probability 1
BESIDE = 0.08  # s, from a T wave's peak to its slopes
PIXELS = 10  # so that every line of the grid lies on whole pixels
INCH, POINT = 25.4, 25.4 / 72
COLUMNS = (LEADS[:3], LEADS[3:6], LEADS[6:9], LEADS[9:])
MOST_ROWS = 40  # leads on a page, which takes 135 MB as a picture
WORD, LEAD_NAME, LABEL_LINES = 90, 55, 8  # room for a label, for a lead's name; lines of labels
FONT = "DejaVu Sans"  # comes with matplotlib, so that what can be drawn is the same everywhere

PAPER, FINE, COARSE, INK, MARKER = "#fffaf8", "#f9d9d4", "#eea9a0", "#14141c", "#fdefc3"
POSITIVE, NEGATIVE, QUIET = "#b5382a", "#c9c9cf", "#5b5b66"
MOST_CHARACTERS = 10  # in a millimetre, of any style; a longer text is cut before it is measured
TITLE_STYLE, LEAD_STYLE = {"fontsize": 14, "fontweight": "bold"}, {"fontsize": 10, "fontweight": "bold"}
HEADING, LABEL, SMALL = {"fontsize": 11, "fontweight": "bold"}, {"fontsize": 9}, {"fontsize": 7}
# Of the peaks, by waves: colour, marker, and where the letter is to it, in mm, so that those of Q, R and S lie apart.
MARKS = {
    "P": ("#1f5fbf", "o", (0, 2.2)),
    "Q": ("#8a5a00", "v", (-1.2, -2.2)),
    "R": ("#c2185b", "^", (0, 2.2)),
    "S": ("#0b7a5b", "s", (1.2, -2.2)),
    "T": ("#6a2fa0", "D", (0, 2.2)),
}


class Strip(NamedTuple):
    """A piece of a lead on paper: row of the recording, row on paper, then seconds: its place, first one, length."""

    lead: int
    row: int
    at: float
    begin: float
    seconds: float


@rc_context({"text.parse_math": False, "font.family": FONT})  # what a header says is text, $ and all
def draw_record(header, recording, start=0.0, probabilities=None, thresholds=None, caption="", asked=None,
                peaks=None, outputs=None):  # fmt: skip
    """Draw ten seconds of a recording on ECG paper and return the Figure; its savefig keeps the scale in the file.

    Takes the header, the stored integers (L, T), the second to start from, of a model the probabilities (26,) and
    thresholds (26,), NaN where none decides, a caption of whatever length, and the column of the class that is asked
    about, which is then among the model's in any case and set off, Peaks (ecg.data.wave_peaks) of lead II, in samples of the
    recording, which are marked where that lead is drawn in full, and which classes the model answers, (26,) bool, those
    that reach their thresholds where None. The signal is drawn as recorded, neither filtered nor resampled:
    millivolts by the header's baseline and gain, the median of what is shown taken off so that a lead lies on its line. Invalid samples are gaps. Twelve leads are drawn as 3 rows of 4 columns and lead II
    below, other leads one a row. Of less than ten seconds the columns overlap, so that each is full. The foot names
    leads that are not drawn, such as those that are no voltage, and says why a recording cannot be used, such as for
    a wrong unit. Names and labels that are too long for their place end in dots, and characters that the font lacks are
    drawn as their code. Raises SignalError where nothing was recorded from `start` on, and HeaderError where no lead is
    a voltage.
    """
    duration = recording.shape[1] / header.sampling_frequency
    if not 0 <= start < duration:
        raise SignalError(f"{header.name}: there is nothing at {start:g} s in a recording of {duration:g} s")
    shown = min(SECONDS, duration - start)
    drawn, undrawn = choose_rows(header)
    strips = lay_out([header.lead_names[row] for row in drawn], start, shown)
    strips = [strip._replace(lead=drawn[strip.lead]) for strip in strips]
    width, height = LEFT + SECONDS * SPEED + RIGHT, ROW * (1 + max(strip.row for strip in strips))
    names = [shorten(name, WORD, LABEL) for name in label_names(header.codes)] or ["none"]
    labels = wrap_words(["Labels:", *(f"{name}," for name in names[:-1]), names[-1]], width, LABEL, LABEL_LINES)
    captions = wrap_words(caption.split(), width, HEADING)
    unusable = explain_unusable(header, recording)
    notes = [f"cannot be used: {unusable}"] * bool(unusable) + [f"not drawn: {', '.join(undrawn)}"] * bool(undrawn)
    foot = FOOT + NOTE * len(notes)
    top = height + foot
    title = top + 3 + LINE * len(labels) + CAPTION * len(captions)
    whole = (2 * MARGIN + width + PANEL * (probabilities is not None),
             2 * MARGIN + math.ceil(title + TITLE - 3))  # fmt: skip
    figure = Figure((whole[0] / INCH, whole[1] / INCH), dpi=PIXELS * INCH, facecolor="white")
    axes = _millimetres(figure, whole, (MARGIN, MARGIN + foot, width, height))
    _draw_grid(axes, width, height)
    for row in range(height // ROW):
        _draw_pulse(axes, height - ROW * (row + 0.5))
    for strip in strips:
        _draw_strip(axes, strip, header, recording, height - ROW * (strip.row + 0.5))
    lead_two = header.lead_names.index(LEAD) if LEAD in header.lead_names else None  # of two, that of the peaks
    of_lead = [strip for strip in strips if strip.lead == lead_two]
    if peaks and of_lead:
        strip = of_lead[-1]  # the last is the whole one
        _draw_peaks(axes, strip, header, recording, height - ROW * (strip.row + 0.5), peaks)

    text = _millimetres(figure, whole, (MARGIN, MARGIN, whole[0] - 2 * MARGIN, whole[1] - 2 * MARGIN))
    text.axis("off")
    person = facts(header, duration, start, shown)
    room = width - text_width(person, LABEL) - 8
    text.text(0, title, shorten(header.name, room, TITLE_STYLE), **TITLE_STYLE)
    text.text(width, title, person, **LABEL, ha="right")
    for row, line in enumerate(reversed(labels)):
        text.text(0, top + 2 + LINE * row, line, **LABEL)
    for row, line in enumerate(captions, 1):
        text.text(0, title - CAPTION * row, line, **HEADING, color=POSITIVE)
    scale = f"{SPEED} mm/s   {HEIGHT} mm/mV   as recorded, not filtered"
    text.text(0, foot - FOOT, scale, **SMALL, color=QUIET)
    overlapping = shown < SECONDS and len(strips) > len(LEADS)
    if overlapping:
        remark = "the columns overlap in time, so that each is full"
        text.text(width, foot - FOOT, remark, **SMALL, color=QUIET, ha="right")
    for row, note in enumerate(notes):
        text.text(0, NOTE * row, shorten(note, width, SMALL), **SMALL, color=QUIET)
    if probabilities is not None:
        panel = _millimetres(figure, whole, (MARGIN + width, MARGIN, PANEL, top))
        probabilities, thresholds = np.asarray(probabilities), np.asarray(thresholds)
        positive = probabilities >= thresholds if outputs is None else outputs
        _draw_answer(panel, probabilities, thresholds, positive, encode(header.codes), asked, top)
    return figure


def choose_rows(header: Header) -> tuple[list[int], list[str]]:
    """Choose the leads that are drawn: the twelve standard ones, or else all that are a voltage.

    Args:
        header: the header of the recording.

    Returns:
        The rows of the recording that are drawn, and the names of the other leads, with the unit of those that are no
        voltage.

    Raises:
        HeaderError: No lead is a voltage.
    """
    voltages = [row for row, lead in enumerate(header.leads) if lead.units.casefold() in MILLIVOLTS]
    first = {header.lead_names[row]: row for row in reversed(voltages)}  # of two of a name, the first
    drawn = [first[name] for name in LEADS] if set(LEADS) <= first.keys() else voltages[:MOST_ROWS]
    standard = {header.lead_names[row] for row in drawn} & set(LEADS)
    undrawn = [_describe_undrawn(lead, standard) for row, lead in enumerate(header.leads) if row not in drawn]
    if not drawn:
        raise HeaderError(f"{header.name}: no lead is in mV, uV or V, but {', '.join(undrawn)}")
    return drawn, undrawn


def lay_out(names, start, shown):
    """Return the strips for leads of these names, where `shown` seconds from `start` on are to be seen."""
    position = {name: lead for lead, name in reversed(list(enumerate(names)))}  # of two of a name, the first
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
    """Return the name of a lead that is not drawn, and why; `drawn` are the standard leads that are."""
    name = lead.written or lead.name or "without a name"
    if lead.units.casefold() not in MILLIVOLTS:
        return f"{name} ({lead.units})"
    return f"{name} (a second {lead.name})" if lead.name in drawn else name


def label_names(codes):
    """Return the Challenge's abbreviations of diagnoses, and codes in neither of its tables as they are, each once."""

    def name(code):
        if code in CLASS_OF_CODE:
            return ABBREVIATIONS[CLASS_OF_CODE[code]]
        return unscored_diagnoses()[code].abbreviation if code in unscored_diagnoses() else code

    return list(dict.fromkeys(map(name, codes)))


def facts(header, duration, start, shown):
    """Return in one line who was recorded, and what of it is shown."""
    age = "age unknown" if math.isnan(header.age) else f"{header.age:g} years"
    sex = "sex unknown" if header.sex == "Unknown" else header.sex.lower()
    part = "" if shown == duration else f", from {start:g} s to {start + shown:g} s"
    return f"{age}, {sex}   {header.sampling_frequency:g} Hz   {duration:g} s{part}"


def millivolts(header, recording, strip):
    """Return time (n,) in s from the strip's beginning and what is shown of its lead: (n,) mV, NaN where invalid."""
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
    r"""Return a character as the font can draw it: itself, or its code, such as `\u5fc3`, where it has no glyph."""
    fonts = (get_font(findfont(FontProperties(family=FONT, weight=weight))) for weight in ("normal", "bold"))
    if character.isprintable() and all(font.get_char_index(ord(character)) for font in fonts):
        return character
    return character.encode("unicode_escape").decode()


def text_width(text: str, style: dict) -> float:
    """Return how wide a line of drawable text is at most, in mm."""
    size, weight = style["fontsize"], style.get("fontweight", "normal")
    return sum(_advance(character, size, weight) for character in text)


@lru_cache(maxsize=4096)
def _advance(character: str, size: float, weight: str) -> float:
    """Return how far a character moves the next one, in mm: as pixels, where letters are rounded, or as outlines."""
    font = FontProperties(family=FONT, size=size, weight=weight)
    measures = ((RendererAgg(1, 1, PIXELS * INCH), 1 / PIXELS), (TextToPath(), POINT))
    widths = (
        [unit * measure.get_text_width_height_descent(text, font, ismath=False)[0] for text in ("||", f"|{character}|")]
        for measure, unit in measures
    )
    return max(0.0, *(wide - narrow for narrow, wide in widths))


def shorten(text: str, room: float, style: dict) -> str:
    """Return a text as it can be drawn, with dots instead of its end if it is wider than `room` mm."""
    characters = list(map(drawable, text[: round(room * MOST_CHARACTERS)]))
    ends = list(accumulate(text_width(character, style) for character in characters))
    if len(text) == len(characters) and (not ends or ends[-1] <= room):
        return "".join(characters)
    return "".join(characters[: bisect_right(ends, room - text_width("...", style))]) + "..."


def wrap_words(words: list[str], room: float, style: dict, lines: float = math.inf) -> list[str]:
    """Return words as lines of at most `room` mm that can be drawn.

    A long word ends in dots, and so do the lines where there are more words than fit into so many.
    """
    found = []
    for word in words:
        word = shorten(word, room, style)
        if found and text_width(f"{found[-1]} {word}", style) <= room:
            found[-1] += f" {word}"
        elif len(found) < lines:
            found.append(word)
        else:
            found[-1] = shorten(f"{found[-1]} ...", room, style)
            break
    return found


def _millimetres(figure, whole, box):
    """Add axes at a box (left, bottom, width, height) of a figure of the whole size, in mm inside and out."""
    left, bottom, width, height = box
    axes = figure.add_axes((left / whole[0], bottom / whole[1], width / whole[0], height / whole[1]))
    axes.set(xlim=(0, width), ylim=(0, height), xticks=(), yticks=())
    return axes


def _draw_grid(axes, width, height):
    axes.set_facecolor(PAPER)
    axes.spines[:].set(color=COARSE, linewidth=0.6)
    for step, colour, line in ((1, FINE, 0.28), (5, COARSE, 0.5)):
        upright = [((x, 0), (x, height)) for x in np.arange(0, width + 1, step)]
        level = [((0, y), (width, y)) for y in np.arange(0, height + 1, step)]
        lines = LineCollection(upright + level, colors=colour, linewidths=line, antialiaseds=False, zorder=1)
        axes.add_collection(lines)


def _draw_pulse(axes, zero):
    """Draw the calibration pulse: 1 mV for 0.2 s."""
    x = PULSE_AT + np.array([-2, 0, 0, PULSE_WIDTH, PULSE_WIDTH, PULSE_WIDTH + 2])
    axes.plot(x, zero + HEIGHT * np.array([0, 0, 1, 1, 0, 0]), color=INK, linewidth=0.8, gid="pulse")


def _draw_strip(axes, strip, header, recording, zero):
    time, signal = millivolts(header, recording, strip)
    left = LEFT + SPEED * strip.at
    written = header.lead_names[strip.lead]
    axes.plot(left + SPEED * time, zero + HEIGHT * signal, color=INK, linewidth=0.8, solid_joinstyle="round",
              gid=f"{''.join(map(drawable, written))} row {strip.row}")  # fmt: skip
    name = shorten(written, LEAD_NAME, LEAD_STYLE)
    if strip.at:
        axes.plot((left, left), (zero - 2.5, zero + 2.5), color=QUIET, linewidth=0.8)
    if np.isnan(signal).all():
        name += " (no signal)"
    elif np.nanmin(signal) == np.nanmax(signal):
        name += " (flat)"
    axes.text(left + 1.5, zero + 9, name, **LEAD_STYLE, color=INK, zorder=1.5,  # below the traces
              path_effects=[withStroke(linewidth=2.5, foreground=PAPER)])  # fmt: skip


def _draw_peaks(axes, strip, header, recording, zero, peaks):
    """Mark the peaks on a strip and name them, each wave in its own colour."""
    time, signal = millivolts(header, recording, strip)
    places = peaks.samples - round((time[0] + strip.begin) * header.sampling_frequency)
    shown = (places >= 0) & (places < len(time))
    places, waves = places[shown], peaks.waves[shown]
    near = round(BESIDE * header.sampling_frequency)
    for number, wave in enumerate(WAVES):
        colour, marker, (right, up) = MARKS[wave]
        at = places[(waves == number) & np.isfinite(signal[places])]
        x, y = LEFT + SPEED * (strip.at + time[at]), zero + HEIGHT * signal[at]
        axes.plot(x, y, marker, color=colour, markersize=3.5, markeredgecolor=PAPER, markeredgewidth=0.4,
                  gid=f"{wave} peaks")  # fmt: skip
        beside = (signal[np.maximum(at - near, 0)] + signal[np.minimum(at + near, len(signal) - 1)]) / 2
        letters = y + np.where((wave == "T") & (signal[at] < beside), -up, up)  # T may point down
        for left, height in zip(x, letters, strict=True):
            axes.text(left + right, height, wave, fontsize=7, fontweight="bold", color=colour, ha="center",
                      va="center", path_effects=[withStroke(linewidth=2, foreground=PAPER)])  # fmt: skip


def _draw_answer(axes, probabilities, thresholds, positive, labelled, asked, height):
    """Draw the likeliest classes and all positive or labelled ones as bars, with their thresholds; mark one."""
    axes.axis("off")
    wanted = positive | labelled | (np.arange(len(probabilities)) == asked)
    count = min(len(probabilities), max(int((height - 22) // CLASS_ROW), np.count_nonzero(wanted)))
    chosen = np.lexsort((-probabilities, ~wanted))[:count]
    chosen = chosen[np.argsort(-probabilities[chosen], kind="stable")]
    spacing = min(CLASS_ROW, (height - 22) / count)
    name, bar, value, mark = 20, 22, 22 + FULL + 9, 22 + FULL + 12
    axes.text(name, height - 5, "Model", fontsize=10, fontweight="bold", ha="right")
    axes.text(bar, height - 5, "probability of a class", fontsize=8, color=QUIET)
    for row, column in enumerate(chosen):
        middle = height - 12 - spacing * row
        colour, weight = (POSITIVE, "bold") if positive[column] else (NEGATIVE, "normal")
        if column == asked:
            axes.add_patch(Rectangle((3, middle - spacing / 2), PANEL - 4, spacing, color=MARKER, gid="asked"))
        text = {"fontsize": 9, "fontweight": weight, "ha": "right", "va": "center_baseline"}
        axes.add_patch(Rectangle((bar, middle - 0.3 * spacing), FULL, 0.6 * spacing, color="#f3f3f5"))
        axes.add_patch(Rectangle((bar, middle - 0.3 * spacing), FULL * probabilities[column], 0.6 * spacing,
                                 color=colour, gid=ABBREVIATIONS[column]))  # fmt: skip
        if np.isfinite(thresholds[column]):
            axes.plot(2 * (bar + FULL * thresholds[column],), (middle - 0.42 * spacing, middle + 0.42 * spacing),
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


def draw_disagreements(folder, found, thresholds, outputs=None, early_gains=False):
    """Draw a page for each disagreement into a folder, RANK_RECORD_CLASS.png, and return how many were drawn.

    Of a long record's name the picture's has the first LONGEST_NAME characters.
    thresholds (26,), or (d, 26) for d disagreements, are marked beside the probabilities, but for those that are NaN;
    outputs (d, 26) bool are the classes that are answered, those that reach their thresholds where None. Recordings are
    read again, with the gains of early 2020 corrected if `early_gains`; each that cannot be drawn is logged.
    """
    thresholds = np.broadcast_to(thresholds, (len(found), len(ABBREVIATIONS)))
    if outputs is None:
        outputs = [one.probabilities >= limits for one, limits in zip(found, thresholds, strict=True)]
    digits, failures = max(len(str(len(found))), 2), []
    with Progress("drawing", len(found), "pages") as progress:
        for rank, one in enumerate(found, 1):
            try:
                header, recording = read_record(one.path)
                header = correct_gains(header, recording)[0] if early_gains else header
                figure = draw_record(header, recording, 0.0, one.probabilities, thresholds[rank - 1],
                                     caption(one, header), one.column, outputs=outputs[rank - 1])  # fmt: skip
            except (RecordError, OSError) as error:
                failures.append(f"{one.name} cannot be drawn: {describe_error(error)}")
            else:
                name = one.name.replace("/", "_")[:LONGEST_NAME]
                save_figure(figure, Path(folder) / f"{rank:0{digits}}_{name}_{ABBREVIATIONS[one.column]}.png")
            progress.advance()
    for line in failures:
        LOGGER.warning(line)
    return len(found) - len(failures)


def caption(one, header):
    """Return in words what a disagreement is; where the label is not the header's, relabelling has put it there."""
    labelled = "labelled" if one.labelled else "not labelled"
    if encode(header.codes)[one.column] != one.labelled:
        labelled += " after relabelling"
    probability = f"{one.probability:.2f}"
    probability = {"0.00": "less than 0.01", "1.00": "more than 0.99"}.get(probability, probability)
    return f"{ABBREVIATIONS[one.column]} is {labelled}, and the network gives it {probability}"
