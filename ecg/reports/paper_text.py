"""Measure, shorten and wrap the text on ECG paper."""

import math
from bisect import bisect_right
from functools import cache
from itertools import accumulate
from typing import Any

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import TextToPath

FONT = "DejaVu Sans"  # comes with matplotlib, so that all machines draw the same
PIXELS = 10  # per mm, such that all grid lines lie on integer pixels
INCH, POINT = 25.4, 25.4 / 72  # mm
MAX_CHARACTERS = 10  # in a mm, of any style; a longer string is cut before it is measured
Style = dict[str, Any]  # arguments of matplotlib for text


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
