"""Losses per label. Pass a mask as `sample_weight` of shape (B, K).

All take labels and probabilities (B, K); CreditLoss takes logits, too. By default, the sum of the weighted losses is
divided by the sum of the weights. With `reduction="sum_over_batch_size"` it is divided by the number of labels, masked
ones included.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

SMALLEST = 1e-7  # keeps the logarithm finite
Tensor = Any  # an array or tensor of any backend


def log(x: Tensor) -> Tensor:
    """Return the logarithm of probabilities, finite at 0."""
    return ops.log(ops.maximum(x, SMALLEST))


class MaskableLoss(keras.losses.Loss):
    """A loss that is computed for each label, of its probability p (B, K)."""

    outputs_per_label = 1  # numbers that a network gives for each label

    def __init__(self, reduction: str = "mean_with_sample_weight") -> None:
        super().__init__(reduction=reduction)

    def __reduce__(self) -> tuple:
        """Pickle the arguments. Keras would look for the class among its own."""
        return type(self), (*self.parameters, self.reduction)

    @classmethod
    def for_labels(cls, targets: np.ndarray, masks: np.ndarray, weights: np.ndarray) -> "MaskableLoss":
        """Return the loss for a training set.

        Args:
            targets: Labels of the training recordings as 0 or 1, (n, K).
            masks: Weights of the labels, (n, K).
            weights: Credit of each prediction in the metric, (K, K), labels by row.
        """
        return cls()

    @property
    def parameters(self) -> tuple[np.ndarray, ...]:
        """Arrays that the loss depends on, the first arguments of its class."""
        return ()

    def call_masked(self, y_true: Tensor, y_pred: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of each label, (B, K), not yet weighted by the masks."""
        return self.call(y_true, y_pred)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the loss of each label: (B, K)."""
        y_true = ops.cast(y_true, y_pred.dtype)
        return y_true * self.positive(y_pred) + (1.0 - y_true) * self.negative(y_pred)

    def positive(self, p: Tensor) -> Tensor:
        """Return the loss of a present label."""
        raise NotImplementedError

    def negative(self, p: Tensor) -> Tensor:
        """Return the loss of an absent label."""
        raise NotImplementedError


class FocalLoss(MaskableLoss):
    """Loss of round 1 (Cai et al. 2021, after Lin et al. 2017)."""

    def positive(self, p: Tensor) -> Tensor:
        """Return -(1 - p)^2 log p."""
        return -((1.0 - p) ** 2) * log(p)

    def negative(self, p: Tensor) -> Tensor:
        """Return -0.1 p^2 log(1 - p)."""
        return -0.1 * p**2 * log(1.0 - p)


class CrossEntropy(MaskableLoss):
    """Binary cross-entropy, for Zhao et al. 2022, gates and relabelling."""

    def positive(self, p: Tensor) -> Tensor:
        """Return -log p."""
        return -log(p)

    def negative(self, p: Tensor) -> Tensor:
        """Return -log(1 - p)."""
        return -log(1.0 - p)


class AsymmetricLoss(MaskableLoss):
    """Loss of round 2 (Cai et al. 2021, modified from Ben-Baruch et al. 2020).

    It is 0 if p differs from the label by at most 0.01 (present) or 0.05 (absent). The paper prints log(1 - p_pos) for
    absent labels. It is infinite for p >= 0.99. The authors' code uses p_neg.
    """

    def positive(self, p: Tensor) -> Tensor:
        """Return -(1 - q) log q with q = min(p + 0.01, 1)."""
        q = 1.0 - ops.maximum(0.99 - p, 0.0)
        return -(1.0 - q) * log(q)

    def negative(self, p: Tensor) -> Tensor:
        """Return -q^2 log(1 - q) with q = max(p - 0.05, 0)."""
        q = ops.maximum(p - 0.05, 0.0)
        return -(q**2) * log(1.0 - q)


class MarginLoss(MaskableLoss):
    """Loss of Li et al. 2021, after Ben-Baruch et al. 2020.

    The focusing exponents are 1 and 4, the margin is 0.05.
    """

    def positive(self, p: Tensor) -> Tensor:
        """Return -(1 - p) log p."""
        return -(1.0 - p) * log(p)

    def negative(self, p: Tensor) -> Tensor:
        """Return -q^4 log(1 - q) with q = max(p - 0.05, 0)."""
        q = ops.maximum(p - 0.05, 0.0)
        return -(q**4) * log(1.0 - q)


class CategoricalCrossEntropy(MaskableLoss):
    """Categorical cross-entropy.

    It is the mean over recordings of -log p of the class that is present. Each recording has K labels, so that the mean
    over labels needs the factor K.
    """

    def positive(self, p: Tensor) -> Tensor:
        """Return -K log p."""
        return -log(p) * ops.cast(ops.shape(p)[-1], p.dtype)

    def negative(self, p: Tensor) -> Tensor:
        """Return 0."""
        return ops.zeros_like(p)


class CreditLoss(MaskableLoss):
    """Loss of Nejedly et al. 2021, of a network with two heads.

    Cross-entropy of the logits, whose present labels count more, plus the mean of 4 p (1 - p), minus the Challenge's
    credit: the sum over true classes j and classes k of weights[j, k] p_k, divided by the sum over the classes of
    L + p - L p, where L is the label. The original sums the credit over a batch of 128 recordings. Here, the mean
    credit of a recording counts 128 times. For a full batch both are the same, but the mean does not depend on the
    size of the batch, which is smaller on few recordings. A masked label counts in no term.

    Args:
        positive_weights: Factor of the cross-entropy of present labels, by class, (K,).
        weights: Credit of each prediction, (K, K), labels by row.
        reduction: See `MaskableLoss`.
    """

    outputs_per_label = 2
    batch = 128  # recordings over which the original sums

    def __init__(
        self, positive_weights: np.ndarray, weights: np.ndarray, reduction: str = "mean_with_sample_weight"
    ) -> None:
        super().__init__(reduction)
        self.positive_weights, self.weights = (np.asarray(array, np.float32) for array in (positive_weights, weights))

    @classmethod
    def for_labels(cls, targets: np.ndarray, masks: np.ndarray, weights: np.ndarray) -> "CreditLoss":
        """Return the loss for a training set; see `MaskableLoss.for_labels`.

        A present label counts as often as there are absent ones for each present one. A class that is never present
        gets the largest weight of the others.
        """
        positives = (targets * masks).sum(axis=0, dtype=np.float64)
        negatives = masks.sum(axis=0, dtype=np.float64) - positives
        ratios = np.divide(negatives, positives, out=np.zeros_like(positives), where=positives > 0)
        return cls(np.where(positives > 0, ratios, ratios.max()), weights)

    @property
    def parameters(self) -> tuple[np.ndarray, ...]:
        """Positive weights and credits."""
        return self.positive_weights, self.weights

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the mean loss of labels (B, K), outputs (B, 2 K) and masks (B, K)."""
        if sample_weight is not None:
            y_true, y_pred = self.hide_masked(y_true, y_pred, sample_weight)
        return super().__call__(y_true, y_pred, sample_weight)

    def call_masked(self, y_true: Tensor, y_pred: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of each label, without credit for masked ones."""
        return self.call(*self.hide_masked(y_true, y_pred, masks))

    def hide_masked(self, y_true: Tensor, y_pred: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels and outputs in which masked classes are absent: p = 0."""
        shown = ops.cast(ops.convert_to_tensor(masks) > 0, y_pred.dtype)
        return ops.cast(y_true, y_pred.dtype) * shown, y_pred * ops.concatenate([shown, ops.ones_like(shown)], axis=1)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the loss of each label: (B, K).

        Args:
            y_true: Labels, (B, K).
            y_pred: Probabilities, then logits, (B, 2 K).
        """
        y_true = ops.cast(y_true, y_pred.dtype)
        p, logits = ops.split(y_pred, 2, axis=1)
        cross_entropy = y_true * self.positive_weights * ops.softplus(-logits) + (1.0 - y_true) * ops.softplus(logits)
        union = ops.sum(y_true + p - y_true * p, axis=1, keepdims=True)
        credit = p * ops.matmul(y_true, self.weights) / (union + SMALLEST)
        # The mean over K classes of a recording: hence the factor K.
        return cross_entropy + 4.0 * p * (1.0 - p) - self.batch * len(self.positive_weights) * credit


class SquaredError(MaskableLoss):
    """Squared error of encoded wave peaks (B, K), averaged by their weights.

    Li et al. 2021 give the weights, but not the divisor of the sum. Divided by the number of all values, most with
    weight 0, the paper's share of this loss would be negligible.
    """

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the squared error of each number: (B, K)."""
        return (y_pred - ops.cast(y_true, y_pred.dtype)) ** 2


class WeightedSumLoss(keras.losses.Loss):
    """A weighted sum of losses. Each has its own columns.

    Li et al. 2021 have weights (0, 1) of labels and wave peaks in pre-training, then (1, 0.1).

    Args:
        losses: The losses.
        widths: Number of columns of each, in their order.
        loss_weights: Weight of each. A loss of weight 0 is not computed, and its columns can hold anything.
    """

    def __init__(self, losses: Sequence[keras.Loss], widths: Sequence[int], loss_weights: Sequence[float]) -> None:
        super().__init__(reduction="sum")  # each loss averages by itself
        if not len(losses) == len(widths) == len(loss_weights) or not any(loss_weights):
            raise ValueError(f"expected a width and a weight for each loss, not all 0, got {len(losses)} losses, "
                             f"widths {widths} and weights {loss_weights}")  # fmt: skip
        self.losses, self.widths, self.loss_weights = tuple(losses), tuple(widths), tuple(loss_weights)
        columns = [slice(end - width, end) for end, width in zip(np.cumsum(widths).tolist(), widths, strict=True)]
        self.terms = [term for term in zip(losses, columns, loss_weights, strict=True) if term[-1]]

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor) -> Tensor:
        """Return the sum, a scalar, of labels, outputs and weights (B, sum of `widths`)."""
        if y_pred.shape[-1] != sum(self.widths):
            raise ValueError(f"expected outputs of {sum(self.widths)} columns, got {y_pred.shape[-1]}")
        return sum(
            (loss_weight * loss(y_true[:, columns], y_pred[:, columns], sample_weight[:, columns])
             for loss, columns, loss_weight in self.terms), 0.0
        )  # fmt: skip

    def map_losses(self, transform: Callable[[keras.Loss], keras.Loss]) -> "WeightedSumLoss":
        """Return a copy in which `transform` is applied to each loss."""
        return WeightedSumLoss([transform(loss) for loss in self.losses], self.widths, self.loss_weights)


class StreamingLoss:
    """A loss over a data set that is added in batches."""

    def __init__(self, loss: keras.Loss) -> None:
        self.terms = loss.terms if isinstance(loss, WeightedSumLoss) else [(loss, slice(None), 1.0)]
        self.totals, self.weights = np.zeros((2, len(self.terms)))

    def add(self, y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray) -> None:
        """Add a batch of labels, outputs and weights, (B, K) each."""
        for index, (loss, columns, _) in enumerate(self.terms):
            weights = sample_weight[:, columns]
            losses = loss.call_masked(y_true[:, columns], y_pred[:, columns], weights)
            values = np.asarray(ops.convert_to_numpy(losses))
            self.totals[index] += (values * weights).sum(dtype=np.float64)
            self.weights[index] += weights.sum(dtype=np.float64) if is_averaged_by_weight(loss) else weights.size

    @property
    def value(self) -> float:
        """The loss over all batches, 0 if all weights are 0."""
        averages = self.totals / np.where(self.weights > 0, self.weights, 1)
        return float(averages @ [loss_weight for _, _, loss_weight in self.terms])


def is_averaged_by_weight(loss: keras.Loss) -> bool:
    """Return whether a loss is divided by the sum of weights, not by the count."""
    return loss.reduction == "mean_with_sample_weight"


# By their names in settings.
LOSSES: dict[str, type[MaskableLoss]] = {
    "focal": FocalLoss,
    "asymmetric": AsymmetricLoss,
    "cross-entropy": CrossEntropy,
    "margin": MarginLoss,
    "categorical": CategoricalCrossEntropy,
    "credit": CreditLoss,
}
