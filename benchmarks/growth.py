"""A figure of benchmarks.speed: how time and memory of a whole training grow with the recordings."""

import os
import shutil
from unittest.mock import patch

from benchmarks import memory
from benchmarks.timing import Row, told
from ecg.synthetic import synthesize

TINY = {"width": 4, "kernels": (5,), "squeeze_ratio": 2, "hidden": 8}  # settings of a network


def growth(bench):
    """Train with both rounds on more and more recordings, against the fewest.

    What does not grow is made small or left out: networks have no blocks, and no pages are drawn.
    """
    from ecg import pipeline
    from ecg.cleaning import CleaningSettings
    from ecg.networks import NetworkSettings
    from ecg.training import TrainingSettings

    settings = pipeline.Settings(network=NetworkSettings(**TINY | {"kernels": ()}), cleaning=CleaningSettings((), ()),
                                 training=TrainingSettings(batch=32, smallest_batch=32, steps=1, epochs=2),
                                 lead_sets=(12,))  # fmt: skip

    def train_on(size):
        model = bench.place / "model"
        shutil.rmtree(model, ignore_errors=True)
        with patch.object(pipeline, "PICTURES", 0):
            pipeline.train(bench.place / f"{size}", model, settings, log=lambda line: None)

    for size in bench.sizes:
        synthesize(bench.place / f"{size}", size, seed=1, jobs=os.cpu_count())
    seconds = yield {size: lambda size=size: train_on(size) for size in bench.sizes}
    first, *_, middle, last = bench.sizes
    for size in bench.sizes[1:]:
        taken, least = seconds[size] / size, seconds[first] / first
        yield Row(f"a recording of {size:,} in a whole training, {told(taken)}",
                  f"of {first:,}, {told(least)}", taken / least, 1.15)  # fmt: skip
    # What a training takes whatever its size, networks to compile and charts to draw, counts for most on the fewest.
    early, late = ((seconds[more] - seconds[few]) / (more - few) for few, more in ((first, middle), (middle, last)))
    yield Row(f"each recording more from {middle:,} to {last:,}, {told(late)}",
              f"from {first:,} to {middle:,}, {told(early)}", late / early, 1.15)  # fmt: skip
    peaks = []
    for size in (first, last):
        found = memory.measure(bench.place / f"{size}", bench.place / f"model of {size}", os.cpu_count())
        peaks.append(max(anonymous for anonymous, _ in found.values()))
    yield Row(f"anonymous memory of a process that trains on {last:,}, at the most {peaks[1]:,.0f} MB",
              f"on {first:,}, {peaks[0]:,.0f} MB", peaks[1] / peaks[0], 1.15)  # fmt: skip
