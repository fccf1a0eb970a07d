"""Save and load trained models, and predict single recordings with them."""

import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from ecg.data.headers import Header, parse_header
from ecg.data.labels import TRAINED_CLASSES, expand
from ecg.data.leads import LEAD_SETS, describe_missing_leads, lead_sets
from ecg.data.preprocessing import SKIPPED, encode_demographics, leads_first, preprocess, split_segments
from ecg.data.records import SignalError
from ecg.data.resampling import Preprocessing
from ecg.models.config import (
    CLASSES,
    ModelError,
    NetworkSpec,
    network_entry,
    read_config,
    require,
    sha256,
    write_config,
)
from ecg.models.decision import Rule
from ecg.models.ensemble import AnyNetworkSettings, Ensemble, Group, Member, Segment
from ecg.runtime.files import atomic_path, read_bytes

__all__ = ("CLASSES", "Bundle", "LeadSetError", "ModelError", "load_bundle", "model_files", "save_bundle")

LOGGER = logging.getLogger("ecg")
MAX_WEIGHTS_BYTES = 2**31
# What Keras raises if weights are damaged or belong to another network.
DAMAGED = (OSError, RuntimeError, ValueError, LookupError, TypeError, ArithmeticError, MemoryError,
           UserWarning)  # fmt: skip


class LeadSetError(ModelError):
    """The leads of a recording fill none of the Challenge's lead sets."""

    def __init__(self, leads: Iterable[str]) -> None:
        super().__init__(describe_missing_leads(leads))


class Prediction(NamedTuple):
    """Prediction for one recording and the 26 scored classes; arrays are (26,).

    Attributes:
        probabilities: float32; 0 for a class that is not covered.
        outputs: bool; whether the class is predicted, by the model's Rule.
        thresholds: float64; NaN for a class that is not decided by a threshold.
        covered: bool; whether the chosen group of networks predicts the class. The group for one source may predict
            only some of the system's classes.
    """

    probabilities: np.ndarray
    outputs: np.ndarray
    thresholds: np.ndarray
    covered: np.ndarray


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
        ValueError: If the rule predicts a class that the networks do not, or a threshold is not finite.
    """

    leads: tuple[str, ...]
    ensemble: Ensemble
    rule: Rule
    system: str = "cai2021"
    repaired: Counter[str] = field(default_factory=Counter, compare=False)

    @classmethod
    def from_network(
        cls,
        leads: Sequence[str],
        settings: AnyNetworkSettings,
        thresholds: np.ndarray,
        network: keras.Model,
        fallback: str | None = None,
    ) -> "Bundle":
        """Make a bundle of one network for the default classes and lead set."""
        group = Group(TRAINED_CLASSES, (Member(tuple(leads), settings, network),))
        return cls(tuple(leads), Ensemble(group), Rule(thresholds, fallback=fallback))

    def __post_init__(self) -> None:
        self.rule.check(self.ensemble.general.classes)
        if not np.isfinite(self.rule.thresholds).all():
            raise ValueError(f"thresholds are {self.rule.thresholds}, expected finite numbers")

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
        recording, repairs = leads_first(header, recording), set()

        def prepare(integers: np.ndarray, preparation: Preprocessing, leads: tuple[str, ...]) -> np.ndarray:
            try:
                prepared = preprocess(header, integers, leads, recording, preparation)
            except SignalError:
                repairs.add(SKIPPED)
                raise
            repairs.update(repair.kind for repair in prepared.repairs)
            return prepared.signal

        segments = [Segment(partial(prepare, integers)) for integers in split_segments(header, recording)]
        probabilities, covered = self.ensemble.predict(segments, encode_demographics(header.age, header.sex))
        indices = self.ensemble.general.columns
        self.repaired.update(repairs)
        covered = expand(covered, indices)
        thresholds = np.where(covered & (not self.rule.exclusive), self.rule.thresholds, np.nan)
        outputs = self.rule.decide(probabilities, indices)
        return Prediction(expand(probabilities, indices), outputs, thresholds, covered)

    def predict(self, header_text: str, recording: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Predict one recording as the Challenge's scripts expect.

        Args:
            header_text: Text of the header file.
            recording: Stored integers, (L, T).

        Returns:
            The codes of the 26 classes, 0 or 1 for each, and its probability.

        Raises:
            RecordError: If header or recording cannot be used.
        """
        name = next(iter(header_text.split(maxsplit=1)), "header")
        prediction = self.predict_recording(parse_header(header_text, name), recording)
        return list(CLASSES), prediction.outputs.astype(int), prediction.probabilities


def save_bundle(bundle: Bundle, folder: str | Path) -> None:
    """Write a bundle into a model folder.

    The weights of the first network are in N_leads.weights.h5, of the second in N_leads.2.weights.h5, and so on.
    N_leads.json describes them; it is written last, so that a model with a description is complete. It holds the
    SHA-256 of each file of weights and of its own content. The same bundle gives the same bytes in every process.
    """
    folder, number, groups = Path(folder), 0, {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, group in bundle.ensemble.groups.items():
        members = []
        for member in group.members:
            number += 1
            weights = _save_weights(member, model_files(folder, len(bundle.leads), number)[0])
            members.append(network_entry(member, weights))
        groups[name] = {"classes": group.classes, "members": members}
    with atomic_path(model_files(folder, len(bundle.leads))[1]) as path:
        path.write_text(write_config(len(bundle.leads), bundle.system, bundle.rule, groups))


def _save_weights(member: Member, path: Path) -> str:
    """Write the weights of a network into a file, and return its SHA-256."""
    with atomic_path(path) as temporary:
        # Keras saves a trained network's optimizer, too, which is twice as large; a rebuilt network has none.
        network = member.rebuild_network()
        network.set_weights(member.network.get_weights())
        network.save_weights(temporary)
        return sha256(temporary.read_bytes())


def load_bundle(folder: str | Path, leads: Iterable[str]) -> Bundle:
    """Load the model for the richest lead set that the leads fill.

    If the folder has no model for it, the next one is loaded. Nothing but text and numbers is read. A warning is logged
    if a richer model is missing.

    Args:
        folder: Model folder.
        leads: Names of leads in any order and case. Limb leads that follow from two others count as present.

    Raises:
        LeadSetError: If the leads fill no lead set.
        ModelError: If there is no model for the leads, or a file is missing, damaged, edited, or of another version.
            The message depends only on the lead sets that the leads fill.
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
    path = model_files(folder, count)[1]
    spec, number, groups = read_config(path, count), 0, {}
    for name, (classes, networks) in spec.groups.items():
        members = []
        for network in networks:
            number += 1
            members.append(_load_member(network, max(len(classes), 1), model_files(folder, count, number)[0]))
        groups[name] = Group(classes, tuple(members))
    return Bundle(LEAD_SETS[count], Ensemble(**groups), spec.rule, spec.system)


def _load_member(spec: NetworkSpec, n_outputs: int, path: Path) -> Member:
    """Build the network of a description, and load its weights from a file."""
    digest = sha256(read_bytes(path, MAX_WEIGHTS_BYTES, ModelError))
    require(digest == spec.weights, path, "SHA-256", digest, f"{spec.weights} by the JSON file")
    try:
        member = Member.build(spec.leads, spec.settings, n_outputs, spec.output_activation, spec.view)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns of weights that it does not find
            member.network.load_weights(path)
    except DAMAGED as error:
        # Keras' own message describes its file format, not the fault.
        raise ModelError(f"{path}: not the weights of the network that the JSON file describes") from error
    finite = all(np.isfinite(values).all() for values in member.network.get_weights())
    require(finite, path, "a weight", "not finite", "finite numbers")
    return member


def model_files(folder: Path, count: int, number: int = 1) -> tuple[Path, Path]:
    """Return the paths of a network's weights and of its model's JSON file.

    Args:
        folder: Model folder.
        count: Number of leads.
        number: Number of the network, from 1.
    """
    suffix = f".{number}" if number > 1 else ""
    return folder / f"{count}_leads{suffix}.weights.h5", folder / f"{count}_leads.json"
