"""Estimate how long a training takes.

Two networks are trained on a sample of the recordings, and their times are scaled linearly.
"""

import heapq
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ecg.data.corrections import load_corrections
from ecg.data.headers import RecordError, read_header
from ecg.data.patients import load_patients, record_names
from ecg.data.ptb_xl import DATABASE, find_database
from ecg.data.records import require_records, resolve_case
from ecg.data.store import Store, build_store, check_trainable, store_folder
from ecg.data.wave_peaks import intersect_stores, load_wave_peaks, neurokit_version
from ecg.runtime.console import format_duration, format_table, quiet_log
from ecg.runtime.executors import ALL_CORES, Executor
from ecg.runtime.keras_startup import start_keras
from ecg.runtime.limits import TimeBudget
from ecg.systems.method import LabelledSet, drop_untrainable_gate, make_stage
from ecg.systems.plan import (
    GATE,
    USUAL_EPOCHS,
    initial_labels,
    known_labels,
    planned_networks,
    pretraining_plans,
    split_recordings,
)
from ecg.systems.pretraining import VALIDATION_SHARE, build_synthetic_stores, check_initial_model
from ecg.systems.recipes import Settings
from ecg.systems.stage import CHALLENGE, Stage
from ecg.systems.stage_runner import Peaks, StageRunner, Stores
from ecg.training.settings import TrainingSettings
from ecg.training.trainer import TrainingError

LOGGER = logging.getLogger("ecg")

N_WARM_UP, N_SAMPLE = 40, 320  # recordings: to start the processes, and to time preprocessing and training


@dataclass(frozen=True)
class StageCost:
    """A stage of the training on all recordings.

    Attributes:
        title: Its title.
        leads: Number of leads.
        learning: Settings of its training.
        training: Number of training recordings.
        validation: Number of validation recordings.
        predicted: Number of recordings to predict in the end.
        group: Number of its group. The groups follow each other, and stages of a group can be trained at the same time.
        chain: Name of its chain in the group. The stages of a chain follow each other.
    """

    title: str
    leads: int
    learning: TrainingSettings
    training: int
    validation: int
    predicted: int
    group: int = 0
    chain: str = ""

    @property
    def usual_epochs(self) -> int:
        """Assumed number of epochs, because early stopping cannot be predicted."""
        can_stop = self.learning.patience < self.learning.epochs
        return min(USUAL_EPOCHS, self.learning.epochs) if can_stop else self.learning.epochs

    @property
    def recordings_per_epoch(self) -> int:
        """Number of recordings that pass through the network in an epoch."""
        return self.learning.passes_for(self.training) * self.training + self.validation

    def seconds(self, fixed: float, per_recording: float, epochs: int) -> float:
        """Return the duration.

        Args:
            fixed: Seconds that do not depend on the number of recordings.
            per_recording: Seconds for each recording that passes through the network.
            epochs: Number of epochs.
        """
        return fixed + per_recording * (epochs * self.recordings_per_epoch + self.predicted)


def estimate(
    data: str | Path,
    settings: Settings | None = None,
    groups: str | Path | None = None,
    corrections: str | Path | None = None,
    executor: Executor = ALL_CORES,
) -> float:
    """Estimate and log how long a training takes on this machine.

    Args:
        data: Data folder. Nothing is written to it.
        settings: Settings of the system.
        groups: Table of the patient of each recording. It is checked as by a training. The sample is split by
            recordings, because the sizes of the parts are nearly the same.
        corrections: Folder of reviews. It is checked as by a training; labels change no time.
        executor: Reads and prepares the recordings. The workers of a cluster also train, each slot the same network at
            the same time, so that the slots of a machine share it as they do in the training.

    Returns:
        Seconds with the usual number of epochs.

    Raises:
        FileNotFoundError: The data folder holds no header.
        RecordError: There are too few recordings to train on, or patients or corrections cannot be used.
        TrainingError: The memory is too small, or a loss is not finite.
        NeuroKitMissing: The system needs wave peaks, and NeuroKit2 is missing.
        ModelError: The model that the networks start from is missing or of another architecture.
    """
    settings = settings or Settings()
    if settings.peaks:
        neurokit_version()  # raises now instead of after the preprocessing
    if settings.initial_model:
        check_initial_model(settings)  # the weights change no time
    headers = require_records(data)
    paths = [path for path in headers if settings.sources.find(path.stem) not in settings.sources.untrained]
    if not paths:
        raise RecordError(f"{data}: no recordings of sources that are trained on")
    if groups:
        load_patients(groups, record_names(Path(data), headers))
    if corrections:
        load_corrections(corrections, record_names(Path(data), headers), settings.class_table)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        executor.check_shared(folder, paths[:1])
        stores, peaks, preparing = prepare_sample(paths, folder, settings, executor)
        steps = [("preprocessing", len(paths), preparing), *measure_synthesis(folder, settings, executor)]
        check_trainable(data, list(stores.values())[-1], settings.classes)
        stores, peaks = intersect_stores(stores, peaks)
        store = stores[settings.views[0].preparation]
        scale = len(paths) / len(store)
        stages, costs = plan_costs(store, settings, scale)
        measured = {}
        for stage in (max(stages, key=lambda stage: len(stage.leads)), min(stages, key=lambda stage: len(stage.leads))):
            if settings.peaks:
                stage = replace(stage, peaks=peaks[stage.view.preparation], loss_weights=(1.0, settings.peaks))
            if len(stage.leads) not in measured:
                batch = stage.learning.batch_for(round(len(stage.training) * scale))
                measured[len(stage.leads)] = measure_on(executor, stage, stores, folder, batch)
    n_slots = executor.n_slots
    rows, total = estimate_rows(steps, costs, measured, n_slots)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    for count, (fixed, per_recording) in measured.items():
        LOGGER.info(f"measured with {count} leads on {len(store):,} recordings: {format_duration(fixed)} to start, "
                    f"{1000 * per_recording:.1f} ms for each recording in an epoch")  # fmt: skip
    for line in (*format_table(rows), *describe_assumptions(settings, memory if executor.is_local else None)):
        LOGGER.info(line)
    return total


def estimate_rows(
    steps: Sequence[tuple[str, int, float]],
    costs: Sequence[StageCost],
    measured: Mapping[int, tuple[float, float]],
    n_slots: int = 1,
) -> tuple[list[Sequence[str]], float]:
    """Return the rows of the table of times, and the total seconds.

    Args:
        steps: Title, number of recordings and seconds for each of them, of all that comes before the stages.
        costs: The stages.
        measured: What `measure` returns, by number of leads.
        n_slots: Number of stages that are trained at the same time.

    Returns:
        The rows, and the sum with the usual numbers of epochs.
    """
    rows: list[Sequence[str]] = [("", "recordings", "an epoch", "usual", "at most")]
    totals, leads, durations = np.zeros(2), sorted(measured), []
    for title, count, per_recording in steps:
        totals += count * per_recording
        rows.append((title, f"{count:,}", "", *[format_duration(count * per_recording)] * 2))
    for cost in costs:
        fixed, per_recording = (
            float(np.interp(cost.leads, leads, [measured[count][part] for count in leads])) for part in (0, 1)
        )
        seconds = [cost.seconds(fixed, per_recording, epochs) for epochs in (cost.usual_epochs, cost.learning.epochs)]
        durations.append(seconds)
        epoch = format_duration(per_recording * cost.recordings_per_epoch)
        rows.append((cost.title, f"{cost.training:,}", epoch, *map(format_duration, seconds)))
    totals += [schedule(costs, column, n_slots) for column in zip(*durations, strict=True)]
    title = "all" if n_slots == 1 else f"all, {n_slots:,} networks at a time"
    rows.append((title, "", "", *map(format_duration, totals)))
    return rows, float(totals[0])


def schedule(costs: Sequence[StageCost], durations: Sequence[float], n_slots: int) -> float:
    """Return how long stages take if several are trained at the same time.

    Args:
        costs: The stages.
        durations: Seconds of each.
        n_slots: How many are trained at the same time. The next chain of a group begins when a slot is free.
    """
    groups: dict[int, dict[str, float]] = {}
    for cost, seconds in zip(costs, durations, strict=True):
        chains = groups.setdefault(cost.group, {})
        chains[cost.chain] = chains.get(cost.chain, 0.0) + seconds
    total = 0.0
    for chains in groups.values():
        ends = [0.0] * n_slots
        for seconds in chains.values():
            heapq.heapreplace(ends, ends[0] + seconds)
        total += max(ends)
    return total


def describe_assumptions(settings: Settings, megabytes: float | None) -> Iterator[str]:
    """Yield what the estimate assumes, in lines."""
    yield "Times grow linearly with the number of recordings and of leads; thresholds and report are not included."
    yield f"Usual: {USUAL_EPOCHS} epochs, or all of them without early stopping."
    if megabytes is not None:
        yield (f"Peak memory of this process: {megabytes:,.0f} MB, without processes that read recordings, without a "
               f"GPU's.")  # fmt: skip
    if settings.hours is not None:
        yield f"With this time limit the training ends after {settings.hours:g} h at the latest."


def prepare_sample(
    paths: Sequence[Path], folder: Path, settings: Settings, executor: Executor = ALL_CORES
) -> tuple[Stores, Peaks, float]:
    """Preprocess a random sample of recordings in a folder.

    Returns:
        Stores, wave peaks if the system needs them, and seconds for each recording.
    """
    order = np.random.default_rng(settings.seed).permutation(len(paths))[: N_WARM_UP + N_SAMPLE]
    n_warm_up = min(N_WARM_UP, len(order) // 5)
    stores, peaks, seconds = {}, {}, 0.0
    for name, indices in (("warm up", order[:n_warm_up]), ("sample", order[n_warm_up:])):
        link_records([paths[index] for index in indices], folder / name)
        start = time.monotonic()
        for preparation in settings.preparations if len(indices) else ():
            target = store_folder(folder / f"stores of {name}", preparation)
            store = stores[preparation] = build_store(
                folder / name, target, executor, preparation, settings.class_table, settings.sources
            )
            if settings.peaks:
                peaks[preparation] = load_wave_peaks(store, preparation.rate, target, executor)
        seconds = (time.monotonic() - start) / max(len(indices), 1)
    return stores, peaks, seconds


def measure_synthesis(folder: Path, settings: Settings, executor: Executor) -> Iterator[tuple[str, int, float]]:
    """Yield the cost of making the recordings of a pretraining, if there is one.

    Yields:
        Title, number of recordings, and seconds for each of them, which include its preprocessing.
    """
    if settings.pretraining is not None:
        seconds = 0.0
        for name, count in (("synthetic warm up", N_WARM_UP), ("synthetic sample", N_SAMPLE)):
            start = time.monotonic()
            pretraining = replace(settings.pretraining, recordings=count)
            build_synthetic_stores(folder / name, settings, pretraining, executor)
            seconds = (time.monotonic() - start) / count
        yield "synthetic recordings", settings.pretraining.recordings, seconds


def link_records(paths: Sequence[Path], folder: Path) -> None:
    """Link the files of records into a folder.

    Each record gets a separate folder, because names may repeat. The table of PTB-XL is linked, too.
    """
    for number, path in enumerate(paths):
        target = folder / f"{number:06}"
        target.mkdir(parents=True)
        database = find_database(path)
        if database is not None and not (folder / DATABASE).exists():
            (folder / DATABASE).symlink_to(database)
        try:
            names = {path.with_suffix(".mat").name, *(lead.file for lead in read_header(path).leads)}
        except (RecordError, OSError):  # the store excludes it
            names = set()
        for file in {path, *(resolve_case(path.with_name(name)) for name in names)}:
            if file.exists():
                (target / file.name).symlink_to(file.resolve())


def plan_costs(store: Store, settings: Settings, scale: float) -> tuple[list[Stage], list[StageCost]]:
    """Return the stages to measure, and the costs of all stages.

    Args:
        store: Store of the sample.
        settings: Settings of the system.
        scale: Number of all recordings divided by that of the sample.

    Returns:
        Stages of the final networks on the sample, and all stages with the scaled numbers of recordings.
    """
    targets = known_labels(store, settings)
    splits = split_recordings(targets, replace(settings, validation_fold=None))
    settings = drop_untrainable_gate(settings, store.sources, splits)
    labelled = LabelledSet(store.sources, targets, np.ones(targets.shape, np.float32), splits)
    leads, costs, stages = len(settings.leads_of(12)), [], []

    def add(title: str, n_leads: int, learning: TrainingSettings, *counts: int, group: int, chain: str = "") -> None:
        training, validation, predicted = (round(count * scale) for count in counts)
        costs.append(StageCost(title, n_leads, learning, training, validation, predicted, group, chain))

    labels = initial_labels(store, settings)
    first_round = len(settings.cleaning.rules)
    for number, rule in enumerate(settings.cleaning.rules):
        data = rule.training_data(labels, store.sources, settings.cleaning.excluded_sources(rule))
        n_validation = round(len(data.records) * settings.validation_share)
        if len(data.candidates) and len(data.records):  # even if the sample has too few
            n_training = len(data.records) - n_validation
            add(rule.title, leads, settings.training, n_training, n_validation, len(data.candidates), group=number)
    if settings.cleaning.masks:
        add("round 1", leads, settings.training, *map(len, splits[0]), len(store), group=first_round)
    if settings.pretraining:
        learning, n_synthetic = settings.pretraining.training, settings.pretraining.recordings
        n_validation = round(VALIDATION_SHARE * n_synthetic)
        for plan in pretraining_plans(settings):
            costs.append(StageCost(plan.title, len(plan.leads), learning, n_synthetic - n_validation, n_validation, 0,
                                   first_round + 1, plan.key))  # fmt: skip
    for plan in planned_networks(settings):
        stage = replace(make_stage(plan, settings, labelled), metric=CHALLENGE)
        counts, group = (len(stage.training), len(stage.validation)), first_round + 2
        if plan.group != GATE:
            stages.append(stage)
        if plan.learns_peaks and settings.peak_training:
            add(plan.peaks_title, len(plan.leads), settings.peak_training, *counts, 0, group=group, chain=plan.key)
        add(plan.title, len(plan.leads), stage.learning, *counts, stage.n_predictions, group=group, chain=plan.key)
    return stages, costs


def measure_on(executor: Executor, stage: Stage, stores: Stores, folder: Path, batch: int) -> tuple[float, float]:
    """Measure the time of a stage in this process, or on all slots of a cluster.

    Returns:
        What `measure` returns, of the slowest slot.

    Raises:
        TrainingError: See `measure`.
    """
    if executor.is_local:
        return measure(stage, stores, folder, batch)
    stores = {stage.view.preparation: stores[stage.view.preparation]}
    tasks = [
        executor.start(measure_quietly, stage, stores, folder / f"slot {slot}", batch, prepare=start_keras)
        for slot in range(executor.n_slots)
    ]
    try:
        measured = [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
    return max(fixed for fixed, _ in measured), max(per_recording for _, per_recording in measured)


def measure_quietly(stage: Stage, stores: Stores, folder: Path, batch: int) -> tuple[float, float]:
    """Measure the time of a stage without log messages; see `measure`."""
    with quiet_log():
        return measure(stage, stores, folder, batch)


def measure(stage: Stage, stores: Stores, folder: Path, batch: int) -> tuple[float, float]:
    """Measure the time of a stage by training it for two epochs on a sample.

    Returns:
        Seconds that do not depend on the number of recordings, and seconds for each recording in an epoch.

    Raises:
        TrainingError: A loss is not finite, or the memory is too small.
    """
    learning = replace(stage.learning, batch=batch, smallest_batch=batch, steps=1, epochs=2)
    start, ends = time.monotonic(), []

    def record_end(validation: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
        ends.append(time.monotonic())
        return {}

    runner = StageRunner(stores, folder / "stages", 0, TimeBudget(None), scorer=record_end)
    runner.run(replace(stage, learning=learning))
    if len(ends) < 2:
        raise TrainingError(f"{stage.title}: the loss of the second epoch is not finite")
    seconds = ends[1] - ends[0]
    n_epoch = learning.passes_for(len(stage.training)) * len(stage.training) + len(stage.validation)
    per_recording = seconds / n_epoch
    fixed = time.monotonic() - start - 2 * seconds - per_recording * len(stage.to_predict)
    return max(fixed, 0.0), per_recording
