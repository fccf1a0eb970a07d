"""Append reviewers' verdicts on labels to CSV files, and read them."""

import csv
import errno
import fcntl
import io
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import numpy as np

import ecg
from ecg.data.class_tables import ClassTable
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.record_names import escape_name, unescape_name
from ecg.data.reviewers import find_review_files, review_path, reviewer_key, reviewer_of
from ecg.runtime.console import abbreviated_list, escape_unprintable
from ecg.runtime.files import disarm_formula, read_bytes, restore_formula
from ecg.runtime.locks import lock_file, open_regular

LOGGER = logging.getLogger("ecg")

COLUMNS = ("record", "class", "verdict", "comment", "time", "version", "blinded")
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs"}  # of spreadsheets
LONGEST_BEGINNING = 1000  # bytes of a file, in which its first two lines fit if they name delimiter and columns
LONGEST_COMMENT = 1000  # characters
MOST_REVIEW_BYTES = 2**28
MOST_REPORTED = 10  # malformed lines of a file that are logged one by one
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
TIME_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
# Verdicts in arrays of int8.
PRESENT, ABSENT, UNSURE, UNDECIDED = 1, 0, -1, -2


class Verdict(StrEnum):
    """What a reviewer says of a class in a recording."""

    PRESENT = "present"
    ABSENT = "absent"
    UNSURE = "unsure"

    @property
    def number(self) -> int:
        """PRESENT, ABSENT or UNSURE."""
        return {Verdict.PRESENT: PRESENT, Verdict.ABSENT: ABSENT, Verdict.UNSURE: UNSURE}[self]


VERDICTS: dict[str, Verdict] = {verdict.value: verdict for verdict in Verdict}
VERDICT_NAMES: dict[int, str] = {verdict.number: verdict.value for verdict in Verdict}  # without UNDECIDED


@dataclass(frozen=True)
class Review:
    """The verdict of a reviewer on one class of one recording.

    Attributes:
        record: Name of the record, with its folders below the data folder.
        abbreviation: Abbreviation of a scored class.
        verdict: The verdict.
        comment: Free text of one line.
        time: Time in UTC as 2026-01-31T12:00:00Z; `append_review` sets it.
        version: Version of this package; `append_review` sets it.
        blinded: Whether labels and predictions were hidden from the reviewer.
        reviewer: Name of the reviewer; `append_review` sets it.

    Raises:
        ValueError: The verdict is unknown, the comment too long, or the record has no name.
    """

    record: str
    abbreviation: str
    verdict: Verdict
    comment: str = ""
    time: str = ""
    version: str = ""
    blinded: bool = False
    reviewer: str = ""

    def __post_init__(self) -> None:
        if not self.record or "\0" in self.record:
            raise ValueError(f"record {self.record!r}: expected the name of a record")
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict {self.verdict!r}: expected one of {', '.join(VERDICTS)}")
        if len(self.comment) > LONGEST_COMMENT:
            raise ValueError(f"comment of {len(self.comment):,} characters, expected at most {LONGEST_COMMENT:,}")
        object.__setattr__(self, "verdict", VERDICTS[self.verdict])


def append_review(folder: str | Path, reviewer: str, review: Review) -> Review:
    """Append a review to the reviewer's file; it is on the disk when this returns.

    Any number of processes and threads may append to a file at once. A review that cannot be written whole leaves
    nothing.

    Args:
        folder: Folder of the reviews, made if missing.
        reviewer: Name of the reviewer.
        review: The review. Line breaks and control characters in its comment become spaces.

    Returns:
        The review with reviewer, time and version.

    Raises:
        ValueError: The name cannot be that of a reviewer.
        OSError: The review could not be written, or the file has other delimiters than commas.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = review_path(folder, reviewer)
    comment = "".join(char if char.isprintable() else " " for char in review.comment)
    review = replace(review, comment=comment, reviewer=reviewer_of(path), version=ecg.__version__)
    with _lock_file(path) as descriptor:
        # Within the lock, so that times do not decrease within a file.
        review = replace(review, time=datetime.now(UTC).strftime(TIME_FORMAT))
        size = os.fstat(descriptor).st_size
        _check_beginning(path, os.pread(descriptor, LONGEST_BEGINNING, 0))
        prefix = _format_row(COLUMNS) if not size else b""
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # power was lost within a line
            prefix = b"\n"
        _append_bytes(descriptor, prefix + _format_review(review), size)
        if not size:
            _sync_folder(path.parent)
    return review


def _check_beginning(path: Path, content: bytes) -> None:
    """Raise OSError if the first lines of a file have other delimiters than commas."""
    try:
        for number, line in enumerate(_split_lines(content)[:2], start=1):
            _check_delimiter(path, number, line)
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from None


def _check_delimiter(path: Path, number: int, line: str) -> None:
    """Raise ValueError if a line has the values of a review with another delimiter."""
    for delimiter, name in OTHER_DELIMITERS.items():
        cells = next(csv.reader([line], delimiter=delimiter), [])
        if len(cells) == len(COLUMNS) and (tuple(cells) == COLUMNS or cells[2] in VERDICTS):
            raise ValueError(f"{path}, line {number:,}: {name} between the values, as some spreadsheets write them, "
                             f"expected commas; save it as CSV with commas")  # fmt: skip


def _split_lines(content: bytes) -> list[str]:
    """Return the lines of a file without their ends, also if it is no UTF-8."""
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    return [line.rstrip("\r") for line in text.split("\n")]


def _format_row(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([disarm_formula(cell) for cell in cells])
    return text.getvalue().encode("utf-8", "surrogateescape")


def _format_review(review: Review) -> bytes:
    """Return the line of a review, with its line break."""
    record, *cells, blinded, _ = astuple(review)
    return _format_row([escape_name(record), *cells, "yes" if blinded else "no"])


@contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    """Open a file to append, made if missing, and keep other writers out.

    Yields:
        Its descriptor.
    """
    while True:
        descriptor = open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            lock_file(descriptor, path, fcntl.LOCK_EX)
            # An editor may have replaced the file between the opening and the lock.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _append_bytes(descriptor: int, content: bytes, size: int) -> None:
    """Append to a file by one call, and sync it; truncate it on any error.

    Args:
        descriptor: Descriptor of the locked file.
        content: What to write.
        size: Size of the file before.
    """
    try:
        if os.write(descriptor, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except BaseException:
        os.ftruncate(descriptor, size)
        raise


def _sync_folder(folder: Path) -> None:
    """Write the entries of a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_reviews(
    folder: str | Path, prefers_blinded: bool = False, classes: ClassTable = CHALLENGE_CLASSES
) -> list[Review]:
    """Read the last review by each reviewer of each class in each recording.

    Malformed lines are skipped, with a warning that gives their file, number and reason.

    Args:
        folder: Folder of the reviews.
        prefers_blinded: Whether the last blinded review counts, if there is one; see `select_last`.
        classes: The classes; a line with another class is malformed.

    Returns:
        The reviews by reviewer, each reviewer's in the order of their first verdict on the class in the recording.

    Raises:
        OSError: The folder cannot be listed, or a file not be read; the error names it.
        ValueError: A file is too large, or has other delimiters than commas.
    """
    files: dict[str, list[Path]] = {}
    for path in find_review_files(folder):
        files.setdefault(reviewer_key(path.stem), []).append(path)
    merged = (merge_spellings({path: read_review_file(path, classes) for path in paths}) for paths in files.values())
    return [review for reviews in merged for review in select_last(reviews, prefers_blinded).values()]


def select_last(reviews: Iterable[Review], prefers_blinded: bool = False) -> dict[tuple[str, str], Review]:
    """Select the review of each class in each recording that counts.

    Who has seen labels and predictions may have followed them. Agreement is therefore that of blinded reviews, if a
    reviewer has given one before another. As corrections of labels the last ones count.

    Args:
        reviews: Reviews of one reviewer in their order.
        prefers_blinded: Whether the last blinded review counts, if there is one.

    Returns:
        The reviews by recording and class.
    """
    last: dict[tuple[str, str], Review] = {}
    for review in reviews:
        key = review.record, review.abbreviation
        if not (prefers_blinded and key in last and last[key].blinded and not review.blinded):
            last[key] = review
    return last


def merge_spellings(files: Mapping[Path, Sequence[Review]]) -> list[Review]:
    """Merge the files of one reviewer, whose name may be spelled in several ways.

    Args:
        files: All reviews of each file, by its path.

    Returns:
        The reviews under the first spelling. Those of several files are in the order of their times.
    """
    reviews = [review for path in sorted(files) for review in files[path]]
    if len(files) > 1:
        reviews = [replace(review, reviewer=reviewer_of(min(files))) for review in reviews]
        reviews.sort(key=lambda review: review.time)
    return reviews


def read_review_file(
    path: Path, classes: ClassTable = CHALLENGE_CLASSES, lock_seconds: float | None = None
) -> list[Review]:
    """Read all reviews of a file in their order; see `read_reviews`.

    Args:
        path: The file.
        classes: The classes; a line with another class is malformed.
        lock_seconds: How long to wait for another program that has locked it; see `lock_file`.

    Raises:
        OSError: It cannot be read, is no regular file, or is locked.
        ValueError: It is too large, or has other delimiters than commas.
    """
    with open(open_regular(path, os.O_RDONLY), "rb") as file:
        lock_file(file.fileno(), path, fcntl.LOCK_SH, lock_seconds)  # no line is half written
        content = bytes(read_bytes(path, MOST_REVIEW_BYTES, ValueError))
    reviews, malformed, reviewer = [], [], reviewer_of(path)
    for number, line in enumerate(_split_lines(content), start=1):
        try:
            cells = next(csv.reader([line], strict=True), [])
            if cells and tuple(cells) != COLUMNS:
                reviews.append(_parse_review(cells, reviewer, classes))
        except (csv.Error, ValueError) as error:
            _check_delimiter(path, number, line)
            malformed.append((number, str(error)))
    for number, reason in malformed[:MOST_REPORTED]:
        LOGGER.warning(escape_unprintable(f"{path}, line {number:,}: skipped, {reason}"))
    if more := [f"{number:,}" for number, _ in malformed[MOST_REPORTED:]]:
        LOGGER.warning(escape_unprintable(f"{path}: skipped {len(more):,} more lines ({abbreviated_list(more)})"))
    return reviews


def encode_reviews(
    reviews: Iterable[Review], names: Sequence[str], classes: ClassTable = CHALLENGE_CLASSES
) -> dict[str, np.ndarray]:
    """Return the verdicts of each reviewer as an array.

    Args:
        reviews: What `read_reviews` returns.
        names: Names of N recordings; reviews of others are ignored.
        classes: The C classes.

    Returns:
        By reviewer PRESENT, ABSENT, UNSURE or UNDECIDED, (N, C) int8.
    """
    rows = {name: row for row, name in enumerate(names)}
    verdicts: dict[str, np.ndarray] = {}
    for review in reviews:
        if review.reviewer not in verdicts:
            verdicts[review.reviewer] = np.full((len(rows), len(classes)), UNDECIDED, np.int8)
        if review.record in rows:
            verdicts[review.reviewer][rows[review.record], classes.index[review.abbreviation]] = review.verdict.number
    return verdicts


def _parse_review(cells: Sequence[str], reviewer: str, classes: ClassTable) -> Review:
    """Return the review of a line's cells.

    Raises:
        ValueError: The line is no complete review.
    """
    if len(cells) != len(COLUMNS):
        raise ValueError(f"expected {len(COLUMNS)} values, received {len(cells)}")
    record, abbreviation, verdict, comment, time, version, blinded = map(restore_formula, cells)
    if blinded not in ("yes", "no"):
        raise ValueError(f"blinded {blinded!r}: expected yes or no")
    if abbreviation not in classes.index:
        raise ValueError(f"class {abbreviation!r}: expected one of {', '.join(classes.abbreviations)}")
    if not TIME_PATTERN.fullmatch(time):
        raise ValueError(f"time {time!r}: expected one such as 2026-01-31T12:00:00Z")
    return Review(
        unescape_name(record), abbreviation, Verdict(verdict), comment, time, version, blinded == "yes", reviewer
    )
