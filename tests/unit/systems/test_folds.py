import hashlib
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg.data.headers import read_header
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.systems.folds import (
    ITERATIVE,
    STRATA,
    Deficits,
    assign_folds,
    assign_strata,
    count_labels,
    even_out,
    fill_folds,
    find_alike,
)
from ecg.systems.plan import split_recordings, split_validation
from ecg.systems.recipes import Settings

REAL = Path(__file__).parents[4] / "shared" / "data" / "train"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is missing")


def skewed(recordings, classes=26, seed=0):
    """Labels as a hospital's: most classes rare, the frequent ones together with others, some recordings of none."""
    random = np.random.default_rng(seed)
    labels = random.random((recordings, classes)) < np.geomspace(0.002, 0.25, classes)
    labels[:, 3] |= labels[:, -1] & (random.random(recordings) < 0.3)
    return labels


def real_labels():
    """The scored classes of the real recordings, and their names."""
    paths = sorted(REAL.glob("*.hea"))
    labels = [CHALLENGE_CLASSES.encode(read_header(path).codes) for path in paths]
    return np.array(labels), [path.stem for path in paths]


def shares_off(labels, fold, count):
    """How far each class's number of recordings in a fold is from its even part, on the average."""
    held_out = np.array([labels[fold == place].sum(axis=0) for place in range(count)])
    return np.abs(held_out - labels.sum(axis=0) / count).mean(axis=0)


def spread(labels, fold, count):
    """The difference between the folds with most and fewest recordings of each class."""
    return np.ptp([labels[fold == number].sum(axis=0) for number in range(count)], axis=0)


def repeated_patients(recordings, seed=0):
    """Patients of whom most have one recording, like those of PTB-XL: 1.15 on the average."""
    random = np.random.default_rng(seed)
    return random.permutation(np.repeat(np.arange(recordings), random.geometric(1 / 1.15, recordings))[:recordings])


@pytest.mark.parametrize("stratification", [ITERATIVE, STRATA])
@pytest.mark.parametrize("recordings, count", [(853, 5), (853, 2), (97, 10), (12, 5), (5, 5), (2, 2)])
def test_every_recording_is_in_one_fold_and_folds_are_of_one_size(recordings, count, stratification):
    fold = assign_folds(skewed(recordings), count, 1, stratification=stratification)
    sizes = np.bincount(fold, minlength=count)
    assert fold.shape == (recordings,) and len(sizes) == count and np.ptp(sizes) <= 1


@pytest.mark.parametrize("classes, share, worst", [(3, 0.5, 1), (26, 0.5, 10), (26, 0.04, 2)])
def test_folds_are_of_one_size_if_recordings_have_many_labels_or_few(classes, share, worst):
    random = np.random.default_rng(4)
    labels = random.random((853, classes)) < share
    for count in (2, 5, 10):
        fold = assign_folds(labels, count, 0)
        assert np.ptp(np.bincount(fold)) <= 1 and spread(labels, fold, count).max() <= worst


def test_shares_of_classes_are_closer_to_those_of_all_than_by_chance():
    labels, count = skewed(2000), 5
    random = np.random.default_rng(0)
    ours = shares_off(labels, assign_folds(labels, count, 0), count)
    chance = np.mean([shares_off(labels, random.permutation(2000) % count, count) for _ in range(30)], axis=0)
    assert ours.mean() < 0.2 * chance.mean()
    often = labels.sum(axis=0) > 20 * count
    assert often.sum() > 5 and (ours[often] < chance[often]).all()
    assert (ours[often] < 0.5).all()


@pytest.mark.parametrize("count", [5, 10])
@pytest.mark.parametrize("seed", range(3))
def test_a_class_has_as_many_recordings_in_each_fold_or_one_more(count, seed):
    labels = skewed(853, seed=seed)
    rare = labels.sum(axis=0) < count
    assert rare.sum() > 1  # these are in as many folds as they have recordings
    assert spread(labels, assign_folds(labels, count, seed), count).max() == 1
    by_strata = assign_folds(labels, count, seed, stratification=STRATA)
    assert spread(labels, by_strata, count).max() > 4


@needs_real
@pytest.mark.parametrize("count", [5, 10])
def test_a_class_of_the_real_recordings_is_spread_evenly(count):
    labels, _ = real_labels()
    assert len(labels) == 853
    for seed in range(3):
        folds = assign_folds(labels, count, seed)
        assert spread(labels, folds, count).max() <= 1 and np.ptp(np.bincount(folds)) <= 1
        assert spread(labels, assign_folds(labels, count, seed, repeated_patients(853)), count).max() <= 4


@pytest.mark.parametrize("patients", [None, repeated_patients(20_000)], ids=["recordings", "patients"])
def test_20000_recordings_are_split_fast_and_evenly(patients):
    labels = skewed(20_000)
    start = time.process_time()
    folds = assign_folds(labels, 5, 0, patients)
    assert time.process_time() - start < 1  # 0.03 s on a core of 2.4 GHz
    assert spread(labels, folds, 5).max() <= 1 and np.ptp(np.bincount(folds)) <= 1
    if patients is not None:
        assert len(set(zip(patients, folds, strict=True))) == len(set(patients)) < 18_000


def test_patients_with_many_recordings_are_spread_evenly():
    random = np.random.default_rng(3)
    labels, patients = skewed(20_000), random.integers(0, 4000, 20_000)
    folds = assign_folds(labels, 5, 0, patients)
    assert len(set(zip(patients, folds, strict=True))) == len(set(patients))
    assert spread(labels, folds, 5).max() <= 10 and np.ptp(np.bincount(folds)) <= 2
    assert labels.sum(axis=0).max() > 5000


def test_folds_are_the_same_for_the_same_seed_and_others_for_another():
    labels = skewed(300)
    np.testing.assert_array_equal(assign_folds(labels, 5, 3), assign_folds(labels, 5, 3))
    assert (assign_folds(labels, 5, 3) != assign_folds(labels, 5, 4)).any()
    np.testing.assert_array_equal(assign_folds(labels, 5, 3), assign_folds(labels.astype(np.float32), 5, 3))


def fill_by_loop(label, size, count, n_patients, rank):
    """Assign one patient after the other, as algorithm 1 of Sechidis et al. 2011 does."""
    label, size, folds = list(label), list(size), []
    for _ in range(n_patients):
        fold = max(range(len(rank)), key=lambda number: (label[number], size[number], -rank[number]))
        folds.append(fold)
        label[fold] -= len(rank) * count
        size[fold] -= len(rank)
    return folds


@settings(deadline=None)
@given(st.data(), st.integers(2, 6), st.integers(1, 4), st.integers(1, 40))
def test_patients_of_a_class_go_to_the_fold_that_lacks_most(data, n_folds, count, n_patients):
    numbers = st.lists(st.integers(-40, 60), min_size=n_folds, max_size=n_folds)
    label, size = np.array(data.draw(numbers)), np.array(data.draw(numbers))
    rank = np.array(data.draw(st.permutations(range(n_folds))))
    folds = fill_folds(Deficits(label, size), count, n_patients, rank)
    # The order of folds differs from that of the loop only where several lack as much of the class.
    expected = fill_by_loop(label, size, count, n_patients, rank)
    assert folds.tolist() == expected


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(2, 5), st.floats(0.5, 8))
def test_moves_reduce_the_differences_between_folds_and_leave_none_empty(seed, n_folds, mean):
    random = np.random.default_rng(seed)
    patients = np.unique(random.integers(0, max(60 / mean, n_folds + 1), 60), return_inverse=True)[1]
    n_folds = min(n_folds, patients.max() + 1)
    counts = count_labels(random.random((60, 4)) < 0.4, patients)
    folds = random.integers(0, n_folds, len(counts))

    def difference(folds):
        loads = np.array([counts[folds == fold].sum(axis=0, dtype=int) for fold in range(n_folds)])
        return ((loads - counts.sum(axis=0, dtype=int) / n_folds) ** 2 @ np.array([1, 1, 1, 1, 2])).sum()

    moved = even_out(counts, find_alike(counts), folds, n_folds, 2.0)
    assert set(moved) == set(range(n_folds)) and difference(moved) <= difference(folds) + 1e-9
    # No further move of one patient would help.
    for patient in range(len(counts)):
        for fold in range(n_folds):
            changed = moved.copy()
            changed[patient] = fold
            assert difference(changed) >= difference(moved) - 1e-9


def test_labels_are_counted_by_patient_and_alike_patients_have_one_number():
    labels = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [0, 0]], bool)
    counts = count_labels(labels, np.array([0, 1, 1, 2, 3]))
    assert counts.tolist() == [[1, 0, 1], [1, 2, 2], [1, 0, 1], [0, 0, 1]]
    alike = find_alike(counts)
    assert alike[0] == alike[2] and len(set(alike.tolist())) == 3
    many = count_labels(np.ones((300, 1), bool), np.zeros(300, int))
    assert many.tolist() == [[300, 300]]


@pytest.mark.parametrize("recordings, least", [(2000, 5), (300, 10), (40, 20), (9, 5), (3, 2)])
def test_no_stratum_is_smaller_than_the_number_of_folds(recordings, least):
    assert np.bincount(assign_strata(skewed(recordings), least)).max() >= least
    assert min(np.unique(assign_strata(skewed(recordings), least), return_counts=True)[1]) >= least


def test_a_common_combination_is_a_stratum_and_a_rare_one_goes_with_its_rarest_class():
    rows = 10 * [(1, 0, 0)] + 6 * [(1, 1, 0)] + 4 * [(0, 1, 0)] + [(0, 1, 1), (1, 1, 1), (0, 0, 0), (0, 0, 1)]
    strata = assign_strata(np.array(rows, bool), 4)
    # (0, 1, 1), (1, 1, 1) and (0, 0, 1) stand for the third class, three recordings, and are lumped with that of none.
    expected = np.repeat([3, 2, 1, 0], [10, 6, 4, 4])
    assert all(
        (strata == strata[place]).tolist() == (expected == expected[place]).tolist() for place in range(len(rows))
    )


def test_rare_combinations_are_merged_with_the_next():
    strata = assign_strata(np.array(9 * [(1, 0)] + 5 * [(0, 1)] + [(0, 0)], bool), 5)
    assert (strata[:9] == strata[0]).all() and (strata[9:] == strata[9]).all() and strata[0] != strata[9]


@pytest.mark.parametrize("recordings, count", [(10, 1), (4, 5), (0, 2)])
def test_folds_that_cannot_be_are_refused(recordings, count):
    with pytest.raises(ValueError, match=f"{recordings} recordings in {count} folds"):
        assign_folds(np.zeros((recordings, 26), bool), count, 0)


def digest(array):
    """The SHA-256 of integers."""
    return hashlib.sha256(np.asarray(array, "<i8").tobytes()).hexdigest()[:16]


def test_the_split_of_the_default_system_and_the_folds_of_older_trainings_are_as_they_were():
    targets = skewed(853).astype(np.float32)
    ((training, validation),) = split_recordings(targets, Settings())
    np.testing.assert_array_equal(validation, split_validation(853, Settings(), "split")[1])
    assert (len(training), digest(validation)) == (682, "41cea14941121cd0")
    assert digest(assign_folds(targets, 5, 2021, stratification=STRATA)) == "72ca2756ddbfc103"
    patients = repeated_patients(853)
    assert digest(assign_folds(targets, 5, 2021, patients, STRATA)) == "f7585fae5c687991"
