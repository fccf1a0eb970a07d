"""Give tasks to the prediction subprocess: urgent ones first, others meanwhile."""

import heapq
import itertools
import logging
import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ecg.runtime.processes import block_interrupts
from ecg.web.changes import ModelChanged, ModelWatch
from ecg.web.prediction_worker import TASK_SECONDS, TaskError, run_worker
from ecg.web.predictions import RecordPrediction

LOGGER = logging.getLogger("ecg")

MOST_WAITING = 600  # urgent tasks
# The smallest comes first: what the page of a recording shows at once, then evidence, then what programs send.
PRIORITIES = {"describe_model": 0, "predict_record": 0, "explain_record": 1}
LAST_PRIORITY = 2  # of other tasks
NEWEST_FIRST = ("explain_record",)  # the user who asked for the others may have gone on
START_SECONDS = 300.0  # until Keras is loaded
BACKGROUND_SECONDS = 3600.0  # of a recording of two days
PATIENCE_SECONDS = 5.0  # that an urgent task waits for a background one
POLL_SECONDS = 0.5  # between two looks at what waits
CLOSE_SECONDS = 0.2  # between two looks at whether all has ended
RESTART_SECONDS = 2.0  # between two starts of the subprocess
ENDED = "the prediction process ended, perhaps because the memory is too small"


class BusyError(Exception):
    """Too many tasks wait."""


class WorkerEnded(Exception):
    """The subprocess ended before it had done a task."""


class TimeLimitError(Exception):
    """A task took too long; the message says how long it may take."""


class InterruptedTask(Exception):
    """A background task gave way to an urgent one."""


class Task(NamedTuple):
    """A task of the subprocess; the smallest one comes first.

    Attributes:
        priority: Its priority, one of PRIORITIES or LAST_PRIORITY.
        order: Its order among tasks of this priority, a different number for each task.
        name: Name of a method of WorkerState.
        arguments: Its arguments.
        future: Takes the result.
    """

    priority: int
    order: int
    name: str
    arguments: tuple
    future: Future[Any]


class BackgroundTask(NamedTuple):
    """A recording to predict while no urgent task waits.

    Attributes:
        path: Path of its header.
        store: Takes the prediction.
        fail: Takes the reason why there is none.
        postpone: Is called if urgent tasks interrupted it.
    """

    path: Path
    store: Callable[[RecordPrediction], None]
    fail: Callable[[str], None]
    postpone: Callable[[], None]


class Predictor:
    """A subprocess that does one task at a time.

    Attributes:
        model: Folder of the model.
        watch: Notices if the model is replaced; then nothing is predicted any more.
        find_background_task: Returns what to predict next, or None if there is nothing to do. It is called whenever no
            urgent task waits.
    """

    def __init__(self, model: Path) -> None:
        self.model, self.watch = model, ModelWatch(model)
        self.find_background_task: Callable[[], BackgroundTask | None] = lambda: None
        self._waiting: list[Task] = []  # a heap
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._process: Any = None
        self._connection: Any = None
        self._is_ready = False
        self._last_start = -RESTART_SECONDS
        self._thread = threading.Thread(target=self._work, name="predictor", daemon=True)

    def start(self) -> None:
        """Start the subprocess, and the thread that gives it tasks."""
        self._start_process()
        self._thread.start()

    def close(self) -> None:
        """End both; tasks that wait are cancelled."""
        with self._changed:
            self._closed, waiting = True, self._waiting
            self._waiting = []
            self._changed.notify_all()
        for task in waiting:  # without the lock, for which the callback of a future could wait
            task.future.cancel()
        while self._thread.is_alive():  # it may be starting a process
            if self._process is not None:
                self._process.kill()
            self._thread.join(CLOSE_SECONDS)
        self._kill()

    def submit(self, name: str, *arguments: object) -> Future[Any]:
        """Queue an urgent task; cancel its future to take it back.

        Args:
            name: Name of a method of WorkerState.
            *arguments: Its arguments.

        Returns:
            Its result, or TaskError, TimeLimitError, WorkerEnded or ModelChanged.

        Raises:
            BusyError: Too many tasks wait.
        """
        with self._changed:
            self._forget_cancelled()
            if len(self._waiting) >= MOST_WAITING or self._closed:
                raise BusyError(f"{len(self._waiting):,} predictions wait; try again later")
            number = next(self._numbers)
            order = -number if name in NEWEST_FIRST else number
            task = Task(PRIORITIES.get(name, LAST_PRIORITY), order, name, arguments, Future())
            heapq.heappush(self._waiting, task)
            self._changed.notify_all()
        return task.future

    def _forget_cancelled(self) -> None:
        self._waiting = [task for task in self._waiting if not task.future.cancelled()]
        heapq.heapify(self._waiting)

    def wake(self) -> None:
        """Look for a background task again."""
        with self._changed:
            self._changed.notify_all()

    def _work(self) -> None:
        """Do tasks until the end; the body of the thread."""
        while not self._closed:
            with self._changed:
                task = heapq.heappop(self._waiting) if self._waiting else None
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
        except (TaskError, TimeLimitError, WorkerEnded, ModelChanged) as error:
            task.future.set_exception(error)

    def _run_background(self) -> bool:
        """Predict the next recording; return whether there was one."""
        task = None if self.watch.has_changed else self.find_background_task()
        if task is None:
            return False
        for attempt in range(2):  # the end of the process may have had another cause
            try:
                task.store(self._call("predict_record", (task.path,), BACKGROUND_SECONDS, gives_way=True))
                return True
            except InterruptedTask:
                task.postpone()
                return True
            except (TaskError, TimeLimitError) as error:
                task.fail(str(error))
                return True
            except ModelChanged:
                return False
            except WorkerEnded as error:
                if self._closed:
                    return True
                if attempt:
                    task.fail(str(error))
        return True

    def _call(self, name: str, arguments: tuple, seconds: float, gives_way: bool = False) -> Any:
        """Do a task in the subprocess, which is started again if it ended.

        Args:
            name: Name of a method of WorkerState.
            arguments: Its arguments.
            seconds: How long it may take.
            gives_way: Whether it is interrupted if an urgent task waits.

        Raises:
            TaskError: The task failed.
            TimeLimitError: It took too long.
            InterruptedTask: It gave way.
            WorkerEnded: The subprocess ended.
            ModelChanged: The model is not that of the start, or was replaced meanwhile.
        """
        self.watch.check()
        try:
            if self._process is None or not self._process.is_alive():
                self._start_process()
            if self._closed:
                raise EOFError
            if not self._is_ready:
                self._receive(START_SECONDS, gives_way=False)
                self._is_ready = True
            self._connection.send((name, arguments))
            succeeded, result = self._receive(seconds, gives_way)
        except (EOFError, OSError, pickle.PickleError) as error:
            self._kill()
            raise WorkerEnded("the server stops" if self._closed else ENDED) from error
        self.watch.check()
        if not succeeded:
            raise result
        return result

    def _receive(self, seconds: float, gives_way: bool) -> Any:
        """Receive what the subprocess sends next, or end the subprocess; see `_call`."""
        end, patience_end = time.monotonic() + seconds, None
        while not self._connection.poll(min(max(end - time.monotonic(), 0), POLL_SECONDS)):
            now = time.monotonic()
            if now >= end:
                self._kill()
                raise TimeLimitError(f"it took more than {seconds:g} s")
            if gives_way and self._has_urgent_task():
                patience_end = patience_end or now + PATIENCE_SECONDS
                if now >= patience_end:
                    self._kill()
                    raise InterruptedTask
            else:
                patience_end = None
        return self._connection.recv()

    def _has_urgent_task(self) -> bool:
        with self._changed:
            return any(not task.future.cancelled() for task in self._waiting)

    def _start_process(self) -> None:
        """Start the subprocess. A new process is spawned: a fork could deadlock."""
        time.sleep(max(self._last_start + RESTART_SECONDS - time.monotonic(), 0))
        self._last_start, self._is_ready = time.monotonic(), False
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
