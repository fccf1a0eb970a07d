from dataclasses import replace

import numpy as np
import pytest
from helpers import WEIGHTS
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from ecg.evaluation.bootstrap import draw_resamples
from ecg.evaluation.metrics import challenge_score
from ecg.evaluation.subgroups import (
    FEWEST_CLASSES,
    FEWEST_OF_CLASS,
    FEWEST_RECORDINGS,
    METRIC,
    SUBGROUP_SCORES,
    ScoredRecordings,
    estimate_scores,
)


def draw_recordings(n=120, seed=0):
    """Recordings with rare and frequent classes, of which three are not trained and one is not scored."""
    random = np.random.default_rng(seed)
    labels = random.random((n, 27)) < np.geomspace(0.01, 0.4, 27)
    probabilities = np.round(1 / (1 + np.exp(1 - 2 * labels - random.normal(size=labels.shape))), 2)
    is_trained = np.ones(27, bool)
    is_trained[[20, 22, 24]] = False
    return ScoredRecordings(labels, probabilities, probabilities >= 0.5, is_trained, WEIGHTS)


def score_by_sklearn(recordings):
    """The four scores, class by class."""
    counts = recordings.labels.sum(axis=0)
    enough = (counts >= FEWEST_OF_CLASS) & (counts <= len(recordings.labels) - FEWEST_OF_CLASS)
    classes = np.flatnonzero(enough & recordings.is_trained)
    labels, probabilities, outputs = (
        table[:, classes].T for table in (recordings.labels, recordings.probabilities, recordings.outputs)
    )
    metric = challenge_score(recordings.labels[:, :26], recordings.outputs[:, :26], WEIGHTS)
    areas = [
        np.mean([score(*pair) for pair in zip(labels, probabilities, strict=True)])
        for score in (roc_auc_score, average_precision_score)
    ]
    return [metric, *areas, np.mean([f1_score(*pair) for pair in zip(labels, outputs, strict=True)])]


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_scikit_learn_over_the_counted_classes(seed):
    recordings = draw_recordings(seed=seed)
    estimates = estimate_scores(recordings, [])
    assert tuple(estimates) == SUBGROUP_SCORES
    np.testing.assert_allclose([values[0] for values in estimates.values()], score_by_sklearn(recordings), atol=1e-12)
    assert all(np.isnan(values[1:]).all() for values in estimates.values())


def test_intervals_are_percentiles_over_recordings_drawn_with_replacement():
    recordings = draw_recordings(60)
    counts = draw_resamples(60, 50, 3)
    estimates = estimate_scores(recordings, counts)
    counted = recordings.counted_classes
    scores = []
    for drawn in counts[0].T.astype(int):
        resample = recordings.subset(np.repeat(np.arange(60), drawn))
        labels = resample.labels[:, counted].T
        present = [index for index, label in enumerate(labels) if label.any()]
        classes = np.flatnonzero(counted)
        scores.append([
            challenge_score(resample.labels[:, :26], resample.outputs[:, :26], WEIGHTS),
            np.mean([average_precision_score(labels[index], resample.probabilities[:, classes[index]])
                     for index in present]),
        ])  # fmt: skip
    for name, values in zip((METRIC, "AUPRC"), np.array(scores).T, strict=True):
        np.testing.assert_allclose(estimates[name][1:], np.percentile(values, [2.5, 97.5]), atol=1e-12)


def test_intervals_shrink_with_the_number_of_recordings_and_hold_the_value():
    widths = []
    for n in (100, 1600):
        estimates = estimate_scores(draw_recordings(n), draw_resamples(n, 300, 0))
        for value, low, high in estimates.values():
            assert low <= value <= high
        widths.append([high - low for _, low, high in estimates.values()])
    assert (np.array(widths[1]) < 0.5 * np.array(widths[0])).all()


def test_groups_with_few_recordings_or_classes_have_no_scores():
    recordings = draw_recordings()
    assert recordings.are_enough()
    assert not recordings.subset(np.arange(FEWEST_RECORDINGS - 1)).are_enough()
    first, second = np.flatnonzero(recordings.counted_classes)[:FEWEST_CLASSES]
    assert recordings.counted_classes.sum() > FEWEST_CLASSES
    few = np.zeros(27, bool)
    few[first] = True
    assert not replace(recordings, is_trained=few).are_enough()
    few[second] = True
    assert replace(recordings, is_trained=few).are_enough()


def test_a_class_counts_if_it_is_trained_and_enough_recordings_have_it_and_lack_it():
    recordings = draw_recordings()
    labels = np.zeros_like(recordings.labels)
    for column, count in enumerate((0, FEWEST_OF_CLASS - 1, FEWEST_OF_CLASS, 120 - FEWEST_OF_CLASS, 120)):
        labels[:count, column] = True
    labels[: FEWEST_OF_CLASS + 1, 20] = True  # not trained
    assert np.flatnonzero(replace(recordings, labels=labels).counted_classes).tolist() == [2, 3]
