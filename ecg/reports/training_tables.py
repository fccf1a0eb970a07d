"""What a training came to, as tables: lists of rows, the first of them the names of the columns."""

import math
from pathlib import PurePosixPath

import numpy as np

from ecg.data.labels import ABBREVIATIONS, SCORED, UNSCORED_CLASSES, select_labels, source_of
from ecg.evaluation.metrics import accuracy, challenge_score, f_measures, load_weights, nan_mean, roc_and_pr_areas
from ecg.evaluation.thresholds import HALF


def tables(results):
    """Return all tables of a training by name.

    Where classes exclude each other there are confusion matrices, elsewhere thresholds.
    """
    if results.answering.exclusive:
        own = {f"confusion_matrix_{leads}_leads": confusion_table(results, leads) for leads in results.searches}
    else:
        kinds = {"thresholds": "thresholds", "thresholds_by_class": "by_class"}
        own = {name: threshold_table(results, kind) for name, kind in kinds.items()}
    return {
        "sources": source_table(results),
        "dropped": [("record", "reason"), *results.store.excluded],
        "repaired": repaired_table(results),
        "unknown_codes": [("code", "recordings"), *results.store.unknown_codes],
        "split": split_table(results),
        "classes": class_table(results),
        "stages": stage_table(results),
        "epochs": epoch_table(results.epochs),
        "relabelling": relabelling_table(results),
        "relabelled": relabelled_table(results),
        "masks": mask_table(results),
        "disagreements": disagreement_table(results.disagreements),
        **own,
        "scores": score_table(results),
        **{f"class_scores_{leads}_leads": class_score_table(results, leads) for leads in results.searches},
    }


def source_table(results):
    """Return the recordings of each source: found, left out, for training, for validation."""
    store = results.store
    left_out = np.array([source_of(PurePosixPath(name).name) for name, _ in store.excluded], str)
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
    labels = select_labels(results.listed, results.labels, store.unscored)
    counts = np.array([labels[group].sum(axis=0) for group in groups]).T.tolist()
    rows = []
    for column, trained, count in zip(results.listed, results.trained, counts, strict=True):
        name, codes, title = (*SCORED, *UNSCORED_CLASSES)[column]
        rows.append((name, "|".join(codes), title, "trained" if trained else "dropped", *count))
    return [("class", "codes", "name", "use", "training", "validation", *sources), *rows]


def stage_table(results):
    """Return each network that was trained: its epochs, the one whose weights count, and what ended them."""
    rows = []
    for key, ended in results.ends.items():
        epochs = [epoch for epoch in results.epochs if epoch.key == key]
        best = max((epoch.epoch for epoch in epochs if epoch.best), default=0)
        rows.append((epochs[0].stage if epochs else key, len(epochs), best, ended))
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
        if rule.skip_reason:
            rows.append((rule.title, "", "", *[0] * 5, rule.skip_reason))
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
    places = np.argsort(results.columns)
    names = np.array(results.classes)[places].tolist()
    present = select_labels(results.columns[places], results.labels, store.unscored)
    masked = results.masks[:, places] == 0
    groups = {"all": slice(None)} | {source: store.sources == source for source in np.unique(store.sources).tolist()}
    rows = []
    kinds = (present, present & masked, ~present, ~present & masked)
    for source, group in groups.items():
        counts = [kind[group].sum(axis=0).tolist() for kind in kinds]
        rows += [(name, source, *count) for name, *count in zip(names, *counts, strict=True)]
    return [("class", "source", "present", "present masked", "absent", "absent masked"), *rows]


def threshold_table(results, kind):
    """Return the threshold of each class in each lead set, of a kind that ecg.evaluation.thresholds.ThresholdSearch has."""
    thresholds = [getattr(search, kind) for search in results.searches.values()]
    rows = [(name, *row) for name, *row in zip(ABBREVIATIONS, *thresholds, strict=True)]
    return [("class", *(f"{leads} leads" for leads in results.searches)), *rows]


def score_table(results):
    """Return the score of each lead set at 0.5, by both steps of the search and as answered, and its companions.

    AUROC, AUPRC and F-measure are means over the classes that are trained and for which they exist, accuracy and
    F-measure are of what is answered: with the thresholds that the model is saved with. Accuracy is the share of
    recordings with all scored classes right, or where classes exclude each other, with the one of them right. All of it
    for the labels after relabelling, with which the thresholds were found, and as they came. What thresholds come to is
    NaN where classes exclude each other.
    """
    rows, weights, trained = [], load_weights()[1], results.trained
    judged = trained if results.answering.exclusive else results.listed < len(SCORED)
    for leads, search in results.searches.items():
        probabilities, told = results.probabilities(leads), results.all_predictions(leads)
        scored = probabilities[:, : len(SCORED)]
        answered = (scored >= HALF / 100, scored >= search.common, scored >= search.by_class)
        for kind, labels in results.label_versions.items():
            known = labels[:, : len(SCORED)]
            scores = [*(challenge_score(known, outputs, weights) for outputs in answered), search.common]
            scores = [math.nan] * len(scores) if results.answering.exclusive else scores
            scores.insert(-1, challenge_score(known, results.answers(leads), weights))
            means = [nan_mean(each[trained]) for each in (*roc_and_pr_areas(labels, probabilities),
                                                               f_measures(labels, told))]  # fmt: skip
            right = accuracy(labels[:, judged], told[:, judged])
            rows.append((leads, kind, *scores, *means[:2], right, means[2]))
    names = ("score at 0.5", "score with one threshold", "score with one for each class", "score as answered",
             "one threshold")  # fmt: skip
    return [("leads", "labels", *names, "AUROC", "AUPRC", "accuracy", "F-measure"), *rows]


def class_score_table(results, leads):
    """Return for each class how often it is labelled, answered and both, the rates, the areas and the threshold.

    For the labels after relabelling, then as they came. A class that the networks do not tell has no areas, and no
    class has a threshold where they exclude each other.
    """
    rows, told, thresholds = [], results.all_predictions(leads), np.full(len(results.listed), np.nan)
    if not results.answering.exclusive:
        thresholds[: len(SCORED)] = results.searches[leads].thresholds
    for kind, labels in results.label_versions.items():
        counts = [counted.sum(axis=0) for counted in (labels, told, labels & told)]
        areas = roc_and_pr_areas(labels, results.probabilities(leads))
        areas = [np.where(results.trained, area, np.nan) for area in areas]
        columns = (*counts, *precision_and_recall(labels, told), f_measures(labels, told), *areas, thresholds)
        values = zip(results.names, *(column.tolist() for column in columns), strict=True)
        rows += [(name, kind, *row) for name, *row in values]
    names = ("labelled", "answered", "both", "precision", "recall", "F-measure", "AUROC", "AUPRC", "threshold")
    return [("class", "labels", *names), *rows]


def confusion_table(results, leads):
    """Return how many recordings that give the score have one of classes that exclude each other, by the likeliest."""
    counts = results.confusion_matrix(leads).tolist()
    return [("labelled", *results.classes), *((name, *row) for name, row in zip(results.classes, counts, strict=True))]


def precision_and_recall(labels, answers):
    """Return the two rates of each class, (C,) and (C,): NaN where it is never answered, or never labelled."""
    hits = (labels & answers).sum(axis=0)
    totals = (answers.sum(axis=0), labels.sum(axis=0))
    return [np.divide(hits, total, out=np.full(len(hits), np.nan), where=total > 0) for total in totals]


def disagreement_table(found):
    """Return disagreements as a table, in their order: rows, the first of them the names of the columns."""
    rows = [
        (
            rank,
            one.name,
            one.source,
            ABBREVIATIONS[one.column],
            "present" if one.labelled else "absent",
            one.probability,
        )
        for rank, one in enumerate(found, 1)
    ]
    return [("rank", "record", "source", "class", "label", "probability"), *rows]
