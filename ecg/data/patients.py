"""Read which recordings are of one patient, so that a split keeps them together."""

import logging
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.headers import RecordError
from ecg.data.ptb_xl import DATABASE, PatientFold, find_patient_fold
from ecg.data.record_names import unescape_name
from ecg.data.records import HEADER, record_name
from ecg.data.resampling import Preprocessing
from ecg.data.store import Store
from ecg.runtime.console import abbreviated_list, log_wrapped, pluralise
from ecg.runtime.tables import read_named_columns

LOGGER = logging.getLogger("ecg")

COLUMNS = ("record", "patient")
MOST_BYTES = 2**28
EXTENSIONS = (HEADER, ".mat")

Patients = Mapping[str, str]  # the patient of each listed recording, by the name of the recording


class PatientRow(NamedTuple):
    """A row of a table of patients.

    Attributes:
        line: Number of its line in the file, from 1.
        record: Name of a recording.
        patient: Name of its patient.
    """

    line: int
    record: str
    patient: str


def load_patients(path: str | Path, names: Iterable[str]) -> dict[str, str]:
    """Load the patient of each recording from a CSV file, and log what it omits.

    A warning is logged if it omits recordings and has names of no recording, since these may be misspelt.

    Args:
        path: A file with the columns `record` and `patient`. A record is a name in `names`, or its last part if no
            other recording has it, with or without the extension .hea or .mat. It may have backslashes, or begin
            with "./".
        names: Names of all recordings of a data folder: their paths below it without extension.

    Returns:
        The patients of the listed recordings, by names in `names`.

    Raises:
        RecordError: The file cannot be read, is no such table, lists a recording with two patients, or lists none of
            the recordings. The message names the file, the line and the reason.
    """
    names = list(names)
    patients, unknown = match_records(path, read_patient_rows(path), names)
    if not patients:
        raise RecordError(f"{path}: lists none of {pluralise(len(names), 'recording')}, such as {names[0]}")
    file = Path(path).name
    lines = [f"{file}: {len(patients):,} recordings of {pluralise(len(set(patients.values())), 'patient')}"]
    if unlisted := [name for name in names if name not in patients]:
        lines.append(f"{file}: {len(unlisted):,} recordings are not listed and count as a patient each "
                     f"({abbreviated_list(unlisted)})")  # fmt: skip
    if unknown:
        lines.append(f"{file}: {len(unknown):,} names are of no recording ({abbreviated_list(unknown)})")
    for line in lines:
        log_wrapped(line)
    if unlisted and unknown:
        warning = (f"{file}: {len(unknown):,} names such as {unknown[0]} are of no recording, and {len(unlisted):,} "
                   f"recordings such as {unlisted[0]} are not listed: if the names are misspelt, the recordings of a "
                   f"patient are not kept together")  # fmt: skip
        log_wrapped(warning, logging.WARNING)
    return patients


def find_patients(groups: str | Path | None, data: Path, paths: Sequence[Path]) -> Patients | None:
    """Return the patients that a table or PTB-XL names.

    Args:
        groups: A table, see `load_patients`; None: there is none.
        data: Data folder.
        paths: Paths of its headers.

    Returns:
        The patients of the listed recordings, by name; None if none is known.

    Raises:
        RecordError: A table cannot be used.
    """
    names = record_names(data, paths)
    if groups:
        return load_patients(groups, names)
    patients = {name: group.patient for name, group in _find_published_groups(paths, names) if group.patient}
    if not patients:
        return None
    LOGGER.info(f"{DATABASE}: {len(patients):,} recordings of {pluralise(len(set(patients.values())), 'patient')}")
    return patients


def find_published_folds(data: Path, paths: Sequence[Path]) -> dict[str, int]:
    """Return the folds that PTB-XL publishes, by the name of the recording.

    Args:
        data: Data folder.
        paths: Paths of its headers.

    Raises:
        RecordError: The table of PTB-XL cannot be used.
    """
    names = record_names(data, paths)
    return {name: group.fold for name, group in _find_published_groups(paths, names) if group.fold}


def _find_published_groups(paths: Sequence[Path], names: Sequence[str]) -> Iterator[tuple[str, PatientFold]]:
    """Yield the name of each recording of PTB-XL, and its patient and fold."""
    try:
        for path, name in zip(paths, names, strict=True):
            if group := find_patient_fold(path):
                yield name, group
    except ValueError as error:
        raise RecordError(str(error)) from None


def read_patient_rows(path: str | Path) -> list[PatientRow]:
    """Read a table of patients, see `read_named_columns`.

    The columns `record` and `patient` may be in any order and case, next to others.

    Raises:
        RecordError: See `load_patients`.
    """
    rows = []
    for line, cells in read_named_columns(path, COLUMNS, (), MOST_BYTES, RecordError):
        record, patient = (cells[name] for name in COLUMNS)
        for name, value in zip(COLUMNS, (record, patient), strict=True):
            if not value:
                raise RecordError(f"{path}, line {line}: no {name}")
        rows.append(PatientRow(line, record, patient))
    return rows


def match_records(
    path: str | Path, rows: Iterable[PatientRow], names: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Find the recordings of a table of patients.

    Args:
        path: Path of the table, for messages.
        rows: Its rows.
        names: Names of all recordings.

    Returns:
        The patients by the names of the recordings, and the names in the table that no recording has.

    Raises:
        RecordError: A name stands for several recordings, or a recording has two patients.
    """
    known: dict[str, list[str]] = {}
    for name in names:
        known.setdefault(name.rpartition("/")[2], []).append(name)
    known |= {name: [name] for name in names}  # a whole path is preferred to the last part of another
    row_of: dict[str, PatientRow] = {}
    unknown = []
    for row in rows:
        matches = next((known[name] for name in spell_record(row.record) if name in known), [])
        if len(matches) > 1:
            raise RecordError(f"{path}, line {row.line}: {row.record} is the name of {len(matches):,} recordings, "
                              f"{abbreviated_list(matches)}; give the path")  # fmt: skip
        if not matches:
            unknown.append(row.record)
            continue
        first = row_of.setdefault(matches[0], row)
        if first.patient != row.patient:
            raise RecordError(f"{path}, line {row.line}: {row.record} is of patient {row.patient}, but in line "
                              f"{first.line} of patient {first.patient}")  # fmt: skip
    return {name: row.patient for name, row in row_of.items()}, list(dict.fromkeys(unknown))


def spell_record(record: str) -> Iterator[str]:
    """Yield the names of a recording that a name in a table may stand for.

    They are the name as it is, then without codes (see `escape_name`), then with slashes and without a leading "./",
    each also without its extension.
    """
    for name in (record, unescape_name(record), re.sub(r"^(\./+)+", "", record.replace("\\", "/"))):
        yield name
        if name.lower().endswith(EXTENSIONS):
            yield name[:-4]


def record_names(data: Path, paths: Iterable[Path]) -> list[str]:
    """Return the names of recordings, which a store has, given the paths of headers."""
    return [record_name(path.relative_to(data)) for path in paths]


def number_patients(names: Iterable[str], patients: Patients) -> np.ndarray:
    """Number the patients of recordings in the order of their first recording.

    Args:
        names: Names of N recordings.
        patients: Patients by recording. A recording that is not in it is a patient of its own.

    Returns:
        The number of each recording's patient, (N,).
    """
    numbers: dict[tuple[str, bool], int] = {}
    return np.array([
        numbers.setdefault((patients.get(name, name), name in patients), len(numbers)) for name in names
    ], int)  # fmt: skip


def number_groups(groups: Iterable[Hashable]) -> np.ndarray:
    """Number the patients of recordings, given a value for each recording.

    Args:
        groups: What stands for the patient of each of N recordings: a number, a name. A recording with None or NaN is
            a patient of its own.

    Returns:
        The number of each recording's patient, (N,), in the order of their first recordings.

    Raises:
        TypeError: A value has no hash.
    """
    numbers: dict[Hashable, int] = {}
    # The key of a missing value is the index of its recording.
    keys = ((None, index) if group is None or group != group else group for index, group in enumerate(groups))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], int)


def add_patients(stores: Mapping[Preprocessing, Store], patients: Patients | None) -> dict[Preprocessing, Store]:
    """Return stores with the patients of their recordings, if these are known."""
    if patients is None:
        return dict(stores)
    return {key: replace(store, patients=number_patients(store.names, patients)) for key, store in stores.items()}


def add_folds(stores: Mapping[Preprocessing, Store], folds: Mapping[str, int]) -> dict[Preprocessing, Store]:
    """Return stores with the published folds of their recordings, if these are known."""
    if not folds:
        return dict(stores)
    return {
        key: replace(store, folds=np.array([folds.get(name, 0) for name in store.names.tolist()]))
        for key, store in stores.items()
    }


def count_patients(patients: np.ndarray) -> int:
    """Return the number of patients of recordings, (n,)."""
    return len(np.unique(patients))
