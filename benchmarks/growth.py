"""A figure of benchmarks.speed: how time and memory of a whole training grow with the recordings."""

import os
import shutil
import statistics
from pathlib import Path
from unittest.mock import patch

from benchmarks import memory
from benchmarks.memory import BATCH, TINY
from benchmarks.timing import Row, told
from ecg.data.synthetic import synthesize
from ecg.runtime.processes import started_by

TICKS = os.sysconf("SC_CLK_TCK")  # of the processors' time, a second


def growth(bench):
    """Train with both rounds on more and more recordings, against the fewest.

    What does not grow is made small or left out: networks have no blocks, and no pages are drawn. Beside the clock's
    time there is the processors', which other work on the machine changes less.
    """
    from ecg.commands import train as pipeline
    from ecg.models.resnets import NetworkSettings
    from ecg.systems import method
    from ecg.systems.label_cleaning import CleaningSettings
    from ecg.training.trainer import TrainingSettings

    settings = pipeline.Settings(network=NetworkSettings(**TINY | {"kernels": ()}), cleaning=CleaningSettings((), ()),
                                 training=TrainingSettings(batch=BATCH, smallest_batch=BATCH, steps=1, epochs=2),
                                 lead_sets=(12,))  # fmt: skip
    worked = {size: [] for size in bench.sizes}

    def train_on(size):
        model, begun = bench.place / "model", processors_of(os.getpid())
        shutil.rmtree(model, ignore_errors=True)
        with patch.object(method, "MAX_DRAWN", 0):
            pipeline.train(bench.place / f"{size}", model, settings)
        worked[size].append(processors_of(os.getpid()) - begun)

    for size in bench.sizes:
        synthesize(bench.place / f"{size}", size, seed=1, jobs=os.cpu_count())
    clock = yield {size: lambda size=size: train_on(size) for size in bench.sizes}
    yield from rows("", clock)
    yield from rows("processors' time of ", {size: statistics.median(taken[1:]) for size, taken in worked.items()})
    first, *_, last = bench.sizes
    peaks = []
    for size in (first, last):
        found = memory.measure(bench.place / f"{size}", bench.place / f"model of {size}", os.cpu_count())
        peaks.append(max(anonymous for anonymous, _ in found.values()))
    yield Row(f"anonymous memory of a process that trains on {last:,}, at the most {peaks[1]:,.0f} MB",
              f"on {first:,}, {peaks[0]:,.0f} MB", peaks[1] / peaks[0], 1.15)  # fmt: skip


def rows(kind, seconds):
    """Yield the rows of a kind of time: number of recordings -> s, in rising order."""
    first, *_, middle, last = seconds
    for size in list(seconds)[1:]:
        taken, least = seconds[size] / size, seconds[first] / first
        yield Row(f"{kind}a whole training on {size:,} recordings, {told(seconds[size])}, {told(taken)} each",
                  f"on {first:,}, {told(seconds[first])}, {told(least)} each", taken / least, 1.15)  # fmt: skip
    # What a training takes whatever its size, networks to compile and charts to draw, counts for most on the fewest.
    early, late = ((seconds[more] - seconds[few]) / (more - few) for few, more in ((first, middle), (middle, last)))
    yield Row(f"{kind}each recording more from {middle:,} to {last:,}, {told(late)}",
              f"from {first:,} to {middle:,}, {told(early)}", late / early, 1.15)  # fmt: skip


def processors_of(process):
    """Return the seconds that processors have worked for a process and all that it has started, ended or not."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        children = started_by(process)
    except OSError:  # it has ended meanwhile, and counts for the one that started it
        return 0.0
    # Of its own, by programs and by the system, and of those that have ended and were waited for.
    return sum(map(int, fields[11:15])) / TICKS + sum(map(processors_of, children))
