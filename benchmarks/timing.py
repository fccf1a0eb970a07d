"""Recordings, models, timing and table of the figures of benchmarks.speed."""

import math
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
from ecg.runtime.executors import ALL_CORES

FREQUENCY, SECONDS = 500, 10
LENGTH = 2500  # samples of such a recording at 250 Hz


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        what: What is timed.
        against: What it is compared with.
        ratio: The ratio of both.
        bound: Maximum or minimum of the ratio.
        is_minimum: Whether the bound is a minimum.
        unit: Unit of the ratio.
    """

    what: str
    against: str
    ratio: float
    bound: float
    is_minimum: bool = False
    unit: str = ""

    @property
    def reached(self):
        """Return whether the ratio is within its bound."""
        return self.ratio >= self.bound if self.is_minimum else self.ratio <= self.bound


@dataclass(frozen=True)
class Bench:
    """Settings of a measurement: a folder for files, one of recordings, and sizes."""

    folder: Path
    data: Path | None = None
    rounds: int = 5
    records: int = 500
    files: int = 36_266  # label and output files of `evaluate`
    validation: int = 17_500  # recordings of `thresholds`
    sizes: tuple[int, ...] = (1000, 2000, 4000, 8000)  # recordings of `growth`
    batch: int = 64
    warm_up_steps: int = 10  # steps of both networks of `pytorch`
    product: int = 2048  # rows and columns of the matrices of `step`
    network: dict = field(default_factory=dict)  # settings of the network that differ from the method's


def median_seconds(functions, rounds):
    """Time functions in turns after a warm-up round: name -> median in s."""
    seconds = {name: [] for name in functions}
    for _ in range(1 + rounds):
        for name, function in functions.items():
            begun = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def measure(figure, bench):
    """Return the rows of a figure.

    A figure is a generator: it yields the functions to time, is sent the medians, and yields rows.
    """
    with closing(figure(bench)) as steps:
        row = steps.send(median_seconds(next(steps), bench.rounds))
        return [row, *steps]


def format_lines(rows):
    """Yield the lines of the table in Markdown."""
    yield "| what | compared with | ratio | target | reached |"
    yield "|---" * 5 + "|"
    for row in rows:
        bound = f"at {'least' if row.is_minimum else 'most'} {row.bound:g}{row.unit}"
        ratio, reached = f"{row.ratio:.2f}{row.unit}", "yes" if row.reached else "no"
        if math.isnan(row.ratio):
            ratio, reached = "", "not measured"
        yield f"| {row.what} | {row.against} | {ratio} | {bound} | {reached} |"


def format_seconds(seconds):
    """Format a duration."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.2f} ms"


def prepare_recordings(bench):
    """Return a folder of recordings with 12 leads and 10 s at 500 Hz in MATLAB files.

    They come from the data folder, or are synthetic.
    """
    folder = bench.folder / "recordings"
    if folder.exists():
        return folder
    if bench.data is None:
        # Clean, so that all have 10 s at 500 Hz.
        synthesize(
            folder,
            bench.records,
            seed=1,
            settings=SyntheticSettings(sources={"PTB-XL": 1.0}, clean=True),
            executor=ALL_CORES,
        )
        return folder
    folder.mkdir()
    chosen = {path.stem: path for path in find_records(bench.data) if is_usual(path)}
    for path in list(chosen.values())[: bench.records]:
        for file in (path, path.with_suffix(".mat")):
            shutil.copy(file, folder)
    return folder if chosen else sys.exit(f"{bench.data}: no recordings of 12 leads and 10 s at 500 Hz with .mat files")


def is_usual(path):
    """Return whether a recording has 12 leads, 10 s at 500 Hz and a MATLAB file."""
    try:
        header = read_header(path)
    except (RecordError, OSError):
        return False
    shape = len(header.leads), header.sampling_frequency, header.samples
    return shape == (len(LEADS), FREQUENCY, FREQUENCY * SECONDS) and path.with_suffix(".mat").exists()


def build_network(bench, leads):
    """Return an untrained network for a number of leads."""
    from ecg.models.network_settings import NetworkSettings

    return NetworkSettings(**bench.network).build(leads, None, len(TRAINED))


def make_training_step(network, signals):
    """Return a function that trains a network for a step on signals (B, T, leads)."""
    from ecg.training.backend import step_runner
    from ecg.training.losses import AsymmetricLoss
    from ecg.training.settings import TrainingSettings
    from ecg.training.trainer import compile_network

    labels = (np.random.default_rng(1).random((len(signals), len(TRAINED))) < 0.1).astype(np.float32)
    masks = np.ones_like(labels)
    compile_network(network, AsymmetricLoss(), TrainingSettings().make_optimizer())
    runner = step_runner(network)
    return lambda: float(runner.train(signals, labels, masks))


def save_models(bench):
    """Return a folder with an untrained model for each lead set."""
    from ecg.data.labels import TRAINED_CLASSES
    from ecg.models.bundle import Bundle, save_bundle
    from ecg.models.decision import Rule
    from ecg.models.ensemble import Ensemble, Group, Member
    from ecg.models.network_settings import NetworkSettings

    folder = bench.folder / "models"
    if not folder.exists():
        for count, leads in LEAD_SETS.items():
            member = Member(leads, NetworkSettings(**bench.network), build_network(bench, count))
            bundle = Bundle(leads, Ensemble(Group(TRAINED_CLASSES, (member,))), Rule(np.full(26, 0.5)))
            save_bundle(bundle, folder)
    return folder
