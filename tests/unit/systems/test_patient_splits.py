"""Splits and folds that keep the recordings of a patient together."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_folds import shares_off, skewed

from ecg.data.headers import RecordError
from ecg.models.network_settings import AttentionSettings
from ecg.systems.folds import STRATA, assign_folds
from ecg.systems.plan import draw_patients, split_recordings, split_validation
from ecg.systems.recipes import SYSTEMS, Settings
from ecg.training.trainer import seeds

ZHAO = SYSTEMS["zhao2022"]
SHARED = replace(ZHAO, network=AttentionSettings(), folds=None, splits=3)
PATIENTS = st.lists(st.integers(0, 30), min_size=2, max_size=80).filter(lambda patients: len(set(patients)) > 1)


def make_patients(n_recordings, mean, giant=0.0, seed=0):
    """Patients with a geometric number of recordings; the first of them has a share of all recordings."""
    random = np.random.default_rng(seed)
    patients = np.repeat(np.arange(1, n_recordings + 1), random.geometric(1 / mean, n_recordings))[:n_recordings]
    patients[: round(giant * n_recordings)] = 0
    return random.permutation(patients)


def random_folds(patients, n_folds, seed):
    """Folds of nearly equal size that keep patients together, and do not look at labels."""
    random = np.random.default_rng(seed)
    _, patient, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    order = random.permutation(len(sizes))
    fold, loads = np.empty(len(sizes), int), np.zeros(n_folds, int)
    for number in order[np.argsort(-sizes[order], kind="stable")]:
        fold[number] = loads.argmin()
        loads[fold[number]] += sizes[number]
    return fold[patient]


@settings(max_examples=60, deadline=None)
@given(PATIENTS, st.integers(2, 6), st.integers(0, 9))
def test_no_patient_is_in_two_folds_and_every_recording_is_in_one(patients, n_folds, seed):
    patients = np.array(patients)
    labels = skewed(len(patients), 4, seed)
    if len(set(patients)) < n_folds:
        with pytest.raises(ValueError, match=f"{len(set(patients))} patients in {n_folds} folds"):
            assign_folds(labels, n_folds, seed, patients)
        return
    folds = assign_folds(labels, n_folds, seed, patients)
    assert folds.shape == patients.shape and set(folds) == set(range(n_folds))  # none is empty
    assert len(set(zip(patients, folds, strict=True))) == len(set(patients))
    np.testing.assert_array_equal(folds, assign_folds(labels, n_folds, seed, patients))
    # The numbers of the patients do not matter as long as their order is the same.
    np.testing.assert_array_equal(folds, assign_folds(labels, n_folds, seed, 7 * patients + 3))


@pytest.mark.parametrize("n_recordings, mean, n_folds", [(853, 1.2, 5), (853, 2, 5), (853, 5, 5), (400, 1.5, 10)])
def test_folds_of_patients_are_of_nearly_equal_size_and_alike_in_their_labels(n_recordings, mean, n_folds):
    labels, patients = skewed(n_recordings), make_patients(n_recordings, mean)
    folds = [assign_folds(labels, n_folds, seed, patients) for seed in range(5)]
    assert max(np.ptp(np.bincount(fold)) for fold in folds) <= np.bincount(patients).max()

    def mean_off(folds):
        return np.mean([shares_off(labels, fold, n_folds) for fold in folds])

    chance = mean_off([random_folds(patients, n_folds, seed) for seed in range(20)])
    by_strata = mean_off([assign_folds(labels, n_folds, seed, patients, STRATA) for seed in range(5)])
    assert mean_off(folds) < 0.5 * chance and mean_off(folds) < 0.85 * by_strata


@pytest.mark.parametrize("seed", range(20))
def test_fold_sizes_differ_by_less_than_three_recordings_of_the_largest_patient(seed):
    random = np.random.default_rng(seed)
    n_recordings, n_folds = random.integers(10, 150), random.integers(2, 9)
    patients = random.integers(0, random.integers(n_folds + 1, n_recordings + 1), n_recordings)
    n_folds = min(n_folds, len(np.unique(patients)))
    labels = random.random((n_recordings, 5)) < random.random(5)
    folds = assign_folds(labels, n_folds, seed, patients)
    assert np.ptp(np.bincount(folds, minlength=n_folds)) < 3 * np.bincount(patients).max()


def test_a_patient_of_most_recordings_fills_a_fold_and_the_rest_is_balanced():
    labels, patients = skewed(853), make_patients(853, 2, giant=0.6)
    folds = assign_folds(labels, 5, 0, patients)
    alone = folds[patients == 0][0]
    assert (patients[folds == alone] == 0).all()
    assert np.ptp(np.delete(np.bincount(folds), alone)) <= 3


def test_folds_of_patients_depend_on_the_seed():
    labels, patients = skewed(300), make_patients(300, 2)
    assert (assign_folds(labels, 5, 0, patients) != assign_folds(labels, 5, 1, patients)).any()


@settings(deadline=None)
@given(PATIENTS, st.integers(1, 60), st.integers(0, 9))
def test_drawn_patients_are_whole_and_as_many_as_fit(patients, n_recordings, seed):
    patients = np.array(patients)
    drawn = draw_patients(patients, n_recordings, np.random.default_rng(seed))
    assert not set(patients[drawn]) & set(patients[~drawn])
    np.testing.assert_array_equal(drawn, draw_by_loop(patients, n_recordings, np.random.default_rng(seed)))
    sizes = np.bincount(patients)
    if sizes[np.unique(patients)].min() > n_recordings:  # none fits
        assert drawn.sum() == sizes[np.unique(patients)].min() and len(set(patients[drawn])) == 1
    else:
        rest = sizes[np.unique(patients[~drawn])]
        assert 0 < drawn.sum() <= n_recordings
        assert not len(rest) or rest.min() > n_recordings - drawn.sum()


def draw_by_loop(patients, n_recordings, random):
    """Draw one patient after the other."""
    names = np.unique(patients)
    order = names[random.permutation(len(names))]
    chosen = []
    for name in order:
        if np.isin(patients, [*chosen, name]).sum() <= n_recordings:
            chosen.append(name)
    if not chosen:
        chosen = [min(order, key=lambda name: (patients == name).sum())]
    return np.isin(patients, chosen)


def test_a_patient_with_most_recordings_is_never_drawn_and_sizes_are_exact():
    patients = make_patients(853, 1.5, giant=0.4)
    for seed in range(20):
        drawn = draw_patients(patients, 171, np.random.default_rng(seed))
        assert drawn.sum() == 171 and not drawn[patients == 0].any()
    often = np.mean([draw_patients(patients, 171, np.random.default_rng(seed)) for seed in range(400)], axis=0)
    assert often[patients > 0].min() > 0.2  # of 512 recordings 171 are drawn


def validation_by_recordings(n_recordings, given_settings, key):
    """The validation set as it is without patients, by its definition."""
    random = np.random.default_rng(seeds(given_settings.seed, key, 0, 4))
    n_validation = max(round(n_recordings * given_settings.validation_share), 1)
    return np.sort(random.permutation(n_recordings)[:n_validation])


@pytest.mark.parametrize("n_recordings", [1, 2, 3, 100, 853])
@pytest.mark.parametrize("key", ["split", "relabelling/CPSC/omitted"])
def test_splits_are_the_same_without_patients_and_with_one_for_each_recording(n_recordings, key):
    expected = validation_by_recordings(n_recordings, Settings(), key)
    for patients in (None, np.arange(n_recordings), 5 * np.arange(n_recordings)):
        training, validation = split_validation(n_recordings, Settings(), key, patients)
        np.testing.assert_array_equal(validation, expected)
        np.testing.assert_array_equal(training, np.setdiff1d(np.arange(n_recordings), expected))


def test_folds_are_the_same_without_patients_and_with_one_for_each_recording():
    labels = skewed(853)
    folds = assign_folds(labels, 5, 3)
    np.testing.assert_array_equal(folds, assign_folds(labels, 5, 3, np.arange(853)))


@pytest.mark.parametrize("system", [Settings(), ZHAO, replace(ZHAO, exclusive=True, folds=3), SHARED])
def test_no_patient_is_trained_on_and_validated(system):
    targets = (np.random.default_rng(0).random((200, 4)) < 0.3).astype(np.float32)
    patients = make_patients(200, 3)
    usable = np.flatnonzero(targets.sum(axis=1) == 1) if system.exclusive else np.arange(200)
    splits = split_recordings(targets, system, patients)
    assert len(splits) == (system.folds or system.splits or 1)
    for training, validation in splits:
        assert sorted([*training, *validation]) == usable.tolist()
        assert not set(patients[training]) & set(patients[validation])
        assert len(training) and len(validation)


def test_a_patient_of_most_recordings_is_in_no_validation_set_of_several_random_splits():
    targets, patients = skewed(400).astype(np.float32), make_patients(400, 2, giant=0.4)
    splits = split_recordings(targets, SHARED, patients)
    assert all(not (patients[validation] == 0).any() for _, validation in splits)
    assert len({tuple(validation) for _, validation in splits}) == 3


def test_fewer_patients_than_parts_are_reported():
    targets = np.eye(4)[np.arange(20) % 4]
    with pytest.raises(RecordError, match="^20 recordings are of 1 patient; training needs 2, to keep"):
        split_recordings(targets, Settings(), np.zeros(20, int))
    with pytest.raises(RecordError, match="^20 recordings are of 4 patients; training needs 5, to keep"):
        split_recordings(targets, ZHAO, np.arange(20) % 4)
    assert len(split_recordings(targets, ZHAO, np.arange(20) % 5)) == 5
