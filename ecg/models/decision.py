"""Decide which classes are predicted: by thresholds, argmax or expected credit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ecg.data.labels import ABBREVIATIONS, CLASS_INDEX, SCORED, TRAINED, add_implied_labels, expand, select_scored
from ecg.evaluation.calibration import Calibration
from ecg.evaluation.expected_credit import choose_classes
from ecg.evaluation.metrics import WeightTable, build_weight_array
from ecg.evaluation.thresholds import HALF

CLASSES = tuple("|".join(diagnosis.codes) for diagnosis in SCORED)  # their codes, as in files
DECISIONS = (THRESHOLDS, HALVES, ARGMAX, EXPECTED_CREDIT) = ("thresholds", "half", "argmax", "expected_credit")


@dataclass(frozen=True)
class Rule:
    """How probabilities become predicted classes.

    Attributes:
        thresholds: Smallest probability at which each scored class is predicted, (26,), if thresholds decide.
        decision: What decides, one of DECISIONS: thresholds; 0.5 for all classes; argmax, so that only the most
            probable class is predicted; or the expected credit.
        pairs: Pairs of abbreviations; the second class is predicted wherever the first is.
        fallback: Abbreviation of the class that is predicted if there is no other, or None.
        calibration: Calibration of the scored classes, before the expected credit is computed; None: no calibration.
        weights: Credit of each prediction; None: that of the Challenge.

    Raises:
        ValueError: The decision is unknown, or calibration or weights are not of the scored classes.
    """

    thresholds: np.ndarray
    decision: str = THRESHOLDS
    pairs: tuple[tuple[str, str], ...] = ()
    fallback: str | None = None
    calibration: Calibration | None = None
    weights: WeightTable | None = None

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise ValueError(f"decision: expected one of {', '.join(DECISIONS)}, received {self.decision!r}")
        if self.calibration and len(self.calibration.intercepts) != len(ABBREVIATIONS):
            raise ValueError(f"calibration: {len(self.calibration.intercepts)} classes, expected {len(ABBREVIATIONS)}")
        if self.weights is not None:
            build_weight_array(self.weights)

    @cached_property
    def weight_array(self) -> np.ndarray:
        """Credit of each prediction, (26, 26), labels by row."""
        return build_weight_array(self.weights)

    @property
    def applied_thresholds(self) -> np.ndarray:
        """Thresholds that decide, (26,); NaN if none does."""
        if self.decision == THRESHOLDS:
            return self.thresholds
        return np.full(len(ABBREVIATIONS), HALF / 100 if self.decision == HALVES else np.nan)

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
        if self.decision == ARGMAX:
            highest = np.arange(len(indices)) == probabilities.argmax(axis=-1)[..., np.newaxis]
            outputs = expand(highest, indices)
        elif self.decision == EXPECTED_CREDIT:
            calibrated = self.calibrate(expand(probabilities, indices))
            outputs = choose_classes(calibrated.reshape(-1, len(ABBREVIATIONS)), self.weight_array)
            outputs = outputs.reshape(calibrated.shape)
        else:
            outputs = expand(probabilities, indices) >= self.applied_thresholds
        outputs = add_implied_labels(outputs, self.pairs)
        if self.fallback is not None:
            outputs[..., CLASS_INDEX[self.fallback]] |= ~outputs.any(axis=-1)
        return outputs

    def calibrate(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities of the scored classes, (..., 26) float64.

        A probability of 0, as that of a class that the networks do not predict, stays 0.
        """
        calibrated = self.calibration.apply(probabilities) if self.calibration else probabilities
        return np.where(np.asarray(probabilities) > 0, calibrated, 0.0)


def write_rule(rule: Rule) -> dict[str, Any]:
    """Return a rule as in a JSON file: values of the classes by their codes."""
    entry = asdict(rule) | {"thresholds": dict(zip(CLASSES, rule.thresholds.tolist(), strict=True))}
    if rule.calibration:
        entry["calibration"]["intercepts"] = dict(zip(CLASSES, rule.calibration.intercepts, strict=True))
    return entry


def read_rule(entry: Mapping[str, Any]) -> Rule:
    """Return the rule that `write_rule` describes.

    Raises:
        ValueError: A value is malformed; or another exception of `ecg.models.bundle.INVALID`.
    """

    def parse(values: Mapping[str, Any]) -> list[float]:
        if values.keys() != set(CLASSES):
            raise ValueError(f"{len(values)} classes, expected the {len(CLASSES)} scored ones")
        return [_parse_number(values[name]) for name in CLASSES]

    calibration = entry["calibration"]
    if calibration is not None:
        slope, intercepts = _parse_number(calibration["slope"]), tuple(parse(calibration["intercepts"]))
        calibration = Calibration(**(calibration | {"slope": slope, "intercepts": intercepts}))
    pairs, weights = tuple(map(tuple, entry["pairs"])), entry["weights"]
    weights = None if weights is None else tuple(map(tuple, weights))
    parsed = {"thresholds": np.array(parse(entry["thresholds"])), "pairs": pairs, "weights": weights}
    return Rule(**(dict(entry) | parsed | {"calibration": calibration}))


def _parse_number(value: object) -> float:
    """Return a number of a JSON file as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.100} is not a number")
    return float(value)
