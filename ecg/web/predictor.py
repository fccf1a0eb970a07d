"""Give tasks to the prediction subprocess: urgent ones first, others meanwhile."""

import logging
import multiprocessing
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ecg.runtime.processes import block_interrupts
from ecg.web.prediction_worker import TaskError, run_worker

LOGGER = logging.getLogger("ecg")

MOST_WAITING = 600  # urgent tasks
TASK_SECONDS = 120.0  # of an urgent task; Keras may have to start first
BACKGROUND_SECONDS = 3600.0  # of a recording of two days
CLOSE_SECONDS = 0.2  # between two looks at whether all has ended
RESTART_SECONDS = 2.0  # between two starts of the subprocess
ENDED = "the prediction process ended, perhaps because the memory is too small"


class BusyError(Exception):
    """Too many tasks wait."""


class WorkerEnded(Exception):
    """The subprocess ended, or was killed for taking too long; the message says which."""


class Task(NamedTuple):
    """A task of the subprocess.

    Attributes:
        name: Name of a method of WorkerState.
        arguments: Its arguments.
        future: Takes the result.
    """

    name: str
    arguments: tuple
    future: Future[Any]


class Predictor:
    """A subprocess that does one task at a time.

    Attributes:
        model: Folder of the model.
        find_background_task: Returns the path of a header to predict next and a function that takes the prediction, or
            None if there is nothing to do. It is called whenever no urgent task waits.
    """

    def __init__(self, model: Path) -> None:
        self.model = model
        self.find_background_task: Callable[[], tuple[Path, Callable[[Any], None]] | None] = lambda: None
        self._waiting: deque[Task] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._process: Any = None
        self._connection: Any = None
        self._last_start = -RESTART_SECONDS
        self._thread = threading.Thread(target=self._work, name="predictor", daemon=True)

    def start(self) -> None:
        """Start the subprocess, and the thread that gives it tasks."""
        self._start_process()
        self._thread.start()

    def close(self) -> None:
        """End both; tasks that wait are cancelled."""
        with self._changed:
            self._closed = True
            for task in self._waiting:
                task.future.cancel()
            self._waiting.clear()
            self._changed.notify_all()
        while self._thread.is_alive():  # it may be starting a process
            if self._process is not None:
                self._process.kill()
            self._thread.join(CLOSE_SECONDS)
        self._kill()

    def submit(self, name: str, *arguments: object) -> Future[Any]:
        """Queue an urgent task.

        Args:
            name: Name of a method of WorkerState.
            *arguments: Its arguments.

        Returns:
            Its result, or TaskError, or WorkerEnded.

        Raises:
            BusyError: Too many tasks wait.
        """
        with self._changed:
            if len(self._waiting) >= MOST_WAITING or self._closed:
                raise BusyError(f"{len(self._waiting):,} predictions wait; try again later")
            task = Task(name, arguments, Future())
            self._waiting.append(task)
            self._changed.notify_all()
        return task.future

    def wake(self) -> None:
        """Look for a background task again."""
        with self._changed:
            self._changed.notify_all()

    def _work(self) -> None:
        """Do tasks until the end; the body of the thread."""
        while not self._closed:
            with self._changed:
                task = self._waiting.popleft() if self._waiting else None
            if task is not None:
                if task.future.set_running_or_notify_cancel():
                    self._run_urgent(task)
            elif not self._run_background():
                with self._changed:
                    if not self._waiting and not self._closed:
                        self._changed.wait(timeout=60)

    def _run_urgent(self, task: Task) -> None:
        try:
            task.future.set_result(self._call(task.name, task.arguments, TASK_SECONDS))
        except (TaskError, WorkerEnded) as error:
            task.future.set_exception(error)

    def _run_background(self) -> bool:
        """Predict the next recording; return whether there was one."""
        task = self.find_background_task()
        if task is None:
            return False
        path, store = task
        for attempt in range(2):  # the fault may have been that of another task
            try:
                store(self._call("predict_record", (path,), BACKGROUND_SECONDS))
                return True
            except (TaskError, WorkerEnded) as error:
                if self._closed:
                    return True
                if attempt:
                    store(str(error))
        return True

    def _call(self, name: str, arguments: tuple, seconds: float) -> Any:
        """Do a task in the subprocess, which is started again if it ended.

        Raises:
            TaskError: The task failed.
            WorkerEnded: The subprocess ended or took too long.
        """
        try:
            if self._process is None or not self._process.is_alive():
                self._start_process()
            if self._closed:
                raise EOFError
            self._connection.send((name, arguments))
            if not self._connection.poll(seconds):
                self._kill()
                raise WorkerEnded(f"it took more than {seconds:g} s")
            succeeded, result = self._connection.recv()
        except (EOFError, OSError, pickle.PickleError) as error:
            self._kill()
            raise WorkerEnded("the server stops" if self._closed else ENDED) from error
        if not succeeded:
            raise TaskError(result)
        return result

    def _start_process(self) -> None:
        """Start the subprocess. A new process is spawned: a fork could deadlock."""
        time.sleep(max(self._last_start + RESTART_SECONDS - time.monotonic(), 0))
        self._last_start = time.monotonic()
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        process = context.Process(target=run_worker, args=(other_end, self.model), daemon=True)
        with block_interrupts():
            process.start()
        other_end.close()  # so that its end is noticed
        self._process = process

    def _kill(self) -> None:
        """End the subprocess, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()
            with suppress(OSError):
                self._connection.close()
