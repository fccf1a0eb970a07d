"""Decide which classes are predicted, by thresholds or by argmax."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecg.data.labels import CLASS_INDEX, TRAINED, add_implied_labels, expand, select_scored


@dataclass(frozen=True)
class Rule:
    """How probabilities become predicted classes.

    Attributes:
        thresholds: Smallest probability at which each scored class is predicted, (26,).
        exclusive: Whether only the most probable class is predicted, by argmax. Thresholds then have no effect.
        pairs: Pairs of abbreviations; the second class is predicted wherever the first is.
        fallback: Abbreviation of the class that is predicted if there is no other, or None.
    """

    thresholds: np.ndarray
    exclusive: bool = False
    pairs: tuple[tuple[str, str], ...] = ()
    fallback: str | None = None

    def check(self, classes: Sequence[str]) -> None:
        """Check that the rule predicts only scored classes of a system.

        Args:
            classes: Abbreviations of the system's classes.

        Raises:
            ValueError: If it can predict another class.
        """
        known = select_scored(classes)
        if self.fallback not in (None, *known):
            raise ValueError(f"fallback is {self.fallback!r}, expected None or one of {', '.join(known)}")
        if unknown := {name for pair in self.pairs for name in pair}.difference(known):
            raise ValueError(f"pairs have {', '.join(sorted(unknown))}, expected some of {', '.join(known)}")

    def decide(self, probabilities: np.ndarray, indices: np.ndarray = TRAINED) -> np.ndarray:
        """Decide which classes are predicted.

        Args:
            probabilities: (..., K).
            indices: Class indices of the probabilities, (K,). From 26 on they are additional classes, which are never
                predicted, but can be the most probable.

        Returns:
            Whether each scored class is predicted, (..., 26) bool.
        """
        probabilities = np.asarray(probabilities)
        if self.exclusive:
            highest = np.arange(len(indices)) == probabilities.argmax(axis=-1)[..., np.newaxis]
            outputs = expand(highest, indices)
        else:
            outputs = expand(probabilities, indices) >= self.thresholds
        outputs = add_implied_labels(outputs, self.pairs)
        if self.fallback is not None:
            outputs[..., CLASS_INDEX[self.fallback]] |= ~outputs.any(axis=-1)
        return outputs
