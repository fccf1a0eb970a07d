import numpy as np
import pytest
from scipy.special import expit, logit

from ecg.evaluation.calibration import (
    SHRINKAGE,
    Calibration,
    calibration_error,
    fit_calibration,
    reliability_table,
    to_logits,
)


def draw_case(seed=0, n_recordings=4000, slope=0.6, intercepts=(-1.0, 0.0, 0.5, -2.0)):
    """Labels, and probabilities that this calibration makes right."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-1, 2, (n_recordings, len(intercepts)))
    labels = generator.random(logits.shape) < expit(slope * logits + intercepts)
    return labels, expit(logits)


def penalised_loss(calibration, labels, probabilities):
    intercepts = np.array(calibration.intercepts)
    p = calibration.apply(probabilities)
    likelihood = np.log(np.where(labels, p, 1 - p)).sum()
    return SHRINKAGE / 2 * ((intercepts - intercepts.mean()) ** 2).sum() - likelihood


def test_the_parameters_of_miscalibrated_probabilities_are_recovered():
    labels, probabilities = draw_case()
    calibration = fit_calibration(labels, probabilities)
    assert calibration.slope == pytest.approx(0.6, abs=0.03)
    assert calibration.intercepts == pytest.approx((-1.0, 0.0, 0.5, -2.0), abs=0.15)
    calibrated = calibration.apply(probabilities)
    assert calibration_error(labels, calibrated) < 0.02 < 0.09 < calibration_error(labels, probabilities)
    np.testing.assert_allclose(calibrated.mean(axis=0), labels.mean(axis=0), atol=0.01)


def test_no_neighbouring_parameters_fit_better():
    labels, probabilities = draw_case(seed=1, n_recordings=150)
    calibration, generator = fit_calibration(labels, probabilities), np.random.default_rng(0)
    lowest = penalised_loss(calibration, labels, probabilities)
    for _ in range(200):
        slope, *intercepts = np.array([calibration.slope, *calibration.intercepts]) + generator.normal(0, 0.01, 5)
        assert penalised_loss(Calibration(slope, tuple(intercepts)), labels, probabilities) > lowest - 1e-9


def test_a_class_without_labels_has_the_mean_intercept_of_the_others():
    labels, probabilities = draw_case(seed=2)
    masks = np.ones(labels.shape)
    masks[:, 3] = 0
    intercepts = fit_calibration(labels, probabilities, masks).intercepts
    assert intercepts[3] == pytest.approx(np.mean(intercepts[:3]), abs=1e-4)


def test_the_order_of_recordings_changes_no_bit():
    labels, probabilities = draw_case(seed=4, n_recordings=500)
    probabilities = probabilities.astype(np.float32).round(2)  # with ties
    masks = np.random.default_rng(1).random(labels.shape).round(1)
    order = np.random.default_rng(0).permutation(len(labels))
    assert fit_calibration(labels, probabilities) == fit_calibration(labels[order], probabilities[order])
    assert fit_calibration(labels, probabilities, masks) == fit_calibration(
        labels[order], probabilities[order], masks[order]
    )


def test_without_any_label_nothing_is_changed():
    labels, probabilities = draw_case(seed=5, n_recordings=10)
    assert fit_calibration(labels, probabilities, np.zeros(labels.shape)) == Calibration(1.0, (0.0,) * 4)


def test_masked_labels_do_not_count():
    labels, probabilities = draw_case(seed=3, n_recordings=300)
    masks = (np.random.default_rng(0).random(len(labels)) < 0.5)[:, np.newaxis] * np.ones(4)
    rows = masks[:, 0] > 0
    masked, chosen = fit_calibration(labels, probabilities, masks), fit_calibration(labels[rows], probabilities[rows])
    assert masked.intercepts == pytest.approx(chosen.intercepts, abs=1e-5)


def test_certain_and_wrong_probabilities_give_finite_results():
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], bool)
    for probabilities in (labels.astype(np.float32), 1 - labels.astype(np.float32), np.full((4, 2), 0.5)):
        calibrated = fit_calibration(labels, probabilities).apply(probabilities)
        assert np.isfinite(calibrated).all() and ((calibrated > 0) & (calibrated < 1)).all()
    with pytest.raises(ValueError, match="1 of the probabilities are not finite"):
        fit_calibration(labels, np.where(np.arange(8).reshape(4, 2) == 3, np.nan, 0.5))


def test_numbers_that_cannot_be_are_refused():
    for slope, intercepts in ((0.0, (0.0,)), (-1.0, (0.0,)), (np.nan, (0.0,)), (1.0, (np.inf,))):
        with pytest.raises(ValueError, match="positive slope and finite intercepts"):
            Calibration(slope, intercepts)


def test_slope_1_and_intercepts_0_change_nothing():
    probabilities = np.random.default_rng(0).random((20, 3))
    np.testing.assert_allclose(Calibration(1.0, (0.0,) * 3).apply(probabilities), probabilities, rtol=1e-12)
    assert to_logits(np.float32(1)) == pytest.approx(logit(1 - 1e-7))


def test_the_reliability_table_counts_each_label_once():
    labels, probabilities = np.array([0, 1, 1, 0, 1]), np.array([0.0, 0.05, 0.55, 0.51, 1.0])
    table = reliability_table(labels, probabilities)
    assert table[:, 0].tolist() == [2, 0, 0, 0, 0, 2, 0, 0, 0, 1]
    np.testing.assert_allclose(table[[0, 5, 9], 1:], [[0.025, 0.5], [0.53, 0.5], [1.0, 1.0]])
    assert np.isnan(table[1, 1:]).all()
    assert calibration_error(labels, probabilities) == pytest.approx((2 * 0.475 + 2 * 0.03) / 5)
