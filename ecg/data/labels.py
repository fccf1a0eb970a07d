"""The 26 scored classes, the other diagnoses, and the source databases.

A class has an index, its position in ``weights.csv``. Codes are SNOMED CT codes, as strings.
Origin of the tables: the PhysioNet/CinC Challenge 2021 (dx_mapping_scored.csv and dx_mapping_unscored.csv).
"""

import csv
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.ptb_xl import RECORD_NAME, STATEMENT, SUPERCLASS


class Diagnosis(NamedTuple):
    """A diagnosis.

    Attributes:
        abbreviation: The Challenge's abbreviation.
        codes: Its code, or several equivalent ones.
        name: Its name.
    """

    abbreviation: str
    codes: tuple[str, ...]
    name: str


def _read_diagnoses(file: str) -> tuple[Diagnosis, ...]:
    """Read a table beside this module; '|' separates equivalent codes."""
    with open(Path(__file__).with_name(file), newline="") as table:
        rows = list(csv.reader(table))[1:]
    return tuple(Diagnosis(abbreviation, tuple(codes.split("|")), name) for codes, abbreviation, name in rows)


SCORED = _read_diagnoses("scored.csv")
# Additional classes: the Challenge does not score them, but some of the published systems predict them.
ADDITIONAL_CLASSES = (
    Diagnosis("STD", ("429622005",), "ST depression"),
    Diagnosis("STE", ("164931005",), "ST elevation"),
)
ABBREVIATIONS = tuple(diagnosis.abbreviation for diagnosis in SCORED)
CLASS_INDEX = {abbreviation: index for index, abbreviation in enumerate(ABBREVIATIONS)}

# Fewer than 700 recordings in the public training data: the default system never trains nor predicts them.
DROPPED = ("BBB", "Brady", "LPR", "PRWP")
TRAINED = np.array([index for index, name in enumerate(ABBREVIATIONS) if name not in DROPPED])
TRAINED_CLASSES = tuple(ABBREVIATIONS[index] for index in TRAINED)

# Ventricular ectopic beats are not scored; training counts them as premature ventricular contractions.
MERGED = {"164884008": "PVC"}
EVALUATED_CLASS_OF_CODE = {code: index for index, diagnosis in enumerate(SCORED) for code in diagnosis.codes}
CLASS_OF_CODE = EVALUATED_CLASS_OF_CODE | {code: CLASS_INDEX[abbreviation] for code, abbreviation in MERGED.items()}
ADDITIONAL_CLASS_OF_CODE = {code: index for index, added in enumerate(ADDITIONAL_CLASSES) for code in added.codes}

UNDIAGNOSED = ("unknown", "nan", "none", "n/a")  # words for no diagnosis, in any case

# Headers of 2020 have abbreviations instead of codes. Equivalent codes have different ones.
CODE_OF_TEXT = {
    **{diagnosis.abbreviation.casefold(): diagnosis.codes[0] for diagnosis in SCORED},
    **{"clbbb": "733534002", "lbbb": "164909002", "crbbb": "713427006", "rbbb": "59118001"},
    **{"svpb": "63593006", "vpb": "17338001", "normal": "426783006", "i-avb": "270492004"},
}

# By the letters that a recording's name begins with.
SOURCE_OF_PREFIX = {"A": "CPSC", "Q": "CPSC-Extra", "I": "INCART", "S": "PTB", "HR": "PTB-XL", "E": "Georgia"}
CHAPMAN, NINGBO = "Chapman-Shaoxing", "Ningbo"
LAST_CHAPMAN = 10646  # Chapman-Shaoxing and Ningbo share the prefix JS and differ in the number
DISCARDED_SOURCES = ("INCART", "PTB")
CPSC_SCORED = ("AF", "IAVB", "LBBB", "NSR", "PAC", "RBBB")  # the scored classes that CPSC labels
CPSC_LABELS = (*CPSC_SCORED, "PVC")  # CPSC also labels ventricular ectopic beats, which count as PVC
PROXY_SOURCE = "Georgia"  # its recordings are the most similar to the official test data


@cache
def unscored_diagnoses() -> dict[str, Diagnosis]:
    """Return the diagnoses that the Challenge knows and does not score, by code."""
    return {diagnosis.codes[0]: diagnosis for diagnosis in _read_diagnoses("unscored.csv")}


@cache
def _code_of_abbreviation() -> dict[str, str]:
    unscored = {diagnosis.abbreviation.casefold(): code for code, diagnosis in unscored_diagnoses().items()}
    return unscored | CODE_OF_TEXT


def code_of(text: str) -> str:
    """Return the code of a diagnosis that a header names by code or abbreviation.

    Abbreviations are the Challenge's, in any case, with those of 2020 such as "Normal" and "I-AVB". Any other string
    stays as it is.
    """
    return text if text.isdigit() else _code_of_abbreviation().get(text.casefold(), text)


def code_status(code: str) -> str:
    """Return "scored", "unscored" or, if the Challenge does not know it, "unknown".

    Ventricular ectopic beats count as scored, because they are merged into a scored class. The codes of statements and
    superclasses of PTB-XL count as unscored.
    """
    if code in CLASS_OF_CODE:
        return "scored"
    is_known = code in unscored_diagnoses() or code.startswith((STATEMENT, SUPERCLASS))
    return "unscored" if is_known else "unknown"


def find_diagnosis(code: str) -> Diagnosis:
    """Return the diagnosis of a code; an unknown code is its own abbreviation."""
    if code in CLASS_OF_CODE:
        return SCORED[CLASS_OF_CODE[code]]
    return unscored_diagnoses().get(code, Diagnosis(code, (code,), ""))


def encode(codes: Iterable[str]) -> np.ndarray:
    """Return the scored classes that a recording's codes name: (26,) bool.

    These are what networks are trained on. Ventricular ectopic beats count as premature ventricular contractions. Other
    codes are ignored.
    """
    return _encode(codes, CLASS_OF_CODE, len(SCORED))


def encode_as_scored(codes: Iterable[str]) -> np.ndarray:
    """Return the classes of codes as the Challenge's evaluator has them: (26,) bool."""
    return _encode(codes, EVALUATED_CLASS_OF_CODE, len(SCORED))


def encode_additional(codes: Iterable[str]) -> np.ndarray:
    """Return which of ADDITIONAL_CLASSES a recording's codes name: (2,) bool."""
    return _encode(codes, ADDITIONAL_CLASS_OF_CODE, len(ADDITIONAL_CLASSES))


def _encode(codes: Iterable[str], class_of_code: Mapping[str, int], count: int) -> np.ndarray:
    row = np.zeros(count, bool)
    row[[class_of_code[code] for code in codes if code in class_of_code]] = True
    return row


def select_labels(indices: np.ndarray, labels: np.ndarray, additional: np.ndarray) -> np.ndarray:
    """Select the labels of some classes.

    Args:
        indices: Of K classes (see `class_indices`).
        labels: Of the scored classes, (N, 26) bool.
        additional: Of ADDITIONAL_CLASSES, (N, 2) bool.

    Returns:
        (N, K) bool.
    """
    return np.hstack([labels, additional])[:, indices]


def find_single_labels(indices: np.ndarray, labels: np.ndarray, additional: np.ndarray) -> np.ndarray:
    """Return which recordings have exactly one of several classes, (N,) bool.

    The labels of others cannot be compared with a model of exclusive classes: it would have to deny one of two labels.
    The arguments are those of `select_labels`.
    """
    return select_labels(indices, labels, additional).sum(axis=1) == 1


def class_indices(names: Iterable[str]) -> np.ndarray:
    """Return the indices of classes among the scored, then the additional ones: (K,).

    Args:
        names: Abbreviations of K classes.
    """
    known = (*ABBREVIATIONS, *(diagnosis.abbreviation for diagnosis in ADDITIONAL_CLASSES))
    return np.array([known.index(name) for name in names])


def select_scored(names: Iterable[str]) -> tuple[str, ...]:
    """Return the abbreviations that are those of scored classes, in their order."""
    return tuple(name for name in names if name in CLASS_INDEX)


def expand(values: np.ndarray, indices: np.ndarray = TRAINED) -> np.ndarray:
    """Scatter values of classes over the scored ones: (..., K) to (..., 26).

    Other classes get 0, and values of additional classes are dropped.
    """
    return scatter_to_all_classes(values, indices)[..., : len(SCORED)]


def scatter_to_all_classes(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Scatter values over scored and additional classes: (..., K) to (..., 28)."""
    values = np.asarray(values)
    wide = np.zeros((*values.shape[:-1], len(SCORED) + len(ADDITIONAL_CLASSES)), values.dtype)
    wide[..., indices] = values
    return wide


def add_implied_labels(labels: np.ndarray, pairs: Iterable[tuple[str, str]]) -> np.ndarray:
    """Add the second class of each pair wherever the first is present.

    Args:
        labels: Labels or predictions (..., 26) bool, not changed.
        pairs: Abbreviations, applied in their order.
    """
    labels = np.array(labels, bool)
    for first, second in pairs:
        labels[..., CLASS_INDEX[second]] |= labels[..., CLASS_INDEX[first]]
    return labels


def has_diagnosis(codes: Iterable[str]) -> bool:
    """Return whether a header has a code; words such as Unknown are none."""
    return any(code.isdigit() for code in codes)


def select_diagnoses(codes: Iterable[str]) -> list[str]:
    """Return the codes of a header without words such as Unknown."""
    return [code for code in codes if code.casefold() not in UNDIAGNOSED]


def source_of(name: str) -> str:
    """Return a recording's source database by its name, or the name's letters."""
    if RECORD_NAME.fullmatch(name):
        return SOURCE_OF_PREFIX["HR"]
    letters, digits = re.match(r"([A-Za-z]*)(\d*)", name).groups()  # type: ignore[union-attr]
    if letters == "JS" and digits:
        return CHAPMAN if int(digits[:18]) <= LAST_CHAPMAN else NINGBO
    return SOURCE_OF_PREFIX.get(letters, letters or "unknown")


def find_source(text: str) -> str:
    """Return the Challenge's source of this name in any case, or the name as it is."""
    known = {name.casefold(): name for name in (*SOURCE_OF_PREFIX.values(), CHAPMAN, NINGBO)}
    return known.get(text.casefold(), text)
