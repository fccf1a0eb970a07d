"""Hold out recordings in a comparison, and predict them."""

import time
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ecg.data.batches import Dataset
from ecg.data.headers import RecordError
from ecg.data.labels import expand
from ecg.data.leads import lead_indices
from ecg.data.patients import count_patients
from ecg.data.resampling import Preprocessing
from ecg.data.store import Store
from ecg.evaluation.metrics import WeightTable
from ecg.models.decision import EXPECTED_CREDIT, VOTE
from ecg.models.ensemble import (
    Ensemble,
    Group,
    Segment,
    choose_group_probabilities,
    serves_all_lead_sets,
    uses_demographics,
)
from ecg.runtime.console import pluralise
from ecg.runtime.limits import TIME_LIMIT_REACHED, check_limits
from ecg.systems.method import TrainedSystem
from ecg.systems.plan import (
    assign_folds,
    known_labels,
    planned_networks,
    pretraining_plans,
    split_recordings,
    stage_keys,
)
from ecg.systems.recipes import SYSTEMS, Settings, resize_networks
from ecg.systems.stage import Stores
from ecg.training.trainer import PREDICTION_BATCH, TrainingSettings, predict

N_TIMED = 32  # maximum number of held-out recordings for which predictions are timed
SKIPPED = "skipped"  # name of an array in a saved FoldResult


@dataclass(frozen=True)
class Protocol:
    """How systems are compared.

    Attributes:
        systems: Settings of the systems. The first is the one that the others are compared with.
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
        jobs: Number of processes that read recordings; None: one per core.
        weights: Credit of each prediction, for all systems and scores; None: that of the Challenge.

    Raises:
        ValueError: A number is out of its range, or no network has such a size.
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
    jobs: int | None = None
    weights: WeightTable | None = None

    def __post_init__(self) -> None:
        names = ("folds", "hours", "epochs", "batch", "width", "depth", "seed", "jobs")
        check_limits(**{name: getattr(self, name) for name in names})
        if self.leave_out is not None and not self.leave_out.strip():
            raise ValueError("leave_out: expected the name of a source, received an empty one")
        adjusted = [self.settings(system) for system in self.systems]
        for name, size in self.sizes.items():
            if size not in [getattr(system.network, name, None) for system in adjusted]:
                raise ValueError(f"no network of {', '.join(system.system for system in adjusted)} has a {name}")

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

    def share_hours(self, n_systems: int) -> float | None:
        """Return the time limit of each system in each fold, or None."""
        return self.hours and self.hours / (n_systems * len(self.titles))

    def settings(self, system: Settings) -> Settings:
        """Return the settings with which a system is trained here."""

        def limit_training(training: TrainingSettings) -> TrainingSettings:
            return replace(training, epochs=min(self.epochs or training.epochs, training.epochs),
                           batch=min(self.batch or training.batch, training.batch),
                           precision=self.precision or training.precision)  # fmt: skip

        pretraining = system.pretraining
        if pretraining:
            pretraining = replace(pretraining, training=limit_training(pretraining.training))
        return replace(resize_networks(system, self.sizes), lead_sets=self.lead_sets, seed=self.seed, jobs=self.jobs,
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
        folds = assign_folds(store.labels, self.folds, self.seed, store.patients)
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


class Costs(NamedTuple):
    """The cost of a system with one lead set.

    Attributes:
        parameters: Number of weights of all its networks.
        prediction_seconds: Median time to predict one recording.
        training_seconds: Time of all trainings that the lead set needs.
        networks: Number of trained networks.
        epochs: Sum of their epochs.
        time_limited: Number of trainings that the time limit ended.
    """

    parameters: float
    prediction_seconds: float
    training_seconds: float
    networks: float
    epochs: float
    time_limited: float


class HeldOutPredictions(NamedTuple):
    """Predictions of a system with one lead set for n held-out recordings.

    Attributes:
        probabilities: Probabilities of the scored classes, (n, 26).
        predictions: Predicted classes by the system's own rule, (n, 26) bool.
        optimised: Predicted classes by thresholds optimised on its validation set, (n, 26) bool.
        by_credit: Predicted classes by expected credit, calibrated on its validation set, (n, 26) bool.
        costs: Its costs.
    """

    probabilities: np.ndarray
    predictions: np.ndarray
    optimised: np.ndarray
    by_credit: np.ndarray
    costs: Costs


@dataclass(frozen=True)
class FoldResult:
    """Predictions of a system for one fold.

    Attributes:
        by_leads: Predictions by the number of leads.
        skipped: Steps of the method that were skipped because of too few recordings.
    """

    by_leads: dict[int, HeldOutPredictions]
    skipped: list[str] = field(default_factory=list)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays by name."""
        arrays = {SKIPPED: np.array(self.skipped, str)}
        for count, predictions in self.by_leads.items():
            arrays |= {f"{count} {name}": np.asarray(value) for name, value in predictions._asdict().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "FoldResult":
        """Return the result that gave these `arrays`."""
        values: dict[int, dict[str, Any]] = {}
        for name, array in arrays.items():
            if name != SKIPPED:
                count, attribute = name.split()
                values.setdefault(int(count), {})[attribute] = array
        by_leads = {
            count: HeldOutPredictions(**(value | {"costs": Costs(*value["costs"].tolist())}))
            for count, value in values.items()
        }
        return cls(by_leads, arrays[SKIPPED].tolist())


def predict_held_out(trained: TrainedSystem, system: Settings, stores: Stores, held_out: np.ndarray) -> FoldResult:
    """Predict held-out recordings with a trained system.

    Args:
        trained: The trained system.
        system: Its settings.
        stores: A store for each of its ways of preprocessing.
        held_out: Indices of the recordings in the stores, (n,).
    """
    columns = trained.results.columns
    # Lead sets may use the same leads.
    by_network: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray | None, int, float]] = {}
    by_leads = {}
    for count, search in trained.results.searches.items():
        leads = system.leads_of(count)
        if leads not in by_network:
            ensemble, title = trained.ensemble(leads), f"{system.system}, {len(leads)} leads"
            if system.decision == VOTE:
                members = predict_members(ensemble.general, stores, held_out, title, system.training.batch)
                probabilities = members.mean(axis=0)
            else:
                probabilities = predict_stores(ensemble, stores, held_out, title, system.training.batch)
                members = None
            seconds = measure_prediction_seconds(ensemble, stores, held_out)
            by_network[leads] = probabilities, members, ensemble.parameters, seconds
        probabilities, members, parameters, seconds = by_network[leads]
        wide, rule = expand(probabilities, columns), trained.results.rule(count)
        by_leads[count] = HeldOutPredictions(
            wide,
            rule.decide(probabilities, columns, members),
            wide >= search.by_class,
            replace(rule, decision=EXPECTED_CREDIT).decide(probabilities, columns),
            Costs(parameters, seconds, *training_cost(trained, count)),
        )
    return FoldResult(by_leads, skipped_steps(trained, system))


def skipped_steps(trained: TrainedSystem, system: Settings) -> list[str]:
    """Return the steps that were skipped because of too few recordings."""
    relabellings = trained.results.relabellings
    steps = [
        f"{relabelling.title}: {relabelling.skip_reason}" for relabelling in relabellings if relabelling.skip_reason
    ]
    if system.gate and not trained.results.settings.gate:
        steps.append(f"networks for {system.gate.source}: too few recordings to train the gate")
    return steps


def training_cost(trained: TrainedSystem, count: int) -> tuple[float, int, int, int]:
    """Return what the training of a lead set costs, shared networks included.

    A network that is first trained for wave peaks is one network with two trainings. Pretraining is a training of the
    networks that start from it.

    Returns:
        Seconds, and the numbers of networks, epochs and trainings that the time limit ended.
    """
    results = trained.results
    settings = replace(results.settings, lead_sets=(count,))
    keys = [key for key in stage_keys(settings) if key in trained.seconds]
    first_trainings = {plan.key for plan in pretraining_plans(settings)}
    first_trainings |= {network.peaks_key for network in planned_networks(settings)}
    n_networks = len(set(keys) - first_trainings)
    n_epochs = sum(epoch.key in keys for epoch in results.epochs)
    n_time_limited = sum(results.ends[key] == TIME_LIMIT_REACHED for key in keys)
    return sum(trained.seconds[key] for key in keys), n_networks, n_epochs, n_time_limited


def measure_prediction_seconds(ensemble: Ensemble, stores: Stores, held_out: np.ndarray) -> float:
    """Return the median time to predict one recording, as a saved model does.

    Reading and preprocessing are not included. Each recording is predicted once before, so that nothing is compiled
    while the time is measured.
    """
    demographics, chosen = next(iter(stores.values())).demographics, held_out[:: -(-len(held_out) // N_TIMED)]

    def predict_one(index: int) -> float:
        def prepare(preparation: Preprocessing, leads: tuple[str, ...]) -> np.ndarray:
            return stores[preparation].signal(index, list(lead_indices(leads)))

        start = time.perf_counter()
        ensemble.predict([Segment(prepare)], demographics[index])
        return time.perf_counter() - start

    for index in chosen:
        predict_one(index)
    return float(np.median([predict_one(index) for index in chosen]))


def predict_stores(
    ensemble: Ensemble,
    stores: Stores,
    records: np.ndarray,
    title: str,
    size: int = PREDICTION_BATCH,
) -> np.ndarray:
    """Predict recordings of stores with an ensemble.

    Args:
        ensemble: The ensemble.
        stores: A store for each preprocessing of its networks.
        records: Indices of the recordings in the stores, (n,).
        title: Title of the progress.
        size: Maximum number of windows to predict at once.

    Returns:
        Probabilities of the general group's classes, (n, K).
    """
    groups = ensemble.groups
    probabilities = {
        name: predict_group(group, stores, records, f"{title}, {name}", size) for name, group in groups.items()
    }
    return choose_group_probabilities(probabilities, {name: group.columns for name, group in groups.items()})


def predict_group(
    group: Group, stores: Stores, records: np.ndarray, title: str, size: int = PREDICTION_BATCH
) -> np.ndarray:
    """Return the mean probabilities (n, K) of a group's networks.

    The arguments are those of `predict_stores`.
    """
    return predict_members(group, stores, records, title, size).mean(axis=0)


def predict_members(
    group: Group, stores: Stores, records: np.ndarray, title: str, size: int = PREDICTION_BATCH
) -> np.ndarray:
    """Return the probabilities (M, n, K) of each network of a group.

    The arguments are those of `predict_stores`.
    """
    probabilities = []
    for number, member in enumerate(group.members, 1):
        dataset = Dataset(stores[member.view.preparation], records, lead_indices(member.leads),
                          window=member.view.window, demographics=uses_demographics(member.network),
                          all_leads=serves_all_lead_sets(member.settings))  # fmt: skip
        progress = f"{title}, network {number} of {len(group.members)}"
        probabilities.append(predict(member.network, dataset, progress, size))
    return np.array(probabilities)
