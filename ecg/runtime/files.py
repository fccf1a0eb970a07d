"""Files read whole or not at all, files and folders never there by half, a folder that one process works in."""

import csv
import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

LOCK = "lock"
LONGEST_NAME = 60  # characters that a name written aside has of that it is to get, for that may be as long as names can


@contextmanager
def atomic_path(path):
    """Give a free place beside `path`, and move what the block has written there, file or folder, to `path`.

    Yields a Path whose name ends as that of `path` does. What was at `path` is replaced only at the end, and a folder
    by a folder alone; where an exception leaves the block it stays, and what was written aside is removed. Raises
    OSError where nothing was written, or where it cannot be moved, and at once where a folder at `path` cannot be
    replaced. Errors name `path`, or what is to be in it, and never the place beside it.
    """
    path = Path(path)
    part = path.parent / f".part.{path.name[-LONGEST_NAME:]}"
    with _errors_naming(path, part):
        if path.is_dir():
            check_writable(path)
        _remove(part)  # what a process that was killed has left
        try:
            yield part
            if part.is_dir() and path.is_dir():
                shutil.rmtree(path)
            elif part.is_file():
                _force(part)
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                _remove(part)
            raise


@contextmanager
def _errors_naming(path: Path, part: Path) -> Iterator[None]:
    """Let exceptions that leave the block name `path` where they name `part`, its temporary name.

    Libraries put the temporary name, and numbers of errors, into their messages. For such an OSError the system's own
    words take the place of the library's.
    """

    def renamed(text):
        return text.replace(str(part), str(path))

    try:
        yield
    except OSError as error:
        if error.errno is None:
            error.args = tuple(renamed(value) if isinstance(value, str) else value for value in error.args)
            raise
        if error.filename2 is not None:  # of two names, the one that the user knows
            error.filename = error.filename2
            del error.filename2
        named = path if error.filename is None else error.filename
        if isinstance(named, str | bytes | os.PathLike):
            named = Path(os.fsdecode(named))
            error.filename = str(path / named.relative_to(part) if named.is_relative_to(part) else named)
        if error.strerror and (str(part) in error.strerror or "errno = " in error.strerror):
            error.strerror = os.strerror(error.errno)
        raise
    except Exception as error:
        error.args = tuple(renamed(value) if isinstance(value, str) else value for value in error.args)
        raise


def check_writable(folder: str | os.PathLike) -> None:
    """Check that files can be made in a folder, or that the folder can be made.

    Nothing is made. Call it before long work whose results go into the folder.

    Args:
        folder: Where results are to be written.

    Raises:
        OSError: If the folder, or the nearest one above it that exists, is no folder or is not writable. It names the
            folder that was given.
    """
    folder = Path(folder)
    above = next((one for one in (folder, *folder.absolute().parents) if os.path.lexists(one)), folder)
    if not above.is_dir():
        number = errno.ENOTDIR if os.path.exists(above) else errno.ENOENT
        raise OSError(number, os.strerror(number), str(folder))
    if not os.access(above, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        number = errno.EROFS if os.statvfs(above).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(number, os.strerror(number), str(folder))


def check_file_writable(file: str | os.PathLike) -> None:
    """Check that a file can be written, or made where it is missing.

    Nothing is made. Call it before long work whose result goes into the file.

    Args:
        file: Where a result is to be written.

    Raises:
        OSError: If there is a folder of this name, the file is not writable, or its folder is missing or not writable.
            It names the file.
    """
    file = Path(file)
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    if file.exists():
        if not os.access(file, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        return
    folder = file.absolute().parent
    if not folder.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
    try:
        check_writable(folder)
    except OSError as error:
        error.filename = str(file)
        raise


def read_bytes(path, most, error):
    """Return what is in a file, a bytearray; what checked_size refuses, and what cannot be read, raises `error`."""
    data = bytearray(check_file_size(path, most, error))
    try:
        with open(path, "rb", buffering=0) as file:
            del data[file.readinto(data) :]
    except OSError as problem:
        raise error(f"{Path(path).name}: cannot be read: {problem.strerror}") from problem
    return data


def check_file_size(path, most, error):
    """Return the bytes of a regular file of at most `most`; anything else raises `error` with why.

    A pipe would be waited for, and a device may have no end: neither is to be opened.
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


def to_json(value: object, **options: object) -> str:
    """Return a value as JSON text, with plain numbers for those of numpy.

    What numpy counts, such as `count_nonzero`, may be a numpy integer, which `json.dumps` refuses. All JSON of this
    package is written here.

    Args:
        value: What JSON can hold, and numpy scalars and arrays in it.
        **options: Those of `json.dumps`.

    Raises:
        TypeError: Something else is in it.
        ValueError: `allow_nan=False` was given, and a number is not finite.
    """
    return json.dumps(value, default=_plain, **options)


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r:.100}")


def write_csv(path: str | os.PathLike, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV in UTF-8, lines ending with CRLF; None is an empty cell.

    File names that are no UTF-8 keep their bytes, as `os.fsdecode` has them.
    """
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows(rows)


def save_figure(figure, path, **options):
    """Draw a figure of matplotlib into a file, and free what it holds: of itself it would stay in memory a while.

    The options are those of Figure.savefig.
    """
    figure.savefig(path, **options)
    figure.clear()


@contextmanager
def lock_folder(folder):
    """Keep a folder, made where it is missing, to this process; BlockingIOError where another one has it.

    The lock is a file, LOCK, and ends with the process, however that ends.
    """
    path = Path(folder) / LOCK
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(f"{folder}: another process is at work in this folder") from None
            # One that has just ended may have taken the folder away between the opening and the lock.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return


def _force(path):
    """See that a file's content is on the disk before its name is, for a machine may be taken away."""
    with open(path, "rb") as file:
        os.fsync(file)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class Listing(NamedTuple):
    """What one folder holds.

    Attributes:
        files: Paths of everything that is not a folder.
        folders: Paths of the folders, without links.
        links: Paths of the links to folders.
        errors: An OSError for each link that leads nowhere.
    """

    files: list[str]
    folders: list[str]
    links: list[str]
    errors: list[OSError]


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
    found: list[str] = []
    failures: list[OSError] = []
    visited: set[tuple[int, int]] = set()
    starts = [""]  # the folder itself, then the links found there, then the links found behind these
    while starts:
        next_starts: list[str] = []
        for start in sorted(starts):
            waiting = [start]
            while waiting:
                path = waiting.pop()
                full = os.path.join(root, path) if path else root
                try:
                    state = os.stat(full)
                    if (state.st_dev, state.st_ino) in visited:
                        continue
                    visited.add((state.st_dev, state.st_ino))
                    files, folders, links, errors = _list_folder(full, f"{path}/" if path else "")
                except OSError as error:
                    if not path:
                        raise
                    failures.append(error)
                    continue
                found += files
                failures += errors
                next_starts += links
                waiting += sorted(folders, reverse=True)
        starts = next_starts
    return sorted(found), failures


def _list_folder(folder: str, prefix: str) -> Listing:
    """List one folder without the names that begin with a dot, and put the prefix before each name."""
    listing = Listing([], [], [], [])
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_symlink():
                (listing.folders if entry.is_dir() else listing.files).append(prefix + entry.name)
                continue
            try:
                entry.stat()  # is_dir alone is False for a link that leads nowhere
                (listing.links if entry.is_dir() else listing.files).append(prefix + entry.name)
            except OSError as error:
                listing.errors.append(error)
    return listing
