"""Convert recordings in hospitals' formats to records in the Challenge's format."""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from errno import EIO
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from ecg.data.hospital_formats import HospitalFormatError, HospitalRecording, import_reader, read_hospital_file
from ecg.data.labels import find_diagnosis
from ecg.data.record_writer import WrittenRecord, write_record
from ecg.data.records import is_header
from ecg.data.statements import find_all_codes
from ecg.runtime.console import abbreviated_list, describe_error, escape_unprintable, pluralise
from ecg.runtime.executors import ALL_CORES, Executor
from ecg.runtime.files import atomic_path, check_writable, walk_files, write_csv

LOGGER = logging.getLogger("ecg")

TABLE, PATIENTS = "conversion.csv", "patients.csv"
COLUMNS = ("file", "record", "format", "leads", "seconds", "age", "sex", "diagnoses", "statements without a code",
           "not carried over", "reason")  # fmt: skip
PREFIX, DIGITS = "H", 16  # of names of records; no source of the Challenge has names of this kind
HIDDEN = "***"
SHORTEST_HIDDEN = 2  # characters of a name or number that is hidden in other texts
NOT_IN_NAMES = re.compile(r"[^\w.+-]+", re.ASCII)
LONGEST_STEM = 100


class Job(NamedTuple):
    """A file to convert.

    Attributes:
        number: Its number, from 1.
        path: Its path.
        name: Name of its record; None for one that the content gives.
    """

    number: int
    path: Path
    name: str | None


class Conversion(NamedTuple):
    """What became of a file.

    Attributes:
        job: The file.
        record: Name of the record; None if there is none.
        format: Name of its format.
        cells: The cells of COLUMNS from "leads" on, without the reason.
        patient: What tells patients apart, or an empty string. It is never written.
        reason: Why there is no record.
        uncovered: Statements without a code.
    """

    job: Job
    record: str | None = None
    format: str = ""
    cells: tuple[object, ...] = ("",) * 7
    patient: str = ""
    reason: str = ""
    uncovered: tuple[str, ...] = ()


def convert(
    files: Sequence[str | Path], output: str | Path, executor: Executor = ALL_CORES, *, keep_identity: bool = False
) -> bool:
    """Convert files to records, and list in a table what was not carried over.

    A file that cannot be converted is reported and does not stop the others. Names of records come from the content, so
    that the same file gets the same name again. The table of patients numbers them, for `--groups`.

    Args:
        files: Files, or folders of files.
        output: Folder for the records and the tables.
        executor: Converts the files.
        keep_identity: Whether names of files and patients are written. Otherwise neither output nor log has them: files
            are named by their number.

    Returns:
        Whether all files have become records.

    Raises:
        FormatsMissing: The package that reads the formats is not installed.
        FileNotFoundError: There is no file.
        OSError: The folder cannot be written.
    """
    import_reader()  # raises now
    output, paths = Path(output), list_files(files)
    check_writable(output)
    output.mkdir(parents=True, exist_ok=True)
    names = choose_names(paths) if keep_identity else [None] * len(paths)
    plan = [Job(number, path, name) for number, (path, name) in enumerate(zip(paths, names, strict=True), 1)]
    work = partial(convert_file, output, keep_identity)
    executor.check_shared(output, paths[:1])
    with closing(executor.map(work, plan, "converted")) as results:
        conversions = mark_copies(list(results))
    write_conversion_tables(output, conversions, keep_identity)
    for conversion in conversions:
        if conversion.reason:
            LOGGER.warning(f"{describe_file(conversion.job, keep_identity)}: {conversion.reason}")
    log_summary(output, conversions)
    return all(conversion.record for conversion in conversions)


def list_files(files: Iterable[str | Path]) -> list[Path]:
    """Return the files, and those in folders and below them, each once.

    Hidden files and WFDB headers in folders are excluded.

    Raises:
        FileNotFoundError: There is no file.
        OSError: A folder cannot be listed.
    """
    paths: dict[Path, None] = {}
    for file in map(Path, files):
        if file.is_dir():
            below = (file / name for name in walk_files(file)[0])
            paths |= dict.fromkeys(path for path in below if not is_header(path.name))
        else:
            paths[file] = None
    if not paths:
        raise FileNotFoundError(f"{', '.join(map(str, files))}: no file in it")
    return list(paths)


def choose_names(paths: Iterable[Path]) -> list[str]:
    """Return a name of a record for each file, from the file's, each of them once."""
    names: dict[str, str] = {}  # by the name without case, because file systems differ in it
    for path in paths:
        stem = NOT_IN_NAMES.sub("_", path.stem).strip("._")[:LONGEST_STEM] or "record"
        candidates = chain([stem], (f"{stem}_{number}" for number in count(2)))
        name = next(name for name in candidates if name.casefold() not in names)
        names[name.casefold()] = name
    return list(names.values())


def convert_file(output: Path, keep_identity: bool, job: Job) -> Conversion:
    """Convert a file; faults of the file raise no error."""
    try:
        if is_header(job.path.name):
            raise HospitalFormatError(job.path.name, "a WFDB header, which needs no conversion")
        recording = read_hospital_file(job.path)
        name = job.name or name_by_content(job.path.read_bytes())
    except HospitalFormatError as error:
        return Conversion(job, reason=str(error) if keep_identity else error.reason)
    except OSError as error:
        return Conversion(job, reason=describe_error(error) if keep_identity else os.strerror(error.errno or EIO))
    codes, uncovered = find_all_codes(recording.statements)
    leads = recording.leads
    write_record(output, WrittenRecord(name, recording.frequency, leads, recording.integers, recording.age,
                                       recording.sex, codes))  # fmt: skip
    uncovered, lost = (texts if keep_identity else tuple(hide(text, recording.identity) for text in texts)
                       for texts in (uncovered, recording.lost))  # fmt: skip
    seconds = round(len(recording.integers) / recording.frequency, 3)
    cells = (
        " ".join(lead.name for lead in leads),
        seconds,
        recording.age,
        recording.sex,
        " ".join(find_diagnosis(code).abbreviation for code in codes),
        "; ".join(uncovered),
        "; ".join(lost),
    )
    return Conversion(job, name, recording.format, cells, identify_patient(recording), uncovered=uncovered)


def name_by_content(content: bytes) -> str:
    """Return the name of a record for the content of its file."""
    number = int.from_bytes(hashlib.sha256(content).digest()[:8]) % 10**DIGITS
    return f"{PREFIX}{number:0{DIGITS}d}"


def identify_patient(recording: HospitalRecording) -> str:
    """Return what tells a recording's patient apart, or an empty string."""
    return "\n".join(text.casefold() for text in recording.identity)


def hide(text: str, identity: Iterable[str]) -> str:
    """Replace names and numbers in a text, in any case, and each word of them."""
    words = {word for part in identity for word in (part, *re.split(r"[\s^,]+", part)) if len(word) >= SHORTEST_HIDDEN}
    for word in sorted(words, key=len, reverse=True):
        text = re.sub(re.escape(word), HIDDEN, text, flags=re.IGNORECASE)
    return text


def describe_file(job: Job, keep_identity: bool) -> str:
    """Return what tables and messages call a file."""
    return escape_unprintable(os.fspath(job.path)) if keep_identity else f"file {job.number:,}"


def mark_copies(conversions: Sequence[Conversion]) -> list[Conversion]:
    """Give files a reason that are copies of an earlier one: they have its record."""
    seen: dict[str, int] = {}
    marked = []
    for conversion in conversions:
        first = seen.setdefault(conversion.record or "", conversion.job.number)
        is_copy = conversion.record is not None and first != conversion.job.number
        marked.append(conversion._replace(reason=f"the same as file {first:,}") if is_copy else conversion)
    return marked


def write_conversion_tables(output: Path, conversions: Sequence[Conversion], keep_identity: bool) -> None:
    """Write the table of files, and that of records and their patients."""
    rows = [
        (describe_file(item.job, keep_identity), item.record or "", item.format, *item.cells, item.reason)
        for item in conversions
    ]
    numbers: dict[str, int] = {}
    patients = {
        item.record: numbers.setdefault(item.patient or f"\0{item.record}", len(numbers) + 1)
        for item in conversions if item.record
    }  # fmt: skip
    tables = {TABLE: (COLUMNS, rows), PATIENTS: (("record", "patient"), patients.items())}
    for name, (columns, lines) in tables.items():
        with atomic_path(output / name) as temporary:
            write_csv(temporary, [columns, *lines])


def log_summary(output: Path, conversions: Sequence[Conversion]) -> None:
    """Log how many files have become records, and how many statements have no code."""
    done = [item for item in conversions if item.record]
    formats = Counter(item.format for item in done)
    kinds = ", ".join(f"{count:,} {name}" for name, count in formats.most_common())
    LOGGER.info(f"{len(done):,} of {pluralise(len(conversions), 'file')} converted{f': {kinds}' if kinds else ''}")
    statements = Counter(text for item in conversions for text in item.uncovered)
    if statements:
        common = abbreviated_list([f"{text!r} ({count:,})" for text, count in statements.most_common()])
        LOGGER.info(f"{pluralise(len(statements), 'statement')} without a code: {common}")
    LOGGER.info(f"{output}: {TABLE} lists the files, {PATIENTS} the patients for --groups")
