"""Search for the thresholds that maximise the Challenge metric.

Two searches: in steps, of Cai et al. 2021, and by differential evolution, of Nejedly et al. 2021.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.optimize import differential_evolution

from ecg.evaluation.metrics import (
    COUNT_TYPE,
    SINUS,
    class_credit,
    inactive_and_perfect_scores,
    normalise_scores,
    recording_scores,
    total_score,
)

# In hundredths, so that distances between thresholds are exact.
COMMON_CANDIDATES = np.arange(10, 91, 10)  # step 1: 0.1 to 0.9 by 0.1
CLASS_CANDIDATES = np.arange(20, 81)  # step 2: 0.20 to 0.80 by 0.01
HALF = 50
TIE = 1e-9  # scores that differ by less differ by rounding only
LEVELS = 101  # number of hundredths from 0 to 1
POPULATION = 300  # of the evolution
CONSTANTS = np.arange(1, 99) / 100  # thresholds of the first members of the population, the same for all classes
COMPARED_AT_ONCE = 2**17  # products of probabilities and thresholds; they fit into a processor's caches


@dataclass(frozen=True)
class ThresholdSearch:
    """Thresholds and the Challenge metric that they give on the recordings searched.

    Attributes:
        common: Threshold of step 1, the same for all classes.
        by_class: Thresholds of step 2, (C,).
        thresholds: Thresholds to predict with, (C,).
        score_at_half: Metric with 0.5 for all classes.
        score_common: Metric with `common`.
        score_by_class: Metric with `by_class`.
        score: Metric with `thresholds`.
    """

    common: float
    by_class: np.ndarray
    thresholds: np.ndarray
    score_at_half: float
    score_common: float
    score_by_class: float
    score: float


def search_thresholds(
    labels: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray,
    resamples: int = 0,
    seed: int = 0,
    sinus: int | None = SINUS,
) -> ThresholdSearch:
    """Search the thresholds that maximise the Challenge metric.

    The search has the two steps of Cai et al. 2021. Step 1: one threshold for all classes. Step 2: one class at a time,
    the others at the value of step 1. A class is predicted if its probability is at least the threshold.

    Ties: step 1 takes the threshold nearest to 0.5. Step 2 takes the one nearest to the result of step 1. If two are
    equally near, the lower is taken.

    If `resamples` > 0, both steps run on each bootstrap sample, and the thresholds of step 2 are averaged (bagging,
    Breiman 1996). The best threshold of a class with few positives depends on chance, and the mean varies less. With
    many recordings, averaged and single thresholds agree.

    Args:
        labels: Labelled classes, (N, C).
        probabilities: Probability of each class, (N, C).
        weights: Credit of each prediction, (C, C).
        resamples: Number of bootstrap samples; 0 for the thresholds of step 2.
        seed: Seed of the bootstrap samples.
        sinus: Index of sinus rhythm, or None.

    Raises:
        ValueError: A probability is not finite.
    """
    labels, probabilities = _check_finite(labels, probabilities)
    credit, hundredths = class_credit(labels, weights), _to_hundredths(probabilities)
    limits = inactive_and_perfect_scores(labels, credit, sinus)
    candidates = np.array([recording_scores(labels, hundredths >= value, credit) for value in COMMON_CANDIDATES])
    gains = cache(lambda common: prediction_gain(labels, hundredths >= common, credit))
    bins = hundredths + LEVELS * np.arange(hundredths.shape[1], dtype=COUNT_TYPE)

    def search(counts: np.ndarray) -> tuple[np.ndarray, int, np.ndarray]:
        scores = total_score(candidates, limits, counts)
        common = int(_best_candidate(scores, COMMON_CANDIDATES, HALF))
        totals = _total_gains(gains(common) * counts[:, None], bins)
        return scores, common, _best_candidate(totals, CLASS_CANDIDATES, common) / 100

    def score(thresholds: np.ndarray) -> float:
        return float(total_score(recording_scores(labels, probabilities >= thresholds, credit), limits))

    n_recordings = len(labels)
    scores, common, by_class = search(np.ones(n_recordings))
    thresholds, generator = by_class, np.random.default_rng(seed)
    if resamples:
        draws = (generator.integers(0, n_recordings, n_recordings) for _ in range(resamples))
        searched = (search(np.bincount(draw, minlength=n_recordings))[2] for draw in draws)
        thresholds = sum(searched, np.zeros(labels.shape[1])) / resamples
    score_at_half, score_common = (scores[value == COMMON_CANDIDATES].item() for value in (HALF, common))
    searched_scores = (score_at_half, score_common, score(by_class), score(thresholds))
    return ThresholdSearch(common / 100, by_class, thresholds, *searched_scores)


def _to_hundredths(probabilities: np.ndarray) -> np.ndarray:
    """Return the highest hundredth, 0 to 100, that each probability reaches: uint8.

    The probability is at least candidate / 100 exactly if the hundredth is at least the candidate.
    """
    probabilities = np.clip(probabilities, 0, 1)
    hundredths = (100 * probabilities).astype(np.uint8)  # one too many or too few by rounding
    hundredths += probabilities >= (hundredths + 1) / 100
    hundredths -= probabilities < hundredths / 100
    return hundredths


def prediction_gain(labels: np.ndarray, outputs: np.ndarray, credit: np.ndarray) -> np.ndarray:
    """Return the gain in score if a class is predicted instead of not: (N, C).

    The other predictions are fixed. The gain does not depend on the threshold of the class. The gain of a threshold is
    therefore the sum over the recordings at or above it.

    Args:
        labels: Labelled classes, (N, C) bool.
        outputs: Predicted classes, (N, C) bool.
        credit: `class_credit` of the labels, (N, C).
    """
    predicted = credit * outputs
    rest = predicted.sum(axis=1, keepdims=True) - predicted
    # Number of classes that are labelled or predicted if this one is not predicted.
    union = (labels | outputs).sum(axis=1, keepdims=True, dtype=COUNT_TYPE) - (outputs & ~labels)
    return (rest + credit) / (union + ~labels) - rest / np.maximum(union, 1)


def _total_gains(gains: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Return the sum of gains at or above each candidate of step 2: (C, n_candidates).

    Args:
        gains: `prediction_gain`, (N, C).
        bins: Hundredths of the probabilities, (N, C); those of class k begin at k * LEVELS.
    """
    n_classes = gains.shape[1]
    sums = np.bincount(bins.ravel(), gains.ravel(), n_classes * LEVELS).reshape(n_classes, LEVELS)
    return sums[:, ::-1].cumsum(axis=1)[:, ::-1][:, CLASS_CANDIDATES]


def _best_candidate(scores: np.ndarray, candidates: np.ndarray, nearest_to: int) -> np.ndarray:
    """Return the best candidate along the last axis; on ties the nearest to a value."""
    is_best = scores >= scores.max(axis=-1, keepdims=True) - TIE
    return candidates[np.where(is_best, abs(candidates - nearest_to), np.inf).argmin(axis=-1)]


def evolve_thresholds(
    labels: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray,
    seed: int = 0,
    sinus: int | None = SINUS,
) -> np.ndarray:
    """Search the thresholds that maximise the Challenge metric, by evolution.

    This is scipy's differential evolution (Storn and Price 1997) with its own limits, as in Nejedly et al. 2021. The
    population of 300 begins with 98 constants from 0.01 to 0.98, those of `find_class_thresholds`, and random ones. The
    same seed gives the same result.

    Args:
        labels: Labelled classes, (N, C).
        probabilities: Probability of each class, (N, C).
        weights: Credit of each prediction, (C, C).
        seed: Seed of the evolution.
        sinus: Index of sinus rhythm, or None.

    Returns:
        Thresholds from 0 to 1, (C,). A class is predicted if its probability is at least its threshold.

    Raises:
        ValueError: A probability is not finite.
    """
    labels, probabilities = _check_finite(labels, probabilities)
    credit, generator = class_credit(labels, weights), np.random.default_rng(seed)
    limits = inactive_and_perfect_scores(labels, credit, sinus).sum(axis=1)
    population = generator.random((POPULATION, labels.shape[1]))
    population[: len(CONSTANTS)] = CONSTANTS[:, np.newaxis]
    population[len(CONSTANTS) : len(CONSTANTS) + 2] = find_class_thresholds(labels, probabilities)

    def cost(members: np.ndarray) -> np.ndarray:
        return -normalise_scores(sum_scores(labels, probabilities, credit, members.T), *limits)

    bounds = [(0.0, 1.0)] * labels.shape[1]
    # Polishing by a gradient, which is 0 almost everywhere, would change nothing.
    evolved = differential_evolution(cost, bounds, init=population, rng=generator, vectorized=True,
                                     updating="deferred", polish=False)  # fmt: skip
    return evolved.x


def find_class_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the best thresholds of each class on its own, by two measures.

    Args:
        labels: Labelled classes, (N, C) bool.
        probabilities: Probability of each class, (N, C).

    Returns:
        Thresholds (2, C): of the highest F-measure, and of the highest harmonic mean of sensitivity and specificity.
        0.5 for a class that no recording has.
    """
    order = np.argsort(-probabilities, axis=0, kind="stable")
    ranked, hits = (np.take_along_axis(values, order, axis=0) for values in (probabilities, labels))
    true, positives = hits.cumsum(axis=0), labels.sum(axis=0)
    predicted, negatives = np.arange(1, len(labels) + 1)[:, np.newaxis], len(labels) - positives
    f_measure = 2 * true / (predicted + positives)
    sensitivity = true / np.maximum(positives, 1)
    specificity = 1 - (predicted - true) / np.maximum(negatives, 1)
    total = sensitivity + specificity
    balance = np.divide(2 * sensitivity * specificity, total, out=np.zeros_like(total), where=total > 0)
    # Equal probabilities are predicted together: the last of them counts.
    is_last = np.vstack([ranked[1:] != ranked[:-1], np.ones((1, labels.shape[1]), bool)])
    best = [np.where(is_last, measure, -1).argmax(axis=0) for measure in (f_measure, balance)]
    return np.where(positives > 0, np.take_along_axis(ranked, np.array(best), axis=0), HALF / 100)


def sum_scores(labels: np.ndarray, probabilities: np.ndarray, credit: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the summed scores of recordings with each of several sets of thresholds.

    Args:
        labels: Labelled classes, (N, C) bool.
        probabilities: Probability of each class, (N, C).
        credit: `class_credit` of the labels, (N, C).
        thresholds: S sets, (S, C).

    Returns:
        The sum over the recordings of `recording_scores`, (S,) float64.
    """
    total, count = np.zeros(len(thresholds)), labels.sum(axis=1, keepdims=True)
    terms = np.stack([credit, ~labels], axis=2).astype(np.float32)  # credit, and classes that only enlarge the union
    step = max(COMPARED_AT_ONCE // thresholds.size, 1)
    for rows in (slice(first, first + step) for first in range(0, len(labels), step)):
        outputs = (probabilities[rows, np.newaxis] >= thresholds).astype(np.float32)
        gained, added = np.moveaxis(np.matmul(outputs, terms[rows]), 2, 0)
        total += (gained / np.maximum(count[rows] + added, 1)).sum(axis=0, dtype=np.float64)
    return total


def _check_finite(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as bool and probabilities as float64; raise unless finite."""
    probabilities = np.asarray(probabilities, np.float64)
    if not np.isfinite(probabilities).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(probabilities))} of the probabilities are not finite")
    return np.asarray(labels, bool), probabilities
