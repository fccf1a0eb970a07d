"""How much memory training takes, by the number of recordings: that is to make hardly a difference.

python -m benchmarks.memory [--records N ...] [--seed S] [--jobs N] [--folder FOLDER]

Made-up recordings are trained on with the method's steps and one epoch each. The network is tiny, so that its own
memory hides nothing, and all batches are of one size, for on few recordings they would shrink. What counts is the
anonymous memory of the process and of those that it starts, as Linux tells it; pages of the store's file are beside
it, since the kernel takes them back when it needs them. Prints the table of benchmarks/README.md.
"""

import argparse
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from ecg.data.synthetic import synthesize
from ecg.runtime.keras_startup import start_keras
from ecg.runtime.processes import EVERY, memory_of

BATCH = 32
TINY = {"width": 4, "kernels": (5,), "squeeze_ratio": 2, "hidden": 8}  # settings of the network
PROGRAM = "import sys; from benchmarks.memory import train; train(*sys.argv[1:])"
REPORT = "report"
STEPS = {  # what a training was doing until it said a line: the first expression that is found in it
    "starting": r"^Keras",
    "reading": r"recordings stored",
    "relabelling": r"Ningbo|CPSC",
    "round 1": r"^(round 1|masks|split)",
    r"round 2, \1 leads": r"^round 2, ([0-9]+) leads",
    REPORT: r"",
}


def train(data, model, jobs):
    """Train with a tiny network, and print each line that is logged."""
    start_keras()
    from ecg.commands.train import Settings, train
    from ecg.models.resnets import NetworkSettings
    from ecg.training.trainer import TrainingSettings

    training = TrainingSettings(batch=BATCH, smallest_batch=BATCH, steps=1, epochs=1)
    train(data, model, Settings(network=NetworkSettings(**TINY), training=training, jobs=int(jobs)))


def measure(data, model, jobs):
    """Train in a process of its own, and return what each step took at the most: step -> (2,) MB."""
    command = [sys.executable, "-c", PROGRAM, str(data), str(model), str(jobs)]
    peaks, most, step = {}, np.zeros(2), ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        while process.poll() is None:
            most = np.maximum(most, memory_of(process.pid))
            if select.select([process.stdout], [], [], EVERY)[0] and (line := process.stdout.readline().decode()):
                step = REPORT if step == REPORT else step_of(line)  # whose lines tell of the others
                peaks[step] = np.maximum(peaks.get(step, 0), most)
                most = np.zeros(2)
    if process.returncode:
        raise RuntimeError(f"training on {data} failed")
    return peaks


def step_of(line):
    """Return the step that a training has just done when it logs a line."""
    for step, expression in STEPS.items():
        if found := re.search(expression, line):
            return found.expand(step)


def lines(found):
    """Yield the lines of the table, in Markdown, for what `measure` found: number of recordings -> step -> (2,) MB."""
    sizes = list(found)
    yield f"| peak MB, anonymous (resident) | {' | '.join(f'{size:,} recordings' for size in sizes)} |"
    yield "|---" * (len(sizes) + 1) + "|"
    together = {size: np.max(list(peaks.values()), axis=0) for size, peaks in found.items()}
    for step in [*dict.fromkeys(step for peaks in found.values() for step in peaks), "all"]:
        values = [together[size] if step == "all" else found[size].get(step) for size in sizes]
        cells = ["" if value is None else f"{value[0]:,.0f} ({value[1]:,.0f})" for value in values]
        yield f"| {step} | {' | '.join(cells)} |"
    share = together[sizes[-1]][0] / together[sizes[0]][0]
    yield f"\n{sizes[-1]:,} recordings take {share:.2f} times the anonymous memory of {sizes[0]:,}."


def main():
    """Measure for each number of recordings, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes that make and read recordings")
    parser.add_argument("--folder", type=Path, default=Path("build/memory"))
    options = parser.parse_args()
    found = {}
    for records in options.records:
        data, model = options.folder / "data", options.folder / "model"
        shutil.rmtree(options.folder, ignore_errors=True)
        synthesize(data, records, options.seed, jobs=options.jobs)
        found[records] = measure(data, model, options.jobs)
    shutil.rmtree(options.folder)
    print("\n".join(lines(found)))


if __name__ == "__main__":
    main()
