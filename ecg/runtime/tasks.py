"""Run many tasks of an executor, as many at a time as it has slots."""

import io
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, redirect_stderr
from itertools import islice
from typing import TypeVar

from ecg.runtime.executors import Executor, StartedTask

LOGGER = logging.getLogger("ecg")

Job = TypeVar("Job")
Result = TypeVar("Result")

MOST_TASKS = 4096  # at the same time
LOOK_SECONDS = 5.0  # between two looks at whether there are more slots


def run_tasks(
    executor: Executor, start: Callable[[Job], StartedTask[Result]], jobs: Iterable[Job]
) -> Generator[tuple[Job, Callable[[], Result]]]:
    """Start a task for each job, and yield the jobs in the order of their ends.

    Close an iteration that is not finished (contextlib.closing): that cancels its tasks.

    Args:
        executor: Runs the tasks.
        start: Starts the task of a job with the executor.
        jobs: The jobs. The next one is taken when a slot is free, and not earlier.

    Yields:
        A job, and a function that returns the result of its task, or raises its exception.
    """
    waiting = iter(jobs)
    running: dict[Future[Result], tuple[Job, StartedTask[Result]]] = {}
    with ThreadPoolExecutor(MOST_TASKS) as threads:
        try:
            while True:
                for job in islice(waiting, max(executor.n_slots - len(running), 0)):
                    task = start(job)
                    running[threads.submit(task.result)] = job, task
                if not running:
                    return
                ended, _ = wait(running, LOOK_SECONDS, FIRST_COMPLETED)
                for future in ended:
                    job, _ = running.pop(future)
                    yield job, future.result
        finally:
            for _, task in running.values():
                task.cancel()


class LineLogger(io.TextIOBase):
    """A text stream that logs what is written to it, line by line."""

    def __init__(self) -> None:
        super().__init__()
        self._rest = ""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Log the lines that are complete now."""
        *lines, self._rest = f"{self._rest}{text}".split("\n")
        for line in filter(str.strip, lines):
            LOGGER.info(line)
        return len(text)


@contextmanager
def log_progress() -> Iterator[None]:
    """Log the lines about progress in the block, and other lines to standard error.

    The log of a task reaches its client, unlike the standard error of the worker.
    """
    with redirect_stderr(LineLogger()):
        yield
