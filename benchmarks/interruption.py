"""Trainings that are killed, again and again, against one that is not: what they come to, bit for bit.

On TensorFlow; on JAX nothing is killed at "a step" or "an answer".

python -m benchmarks.interruption [--kills N] [--seed S]
"""

import argparse
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from ecg.data.synthetic import synthesize
from ecg.runtime.console import format_duration
from ecg.runtime.files import to_json

ROOT = Path(__file__).parents[1]
RECORDS = 60
PATIENCE = 600  # s; a training of this size that takes longer hangs
# Where a training kills itself: owner and name of a function, and the numbers of its calls that are drawn from. They
# are small, so that a training is killed many times before it comes to its end.
CALLS = {
    "reading": ("ecg.data.store", "source_of", 1, 50),
    "a step": ("ecg.training.backend.StepRunner", "train", 1, 12),
    "an answer": ("ecg.training.backend.StepRunner", "predict", 1, 12),
    "saving a stage or where it stands": ("numpy", "savez", 1, 3),
    "moving into place": ("os", "replace", 1, 7),
    "saving a model": ("keras.Model", "save_weights", 1, 2),
    "publishing": ("ecg.commands.train", "publish", 1, 1),
    "tidying up": ("ecg.commands.train", "put_away", 1, 1),
}
ONCE = ("reading", "saving a model", "publishing", "tidying up")  # places that a run comes to once: they stay till hit
SOON, LATE = 4.0, 12.0  # s; between these a training is killed from outside
OUTSIDE = "any moment, from outside"
PLACES = (*CALLS, OUTSIDE)


def measure(kills, seed, folder, say=print):
    """Kill trainings at random until so many kills have hit; return the kills by place, of each run, and what differs.

    A run is a training that is begun again in its folder after each kill, until it is done. It differs where the model
    folder it leaves does not hold the same files to the bit as one that was not interrupted. Returns a Counter for each
    run, and the numbers of those that differ, from 1.
    """
    generator = np.random.default_rng(seed)
    data, whole, note = folder / "data", folder / "whole", folder / "killed at"
    synthesize(data, RECORDS, seed=seed)
    assert attempt(data, whole, {}, note) == 0, "the training that is not to be killed did not come to its end"
    expected, runs, differing = contents(whole), [], []
    while sum(map(Counter.total, runs)) < kills:
        runs.append(hits := Counter())
        model = folder / f"run {len(runs)}"
        while True:
            more = sum(map(Counter.total, runs)) < kills
            if (status := attempt(data, model, drawn(generator, hits, more), note)) == 0:
                break
            assert status == -signal.SIGKILL, f"a training ended by itself with status {status}"
            place = note.read_text() if note.exists() else OUTSIDE
            hits[place] += 1
            say(f"run {len(runs)}, kill {hits.total()}: {place}")
        found = contents(model)
        different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        if different:
            differing.append(len(runs))
        say(f"run {len(runs)}: {', '.join(different) or 'the same to the bit'}")
    return runs, differing


def drawn(generator, hits, more):
    """Return where a training is to be killed, whichever comes first: places, and the call's number or the seconds."""
    chosen = {place for place in ONCE if not hits[place]}
    if more and hits:
        others = [place for place in PLACES if place not in ONCE]
        fewest = min(hits[place] for place in others)
        chosen.add(str(generator.choice([place for place in others if hits[place] == fewest])))
    numbers = {place: int(generator.integers(low, high + 1)) for place, (*_, low, high) in CALLS.items()}
    return {place: numbers.get(place, generator.uniform(SOON, LATE)) for place in PLACES if place in chosen}


def contents(folder):
    """Return the files below a folder by their paths: a dict of bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def attempt(data, model, places, note):
    """Begin a training, or go on with it, in a process of its own; return its exit status.

    It is killed where the first of the places is reached, and leaves the name of that in a file, but for OUTSIDE.
    """
    note.unlink(missing_ok=True)
    code = "import sys; from benchmarks.interruption import train_and_die as run; run(*sys.argv[1:])"
    given = [sys.executable, "-c", code, data, model, to_json(places), note]
    with subprocess.Popen(given, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            return process.wait(places.get(OUTSIDE, PATIENCE))
        except subprocess.TimeoutExpired:
            process.kill()
            assert OUTSIDE in places, f"a training took more than {PATIENCE} s"
            return process.wait()


def train_and_die(data, model, places, note):
    """Train tiny networks, and kill this process at the first of these calls, JSON of places of CALLS and numbers."""
    from ecg.runtime.keras_startup import start_keras

    start_keras()
    from ecg.commands.train import Settings, train
    from ecg.models.resnets import NetworkSettings
    from ecg.training.trainer import TrainingSettings

    for place, number in json.loads(places).items():
        if place in CALLS:
            die_at(place, number, Path(note))
    train(data, model, Settings(
        network=NetworkSettings(width=4, kernels=(5,), squeeze_ratio=2, hidden=8),
        training=TrainingSettings(epochs=3, steps=3), lead_sets=(12, 2), resamples=3, jobs=2,
    ))  # fmt: skip


def die_at(place, number, note):
    """Put in place of a function one that kills this process at its call of that number, half done where it writes."""
    owner, name, *_ = CALLS[place]
    home = pkgutil.resolve_name(owner)
    whole, calls = getattr(home, name), []

    def dies(*given, **named):
        calls.append(1)
        if len(calls) < number:
            return whole(*given, **named)
        if name in ("savez", "save_weights"):
            path = given[-1]
            whole(*given, **named)
            os.truncate(path, os.path.getsize(path) // 2)
        note.write_text(place)
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
        runs, differing = measure(options.kills, options.seed, Path(folder))
    print("| killed at | kills |\n|---|---|")
    for place, count in sum(runs, Counter()).most_common():
        print(f"| {place} | {count} |")
    print(f"\n{len(runs)} runs of {min(map(Counter.total, runs))} to {max(map(Counter.total, runs))} kills, "
          f"{len(differing)} of which differ from one that was not killed, "
          f"{format_duration(time.monotonic() - begun)}")  # fmt: skip
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
