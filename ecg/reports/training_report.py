"""What a training came to, for a reader: tables as JSON and CSV, pictures as PNG, the gist in lines of text."""

import csv
import math
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ecg.data.labels import SCORED
from ecg.data.store import diagnosis_lines
from ecg.evaluation.metrics import load_weights
from ecg.evaluation.thresholds import HALF
from ecg.reports.ecg_paper import draw_disagreements
from ecg.reports.training_charts import (
    class_chart,
    confusion_chart,
    confusion_matrix_chart,
    learning_curves,
    peak_chart,
)
from ecg.reports.training_tables import precision_and_recall, tables
from ecg.runtime.console import NAMED, abbreviated_list, format_table, group_reasons, wrap_line
from ecg.runtime.files import atomic_path, save_figure, to_json
from ecg.systems.label_cleaning import describe_relabelling
from ecg.systems.results import CLEANED, ORIGINAL

FOLDER = "report"
PACKAGES = ("keras", "tensorflow", "jax", "numpy", "scipy")  # whose versions are told, where they are in use


def write_report(folder, results, settings):
    """Write tables and pictures into folder/report, in place of a report there; settings is a dataclass.

    The tables are in report.json and in a CSV file each. A value that does not exist, such as the precision of a
    class that is never answered, is null there and an empty cell here.
    """
    with atomic_path(Path(folder) / FOLDER) as part:
        part.mkdir(parents=True)
        written = write_tables(part, tables(results))
        objects = {name: _objects(rows) for name, rows in written.items()}
        (part / "report.json").write_text(_json(summary(results, settings) | objects))
        for name, figure in draw_figures(results):
            save_figure(figure, part / f"{name}.png")
        drawn = part / "disagreements"
        drawn.mkdir()
        draw_disagreements(drawn, results.disagreements, np.full(len(SCORED), HALF / 100),
                           early_gains=results.store.preparation.early_gains)  # fmt: skip


def write_tables(folder, named):
    """Write a CSV file into a folder for each table by its name; returns the tables as they are written."""
    written = {name: [[_known(value) for value in row] for row in rows] for name, rows in named.items()}
    for name, rows in written.items():
        with open(Path(folder) / f"{name}.csv", "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file).writerows(rows)
    return written


def _known(value):
    """Return a value as it is written: a float to six digits, None (an empty cell, null) where it is NaN."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.6g}")
    return value


def _objects(rows):
    """Return a table's rows as dicts by the names of its columns: a list."""
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def _json(values):
    """Return the text of an object, a line for each of its values, or for each row of those that are tables."""
    texts = {
        name: "[" + ",".join(f"\n  {to_json(row, allow_nan=False)}" for row in value) + "\n ]"
        if isinstance(value, list) and value and isinstance(value[0], dict)
        else to_json(value, allow_nan=False)
        for name, value in values.items()
    }
    return "{" + ",".join(f"\n {to_json(name)}: {text}" for name, text in texts.items()) + "\n}\n"


def summary(results, settings):
    """Return what the JSON file holds beside the tables: settings, counts, what gave the score, versions."""
    store = results.store
    return {
        "settings": asdict(settings),
        "versions": versions(),
        "recordings": {
            "found": len(store) + len(store.excluded),
            "left out": len(store.excluded),
            "training": len(results.training),
            "validation": len(results.validation),
            "scored": int(results.scored.sum()),
            "without a known diagnosis": int(store.undiagnosed.sum()),
        },
        "scored on": results.scored_on,
    }


def versions():
    """Return the versions of Python and of the packages that what was trained depends on, where in use: a dict."""
    used = {name: sys.modules[name].__version__ for name in PACKAGES if name in sys.modules}
    return {"python": platform.python_version(), **used}


def draw_figures(results):
    """Yield the pictures, one at a time in memory: pairs of a name and a Figure."""
    labels, weights = results.scored_labels, load_weights()[1]
    if results.epochs:
        yield "learning_curves", learning_curves(results.epochs)
    if results.peaks:
        yield "peaks", peak_chart(results.peaks)
    cleaned = " with cleaned labels" if results.relabelled else ""
    known = results.label_versions[CLEANED]
    where = f"{len(labels):,} recordings of the validation set{cleaned}, of {', '.join(results.scored_on)}"
    for leads in results.searches:
        answers = results.answers(leads)
        rates = precision_and_recall(known, results.all_predictions(leads))
        title = f"{leads} leads: precision and recall of what is answered"
        chart = class_chart(known.sum(axis=0), *rates, title, where, results.names, results.trained)
        yield f"classes_{leads}_leads", chart
        if results.answering.exclusive:
            title = f"{leads} leads: the one class that is labelled and the likeliest"
            chart = confusion_matrix_chart(results.confusion_matrix(leads), results.classes, title, where)
            yield f"confusion_matrix_{leads}_leads", chart
        title = f"{leads} leads: credit in the Challenge metric"
        yield f"confusion_{leads}_leads", confusion_chart(labels, answers, weights, title, where)


def summary_lines(results):
    """Return lines for the console, the gist of the tables.

    They tell recordings by source, those left out and mended by reason, the trained classes with their recordings,
    masked labels and thresholds, where there are any, and the scores of each lead set.
    """
    told = tables(results)
    parts = (
        _source_lines(told["sources"]),
        _dropped_lines(told["dropped"]) + _repaired_lines(_objects(told["repaired"])) + diagnosis_lines(results.store),
        [line for relabelling in results.relabellings for line in wrap_line(describe_relabelling(relabelling))],
        _class_lines(_objects(told["classes"]), _objects(told["masks"]), told.get("thresholds", [("class",)])),
        _disagreement_lines(_objects(told["disagreements"])),
        _score_lines(results, _objects(told["scores"])),
    )
    first, *others = [lines for lines in parts if lines]
    return [*first, *(line for lines in others for line in ("", *lines))]


def _source_lines(sources):
    header, *rows = sources
    return format_table([header, *rows, ("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:]))])


def _dropped_lines(dropped):
    lines = []
    for reason, names in group_reasons(dropped[1:]):
        lines += wrap_line(f"{len(names):,} excluded: {reason} ({abbreviated_list(names)})")
    return lines


def _repaired_lines(repaired):
    kinds = {}
    for row in repaired:
        kinds.setdefault(row["kind"], []).append(row["record"])
    lines = []
    for kind, names in sorted(kinds.items(), key=lambda group: -len(group[1])):
        lines += wrap_line(f"{len(names):,} repaired: {kind} ({abbreviated_list(names)})")
    return lines


def _disagreement_lines(disagreements):
    if not disagreements:
        return []
    rows = [("record", "class", "label", "probability")]
    rows += [(row["record"], row["class"], row["label"], f"{row['probability']:.3f}") for row in disagreements[:NAMED]]
    return ["the most confident disagreements of labels and round 1, more and drawn in the report", *format_table(rows)]


def _class_lines(classes, masks, thresholds):
    """Return a line for each trained class; masked labels are of training and validation alike."""
    (_, *lead_sets), *rows = thresholds
    found = {name: [f"{value:.2f}" for value in values] for name, *values in rows}
    masks = [row for row in masks if row["source"] == "all"]
    lines = [("class", "training", "validation", "present", "absent", *lead_sets)]
    for count, mask in zip([row for row in classes if row["use"] == "trained"], masks, strict=True):
        hidden = (mask["present masked"], mask["absent masked"])
        lines.append((count["class"], count["training"], count["validation"], *hidden, *found.get(count["class"], ())))
    masked = (
        f"{sum(row[f'{kind} masked'] for row in masks):,} of {sum(row[kind] for row in masks):,} {kind}"
        for kind in ("present", "absent")
    )
    return [
        "recordings with each class, its masked labels where present and absent"
        + ", its threshold by lead set" * bool(lead_sets),
        *format_table(lines),
        f"masked labels: {', '.join(masked)}",
    ]


def _score_lines(results, scores):
    kinds = ("score at 0.5", "score with one threshold", "score with one for each class", "score as answered")
    kinds = kinds[3 if results.answering.exclusive else 0 :]
    told = {CLEANED: "", ORIGINAL: ", labels as they came"}
    told = told if results.relabelled else {CLEANED: ""}
    shown = [
        (f"{row['leads']} leads{told[row['labels']]}", *(f"{row[kind]:.3f}" for kind in kinds))
        for row in scores
        if row["labels"] in told
    ]
    return [
        f"scores on {results.scored.sum():,} recordings of {', '.join(results.scored_on)}",
        *format_table([("", *(kind.removeprefix("score ").removeprefix("with ") for kind in kinds)), *shown]),
    ]
