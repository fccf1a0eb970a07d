"""Train the networks of stages as tasks, several at the same time."""

import logging
import platform
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ecg.runtime.cache import find_last_change, folder_name
from ecg.runtime.console import describe_error, pluralise
from ecg.runtime.executors import ONE_PROCESS, StartedTask
from ecg.runtime.keras_startup import start_keras
from ecg.runtime.shared_arrays import SharedArrays, unpack_value
from ecg.runtime.tasks import log_progress, run_tasks
from ecg.systems.stage import Stage
from ecg.training.trainer import TrainingError

if TYPE_CHECKING:
    from ecg.systems.stage_runner import StageRunner

LOGGER = logging.getLogger("ecg")

INPUTS = "inputs"  # folder in that of the stages, for arrays that the tasks read


def train_by_tasks(runner: "StageRunner", stages: Sequence[Stage]) -> None:
    """Train the networks of stages that do not depend on each other, by tasks.

    Each task trains one network in a process of its own, after that of the preliminary stage, if any. It saves the
    results in the caches of the stages, and so it does with its state after each epoch. A task that begins again
    therefore resumes.

    Args:
        runner: Its executor runs the tasks, and its folder is seen by all machines.
        stages: The stages, ready to be trained.

    Raises:
        TrainingError: A network cannot be trained, or its process was killed again and again.
    """
    executor, folder = runner.executor, runner.folder.absolute()
    arrays, waiting = SharedArrays(folder / INPUTS), list(stages)

    def start(stage: Stage) -> StartedTask[None]:
        budget = runner.budget.for_task(runner.count_rounds([stage.keys for stage in waiting]))
        waiting.remove(stage)
        preparation = stage.view.preparation
        store = replace(runner.stores[preparation], excluded=(), repaired=(), unknown_codes=())
        alone = replace(runner, stores={preparation: store}, folder=folder, budget=budget, executor=ONE_PROCESS,
                        initial_networks=(), epochs=[], ends={}, seconds={})  # fmt: skip
        progress = partial(find_progress, folder, stage.keys)
        return executor.start(run_stage, arrays.pack((alone, stage)), prepare=start_keras, progress=progress)

    LOGGER.info(f"{pluralise(len(stages), 'network')} to train, {executor.n_slots:,} at the same time")
    try:
        with closing(run_tasks(executor, start, stages)) as tasks:
            for stage, result in tasks:
                try:
                    result()
                except ChildProcessError as error:
                    raise TrainingError(f"{stage.title}: {describe_error(error)}") from None
    finally:
        shutil.rmtree(arrays.folder, ignore_errors=True)


def find_progress(folder: Path, keys: Sequence[str]) -> int:
    """Return how far stages are by what they have saved, as `Executor.start` takes it.

    Args:
        folder: Folder of their caches (`StageRunner.cache_of`).
        keys: Keys of the stages.
    """
    return find_last_change(folder, [f"{folder_name(key)}_*" for key in keys])


def run_stage(packed: bytes) -> None:
    """Train the network of a stage in this process.

    Args:
        packed: The runner and the stage, from `SharedArrays.pack`.

    Raises:
        TrainingError: See `StageRunner.run_all`.
    """
    runner, stage = unpack_value(packed)
    with log_progress():
        LOGGER.info(f"{stage.title}: is trained on {platform.node()}")
        runner.run(stage)
