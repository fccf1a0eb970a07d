"""How the values on the command line are read, and which of them were given.

A reader takes a text and returns what it means. It raises argparse.ArgumentTypeError, or ValueError where the text is
no number, which argparse makes a usage error of.
"""

import argparse
import math
from pathlib import Path

PICTURES = (".png", ".pdf", ".svg")
LARGEST_SEED = 2**32 - 1  # that scikit-learn takes


def given(**values):
    """Return the values that are not None, by name."""
    return {name: value for name, value in values.items() if value is not None}


def whole(least, most=math.inf):
    """Return what reads a whole number from `least` to `most`."""

    def number(text):
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is {f'below {least}' if value < least else f'above {most}'}")
        return value

    return number


def positive(text):
    """Read a finite number above 0."""
    if not 0 < float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a finite number above 0")
    return float(text)


def momentum(text):
    """Read a number from 0 on and below 1."""
    if not 0 <= float(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to below 1")
    return float(text)


def proportion(text):
    """Read a number from 0 to 1."""
    if not 0 <= float(text) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return float(text)


def share(text):
    """Read NAME or NAME=SHARE: the name and a number above 0, 1 where it is not given."""
    name, _, value = text.partition("=")
    if not float(value or 1) > 0:
        raise argparse.ArgumentTypeError(f"{text}: a share is above 0")
    return name, float(value or 1)


def habit(text):
    """Read SOURCE=CLASS,CLASS...: the source, one of the Challenge's in any case, and its classes, a tuple."""
    from ecg.labels import source_called  # where it is asked for, so that help is instant

    source, _, classes = text.partition("=")
    names = tuple(name.strip() for name in classes.split(","))
    if not (source.strip() and all(names)):
        raise argparse.ArgumentTypeError(f"{text} is not SOURCE=CLASS,CLASS...")
    return source_called(source.strip()), names


def pair(text):
    """Read CLASS=CLASS: two of the Challenge's abbreviations of scored classes."""
    from ecg.labels import ABBREVIATIONS  # where it is asked for, so that help is instant

    one, _, other = text.partition("=")
    if not {one, other} <= set(ABBREVIATIONS):
        raise argparse.ArgumentTypeError(f"{text} is not CLASS=CLASS, of {', '.join(ABBREVIATIONS)}")
    return one, other


def diagnosis(text):
    """Read the Challenge's abbreviation of a scored class."""
    from ecg.labels import ABBREVIATIONS  # where it is asked for, so that help is instant

    if text not in ABBREVIATIONS:
        raise argparse.ArgumentTypeError(f"{text} is none of {', '.join(ABBREVIATIONS)}")
    return text


def picture(text):
    """Read the name of a file that can hold a picture, its extension in any case."""
    if Path(text).suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text} does not end in {', '.join(PICTURES[:-1])} or {PICTURES[-1]}")
    return Path(text)
