"""Files and folders that are written aside and moved into their place, so that none is ever there by half."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def aside(path):
    """Give a free place beside `path`, and move what the block has written there, file or folder, to `path`.

    Yields a Path whose name ends in that of `path`. What was at `path` is replaced only at the end, and a folder by a
    folder alone; where an exception leaves the block it stays, and what was written aside is removed. Raises OSError
    where nothing was written, or where it cannot be moved.
    """
    path = Path(path)
    part = path.parent / f".part.{path.name}"
    _remove(part)  # what a process that was killed has left
    try:
        yield part
        if part.is_dir() and path.is_dir():
            shutil.rmtree(path)
        os.replace(part, path)
    finally:
        _remove(part)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
