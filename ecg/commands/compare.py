"""Train systems on the same folds, and score them on held-out recordings."""

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ecg.commands.fold_job import INPUTS, FoldJob, select_stores, start_fold_job
from ecg.commands.fold_runs import NETWORKS, FoldPlan, SystemRun, run_folds
from ecg.commands.protocol import Protocol, training_records
from ecg.data.corrections import (
    CORRECTION_BIAS,
    Corrections,
    correction_table,
    describe_corrections,
    load_corrections,
)
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.patients import (
    Patients,
    add_folds,
    add_patients,
    count_patients,
    find_patients,
    find_published_folds,
    number_patients,
    record_names,
)
from ecg.data.records import require_records
from ecg.data.resampling import Preprocessing
from ecg.data.store import Store, add_corrections, build_stores, check_trainable
from ecg.data.wave_peaks import NeuroKitMissing, WavePeaks, intersect_stores, load_all_wave_peaks, neurokit_version
from ecg.evaluation.bootstrap import Comparison, SystemResult
from ecg.reports.comparison_report import COMPARISON_FOLDER, write_comparison
from ecg.reports.training_report import package_versions
from ecg.reports.training_tables import differing_settings
from ecg.runtime.cache import KEY_LENGTH, ResultCache, fingerprint, folder_name
from ecg.runtime.console import abbreviated_list, format_duration, group_reasons, pluralise
from ecg.runtime.executors import ALL_CORES, Executor, StartedTask
from ecg.runtime.files import check_writable
from ecg.runtime.locks import lock_folder
from ecg.systems.recipes import Settings
from ecg.systems.stage_runner import Peaks, Stores, program_versions
from ecg.systems.training_manifest import NOT_IN_FINGERPRINT
from ecg.training.trainer import TrainingError

LOGGER = logging.getLogger("ecg")

STAGES = "stages"  # folder in the report's, for stores and results
# The source files in these folders are part of the cache key of a result.
FOLD_SOURCES = ("data", "evaluation", "models", "training", "systems", "commands")


class KnownFacts(NamedTuple):
    """What is known of recordings besides their files.

    Attributes:
        patients: Their patients; None: each recording counts as a patient.
        folds: Their published folds; empty if there are none.
        corrections: Reviewers' verdicts on labels; None: there are none.
    """

    patients: Patients | None = None
    folds: Mapping[str, int] = {}
    corrections: Corrections | None = None


def compare(
    data: str | Path,
    report: str | Path,
    protocol: Protocol | None = None,
    start: Callable[[FoldJob], StartedTask[object]] | None = None,
    groups: str | Path | None = None,
    corrections: str | Path | None = None,
    executor: Executor = ALL_CORES,
) -> Comparison:
    """Train systems, score them on held-out recordings, and write a report.

    An interrupted comparison is resumed. A system that fails does not end the comparison of the others.

    Args:
        data: Data folder.
        report: Folder for the report, and for stores and results meanwhile.
        protocol: What is compared, and how.
        start: Starts a job; None: the executor does.
        groups: Table of the patient of each recording (`ecg.data.patients`). A fold or split keeps the recordings of a
            patient together. None: each recording counts as a patient.
        corrections: Folder of reviews (`ecg.data.reviews`), which replace the headers' labels in training and scoring.
            None: there are none.
        executor: Reads the recordings and runs the jobs.

    Raises:
        FileNotFoundError: The data folder holds no header.
        RecordError: There are too few recordings or patients, the table of patients or the corrections cannot be
            used, or recordings change meanwhile.
        TrainingError: A system failed; raised when all others are compared.
        BlockingIOError: Another process compares in this folder.
        NeuroKitMissing: A system needs wave peaks, and NeuroKit2 is missing.
        OSError: For example, the disk is full.
    """
    protocol, data, report = protocol or Protocol(), Path(data), Path(report)
    check_peaks_can_be_found(protocol.systems)
    paths = require_records(data)
    names = record_names(data, paths)
    patients = find_patients(groups, data, paths)
    folds = {} if groups else find_published_folds(data, paths)
    votes = load_corrections(corrections, names, protocol.class_table) if corrections else None
    origins = {name: protocol.sources.find(PurePosixPath(name).name) for name in names}
    used = {name: source for name, source in origins.items() if source not in protocol.sources.untrained}
    numbers = None if patients is None else number_patients(used, patients)
    protocol.is_left_out(np.array([*used.values()]), numbers)  # raises early
    for folder in (report, report / COMPARISON_FOLDER):
        check_writable(folder)
    with lock_folder(report / STAGES):
        executor.check_shared(report / STAGES, paths[:1])
        start = start or partial(start_fold_job, executor=executor)
        try:
            return run_comparison(data, report, protocol, start, executor, KnownFacts(patients, folds, votes))
        finally:
            shutil.rmtree(report / STAGES / INPUTS, ignore_errors=True)


def check_peaks_can_be_found(systems: Iterable[Settings]) -> None:
    """Raise NeuroKitMissing now, instead of after hours, if a system needs it."""
    names = ", ".join(system.system for system in systems if system.peaks)
    if names:
        try:
            neurokit_version()
        except NeuroKitMissing as error:
            raise NeuroKitMissing(f"{error}, or leave {names} out of --systems") from None


def run_comparison(
    data: Path,
    report: Path,
    protocol: Protocol,
    start: Callable[[FoldJob], StartedTask[object]],
    executor: Executor,
    known: KnownFacts,
) -> Comparison:
    """Body of `compare`, run while the folder of stages is locked."""
    stages, runs = report / STAGES, [SystemRun(protocol.settings(system)) for system in protocol.systems]
    preparations = dict.fromkeys(preparation for run in runs for preparation in run.settings.preparations)
    stores = build_stores(data, stages, list(preparations), executor, protocol.class_table, protocol.sources)
    classes = dict.fromkeys(name for run in runs for name in run.settings.classes)
    check_trainable(data, list(stores.values())[-1], tuple(classes))
    digests = {preparation: store.digest for preparation, store in stores.items()}
    excluded = merge_excluded(stores.values())
    peaks: dict[Preprocessing, WavePeaks] = {}
    for run in runs:
        if run.settings.peaks:
            peaks |= load_all_wave_peaks(select_stores(stores, run.settings), stages, executor)
    corrected = add_corrections(add_folds(add_patients(stores, known.patients), known.folds), known.corrections)
    shared, shared_peaks = intersect_stores(corrected, peaks)
    store = next(iter(shared.values()))
    if store.reviewed:
        LOGGER.info(describe_corrections(store.reviewed))
    folds = protocol.held_out(store)
    for run in runs:
        run.failure = protocol.untrainable_reason(run.settings, store, folds)
        if run.failure:
            LOGGER.info(f"{run.settings.system} cannot be trained, {run.failure}")
    # The hours are shared among trainable systems only, so that naming an untrainable one changes nothing.
    n_trainable = sum(not run.failure for run in runs)
    hours = protocol.share_hours(max(n_trainable, 1), executor.n_slots)
    if n_trainable:
        limit = f", {format_duration(3600 * hours)} for each system and fold" if hours else ""
        LOGGER.info(f"{pluralise(n_trainable, 'system')}, {pluralise(len(folds), 'fold')}{limit}")
    votes = known.corrections
    patients = {key: grouped.patients for key, grouped in corrected.items() if grouped.patients is not None} or None
    plans: list[FoldPlan] = []
    for key, title, held_out in zip(protocol.keys, protocol.titles, folds, strict=True):
        fold = stages.absolute() / folder_name(key)
        networks = fold / f"{NETWORKS}_{fingerprint(held_out, hours)[:KEY_LENGTH]}"
        n_training, jobs = len(training_records(store, held_out)), {}
        for run in (run for run in runs if not run.failure):
            cache = result_cache(run.settings, fold, held_out, hours, select_stores(shared, run.settings), shared_peaks)
            jobs[run.settings.system] = FoldJob(data, stages.absolute(), digests, run.settings, held_out, hours,
                                                networks, cache, patients, votes, executor.jobs)  # fmt: skip
        plans.append(FoldPlan(title, fold, n_training, len(store) - len(held_out) - n_training, jobs))
    run_folds(plans, runs, start, executor)
    done = [run for run in runs if not run.failure]
    failures = "; ".join(f"{run.settings.system}, {run.failure}" for run in runs if run.failure)
    if not done:
        raise TrainingError(f"no system is trained: {failures}")
    comparison, systems = collect_results(store, folds, done), [run.settings for run in done]
    facts = describe_comparison(data, protocol, hours, systems, store, excluded, failures)
    for run in done:
        for title, result in zip(protocol.titles, run.results, strict=True):
            if result.skipped:
                facts |= {f"skipped by {run.settings.system}, {title}": "; ".join(result.skipped)}
    path = write_comparison(report, comparison, facts, seed=protocol.seed)
    LOGGER.info(f"{path}: {pluralise(len(done), 'system')}, {pluralise(len(protocol.lead_sets), 'lead set')}")
    if failures:
        raise TrainingError(f"{path} lacks the systems that failed: {failures}")
    return comparison


def merge_excluded(stores: Iterable[Store]) -> tuple[tuple[str, str], ...]:
    """Return the recordings that at least one store excludes, with reasons.

    Args:
        stores: Stores of the same data.
    """
    first, *rest = stores
    names = dict(first.excluded)
    pairs = dict(pair for store in rest for pair in store.excluded if pair[0] not in names)
    return (*first.excluded, *pairs.items())


def result_cache(
    system: Settings,
    folder: Path,
    held_out: np.ndarray,
    hours: float | None,
    stores: Stores,
    peaks: Peaks,
) -> ResultCache:
    """Return the cache of a system's result for a fold.

    The time limit is part of the key, so that a result within one limit is not used for another.

    Args:
        system: Settings of the system.
        folder: Folder of the fold.
        held_out: Indices of the held-out recordings, (n,).
        hours: Time limit, or None.
        stores: The stores that the system needs.
        peaks: Wave peaks by preprocessing.
    """
    settings = {name: value for name, value in asdict(system).items() if name not in NOT_IN_FINGERPRINT}
    waves = [peaks[preparation] for preparation in stores] if system.peaks else []
    arrays = [array for peak in waves for array in (peak.starts, peak.samples, peak.waves)]
    digests = [store.digest for store in stores.values()]
    # The splits of the training depend on the patients.
    arrays += [store.patients for store in list(stores.values())[:1] if store.patients is not None]
    key = fingerprint(digests, settings, held_out, hours, *program_versions(*FOLD_SOURCES), *arrays)
    return ResultCache(folder / f"{system.system}_{key[:KEY_LENGTH]}", key)


def collect_results(store: Store, folds: list[np.ndarray], runs: list[SystemRun]) -> Comparison:
    """Return the comparison of systems that have a result for each fold.

    Args:
        store: The store of the recordings.
        folds: Indices of the held-out recordings of each fold.
        runs: The systems.
    """
    indices = np.concatenate(folds)
    order = np.argsort(indices)
    numbers = np.concatenate([np.full(len(fold), number) for number, fold in enumerate(folds, 1)])
    results = []
    for run in runs:
        for count in run.settings.lead_sets:
            parts = [result.by_leads[count] for result in run.results]
            probabilities, predictions, optimised, by_credit = (
                np.concatenate(arrays)[order] for arrays in zip(*(part[:4] for part in parts), strict=True)
            )
            costs = np.array([part.costs for part in parts])
            parameters, prediction_seconds, training_seconds, networks, epochs, _ = costs.mean(axis=0)
            results.append(SystemResult(
                run.settings.system, count, probabilities, predictions, optimised, by_credit, round(parameters),
                training_seconds, prediction_seconds, run.settings.classes, round(networks), round(epochs),
                round(costs[:, -1].sum()), run.settings.class_table,
            ))  # fmt: skip
    chosen = indices[order]
    weights = runs[0].settings.weights
    return Comparison(store.as_scored[chosen], store.sources[chosen], numbers[order], tuple(results), weights)


def describe_reviewed_labels(store: Store) -> dict[str, object]:
    """Return counts and a table of the corrected labels, if there are corrections."""
    if store.reviewed is None:
        return {}
    table = correction_table(store.reviewed, store.names.tolist(), store.classes)
    return {"corrections": f"{describe_corrections(store.reviewed)} {CORRECTION_BIAS}", "corrected labels": table}


def describe_comparison(
    data: Path,
    protocol: Protocol,
    hours: float | None,
    systems: Sequence[Settings],
    store: Store,
    excluded: Sequence[tuple[str, str]],
    failed: str = "",
) -> dict[str, object]:
    """Collect what the report of a comparison states besides what was measured.

    Args:
        data: Folder of the recordings.
        protocol: How the systems were compared.
        hours: Time limit of each system and fold, or None.
        systems: Settings of the systems in the report.
        store: The recordings that were used.
        excluded: Name and reason of each recording that was not used.
        failed: Which systems failed, and why.

    Returns:
        By name a string, a number, or a table.
    """
    held_out, patients = f"each of {protocol.folds} folds in turn", "each in one fold"
    if protocol.leave_out:
        patients = "none both trained on and held out"
        held_out = f"all of {', '.join(np.unique(store.sources[protocol.is_left_out(store.sources)]).tolist())}"
    reasons = [f"{len(names):,}: {reason} ({abbreviated_list(names)})" for reason, names in group_reasons(excluded)]
    versions = package_versions()
    if any(system.peaks for system in systems):
        versions["neurokit2"] = neurokit_version()
    classes = store.classes
    options = {
        "maximum epochs of each network": protocol.epochs or "as each system has them",
        "maximum batch size": protocol.batch,
        "precision": protocol.precision,
        **{f"{name} of networks that have one": size for name, size in protocol.sizes.items()},
        "classes": None if classes == CHALLENGE_CLASSES else f"your own: {', '.join(classes.abbreviations)}",
        "weights of the metric": protocol.weights and "your own",
        "failed": failed or None,
    }
    return {
        "data": str(data),
        "recordings used": len(store),
        "recordings excluded": "; ".join(reasons) or "none",
        "held out": held_out,
        **({} if store.patients is None else {"patients": f"{count_patients(store.patients):,}, {patients}"}),
        **describe_reviewed_labels(store),
        "time limit of each system and fold": "none" if hours is None else format_duration(3600 * hours),
        **{name: value for name, value in options.items() if value is not None},
        "seed": protocol.seed,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "settings that differ": differing_settings(systems),
    }
