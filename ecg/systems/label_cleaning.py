"""Relabel by networks of other sources, and mask labels that sources do not give.

The method is that of Cai et al. 2021. All functions here are pure functions of labels, sources and probabilities;
`ecg.systems.method` trains the networks.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ecg.data.class_tables import ClassTable
from ecg.data.labels import CHALLENGE_CLASSES, CPSC_LABELS

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


def check_trained_classes(names: Iterable[str], trained: Iterable[str]) -> None:
    """Raise ValueError if one of the classes, abbreviations, is not trained."""
    trained = list(trained)
    if unknown := [name for name in names if name not in trained]:
        raise ValueError(f"{', '.join(unknown)}: expected one of the trained classes {', '.join(trained)}")


@dataclass(frozen=True)
class ConflatedClasses:
    """Sources that label two classes as the first of them, as Ningbo does.

    Attributes:
        sources: Names of the sources.
        classes: The class that is labelled, and the class that it may mean.
        relabel: Whether to relabel these recordings by a network.

    Raises:
        ValueError: The classes are not two.
    """

    sources: tuple[str, ...] = ("Ningbo",)
    classes: tuple[str, ...] = ("AFL", "AF")
    relabel: bool = True

    def __post_init__(self) -> None:
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

    def check(self, classes: ClassTable) -> None:
        """Raise ValueError if the two are not among the trained classes."""
        check_trained_classes(self.classes, classes.trained_classes)

    def find_columns(self, classes: ClassTable = CHALLENGE_CLASSES) -> np.ndarray:
        """Return the columns of the two classes, (2,)."""
        return classes.indices(self.classes)

    def candidates(
        self, labels: np.ndarray, sources: np.ndarray, classes: ClassTable = CHALLENGE_CLASSES
    ) -> np.ndarray:
        """Return the indices (m,) of the recordings with only the first class."""
        first, second = labels[:, self.find_columns(classes)].T
        return np.flatnonzero(np.isin(sources, self.sources) & first & ~second)

    def training_data(
        self,
        labels: np.ndarray,
        sources: np.ndarray,
        excluded: Sequence[str],
        classes: ClassTable = CHALLENGE_CLASSES,
    ) -> RelabellingData:
        """Return recordings of other sources with one class; both weigh the same.

        Args:
            labels: Labels, (N, C) bool.
            sources: Source of each recording, (N,).
            excluded: Sources that the network is not trained on.
            classes: The C classes.
        """
        first, second = labels[:, self.find_columns(classes)].T
        records = np.flatnonzero(~np.isin(sources, excluded) & (first ^ second))
        targets = second[records, np.newaxis].astype(np.float32)
        counts = [int((targets == present).sum()) for present in (0, 1)]
        shares = [len(records) / (2 * max(count, 1)) for count in counts]
        weights = np.where(targets > 0, shares[1], shares[0]).astype(np.float32)
        candidates, reason = self.candidates(labels, sources, classes), ""
        if not len(candidates):
            reason = f"no recordings of {', '.join(self.sources)} with {self.classes[0]} alone"
        elif min(counts) < FEWEST:
            known = " and ".join(f"{count:,} of {name}" for count, name in zip(counts, self.classes, strict=True))
            reason = f"the other sources have {known}, {FEWEST} of each needed"
        return RelabellingData(records, targets, weights, candidates, reason)

    def update_labels(
        self,
        labels: np.ndarray,
        sources: np.ndarray,
        probabilities: np.ndarray,
        classes: ClassTable = CHALLENGE_CLASSES,
    ) -> np.ndarray:
        """Label each candidate with the more probable class.

        Args:
            labels: Labels, (N, C) bool; they are copied.
            sources: Source of each recording, (N,).
            probabilities: Probabilities of both classes for the candidates, (m, 2).
            classes: The C classes.
        """
        candidates, labels = self.candidates(labels, sources, classes), labels.copy()
        second = probabilities[:, 1:] >= probabilities[:, :1]
        labels[np.ix_(candidates, self.find_columns(classes))] = np.hstack([~second, second])
        return labels


@dataclass(frozen=True)
class PartiallyLabelledSource:
    """Sources that label some classes only, as CPSC does; others may be present.

    Attributes:
        sources: Names of the sources.
        labelled: Classes that they label.
        relabel: Whether a network adds the other trained classes; otherwise these count as absent.
    """

    sources: tuple[str, ...] = ("CPSC",)
    labelled: tuple[str, ...] = CPSC_LABELS
    relabel: bool = True

    @property
    def title(self) -> str:
        """Title of the stage."""
        return f"classes omitted by {', '.join(self.sources)}"

    @property
    def key(self) -> str:
        """Key of the stage."""
        return f"relabelling/{'+'.join(self.sources)}/omitted"

    def check(self, classes: ClassTable) -> None:
        """Check the labelled classes against a table of classes.

        Raises:
            ValueError: One is not trained (or not scored, without a network), or no class is unlabelled.
        """
        check_trained_classes(self.labelled, classes.trained_classes if self.relabel else classes.abbreviations)
        if not len(self.find_columns(classes)):
            raise ValueError(f"{', '.join(self.sources)}: all classes are labelled")

    def find_columns(self, classes: ClassTable = CHALLENGE_CLASSES) -> np.ndarray:
        """Return the columns of the unlabelled classes, (K,); trained ones if relabelled."""
        names = classes.trained_classes if self.relabel else classes.abbreviations
        return classes.indices(name for name in names if name not in self.labelled)

    def candidates(
        self, labels: np.ndarray, sources: np.ndarray, classes: ClassTable = CHALLENGE_CLASSES
    ) -> np.ndarray:
        """Return the indices (m,) of these sources' recordings."""
        return np.flatnonzero(np.isin(sources, self.sources))

    def training_data(
        self,
        labels: np.ndarray,
        sources: np.ndarray,
        excluded: Sequence[str],
        classes: ClassTable = CHALLENGE_CLASSES,
    ) -> RelabellingData:
        """Return all recordings of other sources; see `ConflatedClasses`."""
        records = np.flatnonzero(~np.isin(sources, excluded))
        targets = labels[np.ix_(records, self.find_columns(classes))].astype(np.float32)
        candidates, reason = self.candidates(labels, sources, classes), ""
        if not len(candidates):
            reason = f"no recordings of {', '.join(self.sources)}"
        elif len(records) < FEWEST:
            reason = f"{len(records):,} recordings of other sources, {FEWEST} needed"
        return RelabellingData(records, targets, np.ones_like(targets), candidates, reason)

    def update_labels(
        self,
        labels: np.ndarray,
        sources: np.ndarray,
        probabilities: np.ndarray,
        classes: ClassTable = CHALLENGE_CLASSES,
    ) -> np.ndarray:
        """Add to each candidate the classes with probabilities (m, K) above 0.8."""
        candidates, labels = self.candidates(labels, sources), labels.copy()
        labels[np.ix_(candidates, self.find_columns(classes))] |= probabilities > ADDED
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

    def check(self, classes: ClassTable) -> None:
        """Check the classes of all rules against a table of classes.

        Raises:
            ValueError: A class is unknown, or a source labels all classes.
        """
        rules: tuple[LabelRule, ...] = (*self.conflated_classes, *self.partially_labelled)
        for rule in rules:
            rule.check(classes)

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
        before: Labels before, (m, C) bool.
        after: Labels after, (m, C) bool.
        skip_reason: Why nothing was done, or an empty string.
    """

    title: str
    records: np.ndarray
    columns: np.ndarray
    probabilities: np.ndarray
    before: np.ndarray
    after: np.ndarray
    skip_reason: str = ""


def source_masks(
    targets: np.ndarray,
    sources: np.ndarray,
    columns: np.ndarray,
    partially_labelled: Sequence[PartiallyLabelledSource],
    classes: ClassTable = CHALLENGE_CLASSES,
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
        classes: All classes.

    Returns:
        0 if a class is masked, else 1: (N, K) float32.
    """
    masks = np.ones(targets.shape, np.float32)
    labelled: dict[str, np.ndarray] = {}
    for rule in partially_labelled:
        known = [*classes.indices(rule.labelled), *(rule.find_columns(classes) if rule.relabel else ())]
        labelled |= dict.fromkeys(rule.sources, np.isin(columns, known))
    for source in np.unique(sources).tolist():
        rows = sources == source
        present = targets[rows].any(axis=0)
        masks[rows] = np.where(columns < len(classes), labelled.get(source, present), present)
    return masks


def describe_relabelling(relabelling: Relabelling, classes: ClassTable = CHALLENGE_CLASSES) -> str:
    """Describe in one line what a rule did."""
    if relabelling.skip_reason:
        return f"{relabelling.title}: not relabelled, {relabelling.skip_reason}"
    changes = {"added": relabelling.after & ~relabelling.before, "removed": relabelling.before & ~relabelling.after}
    parts = [f"{len(relabelling.records):,} recordings examined"]
    for change, changed in changes.items():
        counts = zip(classes.abbreviations, changed.sum(axis=0).tolist(), strict=True)
        parts.append(f"{change}: {', '.join(f'{name} {count:,}' for name, count in counts if count) or 'none'}")
    return f"{relabelling.title}: {'; '.join(parts)}"
