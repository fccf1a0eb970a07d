from dataclasses import replace

import numpy as np
import pytest
from helpers import make_comparison

from ecg.data.class_files import load_weights
from ecg.data.labels import ABBREVIATIONS
from ecg.evaluation.bootstrap import (
    AT_HALF,
    AUROC,
    AUROC_SHARED,
    CHALLENGE_METRICS,
    CLASS_METRICS,
    COUNT_METRICS,
    METRICS,
    Comparison,
    SystemResult,
    compute_metrics,
    draw_resamples,
    estimate_interval,
)
from ecg.evaluation.metrics import SINUS, challenge_score, f_measures, nan_mean, roc_and_pr_areas

WEIGHTS = load_weights()[1]


def compute_without_resampling(comparison, result, recordings, weights=WEIGHTS):
    """Return the metrics of these recordings by the functions for one sample.

    A recording may occur several times.
    """
    labels, probabilities = comparison.labels[recordings], result.probabilities[recordings]
    decided = result.optimised, result.predictions, result.by_credit, result.probabilities >= 0.5
    outputs = [predictions[recordings] for predictions in decided]
    scores = [challenge_score(labels, predictions, weights) for predictions in outputs]
    measures = (np.where(labels.any(axis=0), f_measures(labels, predictions), np.nan) for predictions in outputs)
    by_class = (*roc_and_pr_areas(labels, probabilities), *measures)
    values = {name: predictions.sum() / len(labels) for name, predictions in zip(COUNT_METRICS, outputs, strict=True)}
    values |= dict(zip((*CHALLENGE_METRICS, *CLASS_METRICS), [*scores, *map(nan_mean, by_class)], strict=True))
    known = {name for result in comparison.results for name in result.classes}
    shared = [name for name in known if all(name in result.classes for result in comparison.results)]
    values[AUROC_SHARED] = nan_mean(by_class[0][np.isin(ABBREVIATIONS, shared)])
    return values, by_class


def resampled_recordings(recordings, resamples, seed):
    """Return the indices of all recordings, then those of each resample."""
    counts = np.hstack(draw_resamples(recordings, resamples, seed)).astype(int)
    return [np.arange(recordings), *(np.repeat(np.arange(recordings), column) for column in counts.T)]


@pytest.fixture(scope="module")
def comparison():
    """A comparison of two systems; the second knows half of the classes."""
    return make_comparison(results=((), {"classes": ABBREVIATIONS[13:]}))


def test_the_shared_area_is_of_the_classes_that_all_systems_know(comparison):
    assert comparison.shared_classes.tolist() == [False] * 13 + [True] * 13
    for estimates in compute_metrics(comparison, resamples=2).overall:
        assert estimates[AUROC_SHARED][0] != estimates[AUROC][0]
    metrics = compute_metrics(make_comparison(), resamples=2).overall[0]
    np.testing.assert_array_equal(metrics[AUROC_SHARED], metrics[AUROC])


def test_resamples_are_as_many_recordings_drawn_anew(monkeypatch):
    counts = np.hstack(draw_resamples(40, 30, 5))
    assert counts.shape == (40, 30) and (counts.sum(axis=0) == 40).all()
    assert 0.5 < counts.var() < 1.5 and len(np.unique(counts, axis=1).T) == 30
    monkeypatch.setattr("ecg.evaluation.bootstrap.MAX_CHUNK_SIZE", 100)
    chunks = draw_resamples(40, 30, 5)
    assert len(chunks) > 10
    np.testing.assert_array_equal(np.hstack(chunks), counts)


def test_estimates_are_those_of_explicitly_resampled_recordings(comparison):
    metrics = compute_metrics(comparison, resamples=20, seed=3)
    samples = resampled_recordings(len(comparison.labels), 20, 3)
    for index, result in enumerate(comparison.results):
        resampled = [compute_without_resampling(comparison, result, recordings) for recordings in samples]
        for name in METRICS:
            value, *values_of_resamples = [values[name] for values, _ in resampled]
            expected = [value, *np.percentile(values_of_resamples, (2.5, 97.5))]
            np.testing.assert_allclose(metrics.overall[index][name], expected, rtol=1e-6)
        for name, columns in zip(
            CLASS_METRICS, zip(*(by_class for _, by_class in resampled), strict=True), strict=True
        ):
            estimate = metrics.by_class[index][name]
            value, values_of_resamples = columns[0], np.array(columns[1:])
            np.testing.assert_allclose(estimate[0], value, rtol=1e-6)
            for column in np.flatnonzero(~np.isnan(value)):
                ends = np.nanpercentile(values_of_resamples[:, column], (2.5, 97.5))
                np.testing.assert_allclose(estimate[1:, column], ends, rtol=1e-6)


def test_values_are_to_the_bit_those_of_the_recordings_themselves(comparison):
    metrics = compute_metrics(comparison, resamples=3)
    everything = np.ones(len(comparison.labels), bool)
    for index, result in enumerate(comparison.results):
        values, by_class = compute_without_resampling(comparison, result, everything)
        assert {name: estimate[0] for name, estimate in metrics.overall[index].items()} == values
        for name, expected in zip(CLASS_METRICS, by_class, strict=True):
            np.testing.assert_array_equal(metrics.by_class[index][name][0], expected)
        for groups, by_group in ((comparison.sources, metrics.by_source), (comparison.folds, metrics.by_fold)):
            for group, estimates in by_group[index].items():
                values, _ = compute_without_resampling(comparison, result, groups == group)
                np.testing.assert_array_equal([estimates[name][0] for name in METRICS], [values[m] for m in METRICS])


def test_a_class_without_labels_is_nan(comparison):
    metrics = compute_metrics(comparison, resamples=5)
    assert all(np.isnan(values[:, -1]).all() for values in metrics.by_class[0].values())
    assert all(np.isfinite(values).all() for values in metrics.overall[0].values())


def test_differences_are_of_the_same_resamples(comparison):
    metrics = compute_metrics(comparison, resamples=20, seed=4)
    assert metrics.differences[0] is None
    samples = resampled_recordings(len(comparison.labels), 20, 4)
    for name in METRICS:
        first, second = ([compute_without_resampling(comparison, result, recordings)[0][name] for recordings in samples]
                         for result in comparison.results)  # fmt: skip
        value, *values_of_resamples = np.subtract(second, first)
        expected = [value, *np.percentile(values_of_resamples, (2.5, 97.5))]
        np.testing.assert_allclose(metrics.differences[1][name], expected, rtol=1e-5, atol=1e-9)


def test_equal_systems_have_no_difference_and_no_interval():
    metrics = compute_metrics(make_comparison(results=({"seed": 1}, {"seed": 1})), resamples=20)
    assert all((values == 0).all() for values in metrics.differences[1].values())
    low, high = metrics.overall[1]["F1 optimised"][1:]
    assert high - low > 0.01


def test_the_decision_rule_changes_only_the_metrics_as_predicted():
    comparison = make_comparison(results=({"seed": 1}, {"seed": 1}))
    first, second = comparison.results
    second = replace(second, predictions=second.probabilities >= 0.7)
    difference = compute_metrics(replace(comparison, results=(first, second)), resamples=5).differences[1]
    changed = {name for name, values in difference.items() if (values != 0).any()}
    assert changed == {"metric as predicted", "F1 as predicted", "classes as predicted"}


def test_weights_of_ones_own_change_the_metric_alone(comparison):
    weights = WEIGHTS.copy()
    weights[:, 3] -= 0.5
    table = tuple(map(tuple, weights.tolist()))
    changed, plain = (compute_metrics(case, 4) for case in (replace(comparison, weights=table), comparison))
    for index, result in enumerate(comparison.results):
        values, _ = compute_without_resampling(comparison, result, np.ones(len(comparison.labels), bool), weights)
        assert {name: estimate[0] for name, estimate in changed.overall[index].items()} == values
        for name in METRICS:
            same = np.array_equal(changed.overall[index][name], plain.overall[index][name])
            assert same == (name not in CHALLENGE_METRICS)


def test_a_difference_is_to_the_first_system_with_the_same_leads():
    settings = ({"system": "a"}, {"system": "b"}, {"system": "b", "leads": 2}, {"system": "a", "leads": 6},
              {"system": "c", "leads": 6})  # fmt: skip
    comparison = make_comparison(results=settings)
    assert [comparison.reference_index(result) for result in comparison.results] == [None, 0, None, None, 3]
    assert comparison.systems == ["a", "b", "c"] and comparison.lead_sets == [12, 6, 2]


def test_sources_and_folds_are_evaluated_separately(comparison):
    metrics = compute_metrics(comparison, resamples=5)
    for groups, by_group in ((comparison.sources, metrics.by_source[0]), (comparison.folds, metrics.by_fold[0])):
        assert list(by_group) == np.unique(groups).tolist()
        for group, estimates in by_group.items():
            expected = compute_without_resampling(comparison, comparison.results[0], np.flatnonzero(groups == group))[0]
            for name in METRICS:
                np.testing.assert_allclose(estimates[name][0], expected[name], rtol=1e-6)
    assert all(np.isnan(values[1:]).all() for values in metrics.by_fold[0][0].values())


def test_the_interval_of_a_source_ignores_resamples_without_it():
    comparison = make_comparison()
    sources = np.where(np.arange(150) < 2, "rare", "common")
    samples = resampled_recordings(150, 40, 0)
    assert any(not (chosen < 2).any() for chosen in samples)
    low, high = compute_metrics(replace(comparison, sources=sources), resamples=40).by_source[0]["rare"][AT_HALF][1:]
    scores = [compute_without_resampling(comparison, comparison.results[0], chosen[chosen < 2])[0][AT_HALF]
              for chosen in samples[1:] if (chosen < 2).any()]  # fmt: skip
    np.testing.assert_allclose([low, high], np.percentile(scores, (2.5, 97.5)), rtol=1e-9)


def test_perfect_predictions_score_one_in_every_resample_and_sinus_rhythm_zero():
    comparison = make_comparison()
    labels = comparison.labels
    sinus = np.zeros_like(labels)
    sinus[:, SINUS] = True
    results = [
        SystemResult("a", 12, predictions.astype(np.float32), *[predictions] * 3, 1, 1.0, 1.0)
        for predictions in (labels, sinus)
    ]
    perfect, inactive = compute_metrics(replace(comparison, results=tuple(results)), resamples=10).overall
    for name in METRICS:
        expected = labels.sum(axis=1).mean() if name in COUNT_METRICS else 1
        np.testing.assert_allclose(perfect[name][0], expected, rtol=1e-6)
        assert perfect[name][2] - perfect[name][1] == pytest.approx(0) or name in COUNT_METRICS
    for name in CHALLENGE_METRICS:
        np.testing.assert_allclose(inactive[name], 0, atol=1e-12)


@pytest.mark.slow
def test_an_interval_covers_the_true_value_at_its_nominal_rate():
    covered, score = 0, challenge_score(*draw_case(20000, 0), WEIGHTS)
    for seed in range(1, 41):
        labels, outputs = draw_case(400, seed)
        result = SystemResult("a", 12, outputs.astype(np.float32), *[outputs] * 3, 1, 1.0, 1.0)
        group = np.zeros(400, int)
        low, high = compute_metrics(Comparison(labels, group, group, (result,)), 80).overall[0][AT_HALF][1:]
        covered += low <= score <= high
    assert 34 <= covered <= 39  # 38 of 40 are expected


def draw_case(recordings, seed):
    random = np.random.default_rng(seed)
    labels = random.random((recordings, 26)) < 0.08
    return labels, labels ^ (random.random(labels.shape) < 0.03)


def test_the_same_seed_gives_the_same_estimates(comparison):
    first, second, third = (compute_metrics(comparison, 10, seed).overall[1] for seed in (1, 1, 2))
    for name in METRICS:
        np.testing.assert_array_equal(first[name], second[name])
    assert any((first[name] != third[name]).any() for name in METRICS)


def test_an_interval_ignores_samples_that_are_not_a_number():
    samples = np.array([[1.0, 0, np.nan, 2, 1], [np.nan, 1, 1, 1, 1], [1, np.nan, np.nan, np.nan, np.nan]])
    interval = estimate_interval(samples)
    np.testing.assert_allclose(interval[:, 0], [1, *np.percentile([0, 2, 1], (2.5, 97.5))])
    assert np.isnan(interval[:, 1]).all() and interval[0, 2] == 1 and np.isnan(interval[1:, 2]).all()


def test_a_class_with_probability_0_everywhere_can_be_known():
    """A gate may choose networks of other classes for all recordings."""
    outputs = np.zeros((3, 26), bool)
    result = SystemResult("a", 12, outputs.astype(np.float32), *[outputs] * 3, 1, 1.0, 1.0, ("AF", "STE"))
    assert np.array(ABBREVIATIONS)[result.known_classes].tolist() == ["AF"]


def test_patients_are_drawn_with_all_their_recordings():
    patients = np.random.default_rng(0).integers(0, 12, 50) * 7
    (counts,) = draw_resamples(50, 300, 1, patients)
    totals = np.zeros(300)
    for patient in np.unique(patients):
        drawn = counts[patients == patient]
        assert (drawn == drawn[0]).all()
        totals += drawn[0]
    assert (totals == len(np.unique(patients))).all()
    assert len(np.unique(counts.sum(axis=0))) > 1  # patients differ in their numbers of recordings


def test_each_recording_is_a_patient_without_patients():
    drawn = draw_resamples(30, 40, 2), draw_resamples(30, 40, 2, np.arange(30)[::-1].copy())
    assert sorted(map(tuple, drawn[0][0])) == sorted(map(tuple, drawn[1][0]))
