"""Run functions in worker processes of this machine, over many items or once."""

import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import lru_cache
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from traceback import format_exc
from typing import Any, NamedTuple, TypeVar

from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky import get_reusable_executor, process_executor

from ecg.runtime.console import Progress, describe_error

LOGGER = logging.getLogger("ecg")

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 32  # units of work that a process takes at once
ROUND = 64  # chunks in progress before their results are yielded, which bounds the memory
WATCH_SECONDS = 1.0  # between two looks of a worker at whether its parent lives
# What a subprocess runs. It has the modules of its parent, and does not run the parent's main script again.
CHILD = "import sys; sys.path[:] = {path!r}; from ecg.runtime.processes import serve_call; serve_call({descriptor})"


class Chunk(NamedTuple):
    """Items that a process takes at once.

    Attributes:
        items: The items.
        size: Their units of work.
    """

    items: Sequence[Any]
    size: int


def make_chunks(items: Sequence[Item], sizes: Sequence[int] | None = None) -> list[Chunk]:
    """Split items into chunks of CHUNK units of work or a little more.

    Args:
        items: The items.
        sizes: Units of work of each item, such as its recordings; None: 1 each.
    """
    if sizes is None:
        parts = [items[first : first + CHUNK] for first in range(0, len(items), CHUNK)]
        return [Chunk(part, len(part)) for part in parts]
    chunks, first, size = [], 0, 0
    for end, units in enumerate(sizes, 1):
        size += units
        if size >= CHUNK or end == len(items):
            chunks.append(Chunk(items[first:end], size))
            first, size = end, 0
    return chunks


def parallel_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int | None,
    title: str,
    sizes: Sequence[int] | None = None,
) -> Generator[Result]:
    """Apply a function to items by several processes, and yield the results in order.

    Close an iteration that is not finished (contextlib.closing): that ends the processes. Ctrl-C reaches this process
    only.

    Args:
        function: Can be pickled.
        items: Its arguments.
        jobs: Number of processes; one a core if None.
        title: What the progress line calls the work.
        sizes: Units of work of each item; None: 1 each.
    """
    chunks = make_chunks(items, sizes)
    processes = min(jobs or cpu_count(), max(len(chunks), 1))
    with (
        Progress(title, sum(chunk.size for chunk in chunks)) as progress,
        Parallel(processes, return_as="generator", max_nbytes=None) as parallel,
        ExitStack() as on_exception,
    ):
        if processes > 1:  # joblib starts none for 1
            on_exception.push(_kill_workers)
        for first in range(0, len(chunks), ROUND):
            in_round = chunks[first : first + ROUND]
            work = (delayed(_apply_to_chunk)(function, chunk.items, os.getpid()) for chunk in in_round)
            done = None
            try:
                with block_interrupts() if processes > 1 else nullcontext():
                    done = parallel(work)
                for chunk, results in zip(in_round, done, strict=True):
                    yield from results
                    progress.advance(chunk.size)
            finally:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # about results of an unfinished iteration
                    if done is not None:
                        done.close()


def end_idle_workers() -> None:
    """End the processes of `parallel_map`, which otherwise wait for more work."""
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def allow_large_worker() -> None:
    """Let this worker process of `parallel_map` grow, such as by models that it keeps.

    joblib replaces a worker that has grown by 300 MB since its first task, without a public setting.
    """
    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize


def _kill_workers(error_type: type[BaseException] | None, *details: object) -> None:
    """Kill joblib's worker processes if an exception leaves a block.

    A worker that is still starting when this process ends would print a traceback about what it no longer finds.
    """
    if error_type is not None:
        end_idle_workers()


class RemoteTraceback(Exception):
    """The cause of an exception that another process raised: the traceback there."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Reply(NamedTuple):
    """What a call has returned or raised in another process.

    Attributes:
        value: What it returned.
        error: What it raised, or None.
        traceback: Where it raised this.
    """

    value: Any = None
    error: BaseException | None = None
    traceback: str = ""

    @classmethod
    def of_error(cls, error: BaseException) -> "Reply":
        """Return the reply for an exception that is being handled."""
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # noqa: BLE001 - an exception class may raise anything
            error = RuntimeError(describe_error(error))
        return cls(error=error, traceback=format_exc())

    def unwrap(self) -> Any:
        """Return the value, or raise the exception."""
        if self.error is not None:
            raise self.error from RemoteTraceback(self.traceback)
        return self.value


class LogMessage(NamedTuple):
    """A log message of another process."""

    level: int
    text: str


class Call(NamedTuple):
    """A call to make in another process.

    Attributes:
        prepare: Called there first.
        payload: The pickled function and arguments. Their modules are imported only after `prepare`.
    """

    prepare: Callable[[], object]
    payload: bytes

    @classmethod
    def pack(cls, prepare: Callable[[], object], function: Callable[..., object], *arguments: object) -> "Call":
        """Return the call of a function."""
        return cls(prepare, pickle.dumps((function, arguments)))

    def make(self) -> Reply:
        """Make the call in this process."""
        try:
            self.prepare()
            function, arguments = pickle.loads(self.payload)
            return Reply(function(*arguments))
        except Exception as error:  # noqa: BLE001 - raised again in the process that waits
            return Reply.of_error(error)


class Subprocess:
    """A call in a process of its own, which frees all of its memory at the end.

    Log messages of the call are logged here. Ctrl-C reaches this process only.
    """

    def __init__(self, call: Call, environment: Mapping[str, str] | None = None) -> None:
        """Start the process.

        Args:
            call: The call.
            environment: Environment variables of the process; those of this one if None.
        """
        self.connection, far_end = multiprocessing.Pipe()
        with far_end, block_interrupts():
            descriptor = far_end.fileno()
            command = [sys.executable, "-c", CHILD.format(path=sys.path, descriptor=descriptor)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[descriptor], env=environment)
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended, which `result` reports
            self.connection.send((os.getpid(), call))

    def result(
        self, log: Callable[[LogMessage], None] | None = None, is_wanted: Callable[[], bool] = lambda: True
    ) -> Reply:
        """Wait for the end of the call.

        Any exception here kills the process.

        Args:
            log: Gets the log messages; None: they are logged here.
            is_wanted: Asked every second. The process is killed when the result is no longer wanted.

        Raises:
            ChildProcessError: The process ended before it returned anything, or the result is no longer wanted.
        """
        log = log or (lambda message: LOGGER.log(*message))
        try:
            while True:
                while not self.connection.poll(WATCH_SECONDS):
                    if not is_wanted():
                        raise ChildProcessError("its result is no longer wanted")
                received = self.connection.recv()
                if isinstance(received, Reply):
                    return received
                log(received)
        except (EOFError, ConnectionResetError):
            raise ChildProcessError("its process was killed, perhaps because the memory is too small, or it did not "
                                    "start for the reason above") from None  # fmt: skip
        finally:
            self.kill()  # it has nothing left to do

    def kill(self) -> None:
        """Kill the process, if it still runs, and wait for its end."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


def run_in_subprocess(function: Callable[..., Result], *arguments: object, prepare: Callable[[], object]) -> Result:
    """Call a function in a subprocess, which frees all of its memory at the end.

    Exceptions of the function are raised here, and its log messages are logged here. Ctrl-C reaches this process only,
    and any exception here ends the subprocess.

    Args:
        function: Can be pickled.
        *arguments: Its arguments.
        prepare: Called there first, before the module of the function is imported.

    Raises:
        ChildProcessError: The subprocess ended before it returned anything.
    """
    return Subprocess(Call.pack(prepare, function, *arguments)).result().unwrap()


def serve_call(descriptor: int) -> None:
    """Make the one call that the parent of this process sends.

    Args:
        descriptor: File descriptor of the connection to the parent.
    """
    with Connection(descriptor) as connection:
        handler = ForwardingHandler(connection)
        LOGGER.handlers, LOGGER.propagate = [handler], False
        LOGGER.setLevel(logging.INFO)
        parent, call = connection.recv()
        _end_with(parent)
        handler.send(call.make())


class ForwardingHandler(logging.Handler):
    """Sends log messages to the parent of this process."""

    def __init__(self, connection: Connection) -> None:
        """Send through a connection."""
        super().__init__()
        self.connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        """Send the message of a record."""
        self.connection.send(LogMessage(record.levelno, self.format(record)))

    def send(self, reply: Reply) -> None:
        """Send the reply, or why it cannot be sent."""
        with self.lock or nullcontext():
            try:
                self.connection.send(reply)
            except (TypeError, AttributeError, pickle.PicklingError) as error:
                self.connection.send(Reply.of_error(error))


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Block SIGINT for this thread and for what it starts in the block.

    Processes and threads inherit the mask, so that Ctrl-C, which a terminal sends to all of them, ends none of them
    with a traceback. A signal that comes meanwhile is delivered here after the block. Another thread may receive it
    nevertheless, and Python would then raise KeyboardInterrupt here, so the handler is replaced, too.
    """
    resource_tracker.ensure_running()  # it would unblock the signal when the first process is started
    received: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    is_replaced = callable(handler) and threading.current_thread() is threading.main_thread()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if is_replaced:
        signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        if is_replaced:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if received:
            signal.raise_signal(signal.SIGINT)


def _apply_to_chunk(function: Callable[[Item], Result], items: Sequence[Item], parent: int) -> list[Result]:
    _end_with(parent)
    return [function(item) for item in items]


@lru_cache(maxsize=1)
def _end_with(parent: int) -> None:
    """End this worker process soon after its parent has ended.

    Otherwise it would wait for ever to deliver its results: it holds the other end of its pipe itself. Only processes
    that this module starts end so; workers of a cluster, which others start, stay alive.
    """
    if os.getpid() != parent:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)
