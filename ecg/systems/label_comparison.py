"""Compare labels with a network's probabilities, and mask doubtful labels.

The method is that of Cai et al. 2021.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.class_tables import ClassTable
from ecg.data.labels import CHALLENGE_CLASSES, default_sources
from ecg.data.source_tables import SourceTable
from ecg.systems.label_cleaning import CleaningSettings, PartiallyLabelledSource

MAX_DRAWN = 20  # figures of the most confident disagreements, by default
SURE_PRESENT = 0.9  # an absent label is masked above this probability
SURE_ABSENT = 0.1  # a present label is masked below this probability


class ReviewSources(NamedTuple):
    """What is known of the sources of recordings whose labels are compared.

    Attributes:
        table: The sources of records.
        partially_labelled: Those that do not label all classes.
    """

    table: SourceTable
    partially_labelled: tuple[PartiallyLabelledSource, ...] = ()

    def find(self, paths: Iterable[str | Path]) -> np.ndarray:
        """Return the sources of n recordings by the paths of their headers, (n,)."""
        return np.array([self.table.find(Path(path).stem) for path in paths])


def make_review_sources(classes: ClassTable, table: SourceTable | None = None) -> ReviewSources:
    """Return what a table of sources says of the labels of some classes.

    Args:
        classes: The classes.
        table: The sources; None: those that are known for the classes.

    Raises:
        ValueError: A source labels a class that the table of classes lacks, or all of them.
    """
    table = default_sources(classes) if table is None else table
    table.check_labelled_classes(classes.abbreviations)
    labelled = {source.name: source.labelled for source in table.sources if source.labelled}
    rules = tuple(PartiallyLabelledSource((name,), names, relabel=False) for name, names in labelled.items())
    CleaningSettings((), rules).check(classes)
    return ReviewSources(table, rules)


class Disagreement(NamedTuple):
    """A label that a network contradicts with confidence.

    Attributes:
        path: Path of the header.
        name: Name of the record, with its folders below the data folder.
        source: Source of the recording.
        column: Column of the class, of C.
        labelled: Whether the class is labelled.
        probability: Probability of the class by the network.
        probabilities: Probabilities of all classes, (C,).
        classes: The C classes.
    """

    path: Path
    name: str
    source: str
    column: int
    labelled: bool
    probability: float
    probabilities: np.ndarray
    classes: ClassTable = CHALLENGE_CLASSES

    @property
    def abbreviation(self) -> str:
        """Abbreviation of the class."""
        return self.classes.abbreviations[self.column]


class LabelledRecordings(NamedTuple):
    """Recordings whose labels are compared with predictions.

    Attributes:
        data: Data folder.
        paths: Paths of n headers below the data folder.
        sources: Their sources, (n,).
        labels: Their labels, (n, C) bool.
        classes: The C classes.
    """

    data: Path
    paths: Sequence[str] | np.ndarray
    sources: np.ndarray
    labels: np.ndarray
    classes: ClassTable = CHALLENGE_CLASSES


def compare_labels(
    recordings: LabelledRecordings,
    probabilities: np.ndarray,
    masks: np.ndarray,
    partially_labelled: Sequence[PartiallyLabelledSource],
    covered: np.ndarray | bool = True,
) -> tuple[np.ndarray, np.ndarray, list[Disagreement]]:
    """Compare labels with a network's probabilities.

    One rule of masks serves the networks of both rounds. By the loss, a network's best output is 0.9 if a class is 38
    times (round 1) or 42 times (round 2) as likely present as absent, and 0.1 if it is 3,800 or 1,300 times as likely
    absent.

    Args:
        recordings: The n recordings.
        probabilities: Probabilities by the network, (n, C).
        masks: 0 if a label of a trained class is contradicted, (n, T).
        partially_labelled: Partially labelled sources; classes that they do not label are compared only if present.
        covered: Whether the network predicts the class, (n, C) bool.

    Returns:
        Labels that were compared, (n, T) bool, rows of the disagreements, (d,), and these, the most confident first.
    """
    data, paths, sources, labels, classes = recordings
    compared = (labelled_mask(labels, sources, partially_labelled, classes) & covered)[:, classes.trained]
    rows, columns = np.nonzero(compared & (masks == 0))
    columns = classes.trained[columns]
    doubtful = probabilities[rows, columns]
    order = np.argsort(np.minimum(doubtful, 1 - doubtful), kind="stable")  # the nearest to 0 or 1 first
    rows, columns = rows[order], columns[order]
    disagreements = [
        Disagreement(data / paths[row], str(Path(paths[row]).with_suffix("")), str(sources[row]), column,
                     bool(labels[row, column]), float(probabilities[row, column]), probabilities[row], classes)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]  # fmt: skip
    return compared, rows, disagreements


def label_masks(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Mask the labels that the network contradicts with confidence.

    Args:
        targets: Labels as 0 or 1, (N, K).
        probabilities: Probabilities by the network of round 1, (N, K).

    Returns:
        0 if a label is masked, else 1: (N, K) float32.
    """
    doubtful = np.where(np.asarray(targets, bool), probabilities < SURE_ABSENT, probabilities > SURE_PRESENT)
    return (~doubtful).astype(np.float32)


def labelled_mask(
    labels: np.ndarray,
    sources: np.ndarray,
    rules: Sequence[PartiallyLabelledSource],
    classes: ClassTable = CHALLENGE_CLASSES,
) -> np.ndarray:
    """Return which labels (n, C) of sources (n,) are known: present, or not omitted."""
    omitted = np.zeros(labels.shape, bool)
    for rule in rules:
        omitted[np.ix_(np.isin(sources, rule.sources), rule.find_columns(classes))] = True
    return labels | ~omitted
