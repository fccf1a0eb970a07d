"""Trainings that are killed, again and again, against one that is not: what they come to, bit for bit.

python -m benchmarks.interruption [--kills N] [--seed S]
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from ecg.progress import duration
from ecg.synthetic import synthesize

ROOT = Path(__file__).parents[1]
RECORDS = 60
PATIENCE = 600  # s; a training of this size that takes longer hangs
# Where a training kills itself: at a call, counted from 1 to about as many as a whole training makes.
CALLS = {
    "reading a recording": ("ecg.store", "load", 60),
    "a step": ("keras.Model", "train_on_batch", 60),
    "an answer": ("keras.Model", "predict_on_batch", 60),
    "saving a stage or where it stands": ("numpy", "savez", 15),
    "moving into place": ("os", "replace", 25),
    "saving a model": ("keras.Model", "save_weights", 2),
    "tidying up": ("shutil", "rmtree", 4),
}
SOON, LATE = 4.0, 16.0  # s; between these a training is killed from outside
OUTSIDE = "any moment, from outside"


def measure(kills, seed, folder, say=print):
    """Kill trainings at random until so many kills have hit; return the kills by place, the runs and those that differ.

    A run is a training that is begun again in its folder after each kill, until it is done. It differs where the model
    folder it leaves does not hold the same files to the bit as one that was not interrupted.
    """
    generator = np.random.default_rng(seed)
    data, whole = folder / "data", folder / "whole"
    synthesize(data, RECORDS, seed=seed)
    assert attempt(data, whole) == 0, "the training that is not to be killed did not come to its end"
    expected, hits, differing, runs = contents(whole), Counter(), [], 0
    while hits.total() < kills:
        runs += 1
        model = folder / f"run {runs}"
        while True:
            spent = hits.total() >= kills
            place = None if spent else [*CALLS, OUTSIDE][generator.integers(len(CALLS) + 1)]
            number = int(generator.integers(1, CALLS[place][2] + 1)) if place in CALLS else 0
            status = attempt(data, model, place, number, generator.uniform(SOON, LATE))
            if status == 0:
                break
            assert status == -signal.SIGKILL, f"a training ended by itself with status {status}"
            hits[place] += 1
            say(f"run {runs}, kill {hits.total()}: {place}{f', call {number}' if number else ''}")
        found = contents(model)
        different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        if different:
            differing.append(runs)
        say(f"run {runs}: {', '.join(different) or 'the same to the bit'}")
    return hits, runs, differing


def contents(folder):
    """Return the files below a folder by their paths: a dict of bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def attempt(data, model, place=None, number=0, seconds=0.0):
    """Begin a training, or go on with it, in a process of its own; return its exit status."""
    code = "import sys; from benchmarks.interruption import train_and_die as run; run(*sys.argv[1:])"
    given = [sys.executable, "-c", code, data, model, place or "", str(number)]
    with subprocess.Popen(given, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            return process.wait(seconds if place == OUTSIDE else PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            assert place == OUTSIDE, f"a training took more than {PATIENCE} s"
            return process.wait()


def train_and_die(data, model, place, number):
    """Train tiny networks, and kill this process at the call of that number of a place of CALLS."""
    from ecg.startup import start_keras

    start_keras()
    from ecg.networks import NetworkSettings
    from ecg.pipeline import Settings, train
    from ecg.training import TrainingSettings

    if place in CALLS:
        die_at(*CALLS[place][:2], int(number))
    train(data, model, Settings(
        network=NetworkSettings(width=4, kernels=(5,), squeeze_ratio=2, hidden=8),
        training=TrainingSettings(epochs=3, steps=3), lead_sets=(12, 2), resamples=3, jobs=1,
    ))  # fmt: skip


def die_at(owner, name, number):
    """Put in place of a function one that kills this process at its call of that number, half done where it writes."""
    module, _, kind = owner.partition(".Model")
    home = __import__(module, fromlist=["_"])
    home = home.Model if _ else home
    whole, calls = getattr(home, name), []

    def dies(*given, **named):
        calls.append(1)
        if len(calls) < number:
            return whole(*given, **named)
        if name in ("savez", "save_weights"):
            path = given[-1]
            whole(*given, **named)
            os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(home, name, dies)


def main():
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        hits, runs, differing = measure(options.kills, options.seed, Path(folder))
    print("| killed at | kills |\n|---|---|")
    for place, count in hits.most_common():
        print(f"| {place} | {count} |")
    print(f"\n{runs} runs, {len(differing)} of which differ from one that was not killed, "
          f"{duration(time.monotonic() - begun)}")  # fmt: skip
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
