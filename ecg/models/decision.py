"""How probabilities become answers: thresholds, the likeliest of classes that exclude each other, what implies what."""

from dataclasses import dataclass

import numpy as np

from ecg.data.labels import CLASS_INDEX, TRAINED, add_implied_labels, expand, select_scored


@dataclass(frozen=True)
class Rule:
    """How probabilities become answers: by thresholds (26,), or where classes exclude each other, the likeliest alone.

    pairs: of abbreviations, the second of which is answered wherever the first is; fallback: what is answered where
    nothing else is, an abbreviation, or None for no class.
    """

    thresholds: np.ndarray
    exclusive: bool = False
    pairs: tuple[tuple[str, str], ...] = ()
    fallback: str | None = None

    def check(self, classes):
        """Raise ValueError where it answers a class that is not among a system's, abbreviations, or not scored."""
        known = select_scored(classes)
        if self.fallback not in (None, *known):
            raise ValueError(f"fallback is {self.fallback!r}, expected None or one of {', '.join(known)}")
        if unknown := {name for pair in self.pairs for name in pair}.difference(known):
            raise ValueError(f"pairs have {', '.join(sorted(unknown))}, expected some of {', '.join(known)}")

    def answers(self, probabilities, columns=TRAINED):
        """Return which classes are answered, (..., 26) bool, for probabilities (..., K) of classes by their columns.

        Columns from 26 on are of classes beside the scored ones: they are never answered, and may be the likeliest.
        """
        probabilities = np.asarray(probabilities)
        if self.exclusive:
            likeliest = np.arange(len(columns)) == probabilities.argmax(axis=-1)[..., np.newaxis]
            outputs = expand(likeliest, columns)
        else:
            outputs = expand(probabilities, columns) >= self.thresholds
        outputs = add_implied_labels(outputs, self.pairs)
        if self.fallback is not None:
            outputs[..., CLASS_INDEX[self.fallback]] |= ~outputs.any(axis=-1)
        return outputs
