"""How a network is trained: batches, learning rates, optimizer, and when to stop."""

import math
from dataclasses import dataclass, replace

import keras
import numpy as np

from ecg.models.resnets import POLICIES
from ecg.runtime.limits import check_limits
from ecg.training.backend import ClippedAdam
from ecg.training.checkpoint import CRITERIA, LOSS

# Optimizers by learning rate and TrainingSettings.
OPTIMIZERS = {
    "adam": lambda rate, settings: keras.optimizers.Adam(rate),
    "clipped_adam": lambda rate, settings: ClippedAdam(rate, settings.clip_norm, settings.l2),
    "adamw": lambda rate, settings: keras.optimizers.AdamW(rate, weight_decay=settings.decay),
    "sgd": lambda rate, settings: keras.optimizers.SGD(rate, settings.momentum),
}


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Batch, rates, first epochs and patience are those of Cai et al. 2021; the paper gives no values for the others.

    Attributes:
        batch: Recordings in a step.
        smallest_batch: On small data the batch shrinks, but not below this.
        steps: Steps that an epoch has at least. The batch shrinks to reach it; after that, recordings are repeated.
        first_rate: Learning rate of the first epochs. If None, it rises to `rate` in equal steps.
        first_epochs: Number of the first epochs.
        rate: Learning rate of the others.
        cosine: Whether the rate falls from there by half a cosine, to 0 after the last epoch.
        drops: Epochs, counted from 0, from which on the rate is a tenth of what it was.
        optimizer: One of OPTIMIZERS.
        momentum: Of SGD.
        decay: Weight decay of AdamW.
        l2: Factor of a weight in the gradient of the L2 penalty of the clipped Adam.
        clip_norm: Norm to which the clipped Adam clips all gradients together; None for no clipping.
        criterion: What makes an epoch the best, one of CRITERIA: the lowest validation loss, or the highest AUPRC of
            the validation set, which is the mean over its classes.
        patience: Epochs without a better one after which the training stops.
        averaging: Momentum, by step, of the moving average of the weights; 0 takes the last weights.
        epochs: Epochs at most.
        precision: One of POLICIES. Weights, losses and probabilities are float32 in any case.

    Raises:
        ValueError: If a number is out of its range, or precision, optimizer or criterion is unknown.
    """

    batch: int = 256
    smallest_batch: int = 16
    steps: int = 50
    first_rate: float | None = 1e-4
    first_epochs: int = 2
    rate: float = 1e-3
    cosine: bool = False
    drops: tuple[int, ...] = ()
    optimizer: str = "adam"
    momentum: float = 0.0
    decay: float = 0.0
    l2: float = 0.0
    clip_norm: float | None = None
    criterion: str = LOSS
    patience: int = 4
    averaging: float = 0.99
    epochs: int = 100
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_limits(batch=self.batch, averaging=self.averaging, epochs=self.epochs)
        if self.precision not in POLICIES:
            raise ValueError(f"precision is {self.precision!r}, expected one of {', '.join(POLICIES)}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}, expected one of {', '.join(OPTIMIZERS)}")
        if self.criterion not in CRITERIA:
            raise ValueError(f"criterion is {self.criterion!r}, expected one of {', '.join(CRITERIA)}")

    def batch_for(self, recordings: int) -> int:
        """Return the batch size for a number of recordings in an epoch."""
        return int(np.clip(recordings // self.steps, self.smallest_batch, self.batch))

    def passes_for(self, recordings: int) -> int:
        """Return how often an epoch repeats a number of recordings."""
        return max(1, round(self.steps * self.smallest_batch / max(recordings, 1)))

    def rate_in(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        if epoch < self.first_epochs:
            return self.rate * (epoch + 1) / self.first_epochs if self.first_rate is None else self.first_rate
        rate = self.rate * 0.1 ** sum(epoch >= drop for drop in self.drops)
        done = (epoch - self.first_epochs) / max(self.epochs - self.first_epochs, 1)
        return rate * (1 + math.cos(math.pi * done)) / 2 if self.cosine else rate

    def for_fine_tuning(self) -> "TrainingSettings":
        """Return the settings for a network that has been trained on other recordings.

        The first epoch has a tenth of the rate, the others half of it, so that the network does not forget.
        """
        return replace(self, first_rate=self.rate / 10, first_epochs=1, rate=self.rate / 2)

    def make_optimizer(self) -> keras.Optimizer:
        """Return the optimizer for the start of a training."""
        return OPTIMIZERS[self.optimizer](self.rate_in(0), self)
