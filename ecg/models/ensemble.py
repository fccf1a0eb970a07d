"""Ensembles: groups of networks, and a gate that chooses between them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np

from ecg.data.batches import DEFAULT_VIEW, View, place_leads
from ecg.data.leads import LEADS, lead_indices
from ecg.data.records import SignalError
from ecg.data.resampling import Preprocessing
from ecg.models.network_settings import AnyNetworkSettings, AttentionSettings
from ecg.models.numpy_network import NumpyNetwork, Threads
from ecg.runtime.keras_startup import start_keras

if TYPE_CHECKING:  # takes seconds
    import keras

GATE_THRESHOLD = 0.5  # above it, a recording is taken to be from the gate's source


def uses_demographics(network: "keras.Model | NumpyNetwork") -> bool:
    """Return whether a network sees age and sex in addition to the signal."""
    return (network.n_inputs if isinstance(network, NumpyNetwork) else len(network.inputs)) > 1


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

    It predicts by numpy. Keras is started if the Keras network is asked for.

    Attributes:
        leads: Names of the leads that are read for it, in their order.
        settings: Its architecture.
        source: The network, of Keras or of numpy.
        output_activation: "sigmoid", or "softmax" if classes exclude each other.
        view: How it sees recordings.
    """

    leads: tuple[str, ...]
    settings: AnyNetworkSettings
    source: "keras.Model | NumpyNetwork"
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
        start_keras(shares=True)
        inputs = count_inputs(settings, leads)
        network = settings.build(inputs, view.window.length, n_outputs, output_activation)
        return cls(leads, settings, network, output_activation, view)

    @cached_property
    def network(self) -> "keras.Model":
        """The Keras network; changes of a loaded one change no prediction."""
        if not isinstance(self.source, NumpyNetwork):
            return self.source
        n_outputs = self.source.n_outputs
        network = Member.build(self.leads, self.settings, n_outputs, self.output_activation, self.view).network
        network.set_weights(self.source.weights)
        return network

    @cached_property
    def numpy_network(self) -> NumpyNetwork:
        """The network by numpy, with the weights that it has at the first use."""
        if isinstance(self.source, NumpyNetwork):
            return self.source
        from ecg.models.numpy_translation import translate_for_numpy

        return translate_for_numpy(self.source)

    def predict(self, signal: np.ndarray, demographics: np.ndarray) -> np.ndarray:
        """Predict each window of a signal.

        Args:
            signal: (T, leads) float32 in mV.
            demographics: (5,), see ecg.data.preprocessing.encode_demographics.

        Returns:
            Outputs, (n_windows, K).
        """
        inputs = [self.split_windows(signal)]
        if uses_demographics(self.source):
            inputs.append(np.repeat(demographics[np.newaxis], len(inputs[0]), axis=0))
        return self.numpy_network.predict(*inputs)

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


def predict_signals(
    members: Sequence[Member], signals: Sequence[np.ndarray], demographics: np.ndarray
) -> list[np.ndarray]:
    """Predict a signal with each of some networks, Threads.networks at the same time.

    Args:
        members: The networks.
        signals: The signal of each; see `Member.predict`.
        demographics: (5,), see ecg.data.preprocessing.encode_demographics.

    Returns:
        The outputs of each, (n_windows, K).
    """
    n_threads = min(Threads.networks, len(members))
    if n_threads < 2:
        return [member.predict(signal, demographics) for member, signal in zip(members, signals, strict=True)]
    with ThreadPoolExecutor(n_threads) as executor:
        return list(executor.map(lambda member, signal: member.predict(signal, demographics), members, signals))


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
            chosen = [member for member, _ in waiting]
            for (_, predicted), windows in zip(waiting, predict_signals(chosen, signals, demographics), strict=True):
                predicted.append(windows)
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
            self.general, members=tuple(replace(member, source=member.numpy_network.features) for member in members)
        )

    @property
    def parameters(self) -> int:
        """Number of weights of all networks, including moving averages."""
        networks = [member.numpy_network for group in self.groups.values() for member in group.members]
        return sum(weights.size for network in networks for weights in network.weights)

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
