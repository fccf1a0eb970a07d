"""Measure how a Dask cluster reads recordings: its overhead, growth with the recordings, and killed workers.

python -m benchmarks.scale FOLDER [FIGURE ...] [--data DATA] [--records N] [--sizes N ...] [--rounds N] [--kills N]

The scheduler and two workers are processes of their own on this machine.

- overhead: two workers and two local processes read the same recordings in turns; the first round does not count.
- growth: reading, a split into folds, one epoch of batches, and the search of thresholds, for several numbers of
  recordings: peak memory of the client and of a worker, and time.
- kills: workers are killed (SIGKILL) while they write shards. The store is compared with the one of a local process.

The recordings are those of DATA, or DISTINCT synthetic ones, which hard links multiply: they take no room on the disk,
and are read from the system's cache. What is measured is kept in FOLDER/measured.json, and the same command goes on
after an interruption. Prints the tables of benchmarks/README.md.
"""

import argparse
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.growth import cpu_seconds
from benchmarks.interruption import read_files
from benchmarks.local_cluster import LocalCluster, run_cluster
from benchmarks.memory import children_of, memory_of
from benchmarks.scoring import draw_probabilities
from benchmarks.timing import Row, format_lines
from ecg.data.batches import Dataset, plan_training, prefetch
from ecg.data.leads import LEADS
from ecg.data.loading import IndexRow
from ecg.data.records import find_records
from ecg.data.shards import INDEX as SHARD_INDEX
from ecg.data.shards import PREFIX, SAMPLES
from ecg.data.store import INDEX, build_store
from ecg.data.synthetic import synthesize
from ecg.evaluation.metrics import load_weights
from ecg.evaluation.thresholds import search_thresholds
from ecg.runtime.executors import ONE_PROCESS, LocalExecutor, open_executor
from ecg.runtime.files import atomic_path, to_json

DISTINCT = 500  # synthetic recordings; more are links to them
WORKERS = 2
MOST_OVERHEAD, MOST_GROWTH = 1.2, 1.15
FOLDS, BATCH, RESAMPLES = 5, 32, 20
INTERVAL = 0.1  # s between two measurements of the memory
SHARDS_BETWEEN = 2  # finished between two kills, so that no shard is hit again and again
LONGEST_DELAY = 1.0  # s from the beginning of a shard to the kill
PATIENCE = 120.0  # s for a killed worker to be there again
PROGRAM = "import sys; from benchmarks.scale import take_steps; take_steps(*sys.argv[1:])"


class Measured:
    """What has been measured, by name; kept in a file."""

    def __init__(self, path):
        self.path = path
        self.values = json.loads(path.read_text()) if path.exists() else {}

    def get(self, name, measure):
        """Return a value, measured now if it has not been measured before."""
        if name not in self.values:
            self.values[name] = measure()
            with atomic_path(self.path) as temporary:
                temporary.write_text(to_json(self.values, indent=1))
        return self.values[name]


class Bench(NamedTuple):
    """Settings of a measurement.

    Attributes:
        folder: Folder for all files.
        measured: What has been measured.
        data: Folder of recordings; None: synthetic ones.
        records: Recordings of `overhead` and `kills`, if they are synthetic.
        sizes: Recordings of `growth`, ascending.
        rounds: Rounds of `overhead`.
        kills: Kills of `kills`.
    """

    folder: Path
    measured: Measured
    data: Path | None = None
    records: int = 5000
    sizes: tuple[int, ...] = (1000, 10_000)
    rounds: int = 5
    kills: int = 10


@contextmanager
def link_recordings(bench, records):
    """Provide a folder with as many recordings, by hard links, for a block.

    The recordings are in folders of DISTINCT, each with the same names.
    """
    distinct, data = bench.folder / "distinct", bench.folder / "data"
    if not distinct.exists():
        synthesize(bench.folder / ".distinct", DISTINCT, seed=1, executor=LocalExecutor(WORKERS))
        (bench.folder / ".distinct").rename(distinct)
    shutil.rmtree(data, ignore_errors=True)
    headers = sorted(distinct.glob("*.hea"))
    for number in range(records):
        group, member = divmod(number, len(headers))
        target = data / f"g{group:05}"
        if not member:
            target.mkdir(parents=True)
        for path in (headers[member], headers[member].with_suffix(".mat")):
            os.link(path, target / path.name)
    try:
        yield data
    finally:
        shutil.rmtree(data)


@contextmanager
def choose_recordings(bench):
    """Provide the folder of recordings for `overhead` and `kills`."""
    if bench.data is not None:
        yield bench.data
    else:
        with link_recordings(bench, bench.records) as data:
            yield data


@contextmanager
def start_cluster(bench):
    """Run a cluster for a block."""
    folder = bench.folder / "cluster"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with run_cluster(folder, WORKERS) as cluster:
        yield cluster


def measure_overhead(bench):
    """Read by two workers and by two local processes in turns.

    Returns:
        Lines of a table.
    """
    name = f"overhead, {bench.data or bench.records}"
    with choose_recordings(bench) as data, start_cluster(bench) as cluster:
        n_recordings = len(find_records(data))
        with open_executor(cluster=cluster.address) as workers:
            executors = {"local": LocalExecutor(WORKERS), "cluster": workers}
            rounds = []
            is_warm = False
            for number in range(bench.rounds):
                order = list(executors) if number % 2 else list(reversed(executors))

                def measure(order=order):
                    nonlocal is_warm
                    if not is_warm:
                        for kind in order:
                            read_once(bench, data, executors[kind])
                    is_warm = True
                    return {kind: read_once(bench, data, executors[kind]) for kind in order}

                rounds.append(bench.measured.get(f"{name}, round {number + 1}", measure))
    assert len({kind["digest"] for round_ in rounds for kind in round_.values()}) == 1, "the stores differ"
    for key, title in (("seconds", "by the clock"), ("processors", "the processors' time")):
        times = {kind: [round_[kind][key] for round_ in rounds] for kind in executors}
        ratios = [cluster / local for cluster, local in zip(times["cluster"], times["local"], strict=True)]
        medians = {kind: statistics.median(values) for kind, values in times.items()}
        spread = f"{len(ratios)} ratios of {min(ratios):.2f} to {max(ratios):.2f}"
        row = Row(f"two workers read {n_recordings:,} recordings, {title}: {medians['cluster']:.1f} s",
                  f"two local processes, {medians['local']:.1f} s; {spread}", statistics.median(ratios),
                  MOST_OVERHEAD)  # fmt: skip
        lines = list(format_lines([row]))
        yield from lines if key == "seconds" else lines[2:]


def read_once(bench, data, executor):
    """Build a store anew; return its digest, and the time in s by the clock and of the processors.

    The processors' time is that of this process and all that it has started, the cluster's among them.
    """
    folder = bench.folder / "store"
    begun, processors = time.perf_counter(), cpu_seconds(os.getpid())
    digest = build_store(data, folder, executor).digest
    seconds, processors = time.perf_counter() - begun, cpu_seconds(os.getpid()) - processors
    shutil.rmtree(folder)
    return {"digest": digest, "seconds": seconds, "processors": processors}


def measure_growth(bench):
    """Measure memory and time for each number of recordings.

    Yields:
        Lines of tables.
    """
    outcomes = {}
    for size in bench.sizes:

        def measure(size=size):
            with link_recordings(bench, size) as data, start_cluster(bench) as cluster:
                return watch_steps(data, bench.folder / "store", cluster)

        outcomes[size] = bench.measured.get(f"growth, {size}", measure)
    yield from format_growth({int(size): outcome for size, outcome in outcomes.items()})


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
        from ecg.systems.plan import assign_folds  # imports Keras

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
            if kind == "processors":
                values = [value + steps[size][step]["workers' processors"]
                          for value, size in zip(values, sizes, strict=True)]  # fmt: skip
            each = [1000 * value / counts[size] for value, size in zip(values, sizes, strict=True)]
            yield line(f"{step}: ms a recording, {title}", each, "{:.2f}")
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


def measure_kills(bench):
    """Kill workers while they write shards, and compare the store with that of a local process.

    Returns:
        Lines of a table.
    """

    def measure():
        with choose_recordings(bench) as data, start_cluster(bench) as cluster:
            folders = bench.folder / "expected", bench.folder / "store"
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            expected = build_store(data, folders[0], LocalExecutor(WORKERS)).digest
            begun = time.perf_counter()
            with open_executor(cluster=cluster.address) as workers, kill_workers(cluster, bench, folders[1]) as killed:
                digest = build_store(data, folders[1], workers).digest
            facts = {"kills": len(killed), "seconds": time.perf_counter() - begun, "same digest": digest == expected,
                     "same files": read_files(folders[0]) == read_files(folders[1]),
                     "recordings": len(find_records(data)),
                     "shards": len(list(folders[1].glob(f"*{SAMPLES}")))}  # fmt: skip
            for folder in folders:
                shutil.rmtree(folder)
            return facts

    facts = bench.measured.get(f"kills, {bench.data or bench.records}, {bench.kills}", measure)
    yield "| recordings | shards | workers killed while they wrote a shard | seconds | same digest | same files |"
    yield "|---" * 6 + "|"
    answers = ["yes" if facts[name] else "no" for name in ("same digest", "same files")]
    yield (f"| {facts['recordings']:,} | {facts['shards']} | {facts['kills']} | {facts['seconds']:.0f} | "
           f"{' | '.join(answers)} |")  # fmt: skip


@contextmanager
def kill_workers(cluster, bench, folder):
    """Kill workers of a cluster that write shards into a folder, as long as a block runs; yield a list of the killed.

    Each kill waits for a moment drawn at random, and for SHARDS_BETWEEN more shards.
    """
    generator, is_over, killed = np.random.default_rng(1), threading.Event(), []

    def kill():
        finished = 0
        while len(killed) < bench.kills and not is_over.wait(INTERVAL):
            if len(list(folder.glob(f"{PREFIX}*{SHARD_INDEX}"))) < finished or not find_writers(cluster, folder):
                continue
            is_over.wait(generator.uniform(0, LONGEST_DELAY))
            writers = find_writers(cluster, folder)
            if writers and not is_over.is_set():
                os.kill(worker := int(generator.choice(writers)), 9)
                killed.append(worker)
                finished = len(list(folder.glob(f"{PREFIX}*{SHARD_INDEX}"))) + SHARDS_BETWEEN

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


def find_writers(cluster: LocalCluster, folder):
    """Return the processes of a cluster's workers that have a file of a folder open for a shard."""
    writers = []
    for nanny in cluster.workers:
        try:
            for process in children_of(nanny.pid):
                files = [os.readlink(file) for file in Path(f"/proc/{process}/fd").iterdir()]
                writers += [process] if any(is_unfinished(file, folder) for file in files) else []
        except OSError:  # it has ended meanwhile
            continue
    return writers


def is_unfinished(file, folder):
    """Return whether a path is that of a shard in a folder that is not finished."""
    return Path(file).parent == folder.absolute() and Path(file).name.startswith(".part.") and PREFIX in file


FIGURES = {"overhead": measure_overhead, "growth": measure_growth, "kills": measure_kills}


def main():
    """Measure the named figures, or all, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for all files, and what has been measured")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"{', '.join(FIGURES)}; default: all")
    parser.add_argument("--data", type=Path, help="recordings of overhead and kills; default: synthetic ones")
    parser.add_argument("--records", type=int, default=5000, help="synthetic recordings of overhead and kills")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], help="recordings of growth")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of overhead, after one that does not count")
    parser.add_argument("--kills", type=int, default=10, help="killed workers")
    options = parser.parse_args()
    if unknown := set(options.figures) - set(FIGURES):
        parser.error(f"no figure is called {', '.join(sorted(unknown))}")
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.folder.absolute(), Measured(options.folder / "measured.json"),
                  options.data and options.data.absolute(), options.records, tuple(sorted(options.sizes)),
                  options.rounds, options.kills)  # fmt: skip
    for name in options.figures or FIGURES:
        print("\n".join(FIGURES[name](bench)), end="\n\n", flush=True)
    print(f"{os.cpu_count()} cores, {date.today()}")


if __name__ == "__main__":
    main()
