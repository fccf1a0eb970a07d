"""A Dask scheduler and its workers as processes of their own."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

ROOT = Path(__file__).parents[1]


class LocalCluster:
    """A scheduler and workers on this machine, as a user starts them.

    Attributes:
        address: Address of the scheduler.
        folder: Folder of the processes' logs.
        scheduler: Process of the scheduler.
        workers: Processes that each keep one worker alive (Dask's nannies).
    """

    def __init__(self, folder, workers=2):
        self.folder = folder
        self.file = folder / "scheduler.json"
        command = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", self.file]
        self.scheduler = self.start(*command, "--no-dashboard")
        while not (self.file.exists() and self.file.read_text().endswith("}")):
            assert self.scheduler.poll() is None, self.log()
            time.sleep(0.1)
        with self.client() as client:
            self.address = client.scheduler.address
        self.workers = [self.start_worker() for _ in range(workers)]
        self.wait()

    def start(self, *arguments, cwd=ROOT, path=(ROOT, ROOT / "tests")):
        """Start a process of Dask with this program and the tests importable."""
        code = "import sys; from distributed.cli import dask_scheduler, dask_worker; "
        code += f"sys.argv[1:] = sys.argv[2:]; dask_{arguments[0]}.main()"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
        with open(self.folder / "log.txt", "a") as log:
            return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=cwd, env=environment,
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # fmt: skip

    def start_worker(self, **options):
        """Start a worker with one thread and one slot for a training; options are those of `start`."""
        local = ["--local-directory", self.folder, "--no-dashboard"]
        return self.start("worker", "--scheduler-file", self.file, "--nthreads", "1", "--resources", "GPU=1", *local,
                          **options)  # fmt: skip

    def stop_worker(self):
        """End the worker that was started last."""
        end(self.workers.pop())

    def client(self):
        """Return a client of Dask's own."""
        return Client(scheduler_file=str(self.file), set_as_default=False)

    def wait(self):
        """Wait until all workers are there."""
        with self.client() as client:
            client.wait_for_workers(len(self.workers), timeout=300)

    def pids(self):
        """Return the process of each worker by its address."""
        with self.client() as client:
            return client.run(os.getpid)

    def log(self):
        """Return what the processes have printed."""
        return (self.folder / "log.txt").read_text()

    def stop(self):
        """End all processes."""
        for process in [*self.workers, self.scheduler]:
            process.terminate()
        for process in [*self.workers, self.scheduler]:
            end(process)


def end(process):
    """End a process, by force if need be."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def run_cluster(folder, workers=2):
    """Run a cluster for a block."""
    cluster = LocalCluster(folder, workers)
    try:
        yield cluster
    finally:
        cluster.stop()
