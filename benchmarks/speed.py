"""How fast each part is, against what the machine could do at the best, or the same done plainly.

python -m benchmarks.speed [FIGURE ...] [--data FOLDER] [--rounds 5] [--records N] [--files N]

Figures: store, batches, step, pytorch, bfloat16, answer, test_model, loading, evaluate, thresholds, and growth, which
takes long and is measured only where it is named, or "all" is. What is compared is timed in turns, after a round that
does not count, and the medians are taken. Without --data the recordings are made up. Prints the table of
benchmarks/README.md. What needs something that is not there, PyTorch or a processor made for bfloat16, is not measured.
"""

import argparse
import io
import math
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing, redirect_stdout
from dataclasses import asdict
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import numpy as np

import team_code
import test_model
from benchmarks import plainly
from benchmarks.growth import growth
from benchmarks.precision import PRECISIONS
from benchmarks.scoring import evaluate, thresholds
from benchmarks.timing import LENGTH, Bench, Row, build, lines, measure, models, recordings, told, training_step
from ecg.data.batches import Batch, prefetch, read_batch
from ecg.data.headers import read_header_text
from ecg.data.labels import TRAINED
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.records import find_records, read_record
from ecg.data.resampling import RATE, filter_length
from ecg.data.store import build_store
from ecg.runtime.files import to_json
from ecg.runtime.keras_startup import start_keras
from ecg.runtime.processes import parallel_map

MADE_FOR_IT = {"amx_bf16", "avx512_bf16"}  # what Linux calls a processor's instructions for bfloat16
TAPS = filter_length(RATE)
FILTERS = {f"FIR of {TAPS} taps, as ours": TAPS, "Butterworth of order 3": 0}
CALLS = 20  # of what takes milliseconds, for each time that is taken
REPEATS = 5  # of all batches, likewise
PLAIN_SHARE = 20  # of how many recordings one is prepared plainly, for all would take minutes
LOADING = "import sys; from team_code import *; [load_model(sys.argv[1], each.split()) for each in sys.argv[2:]]"


def store(bench):
    """Build the store, against scipy's loadmat of the same files, and against a plain chain of scipy's functions."""
    data = recordings(bench)
    paths = find_records(data)

    def construct(jobs):
        shutil.rmtree(bench.place / "built", ignore_errors=True)
        build_store(data, bench.place / "built", jobs)

    def read(jobs):
        with closing(parallel_map(plainly.read, paths, jobs, "read")) as counts:
            sum(counts)

    pieces, share = {}, paths[::PLAIN_SHARE]
    for name, taps in FILTERS.items():
        pieces[name] = lambda taps=taps: [plainly.prepare(path, taps) for path in share]
    for jobs in (1, 2):
        pieces |= {("built", jobs): lambda jobs=jobs: construct(jobs), ("read", jobs): lambda jobs=jobs: read(jobs)}
    seconds = yield pieces
    for jobs in (1, 2):
        built, least = seconds["built", jobs], seconds["read", jobs]
        what = f"building the store of {len(paths):,} recordings, processes: {jobs}, {told(built)}"
        yield Row(what, f"loadmat, {told(least)}", built / least, 2.5)
        for name in FILTERS:
            plain = seconds[name] * len(paths) / len(share)
            against = f"loadmat, resample, filtfilt ({name}) in one process, {told(plain)} by {len(share)} of them"
            yield Row(what, against, plain / built, 3, least=True)


def batches(bench):
    """Gather batches ahead of a step that does nothing, from memory and from the disk, against the rate of training."""
    stored = build_store(recordings(bench), bench.place / "store")
    order = np.random.default_rng(1).permutation(len(stored))
    size, records, columns = min(bench.batch, len(stored)), np.arange(len(stored)), range(len(LEADS))
    starts = range(0, len(order) - size + 1, size)
    plan = [Batch(order[start : start + size], np.zeros(size, int), LENGTH) for start in starts]

    def feed(plan):
        for _ in prefetch(lambda batch: read_batch(stored, records, columns, batch), plan):
            pass

    def feed_cold():
        stored.release()
        with open(stored.microvolts.filename, "rb") as file:  # out of memory, as the most of a store that is larger is
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        feed(plan)

    signals = read_batch(stored, records, columns, plan[0])
    seconds = yield {"in memory": lambda: feed(REPEATS * plan), "on the disk": feed_cold,
                     "trained": training_step(build(bench, len(LEADS)), signals)}  # fmt: skip
    trained, recordings_fed = size / seconds["trained"], len(plan) * size
    for place, repeats in (("in memory", REPEATS), ("on the disk", 1)):
        fed = repeats * recordings_fed / seconds[place]
        yield Row(f"feeding batches of {size} from a store {place}, {fed:,.0f} recordings/s",
                  f"training on them, {trained:,.0f}/s", fed / trained, 10, least=True)  # fmt: skip


def noise(bench):
    """Return a batch of signals made up: (B, T, leads) float32."""
    return np.random.default_rng(1).normal(size=(bench.batch, LENGTH, len(LEADS))).astype(np.float32)


def operations(network, length):
    """Return the floating-point operations of the convolutions and dense layers for one signal of this length."""
    import keras

    layers = [layer for layer in network.layers if hasattr(layer, "kernel")]
    every = keras.Model(network.input, [layer.output for layer in layers])
    outputs = every.compute_output_spec(keras.KerasTensor((1, length, network.input_shape[-1])))
    return sum(
        2 * math.prod(layer.kernel.shape) * math.prod(output.shape[1:-1])
        for layer, output in zip(layers, outputs, strict=True)
    )


def step(bench):
    """Train a step, which takes three times the operations of a forward pass, against a large matrix product."""
    import keras

    network = build(bench, len(LEADS))
    matrix = np.random.default_rng(1).random((bench.product, bench.product), np.float32)
    matrix = keras.ops.convert_to_tensor(matrix)
    seconds = yield {
        "step": training_step(network, noise(bench)),
        "product": lambda: float(keras.ops.matmul(matrix, matrix)[0, 0]),
    }
    rate = 3 * bench.batch * operations(network, LENGTH) / seconds["step"] / 1e9
    limit = 2 * bench.product**3 / seconds["product"] / 1e9
    yield Row(f"a training step of {bench.batch} recordings, {told(seconds['step'])}, {rate:,.1f} GFLOP/s",
              f"a product of {bench.product} x {bench.product} matrices, {limit:,.1f} GFLOP/s",
              rate / limit, 0.45, least=True)  # fmt: skip


def pytorch(bench):
    """Train a step, against the same network written plainly in PyTorch, in a process of its own."""
    from ecg.models.resnets import NetworkSettings

    if not find_spec("torch"):
        yield {}
        lacking = "the same network in PyTorch, which pip install -r benchmarks/requirements.txt installs"
        yield Row("a training step", lacking, math.nan, 1.5, least=True)
        return
    network = build(bench, len(LEADS))
    signals = noise(bench)
    sizes = {"batch": bench.batch, "length": LENGTH, "leads": len(LEADS), "classes": len(TRAINED),
             "settings": asdict(NetworkSettings(**bench.network))}  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.plain_network", to_json(sizes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          cwd=Path(__file__).parents[1]) as child:  # fmt: skip

        def plain():
            print(file=child.stdin, flush=True)
            float(child.stdout.readline())

        pieces = {"ours": training_step(network, signals), "plain": plain}
        for piece in bench.warming * list(pieces.values()):
            piece()
        seconds = yield pieces
        child.stdin.close()
    ours, plain = (bench.batch / seconds[name] for name in pieces)
    yield Row(f"training steps of {bench.batch} recordings, {ours:,.1f} recordings/s",
              f"the same network in PyTorch, {plain:,.1f} recordings/s", ours / plain, 1.5, least=True)  # fmt: skip


def has_bfloat16(cpuinfo=Path("/proc/cpuinfo")):
    """Return whether this machine has an accelerator, or else a processor that is made for bfloat16."""
    from ecg.training.backend import accelerators

    return bool(accelerators()) or cpuinfo.exists() and not MADE_FOR_IT.isdisjoint(cpuinfo.read_text().split())


def bfloat16(bench):
    """Train a step in bfloat16 where the machine has it, against one in float32."""
    from ecg.models.resnets import precision_policy

    if not has_bfloat16():
        yield {}
        yield Row(
            "a training step in bfloat16", "float32, on a machine that is made for both", math.nan, 1.5, least=True
        )
        return
    signals = noise(bench)
    pieces = {}
    for precision in PRECISIONS:
        with precision_policy(precision):
            pieces[precision] = training_step(build(bench, len(LEADS)), signals)
    seconds = yield pieces
    single, half = (seconds[precision] for precision in PRECISIONS)
    yield Row(f"a training step of {bench.batch} recordings in bfloat16, {told(half)}", f"float32, {told(single)}",
              single / half, 1.5, least=True)  # fmt: skip


def answer(bench):
    """Answer for one recording, against the network's forward pass alone."""
    path = find_records(recordings(bench))[0]
    model, text, integers = team_code.load_model(models(bench), LEADS), read_header_text(path), read_record(path)[1]
    signal, network = np.zeros((1, LENGTH, len(LEADS)), np.float32), model.ensemble.general.members[0].network
    seconds = yield {
        "answer": lambda: [team_code.run_model(model, text, integers) for _ in range(CALLS)],
        "pass": lambda: [network.predict_on_batch(signal) for _ in range(CALLS)],
    }
    whole, forward = seconds["answer"] / CALLS, seconds["pass"] / CALLS
    yield Row(f"one prediction of run_model, {told(whole)}", f"the forward pass, {told(forward)}", whole / forward, 2)
    yield Row("one prediction of run_model", "the clock", 1000 * whole, 10, unit=" ms")


def answers(bench):
    """Answer for a folder with a model that is loaded, against reading and predicting alone."""
    data, folder = recordings(bench), models(bench)
    paths, model = find_records(data), team_code.load_model(folder, LEADS)

    def whole():
        with patch.object(test_model, "load_model", lambda *_: model), redirect_stdout(io.StringIO()):
            try:
                test_model.main([folder, data, bench.place / "outputs"])
            except SystemExit as end:
                if end.code:
                    raise RuntimeError(f"test_model.py failed: {end.code}") from end

    def parts():
        for path in paths:
            team_code.run_model(model, read_header_text(path), read_record(path)[1])

    seconds = yield {"whole": whole, "parts": parts}
    taken, least = seconds["whole"], seconds["parts"]
    yield Row(f"test_model.py on {len(paths):,} recordings, models loaded, {told(taken)}",
              f"reading and predicting, {told(least)}", taken / least, 1.2)  # fmt: skip


def loading(bench):
    """Start a process that loads the models of all five lead sets, against the clock."""
    command = [sys.executable, "-c", LOADING, str(models(bench)), *(" ".join(leads) for leads in LEAD_SETS.values())]
    seconds = yield {"load": lambda: subprocess.run(command, check=True, cwd=Path(__file__).parents[1])}
    yield Row("starting, and loading all five models", "the clock", seconds["load"], 8, unit=" s")


FIGURES = {"store": store, "batches": batches, "step": step, "pytorch": pytorch, "bfloat16": bfloat16, "answer": answer,
           "test_model": answers, "loading": loading, "evaluate": evaluate, "thresholds": thresholds,
           "growth": growth}  # fmt: skip
LONG = ("growth",)


def main():
    """Measure the figures that are named, or all but the long ones, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"{', '.join(FIGURES)}, or all")
    parser.add_argument("--data", type=Path, help="folder of recordings; made up where it is not given")
    parser.add_argument("--rounds", type=int, default=Bench.rounds, help="5 or more, beside one that does not count")
    parser.add_argument(
        "--records", type=int, default=Bench.records, help="most recordings that are read and predicted"
    )
    parser.add_argument("--files", type=int, default=Bench.files, help="recordings that are evaluated")
    options = parser.parse_args()
    if unknown := set(options.figures) - {*FIGURES, "all"}:
        parser.error(f"no figure is called {', '.join(sorted(unknown))}")
    if options.rounds < Bench.rounds:
        parser.error(f"a median is of {Bench.rounds} rounds or more")
    figures = options.figures or [name for name in FIGURES if name not in LONG]
    figures = FIGURES if "all" in figures else figures
    start_keras()
    import keras

    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place), options.data, options.rounds, options.records, options.files)
        for line in lines(row for name in figures for row in measure(FIGURES[name], bench)):
            print(line, flush=True)
    print(f"\n{os.cpu_count()} cores, {date.today()}, Keras {keras.version()} on {keras.backend.backend()}")


if __name__ == "__main__":
    main()
