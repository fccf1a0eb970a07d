"""Write the report on the agreement of reviewers, labels and models."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from ecg.data.corrections import count_votes, match_corrections
from ecg.data.reviewers import MODEL
from ecg.data.reviews import ABSENT, PRESENT, UNDECIDED, UNSURE, VERDICT_NAMES
from ecg.evaluation.agreement import AgreementStudy, PairAgreement, Rater
from ecg.reports.html_page import (
    Cell,
    build_page,
    bullet_list,
    details,
    embed_figure,
    first_rows_table,
    html_table,
    plain_table,
)
from ecg.reports.training_tables import Table, write_tables
from ecg.runtime.console import escape_unprintable, format_estimate, pluralise
from ecg.runtime.files import atomic_path, save_figure

AGREEMENT_PAGE, AGREEMENT_FIGURE = "agreement.html", "kappa.svg"
AGREEMENT_TABLES = ("agreement", "reviewers", "reviewed_labels", "contested", "verdicts")
OUTCOMES = (PRESENT, ABSENT, UNDECIDED)  # of a model
UNDEFINED = "-"  # a kappa that does not exist
NOT_ENOUGH = "not enough decisions for an interval"
ALL = "all"  # instead of a class
MAX_PAIRS = 3  # of reviewers in the summary
STRONG_SHADE = 0.7  # absolute kappa; above it numbers are white
NOTES = (
    "Kappa (Cohen 1960) is 1 if two raters always agree, 0 if they agree as often as by chance, and negative if they "
    "agree less often. It is of the decisions that both made.",
    "Kappa of all classes together is 1 - disagreements / disagreements by chance, both counted in each class and then "
    "added. Raters do not agree because they know that some classes are frequent and others are rare.",
    "Intervals contain 95 % of the kappas of bootstrap samples of the recordings. If more than 5 % of these samples "
    "have no kappa, there are not enough decisions for an interval.",
    "If one of two raters always says the same, kappa says nothing, and is shown as -.",
    "Unsure verdicts are not in kappa; the tables count them.",
    "Labels and models are compared only where a reviewer has given a verdict. In a sample of a model's errors it "
    "always contradicts the labels: kappa of these two is then negative by the choice of the recordings.",
    "A model that was trained on these recordings or with these verdicts agrees more than it would on new recordings.",
    "The last verdict of a reviewer on a class in a recording counts. If some were given without seeing labels and "
    "predictions (blinded), it is the last of these.",
)


def write_agreement(
    folder: Path, study: AgreementStudy, facts: Mapping[str, object], caveats: Sequence[str] = ()
) -> Path:
    """Write the report on an agreement, which replaces an earlier one.

    Args:
        folder: Folder of the report.
        study: What was measured.
        facts: What the page states besides, by name.
        caveats: What limits the comparison, as sentences without a full stop.

    Returns:
        The path of the page.
    """
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        tables = write_tables(temporary, agreement_tables(study))
        save_kappa_matrix(study, temporary / AGREEMENT_FIGURE)
        page = build_agreement_page(study, tables, facts, temporary / AGREEMENT_FIGURE, caveats)
        (temporary / AGREEMENT_PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
    return Path(folder) / AGREEMENT_PAGE


def agreement_tables(study: AgreementStudy) -> dict[str, Table]:
    """Collect the tables of AGREEMENT_TABLES by name."""
    header = ("first", "second", "class", "decisions", "agreed", "kappa", "kappa low", "kappa high", "both present",
              "only first present", "only second present", "both absent", "unsure")  # fmt: skip
    names = study.classes.abbreviations
    return {
        "agreement": [header, *(row for pair in study.pairs for row in pair_rows(pair, names))],
        "reviewers": reviewer_table(study),
        "reviewed_labels": reviewed_label_table(study),
        "contested": contested_table(study),
        "verdicts": verdict_table(study),
    }


def pair_rows(pair: PairAgreement, names: Sequence[str]) -> list[tuple]:
    """List the agreement of a pair: of all classes together, then of each class.

    Args:
        pair: The agreement.
        names: Abbreviations of the classes.
    """
    chosen = [None, *np.flatnonzero(pair.decisions + pair.unsure).tolist()]
    rows = []
    for column in chosen:
        counts = pair.counts.sum(axis=0) if column is None else pair.counts[column]
        kappa = pair.kappa if column is None else pair.kappa_by_class[:, column]
        unsure = pair.unsure.sum() if column is None else pair.unsure[column]
        (both_absent, only_second), (only_first, both_present) = counts.tolist()
        rows.append((pair.first, pair.second, ALL if column is None else names[column], int(counts.sum()),
                     int(np.trace(counts)), *kappa.tolist(), both_present, only_first, only_second, both_absent,
                     int(unsure)))  # fmt: skip
    return rows


def reviewer_table(study: AgreementStudy) -> Table:
    """Count the reviews of each reviewer by verdict, and when they were given."""
    rows = []
    for rater in study.reviewers:
        reviews = [review for review in study.reviews if review.reviewer == rater.name]
        times = [review.time for review in reviews]
        records = {review.record for review in reviews}
        rows.append((rater.name, len(records), len(reviews), *count_verdicts(rater.verdicts),
                     sum(review.blinded for review in reviews), min(times), max(times)))  # fmt: skip
    names = ("reviewer", "recordings", "verdicts", *VERDICT_NAMES.values(), "blinded", "first", "last")
    return [names, *rows]


def reviewed_label_table(study: AgreementStudy) -> Table:
    """Count the majority's verdicts by class, label, and prediction of each model."""
    rows: Table = []
    if study.labels is not None:
        labels, verdicts = study.labels.verdicts, find_majority(study)
        models = study.models or [Rater("", np.full(labels.shape, UNDECIDED), MODEL)]
        columns = np.flatnonzero((verdicts != UNDECIDED).any(axis=0)).tolist()
        for model, column, label, prediction in product(models, columns, (PRESENT, ABSENT), OUTCOMES):
            chosen = (labels[:, column] == label) & (model.verdicts[:, column] == prediction)
            if any(counts := count_verdicts(verdicts[chosen, column])):
                names = (
                    model.name,
                    study.classes.abbreviations[column],
                    VERDICT_NAMES[label],
                    VERDICT_NAMES.get(prediction, ""),
                )
                rows.append((*names, sum(counts), *counts))
    return [("model", "class", "label", "prediction", "recordings", *VERDICT_NAMES.values()), *rows]


def find_majority(study: AgreementStudy) -> np.ndarray:
    """Return the verdicts of most reviewers, (n, 26) int8."""
    no_labels = np.zeros((len(study.names), len(study.classes)), bool)
    return match_corrections(count_votes(study.reviews), study.names, no_labels, study.classes).verdicts


def count_verdicts(verdicts: np.ndarray) -> list[int]:
    """Return how many verdicts are present, absent and unsure."""
    return [int((verdicts == verdict).sum()) for verdict in VERDICT_NAMES]


def contested_table(study: AgreementStudy) -> Table:
    """List the recordings on which reviewers disagree, with what they wrote."""
    rows = [
        (label.record, label.abbreviation, *(VERDICT_NAMES.get(verdict, "") for verdict in label.verdicts),
         "; ".join(f"{review.reviewer}: {review.comment}" for review in label.reviews))
        for label in study.list_contested()
    ]  # fmt: skip
    return [("record", "class", *(rater.name for rater in study.raters), "comments"), *rows]


def verdict_table(study: AgreementStudy) -> Table:
    """List the verdicts of all raters on what a reviewer has reviewed."""
    verdicts = np.array([rater.verdicts for rater in study.raters]).reshape(-1, len(study.names), len(study.classes))
    is_reviewed = (verdicts[: len(study.reviewers)] != UNDECIDED).any(axis=0)
    rows = [
        (
            study.names[row],
            study.classes.abbreviations[column],
            *(VERDICT_NAMES.get(value, "") for value in verdicts[:, row, column].tolist()),
        )
        for row, column in np.argwhere(is_reviewed).tolist()
    ]
    return [("record", "class", *(rater.name for rater in study.raters)), *rows]


def save_kappa_matrix(study: AgreementStudy, path: Path) -> None:
    """Save the matrix of kappas as SVG, in which text stays text.

    The browser has fonts for names in any language. The font that measures the text has not.
    """
    # The same numbers give the same file.
    with rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        save_figure(draw_kappa_matrix(study), path, metadata={"Date": None})


def draw_kappa_matrix(study: AgreementStudy) -> Figure:
    """Draw kappa of all classes together for each pair of raters."""
    names, count = [rater.name for rater in study.raters], len(study.raters)
    figure = Figure((min(3.2 + 1.15 * count, 10.9), 1.6 + 0.75 * count), layout="constrained")
    axes, kappas = figure.add_subplot(), np.full((count, count), np.nan)
    pairs = {(names.index(pair.first), names.index(pair.second)): pair for pair in study.pairs}
    for (row, column), pair in pairs.items():
        kappas[row, column] = kappas[column, row] = pair.kappa[0]
    image = axes.imshow(kappas, cmap=colormaps["RdBu"].with_extremes(bad="#f4f4f6"), vmin=-1, vmax=1, aspect="auto")
    for (row, column), pair in pairs.items():
        value, interval = format_kappa(pair.kappa)
        colour = "white" if abs(np.nan_to_num(pair.kappa[0])) > STRONG_SHADE else "#22222c"
        lines = [value, interval.replace("decisions ", "\n"), f"{pair.decisions.sum():,} decisions"]
        for x, y in ((column, row), (row, column)):
            axes.text(x, y, "\n".join(filter(None, lines)), ha="center", va="center", fontsize=8.5, color=colour)
    shown = [escape_unprintable(name).replace("$", r"\$") for name in names]
    axes.set_xticks(range(count), shown, rotation=0 if max(map(len, shown)) < 14 else 20)
    axes.set_yticks(range(count), shown)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=22, pad=0.02, ticks=(-1, -0.5, 0, 0.5, 1))
    bar.set_label("kappa", fontsize=9)
    bar.outline.set_visible(False)
    return figure


def format_kappa(kappa: np.ndarray) -> tuple[str, str]:
    """Return kappa (UNDEFINED if it is NaN) and its interval, or why it has none."""
    if np.isnan(kappa[0]):
        return UNDEFINED, ""
    value, interval = format_estimate(kappa)
    return value, interval or NOT_ENOUGH


def describe_pair(pair: PairAgreement) -> str:
    """Describe the agreement of a pair in one line."""
    value, interval = format_kappa(pair.kappa)
    count, agreed, unsure = (int(numbers.sum()) for numbers in (pair.decisions, pair.n_agreements, pair.unsure))
    text = f"{pair.first} and {pair.second}: kappa {value}{f' ({interval})' * bool(interval)}, "
    text += f"{agreed:,} of {pluralise(count, 'decision')} the same"
    return text + f", {unsure:,} unsure" * bool(unsure)


def build_agreement_page(
    study: AgreementStudy,
    tables: Mapping[str, Table],
    facts: Mapping[str, object],
    figure: Path,
    caveats: Sequence[str] = (),
) -> str:
    """Build the page.

    Args:
        study: What was measured.
        tables: The tables as written.
        facts: What the page states besides, by name.
        figure: File of the matrix of kappas.
        caveats: What limits the comparison, as sentences without a full stop.
    """
    people = pluralise(len(study.reviewers), "reviewer")
    models = ["the model" if len(study.models) == 1 else pluralise(len(study.models), "model")] * bool(study.models)
    raters = [people, *["the labels"] * (study.labels is not None), *models]
    title = f"Agreement of {', '.join(raters)} on {pluralise(len(study.names), 'recording')}"
    opening = [f"{escape_unprintable(sentence)}." for sentence in (*caveats, *summarise_agreement(study))]
    sections = {
        "Agreement": [
            embed_figure(figure, "Kappa of each pair", "With 95 % intervals, of all classes together."),
            kappa_table(study, [None], "Agreement of each pair, all classes together"),
        ] * bool(study.pairs),
        "By class": class_kappas(study),
        "Reviewed labels": reviewed_label_parts(tables["reviewed_labels"]),
        "Reviewers": [plain_table(tables["reviewers"][0], tables["reviewers"][1:], "Reviewers and their verdicts")],
        "Contested recordings": contested_parts(tables["contested"]),
        "How to read this": [bullet_list(NOTES)],
        "What was compared": [plain_table((), [(name, str(value)) for name, value in facts.items()], "The study")],
        "Tables as files": [bullet_list(f"{name}.csv" for name in tables)],
    }  # fmt: skip
    return build_page(title, opening, {name: parts for name, parts in sections.items() if parts})


def summarise_agreement(study: AgreementStudy) -> list[str]:
    """Describe the agreement of the reviewers, and how many labels they contradict."""
    people = {rater.name for rater in study.reviewers}
    pairs = [pair for pair in study.pairs if {pair.first, pair.second} <= people]
    sentences = [describe_pair(pair) for pair in pairs[:MAX_PAIRS]]
    if len(pairs) > MAX_PAIRS:
        sentences.append(f"{len(pairs) - MAX_PAIRS:,} more pairs of reviewers are in the table")
    if study.labels is not None:
        verdicts = find_majority(study)
        for label, contrary in ((PRESENT, ABSENT), (ABSENT, PRESENT)):
            counts = dict(zip(VERDICT_NAMES, count_verdicts(verdicts[study.labels.verdicts == label]), strict=True))
            if total := sum(counts.values()):
                sentences.append(f"Of {total:,} reviewed labels that are {VERDICT_NAMES[label]}, most reviewers "
                                 f"contradict {counts[contrary]:,} and are unsure of {counts[UNSURE]:,}")  # fmt: skip
    return sentences


def kappa_table(study: AgreementStudy, columns: list[int | None], caption: str) -> str:
    """Build a table of the agreement of each pair.

    Args:
        study: What was measured.
        columns: Columns of the classes, each a group of rows; None: all classes together.
        caption: Caption of the table.
    """
    groups: dict[str, list[list[Cell]]] = {}
    for column in columns:
        rows = groups.setdefault("" if column is None else study.classes.abbreviations[column], [])
        for pair in study.pairs:
            decisions, agreed, unsure = (
                int(numbers.sum() if column is None else numbers[column])
                for numbers in (pair.decisions, pair.n_agreements, pair.unsure)
            )
            if decisions or unsure:
                kappa = pair.kappa if column is None else pair.kappa_by_class[:, column]
                share = f"{agreed / decisions:.1%}".replace("%", " %") if decisions else UNDEFINED
                rows.append([Cell(escape_unprintable(f"{pair.first} and {pair.second}")), Cell(*format_kappa(kappa)),
                             Cell(f"{decisions:,}"), Cell(share), Cell(f"{unsure:,}")])  # fmt: skip
    header = ("pair", "kappa", "decisions", "agreed", "unsure")
    return html_table(header, {name: rows for name, rows in groups.items() if rows}, caption)


def class_kappas(study: AgreementStudy) -> list[str]:
    """Build the table of the agreement by class, if there are several classes."""
    counts = sum((pair.decisions + pair.unsure for pair in study.pairs), np.zeros(len(study.classes), int))
    columns = [int(column) for column in np.argsort(-counts, kind="stable") if counts[column]]
    if len(columns) < 2:
        return []
    return [kappa_table(study, [*columns], "Agreement of each pair by class, the most reviewed class first")]


def reviewed_label_parts(table: Table) -> list[str]:
    """Build the table of the reviewers' verdicts on labels, if there are labels."""
    if len(table) < 2:
        return []
    header, *rows = table
    caption = "What most reviewers say of the class, by its label in the header and the prediction of each model"
    return [plain_table(header, rows, caption)]


def contested_parts(table: Table) -> list[str]:
    """Build the table of the recordings on which reviewers disagree, if there are any."""
    if len(table) < 2:
        return []
    caption = f"Recordings on which reviewers disagree ({len(table) - 1:,})"
    return [details(caption, first_rows_table(table, caption, "contested"))]
