"""How the values on the command line are read, and which of them were given.

A reader takes a text and returns what it means. It raises argparse.ArgumentTypeError, which argparse makes a usage
error of. Names are read in any case.
"""

import argparse
from pathlib import Path

from ecg.leads import LEAD_SETS
from ecg.limits import LIMITS

PICTURES = (".png", ".pdf", ".svg")
PRECISIONS = ("float32", "bfloat16")


def given(**values):
    """Return the values that are not None, by name."""
    return {name: value for name, value in values.items() if value is not None}


def refusal(expected, text):
    """Return the error about a text that is not what is expected, in the words of all options."""
    return argparse.ArgumentTypeError(f"expected {expected}, received {text!r}")


def number(name):
    """Return what reads a number within the limits of this name (ecg.limits)."""
    limit = LIMITS[name]

    def read(text):
        try:
            value = int(text) if limit.integer else float(text)
        except ValueError:
            raise refusal(limit, text) from None
        if not limit.holds(value):
            raise refusal(limit, text)
        return value

    return read


def lead_count(text):
    """Read the size of one of the Challenge's lead sets."""
    if text not in map(str, LEAD_SETS):
        raise refusal(f"one of {', '.join(map(str, LEAD_SETS))}", text)
    return int(text)


def path_name(text):
    """Read the name of a file or folder; an empty one would be the current folder."""
    if not text:
        raise refusal("a file or folder", text)
    return Path(text)


def precision(text):
    """Read the name of a precision, in any case."""
    if text.casefold() not in PRECISIONS:
        raise refusal(f"one of {', '.join(PRECISIONS)}", text)
    return text.casefold()


def share(text):
    """Read NAME or NAME=SHARE: a source, one of the Challenge's in any case, and its share, 1 if it is not given."""
    name, equals, value = text.partition("=")
    try:
        return source(name), number("share")(value) if equals else 1.0
    except argparse.ArgumentTypeError:
        raise refusal(f"SOURCE or SOURCE=SHARE, the share {LIMITS['share']}", text) from None


def source(text):
    """Read the name of a source, one of the Challenge's in any case."""
    from ecg.labels import source_called  # where it is asked for, so that help is instant

    if not text.strip():
        raise refusal("a source", text)
    return source_called(text.strip())


def habit(text):
    """Read SOURCE=CLASS,CLASS...: the source and its classes, a tuple, those of the Challenge in any case."""
    name, _, classes = text.partition("=")
    names = tuple(map(str.strip, classes.split(",")))
    if not (name.strip() and all(names)):
        raise refusal("SOURCE=CLASS,CLASS...", text)
    return source(name), tuple(known_classes().get(one.casefold(), one) for one in names)


def pair(text):
    """Read CLASS=CLASS: two of the Challenge's abbreviations of scored classes, in any case."""
    one, _, other = text.partition("=")
    try:
        return diagnosis(one), diagnosis(other)
    except argparse.ArgumentTypeError:
        raise refusal(f"CLASS=CLASS, of {', '.join(known_classes(scored=True).values())}", text) from None


def diagnosis(text):
    """Read the Challenge's abbreviation of a scored class, in any case."""
    known = known_classes(scored=True)
    if text.strip().casefold() not in known:
        raise refusal(f"one of {', '.join(known.values())}", text)
    return known[text.strip().casefold()]


def known_classes(scored=False):
    """Return the abbreviations of all classes, or of the scored ones only, by their lower case: a dict."""
    from ecg.labels import ABBREVIATIONS, BESIDE  # where it is asked for, so that help is instant

    names = ABBREVIATIONS if scored else (*ABBREVIATIONS, *(diagnosis.abbreviation for diagnosis in BESIDE))
    return {name.casefold(): name for name in names}


def picture(text):
    """Read the name of a file that can hold a picture, its extension in any case."""
    if Path(text).suffix.lower() not in PICTURES:
        endings = f"{', '.join(PICTURES[:-1])} or {PICTURES[-1]}"
        raise argparse.ArgumentTypeError(f"expected a name that ends in {endings}, received {text!r}")
    return Path(text)
