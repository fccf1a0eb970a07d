"""Write the report on the agreement of reviewers, labels and a model."""

import warnings
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from ecg.data.corrections import count_votes, match_corrections
from ecg.data.labels import ABBREVIATIONS
from ecg.data.reviews import ABSENT, LABELS, MODEL, PRESENT, UNDECIDED, UNSURE
from ecg.evaluation.agreement import AgreementStudy, PairAgreement
from ecg.reports.html_page import Cell, build_page, bullet_list, details, embed_figure, html_table, plain_table
from ecg.reports.training_tables import Table, write_tables
from ecg.runtime.console import escape_unprintable, format_estimate, pluralise
from ecg.runtime.files import atomic_path, save_figure

AGREEMENT_PAGE, AGREEMENT_FIGURE = "agreement.html", "kappa.svg"
AGREEMENT_TABLES = ("agreement", "reviewers", "judged", "contested", "verdicts")
UNDEFINED = "-"  # a kappa that does not exist
ALL = "all"  # in place of a class
MAX_PAIRS = 3  # of reviewers in the summary
MAX_CONTESTED = 500  # rows of the page
VERDICT_NAMES = {PRESENT: "present", ABSENT: "absent", UNSURE: "unsure", UNDECIDED: ""}
STRONG_SHADE = 0.7  # absolute kappa; above it numbers are white
NOTES = (
    "Kappa (Cohen 1960) is 1 if two raters always agree, 0 if they agree as often as by chance, and negative if they "
    "agree less often. It is of the decisions that both made; all decisions together are those of all classes.",
    "Intervals contain 95 % of the kappas of bootstrap samples of the recordings.",
    "If one of two raters always says the same, kappa says nothing, and is shown as -.",
    "Unsure verdicts are not in kappa; the tables count them.",
    "Labels and model are compared only where a reviewer has given a verdict. In a sample of errors, the model always "
    "contradicts the labels: kappa of these two is then negative by the choice of the recordings.",
    "The last verdict of a reviewer on a class in a recording counts.",
)


def write_agreement(folder: Path, study: AgreementStudy, facts: Mapping[str, object]) -> Path:
    """Write the report on an agreement, which replaces an earlier one.

    Args:
        folder: Folder of the report.
        study: What was measured.
        facts: What the page states besides, by name.

    Returns:
        The path of the page.
    """
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        tables = write_tables(temporary, agreement_tables(study))
        save_kappa_matrix(study, temporary / AGREEMENT_FIGURE)
        page = build_agreement_page(study, tables, facts, temporary / AGREEMENT_FIGURE)
        (temporary / AGREEMENT_PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
    return Path(folder) / AGREEMENT_PAGE


def agreement_tables(study: AgreementStudy) -> dict[str, Table]:
    """Collect the tables of AGREEMENT_TABLES by name."""
    header = ("first", "second", "class", "decisions", "agreed", "kappa", "kappa low", "kappa high", "both present",
              "only first present", "only second present", "both absent", "unsure")  # fmt: skip
    return {
        "agreement": [header, *(row for pair in study.pairs for row in pair_rows(pair))],
        "reviewers": reviewer_table(study),
        "judged": judged_table(study),
        "contested": contested_table(study),
        "verdicts": verdict_table(study),
    }


def pair_rows(pair: PairAgreement) -> list[tuple]:
    """List the agreement of a pair: of all classes together, then of each class."""
    chosen = [None, *np.flatnonzero(pair.decisions + pair.unsure).tolist()]
    rows = []
    for column in chosen:
        counts = pair.counts.sum(axis=0) if column is None else pair.counts[column]
        kappa = pair.kappa if column is None else pair.kappa_by_class[:, column]
        unsure = pair.unsure.sum() if column is None else pair.unsure[column]
        (both_absent, only_second), (only_first, both_present) = counts.tolist()
        rows.append((pair.first, pair.second, ALL if column is None else ABBREVIATIONS[column], int(counts.sum()),
                     int(np.trace(counts)), *kappa.tolist(), both_present, only_first, only_second, both_absent,
                     int(unsure)))  # fmt: skip
    return rows


def reviewer_table(study: AgreementStudy) -> Table:
    """Count the reviews of each reviewer by verdict, and when they were given."""
    rows = []
    for rater in study.reviewers:
        reviews = [review for review in study.reviews if review.reviewer == rater.name]
        counts = [int((rater.verdicts == verdict).sum()) for verdict in (PRESENT, ABSENT, UNSURE)]
        times = [review.time for review in reviews]
        rows.append((rater.name, len({review.record for review in reviews}), len(reviews), *counts,
                     sum(review.blinded for review in reviews), min(times), max(times)))  # fmt: skip
    names = ("reviewer", "recordings", "verdicts", "present", "absent", "unsure", "blinded", "first", "last")
    return [names, *rows]


def judged_table(study: AgreementStudy) -> Table:
    """Count the verdicts of the majority by class, label and prediction."""
    rows: Table = []
    labels, model = study.find_rater(LABELS), study.find_rater(MODEL)
    if labels is not None:
        votes = count_votes(study.reviews)
        verdicts = match_corrections(votes, study.names, np.zeros(labels.verdicts.shape, bool)).verdicts
        predicted = np.full(labels.verdicts.shape, UNDECIDED) if model is None else model.verdicts
        columns = np.flatnonzero((verdicts != UNDECIDED).any(axis=0)).tolist()
        for column, label, prediction in product(columns, (PRESENT, ABSENT), (PRESENT, ABSENT, UNDECIDED)):
            chosen = (labels.verdicts[:, column] == label) & (predicted[:, column] == prediction)
            counts = [int((verdicts[chosen, column] == verdict).sum()) for verdict in (PRESENT, ABSENT, UNSURE)]
            if any(counts):
                names = ABBREVIATIONS[column], VERDICT_NAMES[label], VERDICT_NAMES[prediction]
                rows.append((*names, sum(counts), *counts))
    return [("class", "label", "prediction", "recordings", "present", "absent", "unsure"), *rows]


def contested_table(study: AgreementStudy) -> Table:
    """List the recordings on which reviewers disagree, with what they wrote."""
    comments: dict[tuple[str, str], list[str]] = {}
    for review in study.reviews:
        if review.comment:
            key = review.record, review.abbreviation
            comments.setdefault(key, []).append(f"{review.reviewer}: {review.comment}")
    rows = [
        (*row, "; ".join(comments.get(row[:2], []))) for row in verdict_table(study, study.contested)[1:]
    ]  # fmt: skip
    return [("record", "class", *(rater.name for rater in study.raters), "comments"), *rows]


def verdict_table(study: AgreementStudy, mask: np.ndarray | None = None) -> Table:
    """List the verdicts of all raters.

    Args:
        study: What was measured.
        mask: Which recordings and classes are listed, (n, 26) bool; None: those that a reviewer has reviewed.
    """
    verdicts = np.array([rater.verdicts for rater in study.raters]).reshape(-1, len(study.names), len(ABBREVIATIONS))
    if mask is None:
        mask = (verdicts[: len(study.reviewers)] != UNDECIDED).any(axis=0)
    rows = [
        (study.names[row], ABBREVIATIONS[column], *(VERDICT_NAMES[int(value)] for value in verdicts[:, row, column]))
        for row, column in np.argwhere(mask).tolist()
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
    """Draw kappa of all decisions together for each pair of raters."""
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
        lines = [value, interval, f"{pair.decisions.sum():,} decisions"]
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
    """Return kappa (UNDEFINED if it is NaN) and its interval."""
    return (UNDEFINED, "") if np.isnan(kappa[0]) else format_estimate(kappa)


def describe_pair(pair: PairAgreement) -> str:
    """Describe the agreement of a pair in one line."""
    value, interval = format_kappa(pair.kappa)
    count, agreed, unsure = (int(numbers.sum()) for numbers in (pair.decisions, pair.agreed, pair.unsure))
    text = f"{pair.first} and {pair.second}: kappa {value}{f' ({interval})' * bool(interval)}, "
    text += f"{agreed:,} of {pluralise(count, 'decision')} the same"
    return text + f", {unsure:,} unsure" * bool(unsure)


def build_agreement_page(
    study: AgreementStudy, tables: Mapping[str, Table], facts: Mapping[str, object], figure: Path
) -> str:
    """Build the page.

    Args:
        study: What was measured.
        tables: The tables as written.
        facts: What the page states besides, by name.
        figure: File of the matrix of kappas.
    """
    people = pluralise(len(study.reviewers), "reviewer")
    raters = [people, *(f"the {rater.name}" for rater in study.raters if not rater.is_reviewer)]
    title = f"Agreement of {', '.join(raters)} on {pluralise(len(study.names), 'recording')}"
    opening = [f"{escape_unprintable(sentence)}." for sentence in summarise_agreement(study, tables["judged"])]
    n_contested = len(tables["contested"]) - 1
    sections = {
        "Agreement": [
            embed_figure(figure, "Kappa of each pair", "With 95 % intervals, of all decisions that both made."),
            kappa_table(study, [None], "Agreement of each pair, all classes together"),
        ] * bool(study.pairs),
        "By class": class_kappas(study),
        "Labels judged by reviewers": judged_parts(tables["judged"]),
        "Reviewers": [plain_table(tables["reviewers"][0], tables["reviewers"][1:], "Reviewers and their verdicts")],
        "Contested recordings": contested_parts(tables["contested"], n_contested),
        "How to read this": [bullet_list(NOTES)],
        "What was compared": [plain_table((), [(name, str(value)) for name, value in facts.items()], "The study")],
        "Tables as files": [bullet_list(f"{name}.csv" for name in tables)],
    }  # fmt: skip
    return build_page(title, opening, {name: parts for name, parts in sections.items() if parts})


def summarise_agreement(study: AgreementStudy, judged: Table) -> list[str]:
    """Describe the agreement of the reviewers, and how many labels they contradict.

    Args:
        study: What was measured.
        judged: The table of the reviewers' verdicts on labels.
    """
    people = {rater.name for rater in study.reviewers}
    pairs = [pair for pair in study.pairs if {pair.first, pair.second} <= people]
    sentences = [describe_pair(pair) for pair in pairs[:MAX_PAIRS]]
    if len(pairs) > MAX_PAIRS:
        sentences.append(f"{len(pairs) - MAX_PAIRS:,} more pairs of reviewers are in the table")
    for label, contrary in (("present", 1), ("absent", 0)):
        if rows := [row[4:7] for row in judged[1:] if row[1] == label]:
            counts = np.sum(rows, axis=0)
            sentences.append(f"Of {counts.sum():,} reviewed labels that are {label}, most reviewers contradict "
                             f"{counts[contrary]:,} and are unsure of {counts[2]:,}")  # fmt: skip
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
        rows = groups.setdefault("" if column is None else ABBREVIATIONS[column], [])
        for pair in study.pairs:
            decisions, agreed, unsure = (
                int(numbers.sum() if column is None else numbers[column])
                for numbers in (pair.decisions, pair.agreed, pair.unsure)
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
    counts = sum((pair.decisions + pair.unsure for pair in study.pairs), np.zeros(len(ABBREVIATIONS), int))
    columns = [int(column) for column in np.argsort(-counts, kind="stable") if counts[column]]
    if len(columns) < 2:
        return []
    return [kappa_table(study, [*columns], "Agreement of each pair by class, the most reviewed class first")]


def judged_parts(table: Table) -> list[str]:
    """Build the table of the reviewers' verdicts on labels, if there are labels."""
    if len(table) < 2:
        return []
    header, *rows = table
    caption = "What most reviewers say of the class, by its label in the header and the model's prediction"
    return [plain_table(header, rows, caption)]


def contested_parts(table: Table, count: int) -> list[str]:
    """Build the table of the recordings on which reviewers disagree, if there are any."""
    header, *rows = table
    if not rows:
        return []
    more = f"; the first {MAX_CONTESTED:,}, all are in contested.csv" * (count > MAX_CONTESTED)
    caption = f"Recordings on which reviewers disagree ({count:,}{more})"
    return [details(caption, plain_table(header, rows[:MAX_CONTESTED], caption))]
