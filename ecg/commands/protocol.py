"""Define how systems are compared, and which recordings each fold holds out."""

import math
from dataclasses import dataclass, replace

import numpy as np

from ecg.data.class_tables import ClassTable, WeightTable
from ecg.data.headers import RecordError
from ecg.data.patients import count_patients
from ecg.data.source_tables import SourceTable
from ecg.data.store import Store
from ecg.runtime.console import pluralise
from ecg.runtime.limits import check_limits
from ecg.systems.folds import assign_folds
from ecg.systems.plan import known_labels, split_recordings
from ecg.systems.recipes import SYSTEMS, Settings, resize_networks
from ecg.training.settings import TrainingSettings


@dataclass(frozen=True)
class Protocol:
    """How systems are compared.

    Attributes:
        systems: Settings of the systems, all for the same tables of classes and sources. The first is the one that the
            others are compared with.
        lead_sets: Lead sets, by their numbers of leads.
        folds: Number of folds of the recordings; each is held out once.
        leave_out: Source that is held out instead.
        hours: Time limit of all trainings together, shared equally; None: no limit.
        epochs: Maximum number of epochs of each training; None: as the system has it.
        batch: Maximum number of recordings in a batch; None: as the system has it.
        precision: Precision of the training; None: as the system has it.
        width: Width of the networks that have one; None: as the system has it.
        depth: Depth of the networks that have one; None: as the system has it.
        seed: Seed of the folds and of each training.
        weights: Credit of each prediction, for all systems and scores; None: that of the classes.

    Raises:
        ValueError: A number is out of its range, no network has such a size, or the systems are for different tables
            of classes or sources.
    """

    systems: tuple[Settings, ...] = tuple(SYSTEMS.values())
    lead_sets: tuple[int, ...] = (12, 6, 4, 3, 2)
    folds: int = 5
    leave_out: str | None = None
    hours: float | None = None
    epochs: int | None = None
    batch: int | None = None
    precision: str | None = None
    width: int | None = None
    depth: int | None = None
    seed: int = 2021
    weights: WeightTable | None = None

    def __post_init__(self) -> None:
        names = ("folds", "hours", "epochs", "batch", "width", "depth", "seed")
        check_limits(**{name: getattr(self, name) for name in names})
        if self.leave_out is not None and not self.leave_out.strip():
            raise ValueError("leave_out: expected the name of a source, received an empty one")
        tables = [(system.class_table, system.sources) for system in self.systems]
        if any(table != tables[0] for table in tables):
            raise ValueError("the systems are for different tables of classes or sources")
        adjusted = [self.settings(system) for system in self.systems]
        for name, size in self.sizes.items():
            if size not in [getattr(system.network, name, None) for system in adjusted]:
                raise ValueError(f"no network of {', '.join(system.system for system in adjusted)} has a {name}")

    @property
    def class_table(self) -> ClassTable:
        """The classes of all systems."""
        return self.systems[0].class_table

    @property
    def sources(self) -> SourceTable:
        """The sources of all systems."""
        return self.systems[0].sources

    @property
    def sizes(self) -> dict[str, int]:
        """The given sizes of networks, by name."""
        return {name: getattr(self, name) for name in ("width", "depth") if getattr(self, name) is not None}

    @property
    def titles(self) -> list[str]:
        """Titles of the folds, for people."""
        if self.leave_out:
            return [f"without {self.leave_out}"]
        return [f"fold {fold + 1} of {self.folds}" for fold in range(self.folds)]

    @property
    def keys(self) -> list[str]:
        """Keys of the folds, for names of folders; other numbers of folds have other keys."""
        if self.leave_out:
            return [f"without_{self.leave_out}"]
        return [f"fold{fold + 1}of{self.folds}" for fold in range(self.folds)]

    def share_hours(self, n_systems: int, n_slots: int = 1) -> float | None:
        """Return the time limit of each system in each fold, or None.

        Args:
            n_systems: Number of systems.
            n_slots: Number of systems and folds that are trained at the same time.
        """
        return self.hours and self.hours / math.ceil(n_systems * len(self.titles) / n_slots)

    def settings(self, system: Settings) -> Settings:
        """Return the settings with which a system is trained here."""

        def limit_training(training: TrainingSettings) -> TrainingSettings:
            return replace(training, epochs=min(self.epochs or training.epochs, training.epochs),
                           batch=min(self.batch or training.batch, training.batch),
                           precision=self.precision or training.precision)  # fmt: skip

        pretraining = system.pretraining
        if pretraining:
            pretraining = replace(pretraining, training=limit_training(pretraining.training))
        return replace(resize_networks(system, self.sizes), lead_sets=self.lead_sets, seed=self.seed,
                       weights=self.weights, pretraining=pretraining,
                       training=limit_training(system.training),
                       peak_training=system.peak_training and limit_training(system.peak_training))  # fmt: skip

    def is_left_out(self, sources: np.ndarray, patients: np.ndarray | None = None) -> np.ndarray:
        """Return which recordings are of the source to leave out, (n,) bool.

        None are if there are folds instead.

        Args:
            sources: Source of each recording, (n,).
            patients: Number of each recording's patient, (n,); None: each recording counts as a patient.

        Raises:
            RecordError: No recording or all of them are of that source, or there are more folds than recordings or
                patients.
        """
        if self.leave_out is None:
            if len(sources) < self.folds:
                raise RecordError(f"{len(sources):,} recordings are too few for {self.folds} folds")
            if patients is not None and (n_patients := count_patients(patients)) < self.folds:
                raise RecordError(f"{pluralise(n_patients, 'patient')} of {len(sources):,} recordings are too few for "
                                  f"{self.folds} folds")  # fmt: skip
            return np.zeros(len(sources), bool)
        left_out = np.char.lower(np.asarray(sources, str)) == self.leave_out.lower()
        names = ", ".join(np.unique(sources).tolist())
        if not left_out.any():
            raise RecordError(f"no usable recording is of {self.leave_out}; the sources are {names}")
        if left_out.all():
            raise RecordError(f"all {len(left_out):,} recordings are of {names}; none are left to train on")
        return left_out

    def held_out(self, store: Store) -> list[np.ndarray]:
        """Return the indices (n,) of the recordings to hold out, for each fold.

        Raises:
            RecordError: See `is_left_out`.
        """
        left_out = self.is_left_out(store.sources, store.patients)
        if self.leave_out:
            return [np.flatnonzero(left_out)]
        folds = assign_folds(store.labels, self.folds, self.seed, store.patients, published=store.folds)
        return [np.flatnonzero(folds == fold) for fold in range(self.folds)]

    def untrainable_reason(self, system: Settings, store: Store, held_out: list[np.ndarray]) -> str:
        """Return why a system cannot be trained, or an empty string.

        Args:
            system: Settings of the system.
            store: The store of the recordings.
            held_out: Indices of the held-out recordings of each fold.
        """
        for title, indices in zip(self.titles, held_out, strict=True):
            training = training_records(store, indices)
            labels = known_labels(store, system)[training]
            if not labels.any():
                return f"{title}: none of {len(labels):,} recordings has a diagnosis that is trained"
            try:
                split_recordings(labels, system, None if store.patients is None else store.patients[training])
            except RecordError as error:
                return f"{title}: {error}"
        return ""


def training_records(store: Store, held_out: np.ndarray) -> np.ndarray:
    """Return the indices of the recordings to train on, sorted.

    These are all that are not held out, without other recordings of the same patients.

    Args:
        store: The store of the recordings.
        held_out: Indices of the held-out recordings, (n,).
    """
    training = np.setdiff1d(np.arange(len(store)), held_out)
    if store.patients is None:
        return training
    return training[~np.isin(store.patients[training], store.patients[held_out])]
