"""What a comparison of systems measures, with intervals over the recordings.

An estimate is an array whose first axis is value, low and high: low and high are the ends of a 95 % percentile
bootstrap interval (Efron 1979) over recordings. NaN is what does not exist.
"""

from dataclasses import dataclass

import numpy as np

from ecg.data.labels import ABBREVIATIONS
from ecg.evaluation.metrics import (
    challenge_scores,
    class_credit,
    count_present,
    f_measures,
    inactive_and_perfect_scores,
    load_weights,
    nan_mean,
    normalise_scores,
    recording_scores,
    roc_and_pr_areas,
)
from ecg.evaluation.thresholds import HALF

OPTIMISED, PREDICTED, AT_HALF = "metric optimised", "metric as predicted", "metric at 0.5"
CHALLENGE_METRICS = (OPTIMISED, PREDICTED, AT_HALF)
AUROC, AUPRC, F1_OPTIMISED, F1_PREDICTED = "AUROC", "AUPRC", "F1 optimised", "F1 as predicted"
CLASS_METRICS = (
    AUROC,
    AUPRC,
    F1_OPTIMISED,
    F1_PREDICTED,
)  # of each class, and their means over those that are labelled
AUROC_SHARED = "AUROC shared"  # the mean over those of them that all systems know
METRICS = (*CHALLENGE_METRICS, AUROC, AUROC_SHARED, AUPRC, F1_OPTIMISED, F1_PREDICTED)
RESAMPLES = 1000
INTERVAL_PERCENTILES = (2.5, 97.5)  # percent of the resamples that lie below an interval's ends
MAX_CHUNK_SIZE = 2**24  # counts that are worked on together, for memory


@dataclass(frozen=True)
class SystemResult:
    """What one system with one lead set answered for N recordings, each by a network that had not learnt from it.

    probabilities (N, 26) float32, 0 for a class that is not among those that the system knows, abbreviations; answers
    (N, 26) bool by its own rule, optimised (N, 26) bool by thresholds found on the training part of each fold; the
    number of weights of all its networks that answer together, seconds of training and seconds to answer one recording.
    How many networks were trained for this lead set, their epochs together, both the mean over the folds, and how many
    trainings of all folds were ended by the time limit.
    """

    system: str
    leads: int
    probabilities: np.ndarray
    predictions: np.ndarray
    optimised: np.ndarray
    parameters: int
    training_seconds: float
    prediction_seconds: float
    classes: tuple[str, ...] = ABBREVIATIONS
    networks: int = 0
    epochs: int = 0
    time_limited: int = 0

    @property
    def known_classes(self):
        """Which classes the system knows: (26,) bool."""
        return np.isin(ABBREVIATIONS, self.classes)


@dataclass(frozen=True)
class Comparison:
    """Trials of systems on the same N recordings: labels (N, 26) bool, sources (N,) text, folds (N,) int."""

    labels: np.ndarray
    sources: np.ndarray
    folds: np.ndarray
    results: tuple[SystemResult, ...]

    def reference_index(self, trial):
        """Return the place of the first system's trial with the same leads, None where there is no other."""
        system = self.results[0].system
        places = (place for place, one in enumerate(self.results) if (one.system, one.leads) == (system, trial.leads))
        return None if trial.system == system else next(places, None)

    @property
    def lead_sets(self):
        """The lead sets of the trials, the largest first."""
        return sorted({trial.leads for trial in self.results}, reverse=True)

    def indices_with_leads(self, leads):
        """Return the places of the trials with so many leads."""
        return [place for place, trial in enumerate(self.results) if trial.leads == leads]

    @property
    def systems(self):
        """The systems in their order."""
        return list(dict.fromkeys(trial.system for trial in self.results))

    def systems_at(self, places):
        """Return the systems of the trials at some places: a list."""
        return [self.results[place].system for place in places]

    @property
    def shared_classes(self):
        """Which classes all systems know: (26,) bool."""
        return np.all([trial.known_classes for trial in self.results], axis=0)


@dataclass(frozen=True)
class MetricTable:
    """Estimates of each trial, in the order of the trials.

    `overall`: by measure (3,). `by_class`: by measure of OF_CLASSES (3, 26). `by_source` and `by_fold`: by source or
    fold the same as overall, in `by_fold` without intervals. `differences`: by measure, minus the first system with
    the same leads; None where there is no other.
    """

    overall: list
    by_class: list
    by_source: list
    by_fold: list
    differences: list


def compute_metrics(comparison, resamples=RESAMPLES, seed=0):
    """Measure all trials of a Comparison; returns Findings.

    The resamples are the same for all trials, so that what a difference varies by is not what both have in common.
    """
    every = np.ones(len(comparison.labels), bool)
    counts = draw_resamples(len(comparison.labels), resamples, seed)
    weights = load_weights()[1]
    worth = class_credit(comparison.labels, weights)
    found, samples = MetricTable([], [], [], [], []), []
    for trial in comparison.results:

        def of(rows, counts, trial=trial):
            return resample_metrics(trial, comparison.labels, comparison.shared_classes, weights, worth, rows, counts)

        samples.append(of(every, counts))
        estimates = {name: estimate_interval(values) for name, values in samples[-1].items()}
        found.overall.append({name: estimates[name] for name in METRICS})
        found.by_class.append({name: estimates[f"{name} by class"] for name in CLASS_METRICS})
        for groups, kept, how in (
            (comparison.sources, found.by_source, counts),
            (comparison.folds, found.by_fold, []),
        ):
            parts = {group: of(groups == group, how) for group in np.unique(groups).tolist()}
            kept.append({
                group: {name: estimate_interval(part[name]) for name in METRICS} for group, part in parts.items()
            })  # fmt: skip
        first = comparison.reference_index(trial)
        found.differences.append(
            None
            if first is None
            else {name: estimate_interval(samples[-1][name] - samples[first][name]) for name in METRICS}
        )
    return found


def draw_resamples(recordings, resamples, seed):
    """Return how often each recording is drawn in samples with replacement, of as many: a list of (N, R) float32.

    Together they have a column for each resample.
    """
    generator = np.random.default_rng(seed)
    chunks = []
    for size in _sizes(resamples, max(MAX_CHUNK_SIZE // max(recordings, 1), 1)):
        counts = np.empty((size, recordings), np.float32)
        for row in counts:
            row[:] = np.bincount(generator.integers(0, recordings, recordings), minlength=recordings)
        chunks.append(np.ascontiguousarray(counts.T))
    return chunks


def _sizes(total, most):
    return [min(most, total - begun) for begun in range(0, total, most)]


def resample_metrics(trial, labels, shared, weights, worth, rows, counts):
    """Measure a trial on some of the recordings, once as they are and in each resample.

    Args:
        trial: What the system answered, a Trial of N recordings.
        labels: Which classes are labelled, (N, 26) bool.
        shared: Which classes all systems know, (26,) bool.
        weights: The Challenge's table, (26, 26).
        worth: What each answer earns by it in each recording, (N, 26).
        rows: Which recordings are measured, (N,) bool.
        counts: How often each recording is drawn in each resample, a list of arrays (N, R).

    Returns:
        By measure an array (1 + all R,), and by "MEASURE by class" (26, 1 + all R). The first value is of the
        recordings as they are, and to the bit what the Challenge's evaluator computes.
    """
    if rows.all():
        rows = slice(None)  # spares copies
    labels, worth, probabilities = labels[rows], worth[rows], trial.probabilities[rows]
    outputs = dict(
        zip(
            CHALLENGE_METRICS,
            (trial.optimised[rows], trial.predictions[rows], probabilities >= HALF / 100),
            strict=True,
        )
    )
    once = _by_measure(labels, probabilities, outputs, shared, None)
    once |= dict(zip(CHALLENGE_METRICS, challenge_scores(labels, outputs.values(), weights), strict=True))
    parts = [{name: np.asarray(values)[..., np.newaxis] for name, values in once.items()}]
    earned = np.array(
        [
            *(recording_scores(labels, given, worth) for given in outputs.values()),
            *inactive_and_perfect_scores(labels, worth),
        ]
    )
    for chunk in counts:
        chunk = chunk[rows]
        part = _by_measure(labels, probabilities, outputs, shared, chunk)
        *totals, base, best = np.einsum("mn,nr->mr", earned, chunk)
        drawn = chunk.any(axis=0)
        for name, scores in zip(CHALLENGE_METRICS, normalise_scores(np.array(totals), base, best), strict=True):
            part[name] = np.where(drawn, scores, np.nan)
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def _by_measure(labels, probabilities, outputs, shared, counts):
    """Return all measures but the Challenge metrics, with counts in each resample."""
    areas, labelled = roc_and_pr_areas(labels, probabilities, counts), count_present(labels, counts) > 0
    given = (np.where(labelled, f_measures(labels, outputs[name], counts), np.nan) for name in (OPTIMISED, PREDICTED))
    found = {AUROC_SHARED: nan_mean(areas[0][shared])}
    for name, values in zip(CLASS_METRICS, (*areas, *given), strict=True):
        found[name], found[f"{name} by class"] = nan_mean(values), values
    return found


def estimate_interval(samples):
    """Return value, low and high of samples (..., R) whose first is the value: (3, ...), low and high of the others.

    Samples that do not exist, as of a class that a resample has none of, are left out.
    """
    value, others = samples[..., 0], samples[..., 1:]
    ends = np.full((2, *value.shape), np.nan)
    for place in np.ndindex(value.shape):
        known = others[place][~np.isnan(others[place])]
        if known.size and not np.isnan(value[place]):
            ends[(slice(None), *place)] = np.percentile(known, INTERVAL_PERCENTILES)
    return np.array([value, *ends])
