"""What a training came to, as tables: lists of rows, the first of them the names of the columns."""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from ecg.labels import ABBREVIATIONS, SCORED, TRAINED_CLASSES, class_columns, expand, source_of
from ecg.review import disagreement_table
from ecg.rules import Rule
from ecg.scoring import (
    HALF,
    accuracy,
    challenge_score,
    f_measures,
    load_weights,
    mean_of_known,
    roc_and_pr_areas,
)
from ecg.store import Store

CLEANED, AS_THEY_CAME = "cleaned", "as they came"


@dataclass(frozen=True)
class Results:
    """What a training came to: N recordings in the store, m of them for validation.

    labels (N, 26) bool after relabelling, training (n,), validation (m,) places in the store, scored (m,) bool where a
    validation recording gives the score, epochs of all stages in order (ecg.training.Epoch), what came of relabelling
    (ecg.cleaning.Relabelling), masks (N, K), 0 where masked, the most confident of the disagreements that are masked
    (ecg.review.Disagreement), by the number of leads the thresholds found (ecg.scoring.Search) and the probabilities of
    the validation set (m, K), by the stage what ended its epochs, a text, the K classes that are trained, and how they
    are answered, but for the thresholds, and the peaks found in some recordings (ecg.fitting.Found).
    """

    store: Store
    labels: np.ndarray
    training: np.ndarray
    validation: np.ndarray
    scored: np.ndarray
    epochs: list
    relabellings: list
    masks: np.ndarray
    disagreements: list
    searches: dict
    validated: dict
    ends: dict = field(default_factory=dict)
    classes: tuple[str, ...] = TRAINED_CLASSES
    answering: Rule = Rule(None)  # noqa: RUF009 - it does not change
    peaks: list = field(default_factory=list)

    @property
    def scored_labels(self):
        """Labels of the validation recordings that give the score, after relabelling: (s, 26) bool."""
        return self.labels[self.validation[self.scored]]

    @property
    def kinds_of_labels(self):
        """The same by what they are called in tables: after relabelling, and as the headers tell them."""
        return {CLEANED: self.scored_labels, AS_THEY_CAME: self.store.labels[self.validation[self.scored]]}

    @property
    def relabelled(self):
        """Whether relabelling changed any label."""
        return bool((self.labels != self.store.labels).any())

    @property
    def scored_on(self):
        """Names of the sources of these recordings."""
        return np.unique(self.store.sources[self.validation[self.scored]]).tolist()

    def probabilities(self, leads):
        """Return the probabilities of these recordings by the network of a number of leads: (s, 26)."""
        return expand(self.validated[leads][self.scored], self.columns)

    def rule(self, leads):
        """Return how that network's probabilities become answers: a Rule (ecg.rules)."""
        return replace(self.answering, thresholds=self.searches[leads].thresholds)

    def answers(self, leads):
        """Return what that network answers with its thresholds: (s, 26) bool."""
        return self.rule(leads).answers(self.validated[leads][self.scored], self.columns)

    @property
    def columns(self):
        """The columns of the classes that are trained (ecg.labels.class_columns): (K,)."""
        return class_columns(self.classes)

    @property
    def scored_classes(self):
        """The trained classes that are scored, in the order of their columns: places among the trained, and columns."""
        places = np.argsort(self.columns)
        places = places[self.columns[places] < len(SCORED)]
        return places, self.columns[places]


def tables(results):
    """Return all tables of a training by name; of thresholds there are none where classes exclude each other."""
    kinds = {} if results.answering.exclusive else {"thresholds": "thresholds", "thresholds_by_class": "by_class"}
    return {
        "sources": source_table(results),
        "dropped": [("record", "reason"), *results.store.dropped],
        "repaired": repaired_table(results),
        "split": split_table(results),
        "classes": class_table(results),
        "stages": stage_table(results),
        "epochs": epoch_table(results.epochs),
        "relabelling": relabelling_table(results),
        "relabelled": relabelled_table(results),
        "masks": mask_table(results),
        "disagreements": disagreement_table(results.disagreements),
        **{name: threshold_table(results, kind) for name, kind in kinds.items()},
        "scores": score_table(results),
        **{f"class_scores_{leads}_leads": class_score_table(results, leads) for leads in results.searches},
    }


def source_table(results):
    """Return the recordings of each source: found, left out, for training, for validation."""
    store = results.store
    left_out = np.array([source_of(name) for name, _ in store.dropped], str)
    rows = []
    for source in np.union1d(store.sources, left_out).tolist():
        kept, out = int((store.sources == source).sum()), int((left_out == source).sum())
        parts = [int((store.sources[part] == source).sum()) for part in (results.training, results.validation)]
        rows.append((source, kept + out, out, *parts))
    return [("source", "found", "left out", "training", "validation"), *rows]


def repaired_table(results):
    """Return what was mended in which recordings: the kind of fault, the leads, how many samples or leads."""
    rows = [(name, kind, " ".join(leads), count) for name, (kind, leads, count) in results.store.repaired]
    return [("record", "kind", "leads", "count"), *rows]


def split_table(results):
    """Return which part each recording went to, if any, and whether it gives the score."""
    store = results.store
    parts = np.full(len(store), "not used", "U10")  # as where classes exclude each other, and it has two
    parts[results.training] = "training"
    parts[results.validation] = "validation"
    scored = np.zeros(len(store), int)
    scored[results.validation[results.scored]] = 1
    columns = (store.names.tolist(), store.sources.tolist(), parts.tolist(), scored.tolist())
    return [("record", "source", "part", "scored"), *zip(*columns, strict=True)]


def class_table(results):
    """Return how many recordings have each class, after relabelling, in each part and in each source."""
    store = results.store
    sources = np.unique(store.sources).tolist()
    groups = [results.training, results.validation, *(store.sources == source for source in sources)]
    counts = np.array([results.labels[group].sum(axis=0) for group in groups]).T.tolist()
    rows = [
        (name, "|".join(codes), title, "trained" if column in results.columns else "dropped", *count)
        for column, ((name, codes, title), count) in enumerate(zip(SCORED, counts, strict=True))
    ]
    return [("class", "codes", "name", "use", "training", "validation", *sources), *rows]


def stage_table(results):
    """Return each network that was trained: its epochs, the one whose weights count, and what ended them."""
    rows = []
    for stage, ended in results.ends.items():
        epochs = [epoch for epoch in results.epochs if epoch.stage == stage]
        rows.append((stage, len(epochs), max((epoch.epoch for epoch in epochs if epoch.best), default=0), ended))
    return [("stage", "epochs", "best epoch", "ended"), *rows]


def epoch_table(epochs):
    """Return every epoch of every stage; best is 1 where the loss on the validation set was the lowest so far."""
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch.scores))
    rows = [
        (e.stage, e.epoch, e.rate, e.loss, e.validation_loss, *map(e.scores.get, names), int(e.best)) for e in epochs
    ]
    return [("stage", "epoch", "rate", "training loss", "validation loss", *names, "best"), *rows]


def relabelling_table(results):
    """Return for each rule, source and class how many labels there were, were added and removed, and are there now.

    A rule by which nothing could be done has one row, which says why.
    """
    rows = []
    for rule in results.relabellings:
        if rule.lacking:
            rows.append((rule.title, "", "", *[0] * 5, rule.lacking))
        sources = results.store.sources[rule.records]
        for source in np.unique(sources).tolist():
            before, after = rule.before[sources == source], rule.after[sources == source]
            touched = (rule.before != rule.after).any(axis=0)
            touched[rule.columns] = True
            kinds = (before, after & ~before, before & ~after, after)
            counts = np.array([kind.sum(axis=0) for kind in kinds])[:, touched].T.tolist()
            names = np.array(ABBREVIATIONS)[touched].tolist()
            rows += [
                (rule.title, source, name, len(before), *count, "") for name, count in zip(names, counts, strict=True)
            ]
    names = ("judged", "before", "added", "removed", "after", "why not")
    return [("what", "source", "class", *names), *rows]


def relabelled_table(results):
    """Return the decisions: each label that was changed, and each that the network gives a half and more.

    So those that came near to being added are among them, and what stays because the network confirms it.
    """
    names, sources = results.store.names, results.store.sources
    rows = []
    for rule in results.relabellings:
        probability = np.full(rule.before.shape, np.nan)
        probability[:, rule.columns] = rule.probabilities
        listed = (rule.before != rule.after) | (probability >= HALF / 100)
        for row, column in np.argwhere(listed).tolist():
            record = rule.records[row]
            kinds = (bool(kind[row, column]) for kind in (rule.before, rule.after))
            rows.append((rule.title, str(names[record]), str(sources[record]), ABBREVIATIONS[column],
                         *map(int, kinds), float(probability[row, column])))  # fmt: skip
    return [("what", "record", "source", "class", "before", "after", "probability"), *rows]


def mask_table(results):
    """Return for each trained class, in all sources and in each, how many labels are masked of how many."""
    store = results.store
    places, columns = results.scored_classes
    present, masked = results.labels[:, columns], results.masks[:, places] == 0
    groups = {"all": slice(None)} | {source: store.sources == source for source in np.unique(store.sources).tolist()}
    rows = []
    kinds = (present, present & masked, ~present, ~present & masked)
    for source, group in groups.items():
        counts = [kind[group].sum(axis=0).tolist() for kind in kinds]
        rows += [(ABBREVIATIONS[column], source, *count) for column, *count in zip(columns, *counts, strict=True)]
    return [("class", "source", "present", "present masked", "absent", "absent masked"), *rows]


def threshold_table(results, kind):
    """Return the threshold of each class in each lead set, of a kind that ecg.scoring.Search has."""
    thresholds = [getattr(search, kind) for search in results.searches.values()]
    rows = [(name, *row) for name, *row in zip(ABBREVIATIONS, *thresholds, strict=True)]
    return [("class", *(f"{leads} leads" for leads in results.searches)), *rows]


def score_table(results):
    """Return the score of each lead set at 0.5, by both steps of the search and as answered, and its companions.

    AUROC, AUPRC and F-measure are means over the classes that the networks tell and for which they exist, accuracy and
    F-measure are of what is answered: with the thresholds that the model is saved with. All of it for the labels after
    relabelling, with which the thresholds were found, and as they came. What thresholds come to is NaN where classes
    exclude each other.
    """
    rows, weights, (_, told) = [], load_weights()[1], results.scored_classes
    for leads, search in results.searches.items():
        probabilities, answers = results.probabilities(leads), results.answers(leads)
        answered = (probabilities >= HALF / 100, probabilities >= search.common, probabilities >= search.by_class)
        for kind, labels in results.kinds_of_labels.items():
            scores = [*(challenge_score(labels, outputs, weights) for outputs in answered), search.common]
            scores = [math.nan] * len(scores) if results.answering.exclusive else scores
            scores.insert(-1, challenge_score(labels, answers, weights))
            means = [mean_of_known(each[told]) for each in (*roc_and_pr_areas(labels, probabilities),
                                                            f_measures(labels, answers))]  # fmt: skip
            rows.append((leads, kind, *scores, *means[:2], accuracy(labels, answers), means[2]))
    names = ("score at 0.5", "score with one threshold", "score with one for each class", "score as answered",
             "one threshold")  # fmt: skip
    return [("leads", "labels", *names, "AUROC", "AUPRC", "accuracy", "F-measure"), *rows]


def class_score_table(results, leads):
    """Return for each class how often it is labelled, answered and both, the rates, the areas and the threshold.

    For the labels after relabelling, then as they came. A class that the networks do not tell has no areas, and no
    class has a threshold where they exclude each other.
    """
    rows, answers = [], results.answers(leads)
    told = np.isin(np.arange(len(SCORED)), results.columns)
    thresholds = np.where(results.answering.exclusive, np.nan, results.searches[leads].thresholds)
    for kind, labels in results.kinds_of_labels.items():
        counts = [counted.sum(axis=0) for counted in (labels, answers, labels & answers)]
        areas = [np.where(told, area, np.nan) for area in roc_and_pr_areas(labels, results.probabilities(leads))]
        columns = (*counts, *precision_and_recall(labels, answers), f_measures(labels, answers), *areas, thresholds)
        values = zip(ABBREVIATIONS, *(column.tolist() for column in columns), strict=True)
        rows += [(name, kind, *row) for name, *row in values]
    names = ("labelled", "answered", "both", "precision", "recall", "F-measure", "AUROC", "AUPRC", "threshold")
    return [("class", "labels", *names), *rows]


def precision_and_recall(labels, answers):
    """Return the two rates of each class, (C,) and (C,): NaN where it is never answered, or never labelled."""
    hits = (labels & answers).sum(axis=0)
    totals = (answers.sum(axis=0), labels.sum(axis=0))
    return [np.divide(hits, total, out=np.full(len(hits), np.nan), where=total > 0) for total in totals]
