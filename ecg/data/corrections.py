"""Correct labels by the majority of reviewers' verdicts."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.class_tables import ClassTable
from ecg.data.headers import RecordError
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.reviews import ABSENT, PRESENT, UNDECIDED, UNSURE, VERDICT_NAMES, Review, Verdict, read_reviews
from ecg.runtime.cache import fingerprint
from ecg.runtime.console import abbreviated_list, describe_error, log_wrapped, pluralise

CORRECTION_BIAS = ("Scores by corrected labels can be too high. Reviewers often look only at labels that a model "
                   "contradicts. A wrong label that equals a wrong prediction is then not corrected, and the "
                   "prediction counts as right.")  # fmt: skip


class LabelVotes(NamedTuple):
    """Numbers of reviewers by their verdict on a class in a recording.

    Attributes:
        n_present: Number of reviewers who say that it is present.
        n_absent: Number of reviewers who say that it is absent.
        n_unsure: Number of reviewers who are unsure.
    """

    n_present: int = 0
    n_absent: int = 0
    n_unsure: int = 0

    @property
    def verdict(self) -> Verdict:
        """The verdict of more than half of the reviewers; unsure if there is none."""
        majority = sum(self) / 2
        if self.n_present > majority:
            return Verdict.PRESENT
        return Verdict.ABSENT if self.n_absent > majority else Verdict.UNSURE


Corrections = Mapping[tuple[str, str], LabelVotes]  # by name of the recording and abbreviation of the class


@dataclass(frozen=True)
class ReviewedLabels:
    """Verdicts on the labels of N recordings, for C classes.

    Attributes:
        verdicts: Verdict of the majority: PRESENT, ABSENT, UNSURE or UNDECIDED, (N, C) int8.
        votes: Numbers of reviewers, in the order of LabelVotes, (N, C, 3) int16.
        labels: Labels of the headers, (N, C) bool.
    """

    verdicts: np.ndarray
    votes: np.ndarray
    labels: np.ndarray

    def subset(self, records: np.ndarray) -> "ReviewedLabels":
        """Return the verdicts on some recordings, by their indices (n,)."""
        return ReviewedLabels(self.verdicts[records], self.votes[records], self.labels[records])

    @property
    def is_changed(self) -> np.ndarray:
        """Mask of the labels that the verdicts change, (N, C) bool."""
        return correct_labels(self.labels, self.verdicts) != self.labels


def load_corrections(
    folder: str | Path, names: Iterable[str], classes: ClassTable = CHALLENGE_CLASSES
) -> dict[tuple[str, str], LabelVotes]:
    """Load the verdicts of all reviewers on recordings, and log what cannot be used.

    Args:
        folder: Folder of the reviews (`ecg.data.reviews`).
        names: Names of all recordings of a data folder: their paths below it without extension.
        classes: The classes; a review of another class is malformed.

    Returns:
        The votes on each reviewed class of these recordings.

    Raises:
        RecordError: The folder cannot be read, or has no review of one of the recordings.
    """
    names = list(names)
    try:
        reviews = read_reviews(folder, classes=classes)
    except (OSError, ValueError) as error:
        reason = describe_error(error).removeprefix(f"{folder}: ")
        raise RecordError(f"{folder}: reviews cannot be read: {reason}") from error
    if not reviews:
        raise RecordError(f"{folder}: no reviews in this folder")
    known = set(names)
    corrections = count_votes(review for review in reviews if review.record in known)
    unknown = list(dict.fromkeys(review.record for review in reviews if review.record not in known))
    if not corrections:
        such = f", such as {names[0]}" if names else ""
        reviewed = pluralise(len(unknown), "reviewed recording")
        raise RecordError(f"{folder}: {reviewed} such as {unknown[0]}, but none of the {len(names):,} recordings{such}")
    if unknown:
        warning = (f"{folder}: {pluralise(len(unknown), 'reviewed recording')} not among the recordings "
                   f"({abbreviated_list(unknown)})")  # fmt: skip
        log_wrapped(warning, logging.WARNING)
    return corrections


def count_votes(reviews: Iterable[Review]) -> dict[tuple[str, str], LabelVotes]:
    """Count the reviewers by their verdict on each class of each recording."""
    votes: dict[tuple[str, str], list[int]] = {}
    for review in reviews:
        counts = votes.setdefault((review.record, review.abbreviation), [0, 0, 0])
        counts[list(Verdict).index(review.verdict)] += 1
    return {key: LabelVotes(*counts) for key, counts in votes.items()}


def fingerprint_corrections(corrections: Corrections | None) -> str | None:
    """Return a hash of the verdicts, or None without corrections."""
    if corrections is None:
        return None
    return fingerprint(sorted((*key, votes.verdict) for key, votes in corrections.items()))


def match_corrections(
    corrections: Corrections, names: Sequence[str], labels: np.ndarray, classes: ClassTable = CHALLENGE_CLASSES
) -> ReviewedLabels:
    """Arrange corrections by recording and class.

    Args:
        corrections: The votes; those on other recordings are ignored.
        names: Names of N recordings.
        labels: Labels of their headers, (N, C) bool.
        classes: The classes.
    """
    rows = {name: row for row, name in enumerate(names)}
    verdicts = np.full(labels.shape, UNDECIDED, np.int8)
    counts = np.zeros((*labels.shape, len(LabelVotes._fields)), np.int16)
    for (record, abbreviation), votes in corrections.items():
        if record in rows:
            cell = rows[record], classes.index[abbreviation]
            verdicts[cell], counts[cell] = votes.verdict.number, votes
    return ReviewedLabels(verdicts, counts, labels)


def correct_labels(labels: np.ndarray, verdicts: np.ndarray | None) -> np.ndarray:
    """Replace labels by the verdicts present and absent.

    Args:
        labels: (N, C) bool, not changed.
        verdicts: (N, C); None: there are none.
    """
    if verdicts is None:
        return labels
    return np.where(is_decided(verdicts), verdicts == PRESENT, labels)


def is_decided(verdicts: np.ndarray) -> np.ndarray:
    """Return whether verdicts are present or absent."""
    return (verdicts == PRESENT) | (verdicts == ABSENT)


def describe_corrections(reviewed: ReviewedLabels) -> str:
    """Count the verdicts, and the labels that they change, in one sentence."""
    parts = []
    for number, name in ((PRESENT, "present"), (ABSENT, "absent")):
        is_verdict = reviewed.verdicts == number
        parts.append(
            f"{is_verdict.sum():,} {name}, {(reviewed.is_changed & is_verdict).sum():,} of them not so labelled"
        )
    is_reviewed = reviewed.verdicts != UNDECIDED
    n_labels, n_recordings = int(is_reviewed.sum()), int(is_reviewed.any(axis=1).sum())
    return (f"Corrections: {pluralise(n_labels, 'label')} of {pluralise(n_recordings, 'recording')} reviewed; "
            f"{'; '.join(parts)}; {(reviewed.verdicts == UNSURE).sum():,} unsure.")  # fmt: skip


def correction_table(
    reviewed: ReviewedLabels, names: Sequence[str], classes: ClassTable = CHALLENGE_CLASSES
) -> list[tuple]:
    """List the reviewed labels of recordings of these names, with the votes."""
    header = ("record", "class", "label of the header", "verdict", *VERDICT_NAMES.values())
    return [
        header,
        *((str(names[row]), classes.abbreviations[column], VERDICT_NAMES[int(reviewed.labels[row, column])],
         VERDICT_NAMES[int(reviewed.verdicts[row, column])], *reviewed.votes[row, column].tolist())
        for row, column in np.argwhere(reviewed.verdicts != UNDECIDED).tolist()),
    ]  # fmt: skip
