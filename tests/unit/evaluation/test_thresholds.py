"""The search by evolution. The search in steps is tested with the metric that it maximises (test_metrics)."""

import numpy as np
import pytest

from ecg.data.class_files import load_weights
from ecg.evaluation.metrics import challenge_score, class_credit, f_measures, recording_scores
from ecg.evaluation.thresholds import evolve_thresholds, find_class_thresholds, sum_scores

WEIGHTS = load_weights()[1]
RATES = np.append(np.geomspace(0.3, 0.02, 25), 0)  # the last class never occurs


def drawn(seed=0, recordings=150, skill=1.5):
    """Labels, and probabilities that tell them better than chance, some of them equal."""
    rng = np.random.default_rng(seed)
    labels = rng.random((recordings, 26)) < RATES
    logits = skill * (2 * labels - 1) + rng.normal(size=labels.shape)
    return labels, np.round(1 / (1 + np.exp(-logits)), 2)


@pytest.mark.parametrize("recordings", [1, 150, 1000])
def test_the_sum_of_scores_is_that_of_each_set_of_thresholds_alone(recordings):
    labels, probabilities = drawn(recordings=recordings)
    credit, thresholds = class_credit(labels, WEIGHTS), np.random.default_rng(1).random((40, 26))
    thresholds[0], thresholds[1] = 0, 1.1  # every class, and none
    expected = [recording_scores(labels, probabilities >= row, credit).sum() for row in thresholds]
    np.testing.assert_allclose(sum_scores(labels, probabilities, credit, thresholds), expected, rtol=1e-6, atol=1e-6)


def test_the_thresholds_of_each_class_are_the_best_of_all_by_both_measures():
    labels, probabilities = drawn()
    by_f_measure, by_balance = find_class_thresholds(labels, probabilities)
    assert by_f_measure[25] == by_balance[25] == 0.5
    for k in range(25):
        label, candidates = labels[:, k], np.unique(probabilities[:, k])
        outputs = probabilities[:, k, np.newaxis] >= candidates
        f = f_measures(np.repeat(label[:, np.newaxis], len(candidates), axis=1), outputs)
        sensitivity, specificity = outputs[label].mean(axis=0), (~outputs[~label]).mean(axis=0)
        total = np.maximum(sensitivity + specificity, 1e-9)
        balance = 2 * sensitivity * specificity / total
        for threshold, measure in ((by_f_measure[k], f), (by_balance[k], balance)):
            assert measure[candidates == threshold] == pytest.approx(np.nanmax(measure))


def test_a_class_that_all_recordings_have_is_predicted():
    labels = np.ones((4, 1), bool)
    probabilities = np.array([[0.2], [0.9], [0.4], [0.4]])
    assert find_class_thresholds(labels, probabilities)[0, 0] == 0.2


def test_evolution_is_as_good_as_all_it_begins_with_or_better():
    gains = []
    for seed in range(6):
        labels, probabilities = drawn(seed, skill=0.7)
        thresholds = evolve_thresholds(labels, probabilities, WEIGHTS, seed)
        assert thresholds.shape == (26,) and ((thresholds >= 0) & (thresholds <= 1)).all()
        known = [*np.arange(1, 99) / 100, *find_class_thresholds(labels, probabilities)]
        score, *scores = (challenge_score(labels, probabilities >= values, WEIGHTS) for values in (thresholds, *known))
        gains.append(score - max(scores))
    assert min(gains) >= -1e-6 and max(gains) > 0.01


def test_evolution_depends_on_its_seed_and_on_nothing_else():
    labels, probabilities = drawn(skill=0.7)
    first = evolve_thresholds(labels, probabilities, WEIGHTS, 3)
    np.random.default_rng(0).random(7)
    np.testing.assert_array_equal(evolve_thresholds(labels, probabilities, WEIGHTS, 3), first)
    assert (evolve_thresholds(labels, probabilities, WEIGHTS, 4) != first).any()


def test_thresholds_of_perfect_probabilities_score_1():
    labels, _ = drawn()
    thresholds = evolve_thresholds(labels, labels * 1.0, WEIGHTS)
    assert challenge_score(labels, labels * 1.0 >= thresholds, WEIGHTS) == pytest.approx(1)


def test_probabilities_that_are_not_finite_are_refused():
    labels, probabilities = drawn(recordings=4)
    probabilities[0, 0] = np.nan
    with pytest.raises(ValueError, match="1 of the probabilities are not finite"):
        evolve_thresholds(labels, probabilities, WEIGHTS)
