"""Run functions by the workers of a Dask cluster.

This module is imported only if a cluster is used.
"""

import logging
import os
import pickle
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Generic, TypeVar

from distributed import Client, Future, wait
from distributed.client import FutureCancelledError, FuturesCancelledError
from distributed.scheduler import KilledWorker

from ecg.runtime.cluster_worker import (
    ENVIRONMENT,
    ProcessKilled,
    SharedFile,
    find_difference,
    find_requirements,
    run_call,
    run_chunk,
)
from ecg.runtime.console import Progress, describe_error
from ecg.runtime.executors import ClusterError
from ecg.runtime.files import atomic_path
from ecg.runtime.locks import LOCK
from ecg.runtime.processes import ROUND, Call, Chunk, make_chunks

LOGGER = logging.getLogger("ecg")

Item = TypeVar("Item")
Result = TypeVar("Result")

START_SECONDS = 30  # to wait for the scheduler, and then for the first worker
WATCH_SECONDS = 1.0  # between two looks at whether workers are left
LONGEST_WITHOUT_WORKER = 25.0  # seconds; Dask starts a killed worker again within a few
MOST_TRIES = 3  # of a call whose process is killed
RESOURCES = ("GPU", "SLOT")  # what a worker may offer for started calls, in the order of preference
AGAIN = "run the same command again to go on"
LOST = (FutureCancelledError, FuturesCancelledError)  # by which a lost scheduler shows


class ClusterTask(Generic[Result]):
    """A call that a worker makes in a process of its own.

    If that process is killed, the call is made again, by another worker if there is one, at most MOST_TRIES times
    without progress.
    """

    def __init__(self, executor: "ClusterExecutor", call: Call, slots: int, progress: Callable[[], object]) -> None:
        """Send the call to the cluster.

        Args:
            executor: The cluster.
            call: The call.
            slots: Number of slots that it needs.
            progress: Returns how far the call is; see `Executor.start`.
        """
        self.executor = executor
        self.call = call
        self.slots = slots
        self.progress = progress
        self.reached = progress()
        self.is_cancelled = False
        self.where = ""
        self.tried: list[str] = []  # addresses of the workers whose process was killed since the last progress
        self.reason = ""
        self.failed: list[Future] = []
        self.lock = threading.Lock()
        self.future = self.submit()

    def submit(self) -> Future:
        """Send the call to the cluster once more."""
        future = self.executor.submit_call(self)
        future.add_done_callback(self.try_again)
        return future

    def try_again(self, future: Future) -> None:
        """Send the call again if its process or its workers were killed.

        Args:
            future: What Dask has ended.
        """
        error = future.exception() if future.status == "error" else None
        if not isinstance(error, ProcessKilled | KilledWorker):
            return
        with self.lock:
            if future in self.failed or self.is_cancelled:
                return  # another thread was first
            reached = self.progress()
            self.failed.append(future)
            has_progressed, self.reached = reached != self.reached, reached
            if has_progressed:
                self.tried.clear()
            if isinstance(error, ProcessKilled):
                self.reason, address = error.args
            elif has_progressed:
                address = error.last_worker.address
            else:
                return  # Dask has tried it often enough
            self.tried.append(address)
            if len(self.tried) < MOST_TRIES:
                LOGGER.warning(f"{address}: a process was killed; its work begins again at the last whole epoch")
                self.future = self.submit()

    def result(self) -> Result:
        """Wait for the end of the call, and return its result; see `StartedTask.result`."""
        while True:
            future = self.future
            try:
                return self.executor.wait_for(future, self.executor.resource).unwrap()
            except (ProcessKilled, ChildProcessError) as error:
                self.try_again(future)
                if future is not self.future:
                    continue
                if isinstance(error, ChildProcessError):
                    raise
                raise ChildProcessError(f"{self.reason} ({len(self.tried)} times, on worker "
                                        f"{', '.join(dict.fromkeys(self.tried))})") from None  # fmt: skip

    def cancel(self) -> None:
        """End the call, if it has not ended yet."""
        with self.lock:
            self.is_cancelled = True
        self.executor.cancel([self.future])


class ClusterExecutor:
    """Runs functions by the workers of a Dask cluster; see `Executor`."""

    is_local = False

    def __init__(self, client: Client, address: str) -> None:
        """Use a cluster, after a check of its workers.

        Args:
            client: Connected to the scheduler.
            address: The scheduler's address.

        Raises:
            ClusterError: A worker differs from this program.
        """
        self.client = client
        self.address = address
        self.requirements = find_requirements()
        self.token = uuid.uuid4().hex
        self.tokens: list[Path] = []
        self.tasks: dict[str, ClusterTask] = {}
        self.environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        self.check_all_workers()
        offers = [worker["resources"] for worker in self.workers().values()]
        self.resource = next((name for name in RESOURCES if any(name in offer for offer in offers)), "")
        client.subscribe_topic(self.token, self.log)

    @property
    def n_slots(self) -> int:
        """How many started calls run at the same time.

        The sum of what the workers offer: GPU=1, or SLOT=1, or else their threads.
        """
        workers = self.workers().values()
        offers = [worker["resources"].get(self.resource, 0) if self.resource else worker["nthreads"]
                  for worker in workers]  # fmt: skip
        return max(int(sum(offers)), 1)

    @property
    def jobs(self) -> int:
        """Number of processes that one call should use: the threads of a worker."""
        return min((worker["nthreads"] for worker in self.workers().values()), default=1)

    def workers(self) -> Mapping[str, Any]:
        """Return what the scheduler knows of each worker, by its address.

        Raises:
            ClusterError: The scheduler is lost.
        """
        try:
            return self.client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, TimeoutError, ValueError, AttributeError):  # what a lost connection raises
            raise self.lost() from None

    def lost(self) -> ClusterError:
        """Return the error that the scheduler is lost."""
        return ClusterError(f"{self.address}: the connection to the scheduler is lost; {AGAIN}")

    def check_all_workers(self) -> None:
        """Check that all workers can work for this program.

        Raises:
            ClusterError: One cannot. The message names it.
        """
        try:
            answers = self.client.run(find_difference, self.requirements, on_error="return")
        except (OSError, TimeoutError):
            raise self.lost() from None
        for address, answer in answers.items():
            if "ModuleNotFoundError" in str(answer):  # the exception, which Dask returns as a string
                answer = "cannot import this program; start it in the program's folder, or install it there"
            if answer:
                raise ClusterError(f"worker {address} {answer}")

    def check_shared(self, folder: Path | None = None, files: Sequence[Path] = ()) -> None:
        """Check that all machines see the same files; see `Executor.check_shared`."""
        seen = [SharedFile(str(path), path.stat().st_size) for path in files if path.exists()]
        if folder is not None:
            token = folder / f".cluster-{self.token}"
            with atomic_path(token) as temporary:
                temporary.write_text(self.token)
            self.tokens.append(token)
            seen.append(SharedFile(str(token), len(self.token), self.token.encode()))
        self.requirements = replace(self.requirements, files=tuple(seen), folder=str(folder or ""),
                                    is_locked=folder is not None and (folder / LOCK).exists())  # fmt: skip
        self.check_all_workers()

    def map(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        title: str,
        sizes: Sequence[int] | None = None,
    ) -> Generator[Result]:
        """Apply a function to items by the workers; see `Executor.map`."""
        chunks = make_chunks(items, sizes)
        n_threads = sum(worker["nthreads"] for worker in self.workers().values())
        running: deque[tuple[Chunk, Future]] = deque()
        remaining = iter(chunks)
        try:
            with Progress(title, sum(chunk.size for chunk in chunks)) as progress:
                while True:
                    while len(running) < max(ROUND, 4 * n_threads) and (chunk := next(remaining, None)) is not None:
                        payload = pickle.dumps((function, chunk.items))
                        key = f"ecg-{title}-{uuid.uuid4().hex}"
                        running.append((chunk, self.client.submit(run_chunk, payload, self.requirements, key=key)))
                    if not running:
                        return
                    replies = [self.wait_for(running[0][1])]
                    finished = takewhile(lambda pair: pair[1].status == "finished", islice(running, 1, None))
                    with self.clear_errors():  # all at once, because each transfer takes time
                        replies += self.client.gather([future for _, future in finished])
                    for reply in replies:
                        yield from reply.unwrap()
                        progress.advance(running.popleft()[0].size)
        finally:
            self.cancel([future for _, future in running])

    def run(self, function: Callable[..., Result], *arguments: object, prepare: Callable[[], object]) -> Result:
        """Make a call in a process of its own, beside a worker; see `Executor.run`."""
        task = self.start(function, *arguments, prepare=prepare)
        try:
            return task.result()
        finally:
            task.cancel()

    def start(
        self,
        function: Callable[..., Result],
        *arguments: object,
        prepare: Callable[[], object],
        slots: int = 1,
        progress: Callable[[], object] = int,
    ) -> ClusterTask[Result]:
        """Start a call in a process of its own, beside a worker; see `Executor.start`."""
        return ClusterTask[Result](self, Call.pack(prepare, function, *arguments), slots, progress)

    def submit_call(self, task: ClusterTask) -> Future:
        """Send a task's call to the cluster.

        A worker that has not failed with it is preferred.

        Args:
            task: The task.
        """
        key = f"ecg-call-{uuid.uuid4().hex}"
        self.tasks[key] = task
        options: dict[str, Any] = {"resources": {self.resource: task.slots}} if self.resource else {}
        untried = sorted(self.workers().keys() - set(task.tried)) if task.tried else []
        if untried:
            options |= {"workers": untried, "allow_other_workers": True}
        return self.client.submit(run_call, task.call, self.requirements, self.environment, self.token, key=key,
                                  **options)  # fmt: skip

    def log(self, event: tuple[float, Sequence[Any]]) -> None:
        """Log a message of a call, and remember which worker makes it.

        Args:
            event: Time, and key of the task, address of the worker, level and text.
        """
        key, address, level, text = event[1]
        if key in self.tasks:
            self.tasks[key].where = address
            LOGGER.log(level, f"{address.partition('://')[2]}: {text}")

    def wait_for(self, future: Future, resource: str = "") -> Any:
        """Wait for the end of a task, and return its result.

        Args:
            future: The task.
            resource: What a worker must offer to run it; an empty string: nothing.

        Raises:
            ChildProcessError: The task has killed its workers.
            ClusterError: The scheduler is lost, or no worker is left.
        """
        last_worker = time.monotonic()
        with self.clear_errors():
            while not future.done():
                with suppress(TimeoutError):
                    wait([future], timeout=WATCH_SECONDS)
                    break
                now = time.monotonic()
                if any(not resource or resource in worker["resources"] for worker in self.workers().values()):
                    last_worker = now
                elif now - last_worker > LONGEST_WITHOUT_WORKER:
                    raise ClusterError(f"{self.address}: no worker is left for {now - last_worker:.0f} s; see their "
                                       f"logs, and {AGAIN}")  # fmt: skip
            return future.result()

    @contextmanager
    def clear_errors(self) -> Iterator[None]:
        """Raise errors of this program instead of Dask's."""
        try:
            yield
        except KilledWorker as error:
            raise ChildProcessError(f"it has ended {error.allowed_failures + 1} workers, the last at "
                                    f"{error.last_worker.address}, perhaps because the memory is too small; see their "
                                    f"logs") from None  # fmt: skip
        except LOST:
            raise self.lost() from None

    def cancel(self, futures: Sequence[Future]) -> None:
        """End tasks that have not ended yet."""
        if futures and self.client.status == "running":
            with suppress(OSError, TimeoutError, *LOST):
                self.client.cancel(list(futures), force=True)

    def close(self) -> None:
        """End all work, and remove what this executor has written."""
        for token in self.tokens:
            with suppress(OSError):
                token.unlink(missing_ok=True)
        for task in self.tasks.values():
            task.cancel()


@contextmanager
def open_cluster(address: str) -> Iterator[ClusterExecutor]:
    """Connect to a cluster; its workers stay alive when the block ends.

    Args:
        address: Address of the scheduler.

    Raises:
        ClusterError: The scheduler does not answer, there is no worker, or a worker differs from this program.
    """
    for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what Dask reports becomes an error of ours
    try:
        client = Client(address, timeout=START_SECONDS, name="ecg")
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(f"{address}: no scheduler answers: {describe_error(error)}") from None
    try:
        try:
            client.wait_for_workers(1, timeout=START_SECONDS)
        except TimeoutError:
            raise ClusterError(f"{address}: the scheduler has no worker after {START_SECONDS} s") from None
        executor = ClusterExecutor(client, address)
        try:
            yield executor
        finally:
            executor.close()
    finally:
        client.close(timeout=5)
