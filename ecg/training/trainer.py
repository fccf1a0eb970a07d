"""Train one network, and predict the recordings of a store with it."""

import logging
import math
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import keras
import numpy as np

from ecg.data.batches import Batch, Dataset, plan_prediction, plan_training, prefetch
from ecg.evaluation.metrics import mean_auprc
from ecg.models.ensemble import average_rows
from ecg.runtime.cache import ResultCache
from ecg.runtime.console import Progress, format_duration
from ecg.runtime.limits import TIME_LIMIT_REACHED, TimeBudget
from ecg.runtime.peers import ALONE, Peers
from ecg.training.backend import distributed_loss, precompile, step_runner, synchronise_layers
from ecg.training.checkpoint import AUPRC, LOSS, Checkpoint, Epoch, WeightAverage
from ecg.training.distribution import assign_weights
from ecg.training.losses import MaskableLoss, StreamingLoss, WeightedSumLoss
from ecg.training.settings import TrainingSettings

LOGGER = logging.getLogger("ecg")
Item = TypeVar("Item")

PROGRESS = "progress"  # entry of a ResultCache with the state of an unfinished training
PREDICTION_BATCH = 64  # recordings at most; a smaller training batch makes it smaller, too
VALIDATED_AT_ONCE = 4096  # segments; with wave peaks, each has some thousands of numbers
OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|\bOOM\b|out of memory", re.IGNORECASE)  # as backends say it
AVERAGED_EVERY = 10  # steps; copying the weights after each step would cost more than it gains


@dataclass(frozen=True)
class TrainingRun:
    """What a training depends on besides the network and its data.

    Attributes:
        settings: How the network is trained.
        seed: Seed of the run. Order, crops and dropout follow from (seed, key, epoch) alone.
        key: Key of the stage, for seeds.
        title: Title of the stage, for people.
        score: Maps probabilities of the validation set (n, K) to scores by name, which are only recorded.
        budget: Time limit.
        cache: Where the state is saved after each epoch, and from where a training resumes; None to save nothing.
        peers: Processes that train the network together. Process 0 decides whether a training resumes, and when it
            stops; the others have no cache.
    """

    settings: TrainingSettings
    seed: int
    key: str
    title: str
    score: Callable[[np.ndarray], dict[str, float]]
    budget: TimeBudget
    cache: ResultCache | None = None
    peers: Peers = ALONE


class TrainingError(RuntimeError):
    """A training cannot go on; the message names stage, epoch and step."""


def seeds(seed: int, key: str, epoch: int, count: int) -> np.ndarray:
    """Return seeds (uint32) that depend on seed, key of the stage and epoch."""
    return np.random.SeedSequence([seed, zlib.crc32(key.encode()), epoch]).generate_state(count)


def seed_epoch(network: keras.Model, seed: int, key: str, epoch: int) -> np.random.Generator:
    """Seed dropout for an epoch; return the generator of its order and crops."""
    order, *dropouts = seeds(seed, key, epoch, 1 + len(network.layers))
    for layer, layer_seed in zip(network.layers, dropouts, strict=True):
        if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:  # Keras gives the others no seed
            layer.seed_generator.state.assign(np.array([layer_seed, 0], np.uint32))
    return np.random.default_rng(order)


def train_network(
    network: keras.Model, loss: MaskableLoss | WeightedSumLoss, training: Dataset, validation: Dataset, run: TrainingRun
) -> tuple[list[Epoch], str]:
    """Train a network until no epoch is better, by its validation loss or AUPRC.

    The network then has its best weights. The training also stops when the time limit is reached, and after a loss
    that is not finite.

    Args:
        network: Network to train.
        loss: One of ecg.training.losses.
        training: Recordings to train on.
        validation: Recordings for early stopping.
        run: Settings, seed, names, cache and time limit. An interrupted training resumes from the cache.

    Returns:
        The epochs, and the reason why the training stopped.

    Raises:
        TrainingError: If the first epoch has a loss that is not finite.
    """
    settings, title = run.settings, run.title
    compile_network(network, distributed_loss(loss), settings.make_optimizer())
    checkpoint = Checkpoint(settings.averaging, settings.criterion)
    if saved := run.peers.share(run.cache.load(PROGRESS) if run.cache else None):
        checkpoint.restore(network, saved)
        run.budget.resume(saved["used"])
        LOGGER.info(f"{title}: resumed after epoch {len(checkpoint.epochs)}")
    while not (ended := stop_reason(checkpoint, settings, run.budget)):
        number, start = len(checkpoint.epochs), time.monotonic()
        epoch_title, rate = f"{title}, epoch {number + 1}", settings.rate_in(number)
        network.optimizer.learning_rate = rate
        order = seed_epoch(network, run.seed, run.key, number)
        try:
            trained, completed = train_epoch(network, training, settings, order, checkpoint.average, epoch_title,
                                             run.budget)  # fmt: skip
            latest = network.get_weights()
            assign_weights(network, checkpoint.average.value())
            validated, probabilities = validate(network, loss, validation, f"{epoch_title}, checking", settings.batch,
                                                run.budget)  # fmt: skip
        except TrainingError as error:
            if not checkpoint.epochs:
                raise
            ended = str(error)
            break
        assign_weights(network, latest)
        scores = run.score(probabilities)
        if settings.criterion == AUPRC:
            scores |= {AUPRC: mean_auprc(np.asarray(validation.targets), probabilities)}
        trained, validated, scores = run.peers.share((trained, validated, scores))
        epoch = checkpoint.add(run.key, title, rate, trained, validated, scores)
        if run.cache:
            run.cache.save(PROGRESS, checkpoint.arrays(network) | {"used": run.budget.used})
        measured = "".join(f" {name} {value:.3f}," for name, value in epoch.scores.items())
        losses = f"loss {trained:.5f}, validation {validated:.5f}{'*' if epoch.best else ' '}"
        LOGGER.info(f"{epoch_title}: {losses}{measured} {format_duration(time.monotonic() - start)}")
        if not completed:
            ended = TIME_LIMIT_REACHED
            break
    LOGGER.info(f"{title}: {ended}, epoch {len(checkpoint.epochs) - checkpoint.waited} counts")
    assign_weights(network, checkpoint.best)
    return checkpoint.epochs, ended


def compile_network(network: keras.Model, loss: keras.Loss, optimizer: keras.Optimizer) -> None:
    """Give a network its loss and its optimizer, and trace its steps."""
    synchronise_layers(network)
    network.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")
    # Within the first step it would be built twice, and slowly.
    network.optimizer.build(network.trainable_variables)
    precompile(network, getattr(loss, "outputs_per_label", 1))


def stop_reason(checkpoint: Checkpoint, settings: TrainingSettings, budget: TimeBudget) -> str:
    """Return why a training stops after the epochs so far, or an empty string."""
    if checkpoint.waited >= settings.patience:
        better = "lower loss" if settings.criterion == LOSS else f"higher {settings.criterion}"
        return f"no {better} in {settings.patience} epochs"
    if len(checkpoint.epochs) >= settings.epochs:
        return f"all {settings.epochs} epochs done"
    return TIME_LIMIT_REACHED if checkpoint.epochs and budget.is_over else ""


def delay(items: Iterable[tuple[Item, bool]]) -> Iterator[Item]:
    """Yield each item once the next is there, and all after a marked one.

    The device works on the next batch while the result of this one is read.

    Args:
        items: Pairs of an item and its mark.
    """
    waiting = []
    for item, marked in items:
        waiting.append(item)
        while len(waiting) > (not marked):
            yield waiting.pop(0)


def train_epoch(
    network: keras.Model,
    dataset: Dataset,
    settings: TrainingSettings,
    generator: np.random.Generator,
    average: WeightAverage,
    title: str,
    budget: TimeBudget,
) -> tuple[float, bool]:
    """Train on each recording, cropped at random; repeat them if they are few.

    Args:
        network: Network to train.
        dataset: Recordings to train on.
        settings: How the network is trained.
        generator: Source of order and crops.
        average: Takes the weights as they change.
        title: Title of the epoch.
        budget: Time limit; the epoch ends early if it is over.

    Returns:
        The mean loss, and whether the epoch was completed.

    Raises:
        TrainingError: If a loss is not finite.
    """
    (reading,) = generator.spawn(1)  # draws while batches are read, in their order

    def read(batch: Batch) -> tuple:
        return dataset.training_examples(batch, reading, runner.own_rows(len(batch.records)))

    def steps() -> Iterator[tuple[tuple, bool]]:
        for step, (inputs, targets, masks) in enumerate(prefetch(read, plan), 1):
            loss = runner.train(inputs, targets, masks)
            last = step == len(plan) or budget.is_over
            averaged = last or (settings.averaging > 0 and step % AVERAGED_EVERY == 0)
            yield (step, loss, masks, averaged), averaged
            if last:
                return

    lengths = dataset.lengths
    size, passes = settings.batch_for(len(lengths)), settings.passes_for(len(lengths))
    plan = [batch for _ in range(passes) for batch in plan_training(lengths, size, generator, dataset.window)]
    total, weight, step = 0.0, 0.0, 0
    with step_runner(network) as runner, Progress(title, passes * len(lengths)) as progress:
        for step, loss, masks, averaged in delay(steps()):
            value = require_finite(loss, f"{title}, step {step}")
            total, weight = total + value * masks.sum(), weight + masks.sum()
            progress.advance(len(masks), f"loss {total / max(weight, 1):.5f}")
            if averaged:
                average.add(runner.weights(), (step - 1) % AVERAGED_EVERY + 1)
    return float(total / max(weight, 1)), step == len(plan)


def validate(
    network: keras.Model,
    loss: MaskableLoss | WeightedSumLoss,
    validation: Dataset,
    title: str,
    size: int,
    budget: TimeBudget,
) -> tuple[float, np.ndarray]:
    """Return the loss on the validation set and its probabilities (n, K).

    The loss is that of the segments in which recordings are predicted. The budget records how long it took.

    Raises:
        TrainingError: If the loss is not finite.
    """
    start, streaming = time.monotonic(), StreamingLoss(loss)
    n_recordings, n_classes = np.asarray(validation.targets).shape
    parts = []
    for segments, outputs in join_batches(predict_batches(network, validation, title, size), VALIDATED_AT_ONCE):
        targets, masks = validation.targets_and_masks(segments)
        streaming.add(targets, outputs, masks)
        parts.append((segments.records, outputs[:, :n_classes].copy()))  # without wave peaks, which take more memory
    budget.record_prediction_time(len(validation.records), time.monotonic() - start)
    return require_finite(streaming.value, title), average_rows((n_recordings, n_classes), parts)


def require_finite(loss: object, title: str) -> float:
    """Return a loss as a float; raise TrainingError if it is not finite."""
    value = float(loss)  # type: ignore[arg-type] # a scalar of any backend
    if not math.isfinite(value):
        raise TrainingError(f"{title}: the loss is {value}")
    return value


@contextmanager
def translate_out_of_memory(title: str) -> Iterator[None]:
    """Raise a TrainingError if a device's memory is too small."""
    try:
        yield
    except (OSError, TrainingError):
        raise
    except Exception as error:  # noqa: BLE001 - each backend has a class of its own for this, and Keras has none
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        raise TrainingError(f"{title}: the memory is too small for its batches; a smaller batch, as by "
                            f"--batch, needs less") from error  # fmt: skip


def predict_dataset(network: keras.Model, dataset: Dataset, title: str, size: int = PREDICTION_BATCH) -> np.ndarray:
    """Predict whole recordings, each as the mean over its segments.

    Args:
        network: Network that predicts.
        dataset: Recordings to predict.
        title: Title of the progress.
        size: Segments in a batch, at most.

    Returns:
        Probabilities, (n, K) float32.
    """
    parts = ((segments.records, outputs) for segments, outputs in predict_batches(network, dataset, title, size))
    return average_rows((len(dataset.records), network.output_shape[-1]), parts)


def predict_batches(
    network: keras.Model, dataset: Dataset, title: str, size: int = PREDICTION_BATCH
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Yield batches of segments of the recordings, and their outputs (B, K)."""

    def read(batch: Batch) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        return dataset.inputs(batch, rows=runner.own_rows(len(batch.records)))

    plan = plan_prediction(dataset.lengths, min(size, PREDICTION_BATCH), dataset.window)
    with step_runner(network) as runner, Progress(title, sum(len(batch.records) for batch in plan)) as progress:
        started = (
            ((batch, runner.predict(inputs, len(batch.records))), batch is plan[-1])
            for batch, inputs in zip(plan, prefetch(read, plan), strict=True)
        )
        for batch, outputs in delay(started):
            outputs = np.asarray(outputs)
            progress.advance(len(outputs))
            yield batch, outputs


def join_batches(predicted: Iterable[tuple[Batch, np.ndarray]], count: int) -> Iterator[tuple[Batch, np.ndarray]]:
    """Join pairs from `predict_batches` to batches of `count` segments or more."""
    pairs: list[tuple[Batch, np.ndarray]] = []
    for pair in predicted:
        pairs.append(pair)
        if sum(len(outputs) for _, outputs in pairs) >= count:
            yield _concatenate(pairs)
            pairs = []
    if pairs:
        yield _concatenate(pairs)


def _concatenate(pairs: Sequence[tuple[Batch, np.ndarray]]) -> tuple[Batch, np.ndarray]:
    """Return several batches and their outputs as one, with the length of the first."""
    batches, outputs = zip(*pairs, strict=True)
    records, starts = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("records", "starts"))
    return Batch(records, starts, batches[0].length), np.concatenate(outputs)
