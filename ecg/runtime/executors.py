"""Where functions run: on this machine, or by the workers of a cluster."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ecg.runtime.limits import check_limits
from ecg.runtime.processes import Call, Reply, Subprocess, parallel_map, run_in_subprocess

Item = TypeVar("Item")
Result = TypeVar("Result")
Outcome = TypeVar("Outcome", covariant=True)


class ClusterError(ConnectionError):
    """The cluster cannot be reached or used. The message says why."""


class StartedTask(Protocol[Outcome]):
    """A call that an executor has started."""

    @property
    def where(self) -> str:
        """What makes the call, such as the address of a worker.

        It is an empty string until the call begins.
        """

    def result(self) -> Outcome:
        """Wait for the end of the call, and return its result.

        Raises:
            ChildProcessError: The process of the call ended before it returned anything.
            ClusterError: The cluster is lost.
            Exception: What the call raised.
        """

    def cancel(self) -> None:
        """End the call, if it has not ended yet."""


class Executor(Protocol):
    """Runs functions elsewhere. Callers need not know where.

    Functions and arguments can be pickled. They name files by paths that are valid on all machines, and their results
    are small: large ones are written to files.
    """

    @property
    def is_local(self) -> bool:
        """Whether this machine does all work, so that this process may as well do it."""

    @property
    def n_slots(self) -> int:
        """How many started tasks run at the same time; others wait."""

    @property
    def jobs(self) -> int | None:
        """Number of processes that one task should use on its machine; None: one per core."""

    def map(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        title: str,
        sizes: Sequence[int] | None = None,
    ) -> Generator[Result]:
        """Apply a function to items by several processes, and yield the results in order.

        Close an iteration that is not finished (contextlib.closing): that ends the work.

        Args:
            function: The function; its exceptions are raised here.
            items: Its arguments.
            title: What the progress line calls the work.
            sizes: Units of work of each item, such as its recordings, for the progress line; None: 1 each. Small items
                are sent together.

        Raises:
            ChildProcessError: An item has ended its process again and again.
            ClusterError: The cluster is lost.
        """

    def run(self, function: Callable[..., Result], *arguments: object, prepare: Callable[[], object]) -> Result:
        """Call a function in a process of its own.

        All of its memory is free at the end. Exceptions of the function are raised here, and its log messages are
        logged here.

        Args:
            function: The function.
            *arguments: Its arguments.
            prepare: Called there first, before the module of the function is imported.

        Raises:
            ChildProcessError: See `StartedTask.result`.
            ClusterError: The cluster is lost.
        """

    def start(
        self,
        function: Callable[..., Result],
        *arguments: object,
        prepare: Callable[[], object],
        slots: int = 1,
        progress: Callable[[], object] = int,
    ) -> StartedTask[Result]:
        """Start a call like that of `run`, and do not wait for its end.

        Cancel the task if its result is no longer needed.

        Args:
            function: The function.
            *arguments: Its arguments.
            prepare: Called there first, before the module of the function is imported.
            slots: Number of slots that the call needs, of `n_slots`.
            progress: Returns how far the call is by what it has saved, from which it goes on if it begins again. A
                cluster repeats a call whose process is killed as long as this changes, otherwise at most three times.
        """

    def check_shared(self, folder: Path | None = None, files: Sequence[Path] = ()) -> None:
        """Check that all machines see the same files.

        Args:
            folder: A folder in which all machines write. A lock on it (`ecg.runtime.locks.lock_folder`) must be known
                to all of them. None: they write nothing.
            files: Files that all machines read.

        Raises:
            ClusterError: A machine does not. The message names it.
        """


class LocalTask(Generic[Result]):
    """A call in a process of its own on this machine.

    It begins when an earlier task has ended.
    """

    def __init__(self, call: Call, earlier: "LocalTask | None") -> None:
        """Begin the call, or let it wait.

        Args:
            call: The call.
            earlier: The task to wait for; None: there is none.
        """
        self.call = call
        self.earlier = earlier
        self.process: Subprocess | None = None
        self.reply: Reply | None = None
        if earlier is None or earlier.has_ended():
            self.begin()

    @property
    def where(self) -> str:
        """What makes the call; an empty string until it begins."""
        return "" if self.process is None else "this machine"

    def has_ended(self) -> bool:
        """Return whether this task and all earlier ones have ended."""
        return self.reply is not None and (self.earlier is None or self.earlier.has_ended())

    def begin(self) -> Subprocess:
        """Start the process, unless it has been started."""
        if self.process is None:
            self.process = Subprocess(self.call)
        return self.process

    def wait(self) -> Reply:
        """Wait for the end of the call."""
        if self.reply is None:
            self.wait_for_earlier()
            try:
                self.reply = self.begin().result()
            except ChildProcessError as error:
                self.reply = Reply(error=error)
        return self.reply

    def wait_for_earlier(self) -> None:
        """Wait for the end of all earlier tasks."""
        if self.earlier is not None:
            self.earlier.wait_for_earlier()
            self.earlier.wait()
            self.earlier = None

    def result(self) -> Result:
        """Wait for the end of the call, and return its result; see `StartedTask.result`."""
        return self.wait().unwrap()

    def cancel(self) -> None:
        """End the call, if it has not ended yet."""
        if self.reply is None:
            self.reply = Reply(error=ChildProcessError("it was cancelled"))
            if self.process is not None:
                self.process.kill()


@dataclass(unsafe_hash=True)  # only `jobs` counts, which stays the same
class LocalExecutor:
    """Runs functions in processes of this machine.

    Attributes:
        jobs: Number of processes that apply functions to items; None: one per core.

    Raises:
        ValueError: The number is out of range.
    """

    jobs: int | None = None
    is_local: bool = field(default=True, init=False)
    n_slots: int = field(default=1, init=False)
    last_task: LocalTask | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_limits(jobs=self.jobs)

    def map(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        title: str,
        sizes: Sequence[int] | None = None,
    ) -> Generator[Result]:
        """Apply a function to items by several processes; see `Executor.map`."""
        return parallel_map(function, items, self.jobs, title, sizes)

    def run(self, function: Callable[..., Result], *arguments: object, prepare: Callable[[], object]) -> Result:
        """Call a function in a process of its own; see `Executor.run`."""
        return run_in_subprocess(function, *arguments, prepare=prepare)

    def start(
        self,
        function: Callable[..., Result],
        *arguments: object,
        prepare: Callable[[], object],
        slots: int = 1,
        progress: Callable[[], object] = int,
    ) -> LocalTask[Result]:
        """Start a call; one runs at a time. See `Executor.start`."""
        self.last_task = task = LocalTask[Result](Call.pack(prepare, function, *arguments), self.last_task)
        return task

    def check_shared(self, folder: Path | None = None, files: Sequence[Path] = ()) -> None:
        """Do nothing: there is one machine."""

    def close(self) -> None:
        """End all tasks that have not ended yet."""
        task, self.last_task = self.last_task, None
        while task is not None:
            task.cancel()
            task = task.earlier


ALL_CORES = LocalExecutor()
ONE_PROCESS = LocalExecutor(1)


@contextmanager
def open_executor(jobs: int | None = None, cluster: str | None = None) -> Iterator[Executor]:
    """Open the executor that a user has chosen.

    All its work ends with the block.

    Args:
        jobs: Number of processes on this machine; None: one per core.
        cluster: Address of the scheduler of a cluster; None: this machine does the work.

    Raises:
        ClusterError: The cluster cannot be reached, or has no worker, or a worker differs from this program.
    """
    if cluster is None:
        local = LocalExecutor(jobs)
        try:
            yield local
        finally:
            local.close()
        return
    try:
        from ecg.runtime.cluster import open_cluster
    except ModuleNotFoundError as error:
        command = "pip install 'reduced-lead-ecg[distributed]'"
        raise ClusterError(f"--cluster needs {error.name}, which is missing: {command}") from None
    with open_cluster(cluster) as executor:
        yield executor
