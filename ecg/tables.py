"""What a training came to, as tables: lists of rows, the first of them the names of the columns."""

import re
from dataclasses import dataclass

import numpy as np

from ecg.labels import ABBREVIATIONS, DROPPED, SCORED, TRAINED, expand, source_of
from ecg.scoring import accuracy, f_measures, mean_of_known, roc_and_pr_areas
from ecg.store import Store

VARYING = re.compile(r"'[^']*'|\b[0-9]+(?:[.,][0-9]+)*\b")  # in reasons of one kind


@dataclass(frozen=True)
class Results:
    """What a training came to: N recordings in the store, m of them for validation.

    training (n,), validation (m,) places in the store, scored (m,) bool where a validation recording gives the score,
    epochs of all stages in order (ecg.training.Epoch), masks (N, 22), 0 where masked, and by the number of leads
    the thresholds found (ecg.scoring.Search) and the probabilities of the validation set (m, 22).
    """

    store: Store
    training: np.ndarray
    validation: np.ndarray
    scored: np.ndarray
    epochs: list
    masks: np.ndarray
    searches: dict
    validated: dict

    @property
    def scored_labels(self):
        """Labels of the validation recordings that give the score: (s, 26) bool."""
        return self.store.labels[self.validation[self.scored]]

    @property
    def scored_on(self):
        """Names of the sources of these recordings."""
        return np.unique(self.store.sources[self.validation[self.scored]]).tolist()

    def probabilities(self, leads):
        """Return the probabilities of these recordings by the network of a number of leads: (s, 26)."""
        return expand(self.validated[leads][self.scored])

    def answers(self, leads):
        """Return what that network answers with its thresholds: (s, 26) bool."""
        return self.probabilities(leads) >= self.searches[leads].thresholds


def tables(results):
    """Return all tables of a training by name."""
    return {
        "sources": source_table(results),
        "dropped": [("record", "reason"), *results.store.dropped],
        "split": split_table(results),
        "classes": class_table(results),
        "epochs": epoch_table(results.epochs),
        "masks": mask_table(results),
        "thresholds": threshold_table(results, "thresholds"),
        "thresholds_by_class": threshold_table(results, "by_class"),
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


def reasons(dropped):
    """Group the recordings left out by the kind of their reason, the most frequent first: pairs of it and a list.

    Reasons are of one kind that differ only in the record's name and place, in numbers and in what is quoted. The
    name reads NAME in the kind, and where they differ in the others, these read ... .
    """
    kinds = {}
    for name, reason in dropped:
        place, _, rest = reason.partition(": ")
        reason = re.sub(rf"\b{re.escape(name)}\b", "NAME", rest if rest and name in place else reason)
        kinds.setdefault(VARYING.sub("...", reason), []).append((name, reason))
    groups = []
    for kind, members in kinds.items():
        names, texts = zip(*members, strict=True)
        groups.append((texts[0] if len(set(texts)) == 1 else kind, list(names)))
    return sorted(groups, key=lambda group: -len(group[1]))


def split_table(results):
    """Return which part each recording went to, and whether it gives the score."""
    store = results.store
    parts = np.full(len(store), "training", "U10")
    parts[results.validation] = "validation"
    scored = np.zeros(len(store), int)
    scored[results.validation[results.scored]] = 1
    columns = (store.names.tolist(), store.sources.tolist(), parts.tolist(), scored.tolist())
    return [("record", "source", "part", "scored"), *zip(*columns, strict=True)]


def class_table(results):
    """Return how many recordings have each class, in each part and in each source."""
    store = results.store
    sources = np.unique(store.sources).tolist()
    groups = [results.training, results.validation, *(store.sources == source for source in sources)]
    counts = np.array([store.labels[group].sum(axis=0) for group in groups]).T.tolist()
    rows = [
        (name, "|".join(codes), title, "dropped" if name in DROPPED else "trained", *count)
        for (name, codes, title), count in zip(SCORED, counts, strict=True)
    ]
    return [("class", "codes", "name", "use", "training", "validation", *sources), *rows]


def epoch_table(epochs):
    """Return every epoch of every stage; best is 1 where the loss on the validation set was the lowest so far."""
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch.scores))
    rows = [
        (e.stage, e.epoch, e.rate, e.loss, e.validation_loss, *map(e.scores.get, names), e.seconds, int(e.best))
        for e in epochs
    ]
    return [("stage", "epoch", "rate", "training loss", "validation loss", *names, "seconds", "best"), *rows]


def mask_table(results):
    """Return for each trained class, in all sources and in each, how many labels are masked of how many."""
    store = results.store
    present, masked = store.labels[:, TRAINED], results.masks == 0
    groups = {"all": slice(None)} | {source: store.sources == source for source in np.unique(store.sources).tolist()}
    rows = []
    kinds = (present, present & masked, ~present, ~present & masked)
    for source, group in groups.items():
        counts = [kind[group].sum(axis=0).tolist() for kind in kinds]
        rows += [(ABBREVIATIONS[column], source, *count) for column, *count in zip(TRAINED, *counts, strict=True)]
    return [("class", "source", "present", "present masked", "absent", "absent masked"), *rows]


def threshold_table(results, kind):
    """Return the threshold of each class in each lead set, of a kind that ecg.scoring.Search has."""
    thresholds = [getattr(search, kind) for search in results.searches.values()]
    rows = [(name, *row) for name, *row in zip(ABBREVIATIONS, *thresholds, strict=True)]
    return [("class", *(f"{leads} leads" for leads in results.searches)), *rows]


def score_table(results):
    """Return the score of each lead set at 0.5, by both steps of the search and as answered, and its companions.

    AUROC, AUPRC and F-measure are means over the classes for which they exist, accuracy and F-measure are of what is
    answered: with the thresholds that the model is saved with.
    """
    labels, rows = results.scored_labels, []
    for leads, search in results.searches.items():
        areas = roc_and_pr_areas(labels, results.probabilities(leads))
        answers = results.answers(leads)
        rows.append((leads, search.score_at_half, search.score_common, search.score_by_class, search.score,
                     search.common,
                     *map(mean_of_known, areas), accuracy(labels, answers),
                     mean_of_known(f_measures(labels, answers))))  # fmt: skip
    names = ("score at 0.5", "score with one threshold", "score with one for each class", "score as answered",
             "one threshold")  # fmt: skip
    return [("leads", *names, "AUROC", "AUPRC", "accuracy", "F-measure"), *rows]


def class_score_table(results, leads):
    """Return for each class how often it is labelled, answered and both, the rates, the areas and the threshold."""
    labels, answers = results.scored_labels, results.answers(leads)
    labelled, answered, hits = (counted.sum(axis=0) for counted in (labels, answers, labels & answers))
    columns = (labelled, answered, hits, *precision_and_recall(labels, answers), f_measures(labels, answers),
               *roc_and_pr_areas(labels, results.probabilities(leads)), results.searches[leads].thresholds)  # fmt: skip
    names = ("labelled", "answered", "both", "precision", "recall", "F-measure", "AUROC", "AUPRC", "threshold")
    return [("class", *names), *zip(ABBREVIATIONS, *(column.tolist() for column in columns), strict=True)]


def precision_and_recall(labels, answers):
    """Return the two rates of each class, (C,) and (C,): NaN where it is never answered, or never labelled."""
    hits = (labels & answers).sum(axis=0)
    totals = (answers.sum(axis=0), labels.sum(axis=0))
    return [np.divide(hits, total, out=np.full(len(hits), np.nan), where=total > 0) for total in totals]
