"""Tables of a training: lists of rows, beginning with the names of the columns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from ecg.data.class_tables import ClassTable
from ecg.data.corrections import correction_table
from ecg.data.labels import select_labels
from ecg.data.source_tables import SourceTable
from ecg.evaluation.calibration import calibration_error, reliability_table
from ecg.evaluation.metrics import accuracy, challenge_score, f_measures, nan_mean, roc_and_pr_areas
from ecg.evaluation.thresholds import HALF
from ecg.models.decision import ARGMAX, VOTE
from ecg.runtime.cache import fingerprint
from ecg.runtime.files import write_csv
from ecg.systems.label_comparison import Disagreement
from ecg.systems.results import AS_PREDICTED, AT_HALF, BY_CREDIT, Results

if TYPE_CHECKING:  # these import Keras
    from ecg.systems.recipes import Settings
    from ecg.training.checkpoint import Epoch

Table = list[tuple]
LONGEST_SETTING = 1000  # characters of a setting that is listed in full
SCORE = "score as predicted"
SCORE_BY_CREDIT = "score by expected credit"
SCORES = ("score at 0.5", "score with one threshold", "score with one for each class", SCORE_BY_CREDIT, SCORE)


def training_tables(results: Results) -> dict[str, Table]:
    """Collect all tables of a training by name.

    A system of exclusive classes has confusion matrices. If argmax decides, there are no thresholds. If networks vote,
    the thresholds are theirs. If expected credit decides, the thresholds are for comparison.
    """
    decision_tables: dict[str, Table] = {}
    if results.settings.exclusive:
        decision_tables |= {
            f"confusion_matrix_{leads}_leads": confusion_table(results, leads) for leads in results.searches
        }
    if results.settings.decision == VOTE:
        decision_tables["thresholds"] = member_threshold_table(results)
    elif results.settings.decision != ARGMAX:
        decision_tables |= {"thresholds": threshold_table(results, "thresholds"),
                            "thresholds_by_class": threshold_table(results, "by_class")}  # fmt: skip
    return {
        "sources": source_table(results),
        "excluded": [("record", "reason"), *results.store.excluded],
        "repaired": repaired_table(results),
        "unknown_codes": [("code", "recordings"), *results.store.unknown_codes],
        "split": split_table(results),
        "classes": class_table(results),
        "stages": stage_table(results),
        "epochs": epoch_table(results.epochs),
        "relabelling": relabelling_table(results),
        "relabelled": relabelled_table(results),
        **corrected_tables(results),
        "masks": mask_table(results),
        "disagreements": disagreement_table(results.disagreements),
        **decision_tables,
        "scores": score_table(results),
        "decisions": decision_table(results),
        "calibration": calibration_table(results),
        "intercepts": intercept_table(results),
        **{f"reliability_{leads}_leads": reliability_rows(results, leads) for leads in results.searches},
        **{f"class_scores_{leads}_leads": class_score_table(results, leads) for leads in results.searches},
    }


def source_table(results: Results) -> Table:
    """Count the recordings of each source: found, excluded, and in each split."""
    store, rows = results.store, []
    excluded = np.array([results.settings.sources.find(PurePosixPath(name).name) for name, _ in store.excluded], str)
    for source in np.union1d(store.sources, excluded).tolist():
        used, out = int((store.sources == source).sum()), int((excluded == source).sum())
        splits = [int((store.sources[split] == source).sum()) for split in (results.training, results.validation)]
        rows.append((source, used + out, out, *splits))
    return [("source", "found", "excluded", "training", "validation"), *rows]


def repaired_table(results: Results) -> Table:
    """List repairs: record, kind of fault, leads, number of samples or leads."""
    rows = [(name, kind, " ".join(leads), count) for name, (kind, leads, count) in results.store.repaired]
    return [("record", "kind", "leads", "count"), *rows]


def split_table(results: Results) -> Table:
    """List the split of each recording, and whether it is scored."""
    store = results.store
    splits = np.full(len(store), "not used", "U10")  # for example a recording with two exclusive classes
    splits[results.training] = "training"
    splits[results.validation] = "validation"
    scored = np.zeros(len(store), int)
    scored[results.validation[results.scored]] = 1
    columns = (column.tolist() for column in (store.names, store.sources, splits, scored))
    return [("record", "source", "split", "scored"), *zip(*columns, strict=True)]


def class_table(results: Results) -> Table:
    """Count the recordings with each class, after relabelling, by split and source."""
    store = results.store
    sources = np.unique(store.sources).tolist()
    groups = [results.training, results.validation, *(store.sources == source for source in sources)]
    labels = select_labels(results.reported_columns, results.labels, store.additional)
    counts = np.array([labels[group].sum(axis=0) for group in groups]).T.tolist()
    rows = []
    for column, trained, count in zip(results.reported_columns, results.is_trained, counts, strict=True):
        name, codes, title = results.classes.diagnoses[column]
        rows.append((name, "|".join(codes), title, "trained" if trained else "not trained", *count))
    return [("class", "codes", "name", "use", "training", "validation", *sources), *rows]


def stage_table(results: Results) -> Table:
    """List each trained network: epochs, best epoch, and why training stopped."""
    rows = []
    for key, reason in results.ends.items():
        epochs = [epoch for epoch in results.epochs if epoch.key == key]
        best = max((epoch.epoch for epoch in epochs if epoch.best), default=0)
        rows.append((epochs[0].title if epochs else key, len(epochs), best, reason))
    return [("stage", "epochs", "best epoch", "stop reason"), *rows]


def epoch_table(epochs: Sequence["Epoch"]) -> Table:
    """List all epochs; best is 1 if the epoch was the best so far."""
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch.scores))
    rows = [
        (e.title, e.epoch, e.rate, e.loss, e.validation_loss, *map(e.scores.get, names), int(e.best)) for e in epochs
    ]
    return [("stage", "epoch", "rate", "training loss", "validation loss", *names, "best"), *rows]


def relabelling_table(results: Results) -> Table:
    """Count labels before and after relabelling, by rule, source and class.

    A rule that could not be applied has one row with the reason.
    """
    rows: Table = []
    for rule in results.relabellings:
        if rule.skip_reason:
            rows.append((rule.title, "", "", *[0] * 5, rule.skip_reason))
        sources = results.store.sources[rule.records]
        for source in np.unique(sources).tolist():
            before, after = rule.before[sources == source], rule.after[sources == source]
            chosen = (rule.before != rule.after).any(axis=0)
            chosen[rule.columns] = True
            changes = (before, after & ~before, before & ~after, after)
            counts = np.array([change.sum(axis=0) for change in changes])[:, chosen].T.tolist()
            names = np.array(results.classes.abbreviations)[chosen].tolist()
            rows += [
                (rule.title, source, name, len(before), *count, "") for name, count in zip(names, counts, strict=True)
            ]
    names = ("candidates", "before", "added", "removed", "after", "skip reason")
    return [("rule", "source", "class", *names), *rows]


def relabelled_table(results: Results) -> Table:
    """List each changed label, and each with a probability of at least 0.5.

    The latter are labels that were nearly added, and labels that stay because the network confirms them.
    """
    names, sources, rows = results.store.names, results.store.sources, []
    for rule in results.relabellings:
        probability = np.full(rule.before.shape, np.nan)
        probability[:, rule.columns] = rule.probabilities
        for row, column in np.argwhere((rule.before != rule.after) | (probability >= HALF / 100)).tolist():
            record = rule.records[row]
            rows.append((rule.title, str(names[record]), str(sources[record]), results.classes.abbreviations[column],
                         int(rule.before[row, column]), int(rule.after[row, column]),
                         float(probability[row, column])))  # fmt: skip
    return [("rule", "record", "source", "class", "before", "after", "probability"), *rows]


def corrected_tables(results: Results) -> dict[str, Table]:
    """List the reviewed labels with their votes; there is no table without reviews."""
    store = results.store
    if store.reviewed is None:
        return {}
    return {"corrected_labels": correction_table(store.reviewed, store.names.tolist(), results.classes)}


def mask_table(results: Results) -> Table:
    """Count the present, absent and masked labels of each class, by source."""
    store, rows = results.store, []
    order = np.argsort(results.columns)
    names = np.array(results.settings.classes)[order].tolist()
    present = select_labels(results.columns[order], results.labels, store.additional)
    masked = results.masks[:, order] == 0
    groups = {"all": slice(None)} | {source: store.sources == source for source in np.unique(store.sources).tolist()}
    for source, group in groups.items():
        labels = (present, present & masked, ~present, ~present & masked)
        counts = [label[group].sum(axis=0).tolist() for label in labels]
        rows += [(name, source, *count) for name, *count in zip(names, *counts, strict=True)]
    return [("class", "source", "present", "present masked", "absent", "absent masked"), *rows]


def threshold_table(results: Results, attribute: str) -> Table:
    """List thresholds by class and lead set; `attribute` is one of a ThresholdSearch."""
    thresholds = [getattr(search, attribute) for search in results.searches.values()]
    rows = [(name, *row) for name, *row in zip(results.classes.abbreviations, *thresholds, strict=True)]
    return [("class", *(f"{leads} leads" for leads in results.searches)), *rows]


def member_threshold_table(results: Results) -> Table:
    """List the thresholds of each network that votes, by class and lead set."""
    columns = {
        f"{leads} leads, network {number}": thresholds
        for leads, votes in results.votes.items()
        for number, thresholds in enumerate(votes.thresholds.tolist(), 1)
    }
    return [("class", *columns), *zip(results.classes.abbreviations, *columns.values(), strict=True)]


def score_table(results: Results) -> Table:
    """List the scores of each lead set by each version of the labels.

    "Score as predicted", accuracy and F-measure are of the classes that the model predicts. If expected credit or the
    vote of networks decides, the scores with thresholds are for comparison. AUROC, AUPRC and F-measure are means over
    the trained classes for which they exist. Accuracy is the share of recordings with all scored classes right, or of
    exclusive classes with the one class right. Thresholds were found with the labels after relabelling; if argmax
    decides, there are none, so that their scores are NaN.
    """
    rows, trained, n_scored = [], results.is_trained, len(results.classes)
    argmax = results.settings.decision == ARGMAX
    counted = trained if argmax else results.reported_columns < n_scored
    for leads, search in results.searches.items():
        probabilities, predictions = results.probabilities(leads), results.all_predictions(leads)
        scored = probabilities[:, :n_scored]
        by_decision = results.predictions_by_decision(leads)
        scored_predictions = (by_decision[AT_HALF], scored >= search.common, scored >= search.by_class,
                              by_decision[BY_CREDIT], by_decision[AS_PREDICTED])  # fmt: skip
        for version, labels in results.label_versions.items():
            known = labels[:, :n_scored]
            *scores, by_credit, score = (compute_metric(results, known, outputs) for outputs in scored_predictions)
            common = search.common
            if argmax:
                scores, common = [math.nan] * len(scores), math.nan
            by_class = (*roc_and_pr_areas(labels, probabilities), f_measures(labels, predictions))
            auroc, auprc, f_measure = (nan_mean(values[trained]) for values in by_class)
            right = accuracy(labels[:, counted], predictions[:, counted])
            rows.append((leads, version, *scores, by_credit, score, common, auroc, auprc, right, f_measure))
    return [("leads", "labels", *SCORES, "one threshold", "AUROC", "AUPRC", "accuracy", "F-measure"), *rows]


def compute_metric(results: Results, labels: np.ndarray, outputs: np.ndarray) -> float:
    """Return the metric of a training for labels and predictions (s, S) bool."""
    return challenge_score(labels, outputs, results.settings.weight_array, results.classes.sinus)


def decision_table(results: Results) -> Table:
    """List metric, macro F1 and mean number of classes of each decision.

    F1 is the mean over the trained scored classes for which it exists.
    """
    rows, n_scored = [], len(results.classes)
    trained = np.intersect1d(results.columns, np.arange(n_scored))
    for leads in results.searches:
        by_decision = results.predictions_by_decision(leads)
        for version, labels in results.label_versions.items():
            known = labels[:, :n_scored]
            for name, outputs in by_decision.items():
                f_measure = nan_mean(f_measures(known, outputs)[trained])
                sizes = (float(classes.sum(axis=1).mean()) for classes in (outputs, known))
                rows.append((leads, version, name, compute_metric(results, known, outputs), f_measure, *sizes))
    return [("leads", "labels", "decision", "metric", "macro F1", "predicted classes", "labelled classes"), *rows]


def calibration_table(results: Results) -> Table:
    """List slope and mean intercept, and the calibration error before and after."""
    rows = []
    for leads in results.searches:
        calibration, (labels, *probabilities) = results.calibrations[leads], results.calibrated_labels(leads)
        errors = (calibration_error(labels, values) for values in probabilities)
        rows.append((leads, len(labels), calibration.slope, float(np.mean(calibration.intercepts)), *errors))
    return [("leads", "labels", "slope", "mean intercept", "error before", "error after"), *rows]


def intercept_table(results: Results) -> Table:
    """List the intercepts of the calibration by class and lead set."""
    intercepts = [results.calibrations[leads].intercepts for leads in results.searches]
    rows = [(name, *row) for name, *row in zip(results.classes.abbreviations, *intercepts, strict=True)]
    return [("class", *(f"{leads} leads" for leads in results.searches)), *rows]


def reliability_rows(results: Results, leads: int) -> Table:
    """List the bins of the reliability diagram, before and after calibration."""
    labels, *probabilities = results.calibrated_labels(leads)
    rows = []
    for name, values in zip(("before", "after"), probabilities, strict=True):
        bins = reliability_table(labels, values).tolist()
        for number, (count, predicted, observed) in enumerate(bins):
            rows.append((name, number / len(bins), (number + 1) / len(bins), int(count), predicted, observed))
    return [("calibration", "from", "to", "labels", "mean probability", "share present"), *rows]


def class_score_table(results: Results, leads: int) -> Table:
    """List counts, rates, areas and threshold of each class.

    One version of the labels follows the other (`label_versions`). A class that is not trained has no areas. A
    threshold is given only if it decides.
    """
    rows, predictions, thresholds = [], results.all_predictions(leads), np.full(len(results.reported_columns), np.nan)
    thresholds[: len(results.classes)] = results.rule(leads).applied_thresholds
    for version, labels in results.label_versions.items():
        counts = [decision.sum(axis=0) for decision in (labels, predictions, labels & predictions)]
        areas = np.where(results.is_trained, roc_and_pr_areas(labels, results.probabilities(leads)), np.nan)
        rates = precision_and_recall(labels, predictions)
        columns = (*counts, *rates, f_measures(labels, predictions), *areas, thresholds)
        values = zip(results.names, *(column.tolist() for column in columns), strict=True)
        rows += [(name, version, *row) for name, *row in values]
    names = ("labelled", "predicted", "correct", "precision", "recall", "F-measure", "AUROC", "AUPRC", "threshold")
    return [("class", "labels", *names), *rows]


def confusion_table(results: Results, leads: int) -> Table:
    """Count the scored recordings by label and most probable class."""
    classes, counts = results.settings.classes, results.confusion_matrix(leads).tolist()
    return [("labelled", *classes), *((name, *row) for name, row in zip(classes, counts, strict=True))]


def precision_and_recall(labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute precision and recall of each class.

    Args:
        labels: (n_recordings, n_classes) bool.
        predictions: (n_recordings, n_classes) bool.

    Returns:
        Precision and recall, (n_classes,) each, NaN for a class that is never predicted or never labelled.
    """
    correct = (labels & predictions).sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        return correct / predictions.sum(axis=0), correct / labels.sum(axis=0)


def disagreement_table(disagreements: Sequence[Disagreement]) -> Table:
    """List disagreements in their order."""
    rows = [(rank, item.name, item.source, item.abbreviation, "present" if item.labelled else "absent",
             item.probability) for rank, item in enumerate(disagreements, 1)]  # fmt: skip
    return [("rank", "record", "source", "class", "label", "probability"), *rows]


def write_tables(folder: Path, tables: Mapping[str, Table]) -> dict[str, Table]:
    """Write each table to a CSV file, and return the tables as written.

    Floats are rounded to six digits. NaN becomes None, an empty cell.
    """
    written = {name: [tuple(map(_round_value, row)) for row in rows] for name, rows in tables.items()}
    for name, rows in written.items():
        write_csv(Path(folder) / f"{name}.csv", rows)
    return written


def _round_value(value: object) -> object:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.6g}")
    return value


def flatten_settings(settings: object, prefix: str = "") -> dict[str, str]:
    """Return the values of a dataclass as strings by the names of its fields.

    Args:
        settings: A dataclass. Its fields may be dataclasses, or tuples of them.
        prefix: What all names begin with.

    Returns:
        By names such as "training.rate" and "views.1.window.length". A nested dataclass is named by its type, too.
    """
    flat: dict[str, str] = {}
    for field in fields(settings):  # type: ignore[arg-type]
        name, value = f"{prefix}{field.name}", getattr(settings, field.name)
        items = {name: value}
        if isinstance(value, tuple) and any(map(is_dataclass, value)):
            items = {f"{name}.{number}": item for number, item in enumerate(value, 1)}
        for key, item in items.items():
            if isinstance(item, ClassTable):
                flat[key] = f"{len(item)} classes with fingerprint {fingerprint(item)[:8]}"
            elif isinstance(item, SourceTable):
                flat[key] = f"{len(item.sources)} sources with fingerprint {fingerprint(item)[:8]}"
            elif is_dataclass(item):
                flat |= {key: type(item).__name__} | flatten_settings(item, f"{key}.")
            elif isinstance(item, tuple):
                words = ("-".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in item)
                text = ", ".join(words) or "none"
                is_long = len(text) > LONGEST_SETTING
                flat[key] = f"a table with fingerprint {fingerprint(text)[:8]}" if is_long else text
            else:
                flat[key] = {"None": "none", "True": "yes", "False": "no"}.get(str(item), str(item))
    return flat


def differing_settings(systems: "Sequence[Settings]", ignored: Sequence[str] = ("system", "title")) -> Table:
    """List the settings that differ, with a column for each system.

    Args:
        systems: Settings of the systems.
        ignored: Fields that are not listed.
    """
    flat = [flatten_settings(system) for system in systems]
    names = [name for name in dict.fromkeys(name for values in flat for name in values) if name not in ignored]
    rows = [(name, *(values.get(name, "–") for values in flat)) for name in names]
    return [("setting", *(system.system for system in systems)), *(row for row in rows if len(set(row[1:])) > 1)]
