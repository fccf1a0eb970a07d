"""The 26 scored classes, what is merged and dropped, and which source labels what.

A class is a column, in the order of ``weights.csv``. Codes are SNOMED CT codes, as text.
Source of the tables: the PhysioNet/CinC Challenge 2021 (dx_mapping_scored.csv and dx_mapping_unscored.csv).
"""

import csv
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

UNSCORED = Path(__file__).with_name("unscored.csv")


class Diagnosis(NamedTuple):
    """One diagnosis: the Challenge's abbreviation, its code or equivalent codes, and its name."""

    abbreviation: str
    codes: tuple[str, ...]
    name: str


SCORED = (
    Diagnosis("AF", ("164889003",), "atrial fibrillation"),
    Diagnosis("AFL", ("164890007",), "atrial flutter"),
    Diagnosis("BBB", ("6374002",), "bundle branch block"),
    Diagnosis("Brady", ("426627000",), "bradycardia"),
    Diagnosis("LBBB", ("733534002", "164909002"), "left bundle branch block"),
    Diagnosis("RBBB", ("713427006", "59118001"), "right bundle branch block"),
    Diagnosis("IAVB", ("270492004",), "first-degree AV block"),
    Diagnosis("IRBBB", ("713426002",), "incomplete right bundle branch block"),
    Diagnosis("LAD", ("39732003",), "left axis deviation"),
    Diagnosis("LAnFB", ("445118002",), "left anterior fascicular block"),
    Diagnosis("LPR", ("164947007",), "prolonged PR interval"),
    Diagnosis("LQRSV", ("251146004",), "low QRS voltages"),
    Diagnosis("LQT", ("111975006",), "prolonged QT interval"),
    Diagnosis("NSIVCB", ("698252002",), "nonspecific intraventricular conduction disorder"),
    Diagnosis("NSR", ("426783006",), "sinus rhythm"),
    Diagnosis("PAC", ("284470004", "63593006"), "premature atrial contraction"),
    Diagnosis("PR", ("10370003",), "pacing rhythm"),
    Diagnosis("PRWP", ("365413008",), "poor R wave progression"),
    Diagnosis("PVC", ("427172004", "17338001"), "premature ventricular contractions"),
    Diagnosis("QAb", ("164917005",), "abnormal Q wave"),
    Diagnosis("RAD", ("47665007",), "right axis deviation"),
    Diagnosis("SA", ("427393009",), "sinus arrhythmia"),
    Diagnosis("SB", ("426177001",), "sinus bradycardia"),
    Diagnosis("STach", ("427084000",), "sinus tachycardia"),
    Diagnosis("TAb", ("164934002",), "T wave abnormal"),
    Diagnosis("TInv", ("59931005",), "T wave inversion"),
)
# Not scored; what other systems than the default tell beside the scored ones.
UNSCORED_CLASSES = (
    Diagnosis("STD", ("429622005",), "ST depression"),
    Diagnosis("STE", ("164931005",), "ST elevation"),
)
ABBREVIATIONS = tuple(diagnosis.abbreviation for diagnosis in SCORED)
CLASS_INDEX = {abbreviation: column for column, abbreviation in enumerate(ABBREVIATIONS)}

# Fewer than 700 recordings in the public training data: by the default never trained, and always 0 in the answer.
DROPPED = ("BBB", "Brady", "LPR", "PRWP")
TRAINED = np.array([column for column, name in enumerate(ABBREVIATIONS) if name not in DROPPED])
TRAINED_CLASSES = tuple(ABBREVIATIONS[column] for column in TRAINED)

# Ventricular ectopic beats are not scored; the method counts them as premature ventricular contractions.
MERGED = {"164884008": "PVC"}
EVALUATED_CLASS_OF_CODE = {code: column for column, diagnosis in enumerate(SCORED) for code in diagnosis.codes}
CLASS_OF_CODE = EVALUATED_CLASS_OF_CODE | {code: CLASS_INDEX[abbreviation] for code, abbreviation in MERGED.items()}
UNSCORED_COLUMN = {code: column for column, diagnosis in enumerate(UNSCORED_CLASSES) for code in diagnosis.codes}

UNDIAGNOSED = ("unknown", "nan", "none", "n/a")  # words for no diagnosis, in any case

# Headers of 2020 have texts for codes; of equivalent codes each has its own.
CODE_OF_TEXT = {
    **{diagnosis.abbreviation.casefold(): diagnosis.codes[0] for diagnosis in SCORED},
    **{"clbbb": "733534002", "lbbb": "164909002", "crbbb": "713427006", "rbbb": "59118001"},
    **{"svpb": "63593006", "vpb": "17338001", "normal": "426783006", "i-avb": "270492004"},
}

SOURCES = {"A": "CPSC", "Q": "CPSC-Extra", "I": "INCART", "S": "PTB", "HR": "PTB-XL", "E": "Georgia"}
CHAPMAN, NINGBO = "Chapman-Shaoxing", "Ningbo"
LAST_CHAPMAN = 10646  # the two share the prefix JS; the number tells them apart
DISCARDED_SOURCES = ("INCART", "PTB")
CPSC_SCORED = ("AF", "IAVB", "LBBB", "NSR", "PAC", "RBBB")  # all that CPSC labels of the scored classes, ...
CPSC_LABELS = (*CPSC_SCORED, "PVC")  # ... and with ventricular ectopic beats, which the method merges into PVC
PROXY_SOURCE = "Georgia"  # its part of the validation set is the closest to the official test data


@cache
def unscored_diagnoses():
    """Return the diagnoses that the Challenge knows and does not score, by code: a dict of Diagnosis."""
    with open(UNSCORED, newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {code: Diagnosis(abbreviation, (code,), name) for code, abbreviation, name in rows}


@cache
def _code_of_abbreviation():
    return {diagnosis.abbreviation.casefold(): code for code, diagnosis in unscored_diagnoses().items()} | CODE_OF_TEXT


def code_of(text):
    """Return the code of a diagnosis that a header names by code or by the Challenge's abbreviation, in any case.

    The texts of 2020, 'Normal' and 'I-AVB' among them, are such abbreviations. A text that is none stays as it is.
    """
    return text if text.isdigit() else _code_of_abbreviation().get(text.casefold(), text)


def code_status(code):
    """Return 'scored' for a code that names one of the 26 classes, else 'unscored' or, in no table, 'unknown'.

    Ventricular ectopic beats, which are merged into a class, count as scored.
    """
    if code in CLASS_OF_CODE:
        return "scored"
    return "unscored" if code in unscored_diagnoses() else "unknown"


def encode(codes):
    """Return which scored classes a record's codes name: (26,) bool; codes of no scored class are passed over.

    Ventricular ectopic beats are among them, as premature ventricular contractions.
    """
    return _named(codes, CLASS_OF_CODE, len(SCORED))


def encode_as_scored(codes):
    """Return which scored classes a record's codes name for the Challenge's evaluator: (26,) bool, nothing merged."""
    return _named(codes, EVALUATED_CLASS_OF_CODE, len(SCORED))


def encode_unscored(codes):
    """Return which of the classes beside the scored ones a record's codes name: (2,) bool."""
    return _named(codes, UNSCORED_COLUMN, len(UNSCORED_CLASSES))


def _named(codes, column_of, count):
    row = np.zeros(count, bool)
    row[[column_of[code] for code in codes if code in column_of]] = True
    return row


def select_labels(columns, labels, beside):
    """Return labels of classes by their columns (see `class_columns`): (N, K) bool.

    Takes those of the scored classes (N, 26), and of those beside them (N, 2).
    """
    return np.hstack([labels, beside])[:, columns]


def class_indices(names):
    """Return the columns of classes, by their abbreviations, among the 26 scored ones and those beside: (K,)."""
    known = (*ABBREVIATIONS, *(diagnosis.abbreviation for diagnosis in UNSCORED_CLASSES))
    return np.array([known.index(name) for name in names])


def select_scored(names):
    """Return those of classes, abbreviations, that are scored, in their order: a tuple."""
    return tuple(name for name in names if name in CLASS_INDEX)


def expand(values, columns=TRAINED):
    """Spread values of some classes, as a rule the trained ones, over all scored ones: (N, K) -> (N, 26), 0 elsewhere.

    Values of classes beside the scored ones are left out.
    """
    return scatter_to_all_classes(values, columns)[..., : len(SCORED)]


def scatter_to_all_classes(values, columns):
    """Spread values of some classes over all, the scored ones and those beside: (N, K) -> (N, 28), 0 elsewhere."""
    values = np.asarray(values)
    wide = np.zeros((*values.shape[:-1], len(SCORED) + len(UNSCORED_CLASSES)), values.dtype)
    wide[..., columns] = values
    return wide


def add_implied_labels(labels, pairs):
    """Return labels or answers (..., 26) bool with the second class of each pair, abbreviations, where the first is."""
    labels = np.array(labels, bool)
    for one, other in pairs:
        labels[..., CLASS_INDEX[other]] |= labels[..., CLASS_INDEX[one]]
    return labels


def source_of(name):
    """Return the source database that a record's name tells, or its letters where no source is known by them."""
    letters, digits = re.match(r"([A-Za-z]*)(\d*)", name).groups()
    if letters == "JS" and digits:
        return CHAPMAN if int(digits[:18]) <= LAST_CHAPMAN else NINGBO
    return SOURCES.get(letters, letters or "unknown")


def find_source(text):
    """Return the source database of the Challenge that a text names in any case, or the text where it names none."""
    known = {name.casefold(): name for name in (*SOURCES.values(), CHAPMAN, NINGBO)}
    return known.get(text.casefold(), text)
