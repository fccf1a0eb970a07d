"""Tables of classes: their codes, and the credit of each prediction."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

MAX_WEIGHT = 1e6  # of weights; sums of larger ones could lose digits
ABBREVIATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,11}", re.ASCII)
CODE = re.compile(r"[^\s,;|](?:[^,;|\x00-\x1f\x7f]{0,98}[^\s,;|])?")  # blanks within are accepted
UNDIAGNOSED = ("unknown", "nan", "none", "n/a")  # words for no diagnosis, in any case
SINUS_RHYTHM = "426783006"  # the Challenge's inactive system predicts only this class, and scores 0

WeightTable = tuple[tuple[float, ...], ...]  # weights of C classes, C rows of C, labels by row


class Diagnosis(NamedTuple):
    """A diagnosis.

    Attributes:
        abbreviation: Its abbreviation.
        codes: Its code, or several equivalent ones.
        name: Its name.
    """

    abbreviation: str
    codes: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class ClassTable:
    """Classes that are predicted and scored, and the credit of each prediction.

    A class has an index, its position in `scored`. The indices of additional classes follow. Codes are SNOMED CT codes
    or others, as strings.

    Attributes:
        scored: The C classes that are scored.
        additional: A classes that can be trained and are not scored.
        merged: Pairs of a code and an abbreviation. Training counts the code as this class, an evaluation does not.
        untrained: Abbreviations of scored classes that systems do not train, unless they name them.
        weights: Credit of each prediction, C rows of C, labels by row; None: 1 for a hit, 0 for any other.
        metric: Name of the metric with these weights.

    Raises:
        ValueError: There is no class, an abbreviation or a code is malformed or there twice, or the weights are not
            of the scored classes.
    """

    scored: tuple[Diagnosis, ...]
    additional: tuple[Diagnosis, ...] = ()
    merged: tuple[tuple[str, str], ...] = ()
    untrained: tuple[str, ...] = ()
    weights: WeightTable | None = None
    metric: str = "metric of your own classes"

    def __post_init__(self) -> None:
        if not self.scored:
            raise ValueError("expected at least one class")
        classes: dict[str, str] = {}  # the class of each name in use, by the name in lower case
        for diagnosis in self.diagnoses:
            if not ABBREVIATION.fullmatch(diagnosis.abbreviation):
                raise ValueError(f"abbreviation {diagnosis.abbreviation!r}: expected up to 12 letters, digits, '_', "
                                 f"'+' and '-', the first a letter or digit")  # fmt: skip
            if diagnosis.abbreviation.casefold() in classes:
                raise ValueError(f"abbreviation {diagnosis.abbreviation!r} is there twice")
            classes[diagnosis.abbreviation.casefold()] = diagnosis.abbreviation
        owners: dict[str, str] = {}
        for diagnosis in self.diagnoses:
            if not diagnosis.codes:
                raise ValueError(f"{diagnosis.abbreviation}: expected a code")
            for code in diagnosis.codes:
                if not CODE.fullmatch(code) or code.casefold() in UNDIAGNOSED:
                    raise ValueError(f"{diagnosis.abbreviation}: code {code!r} cannot be written in a header")
                if owners.setdefault(code, diagnosis.abbreviation) != diagnosis.abbreviation:
                    raise ValueError(f"code {code!r} is of two classes, {owners[code]} and {diagnosis.abbreviation}")
        if unknown := {*self.untrained, *(name for _, name in self.merged)}.difference(self.abbreviations):
            raise ValueError(f"{', '.join(sorted(unknown))}: not a scored class")
        self.make_weight_array()

    def __len__(self) -> int:
        """Return the number of scored classes, C."""
        return len(self.scored)

    @cached_property
    def diagnoses(self) -> tuple[Diagnosis, ...]:
        """The scored, then the additional classes."""
        return (*self.scored, *self.additional)

    @cached_property
    def abbreviations(self) -> tuple[str, ...]:
        """Abbreviations of the scored classes."""
        return tuple(diagnosis.abbreviation for diagnosis in self.scored)

    @cached_property
    def all_abbreviations(self) -> tuple[str, ...]:
        """Abbreviations of the scored, then the additional classes."""
        return tuple(diagnosis.abbreviation for diagnosis in self.diagnoses)

    @cached_property
    def code_lists(self) -> tuple[str, ...]:
        """Codes of the scored classes as in output files, 'A|B' for several codes."""
        return tuple("|".join(diagnosis.codes) for diagnosis in self.scored)

    @cached_property
    def index(self) -> dict[str, int]:
        """Index of each scored class by its abbreviation."""
        return {abbreviation: index for index, abbreviation in enumerate(self.abbreviations)}

    @cached_property
    def trained(self) -> np.ndarray:
        """Indices of the classes that systems train unless they name others, (T,)."""
        return np.array([index for index, name in enumerate(self.abbreviations) if name not in self.untrained])

    @cached_property
    def trained_classes(self) -> tuple[str, ...]:
        """Abbreviations of the classes that systems train unless they name others."""
        return tuple(name for name in self.abbreviations if name not in self.untrained)

    @cached_property
    def sinus(self) -> int | None:
        """Index of the class with the code of sinus rhythm, or None."""
        return self.evaluated_class_of_code.get(SINUS_RHYTHM)

    @cached_property
    def evaluated_class_of_code(self) -> dict[str, int]:
        """Index of the scored class of each code."""
        return {code: index for index, diagnosis in enumerate(self.scored) for code in diagnosis.codes}

    @cached_property
    def class_of_code(self) -> dict[str, int]:
        """Index of the scored class that training counts a code as."""
        return self.evaluated_class_of_code | {code: self.index[name] for code, name in self.merged}

    @cached_property
    def additional_class_of_code(self) -> dict[str, int]:
        """Index of the additional class of each code, among these."""
        return {code: index for index, diagnosis in enumerate(self.additional) for code in diagnosis.codes}

    def make_weight_array(self, weights: WeightTable | None = None) -> np.ndarray:
        """Return the credit of each prediction, (C, C) float64, labels by row.

        Args:
            weights: Other weights than those of the table; None: these.

        Raises:
            ValueError: They are not of the scored classes, or an entry is not a number within MAX_WEIGHT.
        """
        weights, size = self.weights if weights is None else weights, len(self)
        if weights is None:
            return np.eye(size)
        array = np.array(weights) if {len(row) for row in weights} == {size} else np.empty(0)
        if array.shape != (size, size) or array.dtype.kind not in "fi" or not (abs(array) <= MAX_WEIGHT).all():
            raise ValueError(f"weights: expected {size} rows of {size} numbers up to {MAX_WEIGHT:,.0f}")
        return array.astype(np.float64)

    def encode(self, codes: Iterable[str]) -> np.ndarray:
        """Return the scored classes that a recording's codes name: (C,) bool.

        These are what networks are trained on. Merged codes count. Other codes are ignored.
        """
        return _encode(codes, self.class_of_code, len(self))

    def encode_as_scored(self, codes: Iterable[str]) -> np.ndarray:
        """Return the classes of codes as an evaluation has them: (C,) bool."""
        return _encode(codes, self.evaluated_class_of_code, len(self))

    def encode_additional(self, codes: Iterable[str]) -> np.ndarray:
        """Return the additional classes that a recording's codes name: (A,) bool."""
        return _encode(codes, self.additional_class_of_code, len(self.additional))

    def has_diagnosis(self, codes: Iterable[str]) -> bool:
        """Return whether a header has a code of SNOMED CT or of these classes."""
        return any(code.isdigit() or code in self.class_of_code for code in codes)

    def indices(self, names: Iterable[str]) -> np.ndarray:
        """Return the indices of classes among the scored, then the additional ones: (K,).

        Args:
            names: Abbreviations of K classes.

        Raises:
            ValueError: One is unknown.
        """
        return np.array([self.all_abbreviations.index(name) for name in names], int)

    def find_name(self, text: str) -> str:
        """Return the abbreviation of a scored class that is given in any case.

        Raises:
            ValueError: There is no such class.
        """
        names = {name.casefold(): name for name in self.abbreviations}
        if text.strip().casefold() not in names:
            raise ValueError(f"expected one of {', '.join(self.abbreviations)}, received {text!r}")
        return names[text.strip().casefold()]

    def select_scored(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the abbreviations that are those of scored classes, in their order."""
        return tuple(name for name in names if name in self.index)

    def expand(self, values: np.ndarray, indices: np.ndarray | None = None) -> np.ndarray:
        """Scatter values of classes over the scored ones: (..., K) to (..., C).

        Other classes get 0, and values of additional classes are dropped.

        Args:
            values: The values.
            indices: Indices of their classes, (K,); None: the trained ones.
        """
        return self.scatter(values, self.trained if indices is None else indices)[..., : len(self)]

    def scatter(self, values: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Scatter values over scored and additional classes: (..., K) to (..., C + A)."""
        values = np.asarray(values)
        wide = np.zeros((*values.shape[:-1], len(self.diagnoses)), values.dtype)
        wide[..., indices] = values
        return wide

    def add_implied_labels(self, labels: np.ndarray, pairs: Iterable[tuple[str, str]]) -> np.ndarray:
        """Add the second class of each pair wherever the first is present.

        Args:
            labels: Labels or predictions (..., C) bool, not changed.
            pairs: Abbreviations, applied in their order.
        """
        labels = np.array(labels, bool)
        for first, second in pairs:
            labels[..., self.index[second]] |= labels[..., self.index[first]]
        return labels


def _encode(codes: Iterable[str], class_of_code: Mapping[str, int], count: int) -> np.ndarray:
    row = np.zeros(count, bool)
    row[[class_of_code[code] for code in codes if code in class_of_code]] = True
    return row


def write_class_table(classes: ClassTable) -> dict[str, Any]:
    """Return a table of classes as JSON can hold it."""
    return asdict(classes) | {
        name: [diagnosis._asdict() for diagnosis in getattr(classes, name)] for name in ("scored", "additional")
    }


def parse_class_table(entry: Mapping[str, Any]) -> ClassTable:
    """Return the table that `write_class_table` describes.

    Raises:
        ValueError: A value is malformed; or another exception of `ecg.models.config.INVALID`.
    """
    diagnoses = {
        name: tuple(Diagnosis(str(row["abbreviation"]), tuple(map(str, row["codes"])), str(row["name"]))
                    for row in entry[name])
        for name in ("scored", "additional")
    }  # fmt: skip
    weights = entry["weights"]
    return ClassTable(
        **diagnoses,
        merged=tuple((str(code), str(name)) for code, name in entry["merged"]),
        untrained=tuple(map(str, entry["untrained"])),
        weights=None if weights is None else tuple(map(tuple, weights)),
        metric=str(entry["metric"]),
    )
