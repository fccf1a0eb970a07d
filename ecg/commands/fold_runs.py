"""Run the jobs of a comparison, several at the same time."""

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from errno import ENOMEM
from pathlib import Path
from traceback import format_exception

from ecg.commands.fold_job import PREDICTIONS, FoldJob, RecordingsChanged
from ecg.commands.holdout import FoldResult
from ecg.data.headers import RecordError
from ecg.runtime.console import describe_error
from ecg.runtime.executors import Executor, StartedTask
from ecg.runtime.tasks import run_tasks
from ecg.systems.recipes import Settings
from ecg.training.trainer import TrainingError

LOGGER = logging.getLogger("ecg")

NETWORKS = "networks"  # begins the names of folders for the networks of a fold


@dataclass
class SystemRun:
    """A system of a comparison.

    Attributes:
        settings: Its settings.
        results: Its result for each fold so far.
        failure: Why it failed, or an empty string.
    """

    settings: Settings
    results: list[FoldResult] = field(default_factory=list)
    failure: str = ""


@dataclass(frozen=True)
class FoldPlan:
    """What is done for a fold.

    Attributes:
        title: Title of the fold.
        folder: Its folder.
        n_training: Number of recordings to train on.
        n_others: Number of other recordings of held-out patients.
        jobs: Job of each system by the system's name.
    """

    title: str
    folder: Path
    n_training: int
    n_others: int
    jobs: dict[str, FoldJob]

    def remove_networks(self) -> None:
        """Remove the networks of the fold, also those of other time limits."""
        for folder in self.folder.glob(f"{NETWORKS}_*"):
            shutil.rmtree(folder)


def run_folds(
    plans: Sequence[FoldPlan],
    runs: Sequence[SystemRun],
    start: Callable[[FoldJob], StartedTask[object]],
    executor: Executor,
) -> None:
    """Run the jobs of all folds, and add their results to the systems' runs.

    As many jobs run at the same time as the executor has slots. A system that fails gets no further job. Results in the
    cache are loaded.

    Args:
        plans: The folds.
        runs: The systems.
        start: Starts a job.
        executor: Runs the jobs.

    Raises:
        RecordingsChanged: See `FoldJob.load_stores`.
        OSError: An error that would stop other systems, too, such as a full disk.
    """
    unfinished: dict[str, list[SystemRun]] = {}  # of each fold that has begun, by its title

    def jobs() -> Iterator[tuple[FoldPlan, SystemRun]]:
        for plan in plans:
            if plan.n_others:
                LOGGER.info(f"{plan.title}: {plan.n_others:,} other recordings of held-out patients are not trained on")
            active = [run for run in runs if not run.failure]
            unfinished[plan.title] = list(active)
            for run in active:
                job, name = plan.jobs[run.settings.system], f"{run.settings.system}, {plan.title}"
                if run.failure:
                    continue  # in another fold meanwhile
                if job.cache.load(PREDICTIONS) is None:
                    LOGGER.info(f"{name}: {plan.n_training:,} recordings to train on, {len(job.held_out):,} held out")
                    yield plan, run
                else:
                    LOGGER.info(f"{name}: loaded from cache")
                    unfinished[plan.title].remove(run)

    def start_job(item: tuple[FoldPlan, SystemRun]) -> StartedTask[object]:
        plan, run = item
        return start(plan.jobs[run.settings.system])

    with closing(run_tasks(executor, start_job, jobs())) as tasks:
        for (plan, run), result in tasks:
            reason = find_failure(result)
            if reason:
                run.failure = f"{plan.title}: {reason}"
                LOGGER.error(f"{run.settings.system}, {plan.title}: failed, {reason}")
            else:
                unfinished[plan.title].remove(run)
            if not unfinished[plan.title]:  # else the networks serve to resume
                plan.remove_networks()
    for plan in plans:
        if not unfinished[plan.title]:
            plan.remove_networks()
        for run in (run for run in runs if not run.failure):
            arrays = plan.jobs[run.settings.system].cache.wait_for(PREDICTIONS)
            run.results.append(FoldResult.from_arrays(arrays))


def find_failure(result: Callable[[], object]) -> str:
    """Return why a system's job has failed; an empty string if it has not.

    Args:
        result: Returns the result of the job, or raises its exception.

    Raises:
        RecordingsChanged: See `FoldJob.load_stores`.
        OSError: An error that would stop other systems, too, such as a full disk.
    """
    try:
        result()
    except RecordingsChanged:
        raise
    except (TrainingError, RecordError, ChildProcessError) as error:
        return describe_error(error)
    except OSError as error:
        if error.errno != ENOMEM:
            raise
        return describe_error(error)
    except Exception as error:  # noqa: BLE001 - any other error has ended this system alone, and is logged in full
        for line in "".join(format_exception(error)).splitlines():
            LOGGER.error(line)
        return describe_error(error)
    return ""
