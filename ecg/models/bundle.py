"""Save and load trained models, and predict single recordings with them.

A model folder has weights (HDF5) and one JSON file for each lead set. The JSON file describes the networks and the
decision rule, and holds the SHA-256 of each file of weights and of its own content. The checksums detect damage, edits
and files that do not belong together. They do not protect against somebody who computes them anew.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.class_tables import ClassTable
from ecg.data.headers import Header, parse_header
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.leads import LEAD_SETS, describe_missing_leads, find_lead_sets
from ecg.data.preprocessing import SKIPPED, Repair, encode_demographics, leads_first, preprocess, split_segments
from ecg.data.records import SignalError
from ecg.data.resampling import Preprocessing
from ecg.models.config import (
    INVALID,
    ModelError,
    ModelSpec,
    NetworkSpec,
    hash_bytes,
    invalid_config,
    model_files,
    network_entry,
    read_config,
    require_value,
    write_config,
)
from ecg.models.decision import VOTE, Rule
from ecg.models.ensemble import Ensemble, Group, Member, Segment
from ecg.models.network_file import read_network_file, write_network_file
from ecg.runtime.files import atomic_path, read_bytes

LOGGER = logging.getLogger("ecg")
MAX_WEIGHTS_BYTES = 2**31
# What is raised if weights are damaged or belong to another network.
DAMAGED = (*INVALID, OSError, RuntimeError, MemoryError, UserWarning)


class Prediction(NamedTuple):
    """Prediction for one recording and the C scored classes; arrays are (C,).

    Attributes:
        probabilities: float32; 0 for a class that is not covered.
        outputs: bool; whether the class is predicted, by the model's Rule.
        thresholds: float64; NaN for a class that is not decided by a threshold.
        covered: bool; whether the chosen group of networks predicts the class. The group for one source may predict
            only some of the system's classes.
        leads: Names of the leads that were used.
        repairs: What was repaired. A recording of several segments may have several repairs of a kind.
        classes: The C classes.
    """

    probabilities: np.ndarray
    outputs: np.ndarray
    thresholds: np.ndarray
    covered: np.ndarray
    leads: tuple[str, ...] = ()
    repairs: tuple[Repair, ...] = ()
    classes: ClassTable = CHALLENGE_CLASSES

    @property
    def by_class(self) -> dict[str, float]:
        """The probability of each covered class, by its abbreviation."""
        values = zip(self.classes.abbreviations, self.probabilities.tolist(), self.covered.tolist(), strict=True)
        return {name: probability for name, probability, is_covered in values if is_covered}

    @property
    def predicted_classes(self) -> tuple[str, ...]:
        """Abbreviations of the classes that are predicted."""
        pairs = zip(self.classes.abbreviations, self.outputs, strict=True)
        return tuple(name for name, is_predicted in pairs if is_predicted)


@dataclass(frozen=True)
class Bundle:
    """All that is needed to predict recordings of a lead set.

    Attributes:
        leads: The lead set.
        ensemble: The networks.
        rule: How probabilities become predicted classes.
        system: Name of the system.
        repaired: Number of the recordings predicted so far with repairs of each kind (ecg.data.preprocessing.Repair).

    Raises:
        ValueError: If a class of the networks is unknown, the rule predicts a class that they do not, or a threshold is
            not finite, or not each of the networks that vote has thresholds.
    """

    leads: tuple[str, ...]
    ensemble: Ensemble
    rule: Rule
    system: str = "cai2021"
    repaired: Counter[str] = field(default_factory=Counter, compare=False)

    def __post_init__(self) -> None:
        if unknown := set(self.ensemble.general.classes).difference(self.classes.all_abbreviations):
            raise ValueError(f"{', '.join(sorted(unknown))}: not in the table of classes")
        self.rule.check(self.ensemble.general.classes)
        thresholds, members = self.rule.member_thresholds, self.ensemble.general.members
        for values in (self.rule.thresholds, *(() if thresholds is None else thresholds)):
            if not np.isfinite(values).all():
                raise ValueError(f"thresholds are {values}, expected finite numbers")
        if self.rule.decision == VOTE and (self.ensemble.gate or thresholds is None or len(thresholds) != len(members)):
            raise ValueError(f"a vote of {len(members)} networks needs thresholds for each of them, and no gate")

    @property
    def classes(self) -> ClassTable:
        """The classes that are scored."""
        return self.rule.classes

    @cached_property
    def columns(self) -> np.ndarray:
        """Indices of the classes that the networks predict (`ClassTable.indices`), (K,)."""
        return self.classes.indices(self.ensemble.general.classes)

    @property
    def exclusive(self) -> bool:
        """Whether the classes exclude each other."""
        return self.ensemble.general.members[0].output_activation == "softmax"

    @property
    def early_gains(self) -> bool:
        """Whether the gains of early-2020 headers are corrected, as in the training."""
        return self.ensemble.general.members[0].view.preparation.early_gains

    def prepare_segments(self, header: Header, recording: np.ndarray) -> tuple[list[Segment], set[Repair]]:
        """Split a recording into segments that are preprocessed on request.

        Args:
            header: Header of the recording.
            recording: Stored integers, (L, T).

        Returns:
            The segments, and a set. Preprocessing a segment adds its repairs to it.

        Raises:
            SignalError: If the recording has another shape than the header says, or is too long.
        """
        recording, repairs = leads_first(header, recording), set[Repair]()

        def prepare(integers: np.ndarray, preparation: Preprocessing, leads: tuple[str, ...]) -> np.ndarray:
            try:
                prepared = preprocess(header, integers, leads, recording, preparation)
            except SignalError:
                repairs.add(Repair(SKIPPED, (), 1))
                raise
            repairs.update(prepared.repairs)
            return prepared.signal

        return [Segment(partial(prepare, integers)) for integers in split_segments(header, recording)], repairs

    def predict_recording(self, header: Header, recording: np.ndarray) -> Prediction:
        """Predict one recording.

        A recording of more than 144 s, the longest duration in training, is split into equal segments. Segments
        without a valid sample are skipped.

        Args:
            header: Header of the recording.
            recording: Stored integers, (L, T).

        Raises:
            SignalError: If the recording cannot be used.
        """
        segments, repairs = self.prepare_segments(header, recording)
        members, covered = self.ensemble.predict_members(segments, encode_demographics(header.age, header.sex))
        return self._make_prediction(members, covered, repairs)

    def embed_recording(self, header: Header, recording: np.ndarray) -> np.ndarray:
        """Return the features of a recording before the last layer of the networks.

        These are the networks that predict by default; a gate is not asked. Features of several windows or segments
        are pooled as probabilities are.

        Args:
            header: Header of the recording.
            recording: Stored integers, (L, T).

        Returns:
            Features of the first network, then of the next: (n_features,) float32.

        Raises:
            SignalError: If the recording cannot be used.
        """
        segments, repairs = self.prepare_segments(header, recording)
        features = self.ensemble.feature_group.predict_each(segments, encode_demographics(header.age, header.sex))
        self._count_repairs(repairs)
        return features.ravel()

    def _make_prediction(self, members: np.ndarray, covered: np.ndarray, repairs: set[Repair]) -> Prediction:
        """Decide on a recording, and count its repairs.

        Args:
            members: Probabilities of each network, (M, K).
            covered: Which of the general group's classes are predicted, (K,).
            repairs: What was repaired.
        """
        probabilities, indices, expand = members.mean(axis=0), self.columns, self.classes.expand
        self._count_repairs(repairs)
        covered = expand(covered, indices)
        thresholds = np.where(covered, self.rule.applied_thresholds, np.nan)
        outputs = self.rule.decide(probabilities, indices, members)
        return Prediction(expand(probabilities, indices), outputs, thresholds, covered, self.leads,
                          tuple(sorted(repairs)), self.classes)  # fmt: skip

    def _count_repairs(self, repairs: set[Repair]) -> None:
        """Count a recording for each kind of its repairs."""
        self.repaired.update({repair.kind for repair in repairs})

    def predict(self, header_text: str, recording: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Predict one recording as the Challenge's scripts expect.

        Args:
            header_text: Text of the header file.
            recording: Stored integers, (L, T).

        Returns:
            The codes of the C scored classes, 0 or 1 for each, and its probability.

        Raises:
            RecordError: If header or recording cannot be used.
        """
        name = next(iter(header_text.split(maxsplit=1)), "header")
        prediction = self.predict_recording(parse_header(header_text, name), recording)
        return list(self.classes.code_lists), prediction.outputs.astype(int), prediction.probabilities


def save_bundle(bundle: Bundle, folder: str | Path) -> None:
    """Write a bundle into a model folder.

    The first network is in N_leads.weights.h5, the second in N_leads.2.weights.h5, and so on (ecg.models.network_file).
    N_leads.json describes them; it is written last, so that a model with a description is complete. It holds the
    SHA-256 of each file of weights and of its own content. The same bundle gives the same bytes in every process.
    """
    folder, numbers, groups = Path(folder), itertools.count(1), {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, group in bundle.ensemble.groups.items():
        members = []
        for member in group.members:
            with atomic_path(model_files(folder, len(bundle.leads), next(numbers))[0]) as path:
                write_network_file(member, path)
                members.append(network_entry(member, hash_bytes(path.read_bytes())))
        groups[name] = {"classes": group.classes, "members": members}
    with atomic_path(model_files(folder, len(bundle.leads))[1]) as path:
        path.write_text(write_config(len(bundle.leads), bundle.system, bundle.rule, groups))


def load_bundle(folder: str | Path, leads: Iterable[str], *, fallback: bool = True) -> Bundle:
    """Load the model for the largest lead set that the leads contain.

    No code is executed: only JSON and HDF5 weights are read.

    Args:
        folder: Model folder.
        leads: Names of leads in any order and case. Limb leads that follow from two others count as present.
        fallback: Whether the model for the next smaller lead set is loaded, and a warning is logged, if the folder has
            no model for the largest.

    Raises:
        ModelError: If the leads contain no lead set, if there is no model for them, or if a file is missing, damaged,
            edited, or of another version. The message depends only on the lead sets that the leads contain.
    """
    folder, numbers, groups = Path(folder), itertools.count(1), {}
    n_leads, spec = describe_bundle(folder, leads, fallback=fallback)
    try:
        for name, (classes, networks) in spec.groups.items():
            members = [
                _load_member(network, max(len(classes), 1), model_files(folder, n_leads, next(numbers))[0])
                for network in networks
            ]
            groups[name] = Group(classes, tuple(members))
        return Bundle(LEAD_SETS[n_leads], Ensemble(**groups), spec.rule, spec.system)
    except INVALID as error:
        raise invalid_config(model_files(folder, n_leads)[1], error) from error


def describe_bundle(folder: Path, leads: Iterable[str], *, fallback: bool = True) -> tuple[int, ModelSpec]:
    """Return number of leads and description of the model that `load_bundle` loads.

    No weights are read. The arguments and errors are those of `load_bundle`.
    """
    sizes = find_lead_sets(leads := list(leads))
    if not sizes:
        raise ModelError(describe_missing_leads(leads))
    paths = {size: model_files(folder, size)[1] for size in (sizes if fallback else sizes[:1])}
    missing = paths[sizes[0]]
    n_leads = next((size for size, path in paths.items() if path.exists()), None)
    if n_leads is None:
        names = " or ".join(map(str, sorted(paths)))
        raise ModelError(f"{folder}: no model for {names} leads, {missing.name} is missing")
    if n_leads != sizes[0]:
        LOGGER.warning(
            "%s is missing: recordings of %d leads are predicted with the model of %d leads", missing, sizes[0], n_leads
        )
    return n_leads, read_config(paths[n_leads], n_leads)


def _load_member(spec: NetworkSpec, n_outputs: int, path: Path) -> Member:
    """Load the network of a description from its file."""
    content = bytes(read_bytes(path, MAX_WEIGHTS_BYTES, ModelError))
    digest = hash_bytes(content)
    require_value(digest == spec.weights, path, "SHA-256", digest, f"{spec.weights} by the JSON file")
    try:
        member = read_network_file(content, spec, n_outputs)
        weights = member.numpy_network.weights
    except DAMAGED as error:
        # The libraries' own messages describe the file format, not the fault.
        raise ModelError(f"{path}: not the weights of the network that the JSON file describes") from error
    finite = all(np.isfinite(values).all() for values in weights)
    require_value(finite, path, "a weight", "not finite", "finite numbers")
    return member
