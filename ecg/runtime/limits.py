"""The ranges of arguments, and the time that stages may take."""

import math
import time
from collections.abc import Callable
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

TIME_LIMIT_REACHED = "time limit reached"  # why a training stopped
# Share of the budget for what follows the last stage (thresholds, tables, charts), and its minimum in seconds.
CLOSING, LEAST_CLOSING = 0.02, 60.0
# Share of a stage's time that is reserved for its predictions before any prediction has been timed.
FIRST_PREDICTIONS = 0.3


class Limit(NamedTuple):
    """The range of a number.

    Attributes:
        minimum: The smallest number.
        maximum: The largest number.
        integer: Whether it is an integer.
        exclude_minimum: Whether `minimum` itself is excluded.
        exclude_maximum: Whether `maximum` itself is excluded.
    """

    minimum: float
    maximum: float
    integer: bool = True
    exclude_minimum: bool = False
    exclude_maximum: bool = False

    def __str__(self) -> str:
        """Describe the range for a message, such as "an integer from 1 to 1,024"."""
        kind = "an integer" if self.integer else "a number"
        start = f"above {self.minimum:,} and up to" if self.exclude_minimum else f"from {self.minimum:,} to"
        return f"{kind} {start} {'below ' if self.exclude_maximum else ''}{self.maximum:,}"

    def contains(self, value: object) -> bool:
        """Return whether a value is a number in the range; NaN and infinity never are."""
        if not isinstance(value, Integral if self.integer else Real) or not math.isfinite(value):
            return False
        number = float(value)
        above = self.minimum < number if self.exclude_minimum else self.minimum <= number
        return above and (number < self.maximum if self.exclude_maximum else number <= self.maximum)


# By the names of options and arguments. The maxima are far above all that makes sense. They refuse a typing error at
# once, and not after hours or by running out of memory.
LIMITS = {
    "seed": Limit(0, 2**32 - 1),  # the seeds of scikit-learn
    "jobs": Limit(1, 1024),
    "processes": Limit(1, 1024),
    "port": Limit(0, 65_535),
    "width": Limit(1, 1024),
    "depth": Limit(1, 1024),
    "epochs": Limit(1, 100_000),
    "batch": Limit(1, 65_536),
    "folds": Limit(2, 1000),
    "validation_fold": Limit(1, 1000),
    "splits": Limit(1, 1000),
    "resamples": Limit(0, 100_000),
    "averaging": Limit(0, 1, integer=False, exclude_maximum=True),
    "pretrain": Limit(0, 1_000_000),
    "hours": Limit(0, 100_000, integer=False, exclude_minimum=True),
    "figures": Limit(0, 10_000),
    "false_positives": Limit(0, 1_000_000),
    "false_negatives": Limit(0, 1_000_000),
    "start": Limit(0, 1_000_000, integer=False),
    "records": Limit(1, 1_000_000),
    "noise": Limit(0, 100, integer=False),  # 16 bits of microvolts hold little more
    "share": Limit(0, 1_000_000, integer=False, exclude_minimum=True),
    "wrong_labels": Limit(0, 1, integer=False),
}


def check_limits(**values: object) -> None:
    """Check values, by the names of LIMITS, unless they are None.

    Raises:
        ValueError: One of them is out of its range.
    """
    for name, value in values.items():
        if value is not None and not LIMITS[name].contains(value):
            raise ValueError(f"{name}: expected {LIMITS[name]}, received {value!r}")


class TimeBudget:
    """A wall-clock limit, split over the remaining stages; unused time is passed on.

    Each stage reserves time for its predictions, on its validation set and at its end.

    Args:
        hours: The limit; None for no limit.
        clock: Returns the present time in seconds.
        cumulative: Whether time that was used before an interruption counts, too. The hours are then those of the
            stages alone. Otherwise they include what follows the stages, and start anew with each run.
    """

    def __init__(
        self, hours: float | None, clock: Callable[[], float] = time.monotonic, cumulative: bool = False
    ) -> None:
        self.clock, self.cumulative = clock, cumulative
        seconds = math.inf if hours is None else 3600 * hours
        closing = 0.0 if cumulative or hours is None else max(seconds * CLOSING, LEAST_CLOSING)
        self.end = clock() + seconds - closing
        self.start, self.stage_end, self.n_predictions = clock(), self.end, 0
        self.reserved = 0.0  # seconds for the predictions of the present stage
        self.prediction_seconds = 0.0  # of one recording, the longest seen
        # Returns what all processes do that train together, for what the clock of this one says.
        self.agree: Callable[[bool], bool] = bool

    def for_task(self, stages_left: float) -> "TimeBudget":
        """Return the budget of a stage that begins now in another process.

        It is that of the time of day, so that it holds on other machines, whose clocks must agree to some seconds.

        Args:
            stages_left: See `begin`.
        """
        budget = TimeBudget(None, time.time)
        budget.end = budget.stage_end = budget.clock() + (self.end - self.clock()) / stages_left
        budget.prediction_seconds = self.prediction_seconds
        return budget

    def begin(self, stages_left: float, n_predictions: int) -> None:
        """Begin a stage.

        Args:
            stages_left: Stages that share the remaining time, this one included; more than their number if the later
                ones take longer than this one.
            n_predictions: Recordings that this stage predicts.
        """
        now = self.start = self.clock()
        self.stage_end, self.n_predictions = now + (self.end - now) / stages_left, n_predictions
        if math.isfinite(self.end):
            self.reserved = FIRST_PREDICTIONS * (self.stage_end - now)
            self._reserve()

    def record_prediction_time(self, count: int, seconds: float) -> None:
        """Record how long it took to predict a number of recordings."""
        self.prediction_seconds = max(self.prediction_seconds, seconds / max(count, 1))
        self._reserve()

    @property
    def used(self) -> np.ndarray:
        """Seconds that the stage has used and that one prediction takes: (2,)."""
        return np.array([self.clock() - self.start, self.prediction_seconds])

    def resume(self, used: np.ndarray) -> None:
        """Resume the present stage, which had `used` so much when it was interrupted."""
        seconds = float(used[0])
        self.start -= seconds
        if self.cumulative:
            self.stage_end -= seconds
        self.skip(used)
        self._reserve()

    def skip(self, used: np.ndarray) -> None:
        """Count a stage that is loaded from the cache and had `used` so much."""
        seconds, prediction_seconds = map(float, used)
        if self.cumulative:
            self.end -= seconds
        self.prediction_seconds = max(self.prediction_seconds, prediction_seconds)

    def _reserve(self) -> None:
        if self.prediction_seconds:
            self.reserved = self.prediction_seconds * self.n_predictions

    @property
    def is_over(self) -> bool:
        """Whether only the time for the present stage's predictions is left."""
        return self.agree(self.clock() + self.reserved >= self.stage_end)
