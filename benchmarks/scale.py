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
import shutil
import statistics
import threading
import time
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.growth import cpu_seconds
from benchmarks.interruption import read_files
from benchmarks.local_cluster import LocalCluster, run_cluster
from benchmarks.memory import children_of
from benchmarks.scale_client import format_growth, watch_steps
from benchmarks.timing import Row, format_lines
from ecg.data.records import find_records
from ecg.data.shards import INDEX as SHARD_INDEX
from ecg.data.shards import PREFIX, SAMPLES
from ecg.data.store import build_store
from ecg.data.synthetic import synthesize
from ecg.runtime.executors import LocalExecutor, open_executor
from ecg.runtime.files import atomic_path, to_json
from ecg.runtime.locks import lock_folder

DISTINCT = 500  # synthetic recordings; more are links to them
WORKERS = 2
MOST_OVERHEAD = 1.2
LOOK = 0.02  # s between two looks at whether a worker writes a shard
SHARDS_BETWEEN = 2  # finished between two kills, so that no shard is hit again and again
LONGEST_DELAY = 0.2  # s from the beginning of a shard to the kill


class Measured:
    """What has been measured, by name; kept in a file."""

    def __init__(self, path):
        self.path = path
        self.values = json.loads(path.read_text()) if path.exists() else {}

    def has(self, names):
        """Return whether all of these have been measured."""
        return all(name in self.values for name in names)

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

    Yields:
        Lines of a table.
    """
    names = [f"overhead, {bench.data or bench.records}, round {number + 1}" for number in range(bench.rounds)]
    if not bench.measured.has(names):
        with (
            choose_recordings(bench) as data,
            start_cluster(bench) as cluster,
            open_executor(cluster=cluster.address) as workers,
        ):
            executors = {"local": LocalExecutor(WORKERS), "cluster": workers}
            for executor in executors.values():  # warm up
                read_once(bench, data, executor)
            for number, name in enumerate(names):
                order = list(executors)[:: -1 if number % 2 else 1]
                bench.measured.get(name, lambda order=order: {kind: read_once(bench, data, executors[kind])
                                                              for kind in order})  # fmt: skip
    yield from format_overhead([bench.measured.values[name] for name in names])


def format_overhead(rounds):
    """Yield the lines of the table of `overhead`, given what `read_once` returns by round and executor."""
    assert len({reading["digest"] for round_ in rounds for reading in round_.values()}) == 1, "the stores differ"
    rows = []
    for key, title in (("seconds", "by the clock"), ("processors", "the processors' time")):
        times = {kind: [round_[kind][key] for round_ in rounds] for kind in ("local", "cluster")}
        ratios = [cluster / local for cluster, local in zip(times["cluster"], times["local"], strict=True)]
        rows.append(Row(f"two workers read {rounds[0]['local']['recordings']:,} recordings, {title}, "
                        f"{statistics.median(times['cluster']):.1f} s",
                        f"two local processes, {statistics.median(times['local']):.1f} s; {len(ratios)} ratios from "
                        f"{min(ratios):.2f} to {max(ratios):.2f}",
                        statistics.median(ratios), MOST_OVERHEAD))  # fmt: skip
    return format_lines(rows)


def read_once(bench, data, executor):
    """Build a store anew; return its digest, and the time in s by the clock and of the processors.

    The processors' time is that of this process and all that it has started, the cluster's among them.
    """
    folder = bench.folder / "store"
    begun, processors = time.perf_counter(), cpu_seconds(os.getpid())
    store = build_store(data, folder, executor)
    seconds, processors = time.perf_counter() - begun, cpu_seconds(os.getpid()) - processors
    shutil.rmtree(folder)
    return {"recordings": len(store), "digest": store.digest, "seconds": seconds, "processors": processors}


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


def measure_kills(bench):
    """Kill workers while they write shards, and compare the store with that of a local process.

    Yields:
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
        while len(killed) < bench.kills and not is_over.wait(LOOK):
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
    with lock_folder(options.folder):
        bench = Bench(options.folder.absolute(), Measured(options.folder / "measured.json"),
                      options.data and options.data.absolute(), options.records, tuple(sorted(options.sizes)),
                      options.rounds, options.kills)  # fmt: skip
        for name in options.figures or FIGURES:
            print("\n".join(FIGURES[name](bench)), end="\n\n", flush=True)
    print(f"{os.cpu_count()} cores, {date.today()}")


if __name__ == "__main__":
    main()
