"""Read labels, patients and folds of PTB-XL as it is published.

PTB-XL (Wagner et al. 2020) has headers without age, sex and diagnosis. They are in `ptbxl_database.csv`, which lies in
the folder above `records100` and `records500`. Its SCP-ECG statements get SNOMED CT codes as in the Challenge's
recordings of PTB-XL. Each statement and its superclass is also a code of its own, such as SCP:IMI and PTB-XL:MI.
"""

import ast
import csv
import math
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from ecg.runtime.files import read_table

DATABASE = "ptbxl_database.csv"
FAST, SLOW = "records500", "records100"  # folders of the recordings at 500 Hz, and of the same at 100 Hz
RECORD_NAME = re.compile(r"(\d{5})_[hl]r")
HEADER_NAME = re.compile(rf"{RECORD_NAME.pattern}\.hea", re.IGNORECASE)
MOST_PARENTS = 3  # above a header, in which the table is searched
MOST_BYTES = 2**26
COLUMNS = ("ecg_id", "scp_codes")
OPTIONAL_COLUMNS = ("patient_id", "age", "sex", "heart_axis", "strat_fold")
STATEMENT, SUPERCLASS = "SCP:", "PTB-XL:"  # how the codes of statements and superclasses begin
OVER_89, AGE_OVER_89 = 300.0, 90.0  # the age of patients above 89 in the table, and what it is read as
SEXES = {0.0: "Male", 1.0: "Female"}
HAS_DIAGNOSES = re.compile(r"^[ \t]*#[ \t]*Dx", re.MULTILINE | re.IGNORECASE)


class Meaning(NamedTuple):
    """What a statement means.

    Attributes:
        codes: SNOMED CT codes; empty if the Challenge has none.
        superclass: NORM, MI, STTC, CD or HYP; empty for statements of form and rhythm.
    """

    codes: tuple[str, ...]
    superclass: str


class DatabaseRow(NamedTuple):
    """A row of the table.

    Attributes:
        line: Number of its line in the file, from 1.
        cells: Its cells by COLUMNS and OPTIONAL_COLUMNS; empty for a missing column.
    """

    line: int
    cells: dict[str, str]


class Database(NamedTuple):
    """The table.

    Attributes:
        path: Its path.
        entries: Its rows by the number of the recording.
    """

    path: Path
    entries: Mapping[int, DatabaseRow]


@cache
def load_meanings() -> dict[str, Meaning]:
    """Return what statements and axes mean, such as "IMI" and "axis LAD"."""
    with open(Path(__file__).with_name("ptb_xl.csv"), encoding="utf-8", newline="") as file:
        return {row["statement"]: Meaning((row["code"],) if row["code"] else (), row["superclass"])
                for row in csv.DictReader(file)}  # fmt: skip


def find_database(header: Path) -> Path | None:
    """Return the path of the table for a header, or None.

    A header of PTB-XL is recognised by its name and by the table above it.
    """
    if not HEADER_NAME.fullmatch(header.name):
        return None
    candidates = (parent / DATABASE for parent in header.absolute().parents[:MOST_PARENTS])
    return next((path for path in candidates if path.is_file()), None)


def describe_database(folder: Path) -> str:
    """Return size and times of the table for a folder of recordings.

    The result is an empty string if there is no table.
    """
    path = find_database(folder / "00000_hr.hea")
    if path is None:
        return ""
    state = path.stat()
    return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


def load_database(path: Path) -> Database:
    """Load the table, once for each state of the file.

    Raises:
        ValueError: It cannot be read, or lists a recording twice. The message names the file, the line and the reason.
    """
    state = path.stat()
    return _load_database(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2)
def _load_database(path: Path, size: int, time: int) -> Database:
    """Load the table; size and time of the file only tell its states apart."""

    def has_columns(cells: list[str]) -> bool:
        names = [cell.casefold() for cell in cells]
        return all(names.count(column) == 1 for column in COLUMNS)

    header, *rows = read_table(path, has_columns, f"the columns {' and '.join(COLUMNS)}", MOST_BYTES, ValueError)
    names = [cell.casefold() for cell in header.cells]
    indices = {column: names.index(column) for column in (*COLUMNS, *OPTIONAL_COLUMNS) if column in names}
    entries: dict[int, DatabaseRow] = {}
    for line, cells in rows:
        number = _parse_number(cells[indices["ecg_id"]])
        if not number.is_integer():
            raise ValueError(f"{path}, line {line}: expected a number as ecg_id, received {cells[indices['ecg_id']]!r}")
        if int(number) in entries:
            raise ValueError(
                f"{path}, line {line}: recording {int(number)} is also in line {entries[int(number)].line}"
            )
        entries[int(number)] = DatabaseRow(line, {name: cells[index] for name, index in indices.items()})
    return Database(path, entries)


def find_entry(header: Path) -> tuple[Database, DatabaseRow] | None:
    """Return the row of a header's recording, and its table; None if it has none.

    Raises:
        ValueError: See `load_database`.
    """
    path = find_database(header)
    if path is None:
        return None
    database = load_database(path)
    entry = database.entries.get(int(header.name[:5]))
    return None if entry is None else (database, entry)


def format_comments(header: Path, text: str) -> str:
    """Return the comment lines that a header of PTB-XL lacks: age, sex and diagnoses.

    Args:
        header: Path of the header.
        text: Its text. If it has diagnoses, nothing is added.

    Returns:
        Lines that each begin with "#" and end with a newline; an empty string for other recordings.

    Raises:
        ValueError: The table, or the row of the recording, cannot be read.
    """
    if HAS_DIAGNOSES.search(text) or not (row := find_entry(header)):
        return ""
    database, entry = row
    age, sex = (_parse_number(entry.cells.get(column, "")) for column in ("age", "sex"))
    years = AGE_OVER_89 if age == OVER_89 else age
    known = "Unknown" if math.isnan(years) else f"{years:g}"
    codes = ",".join(list_codes(database, entry))
    return f"\n#Age: {known}\n#Sex: {SEXES.get(sex, 'Unknown')}\n#Dx: {codes or 'Unknown'}\n"


def list_codes(database: Database, entry: DatabaseRow) -> tuple[str, ...]:
    """Return the codes of a row: SNOMED CT, statements and superclasses.

    All statements count, whatever their likelihood, as in the Challenge. The axis of the heart is a statement, too.

    Raises:
        ValueError: The statements cannot be read.
    """
    statements = read_statements(database, entry)
    meanings, axis = load_meanings(), f"axis {entry.cells.get('heart_axis', '')}"
    known = [meanings[name] for name in (*statements, axis) if name in meanings]
    snomed = sorted({code for meaning in known for code in meaning.codes})
    superclasses = sorted({meaning.superclass for meaning in known if meaning.superclass})
    return (*snomed, *(f"{STATEMENT}{name}" for name in statements), *(f"{SUPERCLASS}{name}" for name in superclasses))


def read_statements(database: Database, entry: DatabaseRow) -> tuple[str, ...]:
    """Return the names of the statements of a row, such as ("NORM", "SR").

    Raises:
        ValueError: They are not written as in PTB-XL: {'NORM': 100.0, 'SR': 0.0}.
    """
    written = entry.cells["scp_codes"]
    try:
        statements = ast.literal_eval(written)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        statements = None
    if not isinstance(statements, dict) or not all(isinstance(name, str) for name in statements):
        raise ValueError(f"{database.path.name}, line {entry.line}: expected statements such as {{'NORM': 100.0}}, "
                         f"received {written[:40]!r}")  # fmt: skip
    return tuple("".join(name.split()) for name in statements if name.strip())


class PatientFold(NamedTuple):
    """What tells which recordings belong together.

    Attributes:
        patient: Number of the patient; empty if unknown.
        fold: Published fold, from 1; 0 if unknown.
    """

    patient: str
    fold: int


def find_patient_fold(header: Path) -> PatientFold | None:
    """Return patient and published fold of a recording.

    Args:
        header: Path of its header.

    Returns:
        None if the table does not list it.

    Raises:
        ValueError: See `load_database`.
    """
    row = find_entry(header)
    if row is None:
        return None
    patient, fold = (_parse_number(row[1].cells.get(column, "")) for column in ("patient_id", "strat_fold"))
    return PatientFold("" if math.isnan(patient) else f"{patient:g}", int(fold) if fold.is_integer() else 0)


def select_resolution(headers: Mapping[str, str]) -> dict[str, str]:
    """Leave out the recordings of PTB-XL at 100 Hz that are there at 500 Hz.

    Args:
        headers: Paths of headers below a data folder, by their paths without extension.

    Returns:
        The other headers.
    """
    return {record: header for record, header in headers.items() if _fast_name(record) not in headers}


def _fast_name(record: str) -> str | None:
    """Return the path of a recording at 500 Hz, given that at 100 Hz, or None."""
    parts = record.split("/")
    if len(parts) < 3 or parts[-3] != SLOW or not parts[-1].endswith("_lr"):
        return None
    return "/".join([*parts[:-3], FAST, parts[-2], f"{parts[-1].removesuffix('_lr')}_hr"])


def _parse_number(text: str) -> float:
    """Return the number in a cell, or NaN."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
