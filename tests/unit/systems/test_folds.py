import numpy as np
import pytest

from ecg.systems.plan import assign_folds, assign_strata


def skewed(recordings, classes=26, seed=0):
    """Labels as a hospital's: most classes rare, the frequent ones together with others, some recordings of none."""
    random = np.random.default_rng(seed)
    labels = random.random((recordings, classes)) < np.geomspace(0.002, 0.25, classes)
    labels[:, 3] |= labels[:, -1] & (random.random(recordings) < 0.3)
    return labels


def shares_off(labels, fold, count):
    """How far each class's number of recordings in a fold is from its even part, on the average."""
    held_out = np.array([labels[fold == place].sum(axis=0) for place in range(count)])
    return np.abs(held_out - labels.sum(axis=0) / count).mean(axis=0)


@pytest.mark.parametrize("recordings, count", [(853, 5), (853, 2), (97, 10), (12, 5), (5, 5), (2, 2)])
def test_every_recording_is_in_one_fold_and_folds_are_of_one_size(recordings, count):
    fold = assign_folds(skewed(recordings), count, 1)
    sizes = np.bincount(fold, minlength=count)
    assert fold.shape == (recordings,) and len(sizes) == count and np.ptp(sizes) <= 1


def test_shares_of_classes_are_closer_to_those_of_all_than_by_chance():
    labels, count = skewed(2000), 5
    random = np.random.default_rng(0)
    ours = shares_off(labels, assign_folds(labels, count, 0), count)
    chance = np.mean([shares_off(labels, random.permutation(2000) % count, count) for _ in range(30)], axis=0)
    assert ours.mean() < 0.6 * chance.mean()
    often = labels.sum(axis=0) > 20 * count
    assert often.sum() > 5 and (ours[often] < chance[often]).all()
    assert (ours[often] < 0.1 * labels.sum(axis=0)[often] / count).all()


def test_folds_are_the_same_for_the_same_seed_and_others_for_another():
    labels = skewed(300)
    np.testing.assert_array_equal(assign_folds(labels, 5, 3), assign_folds(labels, 5, 3))
    assert (assign_folds(labels, 5, 3) != assign_folds(labels, 5, 4)).any()


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
