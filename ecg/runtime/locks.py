"""Keep other programs out of files and folders, without waiting for ever."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "lock"  # name of the file in a locked folder
LOCK_SECONDS = 10.0  # that another program may keep a file locked
POLL_SECONDS = 0.01  # between two attempts


@contextmanager
def lock_folder(folder: str | os.PathLike, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of a folder while the block runs.

    The lock is a file in the folder, which is made if it is missing. It ends with the process at the latest.

    Args:
        folder: The folder.
        wait: Whether to wait for the end of another process's lock, however long it takes.

    Raises:
        BlockingIOError: Another process has the lock, and `wait` is false.
    """
    path = Path(folder) / LOCK
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise BlockingIOError(f"{folder}: another process is at work in this folder") from None
            # Another process may have removed the folder between the opening and the lock.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return


def open_regular(path: str | os.PathLike, flags: int, mode: int = 0o644) -> int:
    """Open a regular file and return its descriptor; a pipe never blocks.

    Raises:
        OSError: It cannot be opened, or is a pipe, a device or a folder.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "no regular file", os.fspath(path))


def lock_file(descriptor: int, path: str | os.PathLike, kind: int, seconds: float | None = None) -> None:
    """Lock an open file until its descriptor is closed.

    Args:
        descriptor: Its descriptor.
        path: Its path, for messages.
        kind: fcntl.LOCK_EX or fcntl.LOCK_SH.
        seconds: How long to wait for another program that has the lock; LOCK_SECONDS if None.

    Raises:
        OSError: Another program keeps the lock, or the file system has no locks.
    """
    end = time.monotonic() + (LOCK_SECONDS if seconds is None else seconds)
    while True:
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= end:
                raise BlockingIOError(error.errno, "locked by another program", os.fspath(path)) from None
        except OSError as error:
            raise OSError(error.errno, f"cannot be locked: {error.strerror}", os.fspath(path)) from error
        time.sleep(POLL_SECONDS)
