"""Train a system on one fold of a comparison and predict the held-out recordings."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ecg.commands.holdout import FoldResult, predict_held_out
from ecg.commands.protocol import training_records
from ecg.data.corrections import Corrections
from ecg.data.headers import RecordError
from ecg.data.resampling import Preprocessing
from ecg.data.store import Store, add_corrections, open_store, store_folder
from ecg.data.wave_peaks import intersect_stores, load_all_wave_peaks
from ecg.runtime.cache import DAMAGED, ResultCache
from ecg.runtime.console import describe_error, prefix_log, quiet_log
from ecg.runtime.executors import Executor, LocalExecutor, StartedTask
from ecg.runtime.keras_startup import start_keras
from ecg.runtime.limits import TimeBudget
from ecg.runtime.shared_arrays import SharedArrays, unpack_value
from ecg.runtime.tasks import log_progress
from ecg.systems.method import train_system
from ecg.systems.plan import stage_keys
from ecg.systems.recipes import Settings
from ecg.systems.stage_runner import Peaks, StageRunner, Stores
from ecg.systems.stage_tasks import find_progress
from ecg.training.trainer import translate_out_of_memory

PREDICTIONS = "predictions"  # name of a system's result for a fold in its cache
INPUTS = "inputs"  # folder in that of the stores, for arrays that the jobs read


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
        patients: Number of each recording's patient in each store, (n_recordings,); None: each recording counts as a
            patient.
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
    patients: Mapping[Preprocessing, np.ndarray] | None = None
    corrections: Corrections | None = None
    jobs: int | None = None

    def load_stores(self) -> tuple[Stores, Peaks]:
        """Open the stores of the system, and load their wave peaks if it needs these.

        Raises:
            RecordingsChanged: The stores are not those of the comparison.
        """
        system = self.system
        stores: dict[Preprocessing, Store] = {}
        peaks: Peaks = {}
        for preparation, digest in self.digests.items():
            folder = store_folder(self.stages, preparation)
            try:
                store = open_store(folder)
            except DAMAGED as error:
                raise RecordingsChanged(f"{folder}: cannot be opened again: {describe_error(error)}") from None
            if store.digest != digest:
                raise RecordingsChanged(f"{self.data}: recordings have changed since the comparison was begun")
            stores[preparation] = store
        if system.peaks:
            peaks = load_all_wave_peaks(select_stores(stores, system), self.stages, LocalExecutor(self.jobs))
        if self.patients is not None:
            stores = {key: replace(store, patients=self.patients[key]) for key, store in stores.items()}
        corrected, peaks = intersect_stores(add_corrections(stores, self.corrections), peaks)
        return select_stores(corrected, system), peaks

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


def start_fold_job(job: FoldJob, executor: Executor) -> StartedTask[None]:
    """Start a job in a process of its own, so that its memory is freed at the end.

    Its result is then in its cache.

    Args:
        job: The job.
        executor: Runs it.
    """
    packed = SharedArrays(job.stages / INPUTS).pack(job)
    progress = partial(find_progress, job.networks, stage_keys(job.system))
    return executor.start(run_packed_job, packed, executor.is_local, prepare=start_keras, progress=progress)


def run_packed_job(packed: bytes, is_local: bool) -> None:
    """Run a job, with the name of its system before each log message.

    Args:
        packed: The job, from `SharedArrays.pack`.
        is_local: Whether the standard error of this process is that of the client.
    """
    with nullcontext() if is_local else log_progress():
        run_in_this_process(unpack_value(packed))


def run_in_this_process(job: FoldJob) -> None:
    """Run a job, with the name of its system before each log message."""
    with quiet_log():  # the first process has logged what the stores hold
        inputs = job.load_stores()
    prefix_log(f"{job.system.system}: ")
    job.run(*inputs)


def select_stores(stores: Stores, system: Settings) -> Stores:
    """Return the stores that a system needs."""
    return {preparation: stores[preparation] for preparation in system.preparations}
