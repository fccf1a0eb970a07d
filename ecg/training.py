"""One network from its first weights to its best, and what a network says of the recordings of a store."""

import math
import re
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import numpy as np

from ecg.batches import ahead, gather, plan_training, plan_whole
from ecg.budget import Budget
from ecg.checkpoint import Checkpoint
from ecg.devices import as_one, over_all
from ecg.networks import POLICIES
from ecg.progress import Progress, duration
from ecg.store import Store
from ecg.work import at_work, settle

PROGRESS = "progress"  # what a StageFolder keeps of a training that is not done
PREDICTION_BATCH = 64  # recordings at the most, and no more than are trained on at once
OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|\bOOM\b|out of memory", re.IGNORECASE)  # as backends say it
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
    precision: str = "float32"  # or bfloat16: of what is computed, not of weights, losses and probabilities

    def __post_init__(self):
        if self.precision not in POLICIES:
            raise ValueError(f"precision is {self.precision!r}, expected one of {', '.join(POLICIES)}")

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


def train_network(network, loss, training, validation, settings, seed, stage, score, log, folder=None, budget=None):
    """Train a network until its loss on the validation set no longer falls; leave its best weights in it.

    `score` maps probabilities of the validation set (n, K) to named scores, for the record only; `log` takes a line.
    Order, cuts and dropout come from (seed, stage, epoch) alone. After each epoch the StageFolder, where there is one,
    keeps where the training stands, and a training that was cut off goes on from there. The Budget, where there is
    one, ends it early, and so does a loss that is not a number. Returns the epochs, a list of Epoch, and what ended
    them, a text. Raises TrainingError where not one epoch came to a loss that is a number.
    """
    budget, loss = budget or Budget(None), over_all(loss)
    make_ready(network, loss, settings.first_rate)
    checkpoint = Checkpoint(settings.patience, settings.averaging)
    if folder and (kept := folder.recall(PROGRESS)):
        checkpoint.restore(network, kept)
        log(f"{stage}: taken up after epoch {len(checkpoint.epochs)}")
    while not (ended := end_of(checkpoint, settings, budget)):
        number, start = len(checkpoint.epochs), time.monotonic()
        title, rate = f"{stage}, epoch {number + 1}", settings.rate_in(number)
        network.optimizer.learning_rate = rate
        order = seed_epoch(network, seed, stage, number)
        try:
            trained = train_epoch(network, training, settings, order, checkpoint.average, title, budget)
            latest = network.get_weights()
            network.set_weights(checkpoint.average.value())
            probabilities = check(network, validation, f"{title}, checking", settings.batch, budget)
            validated = number_of(loss(validation.targets, probabilities, validation.masks), f"{title}, checking")
        except TrainingError as error:
            if not checkpoint.epochs:
                raise
            ended = str(error)
            break
        network.set_weights(latest)
        epoch = checkpoint.add(stage, rate, trained, validated, score(probabilities))
        if folder:
            folder.keep(PROGRESS, checkpoint.arrays(network))
        shown = ", ".join(f"{name} {value:.3f}" for name, value in epoch.scores.items())
        log(f"{title}: loss {trained:.5f}, validation {validated:.5f}{'*' if epoch.best else ' '} {shown}, "
            f"{duration(time.monotonic() - start)}")  # fmt: skip
    log(f"{stage}: {ended}, epoch {max(epoch.epoch for epoch in checkpoint.epochs if epoch.best)} counts")
    network.set_weights(checkpoint.best)
    return checkpoint.epochs, ended


def make_ready(network, loss, rate):
    """Give a network its loss, its optimizer with a learning rate, and its steps, compiled."""
    as_one(network)
    network.compile(keras.optimizers.Adam(rate), loss, jit_compile=keras.backend.backend() == "jax")
    # Within the first step it would be built twice over, and slowly.
    network.optimizer.build(network.trainable_variables)
    settle(network)


def end_of(checkpoint, settings, budget):
    """Return why a training is to end where it stands, a text, empty where it is not."""
    if checkpoint.stopping.stop:
        return f"no lower loss in {settings.patience} epochs"
    if len(checkpoint.epochs) >= settings.epochs:
        return f"all {settings.epochs} epochs done"
    return "its time is over" if checkpoint.epochs and budget.over else ""


def train_epoch(network, examples, settings, generator, average, title, budget):
    """Take each recording, cut at random, or on few all of them repeatedly; return the mean loss.

    The weights go into the average as they change. Ends early where the Budget is over. Raises TrainingError where a
    loss is not a number.
    """

    def arrays(batch):
        rows = batch.records
        signals = gather(examples.store, examples.records, examples.columns, batch)
        return signals, examples.targets[rows], examples.masks[rows]

    lengths = examples.store.lengths[examples.records]
    size, passes = settings.batch_for(len(lengths)), settings.passes_for(len(lengths))
    plan = [batch for _ in range(passes) for batch in plan_training(lengths, size, generator)]
    total = weight = 0.0
    begun = []  # steps whose loss is not read yet, with their masks
    with at_work(network) as work, Progress(title, passes * len(lengths)) as progress:
        for step, (signals, targets, masks) in enumerate(ahead(arrays, plan), 1):
            begun.append((step, work.train(signals, targets, masks), masks))
            last = step == len(plan) or budget.over
            averaged = last or step % AVERAGED_EVERY == 0
            while len(begun) > (not averaged):  # a loss is read once the next step is begun, so that no device waits
                number, loss, counting = begun.pop(0)
                loss = number_of(loss, f"{title}, step {number}")
                total, weight = total + loss * counting.sum(), weight + counting.sum()
                progress.advance(len(counting), f"loss {total / max(weight, 1):.5f}")
            if averaged:
                average.add(work.weights(), (step - 1) % AVERAGED_EVERY + 1)
            if last:
                break
    return float(total / max(weight, 1))


def check(network, validation, title, size, budget):
    """Return the probabilities of the validation set (n, K), and let the Budget know how long they took."""
    start = time.monotonic()
    probabilities = predict(network, validation.store, validation.records, validation.columns, title, size)
    budget.answered(len(probabilities), time.monotonic() - start)
    return probabilities


def number_of(loss, place):
    """Return a loss as a float; TrainingError where it is not a number."""
    loss = float(loss)
    if not math.isfinite(loss):
        raise TrainingError(f"{place}: the loss is {loss}")
    return loss


@contextmanager
def out_of_memory_told(title):
    """Raise a TrainingError in place of whatever a backend raises where the device's memory is too small."""
    try:
        yield
    except (OSError, TrainingError):
        raise
    except Exception as error:  # noqa: BLE001 - each backend has a class of its own for this, and Keras has none
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        raise TrainingError(f"{title}: the memory is too small for its batches; a smaller batch, as by "
                            f"python -m ecg train --batch, needs less") from error  # fmt: skip


def predict(network, store, records, columns, title, size=PREDICTION_BATCH):
    """Return a network's probabilities for whole recordings of a store, `size` at once at the most: (n, K) float32."""
    plan = plan_whole(store.lengths[records], min(size, PREDICTION_BATCH))
    probabilities = np.empty((len(records), network.output_shape[-1]), np.float32)
    begun = []  # batches whose probabilities are not read yet
    with at_work(network) as work, Progress(title, len(records)) as progress:
        signals = ahead(lambda batch: gather(store, records, columns, batch), plan)
        for batch, signal in zip(plan, signals, strict=True):
            begun.append((batch.records, work.answer(signal)))
            while len(begun) > (batch is not plan[-1]):
                rows, answer = begun.pop(0)
                probabilities[rows] = answer
                progress.advance(len(rows))
    return probabilities
