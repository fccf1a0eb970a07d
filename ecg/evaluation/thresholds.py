"""The thresholds of probabilities that maximise the Challenge metric."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from ecg.evaluation.metrics import COUNT_TYPE, class_credit, inactive_and_perfect_scores, recording_scores, total_score

# In hundredths, so that distances between thresholds are exact.
COMMON_CANDIDATES = np.arange(10, 91, 10)  # step 1: 0.1 to 0.9 by 0.1
CLASS_CANDIDATES = np.arange(20, 81)  # step 2: 0.20 to 0.80 by 0.01
HALF = 50
TIE = 1e-9  # scores that differ by less differ by rounding only
LEVELS = 101  # of probabilities in hundredths, from 0 to 1


@dataclass(frozen=True)
class ThresholdSearch:
    """What the search found: step 1's threshold, step 2's (C,), those to answer with (C,), and the score with each.

    `score_at_half` is that with 0.5 for every class. All scores are on the recordings searched.
    """

    common: float
    by_class: np.ndarray
    thresholds: np.ndarray
    score_at_half: float
    score_common: float
    score_by_class: float
    score: float


def search_thresholds(labels, probabilities, weights, resamples=0, seed=0):
    """Find the thresholds that maximise the Challenge metric in the two steps of Cai et al. 2021.

    Step 1: one threshold for all classes, 0.1 to 0.9 by 0.1. Step 2: one class at a time, 0.20 to 0.80 by 0.01, the
    others at step 1's value. Among equal scores the threshold nearest to step 1's value wins, in step 1 the one
    nearest to 0.5; of two as near, the lower one. labels, probabilities (N, C); an answer is positive where
    probability >= threshold. ValueError where a probability is not finite.

    With `resamples`, the thresholds to answer with are not step 2's but the means of what both steps find on so many
    samples of N recordings drawn with replacement (bagging, Breiman 1996): where a class has a few positives only,
    its best threshold is that of chance, and the mean is steadier. On many recordings the two agree.
    """
    labels, probabilities = np.asarray(labels, bool), np.asarray(probabilities, np.float64)
    if not np.isfinite(probabilities).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(probabilities))} of the probabilities are not finite")

    worth, reached = class_credit(labels, weights), _hundredths(probabilities)
    limits = inactive_and_perfect_scores(labels, worth)
    earned = np.array([recording_scores(labels, reached >= candidate, worth) for candidate in COMMON_CANDIDATES])
    gains = cache(lambda common: prediction_gain(labels, reached >= common, worth))
    bins = reached + LEVELS * np.arange(reached.shape[1], dtype=COUNT_TYPE)

    def two_steps(counts):
        scores = total_score(earned, limits, counts)
        common = _best(scores, COMMON_CANDIDATES, HALF)
        totals = _totals(gains(common) * counts[:, None], bins)
        return scores, common, _best(totals, CLASS_CANDIDATES, common) / 100

    def score(thresholds):
        return float(total_score(recording_scores(labels, probabilities >= thresholds, worth), limits))

    recordings = len(labels)
    scores, common, by_class = two_steps(np.ones(recordings))
    thresholds, generator = by_class, np.random.default_rng(seed)
    if resamples:
        draws = (generator.integers(0, recordings, recordings) for _ in range(resamples))
        thresholds = sum(two_steps(np.bincount(draw, minlength=recordings))[2] for draw in draws) / resamples
    return ThresholdSearch(
        common=float(common / 100),
        by_class=by_class,
        thresholds=thresholds,
        score_at_half=scores[COMMON_CANDIDATES == HALF].item(),
        score_common=scores[COMMON_CANDIDATES == common].item(),
        score_by_class=score(by_class),
        score=score(thresholds),
    )


def _hundredths(probabilities):
    """Return the highest hundredth that each probability reaches, 0 to 100: uint8.

    It reaches a candidate, probability >= candidate / 100, just where the hundredth does.
    """
    probabilities = np.clip(probabilities, 0, 1)
    hundredths = (100 * probabilities).astype(np.uint8)  # which by rounding may be one too many or too few
    hundredths += probabilities >= (hundredths + 1) / 100
    hundredths -= probabilities < hundredths / 100
    return hundredths


def prediction_gain(labels, outputs, worth):
    """Return what a recording's credit gains when a class's answer turns from no to yes, its others fixed: (N, C).

    `worth` is that of answers to these labels. Neither the class's own answer in `outputs` nor its threshold plays a
    part, so the gains of the recordings beyond a threshold simply add up.
    """
    answered = worth * outputs
    others = answered.sum(axis=1, keepdims=True) - answered
    union = (labels | outputs).sum(axis=1, keepdims=True, dtype=COUNT_TYPE) - (
        outputs & ~labels
    )  # the class unanswered
    return (others + worth) / (union + ~labels) - others / np.maximum(union, 1)


def _totals(gains, bins):
    """Return the summed gains of the recordings at or above each of step 2's candidates: (C, candidates).

    `bins` are the hundredths that the probabilities reach, class k's from k * LEVELS on. Their sums are added up from
    the top.
    """
    classes = gains.shape[1]
    sums = np.bincount(bins.ravel(), gains.ravel(), classes * LEVELS).reshape(classes, LEVELS)
    return sums[:, ::-1].cumsum(axis=1)[:, ::-1][:, CLASS_CANDIDATES]


def _best(scores, candidates, near):
    """Return the candidate of the highest score along the last axis, the nearest to `near` among equals."""
    distance = np.where(scores >= scores.max(axis=-1, keepdims=True) - TIE, abs(candidates - near), np.inf)
    return candidates[distance.argmin(axis=-1)]
