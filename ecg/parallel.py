"""Work by other processes: on many recordings at once, in order and in bounded memory, or on one thing alone."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing import resource_tracker

from joblib import Parallel, cpu_count, delayed

from ecg.progress import Progress

CHUNK = 32  # recordings that a process takes at once
LOOK = 1.0  # s between two looks of a helper at whether it is still wanted
ROUND = 64  # chunks under way before all of them are handed over, which bounds the memory


def each(function, items, jobs, title):
    """Yield what a function makes of each item, in their order, by `jobs` processes, one a core where None.

    `title` is what the progress is of. An iteration that is not finished is to be closed (contextlib.closing), which
    ends the processes. Ctrl-C reaches this process alone.
    """
    chunks = [items[first : first + CHUNK] for first in range(0, len(items), CHUNK)]
    with (
        Progress(title, len(items)) as progress,
        Parallel(min(jobs or cpu_count(), max(len(chunks), 1)), return_as="generator", max_nbytes=None) as parallel,
    ):
        for first in range(0, len(chunks), ROUND):
            work = (delayed(_all)(function, chunk, os.getpid()) for chunk in chunks[first : first + ROUND])
            with without_interrupts():
                done = parallel(work)
            for results in done:
                yield from results
                progress.advance(len(results))


def apart(function, *arguments, prepare):
    """Return what a function makes of its arguments in a process of its own, whose memory ends with it.

    `prepare` is called there before anything that the function needs is imported. What is raised there is raised here,
    and ChildProcessError where the process ends before it has returned anything. Ctrl-C reaches this process alone,
    and whatever exception leaves meanwhile, the other process ends with it.
    """
    # What is to do one task alone is spawned and not forked, by the documentation of max_tasks_per_child. A fork of a
    # process whose libraries have threads, as Keras' have, may wait for ever for what one of them held.
    future, earlier = None, set(multiprocessing.active_children())
    with ProcessPoolExecutor(1, initializer=prepare, max_tasks_per_child=1) as processes:
        try:
            with without_interrupts():
                future = processes.submit(_alone, function, arguments, os.getpid())
            return future.result()
        except BrokenProcessPool:
            raise ChildProcessError("its process was ended, as by the system where the memory is too small, or did not "
                                    "begin, for which there is a reason above") from None  # fmt: skip
        finally:
            if future is None or not future.done():  # an interruption; to wait for its end may take hours
                for process in set(multiprocessing.active_children()) - earlier:
                    process.kill()


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Block SIGINT in the block, for this thread and for the processes and threads that are started there.

    These inherit that for as long as they live, so that Ctrl-C, which a terminal sends to all of them, ends none of
    them with a traceback of its own. What came meanwhile is delivered here after the block.
    """
    resource_tracker.ensure_running()  # it would unblock the signal when the first process is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _alone(function, arguments, parent):
    _end_with(parent)
    return function(*arguments)


def _all(function, items, parent):
    _end_with(parent)
    return [function(item) for item in items]


@lru_cache(maxsize=1)
def _end_with(parent):
    """End this process, if it is another's helper, soon after that one has ended, however that has come.

    A helper whose results nobody takes waits for ever: it holds the other end of its pipe itself.
    """
    if os.getpid() != parent:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent):
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)
