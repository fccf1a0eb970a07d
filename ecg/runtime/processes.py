"""Run functions in worker processes, over many items or once."""

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, nullcontext
from functools import lru_cache
from multiprocessing import resource_tracker
from typing import TypeVar

from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky import get_reusable_executor

from ecg.runtime.console import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 32  # items that a process takes at once
ROUND = 64  # chunks in progress before their results are yielded, which bounds the memory
WATCH_SECONDS = 1.0  # between two looks of a worker at whether its parent lives


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int | None, title: str
) -> Generator[Result]:
    """Apply a function to items by several processes, and yield the results in order.

    Close an iteration that is not finished (contextlib.closing): that ends the processes. Ctrl-C reaches this process
    only.

    Args:
        function: Can be pickled.
        items: Its arguments.
        jobs: Number of processes; one a core if None.
        title: What the progress line calls the work.
    """
    chunks = [items[first : first + CHUNK] for first in range(0, len(items), CHUNK)]
    processes = min(jobs or cpu_count(), max(len(chunks), 1))
    with (
        Progress(title, len(items)) as progress,
        Parallel(processes, return_as="generator", max_nbytes=None) as parallel,
        ExitStack() as on_exception,
    ):
        if processes > 1:  # joblib starts none for 1
            on_exception.push(_kill_workers)
        for first in range(0, len(chunks), ROUND):
            work = (delayed(_apply_to_chunk)(function, chunk, os.getpid()) for chunk in chunks[first : first + ROUND])
            done = None
            try:
                with block_interrupts() if processes > 1 else nullcontext():
                    done = parallel(work)
                for results in done:
                    yield from results
                    progress.advance(len(results))
            finally:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # about results of an unfinished iteration
                    if done is not None:
                        done.close()


def end_idle_workers() -> None:
    """End the processes of `parallel_map`, which otherwise wait for more work."""
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _kill_workers(error_type: type[BaseException] | None, *details: object) -> None:
    """Kill joblib's worker processes if an exception leaves a block.

    A worker that is still starting when this process ends would print a traceback about what it no longer finds.
    """
    if error_type is not None:
        end_idle_workers()


def run_in_subprocess(function: Callable[..., Result], *arguments: object, prepare: Callable[[], object]) -> Result:
    """Call a function in a subprocess, which frees all of its memory at the end.

    Exceptions of the function are raised here. Ctrl-C reaches this process only, and any exception here ends the
    subprocess.

    Args:
        function: Can be pickled.
        *arguments: Its arguments.
        prepare: Called there first, before the module of the function is imported.

    Raises:
        ChildProcessError: The subprocess ended before it returned anything.
    """
    # max_tasks_per_child makes the pool spawn instead of fork. A fork of a multi-threaded Keras process can deadlock.
    future, earlier = None, set(multiprocessing.active_children())
    with ProcessPoolExecutor(1, initializer=prepare, max_tasks_per_child=1) as processes:
        try:
            with block_interrupts():
                future = processes.submit(_apply, function, arguments, os.getpid())
            return future.result()
        except BrokenProcessPool:
            raise ChildProcessError("its process was killed, perhaps because the memory is too small, or it did not "
                                    "start for the reason above") from None  # fmt: skip
        finally:
            if future is None or not future.done():  # interrupted, and its end may take hours
                for process in set(multiprocessing.active_children()) - earlier:
                    process.kill()


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


def _apply(function: Callable[..., Result], arguments: tuple, parent: int) -> Result:
    _end_with(parent)
    return function(*arguments)


def _apply_to_chunk(function: Callable[[Item], Result], items: Sequence[Item], parent: int) -> list[Result]:
    _end_with(parent)
    return [function(item) for item in items]


@lru_cache(maxsize=1)
def _end_with(parent: int) -> None:
    """End this worker process soon after its parent has ended.

    Otherwise it would wait for ever to deliver its results: it holds the other end of its pipe itself.
    """
    if os.getpid() != parent:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)
