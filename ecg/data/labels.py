"""The Challenge's classes, the other diagnoses, and the source databases.

Origin of the tables: the PhysioNet/CinC Challenge 2021 (dx_mapping_scored.csv, dx_mapping_unscored.csv and
weights.csv). Codes are SNOMED CT codes, as strings.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from ecg.data.class_files import WEIGHTS, load_class_weights, read_class_table, read_diagnoses
from ecg.data.class_tables import UNDIAGNOSED, ClassTable, Diagnosis, WeightTable
from ecg.data.ptb_xl import STATEMENT, SUPERCLASS
from ecg.data.source_tables import SourceTable, read_source_table

FOLDER = Path(__file__).parent  # of the tables
# Additional classes: the Challenge does not score them, but some of the published systems predict them.
ADDITIONAL_CLASSES = (
    Diagnosis("STD", ("429622005",), "ST depression"),
    Diagnosis("STE", ("164931005",), "ST elevation"),
)
# Fewer than 700 recordings in the public training data: the default system never trains nor predicts them.
DROPPED = ("BBB", "Brady", "LPR", "PRWP")
# Ventricular ectopic beats are not scored; training counts them as premature ventricular contractions.
MERGED = (("164884008", "PVC"),)


def _read_challenge_classes() -> ClassTable:
    """Read the 26 scored classes and the weights of the Challenge."""
    classes = read_class_table(FOLDER / "scored.csv")
    weights = load_class_weights(WEIGHTS, classes)
    return replace(classes, additional=ADDITIONAL_CLASSES, merged=MERGED, untrained=DROPPED, weights=weights,
                   metric="Challenge metric")  # fmt: skip


CHALLENGE_CLASSES = _read_challenge_classes()
# Constants for code that works with the Challenge's classes alone.
SCORED, ABBREVIATIONS = CHALLENGE_CLASSES.scored, CHALLENGE_CLASSES.abbreviations
CLASS_INDEX, CLASS_OF_CODE = CHALLENGE_CLASSES.index, CHALLENGE_CLASSES.class_of_code
TRAINED, TRAINED_CLASSES = CHALLENGE_CLASSES.trained, CHALLENGE_CLASSES.trained_classes

# Headers of 2020 have abbreviations instead of codes. Equivalent codes have different ones.
CODE_OF_TEXT = {
    **{diagnosis.abbreviation.casefold(): diagnosis.codes[0] for diagnosis in SCORED},
    **{"clbbb": "733534002", "lbbb": "164909002", "crbbb": "713427006", "rbbb": "59118001"},
    **{"svpb": "63593006", "vpb": "17338001", "normal": "426783006", "i-avb": "270492004"},
}

CHALLENGE_SOURCES = read_source_table(FOLDER / "sources.csv")
LAST_CHAPMAN = 10646  # Chapman-Shaoxing and Ningbo share the prefix JS and differ in the number
DISCARDED_SOURCES = CHALLENGE_SOURCES.untrained
LETTERS = SourceTable()  # the source of a record is the letters that its name begins with
CPSC_LABELS = CHALLENGE_SOURCES.sources[0].labelled  # with PVC: CPSC's ventricular ectopic beats count as PVC
CPSC_SCORED = tuple(name for name in CPSC_LABELS if name != "PVC")  # the scored classes that CPSC labels
PROXY_SOURCE = "Georgia"  # its recordings are the most similar to the official test data


@cache
def unscored_diagnoses() -> dict[str, Diagnosis]:
    """Return the diagnoses that the Challenge knows and does not score, by code."""
    return {diagnosis.codes[0]: diagnosis for _, diagnosis in read_diagnoses(FOLDER / "unscored.csv")}


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


def load_own_classes(path: str | Path) -> ClassTable:
    """Read a table of your own classes.

    A code that is an abbreviation of the Challenge, such as NSR, is equivalent to its SNOMED CT code, because headers
    may have either.

    Args:
        path: CSV file, see `read_diagnoses`.

    Raises:
        ValueError: See `read_class_table`; or two classes have equivalent codes.
    """

    def add_codes(diagnosis: Diagnosis) -> Diagnosis:
        return diagnosis._replace(codes=tuple(dict.fromkeys([*diagnosis.codes, *map(code_of, diagnosis.codes)])))

    diagnoses = map(add_codes, read_class_table(Path(path)).scored)
    try:
        return ClassTable(tuple(diagnoses))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def make_own_classes(names: Iterable[str]) -> ClassTable:
    """Return a table of your own classes, given their abbreviations.

    A class that is called like one of the Challenge, such as NSR, also has the codes of that one.

    Raises:
        ValueError: An abbreviation is malformed or there twice, or there is none.
    """
    known = {diagnosis.abbreviation: diagnosis for diagnosis in SCORED}
    diagnoses = (known.get(name, Diagnosis(name, (), name)) for name in names)
    return ClassTable(tuple(
        diagnosis._replace(codes=(diagnosis.abbreviation, *diagnosis.codes)) for diagnosis in diagnoses
    ))  # fmt: skip


def load_own_weights(path: str | Path, classes: ClassTable = CHALLENGE_CLASSES) -> WeightTable | None:
    """Read your own weights from a file like the Challenge's weights.csv.

    Args:
        path: CSV file, see `load_class_weights`.
        classes: The classes.

    Returns:
        The weights in the order of the scored classes, C rows of C; None if they are those of the table of classes.

    Raises:
        ValueError: See `load_class_weights`.
    """
    weights = load_class_weights(Path(path), classes)
    return None if np.array_equal(weights, classes.make_weight_array()) else weights


def code_status(code: str, classes: ClassTable = CHALLENGE_CLASSES) -> str:
    """Return "scored", "unscored", or "unknown" if the Challenge does not know it.

    Merged codes count as scored. The codes of statements and superclasses of PTB-XL count as unscored.
    """
    if code in classes.class_of_code:
        return "scored"
    is_listed = code in classes.additional_class_of_code or code in CLASS_OF_CODE or code in unscored_diagnoses()
    is_known = is_listed or code.startswith((STATEMENT, SUPERCLASS))
    return "unscored" if is_known else "unknown"


def find_diagnosis(code: str, classes: ClassTable = CHALLENGE_CLASSES) -> Diagnosis:
    """Return the diagnosis of a code; an unknown code is its own abbreviation.

    So is a code of the Challenge whose abbreviation there is that of another class of the table.
    """
    if code in classes.class_of_code:
        return classes.scored[classes.class_of_code[code]]
    column, unknown = CLASS_OF_CODE.get(code), Diagnosis(code, (code,), "")
    known = unscored_diagnoses().get(code, unknown) if column is None else SCORED[column]
    is_ambiguous = classes != CHALLENGE_CLASSES and known.abbreviation in classes.index
    return unknown._replace(name=known.name) if is_ambiguous else known


def select_labels(indices: np.ndarray, labels: np.ndarray, additional: np.ndarray) -> np.ndarray:
    """Select the labels of some classes.

    Args:
        indices: Of K classes (see `ClassTable.indices`).
        labels: Of the scored classes, (N, C) bool.
        additional: Of the additional classes, (N, A) bool.

    Returns:
        (N, K) bool.
    """
    return np.hstack([labels, additional])[:, indices]


def find_single_labels(indices: np.ndarray, labels: np.ndarray, additional: np.ndarray) -> np.ndarray:
    """Return whether each recording has exactly one of several classes, (N,) bool.

    The labels of others cannot be compared with a model of exclusive classes: it would have to deny one of two labels.
    The arguments are those of `select_labels`.
    """
    return select_labels(indices, labels, additional).sum(axis=1) == 1


def select_diagnoses(codes: Iterable[str]) -> list[str]:
    """Return the codes of a header without words such as Unknown."""
    return [code for code in codes if code.casefold() not in UNDIAGNOSED]


def source_of(name: str) -> str:
    """Return a recording's source among the Challenge's by its name, or its letters."""
    return CHALLENGE_SOURCES.find(name)


def find_source(text: str) -> str:
    """Return the Challenge's source of this name in any case, or the name as it is."""
    source = CHALLENGE_SOURCES.find_by_name(text)
    return source.name if source else text


def default_sources(classes: ClassTable) -> SourceTable:
    """Return the sources that are known for a table of classes.

    The Challenge's sources are described by the Challenge's classes. With other classes, no record has a known source,
    even if it is called like the records of one.
    """
    return CHALLENGE_SOURCES if classes == CHALLENGE_CLASSES else LETTERS
