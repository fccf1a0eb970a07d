"""List what a training step spends its time on, by the log of oneDNN, which computes most of it on processors.

python -m benchmarks.step_profile [--batch N] [--steps N]

oneDNN logs each operation with its sizes and time. Convolutions are listed with their rate of floating-point
operations, next to that of a large matrix product, which is the machine's limit. Outside oneDNN are batch
normalisation, activations, squeeze-and-excitation, the optimiser, and the time between operations. Some operations
overlap, and logging takes time, too. Prints the table of benchmarks/README.md. It needs TensorFlow on a processor.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

from benchmarks.timing import Bench, build_network, make_training_step
from ecg.data.leads import LEADS
from ecg.runtime.keras_startup import start_keras

END = "a step takes"
WARM_UP = 3  # steps
PASSES = {"forward_training": "convolutions, forward", "backward_data": "convolutions, gradient of the signals",
          "backward_weights": "convolutions, gradient of the weights"}  # fmt: skip
OTHERS = {"reorder": "copies into other layouts", "pooling": "pooling"}
SIZES = re.compile(r"mb(\d+)_ic(\d+)oc(\d+)_ih\d+oh(\d+)kh(\d+).*_iw\d+ow(\d+)kw(\d+)")


class Share(NamedTuple):
    """What a kind of operation takes of a step.

    Attributes:
        seconds: Its time.
        operations: Its floating-point operations; 0 if they are not counted.
    """

    seconds: float
    operations: float


def parse_log(lines: list[str], steps: int, warm_up: int = 0) -> dict[str, Share]:
    """Return the share of each kind of operation in a step.

    Args:
        lines: Lines of oneDNN's log. Each step logs the same operations.
        steps: Number of steps, the last ones of the log.
        warm_up: Number of the steps before these.

    Returns:
        The shares, by the texts of PASSES and OTHERS, and "the rest of oneDNN".
    """
    shares: dict[str, Share] = defaultdict(lambda: Share(0.0, 0.0))
    rows = [cells for line in lines if (cells := line.split(","))[0] == "onednn_verbose" and "exec" in cells[:4]]
    for cells in rows[len(rows) * warm_up // (warm_up + steps) :]:
        primitive, propagation = cells[5], cells[7]
        name = OTHERS.get(primitive, "the rest of oneDNN")
        operations = 0.0
        if primitive == "convolution":
            name = PASSES[propagation]
            batch, inputs, outputs, rows, row_taps, columns, taps = map(int, SIZES.search(cells[-2]).groups())
            operations = 2.0 * batch * inputs * outputs * rows * row_taps * columns * taps
        share = shares[name]
        shares[name] = Share(share.seconds + float(cells[-1]) / 1000 / steps, share.operations + operations / steps)
    return dict(shares)


def run_steps(batch: int, steps: int) -> None:
    """Train some steps in this process, and print how long one takes."""
    start_keras()
    import numpy as np

    from benchmarks.speed import draw_noise

    bench = replace(Bench(Path()), batch=batch)
    step = make_training_step(build_network(bench, len(LEADS)), draw_noise(bench))
    for _ in range(WARM_UP):
        step()
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    seconds = (time.perf_counter() - begun) / steps
    matrix = np.random.default_rng(1).random((bench.product, bench.product), np.float32)
    products = []
    for _ in range(WARM_UP + steps):
        begun = time.perf_counter()
        matrix @ matrix
        products.append(time.perf_counter() - begun)
    print(END, seconds, 2 * bench.product**3 / min(products), flush=True)


def profile_steps(batch: int, steps: int) -> tuple[dict[str, Share], float, float]:
    """Train some steps in a process of its own.

    Returns:
        The share of each kind of operation, seconds of a step, and operations a second of a large matrix product.
    """
    command = [sys.executable, "-m", "benchmarks.step_profile", "--batch", str(batch), "--steps", str(steps), "--child"]
    done = subprocess.run(command, env=os.environ | {"ONEDNN_VERBOSE": "profile_exec"}, capture_output=True, text=True,
                          check=True, cwd=Path(__file__).parents[1])  # fmt: skip
    lines = done.stdout.splitlines()
    seconds, limit = map(float, next(line for line in lines if line.startswith(END)).removeprefix(END).split())
    return parse_log(lines, steps, WARM_UP), seconds, limit


def format_lines(shares: dict[str, Share], seconds: float, limit: float) -> list[str]:
    """Return the lines of the table in Markdown."""
    lines = ["| part of a step | ms | share | GFLOP/s | share of a matrix product's |", "|---|---|---|---|---|"]
    rest = Share(seconds - sum(share.seconds for share in shares.values()), 0.0)
    for name, share in [*sorted(shares.items(), key=lambda item: -item[1].seconds), ("outside oneDNN", rest)]:
        rate = share.operations / share.seconds
        rates = f"{rate / 1e9:.0f} | {rate / limit:.2f}" if rate else "|"
        lines.append(f"| {name} | {1000 * share.seconds:.0f} | {share.seconds / seconds:.0%} | {rates} |")
    operations = sum(share.operations for share in shares.values())
    lines.append(f"| a step | {1000 * seconds:.0f} | 100% | {operations / seconds / 1e9:.0f} | "
                 f"{operations / seconds / limit:.2f} |")  # fmt: skip
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Profile some steps, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=Bench.batch, help="recordings in a step")
    parser.add_argument("--steps", type=int, default=10, help="steps after the warm-up")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        run_steps(options.batch, options.steps)
        return
    print("\n".join(format_lines(*profile_steps(options.batch, options.steps))))
    print(f"\n{os.cpu_count()} cores, {date.today()}")


if __name__ == "__main__":
    main()
