"""Agreement: kappa is that of sklearn, intervals cover the truth, and a sample of errors holds errors only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import cohen_kappa_score

from ecg.data.reviews import ABSENT, PRESENT, UNDECIDED, UNSURE, Review, Verdict, encode_reviews
from ecg.evaluation.agreement import (
    Rater,
    compute_kappa,
    measure_agreement,
    measure_pair,
    resample_cells,
    sample_errors,
)

VERDICTS = st.sampled_from([PRESENT, ABSENT, UNSURE, UNDECIDED])


def make_raters(n_recordings=60, seed=0, error=0.2):
    """Two raters of the same labels, each wrong at random, with a few unsure verdicts and gaps."""
    random = np.random.default_rng(seed)
    labels = random.random((n_recordings, 26)) < 0.4
    raters = []
    for name in ("Anna", "Ben"):
        verdicts = (labels ^ (random.random(labels.shape) < error)).astype(np.int8)
        verdicts[random.random(labels.shape) < 0.1] = UNSURE
        verdicts[random.random(labels.shape) < 0.2] = UNDECIDED
        raters.append(Rater(name, verdicts))
    return raters


@settings(max_examples=200, deadline=None)
@given(arrays(np.int8, (12, 26), elements=VERDICTS), arrays(np.int8, (12, 26), elements=VERDICTS))
def test_kappa_is_that_of_sklearn_and_undefined_if_a_rater_is_constant(first, second):
    pair = measure_pair(Rater("a", first), Rater("b", second), resamples=2)
    decided = np.isin(first, (0, 1)) & np.isin(second, (0, 1))
    columns = [(first[:, [c]], second[:, [c]], decided[:, [c]]) for c in range(26)]
    for kappa, (a, b, both) in zip(pair.kappa_by_class[0], columns, strict=True):
        a, b = a[both], b[both]
        if len(set(a.tolist())) < 2 or len(set(b.tolist())) < 2:
            assert np.isnan(kappa)
        else:
            assert kappa == cohen_kappa_score(a, b)
    assert pair.decisions.tolist() == decided.sum(axis=0).tolist()
    assert pair.n_agreements.tolist() == (decided & (first == second)).sum(axis=0).tolist()


def expected_disagreements(first, second):
    """How often two raters of one class would disagree by chance."""
    a, b = (first == PRESENT).mean(), (second == PRESENT).mean()
    return len(first) * (a * (1 - b) + b * (1 - a))


@settings(max_examples=100, deadline=None)
@given(arrays(np.int8, (12, 26), elements=VERDICTS), arrays(np.int8, (12, 26), elements=VERDICTS))
def test_kappa_of_all_classes_compares_disagreements_with_those_by_chance_within_classes(first, second):
    pair = measure_pair(Rater("a", first), Rater("b", second), resamples=2)
    observed = expected = 0
    for column in range(26):
        both = np.isin(first[:, column], (0, 1)) & np.isin(second[:, column], (0, 1))
        observed += (first[both, column] != second[both, column]).sum()
        expected += expected_disagreements(first[both, column], second[both, column]) if both.any() else 0
    if np.isnan(pair.kappa_by_class[0]).all():
        assert np.isnan(pair.kappa[0])
    else:
        assert pair.kappa[0] == pytest.approx(1 - observed / expected, abs=1e-12)


def test_raters_who_only_know_which_classes_are_frequent_do_not_agree():
    random = np.random.default_rng(0)
    prevalence = np.where(np.arange(26) < 13, 0.9, 0.1)
    first, second = (random.random((2, 2000, 26)) < prevalence).astype(np.int8)
    assert cohen_kappa_score(first.ravel(), second.ravel()) > 0.6  # of one table
    kappa, low, high = measure_pair(Rater("a", first), Rater("b", second), resamples=200).kappa
    assert abs(kappa) < 0.02 and low < 0 < high


def test_one_class_alone_is_kappa_of_all_classes():
    first, second = make_raters()
    of_class = [np.where(np.arange(26) == 3, rater.verdicts, UNDECIDED) for rater in (first, second)]
    pair = measure_pair(*(Rater(name, verdicts) for name, verdicts in zip("ab", of_class, strict=True)))
    assert pair.kappa.tolist() == pair.kappa_by_class[:, 3].tolist() and pair.kappa[0] > 0


@pytest.mark.parametrize(("n_present", "has_interval"), [(1, False), (2, False), (3, True), (20, True)])
def test_a_kappa_that_many_resamples_lack_has_no_interval(n_present, has_interval):
    verdicts = np.full((200, 26), UNDECIDED, np.int8)
    verdicts[:, 0] = np.arange(200) < n_present  # absent from exp(-n_present) of the resamples
    pair = measure_pair(Rater("a", verdicts), Rater("b", verdicts))
    assert pair.kappa[0] == pair.kappa_by_class[0, 0] == 1
    assert np.isfinite(pair.kappa[1:]).all() == np.isfinite(pair.kappa_by_class[1:, 0]).all() == has_interval


def test_unsure_verdicts_are_counted_and_change_nothing_else():
    first, second = make_raters()
    pair = measure_pair(first, second)
    unsure = (first.verdicts == UNSURE) | (second.verdicts == UNSURE)
    both = (first.verdicts != UNDECIDED) & (second.verdicts != UNDECIDED)
    assert pair.unsure.tolist() == (unsure & both).sum(axis=0).tolist()
    without = measure_pair(Rater("a", np.where(unsure, UNDECIDED, first.verdicts)), second)
    assert np.array_equal(pair.kappa, without.kappa) and not without.unsure.any()


def test_recordings_that_a_rater_has_not_seen_change_nothing():
    first, second = make_raters()
    empty = np.full((40, 26), UNDECIDED, np.int8)
    more = [Rater(rater.name, np.vstack([empty, rater.verdicts])) for rater in (first, second)]
    for name in ("kappa", "kappa_by_class", "counts"):
        expected, value = getattr(measure_pair(first, second), name), getattr(measure_pair(*more), name)
        np.testing.assert_array_equal(value, expected)


def test_resamples_of_equal_recordings_are_those_of_single_ones():
    first, second = make_raters(40, seed=3)
    cells = np.where((first.verdicts >= 0) & (second.verdicts >= 0), 1 + 2 * first.verdicts + second.verdicts, 0)
    cells = np.repeat(cells[:8], 5, axis=0).astype(np.uint8)
    counts = resample_cells(cells, 4000, seed=0)
    assert np.array_equal(counts[0].sum(axis=(1, 2)), (cells > 0).sum(axis=0))
    random = np.random.default_rng(1)
    drawn = cells[random.integers(0, len(cells), (4000, len(cells)))]
    expected = np.stack([(drawn == code).sum(axis=1) for code in range(1, 5)], axis=-1).reshape(-1, 26, 2, 2)
    np.testing.assert_allclose(counts[1:].mean(axis=0), expected.mean(axis=0), atol=0.35)
    np.testing.assert_allclose(counts[1:].std(axis=0), expected.std(axis=0), atol=0.2)


def test_intervals_cover_the_true_kappa_about_as_often_as_they_say():
    covered, error = 0, 0.2
    agree = (1 - error) ** 2 + error**2
    marginal = 0.4 * (1 - error) + 0.6 * error
    chance = marginal**2 + (1 - marginal) ** 2
    for seed in range(200):
        first, second = make_raters(80, seed, error)
        _, low, high = measure_pair(first, second, resamples=300, seed=seed).kappa
        covered += low <= (agree - chance) / (1 - chance) <= high
    assert 180 <= covered <= 199


def test_every_pair_is_measured_once_and_a_rater_agrees_with_itself():
    first, second = make_raters()
    pairs = measure_agreement([first, second, Rater("copy", first.verdicts)], resamples=10)
    names = [(pair.first, pair.second) for pair in pairs]
    assert names == [("Anna", "Ben"), ("Anna", "copy"), ("Ben", "copy")]
    assert pairs[1].kappa.tolist() == [1, 1, 1] and pairs[0].kappa[0] == pairs[2].kappa[0] < 1


def test_raters_without_common_decisions_have_no_kappa():
    nothing = Rater("nobody", np.full((5, 26), UNDECIDED, np.int8))
    pair = measure_pair(nothing, nothing)
    assert np.isnan(pair.kappa).all() and np.isnan(pair.kappa_by_class).all() and not pair.decisions.any()
    assert np.isnan(compute_kappa(np.zeros((2, 2))))


def test_reviews_become_arrays_and_those_of_unknown_recordings_are_ignored():
    reviews = [
        Review("b", "AF", Verdict.PRESENT, reviewer="Anna"),
        Review("a", "LAD", Verdict.UNSURE, reviewer="Anna"),
        Review("x", "AF", Verdict.ABSENT, reviewer="Ben"),
    ]
    verdicts = encode_reviews(reviews, ["a", "b"])
    assert list(verdicts) == ["Anna", "Ben"] and (verdicts["Ben"] == UNDECIDED).all()
    assert sorted(verdicts["Anna"][verdicts["Anna"] != UNDECIDED].tolist()) == [UNSURE, PRESENT]


@pytest.mark.parametrize("wanted", [(5, 7), (1000, 0), (0, 3), (1000, 1000)])
def test_a_sample_of_errors_has_as_many_of_each_as_there_are(wanted):
    random = np.random.default_rng(0)
    labels, outputs = random.random((2, 300, 26)) < 0.5
    chosen = sample_errors(labels, outputs, 4, *wanted, seed=1)
    wrong = [outputs[:, 4] & ~labels[:, 4], labels[:, 4] & ~outputs[:, 4]]
    counts = [int(errors[chosen].sum()) for errors in wrong]
    assert counts == [min(count, int(errors.sum())) for count, errors in zip(wanted, wrong, strict=True)]
    assert len(set(chosen.tolist())) == len(chosen) == sum(counts)
    assert chosen.tolist() == sample_errors(labels, outputs, 4, *wanted, seed=1).tolist()
    assert len(chosen) < 2 or chosen.tolist() != sample_errors(labels, outputs, 4, *wanted, seed=2).tolist()


def test_the_order_of_a_sample_does_not_tell_the_kind_of_error():
    labels = np.zeros((200, 26), bool)
    labels[:100, 0] = True
    firsts = [sample_errors(labels, ~labels, 0, 50, 50, seed)[0] < 100 for seed in range(200)]
    assert 70 < sum(firsts) < 130
