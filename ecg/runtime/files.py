"""Read bounded files, write files and folders atomically, and list folders."""

import csv
import errno
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from _csv import Reader

    from matplotlib.figure import Figure

# The temporary name keeps the last 60 characters of the target's, because the target's may already have the file
# system's maximum length.
PART = ".part"  # begins the names of files that are not complete
LONGEST_NAME = 60
DELIMITERS = ",;\t"  # of tables; spreadsheets write one of these, by their language
DELIMITER_LINE = re.compile(r'\A"?sep=[,;\t]"?(\r\n|\r|\n|\Z)', re.IGNORECASE)  # Excel reads the delimiter from it
# Spreadsheets run a cell as a formula that begins so, also with the wide characters of East Asia. A number is none.
FORMULA = re.compile("'*[=+\\-@\t\r\uff1d\uff0b\uff0d\uff20]")
NUMBER = re.compile(r"[+-](\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]inf")
LONGEST_ROW = 40  # characters of a wrong first row in a message


class TableRow(NamedTuple):
    """A row of a table.

    Attributes:
        line: Number of its line in the file, from 1.
        cells: Its values, without spaces around them.
    """

    line: int
    cells: list[str]


@contextmanager
def atomic_path(path: str | os.PathLike, writer: str = "") -> Iterator[Path]:
    """Write a file or folder atomically.

    It is written under a temporary name, which is renamed at the end. If an exception leaves the block, what was at
    `path` stays, and what was written is removed. A folder is replaced by a folder only. Errors name `path`, never the
    temporary name.

    Args:
        path: The file or folder.
        writer: A name of this process that becomes part of the temporary name. It is needed if several processes may
            write the same path at the same time. What a killed one has left is then not removed by the next.

    Yields:
        The temporary path, in the same folder, which ends as `path` does.

    Raises:
        OSError: Nothing was written, or it cannot be renamed. At once, if a folder at `path` cannot be replaced.
    """
    path = Path(path)
    temporary = path.parent / ".".join(filter(None, (PART, writer, path.name[-LONGEST_NAME:])))
    with _errors_naming(path, temporary):
        if path.is_dir():
            check_writable(path)
        _remove(temporary)  # left by a process that was killed
        try:
            yield temporary
            if temporary.is_dir() and path.is_dir():
                shutil.rmtree(path)
            elif temporary.is_file():  # its content must be on the disk before its name is
                with open(temporary, "rb") as file:
                    os.fsync(file)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                _remove(temporary)
            raise


@contextmanager
def _errors_naming(path: Path, temporary: Path) -> Iterator[None]:
    """Make exceptions that leave the block name `path` instead of `temporary`.

    Libraries put the temporary name, and numbers of errors, into their messages. Such an OSError gets the system's own
    message instead.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            file = path if error.filename is None else error.filename
            if error.filename2 is not None:  # the name that the user knows
                file = error.filename2
                del error.filename2
            if isinstance(file, str | bytes | os.PathLike):  # it can be the number of a descriptor
                error.filename = os.fsdecode(file).replace(str(temporary), str(path))
            if error.strerror and (str(temporary) in error.strerror or "errno = " in error.strerror):
                error.strerror = os.strerror(error.errno)
        else:
            messages = (arg.replace(str(temporary), str(path)) if isinstance(arg, str) else arg for arg in error.args)
            error.args = tuple(messages)
        raise


def check_writable(folder: str | os.PathLike) -> None:
    """Check that files can be made in a folder, or that the folder can be made.

    Nothing is made. Call it before long work that writes into the folder.

    Args:
        folder: Where results are to be written.

    Raises:
        OSError: If the folder, or the nearest one above it that exists, is no folder or is not writable. It names the
            folder that was given.
    """
    folder = Path(folder)
    above = next((parent for parent in (folder, *folder.absolute().parents) if os.path.lexists(parent)), folder)
    if not above.is_dir():
        number = errno.ENOTDIR if os.path.exists(above) else errno.ENOENT
    elif not os.access(above, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        number = errno.EROFS if os.statvfs(above).f_flag & os.ST_RDONLY else errno.EACCES
    else:
        return
    raise OSError(number, os.strerror(number), str(folder))


def check_replaceable(folder: Path, table: str, names: str, kind: str) -> None:
    """Check that a folder has no files except those of an earlier run.

    Args:
        folder: Folder of the results.
        table: Name of a file that each run writes.
        names: Pattern of the names of all files that a run writes.
        kind: What runs, such as "an audit".

    Raises:
        FileExistsError: It has other files.
    """
    present = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    foreign = [name for name in present if not re.fullmatch(names, name)]
    if foreign:
        raise FileExistsError(f"{folder}: has {foreign[0]}, which is not from {kind}; choose another folder")
    if present and table not in present:
        raise FileExistsError(f"{folder}: has {present[0]}, but no {table}; choose another folder")


def read_bytes(path: str | os.PathLike, most: int, error: type[Exception]) -> bytearray:
    """Read a file of bounded size.

    Args:
        path: A regular file.
        most: The largest size in bytes.
        error: What is raised if the file cannot be read or is larger.
    """
    data = bytearray(check_file_size(path, most, error))
    try:
        with open(path, "rb", buffering=0) as file:
            del data[file.readinto(data) :]
    except OSError as problem:
        raise error(f"{Path(path).name}: cannot be read: {problem.strerror}") from problem
    return data


def check_file_size(path: str | os.PathLike, most: int, error: type[Exception]) -> int:
    """Return the size of a regular file in bytes.

    Raise `error` if it is larger than `most` bytes or no regular file. A pipe would block, and a device may have no
    end, so neither is opened.
    """
    name = Path(path).name
    try:
        state = os.stat(path)
    except (OSError, ValueError) as problem:
        raise error(f"{name}: cannot be read: {getattr(problem, 'strerror', problem)}") from problem
    if not stat.S_ISREG(state.st_mode):
        raise error(f"{name}: {'a folder' if stat.S_ISDIR(state.st_mode) else 'no regular file'}, expected a file")
    if state.st_size > most:
        raise error(f"{name}: {state.st_size:,} bytes, expected {most:,} or fewer")
    return state.st_size


def read_table(
    path: str | os.PathLike,
    has_columns: Callable[[list[str]], bool],
    expected: str,
    most: int,
    error: type[Exception],
) -> list[TableRow]:
    """Read a table as spreadsheets write it: CSV in UTF-8.

    The delimiter is the first of DELIMITERS by which the first row has the expected columns. A byte order mark, a first
    line such as "sep=;", empty rows, and empty cells at the end of rows are skipped.

    Args:
        path: A regular file.
        has_columns: Returns whether the cells of the first row are the expected columns.
        expected: These columns, for messages.
        most: The largest size in bytes.
        error: What is raised if the file is no such table. The message names the file, the line and the reason.

    Returns:
        The rows, the first one included. All have as many cells as the first. Cells are as before `disarm_formula`.
    """
    text = _decode_table(path, most, error)
    has_delimiter_line = bool(DELIMITER_LINE.match(text))
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            if has_delimiter_line:
                next(reader)
            header = [restore_formula(cell.strip()) for cell in next(reader, [])]
        except csv.Error:
            continue
        while header and not header[-1]:
            header.pop()
        if has_columns(header):
            return [TableRow(reader.line_num, header), *_read_rows(path, reader, len(header), error)]
    first = io.StringIO(DELIMITER_LINE.sub("", text, 1), newline="").readline(LONGEST_ROW).rstrip("\r\n")
    received = repr(first) if text.strip() else "an empty file"
    raise error(f"{path}, line {1 + has_delimiter_line}: expected {expected}, received {received}")


def _decode_table(path: str | os.PathLike, most: int, error: type[Exception]) -> str:
    """Return the text of a table; see `read_table`."""
    content = bytes(read_bytes(path, most, error))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise error(f"{path}, line {line}: not UTF-8, byte {content[problem.start]:#04x}") from None


def _read_rows(path: str | os.PathLike, reader: "Reader", n_columns: int, error: type[Exception]) -> Iterator[TableRow]:
    """Yield the rows of a table after the first; see `read_table`."""
    try:
        for row in reader:
            cells = [restore_formula(cell.strip()) for cell in row]
            if not any(cells):
                continue
            if len(cells) < n_columns or any(cells[n_columns:]):
                raise error(f"{path}, line {reader.line_num}: expected {n_columns} values, received {len(cells)}")
            yield TableRow(reader.line_num, cells[:n_columns])
    except csv.Error as problem:
        raise error(f"{path}, line {reader.line_num}: {problem}") from None


def to_json(value: object, **options: object) -> str:
    """Return a value as JSON.

    Scalars and arrays of numpy become plain numbers and lists, dataclasses become objects. All JSON of this package is
    written here.

    Args:
        value: What JSON can hold, and dataclasses, numpy scalars and arrays in it.
        **options: Those of `json.dumps`.

    Raises:
        TypeError: The value holds something else.
        ValueError: `allow_nan=False` was given, and a number is not finite.
    """
    return json.dumps(value, default=_to_plain_number, **options)  # type: ignore[arg-type]


def _to_plain_number(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r:.100}")


def write_csv(path: str | os.PathLike, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV in UTF-8, lines ending with CRLF; None is an empty cell.

    Strings that spreadsheets would run as formulas are escaped, see `disarm_formula`.
    File names that are no UTF-8 keep their bytes, as `os.fsdecode` has them.
    """
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([disarm_formula(cell) for cell in row] for row in rows)


def disarm_formula(cell: object) -> object:
    """Return a cell of a table so that no spreadsheet runs it as a formula.

    A string that begins as a formula gets an apostrophe before it. So does one that begins with apostrophes and then as
    a formula, so that `restore_formula` returns every string as it was.
    """
    is_formula = isinstance(cell, str) and FORMULA.match(cell) and not NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell


def restore_formula(cell: str) -> str:
    """Return a cell as it was before `disarm_formula`."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def save_figure(figure: "Figure", path: str | os.PathLike, **options: object) -> None:
    """Save a figure of matplotlib, and free its memory at once.

    Args:
        figure: Cleared afterwards.
        path: The file.
        **options: Those of `Figure.savefig`.
    """
    figure.savefig(path, **options)  # type: ignore[arg-type]
    figure.clear()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def walk_files(folder: str | os.PathLike) -> tuple[list[str], list[OSError]]:
    """List all files in a folder and nested below it, but no hidden ones.

    A path is hidden if a part of it, relative to the folder, begins with a dot. Links to folders are followed. Each
    real folder is read once, so a loop of links ends. Its own path is used if it can also be reached by a link;
    otherwise links directly below come before those found behind other links, each in sorted order. Only folders and
    links are looked up on the disk, not each file.

    Args:
        folder: Where to begin. It may be a link itself.

    Returns:
        The paths of everything that is not a folder, relative to the folder, with "/" between their parts, sorted.
        Then an OSError for each folder below that could not be listed and each link that leads nowhere; its filename
        is the full path.

    Raises:
        OSError: The folder itself cannot be listed.
    """
    root = os.fsdecode(folder)
    files: list[str] = []
    failures: list[OSError] = []
    visited: set[tuple[int, int]] = set()
    starts = [""]  # the folder itself, then the links found there, then the links found behind these
    while starts:
        waiting, starts = sorted(starts, reverse=True), []
        while waiting:
            path = waiting.pop()
            full = os.path.join(root, path) if path else root
            folders: list[str] = []
            try:
                state = os.stat(full)
                if (state.st_dev, state.st_ino) in visited:
                    continue
                visited.add((state.st_dev, state.st_ino))
                with os.scandir(full) as entries:
                    visible = [entry for entry in entries if not entry.name.startswith(".")]
            except OSError as error:
                if not path:
                    raise
                failures.append(error)
                continue
            for entry in visible:
                name = os.path.join(path, entry.name)
                try:
                    if entry.is_symlink():
                        entry.stat()  # is_dir alone is False for a link that leads nowhere
                        (starts if entry.is_dir() else files).append(name)
                    else:
                        (folders if entry.is_dir() else files).append(name)
                except OSError as error:
                    failures.append(error)
            waiting += sorted(folders, reverse=True)
    return sorted(files), failures
