"""Split recordings into folds that have equal numbers of recordings of each class."""

from typing import NamedTuple

import numpy as np

from ecg.data.patients import count_patients

ITERATIVE, STRATA = "iterative", "strata"
STRATIFICATIONS = (ITERATIVE, STRATA)  # how folds are stratified; trainings of older versions have strata
MAX_MOVES = 200  # after which `even_out` ends; label tables of hospitals need fewer than 100
SIZE_WEIGHT = 2.0  # of the number of recordings, in comparison with the number of recordings of one class


def assign_folds(
    labels: np.ndarray,
    n_folds: int,
    seed: int,
    patients: np.ndarray | None = None,
    stratification: str = ITERATIVE,
    published: np.ndarray | None = None,
) -> np.ndarray:
    """Split recordings into folds of equal size, stratified by their labels.

    Args:
        labels: Labels of N recordings, (N, C) bool.
        n_folds: Number of folds. Their sizes differ by one at most if each recording is of another patient, else by
            about as much as patients differ in their numbers of recordings.
        seed: Seed of the random assignment.
        patients: Number of each recording's patient, (N,). A fold keeps the recordings of a patient together. None:
            each recording counts as a patient.
        stratification: One of STRATIFICATIONS.
        published: Folds that come with the recordings, (N,), from 1; 0: none. They are used if all recordings have one
            and there are `n_folds` of them.

    Returns:
        The fold of each recording, (N,), from 0 to n_folds - 1. None is empty.

    Raises:
        ValueError: There are fewer than two folds, or fewer recordings or patients than folds.
    """
    if published is not None and published.all() and len(np.unique(published)) == n_folds >= 2:
        return np.unique(published, return_inverse=True)[1]
    labels = np.asarray(labels, bool)
    n_patients = len(labels) if patients is None else count_patients(patients)
    if not 2 <= n_folds <= n_patients:
        counted = f"{n_patients:,} {'recordings' if patients is None else 'patients'} in {n_folds} folds"
        raise ValueError(f"{counted}: expected two folds or more, and none empty")
    if patients is None or n_patients == len(labels):
        patients = np.arange(len(labels))
    if stratification == STRATA:
        return _assign_by_strata(labels, n_folds, seed, patients)
    _, patient = np.unique(patients, return_inverse=True)
    random = np.random.default_rng(seed)
    numbers = random.permutation(n_folds)
    return numbers[_assign_patients(count_labels(labels, patient), n_folds, random)][patient]


def count_labels(labels: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Count the recordings of each class of each patient, and all recordings.

    Args:
        labels: Labels of N recordings, (N, C) bool.
        patient: Number of each recording's patient, (N,), from 0 to P - 1.

    Returns:
        The counts, (P, C + 1). The last column counts all recordings.
    """
    order = np.argsort(patient, kind="stable")
    starts = np.flatnonzero(np.diff(patient[order], prepend=-1))
    smallest = np.min_scalar_type(np.diff(starts, append=len(order)).max())  # saves memory
    rows = np.ones((len(labels), labels.shape[1] + 1), smallest)
    rows[:, :-1] = labels[order]
    return rows if len(starts) == len(rows) else np.add.reduceat(rows, starts, axis=0, dtype=smallest)


def _assign_patients(counts: np.ndarray, n_folds: int, random: np.random.Generator) -> np.ndarray:
    """Assign patients to folds.

    A patient that fills a fold has one of its own.

    Args:
        counts: Recordings of each class of each patient, and all recordings, (P, C + 1).
        n_folds: Number of folds, at most P.
        random: Source of random numbers.

    Returns:
        The fold of each patient, (P,).
    """
    folds = np.empty(len(counts), int)
    sizes = counts[:, -1].astype(int)
    order = np.argsort(-sizes, kind="stable")
    n_alone, remaining = 0, sizes.sum()
    while n_alone < n_folds - 1 and 1 < sizes[order[n_alone]] >= remaining / (n_folds - n_alone):
        remaining -= sizes[order[n_alone]]
        folds[order[n_alone]] = n_alone
        n_alone += 1
    sharing = np.sort(order[n_alone:])
    alike = find_alike(counts[sharing])
    assigned = stratify_iteratively(counts[sharing], alike, n_folds - n_alone, random)
    weights = (SIZE_WEIGHT, float(len(counts) * counts.shape[1])) if sizes.max() == 1 else (SIZE_WEIGHT,)
    for weight in weights:  # the last has recordings of a patient each in folds of equal size
        assigned = even_out(counts[sharing], alike, assigned, n_folds - n_alone, weight)
    folds[sharing] = n_alone + assigned
    return folds


def find_alike(counts: np.ndarray) -> np.ndarray:
    """Number the different rows of a table.

    Similar rows have numbers that follow each other.

    Args:
        counts: Recordings of each class of each patient, and all recordings, (P, C + 1).

    Returns:
        The number of each row, (P,). Equal rows have the same number.
    """
    columns = np.argsort(counts.sum(axis=0, dtype=int), kind="stable")  # rare classes decide first
    is_binary = counts.max() < 2
    rows = np.packbits(counts[:, columns].astype(bool), axis=1) if is_binary else counts[:, columns]
    rows = np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder(">")))
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    return np.unique(keys, return_inverse=True)[1]


class Deficits(NamedTuple):
    """What folds still lack of their equal shares.

    The numbers are multiplied by the number of folds, so that they are integers.

    Attributes:
        label: Recordings of a class, (F,).
        size: Recordings, (F,).
    """

    label: np.ndarray
    size: np.ndarray


def stratify_iteratively(
    counts: np.ndarray, alike: np.ndarray, n_folds: int, random: np.random.Generator
) -> np.ndarray:
    """Assign patients to folds by iterative stratification.

    This is algorithm 1 of Sechidis et al. 2011. The class with the fewest recordings that are not assigned yet is next.
    Each of its patients goes to the fold that lacks most recordings of the class. If several folds lack as many, it
    goes to the one that lacks most recordings. Patients with more recordings of the class are assigned first. Similar
    patients follow each other, so that they go to different folds; the paper has no such order.

    Args:
        counts: Recordings of each class of each patient, and all recordings, (P, C + 1).
        alike: Numbers of equal rows, see `find_alike`, (P,).
        n_folds: Number of folds, F.
        random: Source of random numbers.

    Returns:
        The fold of each patient, (P,).
    """
    folds = np.zeros(len(counts), int)
    remaining = counts.sum(axis=0, dtype=int)
    deficits = np.tile(remaining, (n_folds, 1))
    patients = random.permutation(len(counts))
    patients = patients[np.argsort(alike[patients], kind="stable")]
    while len(patients):
        label = int(np.where(remaining > 0, remaining, len(counts) * int(counts.max()) + 1)[:-1].argmin())
        if not remaining[label]:
            label = -1  # those without a class
        has_label = counts[patients, label] > 0
        members, patients = patients[has_label], patients[~has_label]
        n_recordings = counts[members, label]
        for count in np.unique(n_recordings)[::-1]:
            batch = members[n_recordings == count]
            shares = Deficits(deficits[:, label], deficits[:, -1])
            folds[batch] = fill_folds(shares, int(count), len(batch), random.permutation(n_folds))
            assigned = [counts[batch[folds[batch] == fold]].sum(axis=0, dtype=int) for fold in range(n_folds)]
            deficits -= n_folds * np.array(assigned)
            remaining = remaining - np.sum(assigned, axis=0)
    return folds


def fill_folds(deficits: Deficits, count: int, n_patients: int, rank: np.ndarray) -> np.ndarray:
    """Assign patients to the folds that lack most recordings of a class.

    The patients have equal numbers of recordings of the class. Each is assigned as if it came after the one before.

    Args:
        deficits: What the F folds lack.
        count: Number of each patient's recordings of the class.
        n_patients: Number of patients, m.
        rank: Order of folds that lack as much, (F,).

    Returns:
        The folds of the patients, (m,).
    """
    n_folds = len(rank)
    step = n_folds * count  # by which an assignment reduces what a fold lacks
    descending = np.sort(deficits.label)[::-1]
    # What all folds but the fullest lack in the end, if patients could be divided.
    levels = (descending.cumsum() - step * n_patients) / np.arange(1, n_folds + 1)
    level = levels[np.flatnonzero(levels <= descending)[-1]]
    candidates = np.maximum(np.floor((deficits.label - level) / step).astype(int), 0) + 1
    fold = np.repeat(np.arange(n_folds), candidates)
    earlier = np.arange(len(fold)) - np.repeat(candidates.cumsum() - candidates, candidates)
    label, size = deficits.label[fold] - step * earlier, deficits.size[fold] - n_folds * earlier
    return fold[np.lexsort((rank[fold], -size, -label))[:n_patients]]


def even_out(counts: np.ndarray, alike: np.ndarray, folds: np.ndarray, n_folds: int, size_weight: float) -> np.ndarray:
    """Move patients to other folds, as long as a move makes the folds more alike.

    Each move is that which reduces most the sum of squared differences from equal shares, over classes and folds.
    `stratify_iteratively` leaves differences if patients have many recordings, or recordings many classes.

    Args:
        counts: Recordings of each class of each patient, and all recordings, (P, C + 1).
        alike: Numbers of equal rows, see `find_alike`, (P,).
        folds: The fold of each patient, (P,).
        n_folds: Number of folds, F.
        size_weight: Weight of the squared differences in the number of recordings; that of each class is 1.

    Returns:
        The fold of each patient after the moves, (P,).
    """
    first = np.unique(alike, return_index=True)[1]
    kinds = counts[first].astype(float)  # integers, which floating-point numbers represent exactly
    present = np.bincount(alike * n_folds + folds, minlength=len(kinds) * n_folds).reshape(-1, n_folds)
    excess = n_folds * (present.T @ kinds) - counts.sum(axis=0, dtype=int)
    weighted = kinds * np.append(np.ones(kinds.shape[1] - 1), size_weight)
    loads = weighted @ excess.T
    move_cost = n_folds * (weighted * kinds).sum(axis=1)
    for _ in range(MAX_MOVES):
        target = loads.argmin(axis=1)
        gain = np.where(present > 0, loads, -np.inf) - (loads[np.arange(len(kinds)), target] + move_cost)[:, np.newaxis]
        kind, source = np.unravel_index(gain.argmax(), gain.shape)
        if gain[kind, source] <= 0:
            break
        change = n_folds * (weighted @ kinds[kind])
        for fold, sign in ((source, -1), (target[kind], 1)):
            present[kind, fold] += sign
            loads[:, fold] += sign * change
    moved = np.empty_like(folds)
    moved[np.lexsort((folds, alike))] = np.repeat(np.tile(np.arange(n_folds), len(kinds)), present.ravel())
    return moved


def _assign_by_strata(labels: np.ndarray, n_folds: int, seed: int, patients: np.ndarray) -> np.ndarray:
    """Split recordings into folds, stratified by combinations of labels."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # their import takes a second

    folds = np.empty(len(labels), int)
    has_groups = count_patients(patients) < len(labels)
    splitter = (StratifiedGroupKFold if has_groups else StratifiedKFold)(n_folds, shuffle=True, random_state=seed)
    split = splitter.split(labels, assign_strata(labels, n_folds), patients if has_groups else None)
    for fold, (_, held_out) in enumerate(split):
        folds[held_out] = fold
    return folds


def assign_strata(labels: np.ndarray, min_size: int) -> np.ndarray:
    """Assign each recording to one stratum by its labels.

    A stratum is a combination of labels if it is frequent enough, else the rarest class of the recording. Strata that
    are still too rare are merged, with the rarest of the others if necessary.

    Args:
        labels: Labels of N recordings, (N, C) bool.
        min_size: Minimum number of recordings in a stratum, at most N.

    Returns:
        The number of each recording's stratum, (N,).
    """
    combinations, stratum, sizes = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    frequency = np.where(combinations, labels.sum(axis=0), len(labels) + 1)
    rarest = np.where(combinations.any(axis=1), frequency.argmin(axis=1), labels.shape[1])
    stratum = np.where(sizes >= min_size, labels.shape[1] + 1 + np.arange(len(sizes)), rarest)[stratum]
    stratum, sizes = np.unique(stratum, return_inverse=True, return_counts=True)[1:]
    n_rare = np.count_nonzero(sizes < min_size)
    # Number of the smallest strata that have `min_size` recordings together.
    n_enough = np.searchsorted(np.sort(sizes).cumsum(), min_size) + 1
    n_merged = max(n_rare, n_enough) if n_rare else 0
    rank = np.argsort(np.argsort(sizes, kind="stable"))
    return np.maximum(rank - n_merged + 1, 0)[stratum]
