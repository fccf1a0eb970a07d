"""Measure how much memory a training takes, by the number of recordings.

python -m benchmarks.memory [--records N ...] [--seed S] [--jobs N] [--folder FOLDER]

Tiny networks are trained on synthetic recordings with the method's steps and one epoch each, so that the networks'
memory hides nothing. All batches have one size, since on few recordings they would shrink. Counted is the
anonymous memory of the process and its subprocesses by /proc of Linux. The pages of the store's file are shown in
brackets, since the kernel frees them when it needs memory. Prints the table of benchmarks/README.md.
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
from ecg.runtime.console import start_logging
from ecg.runtime.executors import LocalExecutor
from ecg.runtime.keras_startup import start_keras

BATCH = 32
TINY = {"width": 4, "kernels": (5,), "squeeze_ratio": 2, "hidden": 8}  # settings of the network
INTERVAL = 0.1  # s between two measurements
# Lines of /proc/PID/status that are summed: anonymous memory, resident memory.
MEMORY_LINES = (("RssAnon", "RssShmem"), ("VmRSS",))
PROGRAM = "import sys; from benchmarks.memory import train_tiny; train_tiny(*sys.argv[1:])"
REPORT = "report"
STEPS = {  # the step that a log message ends: the first expression that it matches
    "starting": r"^Keras",
    "reading": r"recordings stored",
    "relabelling": r"Ningbo|CPSC",
    "round 1": r"^(round 1|masks|split)",
    r"round 2, \1 leads": r"^round 2, ([0-9]+) leads",
    REPORT: r"^source +found",
}


def train_tiny(data, model, jobs):
    """Train with a tiny network, and print the log."""
    start_keras()
    start_logging()
    from ecg.commands.train import Settings, train
    from ecg.models.network_settings import NetworkSettings
    from ecg.training.settings import TrainingSettings

    training = TrainingSettings(batch=BATCH, smallest_batch=BATCH, steps=1, epochs=1)
    train(data, model, Settings(network=NetworkSettings(**TINY), training=training), executor=LocalExecutor(int(jobs)))


def measure_training(data, model, jobs):
    """Train in a subprocess, and return the peak memory of each step: step -> (2,) MB."""
    command = [sys.executable, "-c", PROGRAM, str(data), str(model), str(jobs)]
    peaks, highest, step = {}, np.zeros(2), ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        while process.poll() is None:
            highest = np.maximum(highest, memory_of(process.pid))
            if select.select([process.stdout], [], [], INTERVAL)[0] and (line := process.stdout.readline().decode()):
                if step != REPORT:  # its messages name other steps
                    step = find_step(line) or step
                peaks[step] = np.maximum(peaks.get(step, 0), highest)
                highest = np.zeros(2)
    if process.returncode:
        raise RuntimeError(f"training on {data} failed")
    return peaks


def memory_of(process):
    """Return anonymous and resident memory of a process and its children: (2,) MB.

    Pages of files count as resident only. The result is 0 if the process has ended.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
        children = children_of(process)
    except OSError:  # it has ended meanwhile
        return np.zeros(2)
    lines = dict(re.findall(r"^(\w+):\s+(\d+) kB", status, re.MULTILINE))
    sizes = [sum(int(lines.get(name, 0)) for name in names) / 1000 for names in MEMORY_LINES]
    return np.array(sizes) + sum(map(memory_of, children))


def children_of(process):
    """Return the ids of the living children of a process; OSError if it has ended."""
    texts = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")]
    return [int(child) for text in texts for child in text.split()]


def find_step(line):
    """Return the step that a log message ends, or None."""
    for step, expression in STEPS.items():
        if match := re.search(expression, line):
            return match.expand(step)


def format_lines(peaks_by_size):
    """Yield the lines of the table in Markdown; peaks are (2,) MB by size and step."""
    sizes = list(peaks_by_size)
    yield f"| peak MB, anonymous (resident) | {' | '.join(f'{size:,} recordings' for size in sizes)} |"
    yield "|---" * (len(sizes) + 1) + "|"
    overall = {size: np.max(list(peaks.values()), axis=0) for size, peaks in peaks_by_size.items()}
    for step in [*dict.fromkeys(step for peaks in peaks_by_size.values() for step in peaks), "all"]:
        values = [overall[size] if step == "all" else peaks_by_size[size].get(step) for size in sizes]
        cells = ["" if value is None else f"{value[0]:,.0f} ({value[1]:,.0f})" for value in values]
        yield f"| {step} | {' | '.join(cells)} |"
    share = overall[sizes[-1]][0] / overall[sizes[0]][0]
    yield f"\n{sizes[-1]:,} recordings take {share:.2f} times the anonymous memory of {sizes[0]:,}."


def main():
    """Measure for each number of recordings, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes that write and read recordings")
    parser.add_argument("--folder", type=Path, default=Path("build/memory"))
    options = parser.parse_args()
    peaks_by_size = {}
    for records in options.records:
        data, model = options.folder / "data", options.folder / "model"
        shutil.rmtree(options.folder, ignore_errors=True)
        synthesize(data, records, options.seed, executor=LocalExecutor(options.jobs))
        peaks_by_size[records] = measure_training(data, model, options.jobs)
    shutil.rmtree(options.folder)
    print("\n".join(format_lines(peaks_by_size)))


if __name__ == "__main__":
    main()
