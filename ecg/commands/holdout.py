"""Predict held-out recordings with a trained system, and measure its costs."""

import time
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ecg.data.batches import Dataset
from ecg.data.leads import lead_indices
from ecg.data.resampling import Preprocessing
from ecg.models.decision import EXPECTED_CREDIT, VOTE
from ecg.models.ensemble import (
    Ensemble,
    Group,
    Segment,
    choose_group_probabilities,
    serves_all_lead_sets,
    uses_demographics,
)
from ecg.runtime.limits import TIME_LIMIT_REACHED
from ecg.systems.method import TrainedSystem
from ecg.systems.plan import planned_networks, pretraining_plans, stage_keys
from ecg.systems.recipes import Settings
from ecg.systems.stage_runner import Stores
from ecg.training.trainer import PREDICTION_BATCH, predict_dataset

N_TIMED = 32  # maximum number of held-out recordings for which predictions are timed
SKIPPED = "skipped"  # name of an array in a saved FoldResult


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
        probabilities: Probabilities of the scored classes, (n, C).
        predictions: Predicted classes by the system's own rule, (n, C) bool.
        optimised: Predicted classes by thresholds optimised on its validation set, (n, C) bool.
        by_credit: Predicted classes by expected credit, calibrated on its validation set, (n, C) bool.
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
        wide, rule = trained.results.classes.expand(probabilities, columns), trained.results.rule(count)
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
    return choose_group_probabilities(probabilities, {name: group.classes for name, group in groups.items()})


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
        probabilities.append(predict_dataset(member.network, dataset, progress, size))
    return np.array(probabilities)
