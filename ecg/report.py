"""Curves, tables, plots of a training: what a reader of the paper would ask, as JSON, CSV and PNG."""

import csv
import json
import math
import os
import platform
import shutil
import sys
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ecg.charts import class_chart, confusion_chart, learning_curves
from ecg.labels import ABBREVIATIONS, DROPPED, SCORED, TRAINED, expand, source_of
from ecg.scoring import accuracy, f_measures, load_weights, roc_and_pr_areas
from ecg.store import Store

FOLDER = "report"
WIDTH = 100  # characters of a line on the console
PACKAGES = ("keras", "tensorflow", "jax", "numpy", "scipy")  # whose versions are told, where they are in use


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


def write_report(folder, results, settings):
    """Write tables and pictures into folder/report, in place of a report there; settings is a dataclass.

    In the CSV files a value that does not exist, such as the precision of a class that is never answered, is an
    empty cell; in the JSON file it is null.
    """
    folder = Path(folder)
    report, part = folder / FOLDER, folder / f"part.{FOLDER}"
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    for name, rows in tables(results).items():
        with open(part / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows(map(_known, row) for row in rows)
    (part / "report.json").write_text(json.dumps(summary(results, settings), indent=1, allow_nan=False) + "\n")
    for name, figure in pictures(results).items():
        figure.savefig(part / f"{name}.png")
    if report.exists():
        shutil.rmtree(report)
    os.replace(part, report)


def _known(value):
    """Return a value as it is written: a float to six digits, None (an empty cell, null) where it is NaN."""
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.6g}")
    return value


def summary(results, settings):
    """Return what the JSON file holds: settings, counts, masked labels, scores of each lead set, versions."""
    names, *scores = score_table(results)
    kinds, *masks = mask_table(results)
    masked = np.sum([row[2:] for row in masks if row[1] == "all"], axis=0).tolist()
    versions = {name: sys.modules[name].__version__ for name in PACKAGES if name in sys.modules}
    return {
        "settings": asdict(settings),
        "recordings": {
            "found": len(results.store) + len(results.store.dropped),
            "left out": len(results.store.dropped),
            "training": len(results.training),
            "validation": len(results.validation),
            "scored": int(results.scored.sum()),
        },
        "scored on": results.scored_on,
        "labels": dict(zip(kinds[2:], masked, strict=True)),
        "scores": [dict(zip(names, map(_known, row), strict=True)) for row in scores],
        "versions": {"python": platform.python_version(), **versions},
    }


def tables(results):
    """Return the CSV files by name, each a list of rows, the first of them the names of the columns."""
    return {
        "sources": source_table(results),
        "dropped": [("record", "reason"), *results.store.dropped],
        "split": split_table(results),
        "classes": class_table(results),
        "epochs": epoch_table(results.epochs),
        "masks": mask_table(results),
        "thresholds": threshold_table(results),
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


def threshold_table(results):
    """Return the threshold of each class in each lead set."""
    thresholds = [search.thresholds for search in results.searches.values()]
    rows = [(name, *row) for name, *row in zip(ABBREVIATIONS, *thresholds, strict=True)]
    return [("class", *(f"{leads} leads" for leads in results.searches)), *rows]


def score_table(results):
    """Return the score of each lead set at 0.5, with one threshold and with one for each class, and its companions.

    AUROC, AUPRC and F-measure are means over the classes for which they exist, accuracy and F-measure are with one
    threshold for each class.
    """
    labels, rows = results.scored_labels, []
    for leads, search in results.searches.items():
        areas = roc_and_pr_areas(labels, results.probabilities(leads))
        answers = results.answers(leads)
        rows.append((leads, search.score_at_half, search.score_common, search.score_by_class, search.common,
                     *map(_mean, areas), accuracy(labels, answers), _mean(f_measures(labels, answers))))  # fmt: skip
    names = ("score at 0.5", "score with one threshold", "score with one for each class", "one threshold")
    return [("leads", *names, "AUROC", "AUPRC", "accuracy", "F-measure"), *rows]


def _mean(values):
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


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


def pictures(results):
    """Return the pictures by name, each a Figure."""
    labels, weights = results.scored_labels, load_weights()[1]
    figures = {"learning_curves": learning_curves(results.epochs)} if results.epochs else {}
    where = f"{len(labels):,} recordings of the validation set, of {', '.join(results.scored_on)}"
    for leads in results.searches:
        answers = results.answers(leads)
        rates = precision_and_recall(labels, answers)
        figures[f"classes_{leads}_leads"] = class_chart(
            labels.sum(axis=0), *rates, f"{leads} leads: precision and recall with the thresholds found", where
        )
        figures[f"confusion_{leads}_leads"] = confusion_chart(
            labels, answers, weights, f"{leads} leads: credit in the Challenge metric", where
        )
    return figures


def summary_lines(results):
    """Return lines for the console: recordings by source, masked labels, the scores of each lead set."""
    header, *rows = source_table(results)
    lines = [*_columns([header, *rows, ("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:]))]), ""]
    _, *rows = mask_table(results)
    rows = [row for row in rows if row[1] == "all"]
    for title, total, hidden in (("present", 2, 3), ("absent", 4, 5)):
        listed = ", ".join(f"{row[0]} {row[hidden]:,}" for row in rows if row[hidden])
        counts = f"{sum(row[hidden] for row in rows):,} of {sum(row[total] for row in rows):,}"
        lines += textwrap.wrap(f"masked {title} labels: {counts}{': ' if listed else ''}{listed}", WIDTH)
    lines += ["", f"scores on {results.scored.sum():,} recordings of {', '.join(results.scored_on)}"]
    shown = [(f"{row[0]} leads", *(f"{value:.3f}" for value in row[1:4])) for row in score_table(results)[1:]]
    return [*lines, *_columns([("", "at 0.5", "one threshold", "one for each class"), *shown])]


def _columns(rows):
    """Return rows as lines of text, the first column set left, the others right."""
    texts = [[f"{value:,}" if isinstance(value, int) else value for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    form = "  ".join(f"{{:{'>' if place else '<'}{width}}}" for place, width in enumerate(widths))
    return [form.format(*row) for row in texts]
