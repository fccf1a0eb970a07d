from dataclasses import replace

import numpy as np
import pytest
from helpers import make_comparison

from ecg.data.labels import ABBREVIATIONS
from ecg.evaluation.bootstrap import (
    AT_HALF,
    AUROC,
    AUROC_SHARED,
    CHALLENGE_METRICS,
    CLASS_METRICS,
    METRICS,
    Comparison,
    SystemResult,
    compute_metrics,
    draw_resamples,
    estimate_interval,
)
from ecg.evaluation.metrics import SINUS, challenge_score, f_measures, load_weights, nan_mean, roc_and_pr_areas

WEIGHTS = load_weights()[1]


def plainly(comparison, trial, chosen):
    """The measures of explicit recordings, a place each, by the plain functions of scoring."""
    labels, probabilities = comparison.labels[chosen], trial.probabilities[chosen]
    outputs = trial.optimised[chosen], trial.predictions[chosen], probabilities >= 0.5
    scores = [challenge_score(labels, given, WEIGHTS) for given in outputs]
    measured = (np.where(labels.any(axis=0), f_measures(labels, given), np.nan) for given in outputs[:2])
    by_class = (*roc_and_pr_areas(labels, probabilities), *measured)
    values = dict(zip((*CHALLENGE_METRICS, *CLASS_METRICS), [*scores, *map(nan_mean, by_class)], strict=True))
    every = {name for one in comparison.results for name in one.classes}
    shared = [name for name in every if all(name in one.classes for one in comparison.results)]
    values[AUROC_SHARED] = nan_mean(by_class[0][np.isin(ABBREVIATIONS, shared)])
    return values, by_class


def drawn(recordings, resamples, seed):
    """The recordings themselves, then those of each resample, one by one."""
    counts = np.hstack(draw_resamples(recordings, resamples, seed)).astype(int)
    return [np.arange(recordings), *(np.repeat(np.arange(recordings), column) for column in counts.T)]


@pytest.fixture(scope="module")
def comparison():
    """A comparison of which one system knows but half of the classes."""
    return make_comparison(results=((), {"classes": ABBREVIATIONS[13:]}))


def test_the_shared_area_is_of_the_classes_that_all_systems_know(comparison):
    assert comparison.shared_classes.tolist() == [False] * 13 + [True] * 13
    for each in compute_metrics(comparison, resamples=2).overall:
        assert each[AUROC_SHARED][0] != each[AUROC][0]
    whole = compute_metrics(make_comparison(), resamples=2).overall[0]
    np.testing.assert_array_equal(whole[AUROC_SHARED], whole[AUROC])


def test_resamples_are_as_many_recordings_drawn_anew(monkeypatch):
    whole = np.hstack(draw_resamples(40, 30, 5))
    assert whole.shape == (40, 30) and (whole.sum(axis=0) == 40).all()
    assert 0.5 < whole.var() < 1.5 and len(np.unique(whole, axis=1).T) == 30
    monkeypatch.setattr("ecg.evaluation.bootstrap.MAX_CHUNK_SIZE", 100)
    parts = draw_resamples(40, 30, 5)
    assert len(parts) > 10
    np.testing.assert_array_equal(np.hstack(parts), whole)


def test_estimates_are_those_of_explicitly_resampled_recordings(comparison):
    found = compute_metrics(comparison, resamples=20, seed=3)
    samples = drawn(len(comparison.labels), 20, 3)
    for place, trial in enumerate(comparison.results):
        each = [plainly(comparison, trial, chosen) for chosen in samples]
        for name in METRICS:
            value, *others = [values[name] for values, _ in each]
            expected = [value, *np.percentile(others, (2.5, 97.5))]
            np.testing.assert_allclose(found.overall[place][name], expected, rtol=1e-6)
        for name, columns in zip(CLASS_METRICS, zip(*(by_class for _, by_class in each), strict=True), strict=True):
            got = found.by_class[place][name]
            value, others = columns[0], np.array(columns[1:])
            np.testing.assert_allclose(got[0], value, rtol=1e-6)
            for column in np.flatnonzero(~np.isnan(value)):
                ends = np.nanpercentile(others[:, column], (2.5, 97.5))
                np.testing.assert_allclose(got[1:, column], ends, rtol=1e-6)


def test_values_are_to_the_bit_those_of_the_recordings_themselves(comparison):
    found = compute_metrics(comparison, resamples=3)
    whole = np.ones(len(comparison.labels), bool)
    for place, trial in enumerate(comparison.results):
        values, by_class = plainly(comparison, trial, whole)
        assert {name: estimate[0] for name, estimate in found.overall[place].items()} == values
        for name, expected in zip(CLASS_METRICS, by_class, strict=True):
            np.testing.assert_array_equal(found.by_class[place][name][0], expected)
        for groups, parts in ((comparison.sources, found.by_source), (comparison.folds, found.by_fold)):
            for group, estimates in parts[place].items():
                values, _ = plainly(comparison, trial, groups == group)
                np.testing.assert_array_equal([estimates[name][0] for name in METRICS], [values[m] for m in METRICS])


def test_a_class_without_labels_is_nan(comparison):
    found = compute_metrics(comparison, resamples=5)
    assert all(np.isnan(values[:, -1]).all() for values in found.by_class[0].values())
    assert all(np.isfinite(values).all() for values in found.overall[0].values())


def test_differences_are_of_the_same_resamples(comparison):
    found = compute_metrics(comparison, resamples=20, seed=4)
    assert found.differences[0] is None
    samples = drawn(len(comparison.labels), 20, 4)
    for name in METRICS:
        first, second = ([plainly(comparison, trial, chosen)[0][name] for chosen in samples]
                         for trial in comparison.results)  # fmt: skip
        value, *others = np.subtract(second, first)
        expected = [value, *np.percentile(others, (2.5, 97.5))]
        np.testing.assert_allclose(found.differences[1][name], expected, rtol=1e-5, atol=1e-9)


def test_equal_systems_have_no_difference_and_no_interval():
    found = compute_metrics(make_comparison(results=({"seed": 1}, {"seed": 1})), resamples=20)
    assert all((values == 0).all() for values in found.differences[1].values())
    low, high = found.overall[1]["F1 optimised"][1:]
    assert high - low > 0.01


def test_the_decision_rule_changes_only_the_metrics_as_predicted():
    comparison = make_comparison(results=({"seed": 1}, {"seed": 1}))
    first, second = comparison.results
    second = replace(second, predictions=second.probabilities >= 0.7)
    difference = compute_metrics(replace(comparison, results=(first, second)), resamples=5).differences[1]
    changed = {name for name, values in difference.items() if (values != 0).any()}
    assert changed == {"metric as predicted", "F1 as predicted"}


def test_a_difference_is_to_the_first_system_with_the_same_leads():
    trials = ({"system": "a"}, {"system": "b"}, {"system": "b", "leads": 2}, {"system": "a", "leads": 6},
              {"system": "c", "leads": 6})  # fmt: skip
    comparison = make_comparison(results=trials)
    assert [comparison.reference_index(trial) for trial in comparison.results] == [None, 0, None, None, 3]
    assert comparison.systems == ["a", "b", "c"] and comparison.lead_sets == [12, 6, 2]


def test_sources_and_folds_are_evaluated_separately(comparison):
    found = compute_metrics(comparison, resamples=5)
    for groups, parts in ((comparison.sources, found.by_source[0]), (comparison.folds, found.by_fold[0])):
        assert list(parts) == np.unique(groups).tolist()
        for group, estimates in parts.items():
            expected = plainly(comparison, comparison.results[0], np.flatnonzero(groups == group))[0]
            for name in METRICS:
                np.testing.assert_allclose(estimates[name][0], expected[name], rtol=1e-6)
    assert all(np.isnan(values[1:]).all() for values in found.by_fold[0][0].values())


def test_a_source_that_a_resample_may_have_none_of_has_its_interval_of_the_others():
    comparison = make_comparison()
    sources = np.where(np.arange(150) < 2, "rare", "common")
    samples = drawn(150, 40, 0)
    assert any(not (chosen < 2).any() for chosen in samples)
    low, high = compute_metrics(replace(comparison, sources=sources), resamples=40).by_source[0]["rare"][AT_HALF][1:]
    scores = [plainly(comparison, comparison.results[0], chosen[chosen < 2])[0][AT_HALF]
              for chosen in samples[1:] if (chosen < 2).any()]  # fmt: skip
    np.testing.assert_allclose([low, high], np.percentile(scores, (2.5, 97.5)), rtol=1e-9)


def test_perfect_predictions_score_one_in_every_resample_and_sinus_rhythm_zero():
    comparison = make_comparison()
    labels = comparison.labels
    sinus = np.zeros_like(labels)
    sinus[:, SINUS] = True
    trials = [SystemResult("a", 12, given.astype(np.float32), given, given, 1, 1.0, 1.0) for given in (labels, sinus)]
    perfect, inactive = compute_metrics(replace(comparison, results=tuple(trials)), resamples=10).overall
    for name in METRICS:
        np.testing.assert_allclose(perfect[name], 1, rtol=1e-6)
    for name in CHALLENGE_METRICS:
        np.testing.assert_allclose(inactive[name], 0, atol=1e-12)


def test_an_interval_covers_the_true_value_at_its_nominal_rate():
    held, score = 0, challenge_score(*_many(20000, 0), WEIGHTS)
    for seed in range(1, 41):
        labels, outputs = _many(400, seed)
        trial = SystemResult("a", 12, outputs.astype(np.float32), outputs, outputs, 1, 1.0, 1.0)
        group = np.zeros(400, int)
        low, high = compute_metrics(Comparison(labels, group, group, (trial,)), 80).overall[0][AT_HALF][1:]
        held += low <= score <= high
    assert 34 <= held <= 39  # of 40, of which 38 are expected


def _many(recordings, seed):
    random = np.random.default_rng(seed)
    labels = random.random((recordings, 26)) < 0.08
    return labels, labels ^ (random.random(labels.shape) < 0.03)


def test_the_same_seed_gives_the_same_estimates(comparison):
    first, second, third = (compute_metrics(comparison, 10, seed).overall[1] for seed in (1, 1, 2))
    for name in METRICS:
        np.testing.assert_array_equal(first[name], second[name])
    assert any((first[name] != third[name]).any() for name in METRICS)


def test_an_estimate_leaves_out_samples_that_do_not_exist():
    samples = np.array([[1.0, 0, np.nan, 2, 1], [np.nan, 1, 1, 1, 1], [1, np.nan, np.nan, np.nan, np.nan]])
    found = estimate_interval(samples)
    np.testing.assert_allclose(found[:, 0], [1, *np.percentile([0, 2, 1], (2.5, 97.5))])
    assert np.isnan(found[:, 1]).all() and found[0, 2] == 1 and np.isnan(found[1:, 2]).all()


def test_a_class_with_probability_0_everywhere_can_be_known():
    """As where a gate has all recordings answered by networks of other classes."""
    outputs = np.zeros((3, 26), bool)
    trial = SystemResult("a", 12, outputs.astype(np.float32), outputs, outputs, 1, 1.0, 1.0, ("AF", "STE"))
    assert np.array(ABBREVIATIONS)[trial.known_classes].tolist() == ["AF"]
