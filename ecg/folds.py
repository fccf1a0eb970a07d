"""Which recordings are held out together: folds that are alike in all their labels."""

import numpy as np


def folds(labels, count, seed):
    """Part recordings into folds that differ in size by one at the most, and little in what share has each class.

    labels (N, C) bool; returns each recording's fold, (N,) from 0 to count - 1, the same for the same seed. Each fold
    has its part of the recordings of each stratum of `strata`. ValueError where there are fewer than two folds, or
    fewer recordings than folds.
    """
    from sklearn.model_selection import StratifiedKFold  # which takes a second, that others need not wait for

    labels = np.asarray(labels, bool)
    if not 2 <= count <= len(labels):
        raise ValueError(f"{len(labels):,} recordings in {count} folds: expected two folds or more, and none empty")
    parted = np.empty(len(labels), int)
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(labels, strata(labels, count))):
        parted[held_out] = fold
    return parted


def strata(labels, least):
    """Return what stands for all labels of a recording, a number each: (N,), none in fewer than `least` recordings.

    It is the combination of labels where that is common enough, else its rarest class; what is still too rare is one
    stratum, with the rarest of the others where that is too small, too. labels (N, C) bool, of `least` or more.
    """
    combinations, stratum, sizes = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    frequency = np.where(combinations, labels.sum(axis=0), len(labels) + 1)
    rarest = np.where(combinations.any(axis=1), frequency.argmin(axis=1), labels.shape[1])
    stratum = np.where(sizes >= least, labels.shape[1] + 1 + np.arange(len(sizes)), rarest)[stratum]
    stratum, sizes = np.unique(stratum, return_inverse=True, return_counts=True)[1:]
    rare = np.count_nonzero(sizes < least)
    enough = np.searchsorted(np.sort(sizes).cumsum(), least) + 1  # so many of the smallest are together
    lumped = max(rare, enough) if rare else 0
    rank = np.argsort(np.argsort(sizes, kind="stable"))
    return np.maximum(rank - lumped + 1, 0)[stratum]
