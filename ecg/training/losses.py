"""The losses: one value a label, so that a mask is a sample weight of the labels' shape, and how two are joined.

All take labels and probabilities (B, K), and are averaged over the labels that are not masked: by their weights.
"""

import keras
import numpy as np
from keras import ops

SMALLEST = 1e-7  # keeps the logarithm finite


def log(x):
    """Return the logarithm of probabilities, finite at 0."""
    return ops.log(ops.maximum(x, SMALLEST))


class MaskableLoss(keras.losses.Loss):
    """A loss of each label: `positive` where it is present, `negative` where it is absent, both of p (B, K)."""

    def __init__(self, reduction="mean_with_sample_weight"):
        super().__init__(reduction=reduction)

    def call(self, y_true, y_pred):
        """Return the loss of each label: (B, K)."""
        y_true = ops.cast(y_true, y_pred.dtype)
        return y_true * self.positive(y_pred) + (1.0 - y_true) * self.negative(y_pred)


class FocalLoss(MaskableLoss):
    """The loss of round 1 (Cai et al. 2021, after Lin et al. 2017): absent labels weigh a tenth."""

    def positive(self, p):
        """Return -(1 - p)^2 log p."""
        return -((1.0 - p) ** 2) * log(p)

    def negative(self, p):
        """Return -0.1 p^2 log(1 - p)."""
        return -0.1 * p**2 * log(1.0 - p)


class CrossEntropy(MaskableLoss):
    """Cross-entropy, by which probabilities are what they say: of Zhao et al. 2022, of a gate, and of relabelling."""

    def positive(self, p):
        """Return -log p."""
        return -log(p)

    def negative(self, p):
        """Return -log(1 - p)."""
        return -log(1.0 - p)


class AsymmetricLoss(MaskableLoss):
    """The loss of round 2 (Cai et al. 2021, modified from Ben-Baruch et al. 2020): 0 near the right answer.

    The paper prints log(1 - p_pos) for absent labels, which is infinite from p = 0.99 on; its source has p_neg.
    """

    def positive(self, p):
        """Return -(1 - q) log q, where q is p raised by 0.01, to 1 at the most."""
        q = 1.0 - ops.maximum(0.99 - p, 0.0)
        return -(1.0 - q) * log(q)

    def negative(self, p):
        """Return -q^2 log(1 - q), where q is p lowered by 0.05, to 0 at the least."""
        q = ops.maximum(p - 0.05, 0.0)
        return -(q**2) * log(1.0 - q)


class SquaredError(keras.losses.Loss):
    """The squared error of numbers (B, K), such as those of peaks on a grid (ecg.data.wave_peaks), averaged by their weights.

    Li et al. 2021 give the weights, but not what the sum is divided by. By all numbers, most of which weigh nothing,
    the share that the paper gives it would count for next to nothing.
    """

    def __init__(self):
        super().__init__(reduction="mean_with_sample_weight")

    def call(self, y_true, y_pred):
        """Return the squared error of each number: (B, K)."""
        return (y_pred - ops.cast(y_true, y_pred.dtype)) ** 2


class WeightedSumLoss(keras.losses.Loss):
    """The sum of several losses, each of its own columns and times its share.

    Labels, answers and weights are (B, sum of `widths`): the first loss has the first of the widths as its columns, the
    second those after them, and so on. Of a loss whose share is 0 nothing is computed, and its columns may hold
    anything. Li et al. 2021: shares (0, 1) of labels and peaks for pre-training, then (1, 0.1).
    """

    def __init__(self, losses, widths, shares):
        super().__init__(reduction="sum")  # of what the losses have averaged
        if not len(losses) == len(widths) == len(shares) or not any(shares):
            raise ValueError(f"expected a width and a share of each loss, not all 0, got {len(losses)} losses, "
                             f"widths {widths} and shares {shares}")  # fmt: skip
        self.losses, self.widths, self.loss_weights = tuple(losses), tuple(widths), tuple(shares)

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Return the sum, a scalar."""
        if y_pred.shape[-1] != sum(self.widths):
            raise ValueError(f"expected answers of {sum(self.widths)} columns, got {y_pred.shape[-1]}")
        total, first = 0.0, 0
        for loss, width, share in zip(self.losses, self.widths, self.loss_weights, strict=True):
            part, first = (..., slice(first, first + width)), first + width
            if share:
                weights = None if sample_weight is None else sample_weight[part]
                total = total + share * loss(y_true[part], y_pred[part], weights)
        return total

    def with_each(self, change):
        """Return the same of losses that a function makes of these."""
        return WeightedSumLoss([change(loss) for loss in self.losses], self.widths, self.loss_weights)


class MarginLoss(MaskableLoss):
    """The loss of Li et al. 2021, after Ben-Baruch et al. 2020: focusing exponents 1 and 4, a margin of 0.05."""

    def positive(self, p):
        """Return -(1 - p) log p."""
        return -(1.0 - p) * log(p)

    def negative(self, p):
        """Return -q^4 log(1 - q), where q is p lowered by 0.05, to 0 at the least."""
        q = ops.maximum(p - 0.05, 0.0)
        return -(q**4) * log(1.0 - q)


class CategoricalCrossEntropy(MaskableLoss):
    """Cross-entropy of one class of many: the mean over recordings of -log p of the class that is present.

    Each recording has K labels, so that the mean over labels takes K times that.
    """

    def positive(self, p):
        """Return -K log p."""
        return -log(p) * ops.cast(ops.shape(p)[-1], p.dtype)

    def negative(self, p):
        """Return 0."""
        return ops.zeros_like(p)


class StreamingLoss:
    """What a loss is for all of a set that comes in parts, so that not all answers need be in memory at once."""

    def __init__(self, loss):
        self.parts = [(loss, slice(None), 1.0)]
        if isinstance(loss, WeightedSumLoss):
            ends = np.cumsum(loss.widths).tolist()
            columns = [slice(end - width, end) for end, width in zip(ends, loss.widths, strict=True)]
            self.parts = [each for each in zip(loss.losses, columns, loss.loss_weights, strict=True) if each[2]]
        self.totals, self.weights = np.zeros((2, len(self.parts)))

    def add(self, y_true, y_pred, sample_weight):
        """Add a part: labels, answers and weights (B, K)."""
        for place, (loss, columns, _) in enumerate(self.parts):
            weights = sample_weight[:, columns]
            each = np.asarray(ops.convert_to_numpy(loss.call(y_true[:, columns], y_pred[:, columns])))
            self.totals[place] += (each * weights).sum(dtype=np.float64)
            self.weights[place] += weights.sum(dtype=np.float64) if averaged_by_weight(loss) else weights.size

    @property
    def value(self):
        """The loss of all that was added, 0 where nothing of it counts."""
        means = self.totals / np.where(self.weights > 0, self.weights, 1)
        return float(means @ [share for _, _, share in self.parts])


def averaged_by_weight(loss):
    """Return whether a loss is divided by the sum of the weights, and not by how many labels there are."""
    return loss.reduction == "mean_with_sample_weight"


# By the names that settings have for them.
LOSSES = {
    "focal": FocalLoss,
    "asymmetric": AsymmetricLoss,
    "cross-entropy": CrossEntropy,
    "margin": MarginLoss,
    "categorical": CategoricalCrossEntropy,
}
