import numpy as np
import pytest
from sklearn.metrics import roc_curve

from ecg.evaluation.bootstrap import draw_resamples
from ecg.evaluation.operating_points import estimate_operating_point, find_operating_points


def draw_class(seed, n=80, share=0.3, digits=2):
    """Labels of a class and scores with many equal ones."""
    random = np.random.default_rng(seed)
    labels = random.random(n) < share
    return labels, np.round(1 / (1 + np.exp(-2 * labels - random.normal(size=n))), digits).astype(np.float32)


def find_in_curve(labels, scores, specificity):
    """Sensitivity at a specificity by scikit-learn's ROC curve."""
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    return true[1 - false >= specificity - 1e-9].max()


def once(labels):
    return np.ones((len(labels), 1), np.float32)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("specificity", [0.5, 0.9, 0.95, 1.0])
def test_the_sensitivity_is_that_of_the_roc_curve(seed, specificity):
    labels, scores = draw_class(seed)
    threshold, reached, sensitivity = find_operating_points(labels, scores, specificity, once(labels))[:, 0]
    assert sensitivity == pytest.approx(find_in_curve(labels, scores, specificity), abs=1e-12)
    if sensitivity:
        assert threshold in scores[labels]
        assert reached == (scores[~labels] < threshold).mean() >= specificity
        assert sensitivity == (scores[labels] >= threshold).mean()
        lower = scores[labels][scores[labels] < threshold]  # would be more sensitive
        assert not lower.size or (scores[~labels] < lower.max()).mean() < specificity


@pytest.mark.parametrize("specificity", [0.9, 0.95])
def test_a_resample_is_the_same_as_its_recordings_repeated(specificity):
    labels, scores = draw_class(7)
    (counts,) = draw_resamples(len(labels), 40, 1)
    points = find_operating_points(labels, scores, specificity, counts)
    for drawn, point in zip(counts.T.astype(int), points.T, strict=True):
        repeated = np.repeat(labels, drawn), np.repeat(scores, drawn)
        np.testing.assert_array_equal(point, find_operating_points(*repeated, specificity, once(repeated[0]))[:, 0])


def test_intervals_are_percentiles_over_the_resamples():
    labels, scores = draw_class(3)
    counts = draw_resamples(len(labels), 200, 2)
    estimate = estimate_operating_point(labels, scores, 0.9, counts)
    assert estimate.shape == (3, 3)
    np.testing.assert_array_equal(estimate[:, 0], find_operating_points(labels, scores, 0.9, once(labels))[:, 0])
    resampled = find_operating_points(labels, scores, 0.9, counts[0])[2]
    np.testing.assert_allclose(estimate[2, 1:], np.percentile(resampled, [2.5, 97.5]))


def test_a_share_such_as_0_1_of_ten_negatives_is_one_of_them():
    labels = np.array([True, *[False] * 10])
    scores = np.array([0.5, 0.9, *[0.1] * 9], np.float32)  # one false positive of ten
    assert find_operating_points(labels, scores, 0.9, once(labels))[:, 0].tolist() == [0.5, 0.9, 1.0]


def test_there_is_no_threshold_if_no_positive_reaches_the_specificity():
    labels, scores = np.array([True, False, False]), np.array([0.2, 0.6, 0.7])
    threshold, specificity, sensitivity = find_operating_points(labels, scores, 0.9, once(labels))[:, 0]
    assert np.isnan(threshold) and (specificity, sensitivity) == (1, 0)


@pytest.mark.parametrize("labels", [[True] * 4, [False] * 4, []])
def test_nothing_is_defined_without_positives_or_negatives(labels):
    labels = np.array(labels, bool)
    scores = np.linspace(0, 1, len(labels))
    assert np.isnan(find_operating_points(labels, scores, 0.9, np.ones((len(labels), 3), np.float32))).all()


def test_a_resample_without_positives_is_not_defined():
    labels, scores = np.array([True, False, False]), np.array([0.9, 0.1, 0.2])
    points = find_operating_points(labels, scores, 0.9, np.array([[0, 1, 2], [1, 0, 1], [2, 0, 0]], np.float32))
    assert np.isnan(points[:, :2]).all() and not np.isnan(points[:, 2]).any()
