"""Start a network from the weights of another one of the same architecture."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np

from ecg.data.batches import View
from ecg.models.ensemble import Member, input_leads
from ecg.models.network_settings import AnyNetworkSettings


@dataclass(frozen=True)
class InitialNetwork:
    """A trained network whose weights another one starts from.

    Attributes:
        leads: Names of the leads that it sees; all if it serves every lead set.
        settings: Its architecture, without the branch that predicts wave peaks.
        view: How it sees recordings.
        classes: Abbreviations of the classes that it predicts.
        layers: Weights of its layers, by their names.
    """

    leads: tuple[str, ...]
    settings: AnyNetworkSettings
    view: View
    classes: tuple[str, ...]
    layers: Mapping[str, list[np.ndarray]]

    @classmethod
    def from_member(cls, member: Member, classes: Sequence[str]) -> "InitialNetwork":
        """Return the weights of a member of an ensemble.

        Args:
            member: The member.
            classes: Abbreviations of the classes that it predicts.
        """
        layers = {layer.name: layer.get_weights() for layer in member.network.layers if layer.weights}
        leads = input_leads(member.settings, member.leads)
        return cls(leads, member.settings, member.view, tuple(classes), layers)

    def build(self) -> keras.Model:
        """Build the network with its weights."""
        network = self.settings.build(len(self.leads), self.view.window.length, len(self.classes))
        self.transfer(network, self.classes)
        return network

    def arrays(self) -> Iterator[np.ndarray]:
        """Yield all weights."""
        for weights in self.layers.values():
            yield from weights

    @cached_property
    def head(self) -> frozenset[str]:
        """Names of the layers whose size depends on the number of classes."""
        shapes = [
            {layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in network.layers}
            for network in (self.settings.build(len(self.leads), self.view.window.length, count) for count in (1, 2))
        ]
        return frozenset(name for name in shapes[0] if shapes[0][name] != shapes[1][name])

    def transfer(self, network: keras.Model, classes: Sequence[str]) -> None:
        """Give a network of the same architecture these weights.

        Its head keeps its random weights if it predicts other classes. Layers that this network lacks, such as those
        that predict wave peaks, keep theirs.

        Args:
            network: The network.
            classes: Abbreviations of the classes that it predicts; empty if its outputs are no classes.
        """
        kept = frozenset() if tuple(classes) == self.classes else self.head
        for layer in network.layers:
            if layer.name in self.layers and layer.name not in kept:
                layer.set_weights(self.layers[layer.name])
