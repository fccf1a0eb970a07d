"""Calibrate probabilities: one slope for all classes, and an intercept for each.

A calibrated probability is sigmoid(slope * logit(p) + intercept of the class). This is Platt scaling whose intercepts
are shrunk to their mean. A class with few positives, or none, has nearly the intercept of the others.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

SHRINKAGE = 5.0  # penalty of the squared distance of an intercept from their mean, halved
SMALLEST = 1e-7  # probabilities are clipped to a distance of this from 0 and 1, because a float32 can be either
SLOPES = (0.01, 100.0)  # limits of the slope, which could be infinite if the classes are separated without error


@dataclass(frozen=True)
class Calibration:
    """A map of probabilities to calibrated ones.

    Attributes:
        slope: Factor of all logits.
        intercepts: Added to the logits of each class, (K,).

    Raises:
        ValueError: A number is not finite, or the slope is not positive.
    """

    slope: float
    intercepts: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (np.isfinite([self.slope, *self.intercepts]).all() and self.slope > 0):
            raise ValueError(
                f"expected a positive slope and finite intercepts, received {self.slope}, {self.intercepts}"
            )

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities, (..., K) float64, given (..., K)."""
        return expit(self.slope * to_logits(probabilities) + np.array(self.intercepts))


def to_logits(probabilities: np.ndarray) -> np.ndarray:
    """Return the logits of probabilities, finite also for 0 and 1."""
    return logit(np.clip(np.asarray(probabilities, np.float64), SMALLEST, 1 - SMALLEST))


def fit_calibration(labels: np.ndarray, probabilities: np.ndarray, masks: np.ndarray | None = None) -> Calibration:
    """Fit a calibration by maximum likelihood, with shrunken intercepts.

    The loss is the negative log likelihood, summed over recordings and classes, plus SHRINKAGE / 2 times the squared
    distances of the intercepts from their mean. It is convex, so that the result is unique. It does not depend on the
    order of the recordings, to the last bit.

    Args:
        labels: Labelled classes, (N, K).
        probabilities: Probability of each class for recordings that the networks were not trained on, (N, K).
        masks: Weight of each label, (N, K); all 1 by default. A class without weight gets the mean intercept.

    Raises:
        ValueError: A probability is not finite.
    """
    labels, logits = np.asarray(labels, np.float64), to_logits(probabilities)
    if not np.isfinite(logits).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(logits))} of the probabilities are not finite")
    weights = np.ones_like(logits) if masks is None else np.asarray(masks, np.float64)
    is_fitted = (weights != 0).sum(axis=0) > 0
    if not is_fitted.any():
        return Calibration(1.0, (0.0,) * len(is_fitted))
    labels, logits, weights = (array[:, is_fitted] for array in (labels, logits, weights))
    order = np.lexsort((weights, labels, logits), axis=0)  # sums then do not depend on the order of recordings
    labels, logits, weights = (np.take_along_axis(array, order, axis=0) for array in (labels, logits, weights))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, intercepts = parameters[0], parameters[1:]
        shifted, distances = slope * logits + intercepts, intercepts - intercepts.mean()
        likelihoods = weights * (np.logaddexp(0, shifted) - labels * shifted)
        errors = weights * (expit(shifted) - labels)
        gradient = np.concatenate([[(errors * logits).sum()], errors.sum(axis=0) + SHRINKAGE * distances])
        return likelihoods.sum() + SHRINKAGE / 2 * (distances**2).sum(), gradient

    start = np.concatenate([[1.0], np.zeros(logits.shape[1])])
    limits = [SLOPES, *[(None, None)] * logits.shape[1]]
    options = {"maxiter": 10_000, "ftol": 1e-14, "gtol": 1e-8}
    optimum = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits, options=options).x
    intercepts = np.full(len(is_fitted), optimum[1:].mean())
    intercepts[is_fitted] = optimum[1:]
    return Calibration(float(optimum[0]), tuple(intercepts.tolist()))


def reliability_table(labels: np.ndarray, probabilities: np.ndarray, n_bins: int = 10) -> np.ndarray:
    """Compare probabilities with the share of positives, in bins of equal width.

    Args:
        labels: Labelled classes, (...) bool.
        probabilities: Their probabilities, of the same shape.
        n_bins: Number of bins from 0 to 1.

    Returns:
        For each bin the number of labels, their mean probability and the share of positives, (n_bins, 3). The last two
        are NaN in an empty bin.
    """
    labels, probabilities = np.ravel(labels), np.ravel(np.asarray(probabilities, np.float64))
    bins = np.minimum((probabilities * n_bins).astype(int), n_bins - 1)
    counts, *sums = (np.bincount(bins, values, n_bins) for values in (None, probabilities, labels.astype(np.float64)))
    means = [np.divide(total, counts, out=np.full(n_bins, np.nan), where=counts > 0) for total in sums]
    return np.column_stack([counts, *means])


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, n_bins: int = 10) -> float:
    """Return the expected calibration error (Guo et al. 2017) over all labels.

    It is the mean distance of predicted probability and share of positives over the bins of `reliability_table`,
    weighted by their numbers of labels.
    """
    counts, predicted, observed = reliability_table(labels, probabilities, n_bins).T
    filled = counts > 0
    return float((counts * abs(predicted - observed))[filled].sum() / counts.sum())
