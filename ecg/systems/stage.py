"""The network of one stage of a method: trained, or what it came to where that is done already."""

import logging
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from ecg.data.batches import DEFAULT_VIEW, Batch, Dataset, View
from ecg.data.leads import lead_indices
from ecg.data.wave_peaks import LEAD, PEAKS_PER_CELL, VALUES_PER_PEAK, PeakList, decode_peaks
from ecg.models.ensemble import Member, uses_demographics
from ecg.models.resnets import POLICIES, precision_policy
from ecg.runtime.cache import KEY_LENGTH, ResultCache, fingerprint, folder_name, source_hash
from ecg.training.arithmetic import check_arithmetic
from ecg.training.backend import accelerators, distribution_scope
from ecg.training.checkpoint import Epoch, pack_arrays, pack_epochs, unpack_arrays, unpack_epochs
from ecg.training.losses import MaskableLoss, SquaredError, WeightedSumLoss
from ecg.training.trainer import (
    PROGRESS,
    TrainingError,
    TrainingRun,
    TrainingSettings,
    predict,
    seeds,
    train_network,
    translate_out_of_memory,
)

LOGGER = logging.getLogger("ecg")

# Folders that decide what a network comes to.
PROGRAM = ("data", "models", "training", "systems")
SAVED = "float32"  # precision in which a saved model answers
RESULT = "result"  # what a StageFolder keeps of a stage that is done


@dataclass(frozen=True)
class Stage:
    """A network to be trained: n recordings of a store, K classes.

    key: names it for the program: its seeds and its folder come from it, such as general/12/fold1; title: for people.
    leads: their names, as the network sees them, records (n,) places in the store, targets (n, K), masks (n, K): what
    each label counts, training and validation: places among the records, asked (m,): places in the store of the
    recordings that it is to answer for. network: its settings, learning: how it is trained, view: how it sees signals,
    answer: "sigmoid", or "softmax" where classes exclude each other, configurations: see ecg.data.batches.

    peaks: the waves of the store's recordings (ecg.data.wave_peaks), where the network finds them, too, and shares: what its
    loss over the labels counts, and that over the peaks. first: weights to begin with, fresh ones where there are none.
    """

    key: str
    title: str
    leads: tuple[str, ...]
    loss: MaskableLoss
    records: np.ndarray
    targets: np.ndarray
    masks: np.ndarray
    training: np.ndarray
    validation: np.ndarray
    to_predict: np.ndarray
    network: object
    learning: TrainingSettings
    view: View = DEFAULT_VIEW
    output_activation: str = "sigmoid"
    configurations: tuple[tuple[int, ...], ...] = ()
    peaks: object = None
    loss_weights: tuple[float, float] = (1.0, 0.0)
    initial_weights: tuple[np.ndarray, ...] = ()

    def cache_parts(self):
        """Return what the network comes to by, beside the store, the seed and the program: parts of a fingerprint."""
        settings = [asdict(each) for each in (self.network, self.learning, self.view)]
        facts = [self.key, self.leads, type(self.loss).__name__, type(self.network).__name__, settings, self.output_activation,
                 self.configurations, self.loss_weights]  # fmt: skip
        peaks = () if self.peaks is None else (self.peaks.starts, self.peaks.samples, self.peaks.waves)
        parts = (self.records, self.targets, self.masks, self.training, self.validation, self.to_predict)
        return facts, *parts, *peaks, *self.initial_weights


class Outcome(NamedTuple):
    """What a stage came to: its epochs, the network's weights, its probabilities (m, K) for what it was asked, its end.

    The end is a text: what ended the epochs. seconds: how long it took, without what was lost of epochs cut off.
    """

    epochs: list[Epoch]
    weights: list[np.ndarray]
    probabilities: np.ndarray
    ended: str
    seconds: float = 0.0


def fit_stage(stage, store, stages, seed, score, budget, left):
    """Train the network of a stage, and return its Outcome; of one that is done already, that.

    The stage's own folder in `stages` keeps it, under the fingerprint of all that decides what it comes to. `score`
    is that of ecg.training.trainer.TrainingRun; the Budget is shared by the stages that are `left`, this one
    included. Raises TrainingError as train_network does, and where the memory is too small.
    """
    backend = keras.backend.backend()
    makers = (source_hash(*PROGRAM), keras.version(), backend, version(backend))
    mark = fingerprint(store.digest, *makers, seed, *stage.cache_parts())
    folder = ResultCache(stages / f"{folder_name(stage.key)}_{mark[:KEY_LENGTH]}", mark)
    result = folder.load(RESULT)
    if result is None:
        budget.begin(left, len(stage.validation) + len(stage.to_predict))
        with translate_out_of_memory(stage.title), distribution_scope(accelerators()):
            keras.utils.set_random_seed(int(seeds(seed, f"{stage.key}/weights", 0, 1)[0]))
            network = build_network(stage, stage.learning.precision)
            check_precision(network, stage.learning.precision)
            if stage.initial_weights:
                network.set_weights(stage.initial_weights)
            learnt, checked = (make_dataset(stage, store, part, network) for part in (stage.training, stage.validation))
            loss = stage_loss(stage, network)
            run = TrainingRun(stage.learning, seed, stage.key, stage.title, score, folder, budget)
            epochs, ended = train_network(network, loss, learnt, checked, run)
            if stage.learning.precision != SAVED:  # thresholds and scores are to be those of the saved model
                trained, network = network, build_network(stage, SAVED)
                network.set_weights(trained.get_weights())
            answering = prediction_part(stage, network)
            answering.jit_compile = backend == "jax"
            asked = Dataset(store, stage.to_predict, lead_indices(stage.leads), window=stage.view.window,
                             demographics=uses_demographics(answering))  # fmt: skip
            probabilities = predict(answering, asked, f"{stage.title}, answers", stage.learning.batch)
        result = {
            "epochs": pack_epochs(epochs), "ended": np.array(ended), "probabilities": probabilities,
            "used": budget.used, **pack_arrays("weights", network.get_weights()),
        }  # fmt: skip
        folder.save(RESULT, result)
        folder.delete(PROGRESS)
    else:
        budget.skip(result["used"])
        LOGGER.info(f"{stage.title}: done before")
    weights, ended = unpack_arrays("weights", result), str(result["ended"])
    return Outcome(unpack_epochs(result["epochs"]), weights, result["probabilities"], ended, float(result["used"][0]))


def check_precision(network: keras.Model, precision: str) -> None:
    """Check that this machine computes right in the precision of a training; it takes some seconds, once a process.

    Args:
        network: Network that is to be trained.
        precision: One of ecg.models.resnets.POLICIES.

    Raises:
        TrainingError: If a convolution or a gradient is wrong. The message names the shape and the cure.
    """
    if precision != SAVED:
        check_arithmetic(network, POLICIES[precision], TrainingError)


def make_dataset(stage, store, places, network):
    """Return the Examples of a stage at some places among its records, as its network sees them."""
    cell = None if stage.peaks is None else stage.network.cell
    return Dataset(store, stage.records[places], lead_indices(stage.leads), stage.targets[places], stage.masks[places],
                    stage.view.window, uses_demographics(network), stage.configurations, stage.peaks, cell)  # fmt: skip


def build_network(stage, precision):
    """Return the network of a stage, untrained, that computes in a precision: its output is (B, K), or with peaks more.

    Then the columns from K on are those of the grid of peaks (ecg.data.wave_peaks).
    """
    settings = without_peaks(stage.network) if stage.peaks is None else stage.network
    with precision_policy(precision):
        network = settings.build(
            len(stage.leads), stage.view.window.length, stage.targets.shape[1], stage.output_activation
        )
        if stage.peaks is None:
            return network
        probabilities, peaks = network.outputs
        flat = layers.Flatten(name="peaks_flat", dtype="float32")(peaks)
        both = layers.Concatenate(name="both", dtype="float32")([probabilities, flat])
        return keras.Model(network.inputs[0], both, name=network.name)


def without_peaks(settings):
    """Return a network's settings without what finds peaks, where it does."""
    return replace(settings, peaks=False) if getattr(settings, "peaks", False) else settings


def prediction_part(stage, network):
    """Return the network that answers, (B, K), within one that `built` gave: itself where there are no peaks."""
    if stage.peaks is None:
        return network
    return keras.Model(network.inputs[0], network.get_layer("both").input[0], name=network.name)


def stage_loss(stage, network):
    """Return the loss of a stage, joined with that of the peaks where there are such."""
    if stage.peaks is None:
        return stage.loss
    classes = stage.targets.shape[1]
    widths = (classes, network.output_shape[-1] - classes)
    return WeightedSumLoss((stage.loss, SquaredError()), widths, stage.loss_weights)


class PeakExample(NamedTuple):
    """Peaks in the first window of a recording: lead II (T,) in mV, its sampling frequency, Peaks known and found."""

    name: str
    signal: np.ndarray
    rate: int
    known: PeakList
    found: PeakList


def predict_peaks(stage, store, weights, places):
    """Return what a stage's network with these weights finds in some of its records, (n,) places: a list of Found."""
    network = build_network(stage, SAVED)
    network.set_weights(weights)
    examples, length = make_dataset(stage, store, places, network), stage.view.window.length
    batch = Batch(np.arange(len(places)), np.zeros(len(places), int), length)
    signals = examples.inputs(batch)
    grids = [each[:, stage.targets.shape[1] :].reshape(len(places), -1, PEAKS_PER_CELL, VALUES_PER_PEAK)
             for each in (examples.targets_and_masks(batch)[0], network.predict_on_batch(signals))]  # fmt: skip
    names, lead = store.names[examples.records].tolist(), stage.leads.index(LEAD)
    return [
        PeakExample(
            name, signal[:, lead], stage.view.preparation.rate, decode_peaks(known, length), decode_peaks(found, length)
        )
        for name, signal, known, found in zip(names, signals, *grids, strict=True)
    ]


def make_member(stage, weights):
    """Return the Member of an ensemble that a stage's network with these weights is, without what finds peaks."""
    network = build_network(stage, SAVED)
    network.set_weights(weights)
    settings = without_peaks(stage.network)
    member = Member.build(stage.leads, settings, stage.targets.shape[1], stage.output_activation, stage.view)
    member.network.set_weights(prediction_part(stage, network).get_weights())
    return member
