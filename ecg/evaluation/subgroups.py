"""Scores of a model on groups of recordings, with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ecg.evaluation import metrics
from ecg.evaluation.bootstrap import AUPRC, AUROC, Estimates, estimate_interval
from ecg.evaluation.metrics import nan_mean

METRIC, F_MEASURE = "metric", "F-measure"
SUBGROUP_SCORES = (METRIC, AUROC, AUPRC, F_MEASURE)
# A class counts in a group if so many of its recordings have it, and as many lack it. With fewer, resamples without the
# class or with copies of its few recordings would make the area under the precision-recall curve too large.
FEWEST_OF_CLASS = 5
# A group with fewer recordings or classes has no scores: they would be chance.
FEWEST_RECORDINGS, FEWEST_CLASSES = 30, 2


@dataclass(frozen=True)
class ScoredRecordings:
    """Labels and predictions of N recordings; C classes, the S scored ones first.

    Attributes:
        labels: Labelled classes, (N, C) bool.
        probabilities: Probability of each class, (N, C).
        outputs: Predicted classes, (N, C) bool.
        is_trained: Whether the model predicts a class, (C,) bool.
        weights: Credit of each prediction in the metric, (S, S), labels by row.
        sinus: Index of sinus rhythm, or None.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    outputs: np.ndarray
    is_trained: np.ndarray
    weights: np.ndarray
    sinus: int | None = metrics.SINUS

    def subset(self, rows: np.ndarray) -> "ScoredRecordings":
        """Return some of the recordings, by a mask or by indices."""
        labels, probabilities, outputs = (array[rows] for array in (self.labels, self.probabilities, self.outputs))
        return replace(self, labels=labels, probabilities=probabilities, outputs=outputs)

    @property
    def counted_classes(self) -> np.ndarray:
        """Mask of the trained classes with enough recordings with and without, (C,) bool."""
        counts = self.labels.sum(axis=0)
        return self.is_trained & (counts >= FEWEST_OF_CLASS) & (len(self.labels) - counts >= FEWEST_OF_CLASS)

    def are_enough(self) -> bool:
        """Return whether the recordings are enough for scores."""
        return len(self.labels) >= FEWEST_RECORDINGS and self.counted_classes.sum() >= FEWEST_CLASSES


def estimate_scores(recordings: ScoredRecordings, counts: Sequence[np.ndarray]) -> Estimates:
    """Compute scores of recordings with intervals.

    AUROC, AUPRC and F-measure are means over the counted classes.

    Args:
        recordings: The recordings.
        counts: Chunks of how often each of them is drawn, (N, R) each (`ecg.evaluation.bootstrap.draw_resamples`).

    Returns:
        By each of SUBGROUP_SCORES value, low and high, (3,).
    """
    chunks = [_compute_scores(recordings, chunk) for chunk in (None, *counts)]
    return {name: estimate_interval(np.concatenate([chunk[name] for chunk in chunks])) for name in SUBGROUP_SCORES}


def _compute_scores(recordings: ScoredRecordings, counts: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return each score of the recordings, (1,), or in each resample, (R,)."""
    counted = recordings.counted_classes
    labels, outputs = recordings.labels[:, counted], recordings.outputs[:, counted]
    auroc, auprc = metrics.roc_and_pr_areas(labels, recordings.probabilities[:, counted], counts)
    f_measure = metrics.f_measures(labels, outputs, counts)
    means = (np.atleast_1d(nan_mean(by_class)) for by_class in (auroc, auprc, f_measure))
    return dict(zip(SUBGROUP_SCORES, (_compute_metric(recordings, counts), *means), strict=True))


def _compute_metric(recordings: ScoredRecordings, counts: np.ndarray | None) -> np.ndarray:
    """Return the Challenge metric of the recordings, (1,), or in each resample, (R,)."""
    weights, sinus = recordings.weights, recordings.sinus
    labels, outputs = (array[:, : len(weights)] for array in (recordings.labels, recordings.outputs))
    if counts is None:
        return np.array([metrics.challenge_score(labels, outputs, weights, sinus)])
    credit = metrics.class_credit(labels, weights)
    limits = metrics.inactive_and_perfect_scores(labels, credit, sinus)
    scores = [metrics.recording_scores(labels, outputs, credit), *limits]
    total, inactive, perfect = np.einsum("mn,nr->mr", np.array(scores), counts)
    challenge = metrics.normalise_scores(total, inactive, perfect)
    challenge[counts.sum(axis=0) == 0] = np.nan
    return challenge
