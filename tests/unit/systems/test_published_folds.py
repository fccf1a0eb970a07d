"""Folds that come with the recordings, as those of PTB-XL."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from test_folds import skewed

from ecg.commands.protocol import Protocol
from ecg.data.headers import RecordError
from ecg.systems.folds import assign_folds
from ecg.systems.plan import split_recordings
from ecg.systems.recipes import SYSTEMS, Settings

LABELS = skewed(200)
PUBLISHED = np.random.default_rng(0).permutation(np.repeat(np.arange(1, 11), 20))


def test_published_folds_are_used_if_there_are_as_many_and_all_recordings_have_one():
    np.testing.assert_array_equal(assign_folds(LABELS, 10, 0, published=PUBLISHED), PUBLISHED - 1)
    computed = assign_folds(LABELS, 5, 0)
    np.testing.assert_array_equal(assign_folds(LABELS, 5, 0, published=PUBLISHED), computed)
    with_gap = PUBLISHED.copy()
    with_gap[3] = 0
    np.testing.assert_array_equal(assign_folds(LABELS, 10, 0, published=with_gap), assign_folds(LABELS, 10, 0))
    # Nine of ten folds are left if one is held out.
    rest = PUBLISHED != 4
    folds = assign_folds(LABELS[rest], 9, 0, published=PUBLISHED[rest])
    assert all(len(set(PUBLISHED[rest][folds == fold])) == 1 for fold in range(9))


def test_networks_and_comparisons_have_the_published_folds():
    settings = replace(SYSTEMS["zhao2022"], folds=10)
    splits = split_recordings(LABELS, settings, published=PUBLISHED)
    for number, (training, validation) in enumerate(splits, 1):
        assert set(PUBLISHED[validation]) == {number} and number not in PUBLISHED[training]
    store = SimpleNamespace(labels=LABELS, sources=np.full(200, "PTB-XL"), patients=None, folds=PUBLISHED)
    held_out = Protocol(folds=10).held_out(store)
    assert [set(PUBLISHED[indices]) for indices in held_out] == [{number} for number in range(1, 11)]


def test_one_published_fold_validates():
    settings = Settings(validation_fold=9)
    rest = PUBLISHED[PUBLISHED != 10]
    ((training, validation),) = split_recordings(LABELS[PUBLISHED != 10], settings, published=rest)
    assert set(rest[validation]) == {9} and set(rest[training]) == set(range(1, 9))
    exclusive = replace(settings, exclusive=True)
    ((training, validation),) = split_recordings(LABELS, exclusive, published=PUBLISHED)
    assert set(PUBLISHED[validation]) == {9} and (LABELS[validation].sum(axis=1) == 1).all()


@pytest.mark.parametrize("published", [None, np.full(200, 9), np.ones(200, int)])
def test_a_fold_that_is_missing_or_all_there_is_cannot_validate(published):
    with pytest.raises(RecordError, match="published fold 9 has (0|200) of 200 recordings; it cannot validate"):
        split_recordings(LABELS, Settings(validation_fold=9), published=published)


def test_a_validation_fold_excludes_folds_and_splits():
    for parts in ({"folds": 5}, {"splits": 3}):
        with pytest.raises(ValueError, match="validation_fold: not possible with folds or splits"):
            Settings(validation_fold=9, **parts)
