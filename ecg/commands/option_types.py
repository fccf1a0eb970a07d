"""Parse the values of the command line's options."""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ecg.data.augmentation import AUGMENTATIONS
from ecg.data.labels import CHALLENGE_CLASSES, find_source
from ecg.data.leads import LEAD_SETS
from ecg.runtime.limits import LIMITS

FIGURE_ENDINGS = (".png", ".pdf", ".svg")
PRECISIONS = ("float32", "bfloat16")
# Those of ecg.models.decision, whose import is slow.
DECISIONS = ("thresholds", "half", "argmax", "expected_credit", "vote")
EXPLANATIONS = ("integrated_gradients", "smoothgrad", "occlusion")  # those of ecg.systems.explanations, likewise
CLASS_BY_LOWER_CASE = {name.casefold(): name for name in CHALLENGE_CLASSES.all_abbreviations}

SAMPLED = ("false_positives", "false_negatives")

SourceClasses = tuple[str, tuple[str, ...]]  # a source and some classes


def option_error(expected: object, text: str) -> argparse.ArgumentTypeError:
    """Return the error for a text that is not what an option expects."""
    return argparse.ArgumentTypeError(f"expected {expected}, received {text!r}")


def number_parser(name: str) -> Callable[[str], float]:
    """Return a parser of numbers within the limits of this name.

    Args:
        name: A name in `LIMITS`.
    """
    limit = LIMITS[name]

    def parse(text: str) -> float:
        try:
            value = int(text) if limit.integer else float(text)
        except ValueError:
            raise option_error(limit, text) from None
        if not limit.contains(value):
            raise option_error(limit, text)
        return value

    return parse


def choice_parser(choices: dict[str, Any]) -> Callable[[str], Any]:
    """Return a parser of one of several names, in any case.

    Args:
        choices: What each name stands for, by the name in lower case.
    """

    def parse(text: str) -> Any:
        if text.strip().casefold() not in choices:
            raise option_error(f"one of {', '.join(map(str, choices.values()))}", text)
        return choices[text.strip().casefold()]

    return parse


parse_lead_count = choice_parser({str(count): count for count in LEAD_SETS})
parse_precision = choice_parser({name: name for name in PRECISIONS})
parse_decision = choice_parser({name: name for name in DECISIONS})
parse_explanation = choice_parser({name: name for name in EXPLANATIONS})
parse_augmentation = choice_parser({name: name for name in AUGMENTATIONS})


def parse_class(text: str) -> str:
    """Parse the abbreviation of a class; the command knows which ones there are.

    Raises:
        argparse.ArgumentTypeError: It is empty.
    """
    if not text.strip():
        raise option_error("the abbreviation of a class", text)
    return text.strip()


def parse_path(text: str) -> Path:
    """Parse the name of a file or folder; an empty name would be the current folder.

    Raises:
        argparse.ArgumentTypeError: The name is empty.
    """
    if not text:
        raise option_error("a file or folder", text)
    return Path(text)


def parse_cluster(text: str) -> str:
    """Parse the address of a scheduler, with its port; tcp:// may be missing.

    Raises:
        argparse.ArgumentTypeError: There is no host or no port.
    """
    address = text if "://" in text else f"tcp://{text}"
    if not re.fullmatch(r"[a-z]+://\S+:[0-9]+", address):
        raise option_error("the address of a scheduler, such as tcp://10.0.0.1:8786", text)
    return address


def parse_figure_path(text: str) -> Path:
    """Parse the name of a figure's file, its extension in any case.

    Raises:
        argparse.ArgumentTypeError: The extension is none of FIGURE_ENDINGS.
    """
    if Path(text).suffix.lower() not in FIGURE_ENDINGS:
        raise option_error(f"a name that ends in {', '.join(FIGURE_ENDINGS[:-1])} or {FIGURE_ENDINGS[-1]}", text)
    return Path(text)


def parse_source(text: str) -> str:
    """Parse the name of a source; one of the Challenge's in any case.

    Raises:
        argparse.ArgumentTypeError: The name is empty.
    """
    if not text.strip():
        raise option_error("a source", text)
    return find_source(text.strip())


def parse_share(text: str) -> tuple[str, float]:
    """Parse NAME or NAME=SHARE: a source and its share, 1 by default.

    Raises:
        argparse.ArgumentTypeError: The name is empty, or the share is out of its range.
    """
    name, equals, value = text.partition("=")
    try:
        return parse_source(name), number_parser("share")(value) if equals else 1.0
    except argparse.ArgumentTypeError:
        raise option_error(f"SOURCE or SOURCE=SHARE, the share {LIMITS['share']}", text) from None


def parse_source_classes(text: str) -> SourceClasses:
    """Parse SOURCE=CLASS,CLASS..., a source and its classes, in any case.

    Raises:
        argparse.ArgumentTypeError: A name is empty.
    """
    name, _, classes = text.partition("=")
    names = tuple(map(str.strip, classes.split(",")))
    if not (name.strip() and all(names)):
        raise option_error("SOURCE=CLASS,CLASS...", text)
    return parse_source(name), tuple(CLASS_BY_LOWER_CASE.get(name.casefold(), name) for name in names)


def parse_class_pair(text: str) -> tuple[str, str]:
    """Parse CLASS=CLASS: two abbreviations of classes; see `parse_class`.

    Raises:
        argparse.ArgumentTypeError: One of them is empty.
    """
    first, _, second = text.partition("=")
    try:
        return parse_class(first), parse_class(second)
    except argparse.ArgumentTypeError:
        raise option_error("CLASS=CLASS", text) from None


def parse_sample(texts: Sequence[str]) -> tuple[str, int, int]:
    """Parse a class, a number of false positives and one of false negatives.

    Raises:
        ValueError: The class is empty, or a number is out of its range.
    """
    try:
        numbers = [int(number_parser(name)(text)) for name, text in zip(SAMPLED, texts[1:], strict=True)]
        return parse_class(texts[0]), numbers[0], numbers[1]
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"argument --sample: {error}") from None
