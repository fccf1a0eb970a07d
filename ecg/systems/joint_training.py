"""Train each network by several processes together.

Process 0 does everything that a training alone does. For each network, it sends the stage to the other processes, and
all train it in step, each with its part of each batch. The others read the stores, and write nothing.
"""

import io
import logging
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np

from ecg.runtime.cache import ResultCache
from ecg.runtime.limits import TimeBudget
from ecg.runtime.peers import Follower
from ecg.systems.stage import Stage
from ecg.systems.stage_runner import StageRunner

LOGGER = logging.getLogger("ecg")


class LeadingRunner(StageRunner):
    """Runs the stages of process 0, with the other processes."""

    def train(self, stage: Stage, cache: ResultCache | None) -> dict[str, np.ndarray]:
        """Train the network of a stage, with the other processes.

        The arguments and what is returned are those of `StageRunner.train`.
        """
        self.budget.agree = self.peers.share
        self.peers.share((stage, self.stores[stage.view.preparation], self.seed))
        return super().train(stage, cache)


def follow_stages(peers: Follower) -> None:
    """Train the networks that process 0 sends, without logs, until it sends no more.

    Raises:
        TrainingError: See `StageRunner.run`.
        OSError: A store cannot be read.
    """
    LOGGER.disabled = True
    with redirect_stderr(io.StringIO()):
        while (work := peers.share(None)) is not None:
            stage, store, seed = work
            budget = TimeBudget(None)
            budget.agree = peers.share
            runner = StageRunner({stage.view.preparation: store}, Path(), seed, budget, peers=peers)
            runner.train(stage, None)
