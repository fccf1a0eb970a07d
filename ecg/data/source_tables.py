"""Tables of sources: the databases that records are of, and how each labels."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ecg.runtime.tables import read_named_columns

MAX_SOURCES_BYTES = 2**20
COLUMNS = ("source", "pattern")  # of a table of sources
OPTIONAL_COLUMNS = ("labelled", "conflated", "trained")
IS_TRAINED = {"yes": True, "": True, "no": False}


class DeclaredSource(NamedTuple):
    """A source database.

    Attributes:
        name: Its name.
        pattern: Regular expression that the beginning of its records' names matches.
        labelled: Abbreviations of the only classes that it labels; empty if it labels all.
        conflated: Two classes that it labels as the first of them; empty if there are none.
        is_trained: Whether networks are trained on its recordings.
    """

    name: str
    pattern: str
    labelled: tuple[str, ...] = ()
    conflated: tuple[str, ...] = ()
    is_trained: bool = True


@dataclass(frozen=True)
class SourceTable:
    """Sources by the names of their records.

    Attributes:
        sources: The sources. The first with a pattern that matches the name of a record is the record's source.

    Raises:
        ValueError: A name is missing, a pattern is no regular expression, or conflated classes are not two.
    """

    sources: tuple[DeclaredSource, ...] = ()

    def __post_init__(self) -> None:
        for source in self.sources:
            if not source.name:
                raise ValueError("a source has no name")
            try:
                re.compile(source.pattern)
            except re.error as error:
                raise ValueError(f"{source.name}: {source.pattern!r} is no regular expression: {error}") from None
            if source.conflated and not len(source.conflated) == len(set(source.conflated)) == 2:
                names = ", ".join(source.conflated)
                raise ValueError(f"{source.name}: expected two conflated classes, received {names}")

    @cached_property
    def patterns(self) -> list[tuple[re.Pattern[str], str]]:
        """The compiled patterns, with the names of their sources."""
        return [(re.compile(source.pattern), source.name) for source in self.sources]

    @property
    def untrained(self) -> frozenset[str]:
        """Names of the sources that networks are not trained on."""
        return frozenset(source.name for source in self.sources if not source.is_trained)

    def check_labelled_classes(self, abbreviations: Collection[str]) -> None:
        """Check the classes that sources label against those of a table of classes.

        Raises:
            ValueError: The table lacks one. The message names the source.
        """
        for source in self.sources:
            if unknown := [name for name in source.labelled if name not in abbreviations]:
                raise ValueError(f"{source.name}: labels {', '.join(unknown)}, expected some of "
                                 f"{', '.join(abbreviations)}")  # fmt: skip

    def find(self, record: str) -> str:
        """Return the source of a record by its name, or the name's letters."""
        for pattern, name in self.patterns:
            if pattern.match(record):
                return name
        return re.match("[A-Za-z]*", record)[0] or "unknown"  # type: ignore[index]

    def find_by_name(self, text: str) -> DeclaredSource | None:
        """Return the source of this name in any case, or None."""
        return next((source for source in self.sources if source.name.casefold() == text.casefold()), None)


def read_source_table(path: str | Path) -> SourceTable:
    """Read a table of sources.

    Args:
        path: CSV file, see `read_named_columns`, with the columns `source` and `pattern`. The columns `labelled` and
            `conflated` with abbreviations separated by '|', and `trained` with yes or no, may be missing.

    Raises:
        ValueError: The file cannot be read, or is no table of sources. The message names the file and the line.
    """
    sources = []
    for line, row in read_named_columns(path, COLUMNS, OPTIONAL_COLUMNS, MAX_SOURCES_BYTES):
        if row["trained"].casefold() not in IS_TRAINED:
            raise ValueError(f"{path}, line {line}: trained: expected yes or no, received {row['trained']!r}")
        labelled, conflated = (tuple(_split_names(row[name])) for name in ("labelled", "conflated"))
        is_trained = IS_TRAINED[row["trained"].casefold()]
        source = DeclaredSource(row["source"], row["pattern"], labelled, conflated, is_trained)
        try:
            SourceTable((source,))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
        sources.append(source)
    if not sources:
        raise ValueError(f"{path}: no source in this table")
    return SourceTable(tuple(sources))


def _split_names(text: str) -> Iterator[str]:
    """Yield the abbreviations in a cell."""
    return (name.strip() for name in text.split("|") if name.strip())
