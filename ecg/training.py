"""One network from its first weights to its best, and what a network says of the recordings of a store."""

import math
import time
import zlib
from dataclasses import dataclass

import keras
import numpy as np

from ecg.batches import ahead, gather, plan_training, plan_whole
from ecg.progress import Progress, duration
from ecg.store import Store

PREDICTION_BATCH = 64
AVERAGED_EVERY = 10  # steps; copying the weights at each would cost more than it gives


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained; the defaults are the method's, or what was decided where the paper gives none.

    From the paper (Cai et al. 2021): batch, rates, first epochs and patience. Ours: the rest.
    """

    batch: int = 256
    smallest_batch: int = 16  # on small data the batch shrinks, not below this, ...
    steps: int = 50  # ... until an epoch has about so many steps; on smaller ones it takes the recordings repeatedly
    first_rate: float = 1e-4  # learning rate of the first epochs
    first_epochs: int = 2
    rate: float = 1e-3
    patience: int = 4  # epochs without a lower loss on the validation set
    averaging: float = 0.99  # momentum, by step, of the running average of the weights; 0 takes the last
    epochs: int = 100  # at the most

    def batch_for(self, recordings):
        """Return the batch for so many recordings in an epoch."""
        return int(np.clip(recordings // self.steps, self.smallest_batch, self.batch))

    def passes_for(self, recordings):
        """Return how many times an epoch takes so many recordings, so that patience means the same on a few."""
        return max(1, round(self.steps * self.smallest_batch / max(recordings, 1)))

    def rate_in(self, epoch):
        """Return the learning rate of an epoch, counted from 0."""
        return self.first_rate if epoch < self.first_epochs else self.rate


class TrainingError(RuntimeError):
    """A training that cannot go on; the message names stage, epoch and step."""


@dataclass(frozen=True)
class Examples:
    """Recordings of a store (n,) with their targets (n, K) and masks (n, K): what a label counts, 0 where masked."""

    store: Store
    records: np.ndarray
    columns: tuple[int, ...]
    targets: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; the losses are means over the labels that count."""

    stage: str
    epoch: int
    rate: float
    loss: float
    validation_loss: float
    scores: dict[str, float]
    seconds: float
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


def seeds(seed, stage, epoch, count):
    """Return `count` numbers (uint32) that depend on (seed, stage, epoch) alone."""
    return np.random.SeedSequence([seed, zlib.crc32(stage.encode()), epoch]).generate_state(count)


def seed_epoch(network, seed, stage, epoch):
    """Set the seeds of the network's dropout for an epoch; return the generator of its order and cuts."""
    order, *dropouts = seeds(seed, stage, epoch, 1 + len(network.layers))
    for layer, layer_seed in zip(network.layers, dropouts, strict=True):
        if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:  # Keras gives the others no seed
            layer.seed_generator.state.assign(np.array([layer_seed, 0], np.uint32))
    return np.random.default_rng(order)


def train_network(network, loss, training, validation, settings, seed, stage, score, log):
    """Train a network until its loss on the validation set no longer falls; leave its best weights in it.

    `score` maps probabilities of the validation set (n, K) to named scores, for the record only; `log` takes a line.
    Order, cuts and dropout come from (seed, stage, epoch) alone. Returns the epochs, a list of Epoch.
    Raises TrainingError where a loss is not a number.
    """
    network.compile(keras.optimizers.Adam(settings.first_rate), loss, jit_compile=keras.backend.backend() == "jax")
    # Within the first step it would be built twice over, and slowly.
    network.optimizer.build(network.trainable_variables)
    stopping, average = EarlyStopping(settings.patience), WeightAverage(settings.averaging)
    epochs, best = [], network.get_weights()
    batch, passes = settings.batch_for(len(training.records)), settings.passes_for(len(training.records))
    for number in range(settings.epochs):
        start = time.monotonic()
        network.optimizer.learning_rate = settings.rate_in(number)
        order = seed_epoch(network, seed, stage, number)
        title = f"{stage}, epoch {number + 1}"
        trained = train_epoch(network, training, batch, passes, order, average, title)
        latest = network.get_weights()
        network.set_weights(average.value())
        probabilities = predict(network, validation.store, validation.records, validation.columns, f"{title}, checking")
        validated = float(loss(validation.targets, probabilities, validation.masks))
        if not math.isfinite(validated):
            raise TrainingError(f"{title}: the loss on the validation set is {validated}")
        is_best = stopping.update(validated)
        if is_best:
            best = average.value()
        network.set_weights(latest)
        epoch = Epoch(stage, number + 1, settings.rate_in(number), trained, validated, score(probabilities),
                      time.monotonic() - start, is_best)  # fmt: skip
        epochs.append(epoch)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in epoch.scores.items())
        log(f"{title}: loss {trained:.5f}, validation {validated:.5f}{'*' if is_best else ' '} {shown}, "
            f"{duration(epoch.seconds)}")  # fmt: skip
        if stopping.stop:
            break
    network.set_weights(best)
    return epochs


def train_epoch(network, examples, size, passes, generator, average, title):
    """Take each recording `passes` times, cut at random, in batches of about `size`; return the mean loss.

    The weights go into the average as they change.
    """

    def arrays(batch):
        rows = batch.records
        signals = gather(examples.store, examples.records, examples.columns, batch)
        return signals, examples.targets[rows], examples.masks[rows]

    lengths = examples.store.lengths[examples.records]
    plan = [batch for _ in range(passes) for batch in plan_training(lengths, size, generator)]
    total = weight = 0.0
    with Progress(title, passes * len(examples.records)) as progress:
        for step, (signals, targets, masks) in enumerate(ahead(arrays, plan), 1):
            loss = float(network.train_on_batch(signals, targets, sample_weight=masks))
            if not math.isfinite(loss):
                raise TrainingError(f"{title}, step {step}: the loss is {loss}")
            total, weight = total + loss * masks.sum(), weight + masks.sum()
            if step % AVERAGED_EVERY == 0 or step == len(plan):
                average.add(network.get_weights(), (step - 1) % AVERAGED_EVERY + 1)
            progress.advance(len(signals), f"loss {total / max(weight, 1):.5f}")
    return float(total / max(weight, 1))


def predict(network, store, records, columns, title):
    """Return a network's probabilities for whole recordings of a store: (n, K) float32."""
    plan = plan_whole(store.lengths[records], PREDICTION_BATCH)
    probabilities = np.empty((len(records), network.output_shape[-1]), np.float32)
    with Progress(title, len(records)) as progress:
        signals = ahead(lambda batch: gather(store, records, columns, batch), plan)
        for batch, signal in zip(plan, signals, strict=True):
            probabilities[batch.records] = network.predict_on_batch(signal)
            progress.advance(len(batch.records))
    return probabilities
