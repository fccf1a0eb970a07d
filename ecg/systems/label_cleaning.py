"""Which labels are not to be believed: what networks of other sources relabel, and what round 1 masks.

All here are pure functions of labels, sources and probabilities; ``ecg.systems.method`` has the networks trained.
Source of the method: Cai et al. 2021.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.labels import ABBREVIATIONS, CLASS_INDEX, CPSC_LABELS, TRAINED, TRAINED_CLASSES, source_of

MAX_DRAWN = 20  # of the most confident disagreements, where no other number is asked for

SURE_PRESENT = 0.9  # above it, an absent label is masked
SURE_ABSENT = 0.1  # below it, a present label is masked
ADDED = 0.8  # above it, a class that a source omits is added
FEWEST = 20  # recordings, of each class where there are two, from which on a relabelling network can learn


class RelabellingData(NamedTuple):
    """What a relabelling network learns from, and what it judges; n and m recordings, K classes.

    records (n,) places in the store, targets (n, K), weights (n, K) of the labels in the loss, judged (m,) places;
    lacking: why there is nothing to learn or to judge, empty where there is.
    """

    records: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    candidates: np.ndarray
    skip_reason: str


def check_classes(classes, trained=TRAINED_CLASSES):
    """Raise ValueError where one of the classes, abbreviations, is none of those that are trained."""
    if unknown := [name for name in classes if name not in trained]:
        raise ValueError(f"{', '.join(unknown)}: the classes that are trained are {', '.join(trained)}")


@dataclass(frozen=True)
class ConflatedClasses:
    """Sources that write the first of two classes for the second, too: in Ningbo, flutter for fibrillation.

    relabel: whether they are relabelled, or their labels believed. Raises ValueError where the classes are not two
    of the trained ones.
    """

    sources: tuple[str, ...] = ("Ningbo",)
    classes: tuple[str, str] = ("AFL", "AF")
    relabel: bool = True

    def __post_init__(self):
        check_classes(self.classes)
        if not len(self.classes) == len(set(self.classes)) == 2:
            raise ValueError(f"{', '.join(self.sources)} lumps two classes together, not {', '.join(self.classes)}")

    @property
    def title(self):
        """What is decided."""
        return f"{' or '.join(self.classes)} in {', '.join(self.sources)}"

    @property
    def key(self):
        """The key of the stage that decides it (ecg.systems.stage.Stage)."""
        return f"relabelling/{'+'.join(self.sources)}/{'-'.join(self.classes)}"

    @property
    def columns(self):
        """The two classes that probabilities are given for, (2,), of 26."""
        return np.array([CLASS_INDEX[name] for name in self.classes])

    def probabilities(self, answers):
        """Return the probabilities (m, 2) of the two classes by the network's answers (m, 1), those of the second."""
        return np.hstack([1 - answers, answers])

    def candidates(self, labels, sources):
        """Return the recordings of these sources with the first class and without the second: (m,) places."""
        written, other = labels[:, self.columns].T
        return np.flatnonzero(np.isin(sources, self.sources) & written & ~other)

    def excluded_sources(self, settings):
        """Return the sources that the network does not learn from: all that lump one of these classes with another."""
        return [
            name
            for rule in settings.conflated_classes
            if set(rule.classes) & set(self.classes)
            for name in rule.sources
        ]

    def training_data(self, labels, sources, misleading):
        """Return what the network learns from: recordings of other sources with exactly one of the two classes.

        labels (N, 26) bool, sources (N,), names of misleading sources. Both classes weigh the same, however many
        recordings they have.
        """
        written, other = labels[:, self.columns].T
        records = np.flatnonzero(~np.isin(sources, misleading) & (written ^ other))
        targets = other[records, np.newaxis].astype(np.float32)
        counts = [int((targets == present).sum()) for present in (0, 1)]
        shares = [len(records) / (2 * max(count, 1)) for count in counts]
        weights = np.where(targets > 0, shares[1], shares[0]).astype(np.float32)
        judged, lacking = self.candidates(labels, sources), ""
        if not len(judged):
            lacking = f"no recordings of {', '.join(self.sources)} with {self.classes[0]} alone"
        elif min(counts) < FEWEST:
            seen = " and ".join(f"{count:,} of {name}" for count, name in zip(counts, self.classes, strict=True))
            lacking = f"the other sources have {seen}, and {FEWEST} of each are needed"
        return RelabellingData(records, targets, weights, judged, lacking)

    def update_labels(self, labels, sources, probabilities):
        """Return the labels (N, 26) after each judged recording got the likelier class; probabilities (m, 2)."""
        judged, labels = self.candidates(labels, sources), labels.copy()
        other = probabilities[:, 1:] >= probabilities[:, :1]
        labels[np.ix_(judged, self.columns)] = np.hstack([~other, other])
        return labels


@dataclass(frozen=True)
class PartiallyLabelledSource:
    """Sources that label these classes only, as CPSC does, and say nothing of the others.

    relabel: whether a network adds those of the others that the default trains, or they are believed to be absent.
    Raises ValueError where it does and one of the classes is not trained, where one is not scored, or where all of them
    are labelled.
    """

    sources: tuple[str, ...] = ("CPSC",)
    labelled: tuple[str, ...] = CPSC_LABELS
    relabel: bool = True

    def __post_init__(self):
        check_classes(self.labelled, TRAINED_CLASSES if self.relabel else ABBREVIATIONS)
        if not len(self.columns):
            raise ValueError(f"{', '.join(self.sources)} omits no class")

    @property
    def title(self):
        """What is decided."""
        return f"classes omitted by {', '.join(self.sources)}"

    @property
    def key(self):
        """The key of the stage that decides it (ecg.systems.stage.Stage)."""
        return f"relabelling/{'+'.join(self.sources)}/omitted"

    @property
    def columns(self):
        """The classes that these sources omit, (K,), of 26, those that are trained where a network adds them."""
        classes = TRAINED_CLASSES if self.relabel else ABBREVIATIONS
        return np.array([CLASS_INDEX[name] for name in classes if name not in self.labelled], int)

    def probabilities(self, answers):
        """Return the probabilities (m, K) of these classes, which are the network's answers."""
        return answers

    def candidates(self, labels, sources):
        """Return the recordings of these sources: (m,) places."""
        return np.flatnonzero(np.isin(sources, self.sources))

    def excluded_sources(self, settings):
        """Return the sources that the network does not learn from: all that omit classes."""
        return [name for rule in settings.partially_labelled for name in rule.sources]

    def training_data(self, labels, sources, misleading):
        """Return what the network learns from: all recordings of sources that are not misleading."""
        records = np.flatnonzero(~np.isin(sources, misleading))
        targets = labels[np.ix_(records, self.columns)].astype(np.float32)
        judged, lacking = self.candidates(labels, sources), ""
        if not len(judged):
            lacking = f"no recordings of {', '.join(self.sources)}"
        elif len(records) < FEWEST:
            lacking = f"{len(records):,} recordings of other sources, and {FEWEST} are needed"
        return RelabellingData(records, targets, np.ones_like(targets), judged, lacking)

    def update_labels(self, labels, sources, probabilities):
        """Return the labels (N, 26), each judged recording with the classes above 0.8 added; probabilities (m, K)."""
        judged, labels = self.candidates(labels, sources), labels.copy()
        labels[np.ix_(judged, self.columns)] |= probabilities > ADDED
        return labels


@dataclass(frozen=True)
class CleaningSettings:
    """What is known of the sources' habits and what is done about it; the defaults are the method's.

    Raises ValueError where a source has two lists of classes that it labels, or lumps the same classes twice.
    """

    conflated_classes: tuple[ConflatedClasses, ...] = (ConflatedClasses(),)
    partially_labelled: tuple[PartiallyLabelledSource, ...] = (PartiallyLabelledSource(),)
    masks: bool = True  # without them there is no round 1

    def __post_init__(self):
        habits = [(name, frozenset(rule.classes)) for rule in self.conflated_classes for name in rule.sources]
        habits += [(name, "omissions") for rule in self.partially_labelled for name in rule.sources]
        for name, habit in habits:
            if habits.count((name, habit)) > 1:
                what = "omissions" if habit == "omissions" else f"lumpings of {' and '.join(sorted(habit))}"
                raise ValueError(f"{name}: a source has one habit of a kind, not two {what}")

    @property
    def rules(self):
        """All that is relabelled; sources with the same habit share a rule, and a network.

        Lumpings come first, so that the networks for omitted classes learn from their result.
        """
        together = {}
        for rule in (*self.conflated_classes, *self.partially_labelled):
            classes = rule.classes if isinstance(rule, ConflatedClasses) else tuple(sorted(rule.labelled))
            if rule.relabel:
                together.setdefault((type(rule), classes), []).extend(rule.sources)
        return tuple(kind(tuple(sources), classes) for (kind, classes), sources in together.items())

    def without_skipped(self, relabellings):
        """Return the same with the omissions believed of which no network could be trained.

        Takes the Relabelling of each of its rules, in their order.
        """
        undone = [rule for rule, one in zip(self.rules, relabellings, strict=True) if one.skip_reason]
        sources = {name for rule in undone if isinstance(rule, PartiallyLabelledSource) for name in rule.sources}
        believed = [
            replace(rule, relabel=rule.relabel and sources.isdisjoint(rule.sources)) for rule in self.partially_labelled
        ]
        return replace(self, partially_labelled=tuple(believed))


class Relabelling(NamedTuple):
    """What came of a rule: m recordings judged, K classes.

    records (m,) places in the store, columns (K,) classes of 26, their probabilities (m, K) by the network, and the
    labels before and after (m, 26); lacking: why nothing was done, empty where it was.
    """

    title: str
    records: np.ndarray
    columns: np.ndarray
    probabilities: np.ndarray
    before: np.ndarray
    after: np.ndarray
    skip_reason: str = ""


def label_masks(targets, probabilities):
    """Return where the labels count: (N, K) float32, 0 where the network is sure of the opposite, else 1.

    Takes targets (N, K), 0 or 1, and the probabilities (N, K) of the network of round 1.
    """
    present = np.asarray(targets, bool)
    doubtful = np.where(present, probabilities < SURE_ABSENT, probabilities > SURE_PRESENT)
    return (~doubtful).astype(np.float32)


def source_masks(targets, sources, columns, omissions):
    """Return where the labels count, by class and source: (N, K) float32, 0 where the source does not label the class.

    Takes targets (N, K), sources (N,), the columns (K,) of the classes, and the Omissions: their sources label the
    scored classes that they say, and those that were added by a network; of other classes, and another source, it is
    those that there is a recording of (Li et al. 2021, where the mask is drawn by hand).
    """
    masks, told = np.ones(targets.shape, np.float32), {}
    for rule in omissions:
        labelled = [CLASS_INDEX[name] for name in rule.labelled]
        told |= dict.fromkeys(rule.sources, np.isin(columns, [*labelled, *(rule.columns if rule.relabel else ())]))
    for source in np.unique(sources).tolist():
        rows = sources == source
        found = targets[rows].any(axis=0)
        masks[rows] = np.where(columns < len(ABBREVIATIONS), told.get(source, found), found)
    return masks


def find_disagreements(masks, probabilities):
    """Return the labels that are masked, the most confident disagreement first: rows (d,) and columns (d,).

    Takes masks (N, K), 0 where a label is masked, and the probabilities (N, K) by which they were. The most confident
    is the probability nearest to 0 or 1, and among equals the first.
    """
    rows, columns = np.nonzero(masks == 0)
    doubted = probabilities[rows, columns]
    order = np.argsort(np.minimum(doubted, 1 - doubted), kind="stable")
    return rows[order], columns[order]


def describe_relabelling(relabelling):
    """Return in a line what came of a rule (ecg.systems.label_cleaning.Relabelling)."""
    if relabelling.skip_reason:
        return f"{relabelling.title}: labels left as they are, {relabelling.skip_reason}"
    kinds = {"added": relabelling.after & ~relabelling.before, "removed": relabelling.before & ~relabelling.after}
    parts = [f"{len(relabelling.records):,} recordings judged"]
    for kind, changed in kinds.items():
        counts = dict(zip(ABBREVIATIONS, changed.sum(axis=0).tolist(), strict=True))
        told = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
        parts.append(f"{kind}: {told or 'none'}")
    return f"{relabelling.title}: {'; '.join(parts)}"


class Disagreement(NamedTuple):
    """A label that a network is sure is wrong.

    path of the header, name of the record with the folders below the data folder that it is in, source, column of the
    26 classes, whether the class is labelled, the probability that the network gives it, and its probabilities of all
    classes (26,).
    """

    path: Path
    name: str
    source: str
    column: int
    labelled: bool
    probability: float
    probabilities: np.ndarray


def compare_labels(data, places, labels, probabilities, masks, omissions, most=None, asked=True):
    """Return which labels were compared, (n, 22) bool, the rows of the disagreements, (d,), and a list of these.

    The list is of Disagreement, the most confident first, the first `most` of them or all. Takes the places of n
    headers below the folder `data`, labels and probabilities (n, 26), and masks (n, 22), 0 where a label disagrees.
    What a source omits, by ecg.systems.label_cleaning.PartiallyLabelledSource, is not compared where it is absent, nor is that for which no network
    was `asked`, (n, 26) bool.

    One rule of masks serves the networks of both rounds: by its loss, a network answers best with 0.9 where a class is
    38 times (round 1) or 42 times (round 2) as likely present as absent, with 0.1 where it is 3,800 or 1,300 times as
    likely absent.
    """
    sources = np.array([source_of(Path(place).stem) for place in places])
    compared = ((labels | ~unlabelled_mask(sources, omissions)) & asked)[:, TRAINED]
    rows, columns = find_disagreements(np.where(compared, masks, 1), probabilities[:, TRAINED])
    rows, columns = rows[:most], TRAINED[columns[:most]]
    found = [
        Disagreement(data / places[row], str(Path(places[row]).with_suffix("")), str(sources[row]), column,
                     bool(labels[row, column]), float(probabilities[row, column]), probabilities[row])
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]  # fmt: skip
    return compared, rows, found


def unlabelled_mask(sources, omissions):
    """Return where a source says nothing of a class, by ecg.systems.label_cleaning.PartiallyLabelledSource: sources (n,) -> (n, 26) bool."""
    unsaid = np.zeros((len(sources), len(ABBREVIATIONS)), bool)
    for rule in omissions:
        unsaid[np.ix_(np.isin(sources, rule.sources), rule.columns)] = True
    return unsaid
