"""The ranges of numbers that a user can give, on the command line and to functions alike."""

import math
from numbers import Integral, Real
from typing import NamedTuple


class Limit(NamedTuple):
    """The range of a number.

    Attributes:
        least: the smallest number.
        most: the largest number.
        integer: whether it is an integer.
        above: whether `least` itself is excluded.
        below: whether `most` itself is excluded.
    """

    least: float
    most: float
    integer: bool = True
    above: bool = False
    below: bool = False

    def __str__(self) -> str:
        """Say what is expected, as a message has it."""
        kind = "an integer" if self.integer else "a number"
        least = f"above {self.least:,} and up to" if self.above else f"from {self.least:,} to"
        return f"{kind} {least} {'below ' if self.below else ''}{self.most:,}"

    def holds(self, value: object) -> bool:
        """Return whether a value is within the range; NaN, infinity and what is no number never are."""
        if not isinstance(value, Integral if self.integer else Real) or not math.isfinite(value):
            return False
        return (self.least < value if self.above else self.least <= value) and (
            value < self.most if self.below else value <= self.most
        )


# By the names that options and arguments have. The upper ends are far above all that makes sense; they are there so
# that a slip of the pen is refused at once, and not after hours or by a machine without memory.
LIMITS = {
    "seed": Limit(0, 2**32 - 1),  # that scikit-learn takes
    "jobs": Limit(1, 1024),
    "width": Limit(1, 1024),
    "depth": Limit(1, 1024),
    "epochs": Limit(1, 100_000),
    "batch": Limit(1, 65_536),
    "folds": Limit(2, 1000),
    "resamples": Limit(0, 100_000),
    "averaging": Limit(0, 1, integer=False, below=True),
    "hours": Limit(0, 100_000, integer=False, above=True),
    "pictures": Limit(0, 10_000),
    "start": Limit(0, 1_000_000, integer=False),
    "records": Limit(1, 1_000_000),
    "noise": Limit(0, 100, integer=False),  # 16 bits of microvolts hold little more
    "share": Limit(0, 1_000_000, integer=False, above=True),
    "wrong_labels": Limit(0, 1, integer=False),
}


def check_limits(**values: object) -> None:
    """Raise ValueError if one of the values, by the names of LIMITS, is out of its range; None is no value."""
    for name, value in values.items():
        if value is not None and not LIMITS[name].holds(value):
            raise ValueError(f"{name}: expected {LIMITS[name]}, received {value!r}")
