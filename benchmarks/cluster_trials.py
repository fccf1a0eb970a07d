"""Kill the workers of a cluster or cut its link while it trains, and compare its models with those of one process.

python -m benchmarks.cluster_trials FOLDER [TRIAL ...] [--records N] [--epochs N] [--kills N] [--cuts SECONDS ...]

- kills: SIGKILL ends workers and the processes that they train in, all in one training. The first worker writes a shard
  at that time.
- hosts: the two workers are on two network hosts, and their link is cut for so many seconds while both train. The hosts
  are network namespaces of this machine (Linux, as root, with iproute2). Each has an address of its own, and one link
  leads from one to the other. Command, scheduler and a worker are on the first, another worker is on the second. Both
  see the same disk.

Data, models and logs stay in FOLDER. Prints the tables of benchmarks/README.md.
"""

import argparse
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.local_cluster import ROOT, end, run_cluster
from benchmarks.memory import children_of
from benchmarks.scale import find_writers
from ecg.data.synthetic import synthesize

ADDRESSES = "10.213.77.1", "10.213.77.2"
PORT = 8786
SETTINGS = "--width 4 --leads 3 2 --resamples 2 --no-masks --no-relabel-cpsc --no-relabel-flutter".split()
# Results are the same to the bit with the same number of threads.
THREADS = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
LONGEST = 3600  # s that a training may take
BETWEEN_KILLS = 1.0, 6.0  # the shortest and the longest time, in s; it is drawn at random


class Hosts:
    """Two network namespaces with one link.

    Attributes:
        names: Names of the namespaces.
        links: Names of the ends of the link.
    """

    def __init__(self):
        self.names = [f"ecg{os.getpid()}-{number}" for number in (1, 2)]
        self.links = [f"e{os.getpid()}-{number}" for number in (1, 2)]

    def add(self):
        """Make the namespaces and the link."""
        for name in self.names:
            run_ip("netns", "add", name)
        run_ip("link", "add", self.links[0], "type", "veth", "peer", "name", self.links[1])
        for name, link, address in zip(self.names, self.links, ADDRESSES, strict=True):
            run_ip("link", "set", link, "netns", name)
            run_ip("-n", name, "address", "add", f"{address}/24", "dev", link)
            run_ip("-n", name, "link", "set", "lo", "up")
            run_ip("-n", name, "link", "set", link, "up")

    def delete(self):
        """Remove the namespaces, and with them the link."""
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False)

    def cut(self, seconds):
        """Cut the link for some seconds, at the end of the second host."""
        run_ip("-n", self.names[1], "link", "set", self.links[1], "down")
        time.sleep(seconds)
        run_ip("-n", self.names[1], "link", "set", self.links[1], "up")

    def start(self, number, log, *arguments):
        """Start Python on a host, and write what it prints to a file."""
        command = ["ip", "netns", "exec", self.names[number], sys.executable, *map(str, arguments)]
        with open(log, "a") as file:
            return subprocess.Popen(command, cwd=ROOT, env=os.environ | THREADS, stdin=subprocess.DEVNULL, stdout=file,
                                    stderr=file)  # fmt: skip


def run_ip(*arguments):
    """Run a command of iproute2."""
    subprocess.run(["ip", *arguments], check=True)


@contextmanager
def connect_hosts():
    """Provide two hosts for a block."""
    hosts = Hosts()
    try:
        hosts.add()
        yield hosts
    finally:
        hosts.delete()


@contextmanager
def start_cluster(hosts, folder):
    """Run a scheduler on the first host and a worker on each, for a block; yield the scheduler's address."""
    dask = "import sys; from distributed.cli import dask_scheduler, dask_worker; dask_{}.main()"
    address, started = f"tcp://{ADDRESSES[0]}:{PORT}", []
    try:
        started.append(hosts.start(0, folder / "scheduler.log", "-c", dask.format("scheduler"), "--host", ADDRESSES[0],
                                   "--port", PORT, "--no-dashboard"))  # fmt: skip
        for number in (0, 1):
            started.append(hosts.start(number, folder / f"worker{number + 1}.log", "-c", dask.format("worker"), address,
                                       "--host", ADDRESSES[number], "--nthreads", 1, "--resources", "GPU=1",
                                       "--no-dashboard", "--local-directory", folder))  # fmt: skip
        wait_for(lambda: (folder / "scheduler.log").read_text().count("Register worker") == 2, started)
        yield address
    finally:
        for process in reversed(started):
            end(process)


def wait_for(condition, processes):
    """Wait until a condition holds, as long as all processes run."""
    deadline = time.monotonic() + LONGEST
    while not condition():
        if time.monotonic() > deadline or any(process.poll() is not None for process in processes):
            raise RuntimeError("a process has ended or nothing happens: see the logs")
        time.sleep(0.1)


def train_with_cut(hosts, data, folder, epochs, seconds):
    """Train by the cluster of two hosts, cut their link when both train, and return what was seen."""
    model, log = folder / "model", folder / "train.log"
    with start_cluster(hosts, folder) as address:
        begun = time.monotonic()
        training = hosts.start(0, log, "-m", "ecg", "train", data, model, *SETTINGS, "--epochs", epochs,
                               "--cluster", address)  # fmt: skip
        try:
            wait_for(lambda: len(find_states(model)) == 2, [training])
            hosts.cut(seconds)
            training.wait(LONGEST)
        finally:
            end(training)
    return describe_training(training, log, begun, model)


def read_models(folder):
    """Return the content of the files of all models, by name."""
    return {path.name: path.read_bytes() for path in folder.glob("*_leads*")}


def train_with_kills(data, folder, epochs, kills):
    """Train by a cluster, kill its processes again and again, and return what was seen."""
    model, log, generator = folder / "model", folder / "train.log", np.random.default_rng(1)
    killed = {"writes a shard": 0, "is a worker": 0, "trains": 0}
    with run_cluster(folder) as cluster:
        command = [sys.executable, "-m", "ecg", "train", data, model, *SETTINGS, "--epochs", epochs, "--cluster",
                   cluster.address]  # fmt: skip
        with open(log, "w") as file:
            training = subprocess.Popen([*map(str, command)], cwd=ROOT, env=os.environ | THREADS, stdout=file,
                                        stderr=file)  # fmt: skip
        begun, seconds = time.monotonic(), 0.0
        try:
            for number in itertools.count():
                kind, process = choose_victim(cluster, model, number, generator)
                if process is not None:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                        killed[kind] += 1
                    wait_for_epochs(model, training)
                    seconds = generator.uniform(*BETWEEN_KILLS)
                if sum(killed.values()) == kills or training.poll() is not None:
                    break
                time.sleep(seconds)
            training.wait(LONGEST)
        finally:
            end(training)
    return describe_training(training, log, begun, model) | {"killed": killed}


def wait_for_epochs(model, training):
    """Wait until a stage has saved another epoch, or the training has ended.

    A stage that is killed again and again before it gets any further ends with an error, as it should.
    """
    before = [path.stat().st_mtime_ns for path in find_states(model)]
    while training.poll() is None:
        with suppress(OSError):  # it was replaced meanwhile
            if before != [path.stat().st_mtime_ns for path in find_states(model)]:
                return
        time.sleep(0.1)


def find_states(model):
    """Return the files in which the stages of a training save their state."""
    return sorted(model.glob("stages/general_*/progress.npz"))


def choose_victim(cluster, model, number, generator):
    """Return the kind and process that is killed next; None for the process if there is none yet.

    Args:
        cluster: The cluster.
        model: Model folder of the training.
        number: How often this was called before.
        generator: Draws the process.
    """
    if not any((model / "stages").glob("general_*")):
        writers = find_writers(cluster, model / "stages" / "store")
        return "writes a shard", (int(generator.choice(writers)) if writers else None)
    workers = [process for nanny in cluster.workers for process in find_children(nanny.pid)]
    trained = [process for worker in workers for process in find_children(worker)]
    kind, candidates = ("trains", trained) if number % 2 else ("is a worker", workers)
    return kind, (int(generator.choice(candidates)) if candidates else None)


def find_children(process):
    """Return the children of a process that are no helpers of Python's; none if it has ended."""
    try:
        return [child for child in children_of(process)
                if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]  # fmt: skip
    except OSError:
        return []


def describe_training(training, log, begun, model):
    """Return what is known of a training that has ended well."""
    if training.returncode:
        raise RuntimeError(f"the training ended with {training.returncode}: {log}")
    printed = log.read_text()
    return {"seconds": time.monotonic() - begun, "begun": len(re.findall("is trained on", printed)),
            "resumed": len(re.findall("resumed after epoch", printed)), "models": read_models(model)}  # fmt: skip


def measure_kills(options, data, expected):
    """Yield the lines of the table of `kills`."""
    (folder := options.folder / "kills").mkdir()
    seen = train_with_kills(data, folder, options.epochs, options.kills)
    kinds = list(seen["killed"])
    yield f"| killed: {' | '.join(kinds)} | s in all | resumed after an epoch | models as by one process |"
    yield "|---" * (len(kinds) + 3) + "|"
    yield (f"| {' | '.join(str(seen['killed'][kind]) for kind in kinds)} | {seen['seconds']:.0f} | {seen['resumed']} | "
           f"{describe_equality(seen, expected)} |")  # fmt: skip


def measure_hosts(options, data, expected):
    """Yield the lines of the table of `hosts`."""
    yield "| link cut for | s in all | stages begun | resumed after an epoch | models as by one process |"
    yield "|---" * 5 + "|"
    with connect_hosts() as hosts:
        for seconds in options.cuts:
            (folder := options.folder / f"cut {seconds:g} s").mkdir()
            seen = train_with_cut(hosts, data, folder, options.epochs, seconds)
            yield (f"| {seconds:g} s | {seen['seconds']:.0f} | {seen['begun']} | {seen['resumed']} | "
                   f"{describe_equality(seen, expected)} |")  # fmt: skip


def describe_equality(seen, expected):
    """Return whether the models of a training are as expected, as yes or no."""
    return "yes" if seen["models"] == expected else "no"


TRIALS = {"kills": measure_kills, "hosts": measure_hosts}


def main():
    """Make the trials, and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for all files; must not exist")
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"{', '.join(TRIALS)}; default: all")
    parser.add_argument("--records", type=int, default=300, help="synthetic recordings")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of a training at most")
    parser.add_argument("--kills", type=int, default=10, help="killed processes")
    parser.add_argument("--cuts", type=float, nargs="+", default=[5, 90], help="seconds without link, by training")
    options = parser.parse_args()
    if unknown := set(options.trials) - set(TRIALS):
        parser.error(f"no trial is called {', '.join(sorted(unknown))}")
    if "hosts" in (options.trials or TRIALS) and (os.geteuid() != 0 or not shutil.which("ip")):
        parser.error("hosts makes network namespaces, which needs root and iproute2")
    options.folder = options.folder.absolute()
    options.folder.mkdir(parents=True)
    data = options.folder / "data"
    synthesize(data, options.records, seed=1)
    local = [sys.executable, "-m", "ecg", "train", data, options.folder / "local", *SETTINGS, "--epochs",
             options.epochs, "--jobs", 1]  # fmt: skip
    with open(options.folder / "local.log", "w") as log:
        subprocess.run([*map(str, local)], cwd=ROOT, env=os.environ | THREADS, stdout=log, stderr=log, check=True)
    expected = read_models(options.folder / "local")
    for trial in options.trials or TRIALS:
        for line in TRIALS[trial](options, data, expected):
            print(line, flush=True)
        print()
    print(f"{options.records} recordings, {os.cpu_count()} cores, {date.today()}")


if __name__ == "__main__":
    main()
