"""What the workers of a Dask cluster run for `ecg.runtime.cluster`."""

import ctypes
import fcntl
import logging
import os
import pickle
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from distributed import Worker, get_worker

from ecg.runtime.cache import source_hash
from ecg.runtime.console import describe_error
from ecg.runtime.executors import ClusterError
from ecg.runtime.files import atomic_path
from ecg.runtime.locks import LOCK
from ecg.runtime.processes import Call, LogMessage, Reply, Subprocess

PACKAGES = ("distributed", "joblib", "keras", "neurokit2", "numpy", "scikit-learn", "scipy", "tensorflow", "wfdb")
# A call computes the same as on the client only if these are the same. Dask sets some of them for its workers.
ENVIRONMENT = ("KERAS_BACKEND", "KERAS_HOME", "MALLOC_TRIM_THRESHOLD_", "MKL_NUM_THREADS", "OMP_NUM_THREADS",
               "ONEDNN_MAX_CPU_ISA", "OPENBLAS_NUM_THREADS", "TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTEROP_THREADS",
               "TF_NUM_INTRAOP_THREADS")  # fmt: skip

# Parameters of glibc's mallopt, and the values that glibc reaches by itself: the size from which on a block is mapped
# alone, and how much freed memory stays with the process. The limit that Dask sets keeps glibc from adapting both.
MALLOC_LIMITS = {-3: 2**25, -1: 2**26}


class SharedFile(NamedTuple):
    """A file that all machines must see.

    Attributes:
        path: Its path.
        size: Its size in bytes.
        content: Its content; empty if the size is enough.
    """

    path: str
    size: int
    content: bytes = b""


@dataclass(frozen=True)
class Requirements:
    """What a worker must have in common with the client.

    Attributes:
        source: Hash of the source code.
        versions: Names and versions of Python and of the packages; an empty version if a package is missing.
        files: Files that it must see.
        folder: Folder that it must be able to write to; empty: it writes nothing.
        is_locked: Whether the client has locked the folder, which the worker must notice.
    """

    source: str
    versions: tuple[tuple[str, str], ...]
    files: tuple[SharedFile, ...] = ()
    folder: str = ""
    is_locked: bool = False


@cache
def find_requirements() -> Requirements:
    """Return the source code and versions of this process.

    They are those of the first call, because a process that runs does not notice later changes.
    """
    package = Path(__file__).parents[1]
    folders = sorted(path.name for path in package.iterdir() if path.is_dir() and path.name != "__pycache__")
    versions = [("Python", platform.python_version())]
    for name in PACKAGES:
        try:
            versions.append((name, version(name)))
        except PackageNotFoundError:
            versions.append((name, ""))
    return Requirements(source_hash(*folders), tuple(versions))


def find_difference(expected: Requirements) -> str:
    """Return why this worker cannot work for a client; an empty string if it can.

    Args:
        expected: What the client requires.
    """
    present = find_requirements()
    for (name, wanted), (_, installed) in zip(expected.versions, present.versions, strict=True):
        if wanted != installed:
            return f"has {name} {installed or 'not installed'}, and this program {wanted or 'not'}"
    if present.source != expected.source:
        return "has other source code than this program; start it again with the same"
    for file in expected.files:
        try:
            is_same = os.path.getsize(file.path) == file.size
            is_same = is_same and (not file.content or Path(file.path).read_bytes() == file.content)
        except OSError as error:
            return f"does not see the files of this program: {describe_error(error)}"
        if not is_same:
            return f"sees another file: {file.path}"
    return check_folder(Path(expected.folder), expected.is_locked) if expected.folder else ""


def check_folder(folder: Path, is_locked: bool) -> str:
    """Return why this worker cannot use a shared folder; an empty string if it can.

    Args:
        folder: The folder.
        is_locked: Whether the client has locked it.
    """
    try:
        with atomic_path(folder / f".cluster-{platform.node()}-{os.getpid()}") as temporary:
            temporary.write_bytes(b"")
        temporary.with_name(f".cluster-{platform.node()}-{os.getpid()}").unlink()
        if is_locked:
            with open(folder / LOCK, "a") as file, suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return f"does not notice the lock of {folder}; mount it so that flock holds on all machines"
    except OSError as error:
        return f"cannot write to {folder}: {describe_error(error)}"
    return ""


@lru_cache(maxsize=8)
def accept_client(expected: Requirements) -> None:
    """Check once that this worker can work for a client.

    Args:
        expected: What the client requires.

    Raises:
        ClusterError: It cannot.
    """
    if reason := find_difference(expected):
        raise ClusterError(f"worker {get_worker().address} {reason}")
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let this process keep freed memory for its next arrays.

    Dask starts workers with MALLOC_TRIM_THRESHOLD_=65536, by which nearly every freed array goes back to the system.
    The next one is then mapped and cleared anew, so that reading a recording takes up to twice the processor's time.
    """
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in MALLOC_LIMITS.items():
            mallopt(parameter, value)


def run_chunk(payload: bytes, expected: Requirements) -> Reply:
    """Apply a function to some items in this worker.

    Args:
        payload: The pickled function and items.
        expected: What the client requires.
    """
    try:
        accept_client(expected)
        function, items = pickle.loads(payload)
        return Reply([function(item) for item in items])
    except Exception as error:  # noqa: BLE001 - raised again by the client
        return Reply.of_error(error)


class ProcessKilled(Exception):
    """The process of a call ended before the call returned.

    Its arguments are the reason and the address of the worker.
    """


def run_call(call: Call, expected: Requirements, environment: Mapping[str, str], topic: str) -> Reply:
    """Make a call in a process of its own, beside this worker.

    Args:
        call: The call.
        expected: What the client requires.
        environment: Values of ENVIRONMENT.
        topic: Name under which the client gets the log messages.

    Raises:
        ProcessKilled: The process ended before the call returned.
    """
    try:
        accept_client(expected)
    except ClusterError as error:
        return Reply.of_error(error)
    worker = get_worker()
    key = worker.get_current_task()

    def log(message: LogMessage) -> None:
        worker.log_event(topic, [key, worker.address, *message])

    log(LogMessage(logging.DEBUG, "begins"))
    variables = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    try:
        return Subprocess(call, variables | dict(environment)).result(log, lambda: is_wanted(worker, str(key)))
    except ChildProcessError as error:
        raise ProcessKilled(str(error), worker.address) from None


def is_wanted(worker: Worker, key: str) -> bool:
    """Return whether a task that a worker runs has not been cancelled."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state != "cancelled"
