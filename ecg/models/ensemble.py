"""Ensembles: groups of networks, and a gate that chooses between them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property

import keras
import numpy as np

from ecg.data.batches import DEFAULT_VIEW, View, place_leads
from ecg.data.leads import LEADS, lead_indices
from ecg.data.records import SignalError
from ecg.data.resampling import RATE, Preprocessing
from ecg.models.dcnet import DCNetSettings
from ecg.models.resnets import AttentionSettings, LeadWeightedSettings, LiSettings, NetworkSettings, RhythmSettings

AnyNetworkSettings = (
    NetworkSettings | LiSettings | LeadWeightedSettings | DCNetSettings | RhythmSettings | AttentionSettings
)
# Kinds of network, by their names in saved models.
NETWORK_KINDS: dict[str, type[AnyNetworkSettings]] = {
    "se_resnet": NetworkSettings,
    "li_se_resnet": LiSettings,
    "lead_weighted_resnet": LeadWeightedSettings,
    "dcnet": DCNetSettings,
    "rhythm_se_resnet": RhythmSettings,
    "residual_attention": AttentionSettings,
}
GATE_THRESHOLD = 0.5  # above it, a recording is taken to be from the gate's source


def uses_demographics(network: keras.Model) -> bool:
    """Return whether a network sees age and sex in addition to the signal."""
    return len(network.inputs) > 1


def serves_all_lead_sets(settings: AnyNetworkSettings) -> bool:
    """Return whether a network sees all leads, with zeros for absent ones.

    One such network serves every lead set.
    """
    return isinstance(settings, AttentionSettings)


def input_leads(settings: AnyNetworkSettings, leads: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the leads that a network has inputs for.

    Args:
        settings: Settings of the network.
        leads: Leads that are read for it.
    """
    return LEADS if serves_all_lead_sets(settings) else tuple(leads)


def count_inputs(settings: AnyNetworkSettings, leads: Sequence[str]) -> int:
    """Return the number of leads that a network has inputs for.

    Args:
        settings: Settings of the network.
        leads: Leads that are read for it.
    """
    return len(input_leads(settings, leads))


def build_feature_network(network: keras.Model) -> keras.Model:
    """Return a network that shares all layers but the last, and returns its input.

    Args:
        network: A network of probabilities, whose last layer is fully connected.
    """
    inputs = network.inputs[0] if len(network.inputs) == 1 else tuple(network.inputs)
    return keras.Model(inputs, network.layers[-1].input, name=f"{network.name}_features")


def trace_prediction(network: keras.Model) -> None:
    """Trace TensorFlow's prediction once with unknown batch size and length.

    A network that has been trained in this process, or has predicted, is left as it is.

    TensorFlow would otherwise trace it for the shape of the first batch and, with the second, for all shapes. The two
    round differently, so that a prediction would depend on the recordings before it.

    Args:
        network: The network.
    """
    if keras.backend.backend() != "tensorflow" or network.predict_function is not None:
        return
    with skip_static_shapes(network):
        for size in (0, 2):
            # TensorFlow keeps the trace for the first batch, which is empty, so that it is used for no other. If the
            # network takes any length, the second batch has another length, so that the trace is for all.
            shapes = [[RATE - size if axis is None else axis for axis in tensor.shape[1:]] for tensor in network.inputs]
            inputs = tuple(np.zeros((size, *shape), np.float32) for shape in shapes)
            network.predict_on_batch(inputs if len(inputs) > 1 else inputs[0])


@contextmanager
def skip_static_shapes(network: keras.Model) -> Iterator[None]:
    """Make the steps that are traced within do nothing if they are for one shape only.

    They are never used, and a real one takes seconds to compile.
    """

    def unless_static(step: Callable, nothing: Callable) -> Callable:
        return lambda data: (step if None in keras.tree.flatten(data)[0].shape else nothing)(data)

    network.train_step = unless_static(network.train_step, lambda data: {"loss": keras.ops.zeros(())})
    network.predict_step = unless_static(network.predict_step, lambda data: keras.tree.flatten(data)[0])
    try:
        yield
    finally:
        del network.train_step, network.predict_step


class Segment:
    """A segment of a recording, preprocessed on request.

    `signal` returns what `prepare` does, and computes each combination of preparation and leads once.

    Args:
        prepare: Returns the signal (T, leads) float32 in mV for a Preprocessing and names of leads, or raises
            SignalError if the segment has no valid sample.
    """

    def __init__(self, prepare: Callable[[Preprocessing, tuple[str, ...]], np.ndarray]) -> None:
        self.signal = cache(prepare)


@dataclass(frozen=True)
class Member:
    """A network of an ensemble.

    Attributes:
        leads: Names of the leads that are read for it, in their order.
        settings: Its architecture.
        network: The Keras model.
        output_activation: "sigmoid", or "softmax" if classes exclude each other.
        view: How it sees recordings.
    """

    leads: tuple[str, ...]
    settings: AnyNetworkSettings
    network: keras.Model
    output_activation: str = "sigmoid"
    view: View = DEFAULT_VIEW

    @classmethod
    def build(
        cls,
        leads: tuple[str, ...],
        settings: AnyNetworkSettings,
        n_outputs: int,
        output_activation: str = "sigmoid",
        view: View = DEFAULT_VIEW,
    ) -> "Member":
        """Build a member with an untrained network."""
        inputs = count_inputs(settings, leads)
        network = settings.build(inputs, view.window.length, n_outputs, output_activation)
        return cls(leads, settings, network, output_activation, view)

    def predict(self, signal: np.ndarray, demographics: np.ndarray) -> np.ndarray:
        """Predict each window of a signal.

        Args:
            signal: (T, leads) float32 in mV.
            demographics: (5,), see ecg.data.preprocessing.encode_demographics.

        Returns:
            Outputs, (n_windows, K).
        """
        windows = self.split_windows(signal)
        repeated = np.repeat(demographics[np.newaxis], len(windows), axis=0)
        return self.predict_windows((windows, repeated) if uses_demographics(self.network) else windows)

    @cached_property
    def predict_windows(self) -> Callable[..., np.ndarray]:
        """The network's prediction of a batch, which does not depend on earlier batches."""
        trace_prediction(self.network)
        return self.network.predict_on_batch

    def split_windows(self, signal: np.ndarray) -> np.ndarray:
        """Return the windows of a signal (T, leads) as the network takes them.

        Returns:
            (n_windows, length, n_inputs) float32, see `count_inputs`.
        """
        windows = self.view.window.segments(signal)
        return place_leads(windows, lead_indices(self.leads)) if serves_all_lead_sets(self.settings) else windows

    def pool_windows(self, outputs: np.ndarray) -> np.ndarray:
        """Pool the outputs for all windows of a recording: (n_windows, K) to (K,).

        Windows of a fixed length are averaged. Segments of any length are pooled by their maximum, as the network's
        own global max pooling does within a segment.
        """
        return outputs.max(axis=0) if self.view.window.length is None else outputs.mean(axis=0)


@dataclass(frozen=True)
class Group:
    """Networks for the same classes; their probabilities are averaged.

    Attributes:
        classes: Abbreviations of the classes.
        members: The networks, at least one.

    Raises:
        ValueError: There are no members.
    """

    classes: tuple[str, ...]
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("a group has no networks")

    def predict(self, segments: Sequence[Segment], demographics: np.ndarray) -> np.ndarray:
        """Return the mean probabilities (K,) of the networks; see `predict_each`."""
        return self.predict_each(segments, demographics).mean(axis=0)

    def predict_each(self, segments: Sequence[Segment], demographics: np.ndarray) -> np.ndarray:
        """Predict one recording; only one segment's signals are in memory at a time.

        Args:
            segments: Segments of the recording. Those without a valid sample are skipped.
            demographics: (5,), see ecg.data.preprocessing.encode_demographics.

        Returns:
            Probabilities of each network, (M, K).

        Raises:
            SignalError: If all segments are skipped.
        """
        outputs: list[list[np.ndarray]] = [[] for _ in self.members]
        reason = ""
        for segment in segments:
            waiting = [
                (member, predicted)
                for member, predicted in zip(self.members, outputs, strict=True)
                if not (predicted and member.view.window.first_only)
            ]
            try:
                signals = [segment.signal(member.view.preparation, member.leads) for member, _ in waiting]
            except SignalError as error:
                reason = str(error)
                continue
            for (member, predicted), signal in zip(waiting, signals, strict=True):
                predicted.append(member.predict(signal, demographics))
            if len(segments) > 1:
                segment.signal.cache_clear()
        if not outputs[0]:
            raise SignalError(reason)
        pairs = zip(self.members, outputs, strict=True)
        return np.array([member.pool_windows(np.concatenate(predicted)) for member, predicted in pairs])


@dataclass(frozen=True)
class Ensemble:
    """All networks of a system for a lead set.

    Attributes:
        general: Group that predicts recordings by default.
        special: Group for some of the classes, which predicts the recordings of one source (Li et al. 2021).
        gate: Group without classes. The one output of its networks is whether a recording is from that source.

    Raises:
        ValueError: The special group has a class that the general one lacks.
    """

    general: Group
    special: Group | None = None
    gate: Group | None = None

    def __post_init__(self) -> None:
        if self.special and (unknown := set(self.special.classes).difference(self.general.classes)):
            raise ValueError(f"the general group lacks {', '.join(sorted(unknown))} of the special group")

    @property
    def groups(self) -> dict[str, Group]:
        """The groups by name, without those that are None."""
        groups = {"general": self.general, "special": self.special, "gate": self.gate}
        return {name: group for name, group in groups.items() if group}

    @cached_property
    def feature_group(self) -> Group:
        """The general group, with networks that return the input of their last layer."""
        members = self.general.members
        return replace(
            self.general,
            members=tuple(replace(member, network=build_feature_network(member.network)) for member in members),
        )

    @property
    def parameters(self) -> int:
        """Number of weights of all networks, including moving averages."""
        return sum(member.network.count_params() for group in self.groups.values() for member in group.members)

    def choose_group(self, segments: Sequence[Segment], demographics: np.ndarray) -> Group:
        """Return the group that predicts a recording: the special one if the gate says so.

        Args:
            segments: Segments of the recording.
            demographics: (5,), see ecg.data.preprocessing.encode_demographics.
        """
        if self.gate and self.special and self.gate.predict(segments, demographics)[0] > GATE_THRESHOLD:
            return self.special
        return self.general

    def predict(self, segments: Sequence[Segment], demographics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean probabilities (K,) and a mask (K,); see `predict_members`."""
        members, covered = self.predict_members(segments, demographics)
        return members.mean(axis=0), covered

    def predict_members(self, segments: Sequence[Segment], demographics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict one recording with each network of the group that the gate chooses.

        Args:
            segments: Segments of the recording, of 144 s at most. Those without a valid sample are skipped.
            demographics: (5,), see ecg.data.preprocessing.encode_demographics.

        Returns:
            Probabilities (M, K) of the general group's classes, and a mask (K,) of those that the chosen group
            predicts; the others have probability 0.

        Raises:
            SignalError: If no segment has a valid sample.
        """
        group = self.choose_group(segments, demographics)
        probabilities = align_classes(group.predict_each(segments, demographics), group.classes, self.general.classes)
        return probabilities, np.isin(self.general.classes, group.classes)


def choose_group_probabilities(
    probabilities: Mapping[str, np.ndarray], classes: Mapping[str, Sequence[str]]
) -> np.ndarray:
    """Choose for each recording the group that the gate decides on.

    Args:
        probabilities: Of n recordings, by group.
        classes: Abbreviations of the classes of each group.

    Returns:
        Probabilities of the general group's classes, (n, K).
    """
    if "gate" not in probabilities:
        return probabilities["general"]
    special = align_classes(probabilities["special"], classes["special"], classes["general"])
    return np.where(probabilities["gate"] > GATE_THRESHOLD, special, probabilities["general"])


def average_rows(shape: tuple[int, int], parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Average probabilities by row.

    Args:
        shape: Shape of the result, (N, K).
        parts: Pairs of row numbers (n,) and probabilities (n, K).

    Returns:
        Mean probabilities, (N, K) float32; 0 for a row that is in no part.
    """
    total, seen = np.zeros(shape, np.float32), np.zeros((shape[0], 1), np.float32)
    for rows, probabilities in parts:
        np.add.at(total, rows, probabilities)
        np.add.at(seen, rows, 1)
    return total / np.maximum(seen, 1)


def align_classes(probabilities: np.ndarray, classes: Sequence[str], all_classes: Sequence[str]) -> np.ndarray:
    """Arrange probabilities of some classes as those of all, 0 for the others.

    Args:
        probabilities: (..., J).
        classes: Abbreviations of the classes of the probabilities, J of them.
        all_classes: Abbreviations of the classes of the result, K of them; they include `classes`.
    """
    aligned = np.zeros((*probabilities.shape[:-1], len(all_classes)), probabilities.dtype)
    aligned[..., [list(all_classes).index(name) for name in classes]] = probabilities
    return aligned
