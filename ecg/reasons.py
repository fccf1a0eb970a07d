"""Names of recordings and reasons as the console shows them: grouped, cut short, wrapped, printable."""

import re
import sys
import textwrap
from itertools import islice
from pathlib import Path

NAMED = 3  # recordings that are named in a line
WIDTH = 100  # characters of a line on the console
VARYING = re.compile(r"'[^']*'|\b[0-9]+(?:[.,][0-9]+)*\b")  # in reasons of one kind


def grouped(dropped):
    """Group pairs of a record's name and why it is left out by kind, the most frequent first: pairs of it and a list.

    A name is the path below the data folder. Reasons are of one kind that differ only in the record's name and place,
    in numbers and in what is quoted. The name reads NAME in the kind, and where they differ in the others, these read
    ... .
    """
    kinds = {}
    for name, reason in dropped:
        place, _, rest = reason.partition(": ")
        file = name.rpartition("/")[2]  # reasons name the file and not its folder
        reason = re.sub(rf"\b{re.escape(file)}\b", "NAME", rest if rest and file in place else reason)
        kinds.setdefault(VARYING.sub("...", reason), []).append((name, reason))
    groups = []
    for kind, members in kinds.items():
        names, texts = zip(*members, strict=True)
        groups.append((texts[0] if len(set(texts)) == 1 else kind, list(names)))
    return sorted(groups, key=lambda group: -len(group[1]))


def remove_record_name(reason: str, path: Path) -> str:
    """Return a reason without the name of its recording at the beginning, for a line that begins with it already.

    Args:
        reason: Why a recording cannot be used.
        path: The path of its header.
    """
    return reason.removeprefix(f"{path.name}: ").removeprefix(f"{path.stem}: ")


def first_of(names):
    """Return the first of the names as text, with dots where there are more."""
    first = list(islice(names, NAMED + 1))
    return ", ".join([*first[:NAMED], *["..."] * (len(first) > NAMED)])


def wrapped(line):
    """Return a printable line in as many as it takes."""
    return textwrap.wrap(printable(line), WIDTH, subsequent_indent="  ")


def printable(text):
    """Return text with an escape for each character that the console cannot show, or would take for a command.

    Such are the bytes of a file's name that are not UTF-8, control characters, line ends among them, and letters that
    the encoding of standard output does not have.
    """
    text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
