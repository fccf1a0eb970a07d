"""Write, measure, shorten and wrap the text on ECG paper."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import TextToPath

from ecg.data.class_tables import ClassTable
from ecg.data.headers import Header
from ecg.data.labels import CHALLENGE_CLASSES, find_diagnosis

FONT = "DejaVu Sans"  # comes with matplotlib, so that all machines draw the same
PIXELS = 10  # per mm, such that all grid lines lie on integer pixels
INCH, POINT = 25.4, 25.4 / 72  # mm
MAX_CHARACTERS = 10  # in a mm, of any style; a longer string is cut before it is measured
CAPTION, LINE, FOOT, NOTE = 5.5, 4.5, 5, 3.5  # mm, heights of lines
LABEL_LINES = 8
POSITIVE, QUIET = "#b5382a", "#5b5b66"
Style = dict[str, Any]  # arguments of matplotlib for text
TITLE_STYLE: Style = {"fontsize": 14, "fontweight": "bold"}
HEADING: Style = {"fontsize": 11, "fontweight": "bold"}
LABEL: Style = {"fontsize": 9}
SMALL: Style = {"fontsize": 7}


class Sheet(NamedTuple):
    """The paper of a page and the lines of text around it.

    Heights are in mm above the lower margin.

    Attributes:
        width: Width of the paper.
        height: Height of the paper.
        labels: Lines above the paper.
        captions: Lines above the labels.
        notes: Lines below the paper.
    """

    width: float
    height: int
    labels: list[str]
    captions: list[str]
    notes: list[str]

    @property
    def foot(self) -> float:
        """The lower edge of the paper."""
        return FOOT + NOTE * len(self.notes)

    @property
    def top(self) -> float:
        """The upper edge of the paper."""
        return self.foot + self.height

    @property
    def title(self) -> float:
        """The title."""
        return self.top + 3 + LINE * len(self.labels) + CAPTION * len(self.captions)


@cache
def drawable(character: str) -> str:
    r"""Return a character, or its code such as `\u5fc3` if the font has no glyph."""
    fonts = (get_font(findfont(FontProperties(family=FONT, weight=weight))) for weight in ("normal", "bold"))
    if character.isprintable() and all(font.get_char_index(ord(character)) for font in fonts):
        return character
    return character.encode("unicode_escape").decode()


def text_width(text: str, style: Style) -> float:
    """Return how wide a line of drawable text is at most, in mm."""
    return sum(_advance(character, style["fontsize"], style.get("fontweight", "normal")) for character in text)


@cache
def _advance(character: str, size: float, weight: str) -> float:
    """Return the width of a character in mm, the larger of pixels and outlines."""
    font = FontProperties(family=FONT, size=size, weight=weight)

    widths = [
        [unit * measure(text, font, ismath=False)[0] for text in ("||", f"|{character}|")]
        for measure, unit in (
            (RendererAgg(1, 1, PIXELS * INCH).get_text_width_height_descent, 1 / PIXELS),
            (TextToPath().get_text_width_height_descent, POINT),
        )
    ]
    return max(wide - narrow for narrow, wide in widths)


def shorten(text: str, room: float, style: Style) -> str:
    """Return a drawable string; one wider than `room` mm ends in dots."""
    characters = list(map(drawable, text[: round(room * MAX_CHARACTERS)]))
    ends = list(accumulate(text_width(character, style) for character in characters))
    if len(text) == len(characters) and (not ends or ends[-1] <= room):
        return "".join(characters)
    return "".join(characters[: bisect_right(ends, room - text_width("...", style))]) + "..."


def wrap_words(text: str, room: float, style: Style, lines: float = math.inf) -> list[str]:
    """Wrap a text to lines of at most `room` mm that can be drawn.

    A long word ends in dots, and so does the last line if there are more words than fit.
    """
    wrapped: list[str] = []
    for word in (shorten(word, room, style) for word in text.split()):
        if wrapped and text_width(f"{wrapped[-1]} {word}", style) <= room:
            wrapped[-1] += f" {word}"
        elif len(wrapped) < lines:
            wrapped.append(word)
        else:
            wrapped[-1] = shorten(f"{wrapped[-1]} ...", room, style)
            break
    return wrapped


def label_names(codes: Sequence[str], classes: ClassTable = CHALLENGE_CLASSES) -> list[str]:
    """Return the abbreviations of diagnoses, each once; unknown codes stay."""
    return list(dict.fromkeys(find_diagnosis(code, classes).abbreviation for code in codes))


def describe_recording(header: Header, duration: float, start: float, shown: float) -> str:
    """Describe in one line who was recorded, and which part of the recording is drawn."""
    age = "age unknown" if math.isnan(header.age) else f"{header.age:g} years"
    sex = "sex unknown" if header.sex == "Unknown" else header.sex.lower()
    section = "" if shown == duration else f", from {start:g} s to {start + shown:g} s"
    return f"{age}, {sex}   {header.sampling_frequency:g} Hz   {duration:g} s{section}"


def arrange_sheet(
    size: tuple[float, int],
    header: Header,
    caption: str,
    notes: list[str],
    classes: ClassTable = CHALLENGE_CLASSES,
) -> Sheet:
    """Wrap the lines of text around the paper.

    Args:
        size: Width and height of the paper in mm.
        header: Header of the recording.
        caption: A line above the paper.
        notes: Lines below the paper.
        classes: The classes that labels are named by.
    """
    labels = f"Labels: {', '.join(label_names(header.codes, classes)) or 'none'}"
    width, height = size
    label_lines, captions = wrap_words(labels, width, LABEL, LABEL_LINES), wrap_words(caption, width, HEADING)
    return Sheet(width, height, label_lines, captions, notes)


def draw_texts(axes: Axes, sheet: Sheet, name: str, summary: str, scale: str) -> None:
    """Draw title, labels and captions above the paper, and scale and notes below it."""
    axes.axis("off")
    room = sheet.width - text_width(summary, LABEL) - 8
    axes.text(0, sheet.title, shorten(name, room, TITLE_STYLE), **TITLE_STYLE)
    axes.text(sheet.width, sheet.title, summary, **LABEL, ha="right")
    for row, line in enumerate(reversed(sheet.labels)):
        axes.text(0, sheet.top + 2 + LINE * row, line, **LABEL)
    for row, line in enumerate(sheet.captions, 1):
        axes.text(0, sheet.title - CAPTION * row, line, **HEADING, color=POSITIVE)
    axes.text(0, sheet.foot - FOOT, shorten(scale, sheet.width, SMALL), **SMALL, color=QUIET)
    for row, note in enumerate(sheet.notes):
        axes.text(0, NOTE * row, shorten(note, sheet.width, SMALL), **SMALL, color=QUIET)
