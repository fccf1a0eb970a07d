"""Ranges of the numbers that options and functions accept."""

import math
from numbers import Integral, Real
from typing import NamedTuple


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
    "width": Limit(1, 1024),
    "depth": Limit(1, 1024),
    "epochs": Limit(1, 100_000),
    "batch": Limit(1, 65_536),
    "folds": Limit(2, 1000),
    "resamples": Limit(0, 100_000),
    "averaging": Limit(0, 1, integer=False, exclude_maximum=True),
    "hours": Limit(0, 100_000, integer=False, exclude_minimum=True),
    "figures": Limit(0, 10_000),
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
