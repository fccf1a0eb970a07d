"""Write the report of a training: a page, its figures, and tables as JSON and CSV."""

import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ecg.data.corrections import CORRECTION_BIAS, describe_corrections
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.patients import count_patients
from ecg.data.store import diagnosis_lines
from ecg.evaluation.metrics import metric_name
from ecg.evaluation.thresholds import HALF
from ecg.models.decision import ARGMAX
from ecg.reports import training_charts
from ecg.reports.card_content import TrainingStart, build_model_card
from ecg.reports.card_tables import card_tables
from ecg.reports.html_page import (
    build_page,
    bullet_list,
    details,
    embed_figure,
    first_rows_table,
    paragraphs,
    plain_table,
)
from ecg.reports.model_card import ModelCard, card_html, write_model_card
from ecg.reports.training_tables import (
    SCORE,
    SCORE_BY_CREDIT,
    SCORES,
    Table,
    flatten_settings,
    precision_and_recall,
    training_tables,
    write_tables,
)
from ecg.runtime.console import abbreviated_list, escape_unprintable, format_table, group_reasons, wrap_line
from ecg.runtime.files import atomic_path, save_figure, to_json
from ecg.systems.label_cleaning import describe_relabelling
from ecg.systems.results import CLEANED, CORRECTED, ORIGINAL, Results
from ecg.systems.training_overlap import REPORT_FOLDER

REPORT_PAGE = "index.html"
PACKAGES = ("keras", "tensorflow", "jax", "numpy", "scipy")  # their versions are reported if they are in use
HEDGING = """Expected credit predicts more classes than thresholds do, because partial credit rewards hedging. Macro
F1 may stay about the same or fall, as the table shows. Thresholds and calibration are fitted on the recordings that are
scored here: if these are few, the scores of both are too high."""
BOTH_SCORED = f"Scores are listed by corrected labels and by the labels of the headers. {CORRECTION_BIAS}"
EACH_BY_OTHERS = """ Each recording was predicted by those networks alone that were not trained on it; the model uses
all of its networks."""
# Captions of the tables and figures of each section. Figures begin with "@", tables that are folded with "+".
SECTIONS = {
    "Scores": {"scores": "Scores of each lead set; original labels are those before relabelling; if expected credit or "
                         "a vote decides, the scores with thresholds are for comparison",
               "@confusion_matrix": "Recordings by their label (row) and the most probable class (column).",
               "@confusion": "Credit of a label (row) by a prediction (column) in the metric.",
               "+confusion_matrix": "Confusion matrix"},
    "Decisions": {"decisions": "Metric, F1 and number of classes of each decision",
                  "@reliability": "Labels that the calibration was fitted on, before and after it. On the dashed line "
                                  "the probabilities of a bin are right on average.",
                  "calibration": "Calibration of each lead set, with the expected calibration error before and after",
                  "+intercepts": "Intercepts of the calibration by class", "+reliability": "Bins of the diagram"},
    "Learning curves": {"@learning_curves": "The dashed line marks the epoch with the weights of the model.",
                        "@peaks": "Wave peaks in lead II: known ones above, predicted ones below.",
                        "stages": "Trained networks", "+epochs": "Epochs"},
    "Thresholds": {"thresholds": "Thresholds by lead set; if expected credit decides, they are for comparison",
                   "+thresholds_by_class": "Thresholds before averaging over classes and resamples"},
    "Classes": {"classes": "Recordings with each class, after relabelling",
                "@classes": "Precision and recall of the classes that the model predicts.",
                "+class_scores": "Scores by class"},
    "Corrected labels": {"+corrected_labels": "Reviewed labels: the verdict of the majority, and the numbers of "
                                              "reviewers"},
    "Label masks": {"+masks": "Labels that training ignores, by class and source"},
    "Relabelling": {"+relabelling": "Labels by rule, source and class", "+relabelled": "Changed and probable labels"},
    "Disagreements": {"disagreements": "The most confident disagreements of labels and round 1"},
    "Recordings": {"sources": "Recordings by source", "+excluded": "Excluded recordings",
                   "+repaired": "Repaired recordings", "+unknown_codes": "Unknown diagnosis codes"},
}  # fmt: skip


def write_report(folder: Path, results: Results, settings: object, start: TrainingStart | None = None) -> None:
    """Write the report and the model card of a training, which replace earlier ones.

    Args:
        folder: Folder of the model, in which the folder of the report is made.
        results: What the training gave.
        settings: A dataclass.
        start: How the training was started, for the model card.

    The page index.html needs no other file. Tables are also in report.json and in a CSV file each; a value that does
    not exist, such as the precision of a class that is never predicted, is null or an empty cell. Figures and drawn
    disagreements are also PNG files.
    """
    with atomic_path(Path(folder) / REPORT_FOLDER) as temporary:
        temporary.mkdir(parents=True)
        tables = write_tables(temporary, training_tables(results) | card_tables(results))
        card = build_model_card(results, tables, package_versions(), start)
        objects = {name: row_objects(rows) for name, rows in tables.items()}
        (temporary / "report.json").write_text(_format_json(training_facts(results, settings) | objects))
        figures: dict[str, list[str]] = {}
        captions = {name: caption for section in SECTIONS.values() for name, caption in section.items()}
        for kind, leads, figure in draw_training(results):
            path = temporary / (f"{kind}_{leads}_leads.png" if leads else f"{kind}.png")
            save_figure(figure, path)
            title = kind.replace("_", " ").capitalize() + (f", {leads} leads" if leads else "")
            embedded = embed_figure(path, title, captions[f"@{kind}"])
            figures.setdefault(kind, []).append(embedded)
        drawn = temporary / "disagreements"
        drawn.mkdir()
        training_charts.draw_disagreements(drawn, results.disagreements, np.full(len(results.classes), HALF / 100),
                           early_gains=results.store.preparation.early_gains)  # fmt: skip
        page = build_training_page(results, settings, tables, figures, sorted(drawn.iterdir()), card)
        (temporary / REPORT_PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
    write_model_card(folder, card)


def row_objects(table: Table) -> list[dict]:
    """Return the rows of a table as dicts by the names of its columns."""
    return [dict(zip(table[0], row, strict=True)) for row in table[1:]]


def _format_json(values: Mapping[str, object]) -> str:
    """Format an object with a line for each value and each row of a table."""
    texts = {
        name: "[" + ",".join(f"\n  {to_json(row, allow_nan=False)}" for row in value) + "\n ]"
        if isinstance(value, list) and value and isinstance(value[0], dict)
        else to_json(value, allow_nan=False)
        for name, value in values.items()
    }
    return "{" + ",".join(f"\n {to_json(name)}: {text}" for name, text in texts.items()) + "\n}\n"


def training_facts(results: Results, settings: object) -> dict[str, object]:
    """Return settings, versions and counts of recordings for report.json."""
    store = results.store
    return {
        "settings": asdict(settings),  # type: ignore[call-overload]
        "versions": package_versions(),
        "recordings": {
            "found": len(store) + len(store.excluded),
            "excluded": len(store.excluded),
            "training": len(results.training),
            "validation": len(results.validation),
            "scored": int(results.scored.sum()),
            "without a known diagnosis": int(store.undiagnosed.sum()),
            **({} if store.patients is None else {"patients": count_patients(store.patients)}),
        },
        "scored on": results.scored_sources,
        "limitations": results.limitations,
    }


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages in use."""
    used = {name: sys.modules[name].__version__ for name in PACKAGES if name in sys.modules}
    return {"python": platform.python_version(), **used}


def draw_training(results: Results) -> Iterator[tuple[str, int | None, Figure]]:
    """Draw all figures of a training; one at a time is in memory.

    Yields:
        The kind of the figure, the number of leads or None, and the figure.
    """
    settings, known = results.settings, results.label_versions[CLEANED]
    if results.epochs:
        yield "learning_curves", None, training_charts.learning_curves(results.epochs)
    if results.peaks:
        yield "peaks", None, training_charts.peak_chart(results.peaks)
    cleaned = " with cleaned labels" if results.relabelled else ""
    sources = ", ".join(results.scored_sources)
    subtitle = f"{results.scored.sum():,} recordings of the validation split{cleaned}, of {sources}"
    for leads in results.searches:
        rates = precision_and_recall(known, results.all_predictions(leads))
        titles = f"{leads} leads: precision and recall", subtitle
        yield (
            "classes",
            leads,
            training_charts.class_chart(known.sum(axis=0), *rates, titles, results.names, results.is_trained),
        )
        if settings.exclusive:
            titles = f"{leads} leads: labels and most probable classes", subtitle
            counts, classes = results.confusion_matrix(leads), settings.classes
            yield "confusion_matrix", leads, training_charts.confusion_matrix_chart(counts, classes, titles)
        labels, before, after = results.calibrated_labels(leads)
        titles, lines = (f"{leads} leads: calibration", subtitle), {"before": before, "after": after}
        if len(labels):
            yield "reliability", leads, training_charts.reliability_chart(labels, lines, titles)
        titles, predictions = (
            (f"{leads} leads: credit in the {metric_name(settings.weights, results.classes)}", subtitle),
            results.predictions(leads),
        )
        chart = training_charts.confusion_chart(results.scored_labels, predictions, settings.weight_array, titles,
                                                results.classes)  # fmt: skip
        yield "confusion", leads, chart


def build_training_page(
    results: Results,
    settings: object,
    tables: Mapping[str, Table],
    figures: Mapping[str, Sequence[str]],
    drawn: Sequence[Path],
    card: ModelCard | None = None,
) -> str:
    """Build the page of a training.

    Args:
        results: What the training gave.
        settings: A dataclass.
        tables: All tables by name.
        figures: Embedded figures by kind, one of each lead set.
        drawn: Files of the drawn disagreements; their names begin with the rank.
        card: Model card, which becomes a section.
    """
    sections: dict[str, list[str]] = {}
    for title, captions in SECTIONS.items():
        sections[title] = []
        for key, caption in captions.items():
            name = key.lstrip("@+")
            if key.startswith("@"):
                sections[title] += _fold(figures.get(name, ()), "Other lead sets")
                continue
            for file_name in (file_name for file_name in tables if _is_of_kind(file_name, name)):
                table = first_rows_table(tables[file_name], caption, file_name)
                suffix = file_name.removeprefix(name).replace("_", ", ", 1).replace("_", " ")
                summary = f"{caption}{suffix} ({len(tables[file_name]) - 1:,})"
                sections[title] += [details(summary, table) if key.startswith("+") else table]
    sections["Decisions"].insert(0, paragraphs([HEDGING]))
    if results.store.reviewed:
        sections["Corrected labels"].insert(0, paragraphs([describe_corrections(results.store.reviewed), BOTH_SCORED]))
    masks = [row for row in tables["masks"] if row[1] in ("source", "all")]
    sections["Label masks"].insert(0, plain_table(masks[0], masks[1:], "Labels that training ignores, in all sources"))
    rules = [escape_unprintable(rule) for rule in _describe_rules(results)]
    sections["Relabelling"].insert(0, bullet_list(rules))
    if results.limitations:
        sections["Learning curves"].insert(0, bullet_list(results.limitations))
    pages = []
    for path in drawn:
        disagreement = results.disagreements[int(path.name.partition("_")[0]) - 1]
        label = "labelled" if disagreement.labelled else "not labelled"
        text = f"{disagreement.abbreviation} is {label}, its probability is {disagreement.probability:.3f}."
        pages.append(embed_figure(path, escape_unprintable(disagreement.name), text, "drawn on ECG paper"))
    sections["Disagreements"] += _fold(pages, "Others on ECG paper")
    faults = [(word, reason, len(names), abbreviated_list(names)) for word, reason, names in _group_faults(tables)]
    header = ("", "reason", "recordings", "such as")
    sections["Recordings"].insert(1, plain_table(header, faults, "Excluded and repaired recordings"))
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    setting_table = plain_table(("setting", "value"), [*flatten_settings(settings).items()], "Settings")
    sections["Model card"] = card_html(card) if card else []
    sections["Settings and versions"] = [paragraphs([f"Versions: {versions}."]), setting_table]
    sections["Tables as files"] = [bullet_list([*(f"{name}.csv" for name in tables), "report.json: all of them"])]
    n_training, n_validation = len(results.training), len(results.validation)
    in_one_part = ""
    if results.store.patients is not None:
        n_patients = count_patients(results.store.patients)
        in_one_part = f" All recordings of a patient are in the same part ({n_patients:,} patients)."
    metric = metric_name(results.settings.weights, results.classes)
    opening = [
        f"{n_training:,} recordings for training, {n_validation:,} for validation, {len(results.store.excluded):,} "
        f"excluded.{in_one_part} The scores are of {results.scored.sum():,} validation recordings, of "
        f"{', '.join(results.scored_sources)}.",
        f"{metric.capitalize()} of the model on these: {_list_scores(tables, CLEANED)}."
        + EACH_BY_OTHERS * (results.settings.n_parts > 1),
    ]
    if results.store.reviewed:
        by_header = _list_scores(tables, ORIGINAL)
        opening.append(f"Reviewers have corrected labels. By the labels of the headers: {by_header}. {CORRECTION_BIAS}")
    title = f"Training of {getattr(settings, 'system', 'a system')} on {n_training:,} recordings"
    return build_page(title, opening, {name: parts for name, parts in sections.items() if parts})


def _describe_rules(results: Results) -> list[str]:
    """Describe what each relabelling rule did."""
    return [describe_relabelling(relabelling, results.classes) for relabelling in results.relabellings]


def _list_scores(tables: Mapping[str, Table], version: str) -> str:
    """List the score of each lead set by a version of the labels."""
    rows = (row for row in row_objects(tables["scores"]) if row["labels"] == version)
    return ", ".join(f"{row[SCORE]:.3f} with {row['leads']} leads" for row in rows)


def _is_of_kind(name: str, kind: str) -> bool:
    """Return whether a table has this name, or is of a lead set and this kind."""
    return name == kind or name.startswith(f"{kind}_") and name.endswith("_leads")


def _fold(parts: Sequence[str], title: str) -> list[str]:
    """Return the first part, and the others folded."""
    return [*parts[:1], *[details(title, *parts[1:])] * bool(parts[1:])]


def _group_faults(tables: Mapping[str, Table]) -> list[tuple[str, str, list[str]]]:
    """Group excluded and repaired recordings: what was done, the reason, the records."""
    faults = {name: [row[:2] for row in tables[name][1:]] for name in ("excluded", "repaired")}
    return [(name, reason, names) for name, rows in faults.items() for reason, names in group_reasons(rows)]


def report_lines(results: Results) -> list[str]:
    """Summarise a training for the console.

    Returns:
        Log messages: recordings by source, excluded and repaired ones by reason, what was relabelled, what the training
        lacks, and the scores of each lead set.
    """
    tables = training_tables(results)
    header, *sources = tables["sources"]
    total = ("all", *(sum(column) for column in list(zip(*sources, strict=True))[1:]))
    faults = (f"{len(names):,} {word}: {reason} ({abbreviated_list(names)})"
              for word, reason, names in _group_faults(tables))  # fmt: skip
    parts = (
        format_table([header, *sources, total]),
        [line for fault in faults for line in wrap_line(fault)] + diagnosis_lines(results.store),
        wrap_line(f"{describe_corrections(results.store.reviewed)} {BOTH_SCORED}") if results.store.reviewed else [],
        [line for rule in _describe_rules(results) for line in wrap_line(rule)],
        [line for limitation in results.limitations for line in wrap_line(limitation)],
        _score_lines(results, row_objects(tables["scores"])),
    )
    return [line for lines in parts if lines for line in ("", *lines)][1:]


def _score_lines(results: Results, scores: Sequence[Mapping]) -> list[str]:
    names = (SCORE_BY_CREDIT, SCORE) if results.settings.decision == ARGMAX else SCORES
    titles = {CLEANED: "", CORRECTED: ", corrected labels", ORIGINAL: ", original labels"}
    rows = [
        (f"{row['leads']} leads{titles[row['labels']]}", *(f"{row[name]:.3f}" for name in names))
        for row in scores
        if row["labels"] in results.shown_versions
    ]
    metric = metric_name(results.settings.weights, results.classes)
    by_weights = "" if metric == CHALLENGE_CLASSES.metric else f", by the {metric}"
    columns = (name.removeprefix("score ").removeprefix("with ").removeprefix("by ") for name in names)
    return [
        f"scores on {results.scored.sum():,} recordings of {', '.join(results.scored_sources)}{by_weights}",
        *format_table([("", *columns), *rows]),
    ]
