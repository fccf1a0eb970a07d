"""Find out whether a model was trained on what reviewers have reviewed."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ecg.data.headers import RecordError
from ecg.data.reviews import Review
from ecg.runtime.console import log_wrapped, pluralise
from ecg.runtime.files import read_table

REPORT_FOLDER = "report"  # in the folder of a model
SPLIT_TABLE, CORRECTED_TABLE = "split.csv", "corrected_labels.csv"
MOST_TABLE_BYTES = 2**30


class TrainingContent(NamedTuple):
    """What a model was trained on, by the report of its training.

    Attributes:
        training: Names of the recordings whose labels its networks learned.
        validation: Names of the recordings that ended its trainings and gave its thresholds.
        corrected: Names of recordings and abbreviations of classes whose labels reviewers had reviewed.
    """

    training: frozenset[str]
    validation: frozenset[str]
    corrected: frozenset[tuple[str, str]]


def read_training_content(model: Path) -> TrainingContent | None:
    """Read what a model was trained on.

    Args:
        model: Folder of the model.

    Returns:
        The recordings and corrected labels; None if the report of the training is missing or damaged. The latter is
        logged.
    """
    folder = Path(model) / REPORT_FOLDER
    if not (folder / SPLIT_TABLE).is_file():
        return None
    try:
        split = _read_columns(folder / SPLIT_TABLE, ("record", "split"))
        has_corrections = (folder / CORRECTED_TABLE).is_file()
        corrected = _read_columns(folder / CORRECTED_TABLE, ("record", "class")) if has_corrections else []
    except RecordError as error:
        log_wrapped(str(error), logging.WARNING)
        return None
    training, validation = (
        frozenset(record for record, name in split if name == wanted) for wanted in ("training", "validation")
    )
    return TrainingContent(training, validation, frozenset(corrected))


def _read_columns(path: Path, names: tuple[str, str]) -> list[tuple[str, str]]:
    """Read two columns of a table of a report.

    Raises:
        RecordError: It cannot be read, or lacks a column.
    """
    header, *rows = read_table(path, lambda cells: set(names) <= set(cells), f"the columns {' and '.join(names)}",
                               MOST_TABLE_BYTES, RecordError)  # fmt: skip
    first, second = map(header.cells.index, names)
    return [(cells[first], cells[second]) for _, cells in rows]


def describe_overlap(name: str, content: TrainingContent | None, reviews: Sequence[Review]) -> str:
    """Warn if a model was trained on reviewed recordings or on verdicts.

    Recordings are the same if their names are, or if one name is the other with folders before it: a part of a data
    folder may have been given to the training.

    Args:
        name: Name of the model.
        content: What it was trained on; None if that is not known.
        reviews: The reviews that it is compared with.

    Returns:
        Sentences without a full stop at the end; an empty string if it was trained on none of them.
    """
    if content is None:
        return (f"It is not known whether {name} was trained on reviewed recordings or on these verdicts, because the "
                f"report of its training is missing. If so, it agrees more than with new recordings")  # fmt: skip
    records = list(dict.fromkeys(review.record for review in reviews))
    n_trained, n_validated = (len(find_same_names(records, known)) for known in (content.training, content.validation))
    if not n_trained + n_validated:
        return ""
    warning = (f"{name} was trained on {n_trained:,} and validated on {n_validated:,} of the "
               f"{pluralise(len(records), 'reviewed recording')}. On these it agrees with its labels more than on "
               f"new recordings")  # fmt: skip
    labels = {(review.record, review.abbreviation) for review in reviews}
    by_class: dict[str, list[str]] = {}
    for record, abbreviation in content.corrected:
        by_class.setdefault(abbreviation, []).append(record)
    n_corrected = sum(
        len(find_same_names([record for record, other_name in labels if other_name == abbreviation], corrected))
        for abbreviation, corrected in by_class.items()
    )
    if n_corrected:
        warning += (f". It was trained with verdicts of reviewers on {n_corrected:,} of the "
                    f"{pluralise(len(labels), 'reviewed label')}: it has learned to agree with them")  # fmt: skip
    return warning


def find_same_names(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return the names that are also among others, with or without folders."""
    known = set(known)
    endings = {ending for name in known for ending in _list_endings(name)}
    return [name for name in names if name in endings or not known.isdisjoint(_list_endings(name))]


def _list_endings(name: str) -> list[str]:
    """Return a name, the name without its first folder, and so on."""
    parts = name.split("/")
    return ["/".join(parts[index:]) for index in range(len(parts))]
