"""Measure how time and memory of a training grow with the recordings."""

import os
import shutil
import statistics
from pathlib import Path
from unittest.mock import patch

from benchmarks import memory
from benchmarks.memory import BATCH, TINY, children_of
from benchmarks.timing import Row, format_seconds
from ecg.data.synthetic import synthesize
from ecg.runtime.executors import ALL_CORES

TICKS = os.sysconf("SC_CLK_TCK")  # ticks of processor time a second


def measure_growth(bench):
    """Train with both rounds on more and more recordings, and compare with the fewest.

    Constant parts are made small or omitted: networks have no blocks, and no ECG pages are drawn. The table has the
    elapsed time and the processors' time, which other work on the machine changes less.
    """
    from ecg.commands import train as pipeline
    from ecg.models.network_settings import NetworkSettings
    from ecg.systems import method
    from ecg.systems.label_cleaning import CleaningSettings
    from ecg.training.settings import TrainingSettings

    settings = pipeline.Settings(network=NetworkSettings(**TINY | {"kernels": ()}), cleaning=CleaningSettings((), ()),
                                 training=TrainingSettings(batch=BATCH, smallest_batch=BATCH, steps=1, epochs=2),
                                 lead_sets=(12,))  # fmt: skip
    seconds_by_size = {size: [] for size in bench.sizes}

    def train_on(size):
        model, begun = bench.folder / "model", cpu_seconds(os.getpid())
        shutil.rmtree(model, ignore_errors=True)
        with patch.object(method, "MAX_DRAWN", 0):
            pipeline.train(bench.folder / f"{size}", model, settings)
        seconds_by_size[size].append(cpu_seconds(os.getpid()) - begun)

    for size in bench.sizes:
        synthesize(bench.folder / f"{size}", size, seed=1, executor=ALL_CORES)
    clock = yield {size: lambda size=size: train_on(size) for size in bench.sizes}
    yield from format_rows("", clock)
    yield from format_rows(
        "processors' time of ", {size: statistics.median(taken[1:]) for size, taken in seconds_by_size.items()}
    )
    first, *_, last = bench.sizes
    peaks = []
    for size in (first, last):
        step_peaks = memory.measure_training(
            bench.folder / f"{size}", bench.folder / f"model of {size}", os.cpu_count()
        )
        peaks.append(max(anonymous for anonymous, _ in step_peaks.values()))
    yield Row(f"anonymous memory of a process that trains on {last:,}, at most {peaks[1]:,.0f} MB",
              f"on {first:,}, {peaks[0]:,.0f} MB", peaks[1] / peaks[0], 1.15)  # fmt: skip


def format_rows(kind, seconds):
    """Yield the rows of a kind of time, in s by the number of recordings, ascending."""
    first, *_, middle, last = seconds
    for size in list(seconds)[1:]:
        duration, least_duration = seconds[size] / size, seconds[first] / first
        yield Row(
            f"{kind}a training on {size:,} recordings, "
            f"{format_seconds(seconds[size])}, {format_seconds(duration)} each",
            f"on {first:,}, {format_seconds(seconds[first])}, {format_seconds(least_duration)} each",
            duration / least_duration,
            1.15,
        )
    # The constant time, such as that of compiling networks, matters most for few recordings.
    early, late = (
        (seconds[larger] - seconds[smaller]) / (larger - smaller)
        for smaller, larger in ((first, middle), (middle, last))
    )
    yield Row(f"{kind}each further recording from {middle:,} to {last:,}, {format_seconds(late)}",
              f"from {first:,} to {middle:,}, {format_seconds(early)}", late / early, 1.15)  # fmt: skip


def cpu_seconds(process):
    """Return the processor time in s of a process and all its children."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        children = children_of(process)
    except OSError:  # it has ended meanwhile; its parent has its time
        return 0.0
    # User and system time of the process, and of its children that have ended.
    return sum(map(int, fields[11:15])) / TICKS + sum(map(cpu_seconds, children))
