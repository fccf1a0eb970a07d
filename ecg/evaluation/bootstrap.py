"""Metrics of compared systems with bootstrap intervals over the recordings.

An estimate is an array with value, low and high along the first axis. Low and high are the ends of a 95 % percentile
bootstrap interval (Efron 1979) over recordings. NaN stands for an undefined value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ecg.data.class_tables import ClassTable, WeightTable
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.evaluation import metrics
from ecg.evaluation.metrics import nan_mean
from ecg.evaluation.thresholds import HALF

# Decisions: by optimised thresholds, by the system's own rule, by expected credit, and by 0.5 for all classes.
DECISION_NAMES = ("optimised", "as predicted", "by expected credit", "at 0.5")
OPTIMISED, PREDICTED, BY_CREDIT, AT_HALF = CHALLENGE_METRICS = tuple(f"metric {name}" for name in DECISION_NAMES)
AUROC, AUPRC = "AUROC", "AUPRC"
F1_OPTIMISED, F1_PREDICTED, F1_BY_CREDIT, F1_AT_HALF = F1_METRICS = tuple(f"F1 {name}" for name in DECISION_NAMES)
COUNT_METRICS = tuple(f"classes {name}" for name in DECISION_NAMES)  # mean number of predicted classes
CLASS_METRICS = (AUROC, AUPRC, *F1_METRICS)  # of each class; overall the mean over the labelled classes
AUROC_SHARED = "AUROC shared"  # mean over the labelled classes that all systems know
AREAS = (AUROC, AUROC_SHARED, AUPRC)
METRICS = (*CHALLENGE_METRICS, *AREAS, *F1_METRICS, *COUNT_METRICS)
RESAMPLES = 1000
INTERVAL_PERCENTILES = (2.5, 97.5)
MAX_CHUNK_SIZE = 2**24  # counts in memory at once

Estimates = dict[str, np.ndarray]


@dataclass(frozen=True)
class SystemResult:
    """Predictions of one system with one lead set for held-out recordings.

    Attributes:
        system: Name of the system.
        leads: Number of leads.
        probabilities: (N, C) float32, 0 for classes that the system does not know.
        predictions: Classes predicted by the system's own rule, (N, C) bool.
        optimised: Classes predicted with thresholds searched on each fold's training recordings, (N, C) bool.
        by_credit: Classes predicted by expected credit, calibrated on each fold's training recordings, (N, C) bool.
        parameters: Number of weights of all networks used for a prediction.
        training_seconds: Training time.
        prediction_seconds: Prediction time of one recording.
        classes: Abbreviations of the classes that the system knows.
        networks: Number of networks trained for this lead set, mean over the folds.
        epochs: Sum of their epochs, mean over the folds.
        time_limited: Number of trainings in all folds that the time limit ended.
        class_table: All C classes.
    """

    system: str
    leads: int
    probabilities: np.ndarray
    predictions: np.ndarray
    optimised: np.ndarray
    by_credit: np.ndarray
    parameters: int
    training_seconds: float
    prediction_seconds: float
    classes: tuple[str, ...] = CHALLENGE_CLASSES.abbreviations
    networks: int = 0
    epochs: int = 0
    time_limited: int = 0
    class_table: ClassTable = CHALLENGE_CLASSES

    @property
    def known_classes(self) -> np.ndarray:
        """Mask of the classes that the system knows: (C,) bool."""
        return np.isin(self.class_table.abbreviations, self.classes)

    @property
    def predictions_by_decision(self) -> list[np.ndarray]:
        """Predicted classes by each of DECISION_NAMES: (N, C) bool each."""
        return [self.optimised, self.predictions, self.by_credit, self.probabilities >= HALF / 100]


@dataclass(frozen=True)
class Comparison:
    """Results of systems on the same N recordings.

    Attributes:
        labels: Labelled classes, (N, C) bool.
        sources: Source database of each recording, (N,) str.
        folds: Number of the fold in which each recording was held out, (N,) int.
        results: A result per system and lead set.
        weights: Credit of each prediction in the metric; None: that of the classes.
    """

    labels: np.ndarray
    sources: np.ndarray
    folds: np.ndarray
    results: tuple[SystemResult, ...]
    weights: WeightTable | None = None

    def reference_index(self, result: SystemResult) -> int | None:
        """Return the index of the first system's result with the same leads, if any."""
        first = self.systems[0]
        indices = [index for index in self.indices_with_leads(result.leads) if self.results[index].system == first]
        return indices[0] if indices and result.system != first else None

    @property
    def class_table(self) -> ClassTable:
        """All C classes."""
        return self.results[0].class_table

    @property
    def lead_sets(self) -> list[int]:
        """Numbers of leads of the results, the largest first."""
        return sorted({result.leads for result in self.results}, reverse=True)

    def indices_with_leads(self, leads: int) -> list[int]:
        """Return the indices of the results with a number of leads."""
        return [index for index, result in enumerate(self.results) if result.leads == leads]

    @property
    def systems(self) -> list[str]:
        """Names of the systems in their order."""
        return list(dict.fromkeys(result.system for result in self.results))

    def systems_at(self, indices: Sequence[int]) -> list[str]:
        """Return the names of the systems of some results, by their indices."""
        return [self.results[index].system for index in indices]

    @property
    def shared_classes(self) -> np.ndarray:
        """Mask of the classes that all systems know: (C,) bool."""
        return np.all([result.known_classes for result in self.results], axis=0)


@dataclass(frozen=True)
class MetricTable:
    """Estimates of each result, in the order of the results.

    Attributes:
        overall: By metric, (3,) each.
        by_class: By metric of CLASS_METRICS, (3, C) each.
        by_source: By source the same as `overall`.
        by_fold: By fold the same as `overall`, but without intervals.
        differences: By metric, minus the first system with the same leads; None if there is no other.
    """

    overall: list[Estimates]
    by_class: list[Estimates]
    by_source: list[dict[str, Estimates]]
    by_fold: list[dict[int, Estimates]]
    differences: list[Estimates | None]


def compute_metrics(comparison: Comparison, resamples: int = RESAMPLES, seed: int = 0) -> MetricTable:
    """Compute all metrics of a comparison.

    All results share the same resamples, so that a difference varies only by what the systems do not have in common.

    Args:
        comparison: Results of the systems.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.
    """
    weights = comparison.class_table.make_weight_array(comparison.weights)
    credit = metrics.class_credit(comparison.labels, weights)
    counts = draw_resamples(len(comparison.labels), resamples, seed)
    table, samples = MetricTable([], [], [], [], []), []
    for result in comparison.results:
        sample = partial(resample_metrics, result, comparison, weights, credit)
        samples.append(sample(np.ones(len(comparison.labels), bool), counts))
        table.overall.append(_estimate_metrics(samples[-1]))
        by_class = {name: estimate_interval(samples[-1][f"{name} by class"]) for name in CLASS_METRICS}
        table.by_class.append(by_class)
        sources, folds = np.unique(comparison.sources).tolist(), np.unique(comparison.folds).tolist()
        by_source = {source: _estimate_metrics(sample(comparison.sources == source, counts)) for source in sources}
        table.by_source.append(by_source)
        table.by_fold.append({fold: _estimate_metrics(sample(comparison.folds == fold, [])) for fold in folds})
        index = comparison.reference_index(result)
        differences = None if index is None else {name: samples[-1][name] - samples[index][name] for name in METRICS}
        table.differences.append(differences and _estimate_metrics(differences))
    return table


def _estimate_metrics(samples: dict[str, np.ndarray]) -> Estimates:
    return {name: estimate_interval(samples[name]) for name in METRICS}


def draw_resamples(
    n_recordings: int, resamples: int, seed: int, patients: np.ndarray | None = None
) -> list[np.ndarray]:
    """Draw bootstrap samples; return how often each recording is drawn.

    Args:
        n_recordings: Number of recordings, N.
        resamples: Number of samples, R.
        seed: Seed of the draws.
        patients: Number of each recording's patient, (N,). Patients are drawn, each with all recordings. None: each
            recording counts as a patient.

    Returns:
        Chunks of (N, R) float32 with a column per resample.
    """
    generator = np.random.default_rng(seed)
    patient = np.unique(patients, return_inverse=True)[1] if patients is not None else np.arange(n_recordings)
    n_patients = int(patient.max(initial=-1)) + 1
    chunk_size = max(MAX_CHUNK_SIZE // max(n_recordings, 1), 1)
    chunks = []
    for start in range(0, resamples, chunk_size):
        counts = np.empty((min(chunk_size, resamples - start), n_recordings), np.float32)
        for row in counts:
            row[:] = np.bincount(generator.integers(0, n_patients, n_patients), minlength=n_patients)[patient]
        chunks.append(np.ascontiguousarray(counts.T))
    return chunks


def resample_metrics(
    result: SystemResult,
    comparison: Comparison,
    weights: np.ndarray,
    credit: np.ndarray,
    rows: np.ndarray,
    counts: list[np.ndarray],
) -> dict[str, np.ndarray]:
    """Compute the metrics of a result on some recordings and in each resample.

    Args:
        result: Predictions for N recordings.
        comparison: The comparison that it belongs to.
        weights: Credit of each prediction, (C, C), labels by row.
        credit: `class_credit` of the labels, (N, C).
        rows: Mask of the recordings, (N,) bool.
        counts: `draw_resamples` of the N recordings.

    Returns:
        By metric an array (1 + R,), and by "METRIC by class" (C, 1 + R). The first value is of the recordings as they
        are, and bit-identical to the Challenge's evaluator.
    """
    selected = slice(None) if rows.all() else rows  # a slice spares copies
    labels, credit, probabilities = comparison.labels[selected], credit[selected], result.probabilities[selected]
    outputs = [decision[selected] for decision in result.predictions_by_decision]
    sizes = np.array([decision.sum(axis=1) for decision in outputs], np.float64)
    shared, sinus = comparison.shared_classes, comparison.class_table.sinus
    scores = [metrics.recording_scores(labels, decision, credit) for decision in outputs]
    scores += [*metrics.inactive_and_perfect_scores(labels, credit, sinus)]
    chunks = []
    for chunk in [None, *counts]:
        if chunk is None:
            challenge = np.array(metrics.challenge_scores(labels, outputs, weights, sinus))
            numbers = sizes.mean(axis=1)
        else:
            chunk = chunk[selected]
            *totals, inactive, perfect = np.einsum("mn,nr->mr", np.array(scores), chunk)
            challenge = metrics.normalise_scores(np.array(totals), inactive, perfect)
            n_drawn = chunk.sum(axis=0, dtype=np.float64)
            challenge[:, n_drawn == 0] = np.nan
            totals = np.einsum("mn,nr->mr", sizes, chunk)
            numbers = np.divide(totals, n_drawn, out=np.full(totals.shape, np.nan), where=n_drawn > 0)
        values = _class_metrics(labels, probabilities, outputs, shared, chunk)
        values |= dict(zip((*CHALLENGE_METRICS, *COUNT_METRICS), (*challenge, *numbers), strict=True))
        chunks.append({name: value[..., np.newaxis] if chunk is None else value for name, value in values.items()})
    return {name: np.concatenate([chunk[name] for chunk in chunks], axis=-1) for name in chunks[0]}


def _class_metrics(
    labels: np.ndarray,
    probabilities: np.ndarray,
    outputs: Sequence[np.ndarray],
    shared: np.ndarray,
    counts: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Return CLASS_METRICS, overall and by class, and AUROC_SHARED."""
    areas = metrics.roc_and_pr_areas(labels, probabilities, counts)
    labelled = metrics.count_present(labels, counts) > 0
    measured = (metrics.f_measures(labels, decision, counts) for decision in outputs)
    f_measures = (np.where(labelled, f_measure, np.nan) for f_measure in measured)
    values = {AUROC_SHARED: np.asarray(nan_mean(areas[0][shared]))}
    for name, by_class in zip(CLASS_METRICS, (*areas, *f_measures), strict=True):
        values[name], values[f"{name} by class"] = np.asarray(nan_mean(by_class)), by_class
    return values


def estimate_interval(samples: np.ndarray) -> np.ndarray:
    """Return value, low and high of samples.

    Args:
        samples: (..., 1 + R), first the value, then the resamples. NaN, as of a class absent from a resample, is
            ignored.

    Returns:
        (3, ...). Low and high are NaN if the value is, or if no resample has a value.
    """
    value, resamples = samples[..., 0], samples[..., 1:]
    ends = np.full((2, *value.shape), np.nan)
    for index in np.ndindex(value.shape):
        known = resamples[index][~np.isnan(resamples[index])]
        if known.size and not np.isnan(value[index]):
            ends[(slice(None), *index)] = np.percentile(known, INTERVAL_PERCENTILES)
    return np.array([value, *ends])
