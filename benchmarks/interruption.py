"""Kill and resume trainings, and compare the result bit by bit.

For TensorFlow; on JAX nothing is killed at "a training step" or "a prediction".

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
SYNTHETIC_RECORDS = 24  # for pretraining; so few that the process to kill makes them itself
PATIENCE = 600  # s; a training of this size that takes longer hangs
# Kill points: owner and name of a function, and the range from which the number of its call is drawn. The numbers are
# small, so that a training is killed many times before it ends.
CALLS = {
    "reading": ("ecg.data.shards", "read_shard", 1, 1),
    "synthesizing": ("ecg.data.memory_stores", "prepare_recording", 1, SYNTHETIC_RECORDS),
    "a training step": ("ecg.training.backend.StepRunner", "train", 1, 12),
    "a prediction": ("ecg.training.backend.StepRunner", "predict", 1, 12),
    "saving a stage or a checkpoint": ("numpy", "savez", 1, 3),
    "moving into place": ("os", "replace", 1, 7),
    "saving a model": ("keras.Model", "save_weights", 1, 2),
    "publishing": ("ecg.commands.train", "publish", 1, 1),
    "cleaning up": ("ecg.commands.train", "remove_folder", 1, 1),
}
# Kill points that a run reaches once: kept until hit.
ONCE = ("reading", "synthesizing", "saving a model", "publishing", "cleaning up")
SOON, LATE = 4.0, 12.0  # s; range of the time of a kill from outside
OUTSIDE = "any moment, from outside"
PLACES = (*CALLS, OUTSIDE)


def measure(kills, seed, folder, log=print):
    """Kill and resume trainings until `kills` kills have hit, each kill point at least once.

    A run is a training that is resumed in its folder after each kill, until it is finished. It differs if its model
    folder has other files than that of an uninterrupted training.

    Returns:
        A Counter of kills by kill point for each run, and the numbers of the differing runs, from 1.
    """
    generator = np.random.default_rng(seed)
    data, uninterrupted, note = folder / "data", folder / "whole", folder / "killed at"
    synthesize(data, RECORDS, seed=seed)
    assert run_training(data, uninterrupted, {}, note) == 0, "the uninterrupted training failed"
    expected, runs, differing = read_files(uninterrupted), [], []
    while count_kills(runs, kills) is not None:
        runs.append(hits := Counter())
        model = folder / f"run {len(runs)}"
        while True:
            kill_points = draw_kill_points(generator, hits, count_kills(runs, kills))
            if (status := run_training(data, model, kill_points, note)) == 0:
                break
            assert status == -signal.SIGKILL, f"a training ended by itself with status {status}"
            kill_point = note.read_text() if note.exists() else OUTSIDE
            hits[kill_point] += 1
            n_finished = len(list(model.glob("stages/*/result.npz")))
            log(f"run {len(runs)}, kill {hits.total()}: {kill_point}, {n_finished} stages finished")
        files = read_files(model)
        different = sorted(name for name in expected.keys() | files.keys() if expected.get(name) != files.get(name))
        if different:
            differing.append(len(runs))
        log(f"run {len(runs)}: {', '.join(different) or 'the same to the bit'}")
    return runs, differing


def count_kills(runs, kills):
    """Return the kills of all runs by kill point, or None once they are enough.

    Args:
        runs: Kills by kill point for each run.
        kills: Number of kills that are enough if each kill point is among them.
    """
    total = sum(runs, Counter())
    return total if total.total() < kills or total.keys() < set(PLACES) else None


def draw_kill_points(generator, hits, total):
    """Draw kill points with numbers of calls or seconds; the first one kills.

    Args:
        generator: Random generator.
        hits: Kills of this run by kill point.
        total: Kills of all runs by kill point. None: only the kill points that a run reaches once are drawn.
    """
    chosen = {kill_point for kill_point in ONCE if not hits[kill_point]}
    if total is not None and hits:
        repeatable = [kill_point for kill_point in PLACES if kill_point not in ONCE]
        fewest = min(total[kill_point] for kill_point in repeatable)
        chosen.add(str(generator.choice([kill_point for kill_point in repeatable if total[kill_point] == fewest])))
    numbers = {kill_point: int(generator.integers(low, high + 1)) for kill_point, (*_, low, high) in CALLS.items()}
    return {
        kill_point: numbers.get(kill_point, generator.uniform(SOON, LATE))
        for kill_point in PLACES
        if kill_point in chosen
    }


def read_files(folder):
    """Return the content of the files below a folder, by their paths."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_training(data, model, kill_points, note):
    """Start or resume a training in a subprocess; return its exit status.

    It is killed at the first of the kill points, and leaves its name in the file `note`, except for OUTSIDE.
    """
    note.unlink(missing_ok=True)
    code = "import sys; from benchmarks.interruption import train_until_killed as run; run(*sys.argv[1:])"
    command = [sys.executable, "-c", code, data, model, to_json(kill_points), note]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            return process.wait(kill_points.get(OUTSIDE, PATIENCE))
        except subprocess.TimeoutExpired:
            process.kill()
            assert OUTSIDE in kill_points, f"a training took more than {PATIENCE} s"
            return process.wait()


def train_until_killed(data, model, kill_points, note):
    """Train tiny networks, and kill this process at the first kill point (JSON)."""
    from ecg.runtime.keras_startup import start_keras

    start_keras()
    from ecg.commands.train import Settings, train
    from ecg.models.network_settings import NetworkSettings
    from ecg.systems.recipes import SyntheticPretraining
    from ecg.training.settings import TrainingSettings

    for kill_point, number in json.loads(kill_points).items():
        if kill_point in CALLS:
            kill_at(kill_point, number, Path(note))
    train(data, model, Settings(
        network=NetworkSettings(width=4, kernels=(5,), squeeze_ratio=2, hidden=8),
        training=TrainingSettings(epochs=3, steps=3), lead_sets=(12, 2), resamples=3,
        pretraining=SyntheticPretraining(SYNTHETIC_RECORDS, training=TrainingSettings(epochs=3, steps=2)),
    ))  # fmt: skip


def kill_at(kill_point, number, note):
    """Patch a function to kill this process at its n-th call; writes are half done."""
    owner, name, *_ = CALLS[kill_point]
    owner_object = pkgutil.resolve_name(owner)
    original, calls = getattr(owner_object, name), []

    def call_or_die(*arguments, **options):
        calls.append(1)
        if len(calls) < number:
            return original(*arguments, **options)
        if name in ("savez", "save_weights"):
            path = arguments[-1]
            original(*arguments, **options)
            os.truncate(path, os.path.getsize(path) // 2)
        note.write_text(kill_point)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner_object, name, call_or_die)


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
    for kill_point, count in sum(runs, Counter()).most_common():
        print(f"| {kill_point} | {count} |")
    print(f"\n{len(runs)} runs of {min(map(Counter.total, runs))} to {max(map(Counter.total, runs))} kills, "
          f"{len(differing)} differ from the uninterrupted one, "
          f"{format_duration(time.monotonic() - begun)}")  # fmt: skip
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
