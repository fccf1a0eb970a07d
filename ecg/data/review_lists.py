"""Read and write lists of labels that reviewers are to look at."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from ecg.data.class_tables import ClassTable
from ecg.data.headers import RecordError
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.patients import spell_record
from ecg.data.record_names import escape_name
from ecg.runtime.console import abbreviated_list, log_wrapped, pluralise
from ecg.runtime.files import atomic_path, read_table, write_csv

LIST_COLUMNS = ("record", "class")
MOST_LIST_BYTES = 2**26

ReviewList = list[tuple[str, str]]  # name of a recording and abbreviation of a class


def write_review_list(path: str | Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write a list of labels to review as CSV, in its order.

    Args:
        path: The file; one that is there is replaced.
        rows: Names of recordings and abbreviations of classes.
    """
    with atomic_path(path) as temporary:
        write_csv(temporary, [LIST_COLUMNS, *((escape_name(name), abbreviation) for name, abbreviation in rows)])


def read_review_list(path: str | Path, names: Iterable[str], classes: ClassTable = CHALLENGE_CLASSES) -> ReviewList:
    """Read a list of labels to review, and log the names that no recording has.

    Args:
        path: A file with the columns `record` and `class`, next to others, such as the table of `ecg review`.
        names: Names of all recordings of a data folder: their paths below it without extension.
        classes: The classes.

    Returns:
        Names of recordings and abbreviations of classes in the order of the file, each once.

    Raises:
        RecordError: The file cannot be read, is no such table, has an unknown class, or lists no recording. The message
            names the file, the line and the reason.
    """
    names = list(names)
    known, abbreviations = set(names), {name.casefold(): name for name in classes.abbreviations}
    rows, unknown = [], []
    header, *table = read_table(path, _has_columns, f"the columns {' and '.join(LIST_COLUMNS)}, each once",
                                MOST_LIST_BYTES, RecordError)  # fmt: skip
    columns = [[cell.casefold() for cell in header.cells].index(name) for name in LIST_COLUMNS]
    for line, cells in table:
        record, abbreviation = (cells[column] for column in columns)
        if abbreviation.casefold() not in abbreviations:
            raise RecordError(
                f"{path}, line {line}: {abbreviation!r}, expected one of {', '.join(classes.abbreviations)}"
            )
        name = next((spelled for spelled in spell_record(record) if spelled in known), None)
        if name is None:
            unknown.append(record)
        else:
            rows.append((name, abbreviations[abbreviation.casefold()]))
    if not rows:
        such = f", such as {names[0]}" if names else ""
        raise RecordError(f"{path}: lists none of {pluralise(len(names), 'recording')}{such}")
    if unknown:
        unlisted = f"{path}: {len(unknown):,} names are of no recording ({abbreviated_list(unknown)})"
        log_wrapped(unlisted, logging.WARNING)
    return list(dict.fromkeys(rows))


def _has_columns(cells: Sequence[str]) -> bool:
    return all([cell.casefold() for cell in cells].count(column) == 1 for column in LIST_COLUMNS)
