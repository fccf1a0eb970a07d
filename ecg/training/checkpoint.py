"""Where the training of a network stands after an epoch: kept, and taken up again to the bit."""

import json
import math
import time
from dataclasses import asdict, dataclass

import numpy as np

from ecg.runtime.files import to_json

# What comes after the last stage, thresholds, tables and pictures, has a share of the budget, but not less than this.
CLOSING, LEAST_CLOSING = 0.02, 60.0  # s
FIRST_ANSWERS = 0.3  # share of a stage's time for its answers, as long as it is not known how long one takes


class Budget:
    """The hours that a training may take; None: as many as it needs.

    The stages are begun one after another, and what one leaves over is shared by those after it. A stage has to give
    so many answers, on its validation set and in the end, and what they take is kept for them. Where it is `lasting`,
    the hours are those of the stages alone, of which what was used before the training was cut off counts; else what
    comes after them is in it, too, and they are counted anew when it is taken up.
    """

    def __init__(self, hours, clock=time.monotonic, lasting=False):
        self.clock, self.lasting = clock, lasting
        seconds = math.inf if hours is None else 3600 * hours
        closing = 0.0 if lasting or hours is None else max(seconds * CLOSING, LEAST_CLOSING)
        self.end = clock() + seconds - closing
        self.begun, self.until, self.answers = clock(), self.end, 0
        self.for_answers = 0.0  # seconds
        self.each = None  # seconds that an answer takes, the longest seen

    def begin(self, to_come, answers):
        """Begin a stage that has so many answers to give; `to_come` counts it and the stages after it."""
        now = self.begun = self.clock()
        self.until, self.answers = now + (self.end - now) / to_come, answers
        if math.isfinite(self.end):
            self.for_answers = FIRST_ANSWERS * (self.until - now) if self.each is None else self.each * answers

    def record_prediction_time(self, count, seconds):
        """Take note of how long it took to give so many answers."""
        self.each = max(self.each or 0.0, seconds / max(count, 1))
        self.for_answers = self.each * self.answers

    @property
    def used(self):
        """What the present stage has used, and an answer takes, in seconds, for `resume` and `skip`: (2,)."""
        return np.array([self.clock() - self.begun, self.each or 0.0])

    def resume(self, used):
        """Take up the present stage, which has used so much before it was cut off."""
        seconds, each = map(float, used)
        self.begun -= seconds
        if self.lasting:
            self.until -= seconds
        self._counted(seconds, each)
        if self.each is not None:
            self.for_answers = self.each * self.answers

    def skip(self, used):
        """Pass over a stage that is done already and used so much."""
        self._counted(*map(float, used))

    def _counted(self, seconds, each):
        if self.lasting:
            self.end -= seconds
        if each:
            self.each = max(self.each or 0.0, each)

    @property
    def over(self):
        """Whether the present stage has to come to its answers."""
        return self.clock() + self.for_answers >= self.until


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; the losses are means over the labels that count.

    key and stage: the key and the title of what is trained.
    """

    key: str
    stage: str
    epoch: int
    rate: float
    loss: float
    validation_loss: float
    scores: dict[str, float]
    best: bool


class EarlyStopping:
    """Watches a loss, and says stop once it has not been the lowest so far for `patience` times running."""

    def __init__(self, patience):
        self.patience = patience
        self.lowest, self.waited = math.inf, 0

    def update(self, loss):
        """Take the next loss and tell whether it is lower than all before."""
        best = loss < self.lowest
        self.lowest, self.waited = (loss, 0) if best else (self.lowest, self.waited + 1)
        return best

    @property
    def stop(self):
        """Whether it is time to stop."""
        return self.waited >= self.patience


class WeightAverage:
    """A running average of a network's weights, in which those of n steps ago count momentum^n.

    It swings less from epoch to epoch than the weights do, so that early stopping picks a better epoch: on few
    recordings this decides. Moving averages of batch normalisation are averaged with the rest.
    """

    def __init__(self, momentum):
        self.momentum = momentum
        self.total, self.share = None, 1.0  # the share of what came before the first step

    def add(self, weights, steps):
        """Take the weights, a list of arrays, reached after so many more steps."""
        keep = self.momentum**steps
        self.share *= keep
        kept = [0.0] * len(weights) if self.total is None else self.total
        self.total = [keep * old + (1 - keep) * new for old, new in zip(kept, weights, strict=True)]

    def value(self):
        """Return the average, a list of arrays."""
        return [total / (1 - self.share) for total in self.total]


class Checkpoint:
    """The epochs of a training so far, its early stopping, average of weights and best weights."""

    def __init__(self, patience, momentum):
        self.epochs, self.best = [], None
        self.stopping, self.average = EarlyStopping(patience), WeightAverage(momentum)

    def add(self, key, stage, rate, loss, validation_loss, scores):
        """Take what the next epoch came to, and return it, an Epoch; the average is the best where its loss is."""
        best = self.stopping.update(validation_loss)
        if best:
            self.best = self.average.value()
        self.epochs.append(Epoch(key, stage, len(self.epochs) + 1, rate, loss, validation_loss, scores, best))
        return self.epochs[-1]

    def arrays(self, network):
        """Return all that the next epochs depend on, the network's weights and optimizer with it: a dict of arrays."""
        numbers = {"lowest": self.stopping.lowest, "waited": self.stopping.waited, "share": self.average.share}
        return {
            "epochs": pack_epochs(self.epochs),
            "numbers": np.array(to_json(numbers)),
            **pack_arrays("weights", network.get_weights()),
            **pack_arrays("optimizer", [variable.numpy() for variable in network.optimizer.variables]),
            **pack_arrays("average", self.average.total),
            **pack_arrays("best", self.best),
        }

    def restore(self, network, arrays):
        """Take up what `arrays` gave, the network's weights and its optimizer, which has to be built, included."""
        self.epochs = unpack_epochs(arrays["epochs"])
        numbers = json.loads(str(arrays["numbers"]))
        self.stopping.lowest, self.stopping.waited = numbers["lowest"], numbers["waited"]
        self.average.share, self.average.total = numbers["share"], unpack_arrays("average", arrays)
        self.best = unpack_arrays("best", arrays)
        network.set_weights(unpack_arrays("weights", arrays))
        for variable, value in zip(network.optimizer.variables, unpack_arrays("optimizer", arrays), strict=True):
            variable.assign(value)


def pack_arrays(name, values):
    """Return a list of arrays as a dict by name and number, in an order that sorting keeps."""
    return {f"{name} {number:04}": value for number, value in enumerate(values)}


def unpack_arrays(name, arrays):
    """Return the arrays that `numbered` called by this name, in their order: a list."""
    return [array for key, array in sorted(arrays.items()) if key.startswith(f"{name} ")]


def pack_epochs(epochs):
    """Return a list of Epoch as an array of one text."""
    return np.array(to_json([asdict(epoch) for epoch in epochs]))


def unpack_epochs(text):
    """Return the list of Epoch that `written_epochs` wrote."""
    return [Epoch(**epoch) for epoch in json.loads(str(text))]
