"""Names of reviewers, and the files that have their reviews."""

import logging
import unicodedata
from functools import lru_cache
from pathlib import Path

from ecg.runtime.console import escape_unprintable

LOGGER = logging.getLogger("ecg")

EXTENSION = ".csv"  # in any case
LONGEST_REVIEWER = 60  # characters of a reviewer's name; four bytes each fit into the name of a file
PUNCTUATION = " -_.'"  # allowed in the name of a reviewer, besides letters and digits
LABELS, MODEL = RESERVED = ("labels", "model")  # names in tables of the raters that are no reviewers
# Letters and marks that are not drawn (Unicode: Default_Ignorable_Code_Point).
INVISIBLE = frozenset(
    map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x3164, *range(0xFE00, 0xFE10), 0xFFA0,
              *range(0xE0100, 0xE01F0)))
)  # fmt: skip


def check_reviewer_name(name: str) -> str:
    """Return the name of a reviewer without spaces around it, in composed characters.

    Raises:
        ValueError: It is empty or too long, begins with a dot, has no letter or digit, or has other characters than
            visible letters of any language, digits, spaces and `-_.'`. RESERVED names are those of raters that are no
            persons.
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= LONGEST_REVIEWER:
        raise ValueError(f"name of {len(name):,} characters, expected 1 to {LONGEST_REVIEWER}")
    kinds = ["" if char in INVISIBLE else unicodedata.category(char)[0] for char in name]
    if name[0] == "." or any(kind not in "LMN" or not kind for char, kind in zip(name, kinds, strict=True)
                             if char not in PUNCTUATION):  # fmt: skip
        raise ValueError(f"{_escape_invisible(name)}: expected letters, digits, spaces and {PUNCTUATION[1:]}, and no "
                         f"dot at the beginning")  # fmt: skip
    if not {"L", "N"} & set(kinds):
        raise ValueError(f"{_escape_invisible(name)}: expected at least one letter or digit")
    if reviewer_key(name) in RESERVED:
        raise ValueError(f"{name}: expected the name of a person, {' and '.join(RESERVED)} are compared with reviewers")
    return name


def _escape_invisible(name: str) -> str:
    """Return a name for a message, in which each character can be seen."""
    return escape_unprintable("".join(f"\\u{ord(char):04x}" if char in INVISIBLE else char for char in name))


def reviewer_key(name: str) -> str:
    """Return what all spellings of a reviewer's name have in common.

    Upper and lower case name the same person, and so do composed and decomposed characters, as macOS writes them into
    names of files.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def reviewer_of(path: Path) -> str:
    """Return the name of the reviewer whose file this is."""
    return unicodedata.normalize("NFC", path.stem)


def review_path(folder: str | Path, reviewer: str) -> Path:
    """Return the path of a reviewer's file, however the name is spelled.

    Args:
        folder: Folder of the reviews.
        reviewer: Name of the reviewer.

    Raises:
        ValueError: The name cannot be that of a reviewer.
    """
    name = check_reviewer_name(reviewer)
    present = (path for path in find_review_files(folder) if reviewer_key(path.stem) == reviewer_key(name))
    return next(present, Path(folder) / f"{name}{EXTENSION}")


def find_review_files(folder: str | Path) -> list[Path]:
    """Return the files of all reviewers in a folder, sorted.

    Other files are ignored. There is a warning if one of them may be meant as a reviewer's: a table with a name that
    no reviewer can have, or a folder, a pipe, or a link that leads nowhere with a reviewer's name.

    Raises:
        OSError: The folder cannot be listed.
    """
    paths = []
    for path in sorted(Path(folder).iterdir()):
        if path.suffix.lower() != EXTENSION or path.name.startswith("."):
            continue
        try:
            if check_reviewer_name(path.stem) != reviewer_of(path):
                raise ValueError("expected no space at the beginning or end of the name")
        except ValueError as error:
            _warn_once(f"{path}: not read as reviews: {error}")
            continue
        if path.is_file():
            paths.append(path)
        else:
            _warn_once(f"{path}: skipped, {_describe_kind(path)}, expected a file of reviews")
    return paths


def _describe_kind(path: Path) -> str:
    """Say what a path is that is no regular file."""
    if path.is_dir():
        return "a folder"
    return "no regular file" if path.exists() else "a link that leads nowhere"


@lru_cache(maxsize=1000)
def _warn_once(message: str) -> None:
    """Log a warning, unless this process has logged the same one."""
    LOGGER.warning(escape_unprintable(message))
