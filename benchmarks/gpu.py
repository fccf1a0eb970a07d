"""Measure training steps on an accelerator in each precision, and a whole training of as many recordings as 2021 had.

python -m benchmarks.gpu FOLDER [PRECISION ...] [--batch N] [--product N] [--rounds N] [--whole] [--records N]

For float32, TF32 and bfloat16, a step of the default network of 12 leads is timed in turns with a product of two large
matrices in the same precision, in a process of its own, after a warm-up round. With --whole, the default system is
trained in FOLDER on synthetic recordings, 87,663 if --records does not say otherwise; this takes hours, some 11 GB for
the recordings and as much for the store, and the same command again goes on after an interruption. On a machine without
an accelerator the script says so, and measures float32 on the processor. Prints the tables of benchmarks/README.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

from benchmarks.speed import count_operations, draw_noise
from benchmarks.timing import LENGTH, Bench, build_network, make_training_step, median_seconds
from ecg.data.leads import LEADS
from ecg.data.synthetic import synthesize
from ecg.runtime.console import format_duration
from ecg.runtime.executors import ALL_CORES
from ecg.runtime.files import to_json
from ecg.runtime.keras_startup import start_keras

ROOT = Path(__file__).parents[1]
TF32 = "TF32"
PRECISIONS = "float32", TF32, "bfloat16"
RECORDINGS = 87_663  # labelled and public in 2021
STEPS = 20  # a timing
PRODUCTS = 20  # a timing


def allow_tf32(is_allowed):
    """Let the backend compute float32 with the 10 bits of TF32, or with all bits; before anything is computed."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if is_allowed else "float32")
    else:
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(is_allowed)


def measure_precision(bench, precision):
    """Return what is measured in a precision in this process: rates in TFLOP/s, and recordings in a second."""
    import keras

    from ecg.models.resnets import POLICIES, precision_policy

    allow_tf32(precision == TF32)
    name = "bfloat16" if precision == "bfloat16" else "float32"
    with precision_policy(name):
        network = build_network(bench, len(LEADS))
        step = make_training_step(network, draw_noise(bench))
    dtype = keras.DTypePolicy(POLICIES[name]).compute_dtype
    matrix = keras.ops.cast(keras.random.uniform((bench.product, bench.product), seed=1), dtype)

    def multiply():
        product = matrix
        for _ in range(PRODUCTS):
            product = keras.ops.matmul(matrix, product) / bench.product
        return float(product[0, 0])

    seconds = median_seconds({"step": lambda: [step() for _ in range(STEPS)], "product": multiply}, bench.rounds)
    devices = ", ".join(keras.distribution.list_devices())
    operations = 3 * bench.batch * count_operations(network, LENGTH)
    return {
        "device": f"{devices}, Keras {keras.version()} on {keras.backend.backend()}",
        "recordings": bench.batch * STEPS / seconds["step"],
        "step": operations * STEPS / seconds["step"] / 1e12,
        "product": 2 * bench.product**3 * PRODUCTS / seconds["product"] / 1e12,
    }


def find_accelerators():
    """Return the names of this machine's accelerators; another process looks, which leaves their memory free."""
    code = ("from ecg.runtime.keras_startup import start_keras; start_keras(); "
            "from ecg.training.distribution import accelerators; print(*accelerators())")  # fmt: skip
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                          check=True).stdout.split()  # fmt: skip


def measure_apart(options, precision):
    """Return what `measure_precision` measures in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gpu", options.folder, precision, "--apart", "--batch", options.batch,
               "--product", options.product, "--rounds", options.rounds]  # fmt: skip
    ended = subprocess.run([*map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ended.stdout)


def format_lines(batch, measured):
    """Yield the lines of the table in Markdown, given what was measured by precision."""
    yield f"| precision | training, batches of {batch} | a step | product of matrices | share |"
    yield "|---" * 5 + "|"
    for precision, rates in measured.items():
        yield (f"| {precision} | {rates['recordings']:,.0f} recordings/s | {rates['step']:.2f} TFLOP/s | "
               f"{rates['product']:.2f} TFLOP/s | {rates['step'] / rates['product']:.2f} |")  # fmt: skip


def train_whole(folder, records):
    """Train the default system on synthetic recordings, and return how long it took; log to the console.

    Only the time of this run counts.
    """
    data, made = folder / "data", folder / ".data"
    if not data.exists():
        synthesize(made, records, seed=1, executor=ALL_CORES)
        made.rename(data)
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "ecg", "train", data, folder / "model"], cwd=ROOT, check=True)
    return time.monotonic() - begun


def main(arguments=None):
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for the recordings and the model of --whole")
    parser.add_argument("precisions", nargs="*", metavar="PRECISION", help=f"{', '.join(PRECISIONS)}; default: all")
    parser.add_argument("--batch", type=int, default=64, help="recordings in a step")
    parser.add_argument("--product", type=int, default=8192, help="rows and columns of the matrices")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--whole", action="store_true", help="also train on all recordings")
    parser.add_argument("--records", type=int, default=RECORDINGS, help="recordings of --whole")
    parser.add_argument("--apart", action="store_true", help="print the numbers of one precision as JSON")
    options = parser.parse_args(arguments)
    if unknown := set(options.precisions) - set(PRECISIONS):
        parser.error(f"no precision is called {', '.join(sorted(unknown))}")
    if options.apart:
        start_keras()
        with tempfile.TemporaryDirectory() as folder:
            bench = replace(Bench(Path(folder)), rounds=options.rounds, batch=options.batch, product=options.product)
            print(to_json(measure_precision(bench, options.precisions[0])))
        return
    chosen = tuple(options.precisions) or PRECISIONS
    if not find_accelerators():
        print("no accelerator is found: float32 is measured on the processor, the other precisions are not\n")
        chosen = ("float32",)
    measured = {precision: measure_apart(options, precision) for precision in chosen}
    print("\n".join(format_lines(options.batch, measured)), end="\n\n", flush=True)
    print(f"{measured[chosen[0]]['device']}, {os.cpu_count()} cores, {date.today()}")
    if options.whole:
        seconds = train_whole(options.folder, options.records)
        print(f"whole training of {options.records:,} recordings: {format_duration(seconds)}")


if __name__ == "__main__":
    main()
