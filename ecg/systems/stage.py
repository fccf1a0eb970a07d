"""Describe a network to train, and build it with its data and its loss."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import keras
import numpy as np
from keras import layers

from ecg.data.batches import DEFAULT_VIEW, Dataset, View
from ecg.data.leads import lead_indices
from ecg.data.store import Store
from ecg.data.wave_peaks import WavePeaks
from ecg.models.ensemble import Member, count_inputs, serves_all_lead_sets, uses_demographics
from ecg.models.initial_weights import InitialNetwork
from ecg.models.network_settings import LOGITS, AnyNetworkSettings, AttentionSettings, LiSettings
from ecg.models.resnets import precision_policy
from ecg.training.losses import MaskableLoss, SquaredError, WeightedSumLoss
from ecg.training.settings import TrainingSettings

SAVED = "float32"  # precision of saved models; thresholds and scores are those of this precision
CHALLENGE, AUROC = "challenge", "auroc"  # metrics of a stage
BOTH = "both"  # last layer of a network whose loss takes more than the probabilities


@dataclass(frozen=True)
class Stage:
    """A network to train on n recordings of a store, for K classes.

    Attributes:
        key: Identity, such as "general/12/fold1". Seeds and the name of the cache folder come from it.
        title: Name for people, in log messages and reports.
        leads: Names of the leads that the network is trained on, in this order.
        loss: Loss over the labels.
        records: Indices of the recordings in the store, (n,).
        targets: Labels as 0 or 1, (n, K).
        masks: Weights of the labels in the loss, (n, K).
        training: Indices among `records` of the training set.
        validation: Indices among `records` of the validation set.
        to_predict: Indices in the store of the recordings to predict once the network is trained, (m,).
        network: Settings of the network.
        learning: Settings of the training.
        view: Preprocessing and window of the signals.
        output_activation: "sigmoid", or "softmax" if the classes exclude each other.
        configurations: Sets of leads, as indices, that training chooses from at random (`ecg.data.batches`).
        peaks: Wave peaks of the store's recordings, if the network also predicts these.
        loss_weights: Weights of the losses over the labels and over the peaks.
        initial_weights: First weights of the network; random ones if empty.
        initial: Network of the same architecture whose weights the network starts from, if any.
        classes: Abbreviations of the K classes; empty if the outputs are others.
        metric: Metric that is logged after each epoch: CHALLENGE, AUROC, or None.
        augmentations: Names of random changes of the training recordings (ecg.data.augmentation).
        lead_sets: Names of the leads to predict with, if the network serves several lead sets; `leads` if empty.
        preliminary: Stage that is trained before this one, whose network starts from its weights.
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
    network: AnyNetworkSettings
    learning: TrainingSettings
    view: View = DEFAULT_VIEW
    output_activation: str = "sigmoid"
    configurations: tuple[tuple[int, ...], ...] = ()
    peaks: WavePeaks | None = None
    loss_weights: tuple[float, float] = (1.0, 0.0)
    initial_weights: tuple[np.ndarray, ...] = ()
    initial: InitialNetwork | None = None
    classes: tuple[str, ...] = ()
    metric: str | None = None
    augmentations: tuple[str, ...] = ()
    lead_sets: tuple[tuple[str, ...], ...] = ()
    preliminary: "Stage | None" = None

    @property
    def keys(self) -> list[str]:
        """Keys of the preliminary stage, if any, and of this one, in their order."""
        return [*(self.preliminary.keys if self.preliminary else ()), self.key]

    def after_preliminary(self, weights: Sequence[np.ndarray]) -> "Stage":
        """Return the stage that follows its preliminary one.

        Args:
            weights: Weights of the preliminary stage's network.
        """
        return replace(self, preliminary=None, initial_weights=tuple(weights))

    @property
    def network_settings(self) -> AnyNetworkSettings:
        """Settings of the network without parts that the loss does not train."""
        settings = self.network
        if isinstance(settings, LiSettings) and self.peaks is None:
            settings = replace(settings, peaks=False)
        if isinstance(settings, AttentionSettings) and self.loss.outputs_per_label == 1:
            settings = replace(settings, second_head=False)
        return settings

    @property
    def prediction_settings(self) -> AnyNetworkSettings:
        """Settings of the part of the network that predicts classes."""
        return replace(self, peaks=None).network_settings

    @property
    def n_predictions(self) -> int:
        """Number of recordings to predict in the end, each once for each lead set."""
        return len(self.to_predict) * max(len(self.lead_sets), 1)

    def cache_parts(self) -> tuple:
        """Return all fields that decide the result, as parts of `fingerprint`."""
        settings = [asdict(part) for part in (self.network, self.learning, self.view)]
        facts = [self.key, self.leads, type(self.loss).__name__, type(self.network).__name__, settings,
                 self.output_activation, self.configurations, self.loss_weights, self.augmentations,
                 self.lead_sets]  # fmt: skip
        peaks = () if self.peaks is None else (self.peaks.starts, self.peaks.samples, self.peaks.waves)
        arrays = (self.records, self.targets, self.masks, self.training, self.validation, self.to_predict)
        return facts, *arrays, *self.loss.parameters, *peaks, *self.initial_weights, *self._initial_parts()

    def _initial_parts(self) -> Iterator[object]:
        """Yield what the weights that the network starts from depend on."""
        if self.initial is not None:
            yield from (self.initial.classes, self.classes, list(self.initial.layers), *self.initial.arrays())


def make_dataset(stage: Stage, store: Store, indices: np.ndarray, network: keras.Model) -> Dataset:
    """Return the inputs of a network for records of a stage.

    Args:
        stage: The stage.
        store: The store of the recordings.
        indices: Indices among the stage's records, (n,).
        network: The network of the stage.
    """
    cell = stage.network.cell if stage.peaks is not None and isinstance(stage.network, LiSettings) else None
    return Dataset(store, stage.records[indices], lead_indices(stage.leads), stage.targets[indices],
                   stage.masks[indices], stage.view.window, uses_demographics(network), stage.configurations,
                   stage.peaks, cell, stage.augmentations, serves_all_lead_sets(stage.network))  # fmt: skip


def build_network(stage: Stage, precision: str) -> keras.Model:
    """Build the untrained network of a stage.

    Args:
        stage: The stage.
        precision: Precision of its computation.

    Returns:
        A network with outputs (B, K), followed by those of the grid of wave peaks if the stage has these, or by the
        logits of a network of two heads if the loss takes them.
    """
    settings, n_classes, length = stage.network_settings, stage.targets.shape[1], stage.view.window.length
    with precision_policy(precision):
        network = settings.build(count_inputs(settings, stage.leads), length, n_classes, stage.output_activation)
        if stage.loss.outputs_per_label > 1:
            outputs = [network.output, network.get_layer(LOGITS).output]
        elif stage.peaks is not None:
            probabilities, peaks = network.outputs
            outputs = [probabilities, layers.Flatten(name="peaks_flat", dtype="float32")(peaks)]
        else:
            return network
        both = layers.Concatenate(name=BOTH, dtype="float32")(outputs)
        return keras.Model(network.inputs[0], both, name=network.name)


def prediction_part(stage: Stage, network: keras.Model) -> keras.Model:
    """Return the part of a stage's network that predicts classes, (B, K)."""
    if network.layers[-1].name != BOTH:
        return network
    return keras.Model(network.inputs[0], network.layers[-1].input[0], name=network.name)


def stage_loss(stage: Stage, network: keras.Model) -> MaskableLoss | WeightedSumLoss:
    """Return the loss of a stage, including that of its wave peaks, if any."""
    if stage.peaks is None:
        return stage.loss
    classes = stage.targets.shape[1]
    widths = (classes, network.output_shape[-1] - classes)
    return WeightedSumLoss((stage.loss, SquaredError()), widths, stage.loss_weights)


def make_member(stage: Stage, weights: list[np.ndarray], leads: tuple[str, ...]) -> Member:
    """Return a stage's trained network as a member, without its wave peaks.

    Args:
        stage: The stage.
        weights: Weights of its network.
        leads: Names of the leads that the member sees.
    """
    network = build_network(stage, SAVED)
    network.set_weights(weights)
    member = Member.build(leads, stage.prediction_settings, stage.targets.shape[1], stage.output_activation, stage.view)
    member.network.set_weights(prediction_part(stage, network).get_weights())
    return member
