"""Networks that answer together: how each sees a recording, the mean of their probabilities, and who is asked."""

from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np

from ecg.data.batches import DEFAULT_VIEW, View
from ecg.data.labels import class_indices
from ecg.data.records import SignalError
from ecg.models.dcnet import DCNetSettings
from ecg.models.resnets import LeadWeightedSettings, LiSettings, NetworkSettings, RhythmSettings

# Kinds of network, by the names that files have for them.
KINDS = {
    "se_resnet": NetworkSettings,
    "li_se_resnet": LiSettings,
    "lead_weighted_resnet": LeadWeightedSettings,
    "dcnet": DCNetSettings,
    "rhythm_se_resnet": RhythmSettings,
}
KIND_OF = {kind: name for name, kind in KINDS.items()}
SURE = 0.5  # above it, a recording is taken to be of the gate's source


def uses_demographics(network):
    """Return whether a network sees age and sex beside the signal."""
    return len(network.inputs) > 1


@dataclass(frozen=True)
class Member:
    """A network: the leads that it sees, in their order, its settings, what it answers by, and how it sees signals."""

    leads: tuple[str, ...]
    settings: object
    network: keras.Model
    output_activation: str = "sigmoid"
    view: View = DEFAULT_VIEW

    @classmethod
    def build(cls, leads, settings, outputs, output_activation="sigmoid", view=DEFAULT_VIEW):
        """Return a Member whose network, of so many outputs, is built by its settings, untrained."""
        return cls(
            leads,
            settings,
            settings.build(len(leads), view.window.length, outputs, output_activation),
            output_activation,
            view,
        )

    def fresh(self):
        """Return a network built as this one's."""
        return self.build(
            self.leads, self.settings, self.network.output_shape[-1], self.output_activation, self.view
        ).network

    @property
    def demographics(self):
        """Whether it sees age and sex."""
        return uses_demographics(self.network)

    def outputs(self, signal, person):
        """Return its outputs (P, K) for the P windows of a signal (T, leads) float32, mV, and a person (5,)."""
        windows = self.view.window.segments(signal)
        inputs = (windows, np.repeat(person[np.newaxis], len(windows), axis=0)) if self.demographics else windows
        return self.network.predict_on_batch(inputs)

    def pool_segments(self, outputs):
        """Return what counts of the outputs (P, K) for all parts of a recording: (K,).

        Where any length will do, the greatest: a finding counts wherever it is, as within a part by global max pooling.
        Else their mean.
        """
        return outputs.max(axis=0) if self.view.window.length is None else outputs.mean(axis=0)


@dataclass(frozen=True)
class Group:
    """Networks that answer for the same classes, abbreviations: the mean of their probabilities counts."""

    classes: tuple[str, ...]
    members: tuple[Member, ...]

    @cached_property
    def columns(self):
        """The columns of the classes (see ecg.data.labels.class_indices): (K,)."""
        return class_indices(self.classes)

    def probabilities(self, parts, person):
        """Return the probabilities (K,) of one recording, of whose parts one is in memory at a time (see Ensemble)."""
        # An error's traceback holds this frame: both together would keep the recording until garbage is collected.
        outputs, reason = [[] for _ in self.members], None
        for signal_of in parts():
            try:
                signals = [signal_of(member.view.preparation, member.leads) for member in self.members]
            except SignalError as error:
                reason = error.with_traceback(None)
                continue
            for member, signal, found in zip(self.members, signals, outputs, strict=True):
                found.append(member.outputs(signal, person))
        if not outputs[0]:
            try:
                raise reason
            finally:
                reason = None
        found = zip(self.members, outputs, strict=True)
        return np.mean([member.pool_segments(np.concatenate(each)) for member, each in found], axis=0)


@dataclass(frozen=True)
class Ensemble:
    """All networks of a system for a lead set: a Group that answers as a rule, and where there is a gate, two more.

    The gate, a Group of no class whose networks have one output, tells recordings of one source; these the other
    group, `special`, answers, of some of the classes, and the others are absent (Li et al. 2021).
    """

    general: Group
    special: Group | None = None
    gate: Group | None = None

    @property
    def groups(self):
        """The groups that there are, by their names."""
        named = {"general": self.general, "special": self.special, "gate": self.gate}
        return {name: group for name, group in named.items() if group}

    @property
    def parameters(self):
        """How many weights all networks have, those that are not learnt by gradient included."""
        return sum(member.network.count_params() for group in self.groups.values() for member in group.members)

    def probabilities(self, parts, person):
        """Return the probabilities (K,) of one recording, for the general group's classes, and which were asked for.

        The latter, (K,) bool, are the classes of the group that answers; the others have 0.

        `parts` is called for an iterator over the recording's parts, of 144 s at the most. A part is a function of a
        Preparation and the names of leads, which returns its signal (T, leads) float32, mV, or raises SignalError: then
        it says nothing. Where no part says anything, the error is raised. `person` (5,) is that of ecg.data.preprocessing.
        """
        special = self.gate and self.gate.probabilities(parts, person)[0] > SURE
        group, columns = self.special if special else self.general, self.general.columns
        return align_classes(group.probabilities(parts, person), group.columns, columns), np.isin(
            columns, group.columns
        )


def choose_group_probabilities(found, columns):
    """Return the probabilities (n, K) that count: the special group's where the gate is sure, else the general one's.

    found: what each group says, by its name, columns: those of its classes, by its name.
    """
    if "gate" not in found:
        return found["general"]
    special = align_classes(found["special"], columns["special"], columns["general"])
    return np.where(found["gate"] > SURE, special, found["general"])


def average_rows(count, parts):
    """Return probabilities (count, K) of parts, pairs of rows (n,) and their probabilities (n, K): the mean by row."""
    total, seen = np.zeros((count, parts[0][1].shape[1]), np.float32), np.zeros((count, 1), np.float32)
    for rows, probabilities in parts:
        total[rows] += probabilities
        seen[rows] += 1
    return total / np.maximum(seen, 1)


def align_classes(probabilities, columns, others):
    """Return probabilities (..., J) of classes, by their columns, as those of others (..., K), 0 for what is not there.

    All of the first are among the others.
    """
    wide = np.zeros((*probabilities.shape[:-1], len(others)), probabilities.dtype)
    wide[..., [others.tolist().index(column) for column in columns]] = probabilities
    return wide
