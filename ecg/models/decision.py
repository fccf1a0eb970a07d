"""Decide which classes are predicted: by thresholds, argmax, credit or vote."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ecg.data.class_tables import ClassTable, WeightTable
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.evaluation.calibration import Calibration
from ecg.evaluation.expected_credit import choose_classes
from ecg.evaluation.thresholds import HALF

DECISIONS = ("thresholds", "half", "argmax", "expected_credit", "vote")
THRESHOLDS, HALVES, ARGMAX, EXPECTED_CREDIT, VOTE = DECISIONS


@dataclass(frozen=True)
class Rule:
    """How probabilities become predicted classes.

    Attributes:
        thresholds: Smallest probability at which each scored class is predicted, (C,), if thresholds decide.
        decision: What decides, one of DECISIONS: thresholds; 0.5 for all classes; argmax, so that only the most
            probable class is predicted; the expected credit; or the majority of the networks, each by its thresholds.
        pairs: Pairs of abbreviations; the second class is predicted wherever the first is.
        fallback: Abbreviation of the class that is predicted if there is no other, or None.
        calibration: Calibration of the scored classes, before the expected credit is computed; None: no calibration.
        weights: Credit of each prediction; None: that of the classes.
        member_thresholds: Thresholds of each of M networks, (M, C), if their majority decides.
        classes: The C classes that are scored.

    Raises:
        ValueError: The decision is unknown, or calibration, weights or thresholds are not of the scored classes.
    """

    thresholds: np.ndarray
    decision: str = THRESHOLDS
    pairs: tuple[tuple[str, str], ...] = ()
    fallback: str | None = None
    calibration: Calibration | None = None
    weights: WeightTable | None = None
    member_thresholds: np.ndarray | None = None
    classes: ClassTable = CHALLENGE_CLASSES

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise ValueError(f"decision: expected one of {', '.join(DECISIONS)}, received {self.decision!r}")
        size = len(self.classes)
        if np.shape(self.thresholds) not in ((size,), ()):  # a rule to compare has none
            raise ValueError(f"thresholds: {np.shape(self.thresholds)}, expected ({size},)")
        if self.calibration and len(self.calibration.intercepts) != size:
            raise ValueError(f"calibration: {len(self.calibration.intercepts)} classes, expected {size}")
        self.classes.make_weight_array(self.weights)
        if self.member_thresholds is not None and self.member_thresholds.shape[1:] != (size,):
            raise ValueError(f"member_thresholds: {self.member_thresholds.shape}, expected (M, {size})")

    @cached_property
    def weight_array(self) -> np.ndarray:
        """Credit of each prediction, (C, C), labels by row."""
        return self.classes.make_weight_array(self.weights)

    @property
    def applied_thresholds(self) -> np.ndarray:
        """Thresholds of the probabilities that decide, (C,); NaN if none does."""
        if self.decision == THRESHOLDS:
            return self.thresholds
        return np.full(len(self.classes), HALF / 100 if self.decision == HALVES else np.nan)

    def check(self, classes: Sequence[str]) -> None:
        """Check that the rule predicts only scored classes of a system.

        Args:
            classes: Abbreviations of the system's classes.

        Raises:
            ValueError: If it can predict another class.
        """
        known = self.classes.select_scored(classes)
        if self.fallback not in (None, *known):
            raise ValueError(f"fallback is {self.fallback!r}, expected None or one of {', '.join(known)}")
        if unknown := {name for pair in self.pairs for name in pair}.difference(known):
            raise ValueError(f"pairs have {', '.join(sorted(unknown))}, expected some of {', '.join(known)}")

    def decide(
        self, probabilities: np.ndarray, indices: np.ndarray | None = None, members: np.ndarray | None = None
    ) -> np.ndarray:
        """Decide which classes are predicted.

        Args:
            probabilities: (..., K).
            indices: Class indices of the probabilities, (K,); None: the trained ones. From C on they are additional
                classes, which are never predicted, but can be the most probable.
            members: Probabilities of each network, (M, ..., K), if their majority decides. NaN is no vote.

        Returns:
            Whether each scored class is predicted, (..., C) bool.

        Raises:
            ValueError: The majority decides, and `members` are not those of the networks that have thresholds.
        """
        probabilities = np.asarray(probabilities)
        indices = self.classes.trained if indices is None else indices
        if self.decision == ARGMAX:
            highest = np.arange(len(indices)) == probabilities.argmax(axis=-1)[..., np.newaxis]
            outputs = self.classes.expand(highest, indices)
        elif self.decision == EXPECTED_CREDIT:
            calibrated = self.calibrate(self.classes.expand(probabilities, indices))
            outputs = choose_classes(calibrated.reshape(-1, len(self.classes)), self.weight_array)
            outputs = outputs.reshape(calibrated.shape)
        elif self.decision == VOTE:
            outputs = self.count_votes(members, indices)
        else:
            outputs = self.classes.expand(probabilities, indices) >= self.applied_thresholds
        outputs = self.classes.add_implied_labels(outputs, self.pairs)
        if self.fallback is not None:
            outputs[..., self.classes.index[self.fallback]] |= ~outputs.any(axis=-1)
        return outputs

    def count_votes(self, members: np.ndarray | None, indices: np.ndarray) -> np.ndarray:
        """Return the classes that more than half of the networks predict.

        Args:
            members: Probabilities of each network, (M, ..., K). NaN is no vote.
            indices: Class indices of the probabilities, (K,).

        Returns:
            Whether each scored class is predicted, (..., C) bool.
        """
        thresholds = self.member_thresholds
        if members is None or thresholds is None or len(members) != len(thresholds):
            given = [None if array is None else len(array) for array in (members, thresholds)]
            raise ValueError(f"a vote of {given[0]} networks, expected the {given[1]} that have thresholds")
        shape = (len(thresholds), *[1] * (members.ndim - 2), -1)
        votes = self.classes.expand(members, indices) >= thresholds.reshape(shape)
        voters = np.isfinite(members).all(axis=-1).sum(axis=0)[..., np.newaxis]
        return (2 * votes.sum(axis=0) > voters) & self.classes.expand(np.ones(len(indices), bool), indices)

    def calibrate(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities of the scored classes, (..., C) float64.

        A probability of 0, as that of a class that the networks do not predict, stays 0.
        """
        calibrated = self.calibration.apply(probabilities) if self.calibration else probabilities
        return np.where(np.asarray(probabilities) > 0, calibrated, 0.0)


def write_rule(rule: Rule) -> dict[str, Any]:
    """Return a rule as in a JSON file: values of the classes by their codes.

    The table of classes is not part of it.
    """
    names = rule.classes.code_lists
    entry = asdict(rule) | {"thresholds": dict(zip(names, rule.thresholds.tolist(), strict=True))}
    del entry["classes"]
    if rule.member_thresholds is not None:
        rows = rule.member_thresholds.tolist()
        entry["member_thresholds"] = [dict(zip(names, row, strict=True)) for row in rows]
    if rule.calibration:
        entry["calibration"]["intercepts"] = dict(zip(names, rule.calibration.intercepts, strict=True))
    return entry


def read_rule(entry: Mapping[str, Any], classes: ClassTable = CHALLENGE_CLASSES) -> Rule:
    """Return the rule that `write_rule` describes.

    Args:
        entry: Its description.
        classes: Its classes.

    Raises:
        ValueError: A value is malformed; or another exception of `ecg.models.config.INVALID`.
    """

    def parse(values: Mapping[str, Any]) -> list[float]:
        if values.keys() != set(classes.code_lists):
            raise ValueError(f"{len(values)} classes, expected the {len(classes)} scored ones")
        return [_parse_number(values[name]) for name in classes.code_lists]

    calibration = entry["calibration"]
    if calibration is not None:
        slope, intercepts = _parse_number(calibration["slope"]), tuple(parse(calibration["intercepts"]))
        calibration = Calibration(**(calibration | {"slope": slope, "intercepts": intercepts}))
    pairs, weights = tuple(map(tuple, entry["pairs"])), entry["weights"]
    weights = None if weights is None else tuple(map(tuple, weights))
    members = entry["member_thresholds"]
    members = None if members is None else np.array([parse(row) for row in members])
    parsed = {"thresholds": np.array(parse(entry["thresholds"])), "pairs": pairs, "weights": weights,
              "member_thresholds": members}  # fmt: skip
    return Rule(**(dict(entry) | parsed | {"calibration": calibration, "classes": classes}))


def _parse_number(value: object) -> float:
    """Return a number of a JSON file as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.100} is not a number")
    return float(value)
