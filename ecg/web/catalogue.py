"""All recordings of a folder as columns, which are filtered, sorted and paged."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.class_tables import ClassTable
from ecg.data.headers import Header, RecordError, read_header
from ecg.data.labels import CHALLENGE_CLASSES, default_sources, find_diagnosis, select_diagnoses
from ecg.data.record_names import escape_name
from ecg.data.records import record_name, require_records
from ecg.data.reviewers import reviewer_key
from ecg.data.source_tables import SourceTable
from ecg.runtime.cache import ResultCache, fingerprint, source_hash
from ecg.runtime.console import describe_error, remove_record_name
from ecg.runtime.executors import ALL_CORES, LocalExecutor
from ecg.runtime.processes import end_idle_workers

LOGGER = logging.getLogger("ecg")

CACHE_NAME = "catalogue"
SORTS = ("suspicion", "name", "source", "age", "sex", "seconds", "random")
LARGEST_PAGE = 200  # recordings
MOST_ORDERS = 50  # that are kept
CHANGED = "The files of this recording have changed since the server started. Start it again to take this up."
SEPARATOR = "\x1f"  # between diagnoses in a column of strings
TEXTS = ("diagnoses", "error")  # columns of strings
NO_FILE = (0, 0)  # size and time
SIGNALS = (".mat", ".MAT", ".dat")  # extensions of files of samples, of which the first that exists counts


class RecordingChanged(Exception):
    """The files of a recording are not those of the start of the server."""


class CatalogueRow(NamedTuple):
    """What a header says of a recording.

    Attributes:
        age: In years; NaN if unknown.
        sex: "Female", "Male" or "Unknown".
        seconds: Length; NaN if the header does not have it.
        n_leads: Number of leads; 0 if the header cannot be read.
        labels: Scored classes, (C,) bool.
        additional: Additional classes, (A,) bool.
        diagnosed: Whether the header has a code; words such as Unknown are none.
        diagnoses: Abbreviations of all diagnoses, joined by SEPARATOR.
        error: Why the header cannot be read, or an empty string.
    """

    age: float
    sex: str
    seconds: float
    n_leads: int
    labels: np.ndarray
    additional: np.ndarray
    diagnosed: bool
    diagnoses: str
    error: str = ""


class ListQuery(NamedTuple):
    """Which recordings are listed, and in which order.

    Attributes:
        search: Words that must all be in the name or the source.
        label: Abbreviation of a labelled diagnosis, or an empty string.
        predicted: Abbreviation of a predicted class, or an empty string.
        source: A source, or an empty string.
        suspected: Whether only recordings with a suspected label are listed.
        sort: One of SORTS.
        descending: Whether the order is reversed.
    """

    search: str = ""
    label: str = ""
    predicted: str = ""
    source: str = ""
    suspected: bool = False
    sort: str = "suspicion"
    descending: bool = True


@dataclass
class Catalogue:
    """The recordings of a data folder, n_recordings of them.

    Attributes:
        folder: The data folder.
        files: Paths of the headers below the folder, sorted.
        columns: Arrays with a row for each recording, by the names of CatalogueRow, except texts.
        diagnoses: Abbreviations of each recording's labels.
        errors: Why each header cannot be read, or an empty string.
        file_keys: Keys of each recording's files by their sizes and times (see `hash_file_states`), taken before the
            headers were read.
        classes: The C scored and A additional classes.
        source_table: The sources of records; None: those that are known for the classes.
        names: Names of the records, with their folders below the data folder.
        keys: The names as the page and programs write them, see `escape_name`.
        index: Row of each key.
        row_of_name: Row of each name.
        sources: Source of each recording.
    """

    folder: Path
    files: list[str]
    columns: dict[str, np.ndarray]
    diagnoses: list[list[str]]
    errors: list[str]
    file_keys: np.ndarray
    classes: ClassTable = CHALLENGE_CLASSES
    source_table: SourceTable | None = None
    names: list[str] = field(init=False)
    keys: list[str] = field(init=False)
    index: dict[str, int] = field(init=False)
    row_of_name: dict[str, int] = field(init=False)
    sources: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = [record_name(Path(file)) for file in self.files]
        self.keys = [escape_name(name) for name in self.names]
        self.index = {key: row for row, key in enumerate(self.keys)}
        self.row_of_name = {name: row for row, name in enumerate(self.names)}
        table = default_sources(self.classes) if self.source_table is None else self.source_table
        self.sources = [table.find(name.rpartition("/")[2]) for name in self.names]
        self.source_names, self._source_codes = np.unique(np.array(self.sources, object), return_inverse=True)
        self._texts = [f"{key} {source}".casefold() for key, source in zip(self.keys, self.sources, strict=True)]
        self._rows_of_diagnosis = _invert_diagnoses(self.diagnoses)
        self.cached_ranks = lru_cache(MOST_ORDERS)(self._compute_ranks)

    def __len__(self) -> int:
        return len(self.files)

    def path(self, row: int) -> Path:
        """Return the path of a recording's header."""
        return self.folder / self.files[row]

    def is_changed(self, row: int) -> bool:
        """Return whether the files of a recording are others than at the start."""
        [key] = hash_file_states(self.folder, [self.files[row]], with_signals=True)
        return bool(key != self.file_keys[row])

    def check_unchanged(self, row: int) -> None:
        """Check that the files of a recording, just read, are those of the start.

        Raises:
            RecordingChanged: They are not, so that labels and signal could be of different versions.
        """
        if self.is_changed(row):
            raise RecordingChanged(CHANGED)

    def matches(self, query: ListQuery) -> np.ndarray:
        """Return which recordings fit search, label and source, (n_recordings,) bool."""
        chosen = np.ones(len(self), bool)
        if query.label:
            chosen[:] = False
            chosen[self._rows_of_diagnosis.get(query.label, [])] = True
        if query.source:
            chosen &= (self.source_names == query.source)[self._source_codes]
        for word in query.search.casefold().split():
            chosen &= np.fromiter((word in text for text in self._texts), bool, len(self))
        return chosen

    def ranks(self, sort: str, seed: int = 0, reviewer: str = "") -> np.ndarray:
        """Return the rank of each recording in an order that does not depend on a model.

        Args:
            sort: One of SORTS, except suspicion.
            seed: Seed of the random order.
            reviewer: Name of the reviewer whose random order it is, in any case; an empty string for that of all.

        Returns:
            (n_recordings,) float64; equal values have equal ranks, and unknown ones NaN.
        """
        return self.cached_ranks(sort, (seed, *reviewer_key(reviewer).encode()) if sort == "random" else ())

    def _compute_ranks(self, sort: str, seed: tuple[int, ...]) -> np.ndarray:
        values = self.columns.get(sort, self._source_codes if sort == "source" else np.arange(len(self)))
        if sort == "random":
            values = np.random.default_rng(seed).permutation(len(self))
        unique, ranks = np.unique(values, return_inverse=True)
        unknown = np.isnan(unique) if unique.dtype.kind == "f" else unique == "Unknown"
        return np.where(unknown, np.nan, np.arange(len(unique)))[ranks]


def escape_bytes(text: str) -> str:
    """Return a text with escapes instead of bytes that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _invert_diagnoses(diagnoses: list[list[str]]) -> dict[str, list[int]]:
    """Return the rows that have each diagnosis, by its abbreviation."""
    rows: dict[str, list[int]] = {}
    for row, names in enumerate(diagnoses):
        for name in names:
            rows.setdefault(name, []).append(row)
    return rows


def load_catalogue(
    folder: Path,
    cache_folder: Path,
    executor: LocalExecutor = ALL_CORES,
    classes: ClassTable = CHALLENGE_CLASSES,
    source_table: SourceTable | None = None,
) -> Catalogue:
    """List the recordings of a data folder, or load the list from the cache.

    Args:
        folder: The data folder; nothing is written there.
        cache_folder: Where the columns are cached. Headers with another name, size or time are read again.
        executor: Reads the headers.
        classes: The classes of the labels.
        source_table: The sources of records; None: those that are known for the classes.

    Raises:
        FileNotFoundError: The folder has no header.
        OSError: The folder cannot be listed, or the cache cannot be written.
    """
    paths = require_records(folder)
    files = [os.fspath(path.relative_to(folder)) for path in paths]
    cache = ResultCache(cache_folder, fingerprint(source_hash("data"), classes))
    file_keys = hash_file_states(folder, files, with_signals=True)
    keys, cached = hash_file_states(folder, files), cache.load(CACHE_NAME)
    arrays = update_columns(cached, keys, paths, executor, classes)
    if arrays is not cached:
        cache.save(CACHE_NAME, arrays)
    diagnoses, errors = (_unpack_texts(arrays[name]) for name in TEXTS)
    LOGGER.info(f"{folder}: {len(files):,} recordings")
    split = [list(filter(None, text.split(SEPARATOR))) for text in diagnoses]
    columns = {name: arrays[name] for name in CatalogueRow._fields[:-2]}
    return Catalogue(Path(folder), files, columns, split, errors, file_keys, classes, source_table)


def hash_file_states(folder: Path, files: Sequence[str], with_signals: bool = False) -> np.ndarray:
    """Return keys of files by their names, sizes and times, (n_files,) uint64.

    Args:
        folder: Folder of the files.
        files: Their paths below it.
        with_signals: Whether the file of samples beside each header counts, too.
    """
    keys = []
    for name in files:
        path = os.path.join(folder, name)
        states = [file_state(path)]
        if with_signals:
            signals = (file_state(f"{os.path.splitext(path)[0]}{extension}") for extension in SIGNALS)
            states.append(next((state for state in signals if state != NO_FILE), NO_FILE))
        keys.append(hashlib.blake2b(os.fsencode(f"{name} {states}"), digest_size=8).digest())
    return np.frombuffer(b"".join(keys), np.uint64)


def update_columns(
    cached: dict[str, np.ndarray] | None,
    keys: np.ndarray,
    paths: Sequence[Path],
    executor: LocalExecutor = ALL_CORES,
    classes: ClassTable = CHALLENGE_CLASSES,
) -> dict[str, np.ndarray]:
    """Read the headers that are not cached.

    Args:
        cached: Columns and keys of headers, or None.
        keys: Keys of the n headers that are wanted, (n,).
        paths: Their paths.
        executor: Reads the headers.
        classes: The classes of the labels.

    Returns:
        Columns by the names of CatalogueRow, and `keys`; `cached` itself if nothing has changed.
    """
    if cached is not None and np.array_equal(cached["keys"], keys):
        return cached
    row_of_key = {} if cached is None else {key: row for row, key in enumerate(cached["keys"].tolist())}
    rows = np.array([row_of_key.get(key, -1) for key in keys.tolist()])
    known, unknown = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0)
    tables = [] if cached is None else [(cached, rows[known])]
    if len(unknown):
        tables.append(
            (read_columns([paths[row] for row in unknown.tolist()], executor, classes), np.arange(len(unknown)))
        )
    inverse = np.argsort(np.concatenate([known, unknown]))
    columns = {name: np.concatenate([table[name][chosen] for table, chosen in tables])[inverse]
               for name in CatalogueRow._fields[:-2]}  # fmt: skip
    for name in TEXTS:
        texts = np.concatenate([np.array(_unpack_texts(table[name]), object)[chosen] for table, chosen in tables])
        columns[name] = _pack_texts(texts[inverse].tolist())
    return columns | {"keys": keys}


def _pack_texts(texts: Sequence[str]) -> np.ndarray:
    """Return texts as one array of bytes; strings would all have the longest width."""
    joined = "\n".join(text.replace("\n", " ") for text in texts)
    return np.frombuffer(joined.encode("utf-8", "surrogateescape"), np.uint8)


def _unpack_texts(array: np.ndarray) -> list[str]:
    """Return the texts of `_pack_texts`."""
    return array.tobytes().decode("utf-8", "surrogateescape").split("\n")


def file_state(path: str | os.PathLike) -> tuple[int, int]:
    """Return size and time of a file; NO_FILE if there is none."""
    try:
        state = os.stat(path)
    except OSError:
        return NO_FILE
    return state.st_size, state.st_mtime_ns


def read_columns(
    paths: Sequence[Path], executor: LocalExecutor = ALL_CORES, classes: ClassTable = CHALLENGE_CLASSES
) -> dict[str, np.ndarray]:
    """Read the headers of recordings into columns, by the names of CatalogueRow."""
    rows = list(executor.map(partial(read_row, classes=classes), paths, "headers"))
    if executor.jobs != 1:
        end_idle_workers()  # the server runs for days
    texts = {name: _pack_texts([getattr(row, name) for row in rows]) for name in TEXTS}
    return {name: np.array([getattr(row, name) for row in rows]) for name in CatalogueRow._fields[:-2]} | texts


def read_row(path: Path, classes: ClassTable = CHALLENGE_CLASSES) -> CatalogueRow:
    """Read what the header of a recording says; faults raise no error."""
    try:
        return describe_header(read_header(path), classes)
    except (RecordError, OSError) as error:
        reason = remove_record_name(describe_error(error), path)
        nothing = np.zeros(len(classes), bool), np.zeros(len(classes.additional), bool)
        return CatalogueRow(np.nan, "Unknown", np.nan, 0, *nothing, False, "", reason)


def describe_header(header: Header, classes: ClassTable = CHALLENGE_CLASSES) -> CatalogueRow:
    """Return the row of a recording with this header."""
    names = (find_diagnosis(code, classes).abbreviation for code in select_diagnoses(header.codes))
    diagnoses = SEPARATOR.join(dict.fromkeys(names))
    seconds = header.samples / header.sampling_frequency if header.samples else np.nan
    labels, additional = classes.encode(header.codes), classes.encode_additional(header.codes)
    return CatalogueRow(header.age, header.sex, seconds, len(header.leads), labels, additional,
                        classes.has_diagnosis(header.codes), diagnoses)  # fmt: skip
