"""Find the diagnosis codes in the statements of electrocardiographs.

A statement is what a device or a physician wrote about a recording, such as "Sinus rhythm with 1st degree AV block".
"""

import csv
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ecg.data.labels import SCORED, code_of, unscored_diagnoses

# Words that deny or doubt a diagnosis, or say that it was there earlier or may follow.
DOUBTS = ("absence", "absent", "borderline", "cannot", "consider", "cyclic", "denied", "excluded", "former", "history",
          "likely", "may", "maybe", "might", "no", "not", "or", "possible", "possibly", "previous", "prior", "probable",
          "probably", "questionable", "resolved", "rule", "ruled", "suggest", "suggests", "suspect", "suspected",
          "versus", "vs", "without")  # fmt: skip
# Words before a diagnosis that do not change it.
ADJECTIVES = ("abnormal", "frequent", "isolated", "marked", "minor", "moderate", "multiple", "occasional", "rare",
              "significant", "sporadic", "the", "unifocal", "mild")  # fmt: skip
PARTS = re.compile(r"\s*(?:[,;:/&+\n]|\bwith\b|\band\b|\.(?:\s|$))\s*")
NOT_IN_PHRASES = re.compile(r"[\W_]+")


def find_codes(statement: str) -> tuple[tuple[str, ...], bool]:
    """Find the SNOMED CT codes of a statement.

    A whole statement, or each of its parts between commas, "with" and "and", must be the name of a diagnosis, of the
    Challenge's tables or of statements.csv. A statement that doubts or denies has no code: a missing label is better
    than a wrong one.

    Args:
        statement: The statement.

    Returns:
        The codes, each once, and whether they cover all of the statement.
    """
    if set(normalise_phrase(statement).split()) & set(DOUBTS):
        code = _code_of_phrase(statement)
        return ((code,), True) if code else ((), False)
    if code := _code_of_phrase(statement):
        return (code,), True
    parts = [part for part in PARTS.split(statement.casefold()) if normalise_phrase(part)]
    part_codes = [_code_of_phrase(part) for part in parts]
    return tuple(dict.fromkeys(code for code in part_codes if code)), bool(part_codes) and all(part_codes)


def find_all_codes(statements: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find the codes of several statements.

    Args:
        statements: The statements of a recording.

    Returns:
        The codes, each once, and the statements that codes do not cover as a whole.
    """
    codes: dict[str, None] = {}
    uncovered: dict[str, None] = {}
    for statement in statements:
        statement_codes, is_covered = find_codes(statement)
        codes |= dict.fromkeys(statement_codes)
        if not is_covered and normalise_phrase(statement):
            uncovered[statement] = None
    return tuple(codes), tuple(uncovered)


def normalise_phrase(text: str) -> str:
    """Return a phrase in lower case, its words separated by single spaces."""
    return NOT_IN_PHRASES.sub(" ", text.casefold()).strip()


def _code_of_phrase(text: str) -> str | None:
    """Return the code of a phrase, with or without adjectives before it."""
    words = normalise_phrase(text).split()
    while words:
        if code := _code_by_phrase().get(" ".join(words)):
            return code
        if words[0] not in ADJECTIVES:
            return None
        words = words[1:]
    return None


@cache
def _code_by_phrase() -> dict[str, str]:
    """Return the codes by the names of the Challenge's diagnoses and by other phrases."""
    diagnoses = (*unscored_diagnoses().values(), *SCORED)
    code_by_name = {normalise_phrase(diagnosis.name): code_of(diagnosis.abbreviation) for diagnosis in diagnoses}
    with open(Path(__file__).with_name("statements.csv"), newline="", encoding="utf-8") as table:
        return code_by_name | {row["phrase"]: code_of(row["abbreviation"]) for row in csv.DictReader(table)}
