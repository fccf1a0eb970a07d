"""The Challenge's metric and its companions, and the thresholds that maximise it.

N recordings, C classes in the order of ``weights.csv``. Labels and outputs are True where a class is present.
Source of the definitions: the PhysioNet/CinC Challenge 2021; of the search: Cai et al. 2021.
"""

import csv
import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse import csc_array, csr_array

from ecg.data.labels import COLUMN

WEIGHTS = Path(__file__).with_name("weights.csv")
SINUS = COLUMN["NSR"]  # answering sinus rhythm alone is what the Challenge calls inactive, and scores 0

COUNT_TYPE = np.int16  # of counts (N, C): they are small, and to fill memory is what takes the time


def load_weights(path=WEIGHTS):
    """Read the table of weights: its classes as written ('A|B'), and the weights, (C, C) float64.

    Row j, column k is what answering class k earns where class j is the truth. ValueError where rows and columns
    are not of the same classes in the same order.
    """
    with open(path, newline="") as file:
        header, *rows = list(csv.reader(file))
    classes = tuple(name.strip() for name in header[1:])
    if tuple(row[0].strip() for row in rows) != classes:
        raise ValueError(f"{path}: the rows are not of the columns' {len(classes)} classes in the same order")
    return classes, np.array([row[1:] for row in rows], np.float64)


def weighted_confusion(labels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return the Challenge's weighted confusion matrix A.

    A recording adds 1 / (number of classes labelled or answered in it, at least 1) to each of its pairs. As in the
    Challenge's loops, the recordings are added in their order.

    Args:
        labels: Which classes are labelled, (N, C) bool.
        outputs: Which classes are answered, (N, C) bool.

    Returns:
        The matrix, (C, C) float64, labels by row, outputs by column.
    """
    labels, outputs = np.asarray(labels, bool), np.asarray(outputs, bool)
    shares = 1.0 / np.maximum((labels | outputs).sum(axis=1), 1)
    classes = labels.shape[1]
    # Each label makes a pair with each answer of its recording. Both lists run through the recordings in order.
    recordings, labelled = np.nonzero(labels)
    answered, counts = np.nonzero(outputs)[1], outputs.sum(axis=1)
    repeats = counts[recordings]
    offsets = np.cumsum(counts)[recordings] - np.cumsum(repeats)  # from a pair's index to its answer's
    pairs = np.repeat(labelled * classes, repeats)
    pairs += answered[np.repeat(offsets, repeats) + np.arange(len(pairs))]
    # bincount adds one after the other, as a matrix product does not. Without pairs it counts in integers.
    sums = np.bincount(pairs, np.repeat(shares[recordings], repeats), classes**2)
    return sums.astype(np.float64, copy=False).reshape(classes, classes)


def challenge_score(labels: np.ndarray, outputs: np.ndarray, weights: np.ndarray, sinus: int = SINUS) -> float:
    """Return the Challenge metric of one set of answers; see challenge_scores."""
    return challenge_scores(labels, [outputs], weights, sinus)[0]


def challenge_scores(
    labels: np.ndarray, answers: Iterable[np.ndarray], weights: np.ndarray, sinus: int = SINUS
) -> list[float]:
    """Return the Challenge metric of each set of answers, to the bit what the Challenge's evaluator computes.

    Args:
        labels: Which classes are labelled, (N, C) bool.
        answers: Which classes are answered, arrays (N, C) bool.
        weights: What an answer earns, (C, C), labels by row. NaN is ignored.
        sinus: The column of sinus rhythm.

    Returns:
        1 for the labels themselves, 0 for sinus rhythm alone in every recording, and 0 if both earn the same. Higher
        is better.
    """
    labels = np.asarray(labels, bool)
    inactive = np.zeros_like(labels)
    inactive[:, sinus] = True
    base, correct, *earned = (
        float(np.nansum(weights * weighted_confusion(labels, outputs))) for outputs in (inactive, labels, *answers)
    )
    return [(total - base) / (correct - base) if correct != base else 0.0 for total in earned]


def class_credit(labels, weights):
    """Return what each answer earns in each recording before it is divided by the number of classes: (N, C) float64.

    labels (N, C), weights (C, C), of which NaN is ignored.
    """
    # einsum, since BLAS on threads waits for all its cores, and takes many times as long where they are busy
    return np.einsum("nj,jk->nk", np.asarray(labels, np.float64), np.nan_to_num(weights))


def recording_scores(labels, outputs, worth):
    """Return what each recording earns, (N,) float64, for labels, outputs (N, C) bool and the worth of answers."""
    return np.einsum("nk,nk->n", worth, outputs) / np.maximum((labels | outputs).sum(axis=1), 1)


def inactive_and_perfect_scores(labels, worth, sinus=SINUS):
    """Return what each recording earns by sinus rhythm alone, and by its labels: (2, N) float64."""
    inactive = np.zeros_like(labels)
    inactive[:, sinus] = True
    return np.array([recording_scores(labels, answers, worth) for answers in (inactive, labels)])


def total_score(earned, limits, counts=1):
    """Return the metric of what recordings earn (..., N): (...,), each recording counted so often, scalar or (N,)."""
    return normalise_scores(*((each * counts).sum(axis=-1) for each in (earned, *limits)))


def normalise_scores(total, base, best):
    """Return the metric of what answers earn in all recordings together, sinus rhythm alone does, and the labels do.

    The shape is that of `total`, to which the other two are broadcast; 0 where they are equal.
    """
    return np.divide(total - base, best - base, out=np.zeros_like(total), where=best != base)


def roc_and_pr_areas(labels, scores, counts=None):
    """Return each class's area under the ROC curve and under the precision-recall curve.

    Equal scores are one point of a curve, and precision is a step sum. Without counts, the areas are to the bit what
    the Challenge's evaluator computes.

    Args:
        labels: Which classes are labelled, (N, C) bool.
        scores: How probable each class is, (N, C), not NaN.
        counts: How often each recording counts in each of R resamples, (N, R), integers in any floating type.

    Returns:
        Two arrays (C,), or with counts (C, R). Without positives, as without recordings, both areas are NaN; without
        negatives the first is.
    """
    labels = np.asarray(labels, bool)
    areas = _areas if counts is None else partial(_resampled_areas, counts=counts)
    pairs = zip(labels.T, np.transpose(scores), strict=True)
    return np.array([areas(present, score) for present, score in pairs]).swapaxes(0, 1)


def _areas(labels, scores):
    """Return the two areas of one class, added up from the highest score down as in the Challenge's loops."""
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
    auprc = np.cumsum(steps * (true / (true + false)))[-1]  # cumsum adds one after the other, sum does not
    if not negatives:
        return np.nan, auprc
    specificity = np.append(1.0, (negatives - false) / negatives)
    return np.cumsum(0.5 * steps * (specificity[1:] + specificity[:-1]))[-1], auprc


def _resampled_areas(labels, scores, counts):
    """Return the two areas of one class in each resample: (2, R)."""
    levels = np.unique(scores[labels])  # thresholds at which positives are reached
    if not levels.size:
        return np.full((2, counts.shape[1]), np.nan)
    # Negatives by where they lie: below the first level, on it, between it and the second, and so on; positives, which
    # are on levels all, come after these. What is sorted is found many times as fast.
    order = np.argsort(scores)
    left, right = (np.searchsorted(levels, scores[order], side) for side in ("left", "right"))
    places = 2 * len(levels) + 1
    bins = np.empty(len(scores), int)
    bins[order] = np.where(labels[order], places + left, left + right)
    sums = _sums(bins, counts, places + len(levels))
    negatives, positives = sums[:places], sums[places:]
    reached = negatives.cumsum(axis=0, out=negatives)
    all_positives, all_negatives = positives.sum(axis=0, dtype=np.float64), reached[-1].astype(np.float64)
    below, up_to = reached[0:-1:2], reached[1::2]
    pairs = np.einsum("lr,lr->r", positives, (below + up_to) / 2, dtype=np.float64)
    true = positives[::-1].cumsum(axis=0)[::-1]
    precision = true / np.maximum(true + (reached[-1] - below), 1)
    found = np.einsum("lr,lr->r", positives, precision, dtype=np.float64)
    return [
        np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
        for part, whole in ((pairs, all_positives * all_negatives), (found, all_positives))
    ]


def _sums(bins, counts, size):
    """Return the sums of the counts (n, R) of each bin: (size, R), for bins (n,) from 0 to size - 1."""
    if counts.shape[1] == 1:  # many times as fast
        return np.bincount(bins, counts[:, 0], size)[:, np.newaxis]
    every = np.arange(len(bins) + 1)
    return csc_array((np.ones(len(bins), counts.dtype), bins, every), shape=(size, len(bins))) @ counts


def f_measures(labels, outputs, counts=None):
    """Return each class's F-measure, 2 TP / (2 TP + FP + FN): (C,), NaN where nothing is labelled or answered.

    With `counts` (N, R), how often each recording counts in each resample: (C, R).
    """
    labels, outputs = np.asarray(labels, bool), np.asarray(outputs, bool)
    hits, labelled, answered = (count_present(present, counts) for present in (labels & outputs, labels, outputs))
    total = labelled + answered
    return np.divide(2.0 * hits, total, out=np.full(total.shape, np.nan), where=total > 0)


def count_present(present, counts=None):
    """Return in how many recordings each class is present, (C,), or with counts (N, R) in each resample: (C, R)."""
    return present.sum(axis=0) if counts is None else csr_array(present.T.astype(counts.dtype)) @ counts


def accuracy(labels, outputs):
    """Return the share of recordings with every class right, NaN without recordings; labels, outputs (N, C)."""
    right = (np.asarray(labels, bool) == np.asarray(outputs, bool)).all(axis=1)
    return float(right.mean()) if right.size else math.nan


def nan_mean(values: np.ndarray) -> np.ndarray | float:
    """Return the mean of the values that are not NaN along the first axis, NaN where there are none.

    Each mean is to the bit that of np.nanmean on its values alone, as the Challenge's evaluator takes it.
    """
    columns = np.ascontiguousarray(np.moveaxis(values, 0, -1))  # so that each mean adds in a vector's order
    known = ~np.isnan(columns)
    number = known.sum(axis=-1)
    totals = np.where(known, columns, 0.0).sum(axis=-1)
    means = np.divide(totals, number, out=np.full(number.shape, np.nan), where=number > 0)
    return means if means.ndim else float(means)
