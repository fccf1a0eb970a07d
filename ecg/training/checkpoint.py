"""The state of a training, from which it resumes."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np

from ecg.runtime.files import to_json
from ecg.training.distribution import assign_weights

CRITERIA = (LOSS, AUPRC) = ("loss", "AUPRC")  # what makes an epoch the best


@dataclass(frozen=True)
class Epoch:
    """The result of one epoch.

    Attributes:
        key: Key of the stage (ecg.systems.stage.Stage).
        title: Title of the stage.
        epoch: Its number, from 1.
        rate: Learning rate.
        loss: Mean training loss over the labels that count.
        validation_loss: The same on the validation set.
        scores: Further scores on the validation set, by name.
        best: Whether it is the best so far by the criterion of the training.
    """

    key: str
    title: str
    epoch: int
    rate: float
    loss: float
    validation_loss: float
    scores: dict[str, float]
    best: bool


class WeightAverage:
    """An exponential moving average of a network's weights.

    Weights of n steps ago count momentum^n. The average varies less from epoch to epoch than the weights do, so that
    early stopping picks a better epoch. On few recordings this decides the result. The moving averages of batch
    normalisation are averaged, too.
    """

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum
        self.total: list[np.ndarray] | None = None
        self.share = 1.0  # weight of what preceded the first step

    def add(self, weights: Sequence[np.ndarray], steps: int) -> None:
        """Add the weights reached after a number of further steps."""
        keep = self.momentum**steps
        self.share *= keep
        totals: Sequence[Any] = [0.0] * len(weights) if self.total is None else self.total
        self.total = [keep * old + (1 - keep) * new for old, new in zip(totals, weights, strict=True)]

    def value(self) -> list[np.ndarray]:
        """Return the average of each array of weights."""
        return [total / (1 - self.share) for total in self.total or ()]


class Checkpoint:
    """The state of a training: epochs, averaged and best weights.

    Args:
        momentum: Momentum of the average of the weights.
        criterion: What makes an epoch the best: LOSS, its validation loss is the lowest; AUPRC, its score of this name
            is the highest.
    """

    def __init__(self, momentum: float, criterion: str = LOSS) -> None:
        self.epochs: list[Epoch] = []
        self.best: list[np.ndarray] = []
        self.average, self.criterion = WeightAverage(momentum), criterion

    @property
    def waited(self) -> int:
        """Number of epochs since the best one."""
        return len(self.epochs) - max((epoch.epoch for epoch in self.epochs if epoch.best), default=0)

    def add(
        self, key: str, title: str, rate: float, loss: float, validation_loss: float, scores: dict[str, float]
    ) -> Epoch:
        """Add the next epoch; keep the averaged weights if it is the best so far."""
        epoch = Epoch(key, title, len(self.epochs) + 1, rate, loss, validation_loss, scores, best=False)
        epoch = replace(epoch, best=self._cost(epoch) < min(map(self._cost, self.epochs), default=math.inf))
        if epoch.best:
            self.best = self.average.value()
        self.epochs.append(epoch)
        return epoch

    def _cost(self, epoch: Epoch) -> float:
        """Return a number that is the lower, the better the epoch."""
        return epoch.validation_loss if self.criterion == LOSS else -epoch.scores[self.criterion]

    def arrays(self, network: keras.Model) -> dict[str, np.ndarray]:
        """Return all that the next epochs depend on, with weights and optimizer."""
        return {
            "epochs": pack_epochs(self.epochs),
            "share": np.array(self.average.share),
            **pack_arrays("weights", network.get_weights()),
            **pack_arrays("optimizer", [variable.numpy() for variable in network.optimizer.variables]),
            **pack_arrays("average", self.average.total or ()),
            **pack_arrays("best", self.best),
        }

    def restore(self, network: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `arrays` returned, also in the network and its built optimizer."""
        self.epochs = unpack_epochs(arrays["epochs"])
        self.average.share, self.average.total = float(arrays["share"]), unpack_arrays("average", arrays)
        self.best = unpack_arrays("best", arrays)
        assign_weights(network, unpack_arrays("weights", arrays))
        for variable, value in zip(network.optimizer.variables, unpack_arrays("optimizer", arrays), strict=True):
            variable.assign(value)


def pack_arrays(name: str, values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays by name and number; sorting the keys keeps their order."""
    return {f"{name} {number:04}": value for number, value in enumerate(values)}


def unpack_arrays(name: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the arrays that `pack_arrays` stored under a name, in their order."""
    return [array for key, array in sorted(arrays.items()) if key.startswith(f"{name} ")]


def pack_epochs(epochs: Sequence[Epoch]) -> np.ndarray:
    """Return epochs as an array of one JSON string."""
    return np.array(to_json([asdict(epoch) for epoch in epochs]))


def unpack_epochs(text: np.ndarray) -> list[Epoch]:
    """Return the epochs that `pack_epochs` stored."""
    return [Epoch(**epoch) for epoch in json.loads(str(text))]
