"""The steps of a command's process for many recordings: their memory and their time."""

import json
import select
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

from benchmarks.growth import cpu_seconds
from benchmarks.memory import INTERVAL, memory_of
from benchmarks.scoring import draw_probabilities
from ecg.data.batches import Dataset, plan_training, prefetch
from ecg.data.class_files import load_weights
from ecg.data.leads import LEADS
from ecg.data.loading import IndexRow
from ecg.data.samples import SAMPLES
from ecg.data.shards import INDEX as SHARD_INDEX
from ecg.data.store import INDEX, build_store
from ecg.evaluation.thresholds import search_thresholds
from ecg.runtime.executors import ONE_PROCESS, open_executor
from ecg.runtime.files import to_json

FOLDS, BATCH, RESAMPLES = 5, 32, 20
PROGRAM = "import sys; from benchmarks.scale_client import take_steps; take_steps(*sys.argv[1:])"


def watch_steps(data, folder, cluster):
    """Take the steps of `take_steps` in a client of its own.

    Returns:
        For each step what it prints and the peak of the anonymous memory of the client and of the largest worker in
        MB; and the sizes of the index in bytes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    workers = list(cluster.pids().values())
    peaks, steps, processors = np.zeros(2), {}, sum(map(cpu_seconds, workers))
    command = [sys.executable, "-c", PROGRAM, str(data), str(folder), cluster.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as client:
        while client.poll() is None:
            memory = memory_of(client.pid)[0], max(memory_of(worker)[0] for worker in workers)
            peaks = np.maximum(peaks, memory)
            if select.select([client.stdout], [], [], INTERVAL)[0] and (line := client.stdout.readline()):
                step = json.loads(line)
                now = sum(map(cpu_seconds, workers))
                if "seconds" in step:
                    step |= {"client": peaks[0], "worker": peaks[1], "workers' processors": now - processors}
                steps.setdefault(step.pop("step"), {}).update(step)
                peaks, processors = np.zeros(2), now
    if client.returncode:
        raise RuntimeError(f"the client failed on {data}: {cluster.log()[-2000:]}")
    index = {path.name: path.stat().st_size for path in folder.glob(f"*{SHARD_INDEX}")}
    sizes = {"index of the store": index.pop(INDEX), "indices of the shards": sum(index.values())}
    sizes["samples"] = sum(path.stat().st_size for path in folder.glob(f"*{SAMPLES}"))
    shutil.rmtree(folder)
    return {"steps": steps, "files": sizes}


def take_steps(data, folder, address):
    """Take the steps of a client twice, and print a line each.

    The first time is timed, and a cluster reads the recordings. The second time counts what Python and numpy allocate;
    the shards are there, and their indices are read and joined again.
    """
    with open_executor(cluster=address) as executor:
        client = Client(Path(data), Path(folder), executor)
        for step in client.steps:
            begun, processors = time.perf_counter(), time.process_time()
            step()
            times = {"seconds": time.perf_counter() - begun, "processors": time.process_time() - processors}
            print(to_json({"step": step.__name__, **times}), flush=True)
    recordings, arrays = len(client.store), {name: getattr(client.store, name).nbytes for name in IndexRow._fields}
    (Path(folder) / INDEX).unlink()
    client = Client(Path(data), Path(folder), ONE_PROCESS)
    tracemalloc.start()
    for step in client.steps:
        tracemalloc.reset_peak()
        step()
        now, peak = tracemalloc.get_traced_memory()
        print(to_json({"step": step.__name__, "traced peak": peak, "traced": now}), flush=True)
    print(to_json({"step": "reading", "recordings": recordings, "arrays": arrays}), flush=True)


class Client:
    """What the process of a command does for all recordings, in steps.

    Args:
        data: Data folder.
        folder: Folder of the store.
        executor: Reads the recordings.
    """

    def __init__(self, data, folder, executor):
        from ecg.systems.folds import assign_folds

        self.data, self.folder, self.executor, self.assign_folds = data, folder, executor, assign_folds
        self.generator = np.random.default_rng(1)
        self.steps = (self.reading, self.split, self.batches, self.thresholds)

    def reading(self):
        """Build the store."""
        self.store = build_store(self.data, self.folder, self.executor)

    def split(self):
        """Assign the recordings to folds."""
        self.folds = self.assign_folds(self.store.labels, FOLDS, seed=1)

    def batches(self):
        """Read all recordings in the batches of an epoch."""
        dataset = Dataset(self.store, np.arange(len(self.store)), tuple(range(len(LEADS))))
        for signals in prefetch(dataset.inputs, plan_training(self.store.lengths, BATCH, self.generator)):
            assert np.isfinite(signals).all()

    def thresholds(self):
        """Search thresholds for drawn probabilities."""
        probabilities = draw_probabilities(self.store.labels, self.generator)
        search_thresholds(self.store.labels, probabilities, load_weights()[1], resamples=RESAMPLES)


def format_growth(outcomes):
    """Yield the lines of the tables of `growth`, from what was measured by the number of recordings."""
    sizes = list(outcomes)
    first, last = sizes[0], sizes[-1]
    yield f"| | {' | '.join(f'{size:,}' for size in sizes)} | {last:,} against {first:,} |"
    yield "|---" * (len(sizes) + 2) + "|"
    steps = {size: outcome["steps"] for size, outcome in outcomes.items()}
    counts = {size: steps[size]["reading"]["recordings"] for size in sizes}

    def line(title, values, form="{:,.0f}"):
        return f"| {title} | {' | '.join(form.format(value) for value in values)} | {values[-1] / values[0]:.2f} |"

    for step in steps[first]:
        yield line(f"client, {step}: peak MB", [steps[size][step]["client"] for size in sizes])
    yield line("largest worker, reading: peak MB", [steps[size]["reading"]["worker"] for size in sizes])
    for step in steps[first]:
        for kind, title in (("seconds", "by the clock"), ("processors", "the processors'")):
            values = [steps[size][step][kind] for size in sizes]
            if (step, kind) == ("reading", "processors"):  # the workers are idle in the other steps
                values = [value + steps[size][step]["workers' processors"]
                          for value, size in zip(values, sizes, strict=True)]  # fmt: skip
            milliseconds = [1000 * value / counts[size] for value, size in zip(values, sizes, strict=True)]
            yield line(f"{step}: ms a recording, {title}", milliseconds, "{:.2f}")
    yield "\n| bytes a recording | |\n|---|---|"
    for name, size in outcomes[last]["files"].items():
        yield f"| {name}, on the disk | {size / counts[last]:,.0f} |"
    for name, size in steps[last]["reading"]["arrays"].items():
        yield f"| `{name}`, in memory | {size / counts[last]:,.0f} |"
    if last > first:
        for step in steps[first]:
            for kind, title in (("traced peak", "at most"), ("traced", "at its end")):
                grown = steps[last][step][kind] - steps[first][step][kind]
                yield f"| client, {step}, {title} | {grown / (counts[last] - counts[first]):,.0f} |"
