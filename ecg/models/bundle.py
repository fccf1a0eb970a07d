"""What is saved of trained networks, loaded again, and answers for one recording: weights plus JSON."""

import logging
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.headers import parse_header
from ecg.data.labels import TRAINED_CLASSES, expand
from ecg.data.leads import LEAD_SETS, describe_missing_leads, lead_sets
from ecg.data.preprocessing import SKIPPED, encode_demographics, leads_first, preprocess, split_segments
from ecg.data.records import SignalError
from ecg.models.config import CLASSES, ModelError, check, network_entry, read_config, sha256, write_config
from ecg.models.decision import Rule
from ecg.models.ensemble import Ensemble, Group, Member
from ecg.runtime.files import atomic_path, read_bytes

__all__ = ("CLASSES", "Bundle", "LeadSetError", "ModelError", "load_bundle", "model_files", "save_bundle")

LARGEST_WEIGHTS = 2**31  # bytes of a file of weights
# What Keras raises over weights that are damaged, or another network's.
DAMAGED = (OSError, RuntimeError, ValueError, LookupError, TypeError, ArithmeticError, MemoryError,
           UserWarning)  # fmt: skip


LOGGER = logging.getLogger("ecg")


class LeadSetError(ModelError):
    """The leads of a recording fill none of the Challenge's lead sets, so that no model can predict it."""

    def __init__(self, leads: Iterable[str]):
        """Say which leads a recording has, and what it lacks."""
        super().__init__(describe_missing_leads(leads))


class Prediction(NamedTuple):
    """What a model says of a recording, of the 26 classes: (26,) each.

    probabilities float32, 0 for a class that its networks were not asked for; outputs bool, whether it is answered, by
    the model's Rule; thresholds, NaN where none decides; asked bool, whether networks were asked for it: those of the
    group that a gate chose tell some of the classes only.
    """

    probabilities: np.ndarray
    outputs: np.ndarray
    thresholds: np.ndarray
    asked: np.ndarray


@dataclass(frozen=True)
class Bundle:
    """The networks of a system for a lead set and how their probabilities become answers: all that an answer needs.

    `repaired` counts the recordings predicted so far in which faults of a kind were repaired (ecg.data.preprocessing.Repair).
    ValueError where a class that the rule names is none that the networks tell, or a threshold is not a number.
    """

    leads: tuple[str, ...]
    ensemble: Ensemble
    rule: Rule
    system: str = "cai2021"
    repaired: Counter = field(default_factory=Counter, compare=False)

    @classmethod
    def from_network(cls, leads, settings, thresholds, network, fallback=None):
        """Return a Bundle of one network for the classes of the method, built by its settings, for a lead set."""
        group = Group(TRAINED_CLASSES, (Member(tuple(leads), settings, network),))
        return cls(tuple(leads), Ensemble(group), Rule(thresholds, fallback=fallback))

    def __post_init__(self):
        self.rule.check(self.ensemble.general.classes)
        if not np.isfinite(self.rule.thresholds).all():
            raise ValueError(f"thresholds are {self.rule.thresholds}, expected numbers")

    def predict_recording(self, header, recording):
        """Return the Prediction for a Header and its stored integers (L, T).

        A recording of more than 144 s, the longest that training sees, is answered in equal parts, one at a time in
        memory, all with the gain that its beginning shows to be right. A part without a valid sample says nothing.
        Raises SignalError where the recording cannot be used.
        """
        recording, kinds = leads_first(header, recording), set()

        def parts():
            yield beginning
            for piece in later:
                yield cache(partial(signal_of, piece))

        def signal_of(piece, preparation, leads):
            try:
                prepared = preprocess(header, piece, leads, recording, preparation)
            except SignalError:
                kinds.add(SKIPPED)
                raise
            kinds.update(repair.kind for repair in prepared.repairs)
            return prepared.signal

        first, *later = split_segments(header, recording)
        beginning = cache(partial(signal_of, first))  # once for a gate and whom it asks; few recordings have more parts
        probabilities, asked = self.ensemble.probabilities(parts, encode_demographics(header.age, header.sex))
        columns = self.ensemble.general.columns
        self.repaired.update(kinds)
        asked = expand(asked, columns)
        thresholds = np.where(asked & (not self.rule.exclusive), self.rule.thresholds, np.nan)
        return Prediction(expand(probabilities, columns), self.rule.answers(probabilities, columns), thresholds, asked)

    def predict(self, header_text, recording):
        """Return the codes of the 26 classes, 0 or 1 for each, and its probability, as the Challenge's drivers ask.

        Raises HeaderError or SignalError where the recording cannot be used.
        """
        name = next(iter(header_text.split(maxsplit=1)), "header")
        found = self.predict_recording(parse_header(header_text, name), recording)
        return list(CLASSES), found.outputs.astype(int), found.probabilities


def save_bundle(bundle, folder):
    """Write a bundle into a model folder: N_leads.weights.h5, and N_leads.json, which comes last and makes it whole.

    Where there are several networks, the second one's weights are in N_leads.2.weights.h5, and so on. The same bundle
    gives the same bytes, whatever else the process has built. The JSON file holds the SHA-256 of each file of weights
    and of its own content, so that none is taken for what it is not.
    """
    folder, number, groups = Path(folder), 0, {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, group in bundle.ensemble.groups.items():
        members = []
        for member in group.members:
            number += 1
            weights = _save_weights(member, model_files(folder, len(bundle.leads), number)[0])
            members.append(network_entry(member, weights))
        groups[name] = {"classes": list(group.classes), "members": members}
    with atomic_path(model_files(folder, len(bundle.leads))[1]) as part:
        part.write_text(write_config(len(bundle.leads), bundle.system, bundle.rule, groups))


def _save_weights(member, path):
    """Write the weights of a Member into a file, and return its SHA-256."""
    with atomic_path(path) as part:
        # Keras saves a trained network's optimizer with it, twice as large; a fresh one has none.
        network = member.fresh()
        network.set_weights(member.network.get_weights())
        network.save_weights(part)
        return sha256(part.read_bytes())


def load_bundle(folder, leads):
    """Load the networks of the richest lead set that leads of these names fill and the folder holds a model for.

    Names are in any order and case, and limb leads that follow from two others count as there. Nothing but text and
    numbers is read. A warning is logged where a richer set could be filled and its model is missing. Raises ModelError
    where the leads fill none of the five sets (LeadSetError), where the folder holds no model for any that they fill,
    and where a file of the model is missing, damaged, edited or of another program. But for a LeadSetError, its message
    is the same for all leads that fill the same sets.
    """
    folder, leads = Path(folder), list(leads)
    sizes = lead_sets(leads)
    if not sizes:
        raise LeadSetError(leads)
    count = next((size for size in sizes if model_files(folder, size)[1].exists()), 0)
    missing = model_files(folder, sizes[0])[1]
    if not count:
        numbers = " or ".join(map(str, sorted(sizes)))
        raise ModelError(f"{folder}: no model for {numbers} leads, {missing.name} is missing")
    if count != sizes[0]:
        LOGGER.warning(
            "%s is missing: recordings of %d leads are predicted with the model of %d leads", missing, sizes[0], count
        )
    saved, number, groups = read_config(model_files(folder, count)[1], count), 0, {}
    for name, (classes, members) in saved.groups.items():
        loaded = []
        for member in members:
            number += 1
            loaded.append(_load_member(member, max(len(classes), 1), model_files(folder, count, number)[0]))
        groups[name] = Group(classes, tuple(loaded))
    return Bundle(LEAD_SETS[count], Ensemble(**groups), saved.rule, saved.system)


def _load_member(saved, outputs, weights):
    """Return the Member that a Described (ecg.models.config) tells of, with so many outputs and a file of weights."""
    data = read_bytes(weights, LARGEST_WEIGHTS, ModelError)
    check(sha256(data) == saved.weights, weights, "SHA-256", sha256(data), f"{saved.weights} by the JSON file")
    # So that nothing absurd is built.
    least = 4 * saved.settings.min_parameters(len(saved.leads), outputs)
    check(least <= len(data), weights, "its size", f"{len(data):,} bytes", f"{least:,} and more by the JSON file")
    try:
        member = Member.build(saved.leads, saved.settings, outputs, saved.output_activation, saved.view)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # in place of which Keras leaves out what it does not find
            member.network.load_weights(weights)
    except DAMAGED as error:
        # Keras tells how it goes through its own file, which helps nobody here.
        raise ModelError(f"{weights}: not the weights of the network that the JSON file describes") from error
    finite = all(np.isfinite(values).all() for values in member.network.get_weights())
    check(finite, weights, "a weight", "not a number", "finite numbers")
    return member


def model_files(folder, count, number=1):
    """Return where a lead set's model is in a folder: the weights of its network so-and-so, and its description."""
    later = f".{number}" if number > 1 else ""
    return folder / f"{count}_leads{later}.weights.h5", folder / f"{count}_leads.json"
