"""One network from its first weights to its best, and what a network says of the recordings of a store."""

import logging
import math
import re
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import numpy as np

from ecg.data.batches import Batch, plan_prediction, plan_training, prefetch
from ecg.models.resnets import POLICIES
from ecg.runtime.console import Progress, format_duration
from ecg.runtime.limits import check_limits
from ecg.training.backend import distributed_loss, precompile, step_runner, synchronise_layers
from ecg.training.checkpoint import Budget, Checkpoint
from ecg.training.losses import StreamingLoss

LOGGER = logging.getLogger("ecg")

PROGRESS = "progress"  # what a StageFolder keeps of a training that is not done
TIME_LIMIT_REACHED = "its time is over"  # what ended a training, where that is so
PREDICTION_BATCH = 64  # recordings at the most, and no more than are trained on at once
JUDGED_AT_ONCE = 4096  # pieces of recordings; with peaks, each has some thousands of numbers
OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|\bOOM\b|out of memory", re.IGNORECASE)  # as backends say it
AVERAGED_EVERY = 10  # steps; copying the weights at each would cost more than it gives
# Of a learning rate and TrainingSettings.
OPTIMIZERS = {
    "adam": lambda rate, settings: keras.optimizers.Adam(rate),
    "adamw": lambda rate, settings: keras.optimizers.AdamW(rate, weight_decay=settings.decay),
    "sgd": lambda rate, settings: keras.optimizers.SGD(rate, settings.momentum),
}


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained; the defaults are the method's, or what was decided where the paper gives none.

    From the paper (Cai et al. 2021): batch, rates, first epochs and patience. Ours: the rest. Raises ValueError where a
    number is out of its range, or a precision or an optimizer is not known.
    """

    batch: int = 256
    smallest_batch: int = 16  # on small data the batch shrinks, not below this, ...
    steps: int = 50  # ... until an epoch has about so many steps; on smaller ones it takes the recordings repeatedly
    first_rate: float | None = 1e-4  # learning rate of the first epochs; None: it rises to the next in equal steps
    first_epochs: int = 2
    rate: float = 1e-3
    cosine: bool = False  # whether the rate falls from there on by half a cosine, to 0 after the last epoch
    drops: tuple[int, ...] = ()  # epochs, counted from 0, from which on it is a tenth of what it was
    optimizer: str = "adam"  # one of OPTIMIZERS
    momentum: float = 0.0  # of sgd
    decay: float = 0.0  # of the weights, by adamw
    patience: int = 4  # epochs without a lower loss on the validation set
    averaging: float = 0.99  # momentum, by step, of the running average of the weights; 0 takes the last
    epochs: int = 100  # at the most
    precision: str = "float32"  # or bfloat16: of what is computed, not of weights, losses and probabilities

    def __post_init__(self):
        check_limits(batch=self.batch, averaging=self.averaging, epochs=self.epochs)
        if self.precision not in POLICIES:
            raise ValueError(f"precision is {self.precision!r}, expected one of {', '.join(POLICIES)}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}, expected one of {', '.join(OPTIMIZERS)}")

    def batch_for(self, recordings):
        """Return the batch for so many recordings in an epoch."""
        return int(np.clip(recordings // self.steps, self.smallest_batch, self.batch))

    def passes_for(self, recordings):
        """Return how many times an epoch takes so many recordings, so that patience means the same on a few."""
        return max(1, round(self.steps * self.smallest_batch / max(recordings, 1)))

    def rate_in(self, epoch):
        """Return the learning rate of an epoch, counted from 0."""
        if epoch < self.first_epochs:
            return self.rate * (epoch + 1) / self.first_epochs if self.first_rate is None else self.first_rate
        rate = self.rate * 0.1 ** sum(epoch >= drop for drop in self.drops)
        gone = (epoch - self.first_epochs) / max(self.epochs - self.first_epochs, 1)
        return rate * (1 + math.cos(math.pi * gone)) / 2 if self.cosine else rate

    def fresh_optimizer(self):
        """Return the optimizer of a training that begins."""
        return OPTIMIZERS[self.optimizer](self.rate_in(0), self)


class TrainingError(RuntimeError):
    """A training that cannot go on; the message names stage, epoch and step."""


def seeds(seed, key, epoch, count):
    """Return `count` numbers (uint32) that depend on (seed, key of a stage, epoch) alone."""
    return np.random.SeedSequence([seed, zlib.crc32(key.encode()), epoch]).generate_state(count)


def seed_epoch(network, seed, key, epoch):
    """Set the seeds of the network's dropout for an epoch; return the generator of its order and cuts."""
    order, *dropouts = seeds(seed, key, epoch, 1 + len(network.layers))
    for layer, layer_seed in zip(network.layers, dropouts, strict=True):
        if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:  # Keras gives the others no seed
            layer.seed_generator.state.assign(np.array([layer_seed, 0], np.uint32))
    return np.random.default_rng(order)


def train_network(network, loss, training, validation, settings, seed, stage, score, folder=None, budget=None,
                  key=None):  # fmt: skip
    """Train a network until its loss on the validation set no longer falls; leave its best weights in it.

    `score` maps probabilities of the validation set (n, K) to named scores, for the record only.
    Order, cuts and dropout come from (seed, key, epoch) alone; without a key, the stage's title is it. After each epoch
    the StageFolder, where there is one, keeps where the training stands, and a training that was cut off goes on from
    there. The Budget, where there is one, ends it early, and so does a loss that is not a number. Returns the epochs, a
    list of Epoch, and what ended them, a text. Raises TrainingError where no epoch came to a loss that is a number.
    """
    budget = budget or Budget(None)
    make_ready(network, distributed_loss(loss), settings.fresh_optimizer())
    checkpoint = Checkpoint(settings.patience, settings.averaging)
    if folder and (kept := folder.load(PROGRESS)):
        checkpoint.restore(network, kept)
        budget.resume(kept["used"])
        LOGGER.info(f"{stage}: resumed after epoch {len(checkpoint.epochs)}")
    while not (ended := stop_reason(checkpoint, settings, budget)):
        number, start = len(checkpoint.epochs), time.monotonic()
        title, rate = f"{stage}, epoch {number + 1}", settings.rate_in(number)
        network.optimizer.learning_rate = rate
        order = seed_epoch(network, seed, key or stage, number)
        try:
            trained, whole = train_epoch(network, training, settings, order, checkpoint.average, title, budget)
            latest = network.get_weights()
            network.set_weights(checkpoint.average.value())
            validated, probabilities = validate(network, loss, validation, f"{title}, checking", settings.batch, budget)
        except TrainingError as error:
            if not checkpoint.epochs:
                raise
            ended = str(error)
            break
        network.set_weights(latest)
        epoch = checkpoint.add(key or stage, stage, rate, trained, validated, score(probabilities))
        if folder:
            folder.save(PROGRESS, checkpoint.arrays(network) | {"used": budget.used})
        shown = "".join(f" {name} {value:.3f}," for name, value in epoch.scores.items())
        LOGGER.info(f"{title}: loss {trained:.5f}, validation {validated:.5f}{'*' if epoch.best else ' '}{shown} "
            f"{format_duration(time.monotonic() - start)}")  # fmt: skip
        if not whole:
            ended = TIME_LIMIT_REACHED
            break
    LOGGER.info(f"{stage}: {ended}, epoch {max(epoch.epoch for epoch in checkpoint.epochs if epoch.best)} counts")
    network.set_weights(checkpoint.best)
    return checkpoint.epochs, ended


def make_ready(network, loss, optimizer):
    """Give a network its loss, its optimizer, and its steps, compiled."""
    synchronise_layers(network)
    network.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")
    # Within the first step it would be built twice over, and slowly.
    network.optimizer.build(network.trainable_variables)
    precompile(network)


def stop_reason(checkpoint, settings, budget):
    """Return why a training is to end where it stands, a text, empty where it is not."""
    if checkpoint.stopping.stop:
        return f"no lower loss in {settings.patience} epochs"
    if len(checkpoint.epochs) >= settings.epochs:
        return f"all {settings.epochs} epochs done"
    return TIME_LIMIT_REACHED if checkpoint.epochs and budget.over else ""


def train_epoch(network, examples, settings, generator, average, title, budget):
    """Take each recording, cut at random, or on few all of them repeatedly; return the mean loss, and if it was all.

    The weights go into the average as they change. Ends early, and not all is taken, where the Budget is over. Raises
    TrainingError where a loss is not a number.
    """
    (apart,) = generator.spawn(1)  # for what is drawn while batches are read, in their order

    def arrays(batch):
        return examples.inputs(batch, apart), *examples.targets_and_masks(batch)

    lengths = examples.lengths
    size, passes = settings.batch_for(len(lengths)), settings.passes_for(len(lengths))
    plan = [batch for _ in range(passes) for batch in plan_training(lengths, size, generator, examples.window)]
    total = weight = 0.0
    begun = []  # steps whose loss is not read yet, with their masks
    with step_runner(network) as work, Progress(title, passes * len(lengths)) as progress:
        for step, (inputs, targets, masks) in enumerate(prefetch(arrays, plan), 1):
            begun.append((step, work.train(inputs, targets, masks), masks))
            last = step == len(plan) or budget.over
            averaged = last or (settings.averaging > 0 and step % AVERAGED_EVERY == 0)
            while len(begun) > (not averaged):  # a loss is read once the next step is begun, so that no device waits
                number, loss, counting = begun.pop(0)
                loss = require_finite(loss, f"{title}, step {number}")
                total, weight = total + loss * counting.sum(), weight + counting.sum()
                progress.advance(len(counting), f"loss {total / max(weight, 1):.5f}")
            if averaged:
                average.add(work.weights(), (step - 1) % AVERAGED_EVERY + 1)
            if last:
                break
    return float(total / max(weight, 1)), step == len(plan)


def validate(network, loss, validation, title, size, budget):
    """Return the loss on the validation set and its probabilities (n, K), and let the Budget know how long they took.

    The loss is that of the pieces in which recordings are answered. Raises TrainingError where it is not a number.
    """
    start, whole, means = time.monotonic(), StreamingLoss(loss), SegmentMean(*validation.targets.shape)
    for pieces, outputs in join_batches(predict_batches(network, validation, title, size), JUDGED_AT_ONCE):
        targets, masks = validation.targets_and_masks(pieces)
        whole.add(targets, outputs, masks)
        means.add(pieces, outputs)
    budget.record_prediction_time(len(validation.records), time.monotonic() - start)
    return require_finite(whole.value, title), means.value


def require_finite(loss, place):
    """Return a loss as a float; TrainingError where it is not a number."""
    loss = float(loss)
    if not math.isfinite(loss):
        raise TrainingError(f"{place}: the loss is {loss}")
    return loss


@contextmanager
def translate_out_of_memory(title):
    """Raise a TrainingError in place of whatever a backend raises where the device's memory is too small."""
    try:
        yield
    except (OSError, TrainingError):
        raise
    except Exception as error:  # noqa: BLE001 - each backend has a class of its own for this, and Keras has none
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        raise TrainingError(f"{title}: the memory is too small for its batches; a smaller batch, as by "
                            f"--batch, needs less") from error  # fmt: skip


def predict(network, examples, title, size=PREDICTION_BATCH):
    """Return a network's probabilities for whole recordings, `size` at once at the most: (n, K) float32.

    Of a recording that is answered in pieces it is their mean.
    """
    means = SegmentMean(len(examples.records), network.output_shape[-1])
    for pieces, outputs in predict_batches(network, examples, title, size):
        means.add(pieces, outputs)
    return means.value


def predict_batches(network, examples, title, size=PREDICTION_BATCH):
    """Yield Batches of the pieces in which recordings are answered, and the outputs (B, K) for each."""
    plan, begun = plan_prediction(examples.lengths, min(size, PREDICTION_BATCH), examples.window), []
    with step_runner(network) as work, Progress(title, sum(len(batch.records) for batch in plan)) as progress:
        for batch, inputs in zip(plan, prefetch(examples.inputs, plan), strict=True):
            begun.append((batch, work.predict(inputs)))
            while len(begun) > (batch is not plan[-1]):  # read once the next one is begun, so that no device waits
                pieces, outputs = begun.pop(0)
                outputs = np.asarray(outputs)
                progress.advance(len(outputs))
                yield pieces, outputs


def join_batches(found, count):
    """Yield what `answers` does, joined to parts of `count` pieces or a few more; the last one may have fewer."""
    part = []
    for each in found:
        part.append(each)
        if sum(len(outputs) for _, outputs in part) >= count:
            yield joined(part)
            part = []
    if part:
        yield joined(part)


def joined(part):
    """Return several Batches of pieces and their outputs as one; the length is that of the first."""
    batches, outputs = zip(*part, strict=True)
    records, starts = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("records", "starts"))
    return Batch(records, starts, batches[0].length), np.concatenate(outputs)


class SegmentMean:
    """The means (n, K) of what was said of the pieces of n recordings, of which the first K columns count."""

    def __init__(self, count, columns):
        self.total, self.pieces = np.zeros((count, columns), np.float32), np.zeros((count, 1), np.float32)

    def add(self, pieces, outputs):
        """Add the outputs for a Batch of pieces, (B, K) or with further columns."""
        np.add.at(self.total, pieces.records, outputs[:, : self.total.shape[1]])
        np.add.at(self.pieces, pieces.records, 1)

    @property
    def value(self):
        """The means, 0 for recordings of which nothing was said."""
        return self.total / np.maximum(self.pieces, 1)
