"""Files read whole or not at all, files and folders never there by half, a folder that one process works in."""

import fcntl
import json
import os
import shutil
import stat
from contextlib import contextmanager
from pathlib import Path

import numpy as np

LOCK = "lock"
LONGEST_NAME = 60  # characters that a name written aside has of that it is to get, for that may be as long as names can


@contextmanager
def aside(path):
    """Give a free place beside `path`, and move what the block has written there, file or folder, to `path`.

    Yields a Path whose name ends as that of `path` does. What was at `path` is replaced only at the end, and a folder
    by a folder alone; where an exception leaves the block it stays, and what was written aside is removed. Raises
    OSError where nothing was written, or where it cannot be moved; one that names no file, as of a full disk, names
    `path`.
    """
    path = Path(path)
    part = path.parent / f".part.{path.name[-LONGEST_NAME:]}"
    _remove(part)  # what a process that was killed has left
    try:
        yield part
        if part.is_dir() and path.is_dir():
            shutil.rmtree(path)
        elif part.is_file():
            _force(part)
        os.replace(part, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        _remove(part)


def read_bytes(path, most, error):
    """Return what is in a file, a bytearray; what checked_size refuses, and what cannot be read, raises `error`."""
    data = bytearray(checked_size(path, most, error))
    try:
        with open(path, "rb", buffering=0) as file:
            del data[file.readinto(data) :]
    except OSError as problem:
        raise error(f"{Path(path).name}: cannot be read: {problem.strerror}") from problem
    return data


def checked_size(path, most, error):
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


def save_figure(figure, path, **options):
    """Draw a figure of matplotlib into a file, and free what it holds: of itself it would stay in memory a while.

    The options are those of Figure.savefig.
    """
    figure.savefig(path, **options)
    figure.clear()


@contextmanager
def locked(folder):
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
