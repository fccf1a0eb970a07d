"""Train the network of one stage, or load its cached result."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from ecg.data.batches import Batch, Dataset
from ecg.data.leads import lead_indices
from ecg.data.resampling import Preprocessing
from ecg.data.store import Store
from ecg.data.wave_peaks import LEAD, PEAKS_PER_CELL, VALUES_PER_PEAK, PeakList, WavePeaks, decode_peaks
from ecg.evaluation.metrics import nan_mean, roc_and_pr_areas
from ecg.models.ensemble import serves_all_lead_sets, uses_demographics
from ecg.models.initial_weights import InitialNetwork
from ecg.models.resnets import POLICIES
from ecg.runtime.cache import KEY_LENGTH, ResultCache, fingerprint, folder_name, source_hash
from ecg.runtime.console import quiet_log
from ecg.runtime.executors import ALL_CORES, Executor
from ecg.runtime.limits import TimeBudget
from ecg.runtime.locks import LOCK, lock_folder
from ecg.runtime.peers import ALONE, Peers
from ecg.systems.stage import AUROC, CHALLENGE, SAVED, Stage, build_network, make_dataset, prediction_part, stage_loss
from ecg.systems.stage_tasks import train_by_tasks
from ecg.training.arithmetic import check_arithmetic
from ecg.training.checkpoint import Epoch, pack_arrays, pack_epochs, unpack_arrays, unpack_epochs
from ecg.training.distribution import assign_weights, distribution_scope, local_scope, training_devices
from ecg.training.trainer import PROGRESS, TrainingRun, predict_dataset, seeds, train_network, translate_out_of_memory

LOGGER = logging.getLogger("ecg")

# The source files in these folders are part of the cache key of a stage.
STAGE_SOURCES = ("data", "evaluation", "models", "training", "systems")
RESULT = "result"  # name of a finished stage's file in its cache

Stores = Mapping[Preprocessing, Store]  # a store for each preprocessing, all of the same recordings
Peaks = Mapping[Preprocessing, WavePeaks]  # the wave peaks of each
# A scorer takes the indices of validation recordings (m,) and their probabilities (m, K). It returns scores by name.
Scorer = Callable[[np.ndarray, np.ndarray], dict[str, float]]


class Outcome(NamedTuple):
    """The result of a stage.

    Attributes:
        epochs: The epochs in order.
        weights: The network's best weights.
        probabilities: Predictions of the recordings `to_predict`, (m, K) float32; (n_lead_sets, m, K) if the stage
            has `lead_sets`.
        ended: Why the training ended.
        seconds: Duration, without epochs that were lost by an interruption.
    """

    epochs: list[Epoch]
    weights: list[np.ndarray]
    probabilities: np.ndarray
    ended: str
    seconds: float = 0.0


class PeakExample(NamedTuple):
    """Wave peaks in the first window of a recording.

    Attributes:
        name: Name of the record.
        signal: Lead II in mV, (T,).
        rate: Sampling frequency in Hz.
        known: Peaks by wave delineation.
        predicted: Peaks that the network predicts.
    """

    name: str
    signal: np.ndarray
    rate: int
    known: PeakList
    predicted: PeakList


@dataclass
class StageRunner:
    """Runs the stages of one training in their order, and records what each took.

    Attributes:
        stores: A store for each preprocessing, all of the same recordings.
        folder: Folder that gets a cache folder for each stage.
        seed: Seed of all stages.
        budget: Time limit that the stages share.
        executor: Makes the synthetic recordings of a pretraining. That of a cluster also trains the networks.
        costs: Keys of all stages in their order, and their relative costs. Each gets its share of the time left.
        groups: The same keys, in groups of chains that do not depend on each other (`stage_groups`).
        initial_networks: Trained networks. A stage of the same architecture, leads and view starts from one.
        scorer: Scorer for the metric CHALLENGE.
        epochs: Epochs of all stages that have run.
        ends: Why each stage ended, by its key.
        seconds: Duration of each stage, by its key.
        peers: Processes that train each network together.
    """

    stores: Stores
    folder: Path
    seed: int
    budget: TimeBudget
    executor: Executor = ALL_CORES
    costs: dict[str, float] = field(default_factory=dict)
    groups: Sequence[Sequence[Sequence[str]]] = ()
    initial_networks: Sequence[InitialNetwork] = ()
    scorer: Scorer | None = None
    epochs: list[Epoch] = field(default_factory=list)
    ends: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peers: Peers = ALONE

    def run(self, stage: Stage) -> Outcome:
        """Train the network of a stage, or load its result, and record its cost.

        Raises:
            TrainingError: See `run_all`.
        """
        (outcome,) = self.run_all([stage])
        return outcome

    def run_all(self, stages: Sequence[Stage]) -> list[Outcome]:
        """Train the networks of stages that do not depend on each other.

        Results that are in the cache are loaded. The executor of a cluster trains several networks at the same time;
        otherwise this process trains one after the other. The cost of each stage is recorded, and of its preliminary
        one.

        Returns:
            The outcome of each stage.

        Raises:
            TrainingError: A loss was not finite from the first epoch on, or the memory is too small.
        """
        if self.executor.is_local:
            return [self._run_in_turn(stage) for stage in stages]
        missing = [stage for stage in map(self.initialise, stages) if not self._is_trained(stage)]
        if missing:
            train_by_tasks(self, missing)
        trained = {stage.key for stage in missing}
        outcomes = []
        for stage in stages:
            with quiet_log() if stage.key in trained else nullcontext():  # it is not news that it is in the cache
                outcomes.append(self._run_in_turn(stage))
        return outcomes

    def _is_trained(self, stage: Stage) -> bool:
        """Return whether the result of an initialised stage is in the cache."""
        if stage.preliminary is not None:
            result = self.cache_of(stage.preliminary).load(RESULT)
            if result is None:
                return False
            stage = stage.after_preliminary(unpack_arrays("weights", result))
        return self.cache_of(stage).load(RESULT) is not None

    def _run_in_turn(self, stage: Stage) -> Outcome:
        """Run the preliminary stage of a stage, if any, and then the stage itself."""
        if stage.preliminary is not None:
            stage = stage.after_preliminary(self._run_in_turn(stage.preliminary).weights)
        outcome = self.train_or_load(self.initialise(stage))
        self.epochs += outcome.epochs
        self.ends[stage.key], self.seconds[stage.key] = outcome.ended, outcome.seconds
        return outcome

    def initialise(self, stage: Stage) -> Stage:
        """Let a stage start from a trained network, if there is one of its kind.

        A network of the same classes is preferred. The stage is then trained with a warm-up and at a lower rate. A
        stage that already has initial weights is unchanged. If it gets these from a preliminary stage, that one starts
        from the trained network.
        """
        if stage.preliminary is not None:
            return replace(stage, preliminary=self.initialise(stage.preliminary))
        kind = stage.leads, stage.prediction_settings, stage.view
        networks = [
            network for network in self.initial_networks if (network.leads, network.settings, network.view) == kind
        ]
        if stage.initial_weights or not networks:
            return stage
        initial = next((network for network in networks if network.classes == stage.classes), networks[0])
        return replace(stage, initial=initial, learning=stage.learning.for_fine_tuning())

    def train_or_load(self, stage: Stage) -> Outcome:
        """Train the network of a stage and cache the result, or load it from the cache."""
        cache = self.cache_of(stage)
        result = cache.load(RESULT) if self.executor.is_local else cache.wait_for(RESULT)
        if result is None:
            with self._lock(stage, cache):
                result = cache.load(RESULT) or self._train_and_save(stage, cache)
        else:
            self.budget.skip(result["used"])
            LOGGER.info(f"{stage.title}: loaded from cache")
        return Outcome(unpack_epochs(result["epochs"]), unpack_arrays("weights", result), result["probabilities"],
                       str(result["ended"]), float(result["used"][0]))  # fmt: skip

    def cache_of(self, stage: Stage) -> ResultCache:
        """Return the cache of an initialised stage."""
        store = self.stores[stage.view.preparation]
        key = fingerprint(store.digest, *program_versions(*STAGE_SOURCES), self.seed, *stage.cache_parts())
        return ResultCache(self.folder / f"{folder_name(stage.key)}_{key[:KEY_LENGTH]}", key)

    def _train_and_save(self, stage: Stage, cache: ResultCache) -> dict[str, np.ndarray]:
        self.budget.begin(self.remaining_costs(stage.key), len(stage.validation) + stage.n_predictions)
        result = self.train(stage, cache)
        cache.save(RESULT, result)
        cache.delete(PROGRESS)
        return result

    @contextmanager
    def _lock(self, stage: Stage, cache: ResultCache) -> Iterator[None]:
        """Let no other process train the network of a stage.

        Systems of a comparison share networks. A process that is cut off from its cluster may still train one.
        """
        with ExitStack() as locks:
            try:
                locks.enter_context(lock_folder(cache.path))
            except BlockingIOError:
                LOGGER.info(f"{stage.title}: another process trains it; waiting for its end")
                locks.enter_context(lock_folder(cache.path, wait=True))
            yield
            cache.path.joinpath(LOCK).unlink(missing_ok=True)

    def remaining_costs(self, key: str) -> float:
        """Return the cost of a stage and all after it, divided by its own cost."""
        keys = list(self.costs)
        if key not in keys:
            return 1
        return sum(self.costs[later] for later in keys[keys.index(key) :]) / self.costs[key]

    def count_rounds(self, chains: Sequence[Sequence[str]]) -> float:
        """Return how many times as long as the first chain all remaining ones take.

        Chains of a group run at the same time, as many as the executor has slots.

        Args:
            chains: Keys of the stages of each chain of a group that has not begun. The first begins now.
        """

        def duration(chains: Sequence[Sequence[str]]) -> float:
            slots = self.executor.n_slots
            costs = [sum(self.costs.get(key, 1.0) for key in chain) for chain in chains]
            return sum(max(costs[first : first + slots]) for first in range(0, len(costs), slots))

        number = next((number for number, group in enumerate(self.groups) if chains[0] in group), len(self.groups))
        return sum(map(duration, (chains, *self.groups[number + 1 :]))) / duration(chains[:1])

    def compute_scores(self, stage: Stage, probabilities: np.ndarray) -> dict[str, float]:
        """Return a stage's metric by name, for probabilities of its validation set (n, K)."""
        if stage.metric == CHALLENGE and self.scorer is not None:
            return self.scorer(stage.validation, probabilities)
        if stage.metric == AUROC:
            areas, _ = roc_and_pr_areas(stage.targets[stage.validation], probabilities)
            return {"AUROC": float(nan_mean(areas))}
        return {}

    def train(self, stage: Stage, cache: ResultCache | None) -> dict[str, np.ndarray]:
        """Train the network of a stage, resumed if its cache has begun.

        Args:
            stage: The stage.
            cache: Cache of its progress; None in other processes than process 0.

        Returns:
            The arrays of its cached result.
        """
        store, precision = self.stores[stage.view.preparation], stage.learning.precision
        with translate_out_of_memory(stage.title), distribution_scope(training_devices()):
            keras.utils.set_random_seed(int(seeds(self.seed, f"{stage.key}/weights", 0, 1)[0]))
            network = build_network(stage, precision)
            with local_scope():
                check_arithmetic(network, POLICIES[precision])
            if stage.initial_weights:
                network.set_weights(stage.initial_weights)
            elif stage.initial is not None:
                stage.initial.transfer(network, stage.classes)
            training, validation = (
                make_dataset(stage, store, part, network) for part in (stage.training, stage.validation)
            )
            run = TrainingRun(stage.learning, self.seed, stage.key, stage.title, partial(self.compute_scores, stage),
                              self.budget, cache, self.peers)  # fmt: skip
            epochs, ended = train_network(network, stage_loss(stage, network), training, validation, run)
            if precision != SAVED:
                trained, network = network, build_network(stage, SAVED)
                assign_weights(network, trained.get_weights())
            classifier = prediction_part(stage, network)
            classifier.jit_compile = keras.backend.backend() == "jax"
            datasets = [
                Dataset(store, stage.to_predict, lead_indices(leads), window=stage.view.window,
                        demographics=uses_demographics(classifier), all_leads=serves_all_lead_sets(stage.network))
                for leads in stage.lead_sets or [stage.leads]
            ]  # fmt: skip
            title, size = f"{stage.title}, predictions", stage.learning.batch
            predictions = [predict_dataset(classifier, dataset, title, size) for dataset in datasets]
        return {
            "epochs": pack_epochs(epochs), "ended": np.array(ended),
            "probabilities": np.array(predictions) if stage.lead_sets else predictions[0],
            "used": self.budget.used, **pack_arrays("weights", network.get_weights()),
        }  # fmt: skip

    def predict_peaks(self, stage: Stage, weights: list[np.ndarray], indices: np.ndarray) -> list[PeakExample]:
        """Predict the wave peaks in the first window of records of a stage.

        Args:
            stage: The stage.
            weights: Weights of its network.
            indices: Indices among the stage's records, (n,).
        """
        store, network = self.stores[stage.view.preparation], build_network(stage, SAVED)
        network.set_weights(weights)
        dataset, length = make_dataset(stage, store, indices, network), stage.view.window.length or 0
        batch = Batch(np.arange(len(indices)), np.zeros(len(indices), int), length)
        signals = dataset.inputs(batch)
        grids = [output[:, stage.targets.shape[1] :].reshape(len(indices), -1, PEAKS_PER_CELL, VALUES_PER_PEAK)
                 for output in (dataset.targets_and_masks(batch)[0], network.predict_on_batch(signals))]  # fmt: skip
        names, lead, rate = store.names[dataset.records].tolist(), stage.leads.index(LEAD), stage.view.preparation.rate
        return [
            PeakExample(name, signal[:, lead], rate, decode_peaks(known, length), decode_peaks(predicted, length))
            for name, signal, known, predicted in zip(names, signals, *grids, strict=True)
        ]


def program_versions(*folders: str) -> tuple[str, ...]:
    """Return what a cache key needs to know of the program.

    Args:
        folders: Folders of this package whose source files count.

    Returns:
        Hash of the source files, version of Keras, and name and version of its backend.
    """
    backend = keras.backend.backend()
    return source_hash(*folders), keras.version(), backend, version(backend)
