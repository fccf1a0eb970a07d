"""Relabel by networks of other sources, and mask doubtful labels.

The method is that of Cai et al. 2021. All functions here are pure functions of labels, sources and probabilities;
`ecg.systems.method` trains the networks.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.labels import ABBREVIATIONS, CLASS_INDEX, CPSC_LABELS, TRAINED, TRAINED_CLASSES, source_of

MAX_DRAWN = 20  # figures of the most confident disagreements, by default
SURE_PRESENT = 0.9  # an absent label is masked above this probability
SURE_ABSENT = 0.1  # a present label is masked below this probability
ADDED = 0.8  # an unlabelled class is added above this probability
FEWEST = 20  # recordings, of each class if there are two, that a relabelling network needs


class RelabellingData(NamedTuple):
    """What a relabelling network is trained on, and what it relabels.

    Attributes:
        records: Indices of the training recordings in the store, (n,).
        targets: Their labels as 0 or 1, (n, K) float32.
        weights: Weights of the labels in the loss, (n, K) float32.
        candidates: Indices of the recordings to relabel, (m,).
        skip_reason: Why no network can be trained, or an empty string.
    """

    records: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    candidates: np.ndarray
    skip_reason: str


def check_classes(classes: Iterable[str], trained: Iterable[str] = TRAINED_CLASSES) -> None:
    """Raise ValueError if one of the classes, abbreviations, is not trained."""
    trained = list(trained)
    if unknown := [name for name in classes if name not in trained]:
        raise ValueError(f"{', '.join(unknown)}: expected one of the trained classes {', '.join(trained)}")


@dataclass(frozen=True)
class ConflatedClasses:
    """Sources that label two classes as the first of them, as Ningbo does.

    Attributes:
        sources: Names of the sources.
        classes: The class that is labelled, and the class that it may mean.
        relabel: Whether to relabel these recordings by a network.

    Raises:
        ValueError: The classes are not two of the trained ones.
    """

    sources: tuple[str, ...] = ("Ningbo",)
    classes: tuple[str, ...] = ("AFL", "AF")
    relabel: bool = True

    def __post_init__(self) -> None:
        check_classes(self.classes)
        if not len(self.classes) == len(set(self.classes)) == 2:
            names = ", ".join(self.classes)
            raise ValueError(f"{', '.join(self.sources)}: expected two conflated classes, received {names}")

    @property
    def title(self) -> str:
        """Title of the stage."""
        return f"{' or '.join(self.classes)} in {', '.join(self.sources)}"

    @property
    def key(self) -> str:
        """Key of the stage."""
        return f"relabelling/{'+'.join(self.sources)}/{'-'.join(self.classes)}"

    @property
    def columns(self) -> np.ndarray:
        """Columns of the two classes, (2,)."""
        return np.array([CLASS_INDEX[name] for name in self.classes])

    def candidates(self, labels: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """Return the indices (m,) of the recordings with only the first class."""
        first, second = labels[:, self.columns].T
        return np.flatnonzero(np.isin(sources, self.sources) & first & ~second)

    def training_data(self, labels: np.ndarray, sources: np.ndarray, excluded: Sequence[str]) -> RelabellingData:
        """Return recordings of other sources with one class; both weigh the same.

        Args:
            labels: Labels, (N, 26) bool.
            sources: Source of each recording, (N,).
            excluded: Sources that the network is not trained on.
        """
        first, second = labels[:, self.columns].T
        records = np.flatnonzero(~np.isin(sources, excluded) & (first ^ second))
        targets = second[records, np.newaxis].astype(np.float32)
        counts = [int((targets == present).sum()) for present in (0, 1)]
        shares = [len(records) / (2 * max(count, 1)) for count in counts]
        weights = np.where(targets > 0, shares[1], shares[0]).astype(np.float32)
        candidates, reason = self.candidates(labels, sources), ""
        if not len(candidates):
            reason = f"no recordings of {', '.join(self.sources)} with {self.classes[0]} alone"
        elif min(counts) < FEWEST:
            known = " and ".join(f"{count:,} of {name}" for count, name in zip(counts, self.classes, strict=True))
            reason = f"the other sources have {known}, {FEWEST} of each needed"
        return RelabellingData(records, targets, weights, candidates, reason)

    def update_labels(self, labels: np.ndarray, sources: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Label each candidate with the more probable class.

        Args:
            labels: Labels, (N, 26) bool; they are copied.
            sources: Source of each recording, (N,).
            probabilities: Probabilities of both classes for the candidates, (m, 2).
        """
        candidates, labels = self.candidates(labels, sources), labels.copy()
        second = probabilities[:, 1:] >= probabilities[:, :1]
        labels[np.ix_(candidates, self.columns)] = np.hstack([~second, second])
        return labels


@dataclass(frozen=True)
class PartiallyLabelledSource:
    """Sources that label some classes only, as CPSC does; others may be present.

    Attributes:
        sources: Names of the sources.
        labelled: Classes that they label.
        relabel: Whether a network adds the other trained classes; otherwise these count as absent.

    Raises:
        ValueError: A labelled class is not trained (or not scored, without a network), or no class is unlabelled.
    """

    sources: tuple[str, ...] = ("CPSC",)
    labelled: tuple[str, ...] = CPSC_LABELS
    relabel: bool = True

    def __post_init__(self) -> None:
        check_classes(self.labelled, TRAINED_CLASSES if self.relabel else ABBREVIATIONS)
        if not len(self.columns):
            raise ValueError(f"{', '.join(self.sources)}: all classes are labelled")

    @property
    def title(self) -> str:
        """Title of the stage."""
        return f"classes omitted by {', '.join(self.sources)}"

    @property
    def key(self) -> str:
        """Key of the stage."""
        return f"relabelling/{'+'.join(self.sources)}/omitted"

    @property
    def columns(self) -> np.ndarray:
        """Columns of the unlabelled classes, (K,); only trained ones if relabelled."""
        classes = TRAINED_CLASSES if self.relabel else ABBREVIATIONS
        return np.array([CLASS_INDEX[name] for name in classes if name not in self.labelled], int)

    def candidates(self, labels: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """Return the indices (m,) of these sources' recordings."""
        return np.flatnonzero(np.isin(sources, self.sources))

    def training_data(self, labels: np.ndarray, sources: np.ndarray, excluded: Sequence[str]) -> RelabellingData:
        """Return all recordings of other sources; see `ConflatedClasses`."""
        records = np.flatnonzero(~np.isin(sources, excluded))
        targets = labels[np.ix_(records, self.columns)].astype(np.float32)
        candidates, reason = self.candidates(labels, sources), ""
        if not len(candidates):
            reason = f"no recordings of {', '.join(self.sources)}"
        elif len(records) < FEWEST:
            reason = f"{len(records):,} recordings of other sources, {FEWEST} needed"
        return RelabellingData(records, targets, np.ones_like(targets), candidates, reason)

    def update_labels(self, labels: np.ndarray, sources: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Add to each candidate the classes with probabilities (m, K) above 0.8."""
        candidates, labels = self.candidates(labels, sources), labels.copy()
        labels[np.ix_(candidates, self.columns)] |= probabilities > ADDED
        return labels


LabelRule = ConflatedClasses | PartiallyLabelledSource


@dataclass(frozen=True)
class CleaningSettings:
    """Known faults of the sources' labels, and what is done about them.

    Attributes:
        conflated_classes: Sources that conflate two classes.
        partially_labelled: Sources that label some classes only.
        masks: Whether round 1 masks doubtful labels.

    Raises:
        ValueError: A source is listed twice for the same fault.
    """

    conflated_classes: tuple[ConflatedClasses, ...] = (ConflatedClasses(),)
    partially_labelled: tuple[PartiallyLabelledSource, ...] = (PartiallyLabelledSource(),)
    masks: bool = True

    def __post_init__(self) -> None:
        faults: Counter[tuple[str, str]] = Counter()
        rules: tuple[LabelRule, ...] = (*self.conflated_classes, *self.partially_labelled)
        for rule in rules:
            fault = " and ".join(sorted(rule.classes)) if isinstance(rule, ConflatedClasses) else "its labelled classes"
            faults.update((name, fault) for name in rule.sources)
        for (name, fault), count in faults.items():
            if count > 1:
                raise ValueError(f"{name}: {fault} given twice")

    @property
    def rules(self) -> tuple[LabelRule, ...]:
        """The rules that relabel; sources with the same fault share one.

        Conflated classes come first, so that the networks for unlabelled classes are trained on the result.
        """
        sources: dict[tuple, list[str]] = {}
        rules: tuple[LabelRule, ...] = (*self.conflated_classes, *self.partially_labelled)
        for rule in rules:
            classes = rule.classes if isinstance(rule, ConflatedClasses) else tuple(sorted(rule.labelled))
            if rule.relabel:
                sources.setdefault((type(rule), classes), []).extend(rule.sources)
        return tuple(kind(tuple(names), classes) for (kind, classes), names in sources.items())

    def excluded_sources(self, rule: LabelRule) -> list[str]:
        """Return all sources with the fault of a rule; its network is not trained on them."""
        similar: Iterable[LabelRule] = self.partially_labelled
        if isinstance(rule, ConflatedClasses):
            similar = [known for known in self.conflated_classes if set(known.classes) & set(rule.classes)]
        return [name for known in similar for name in known.sources]

    def without_skipped(self, relabellings: Sequence["Relabelling"]) -> "CleaningSettings":
        """Return settings that do not relabel where no network could be trained.

        Args:
            relabellings: What each of the `rules` did.
        """
        pairs = zip(self.rules, relabellings, strict=True)
        skipped = [rule for rule, relabelling in pairs if relabelling.skip_reason]
        names = {name for rule in skipped if isinstance(rule, PartiallyLabelledSource) for name in rule.sources}
        rules = (replace(rule, relabel=rule.relabel and names.isdisjoint(rule.sources))
                 for rule in self.partially_labelled)  # fmt: skip
        return replace(self, partially_labelled=tuple(rules))


class Relabelling(NamedTuple):
    """What a rule did with m recordings and K classes.

    Attributes:
        title: Title of the rule.
        records: Indices of the recordings in the store, (m,).
        columns: Columns of the classes, (K,).
        probabilities: Probabilities by the network, (m, K).
        before: Labels before, (m, 26) bool.
        after: Labels after, (m, 26) bool.
        skip_reason: Why nothing was done, or an empty string.
    """

    title: str
    records: np.ndarray
    columns: np.ndarray
    probabilities: np.ndarray
    before: np.ndarray
    after: np.ndarray
    skip_reason: str = ""


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


def source_masks(
    targets: np.ndarray, sources: np.ndarray, columns: np.ndarray, partially_labelled: Sequence[PartiallyLabelledSource]
) -> np.ndarray:
    """Mask the classes that a recording's source does not label (Li et al. 2021).

    A partially labelled source labels its scored classes, and those that a network adds. Any other source labels the
    classes that at least one of its recordings has. The same holds for additional classes of any source. The paper
    draws this mask by hand.

    Args:
        targets: Labels as 0 or 1, (N, K).
        sources: Source of each recording, (N,).
        columns: Columns of the classes, (K,).
        partially_labelled: The partially labelled sources.

    Returns:
        0 if a class is masked, else 1: (N, K) float32.
    """
    masks = np.ones(targets.shape, np.float32)
    labelled: dict[str, np.ndarray] = {}
    for rule in partially_labelled:
        known = [*(CLASS_INDEX[name] for name in rule.labelled), *(rule.columns if rule.relabel else ())]
        labelled |= dict.fromkeys(rule.sources, np.isin(columns, known))
    for source in np.unique(sources).tolist():
        rows = sources == source
        present = targets[rows].any(axis=0)
        masks[rows] = np.where(columns < len(ABBREVIATIONS), labelled.get(source, present), present)
    return masks


def describe_relabelling(relabelling: Relabelling) -> str:
    """Describe in one line what a rule did."""
    if relabelling.skip_reason:
        return f"{relabelling.title}: not relabelled, {relabelling.skip_reason}"
    changes = {"added": relabelling.after & ~relabelling.before, "removed": relabelling.before & ~relabelling.after}
    parts = [f"{len(relabelling.records):,} recordings examined"]
    for change, changed in changes.items():
        counts = zip(ABBREVIATIONS, changed.sum(axis=0).tolist(), strict=True)
        parts.append(f"{change}: {', '.join(f'{name} {count:,}' for name, count in counts if count) or 'none'}")
    return f"{relabelling.title}: {'; '.join(parts)}"


class Disagreement(NamedTuple):
    """A label that a network contradicts with confidence.

    Attributes:
        path: Path of the header.
        name: Name of the record, with its folders below the data folder.
        source: Source of the recording.
        column: Column of the class, of 26.
        labelled: Whether the class is labelled.
        probability: Probability of the class by the network.
        probabilities: Probabilities of all classes, (26,).
    """

    path: Path
    name: str
    source: str
    column: int
    labelled: bool
    probability: float
    probabilities: np.ndarray


def compare_labels(
    data: Path,
    paths: Sequence[str] | np.ndarray,
    labels: np.ndarray,
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
        data: Data folder.
        paths: Paths of n headers below the data folder.
        labels: Labels, (n, 26) bool.
        probabilities: Probabilities by the network, (n, 26).
        masks: 0 if a label of a trained class is contradicted, (n, 22).
        partially_labelled: Partially labelled sources; classes that they do not label are compared only if present.
        covered: Whether the network predicts the class, (n, 26) bool.

    Returns:
        Labels that were compared, (n, 22) bool, rows of the disagreements, (d,), and these, the most confident first.
    """
    sources = np.array([source_of(Path(path).stem) for path in paths])
    compared = (labelled_mask(labels, sources, partially_labelled) & covered)[:, TRAINED]
    rows, columns = np.nonzero(compared & (masks == 0))
    columns = TRAINED[columns]
    doubtful = probabilities[rows, columns]
    order = np.argsort(np.minimum(doubtful, 1 - doubtful), kind="stable")  # the nearest to 0 or 1 first
    rows, columns = rows[order], columns[order]
    disagreements = [
        Disagreement(data / paths[row], str(Path(paths[row]).with_suffix("")), str(sources[row]), column,
                     bool(labels[row, column]), float(probabilities[row, column]), probabilities[row])
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]  # fmt: skip
    return compared, rows, disagreements


def labelled_mask(labels: np.ndarray, sources: np.ndarray, rules: Sequence[PartiallyLabelledSource]) -> np.ndarray:
    """Return which labels (n, 26) of sources (n,) are known: present, or not omitted."""
    omitted = np.zeros(labels.shape, bool)
    for rule in rules:
        omitted[np.ix_(np.isin(sources, rule.sources), rule.columns)] = True
    return labels | ~omitted
