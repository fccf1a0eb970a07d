"""The Challenge's metrics, for its classes or others.

N recordings, C classes in the order of their table. Labels and outputs are True for a class that is present; outputs
are the classes that a system predicts. The inactive system predicts only sinus rhythm, or nothing if the classes have
no sinus rhythm. Source of the definitions: PhysioNet/CinC Challenge 2021 (Reyna et al. 2021).
"""

import math
from collections.abc import Iterable
from functools import partial

import numpy as np
from scipy.sparse import csc_array, csr_array

from ecg.data.class_tables import ClassTable, WeightTable
from ecg.data.labels import CHALLENGE_CLASSES

SINUS = CHALLENGE_CLASSES.sinus  # the Challenge's inactive system predicts only sinus rhythm, and scores 0
COUNT_TYPE = np.int16  # type of counts (N, C), small because filling memory takes most of the time


def metric_name(weights: WeightTable | None = None, classes: ClassTable = CHALLENGE_CLASSES) -> str:
    """Return the name of the metric with these weights, None for those of the classes."""
    return classes.metric if weights is None else "metric with your own weights"


def weighted_confusion(labels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return the Challenge's weighted confusion matrix A.

    Each pair of a labelled and a predicted class of a recording counts 1 / max(1, |labels or outputs|). The recordings
    are summed in their order, as in the Challenge's loops.

    Args:
        labels: Labelled classes, (N, C) bool.
        outputs: Predicted classes, (N, C) bool.

    Returns:
        The matrix, (C, C) float64, labels by row, outputs by column.
    """
    labels, outputs = np.asarray(labels, bool), np.asarray(outputs, bool)
    shares = 1.0 / np.maximum((labels | outputs).sum(axis=1), 1)
    n_classes = labels.shape[1]
    # Each label makes a pair with each output of its recording. Both lists run through the recordings in order.
    recordings, labelled = np.nonzero(labels)
    predicted, counts = np.nonzero(outputs)[1], outputs.sum(axis=1)
    repeats = counts[recordings]
    offsets = np.cumsum(counts)[recordings] - np.cumsum(repeats)  # from the index of a pair to that of its output
    pairs = np.repeat(labelled * n_classes, repeats)
    pairs += predicted[np.repeat(offsets, repeats) + np.arange(len(pairs))]
    # bincount adds in order, a matrix product does not. Without pairs it counts in integers.
    sums = np.bincount(pairs, np.repeat(shares[recordings], repeats), n_classes**2)
    return sums.astype(np.float64, copy=False).reshape(n_classes, n_classes)


def challenge_score(labels: np.ndarray, outputs: np.ndarray, weights: np.ndarray, sinus: int | None = SINUS) -> float:
    """Return the Challenge metric of one system; see `challenge_scores`."""
    return challenge_scores(labels, [outputs], weights, sinus)[0]


def challenge_scores(
    labels: np.ndarray, outputs: Iterable[np.ndarray], weights: np.ndarray, sinus: int | None = SINUS
) -> list[float]:
    """Return the Challenge metric of several systems.

    It is (s - s_inactive) / (s_correct - s_inactive), with s the sum of weights * A (`weighted_confusion`), and
    bit-identical to the Challenge's evaluator.

    Args:
        labels: Labelled classes, (N, C) bool.
        outputs: Predicted classes of each system, (N, C) bool each.
        weights: Credit of each prediction, (C, C), labels by row. NaN is ignored.
        sinus: Index of sinus rhythm, or None.

    Returns:
        A score per system: 1 for the labels themselves, 0 for the inactive system, and 0 if both have the same sum.
    """
    labels = np.asarray(labels, bool)
    inactive = predict_inactive(labels, sinus)
    inactive_sum, perfect_sum, *sums = (
        float(np.nansum(weights * weighted_confusion(labels, predicted))) for predicted in (inactive, labels, *outputs)
    )
    return [(s - inactive_sum) / (perfect_sum - inactive_sum) if perfect_sum != inactive_sum else 0.0 for s in sums]


def predict_inactive(labels: np.ndarray, sinus: int | None = SINUS) -> np.ndarray:
    """Return the predictions of the inactive system for labels of this shape.

    Args:
        labels: (N, C) bool.
        sinus: Index of sinus rhythm, which it predicts alone; None: it predicts nothing.
    """
    inactive = np.zeros_like(labels)
    if sinus is not None:
        inactive[:, sinus] = True
    return inactive


def class_credit(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the credit of predicting each class: (N, C) float64.

    It is not yet divided by the number of classes labelled or predicted.

    Args:
        labels: Labelled classes, (N, C).
        weights: Credit of each prediction, (C, C), labels by row. NaN is ignored.
    """
    # einsum, because the threads of BLAS wait for each other, which takes many times as long on busy cores
    return np.einsum("nj,jk->nk", np.asarray(labels, np.float64), np.nan_to_num(weights))


def recording_scores(labels: np.ndarray, outputs: np.ndarray, credit: np.ndarray) -> np.ndarray:
    """Return the scores (N,) of recordings by labels, outputs and class credit (N, C)."""
    return np.einsum("nk,nk->n", credit, outputs) / np.maximum((labels | outputs).sum(axis=1), 1)


def inactive_and_perfect_scores(labels: np.ndarray, credit: np.ndarray, sinus: int | None = SINUS) -> np.ndarray:
    """Return the scores of recordings for the inactive system and for labels: (2, N)."""
    inactive = predict_inactive(labels, sinus)
    return np.array([recording_scores(labels, outputs, credit) for outputs in (inactive, labels)])


def total_score(scores: np.ndarray, limits: np.ndarray, counts: np.ndarray | float = 1) -> np.ndarray:
    """Return the Challenge metric of recordings that count several times.

    Args:
        scores: Credit of each recording, (..., N).
        limits: `inactive_and_perfect_scores`, (2, N).
        counts: How often each recording counts, (N,) or a number.
    """
    return normalise_scores(*((values * counts).sum(axis=-1) for values in (scores, *limits)))


def normalise_scores(total: np.ndarray, inactive: np.ndarray, perfect: np.ndarray) -> np.ndarray:
    """Return (total - inactive) / (perfect - inactive), or 0 if both limits are equal."""
    return np.divide(total - inactive, perfect - inactive, out=np.zeros_like(total), where=perfect != inactive)


def roc_and_pr_areas(labels: np.ndarray, scores: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Return the area under the ROC and the precision-recall curve of each class.

    Equal scores are one point of a curve, and precision is a step sum. Without counts, the areas are bit-identical to
    the Challenge's evaluator.

    Args:
        labels: Labelled classes, (N, C) bool.
        scores: Probability of each class, (N, C), not NaN.
        counts: How often each recording counts in each of R resamples, (N, R), integers in any floating type.

    Returns:
        The two areas, (2, C), or (2, C, R) with counts. Both are NaN without positives, the first without negatives.
    """
    labels = np.asarray(labels, bool)
    areas = _areas if counts is None else partial(_resampled_areas, counts=counts)
    pairs = zip(labels.T, np.transpose(scores), strict=True)
    return np.array([areas(present, score) for present, score in pairs]).swapaxes(0, 1)


def mean_auprc(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the area under the precision-recall curve, averaged over classes.

    A class that no recording has does not count. Without any class, the mean is 0.

    Args:
        targets: Labels as 0 or 1, (N, K).
        probabilities: Probability of each class, (N, K).
    """
    _, areas = roc_and_pr_areas(targets > 0, probabilities)
    return float(nan_mean(areas)) if np.isfinite(areas).any() else 0.0


def _areas(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Return the two areas of a class, summed in the order of the Challenge's loops."""
    order = np.argsort(scores)[::-1]
    ranked = scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], len(ranked) > 0))  # of each group of equal scores
    true = np.cumsum(labels[order], dtype=np.float64)[last]
    false = last + 1 - true
    positives, negatives = (counts[-1] if len(last) else 0.0 for counts in (true, false))
    if not positives:
        return np.nan, np.nan
    recall = np.append(0.0, true / positives)
    steps = np.diff(recall)
    auprc = np.cumsum(steps * (true / (true + false)))[-1]  # cumsum adds in order, sum does not
    if not negatives:
        return np.nan, auprc
    specificity = np.append(1.0, (negatives - false) / negatives)
    return np.cumsum(0.5 * steps * (specificity[1:] + specificity[:-1]))[-1], auprc


def count_by_level(
    labels: np.ndarray, scores: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count positives and negatives of one class at its levels, in each resample.

    Args:
        labels: Whether the class is labelled, (N,) bool.
        scores: Probability of the class, (N,).
        counts: How often each recording counts in each of R resamples, (N, R).

    Returns:
        The levels, which are the different scores of the positives, (L,), ascending. The positives on each level,
        (L, R). The cumulated negatives, (2 L + 1, R): below the first level, up to it, below the second, and so on; the
        last are all.
    """
    levels = np.unique(scores[labels])
    # Bins of negatives: below the first level, on it, between it and the second, and so on. The bins of positives, one
    # per level, follow. Searching sorted scores is many times as fast.
    order = np.argsort(scores)
    left, right = (np.searchsorted(levels, scores[order], side) for side in ("left", "right"))
    n_negative_bins = 2 * len(levels) + 1
    bins = np.empty(len(scores), int)
    bins[order] = np.where(labels[order], n_negative_bins + left, left + right)
    sums = _sum_by_bin(bins, counts, n_negative_bins + len(levels))
    negatives, positives = sums[:n_negative_bins], sums[n_negative_bins:]
    return levels, positives, negatives.cumsum(axis=0, out=negatives)


def _resampled_areas(labels: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the two areas of one class in each resample: (2, R)."""
    if not labels.any():
        return np.full((2, counts.shape[1]), np.nan)
    _, positives, reached = count_by_level(labels, scores, counts)
    all_positives, all_negatives = positives.sum(axis=0, dtype=np.float64), reached[-1].astype(np.float64)
    below, up_to = reached[0:-1:2], reached[1::2]
    pairs = np.einsum("lr,lr->r", positives, (below + up_to) / 2, dtype=np.float64)
    true = positives[::-1].cumsum(axis=0)[::-1]
    precision = true / np.maximum(true + (reached[-1] - below), 1)
    summed_precision = np.einsum("lr,lr->r", positives, precision, dtype=np.float64)
    ratios = ((pairs, all_positives * all_negatives), (summed_precision, all_positives))
    return np.array([np.divide(a, b, out=np.full(len(b), np.nan), where=b > 0) for a, b in ratios])


def _sum_by_bin(bins: np.ndarray, counts: np.ndarray, size: int) -> np.ndarray:
    """Return the sums (size, R) of counts (N, R) over the bins (N,) of recordings."""
    if counts.shape[1] == 1:  # many times as fast
        return np.bincount(bins, counts[:, 0], size)[:, np.newaxis]
    pointers = np.arange(len(bins) + 1)
    return csc_array((np.ones(len(bins), counts.dtype), bins, pointers), shape=(size, len(bins))) @ counts


def f_measures(labels: np.ndarray, outputs: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Return the F-measure 2 TP / (2 TP + FP + FN) of each class.

    Args:
        labels: Labelled classes, (N, C).
        outputs: Predicted classes, (N, C).
        counts: How often each recording counts in each resample, (N, R).

    Returns:
        The F-measures, (C,), or (C, R) with counts; NaN for a class neither labelled nor predicted.
    """
    labels, outputs = np.asarray(labels, bool), np.asarray(outputs, bool)
    hits, labelled, predicted = (count_present(present, counts) for present in (labels & outputs, labels, outputs))
    total = labelled + predicted
    return np.divide(2.0 * hits, total, out=np.full(total.shape, np.nan), where=total > 0)


def count_present(present: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Count the recordings with each class: (C,), or with counts (N, R) (C, R)."""
    return present.sum(axis=0) if counts is None else csr_array(present.T.astype(counts.dtype)) @ counts


def accuracy(labels: np.ndarray, outputs: np.ndarray) -> float:
    """Return the share of recordings with every class right, NaN without recordings."""
    right = (np.asarray(labels, bool) == np.asarray(outputs, bool)).all(axis=1)
    return float(right.mean()) if right.size else math.nan


def nan_mean(values: np.ndarray) -> np.ndarray | float:
    """Return the mean along the first axis without NaN; NaN of only NaN.

    Bit-identical to np.nanmean of each vector alone, as the Challenge's evaluator computes it.
    """
    vectors = np.ascontiguousarray(np.moveaxis(values, 0, -1))  # contiguous, to add in the order of a vector
    known = ~np.isnan(vectors)
    count = known.sum(axis=-1)
    totals = np.where(known, vectors, 0.0).sum(axis=-1)
    mean = np.divide(totals, count, out=np.full(count.shape, np.nan), where=count > 0)
    return mean if mean.ndim else float(mean)
