"""Sensitivity of a class at a fixed specificity, and the threshold that gives it."""

from collections.abc import Sequence

import numpy as np

from ecg.evaluation.bootstrap import estimate_interval
from ecg.evaluation.metrics import count_by_level

ROUNDING = 1e-9  # of recordings; shares such as 0.1 are not exact


def estimate_operating_point(
    labels: np.ndarray, scores: np.ndarray, specificity: float, counts: Sequence[np.ndarray]
) -> np.ndarray:
    """Find the operating point of a class on some recordings, with intervals.

    Args:
        labels: Whether the class is labelled, (N,) bool.
        scores: Probability of the class, (N,).
        specificity: The specificity that the threshold must reach.
        counts: `draw_resamples` of the N recordings.

    Returns:
        Rows of threshold, specificity and sensitivity, each with value, low and high, (3, 3). See
        `find_operating_points`.
    """
    once = np.ones((len(labels), 1), np.float32)
    chunks = [find_operating_points(labels, scores, specificity, chunk) for chunk in (once, *counts)]
    return estimate_interval(np.concatenate(chunks, axis=1)).T


def find_operating_points(labels: np.ndarray, scores: np.ndarray, specificity: float, counts: np.ndarray) -> np.ndarray:
    """Find the operating point of a class in each resample.

    The class is predicted if its score is at least the threshold. Of the thresholds that reach the specificity, those
    with the highest sensitivity count, and of these the highest one: it is the score of a positive.

    Args:
        labels: Whether the class is labelled, (N,) bool.
        scores: Probability of the class, (N,).
        specificity: The specificity that the threshold must reach.
        counts: How often each recording counts in each of R resamples, (N, R).

    Returns:
        Threshold, specificity and sensitivity, (3, R). All are NaN without positives or negatives. If no score of a
        positive reaches the specificity, nothing can be predicted: no threshold (NaN), specificity 1, sensitivity 0.
    """
    if not labels.any() or labels.all():
        return np.full((3, counts.shape[1]), np.nan)
    levels, positives, reached = count_by_level(labels, scores, counts)
    below, negatives = reached[0:-1:2].astype(np.float64), reached[-1].astype(np.float64)
    n_positives = positives.sum(axis=0, dtype=np.float64)
    false = negatives - below
    is_enough = (false <= (1 - specificity) * negatives + ROUNDING) & (positives > 0)
    index, columns = is_enough.argmax(axis=0), np.arange(counts.shape[1])
    is_reached = is_enough.any(axis=0)
    true = positives[::-1].cumsum(axis=0, dtype=np.float64)[::-1][index, columns]
    thresholds = np.where(is_reached, levels[index], np.nan)
    is_defined = (n_positives > 0) & (negatives > 0)
    ratios = (np.where(is_reached, below[index, columns], negatives), negatives), (is_reached * true, n_positives)
    shares = [np.divide(a, b, out=np.full(len(b), np.nan), where=is_defined) for a, b in ratios]
    return np.array([np.where(is_defined, thresholds, np.nan), *shares])
