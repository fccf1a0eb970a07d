"""Train a system on one fold of a comparison and predict the held-out recordings."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg.commands.holdout import FoldResult, predict_held_out
from ecg.commands.protocol import training_records
from ecg.data.corrections import Corrections
from ecg.data.headers import RecordError
from ecg.data.patients import Patients, add_patients
from ecg.data.resampling import Preprocessing
from ecg.data.store import add_corrections, build_stores
from ecg.data.wave_peaks import intersect_stores, load_all_wave_peaks
from ecg.runtime.cache import ResultCache
from ecg.runtime.console import prefix_log, quiet_log
from ecg.runtime.executors import ALL_CORES, Executor, LocalExecutor
from ecg.runtime.keras_startup import start_keras
from ecg.runtime.limits import TimeBudget
from ecg.systems.method import train_system
from ecg.systems.recipes import Settings
from ecg.systems.stage_runner import Peaks, StageRunner, Stores
from ecg.training.trainer import translate_out_of_memory

PREDICTIONS = "predictions"  # name of a system's result for a fold in its cache


class RecordingsChanged(RecordError):
    """The recordings have changed since the comparison began."""


@dataclass(frozen=True)
class FoldJob:
    """Train a system without the held-out recordings of a fold, and predict these.

    Attributes:
        data: Data folder.
        stages: Folder of the stores.
        digests: Digest of each store of the comparison, by its preprocessing.
        system: Settings of the system.
        held_out: Indices of the held-out recordings in the stores, (n,).
        hours: Time limit, or None.
        networks: Folder for the networks of this fold; systems share networks that are trained the same.
        cache: Cache of the result.
        patients: The patients of the listed recordings; None: each recording counts as a patient.
        corrections: Reviewers' verdicts on labels; None: there are none.
        jobs: Number of processes that make recordings; None: one per core.
    """

    data: Path
    stages: Path
    digests: dict[Preprocessing, str]
    system: Settings
    held_out: np.ndarray
    hours: float | None
    networks: Path
    cache: ResultCache
    patients: Patients | None = None
    corrections: Corrections | None = None
    jobs: int | None = None

    def load_stores(self) -> tuple[Stores, Peaks]:
        """Open the stores of the system, and load their wave peaks if it needs these.

        Raises:
            RecordingsChanged: The stores are not those of the comparison.
        """
        system, executor = self.system, LocalExecutor(self.jobs)
        peaks: Peaks = {}
        stores: Stores = build_stores(self.data, self.stages, list(self.digests), executor)
        if {preparation: store.digest for preparation, store in stores.items()} != self.digests:
            raise RecordingsChanged(f"{self.data}: recordings have changed since the comparison was begun")
        if system.peaks:
            peaks = load_all_wave_peaks(select_stores(stores, system), self.stages, executor)
        stores = add_corrections(add_patients(stores, self.patients), self.corrections)
        stores, peaks = intersect_stores(stores, peaks)
        return select_stores(stores, system), peaks

    def run(self, stores: Stores, peaks: Peaks) -> FoldResult:
        """Train and predict in this process, and save the result in the cache.

        Args:
            stores: Stores from `load_stores`.
            peaks: Wave peaks from `load_stores`.
        """
        system = self.system
        training = training_records(next(iter(stores.values())), self.held_out)
        subsets = {preparation: store.subset(training) for preparation, store in stores.items()}
        peaks = {preparation: waves.select_recordings(training) for preparation, waves in peaks.items()}
        with translate_out_of_memory(system.system):
            runner = StageRunner(subsets, self.networks, system.seed, TimeBudget(self.hours, cumulative=True),
                                 LocalExecutor(self.jobs))  # fmt: skip
            trained = train_system(system, runner, peaks, self.data)
            result = predict_held_out(trained, system, stores, self.held_out)
        self.cache.save(PREDICTIONS, result.arrays())
        return result


def run_in_this_process(job: FoldJob) -> FoldResult:
    """Run a job, with the name of its system before each log message."""
    with quiet_log():  # the first process has logged what the stores hold
        inputs = job.load_stores()
    prefix_log(f"{job.system.system}: ")
    return job.run(*inputs)


def run_fold_job(job: FoldJob, executor: Executor = ALL_CORES) -> FoldResult:
    """Run a job in a process of its own, so that its memory is freed at the end."""
    return executor.run(run_in_this_process, job, prepare=start_keras)


def select_stores(stores: Stores, system: Settings) -> Stores:
    """Return the stores that a system needs."""
    return {preparation: stores[preparation] for preparation in system.preparations}
