"""The optimizers of the systems."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ecg.training.backend import sum_over_devices


class ClippedAdam(keras.optimizers.Adam):
    """Adam with clipped gradients and an L2 penalty.

    The gradient of the penalty is added after clipping. Both are what Nejedly et al. 2021 use. Keras clips the
    gradients of each device, here their sum is clipped.

    Args:
        learning_rate: The learning rate.
        clip_norm: Norm to which all gradients together are clipped; None for no clipping.
        l2: Factor of a weight in the gradient of the penalty.
    """

    def __init__(self, learning_rate: float, clip_norm: float | None, l2: float) -> None:
        super().__init__(learning_rate)
        self.clip_norm, self.l2 = clip_norm, l2

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Clip gradients and update the variables by them."""
        if self.clip_norm:
            squares = [ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in sum_over_devices(grads)]
            factor = self.clip_norm / ops.maximum(ops.sqrt(sum(squares)), self.clip_norm)
            grads = [gradient * ops.cast(factor, gradient.dtype) for gradient in grads]
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable by its gradient."""
        penalised = ops.cast(gradient, variable.dtype) + self.l2 * ops.convert_to_tensor(variable)
        super().update_step(penalised, variable, learning_rate)


# Optimizers by learning rate and TrainingSettings.
OPTIMIZERS = {
    "adam": lambda rate, settings: keras.optimizers.Adam(rate),
    "clipped_adam": lambda rate, settings: ClippedAdam(rate, settings.clip_norm, settings.l2),
    "adamw": lambda rate, settings: keras.optimizers.AdamW(rate, weight_decay=settings.decay),
    "sgd": lambda rate, settings: keras.optimizers.SGD(rate, settings.momentum),
}
