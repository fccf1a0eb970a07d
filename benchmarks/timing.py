"""What the figures of benchmarks.speed share: on what is measured, how it is timed, and how it is told."""

import math
import os
import shutil
import statistics
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.headers import RecordError, read_header
from ecg.data.labels import TRAINED
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.records import find_records
from ecg.data.synthetic import SyntheticSettings, synthesize

FREQUENCY, SECONDS = 500, 10
LENGTH = 2500  # samples at 250 Hz of such a recording


class Row(NamedTuple):
    """A line of the table: what is timed, against what, the ratio, and what it may be at the most, or at the least."""

    what: str
    against: str
    ratio: float
    bound: float
    least: bool = False
    unit: str = ""

    @property
    def reached(self):
        """Return whether the ratio is within its bound."""
        return self.ratio >= self.bound if self.least else self.ratio <= self.bound


@dataclass(frozen=True)
class Bench:
    """On what is measured: a folder for all that is made, the folder of recordings or None, and sizes."""

    place: Path
    data: Path | None = None
    rounds: int = 5
    records: int = 500
    files: int = 36_266  # label and output files of `evaluate`
    validation: int = 17_500  # recordings of `thresholds`
    sizes: tuple[int, ...] = (1000, 2000, 4000, 8000)  # recordings of `growth`
    batch: int = 64
    warming: int = 10  # steps of `pytorch` that do not count, of either
    product: int = 2048  # rows and columns of the matrices of `step`
    network: dict = field(default_factory=dict)  # settings of the network, where not the method's


def medians(pieces, rounds):
    """Time each of the functions, in turns, and return the medians: name -> s; the first round does not count."""
    seconds = {name: [] for name in pieces}
    for _ in range(1 + rounds):
        for name, piece in pieces.items():
            begun = time.perf_counter()
            piece()
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def measure(figure, bench):
    """Return the rows of a figure: a generator that yields what to time, is sent the medians, and yields the rows."""
    with closing(figure(bench)) as steps:
        row = steps.send(medians(next(steps), bench.rounds))
        return [row, *steps]


def lines(rows):
    """Yield the lines of the table, in Markdown."""
    yield "| what | compared with | ratio | target | reached |"
    yield "|---" * 5 + "|"
    for row in rows:
        bound = f"at {'least' if row.least else 'most'} {row.bound:g}{row.unit}"
        ratio, reached = f"{row.ratio:.2f}{row.unit}", "yes" if row.reached else "no"
        if math.isnan(row.ratio):
            ratio, reached = "", "not measured"
        yield f"| {row.what} | {row.against} | {ratio} | {bound} | {reached} |"


def told(seconds):
    """Return a time as text."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.2f} ms"


def recordings(bench):
    """Return a folder of recordings of 12 leads and 10 s at 500 Hz in MATLAB files: the data's, or made up."""
    folder = bench.place / "recordings"
    if folder.exists():
        return folder
    if bench.data is None:
        # Clean, so that all last 10 s at 500 Hz, as those that are chosen of real ones.
        synthesize(
            folder,
            bench.records,
            seed=1,
            settings=SyntheticSettings(sources={"PTB-XL": 1.0}, clean=True),
            jobs=os.cpu_count(),
        )
        return folder
    folder.mkdir()
    chosen = {path.stem: path for path in find_records(bench.data) if is_usual(path)}
    for path in list(chosen.values())[: bench.records]:
        for file in (path, path.with_suffix(".mat")):
            shutil.copy(file, folder)
    return folder if chosen else sys.exit(f"{bench.data}: no recordings of 12 leads and 10 s at 500 Hz with .mat files")


def is_usual(path):
    """Return whether a header is of 12 leads and 10 s at 500 Hz, with a MATLAB file beside it."""
    try:
        header = read_header(path)
    except (RecordError, OSError):
        return False
    shape = len(header.leads), header.sampling_frequency, header.samples
    return shape == (len(LEADS), FREQUENCY, FREQUENCY * SECONDS) and path.with_suffix(".mat").exists()


def build(bench, leads):
    """Return an untrained network for a number of leads."""
    from ecg.models.resnets import NetworkSettings

    return NetworkSettings(**bench.network).build(leads, None, len(TRAINED))


def training_step(network, signals):
    """Return a function that trains a network on signals (B, T, leads), compiled as `ecg.training.trainer` does."""
    from ecg.training.backend import step_runner
    from ecg.training.losses import AsymmetricLoss
    from ecg.training.trainer import TrainingSettings, compile_network

    labels = (np.random.default_rng(1).random((len(signals), len(TRAINED))) < 0.1).astype(np.float32)
    masks = np.ones_like(labels)
    compile_network(network, AsymmetricLoss(), TrainingSettings().make_optimizer())
    work = step_runner(network)
    return lambda: float(work.train(signals, labels, masks))


def models(bench):
    """Return a folder with an untrained model for each lead set."""
    from ecg.models.bundle import Bundle, save_bundle
    from ecg.models.resnets import NetworkSettings

    folder = bench.place / "models"
    if not folder.exists():
        for count, leads in LEAD_SETS.items():
            bundle = Bundle.from_network(leads, NetworkSettings(**bench.network), np.full(26, 0.5), build(bench, count))
            save_bundle(bundle, folder)
    return folder
