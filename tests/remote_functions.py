"""Functions that other processes run in tests: subprocesses, and workers of a cluster."""

import logging
import os
import signal
import time


def prepare_nothing():
    """Stand for the preparation of a call that needs none."""


def square(number):
    """Return the square of a number."""
    if number == -1:
        raise ValueError("no root")
    return number**2


def square_slowly(folder, number):
    """Return the square and the process of a number, which it first notes in a folder."""
    (folder / f"{number}-{os.getpid()}").touch()
    time.sleep(0.02)
    return number**2, os.getpid()


def kill_own_process(number=0):
    """End this process as the system does if memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_parent():
    """End the worker that this call belongs to."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def count_to(folder, last):
    """Count in a file, one number a tenth of a second; go on where an earlier process was."""
    file = folder / "count"
    first = int(file.read_text()) if file.exists() else 0
    logging.getLogger("ecg").info(f"from {first}")
    (folder / f"{os.getpid()}-{os.getppid()}").touch()
    for number in range(first + 1, last + 1):
        time.sleep(0.1)
        file.with_suffix(".new").write_text(str(number))
        file.with_suffix(".new").rename(file)
    return os.getpid(), os.getppid(), first


def read_environment(name):
    """Return an environment variable."""
    return os.environ.get(name)


def meet_another_process(folder):
    """Note this process in a folder, wait until there is another one, and return the number of both."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while (count := len(list(folder.iterdir()))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    return count


def return_unpicklable():
    """Return what no other process can get."""
    return lambda: None


class FourWordsError(Exception):
    """An exception that cannot be unpickled: its arguments are not those of its constructor."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}, only three words")


def raise_unpicklable():
    """Raise what no other process can get."""
    raise FourWordsError("of", "these")


def count_and_die(folder, last, killer=kill_own_process):
    """Count in a file, one number a call; each call is killed once it has written its number."""
    file = folder / "count"
    reached = int(file.read_text()) if file.exists() else 0
    if reached < last:
        file.write_text(str(reached + 1))
        killer()
    return reached
