"""Measure how fast each part is, against the machine's limit or a plain program.

python -m benchmarks.speed [FIGURE ...] [--data FOLDER] [--rounds 5] [--records N] [--files N]

Figures: store, batches, step, pytorch, bfloat16, prediction, test_model, loading, evaluate, thresholds, decision,
growth. Growth takes long and is measured only if it or "all" is named. Compared programs are timed in turns, after a
warm-up round; the table has the medians. Without --data the recordings are synthetic. Prints the table of
benchmarks/README.md. Without PyTorch or a processor for bfloat16, their figures are not measured.
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
from benchmarks import reference
from benchmarks.growth import measure_growth
from benchmarks.precision import PRECISIONS
from benchmarks.scoring import measure_decision, measure_evaluation, measure_threshold_search
from benchmarks.timing import (
    LENGTH,
    Bench,
    Row,
    build_network,
    format_lines,
    format_seconds,
    make_training_step,
    measure,
    prepare_recordings,
    save_models,
)
from ecg.data.batches import Batch, prefetch, read_batch
from ecg.data.headers import read_header_text
from ecg.data.labels import TRAINED
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.records import find_records, read_record
from ecg.data.resampling import RATE, filter_length
from ecg.data.samples import SAMPLES
from ecg.data.store import build_store
from ecg.runtime.executors import LocalExecutor
from ecg.runtime.files import to_json
from ecg.runtime.keras_startup import start_keras

BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}  # Linux's names of processor instructions for bfloat16
TAPS = filter_length(RATE)
FILTERS = {f"FIR of {TAPS} taps, as ours": TAPS, "Butterworth of order 3": 0}
CALLS = 20  # calls of milliseconds, a timing
REPEATS = 5  # passes over all batches, a timing
PLAIN_SHARE = 20  # one in 20 recordings is preprocessed plainly; all would take minutes
LOAD_MODELS = "import sys; from team_code import *; [load_model(sys.argv[1], leads.split()) for leads in sys.argv[2:]]"


def measure_store(bench):
    """Build the store; compare with scipy's loadmat and a chain of its functions."""
    data = prepare_recordings(bench)
    paths = find_records(data)

    def rebuild(jobs):
        shutil.rmtree(bench.folder / "built", ignore_errors=True)
        build_store(data, bench.folder / "built", LocalExecutor(jobs))

    def read(jobs):
        with closing(LocalExecutor(jobs).map(reference.count_samples, paths, "read")) as counts:
            sum(counts)

    functions, share = {}, paths[::PLAIN_SHARE]
    for name, taps in FILTERS.items():
        functions[name] = lambda taps=taps: [reference.preprocess(path, taps) for path in share]
    for jobs in (1, 2):
        functions |= {("built", jobs): lambda jobs=jobs: rebuild(jobs), ("read", jobs): lambda jobs=jobs: read(jobs)}
    seconds = yield functions
    for jobs in (1, 2):
        duration, reading = seconds["built", jobs], seconds["read", jobs]
        what = f"building the store of {len(paths):,} recordings, processes: {jobs}, {format_seconds(duration)}"
        yield Row(what, f"loadmat, {format_seconds(reading)}", duration / reading, 2.5)
        for name in FILTERS:
            plain = seconds[name] * len(paths) / len(share)
            against = (
                f"loadmat, resample, filtfilt ({name}) in one process, {format_seconds(plain)} by {len(share)} of them"
            )
            yield Row(what, against, plain / duration, 3, is_minimum=True)


def measure_batches(bench):
    """Prefetch batches from memory and from disk; compare with the training rate."""
    stored = build_store(prepare_recordings(bench), bench.folder / "store")
    order = np.random.default_rng(1).permutation(len(stored))
    size, records, columns = min(bench.batch, len(stored)), np.arange(len(stored)), range(len(LEADS))
    starts = range(0, len(order) - size + 1, size)
    plan = [Batch(order[start : start + size], np.zeros(size, int), LENGTH) for start in starts]

    def feed(plan):
        for _ in prefetch(lambda batch: read_batch(stored, records, columns, batch), plan):
            pass

    def feed_cold():
        stored.release()
        for path in (bench.folder / "store").glob(f"*{SAMPLES}"):
            with open(path, "rb") as file:  # drop the pages, as for a store larger than the memory
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        feed(plan)

    signals = read_batch(stored, records, columns, plan[0])
    seconds = yield {"in memory": lambda: feed(REPEATS * plan), "on the disk": feed_cold,
                     "trained": make_training_step(build_network(bench, len(LEADS)), signals)}  # fmt: skip
    trained, recordings_fed = size / seconds["trained"], len(plan) * size
    for where, repeats in (("in memory", REPEATS), ("on the disk", 1)):
        fed = repeats * recordings_fed / seconds[where]
        yield Row(f"feeding batches of {size} from a store {where}, {fed:,.0f} recordings/s",
                  f"training on them, {trained:,.0f}/s", fed / trained, 10, is_minimum=True)  # fmt: skip


def draw_noise(bench):
    """Return a batch of random signals: (B, T, leads) float32."""
    return np.random.default_rng(1).normal(size=(bench.batch, LENGTH, len(LEADS))).astype(np.float32)


def count_operations(network, length):
    """Return the floating-point operations of a network's forward pass of one signal.

    Counted are convolutions and dense layers.
    """
    import keras

    layers = [layer for layer in network.layers if hasattr(layer, "kernel")]
    model = keras.Model(network.input, [layer.output for layer in layers])
    outputs = model.compute_output_spec(keras.KerasTensor((1, length, network.input_shape[-1])))
    return sum(
        2 * math.prod(layer.kernel.shape) * math.prod(output.shape[1:-1])
        for layer, output in zip(layers, outputs, strict=True)
    )


def measure_step(bench):
    """Train a step, and compare its rate with that of a large matrix product.

    A step takes three times the operations of a forward pass.
    """
    import keras

    network = build_network(bench, len(LEADS))
    matrix = np.random.default_rng(1).random((bench.product, bench.product), np.float32)
    matrix = keras.ops.convert_to_tensor(matrix)
    seconds = yield {
        "step": make_training_step(network, draw_noise(bench)),
        "product": lambda: float(keras.ops.matmul(matrix, matrix)[0, 0]),
    }
    rate = 3 * bench.batch * count_operations(network, LENGTH) / seconds["step"] / 1e9
    limit = 2 * bench.product**3 / seconds["product"] / 1e9
    yield Row(f"a training step of {bench.batch} recordings, {format_seconds(seconds['step'])}, {rate:,.1f} GFLOP/s",
              f"a product of {bench.product} x {bench.product} matrices, {limit:,.1f} GFLOP/s",
              rate / limit, 0.45, is_minimum=True)  # fmt: skip


def measure_pytorch(bench):
    """Train a step; compare with the same network in plain PyTorch in a subprocess."""
    from ecg.models.network_settings import NetworkSettings

    if not find_spec("torch"):
        yield {}
        missing = "the same network in PyTorch, which pip install -r benchmarks/requirements.txt installs"
        yield Row("a training step", missing, math.nan, 1.5, is_minimum=True)
        return
    network = build_network(bench, len(LEADS))
    signals = draw_noise(bench)
    sizes = {"batch": bench.batch, "length": LENGTH, "leads": len(LEADS), "classes": len(TRAINED),
             "settings": asdict(NetworkSettings(**bench.network))}  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.plain_network", to_json(sizes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          cwd=Path(__file__).parents[1]) as child:  # fmt: skip

        def step_plainly():
            print(file=child.stdin, flush=True)
            float(child.stdout.readline())

        functions = {"ours": make_training_step(network, signals), "plain": step_plainly}
        for function in bench.warm_up_steps * list(functions.values()):
            function()
        seconds = yield functions
        child.stdin.close()
    our_rate, step_plainly = (bench.batch / seconds[name] for name in functions)
    yield Row(
        f"training steps of {bench.batch} recordings, {our_rate:,.1f} recordings/s",
        f"the same network in PyTorch, {step_plainly:,.1f} recordings/s",
        our_rate / step_plainly,
        1.5,
        is_minimum=True,
    )


def has_bfloat16(cpuinfo=Path("/proc/cpuinfo")):
    """Return whether this machine has an accelerator or a processor for bfloat16."""
    from ecg.training.distribution import accelerators

    return bool(accelerators()) or cpuinfo.exists() and not BFLOAT16_FLAGS.isdisjoint(cpuinfo.read_text().split())


def measure_bfloat16(bench):
    """Train a step in bfloat16 if the machine has it; compare with float32."""
    from ecg.models.resnets import precision_policy

    if not has_bfloat16():
        yield {}
        yield Row("a training step in bfloat16", "float32, on a machine for both", math.nan, 1.5, is_minimum=True)
        return
    signals = draw_noise(bench)
    functions = {}
    for precision in PRECISIONS:
        with precision_policy(precision):
            functions[precision] = make_training_step(build_network(bench, len(LEADS)), signals)
    seconds = yield functions
    single, half = (seconds[precision] for precision in PRECISIONS)
    yield Row(
        f"a training step of {bench.batch} recordings in bfloat16, {format_seconds(half)}",
        f"float32, {format_seconds(single)}",
        single / half,
        1.5,
        is_minimum=True,
    )


def measure_prediction(bench):
    """Predict one recording, and compare with the network's forward pass alone by other programs."""
    path = find_records(prepare_recordings(bench))[0]
    model, text, integers = (
        team_code.load_model(save_models(bench), LEADS),
        read_header_text(path),
        read_record(path)[1],
    )
    member = model.ensemble.general.members[0]
    signal = np.random.default_rng(0).normal(0, 0.3, (1, LENGTH, len(LEADS))).astype(np.float32)
    passes = make_forward_passes(member, signal)
    functions = passes | {"prediction": lambda: team_code.run_model(model, text, integers)}
    seconds = yield {
        name: lambda function=function: [function() for _ in range(CALLS)] for name, function in functions.items()
    }
    duration = seconds["prediction"] / CALLS
    for name in passes:
        forward = seconds[name] / CALLS
        yield Row(
            f"one prediction of run_model, {format_seconds(duration)}",
            f"the forward pass of {name}, {format_seconds(forward)}",
            duration / forward,
            2 if name == "numpy" else 1.25,
        )
    yield Row("one prediction of run_model", "the clock", 1000 * duration, 10, unit=" ms")


def make_forward_passes(member, signal):
    """Return the forward pass of a network by numpy, Keras, XLA on TensorFlow, and an installed onnxruntime."""
    import keras

    passes = {"numpy": lambda: member.numpy_network.predict(signal),
              "Keras": lambda: member.network.predict_on_batch(signal)}  # fmt: skip
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(lambda x: member.network(x, training=False), jit_compile=True, autograph=False)
        passes["XLA"] = lambda: compiled(tf.constant(signal)).numpy()
    if find_spec("onnxruntime") and find_spec("onnx"):
        import onnxruntime

        from ecg.models.onnx_export import build_onnx_model

        content = build_onnx_model([member], len(member.leads), len(TRAINED)).SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        passes["onnxruntime"] = lambda: session.run(None, {"signal": signal})
    return passes


def measure_test_model(bench):
    """Predict a folder with a loaded model; compare with reading and predicting."""
    data, folder = prepare_recordings(bench), save_models(bench)
    paths, model = find_records(data), team_code.load_model(folder, LEADS)

    def run_script():
        with patch.object(test_model, "load_model", lambda *_: model), redirect_stdout(io.StringIO()):
            try:
                test_model.main([folder, data, bench.folder / "outputs"])
            except SystemExit as end:
                if end.code:
                    raise RuntimeError(f"test_model.py failed: {end.code}") from end

    def predict_recordings():
        for path in paths:
            team_code.run_model(model, read_header_text(path), read_record(path)[1])

    seconds = yield {"whole": run_script, "parts": predict_recordings}
    duration, parts_duration = seconds["whole"], seconds["parts"]
    yield Row(f"test_model.py on {len(paths):,} recordings, models loaded, {format_seconds(duration)}",
              f"reading and predicting, {format_seconds(parts_duration)}", duration / parts_duration, 1.2)  # fmt: skip


def measure_loading(bench):
    """Time a process that loads the models of all five lead sets."""
    command = [
        sys.executable,
        "-c",
        LOAD_MODELS,
        str(save_models(bench)),
        *(" ".join(leads) for leads in LEAD_SETS.values()),
    ]
    seconds = yield {"load": lambda: subprocess.run(command, check=True, cwd=Path(__file__).parents[1])}
    yield Row("starting, and loading all five models", "the clock", seconds["load"], 4, unit=" s")


FIGURES = {
    "store": measure_store,
    "batches": measure_batches,
    "step": measure_step,
    "pytorch": measure_pytorch,
    "bfloat16": measure_bfloat16,
    "prediction": measure_prediction,
    "test_model": measure_test_model,
    "loading": measure_loading,
    "evaluate": measure_evaluation,
    "thresholds": measure_threshold_search,
    "decision": measure_decision,
    "growth": measure_growth,
}
LONG = ("growth",)


def main():
    """Measure the named figures, or all except the long ones, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"{', '.join(FIGURES)}, or all")
    parser.add_argument("--data", type=Path, help="folder of recordings; default: synthetic ones")
    parser.add_argument("--rounds", type=int, default=Bench.rounds, help="5 or more, after a warm-up round")
    parser.add_argument(
        "--records", type=int, default=Bench.records, help="maximum number of recordings that are read and predicted"
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

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.data, options.rounds, options.records, options.files)
        for line in format_lines(row for name in figures for row in measure(FIGURES[name], bench)):
            print(line, flush=True)
    print(f"\n{os.cpu_count()} cores, {date.today()}, Keras {keras.version()} on {keras.backend.backend()}")


if __name__ == "__main__":
    main()
