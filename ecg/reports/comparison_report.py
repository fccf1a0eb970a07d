"""Write the report of a comparison: a page, its figures, and CSV tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context

from ecg.evaluation.bootstrap import OPTIMISED, PREDICTED, RESAMPLES, Comparison, MetricTable, compute_metrics
from ecg.reports.comparison_charts import draw_comparison
from ecg.reports.comparison_tables import (
    COST_HEADER,
    SCORE_HEADER,
    class_rows,
    comparison_tables,
    cost_rows,
    difference_rows,
    fact_tables,
    score_rows,
    setting_rows,
    source_rows,
)
from ecg.reports.html_page import Cell, build_page, bullet_list, details, embed_figure, html_table
from ecg.reports.training_tables import write_tables
from ecg.runtime.console import escape_unprintable, format_estimate, pluralise
from ecg.runtime.files import atomic_path, save_figure

COMPARISON_FOLDER, COMPARISON_PAGE = "comparison", "comparison.html"
INTERVALS = "with 95 % intervals"
NOTES = Path(__file__).with_name("comparison_notes.txt").read_text(encoding="utf-8").splitlines()


def write_comparison(
    folder: Path, comparison: Comparison, facts: Mapping[str, object], resamples: int = RESAMPLES, seed: int = 0
) -> Path:
    """Measure a comparison and write its report, which replaces an earlier one.

    Args:
        folder: Where the folder of the report is made.
        comparison: What the systems predicted.
        facts: Further facts for the page: name to string, number, or table (rows, header first).
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.

    Returns:
        The path of the page.
    """
    metrics = compute_metrics(comparison, resamples, seed)
    facts = {**facts, "bootstrap": f"{resamples:,} resamples, seed {seed}"}
    with atomic_path(Path(folder) / COMPARISON_FOLDER) as temporary:
        temporary.mkdir(parents=True)
        tables = comparison_tables(comparison, metrics)
        write_tables(temporary, fact_tables(facts) | tables)
        facts["recordings"] = tables["recordings"]
        page = build_comparison_page(comparison, metrics, facts, temporary)
        (temporary / COMPARISON_PAGE).write_text(page, encoding="utf-8")
    return Path(folder) / COMPARISON_FOLDER / COMPARISON_PAGE


def build_comparison_page(
    comparison: Comparison, metrics: MetricTable, facts: Mapping[str, object], folder: Path
) -> str:
    """Build the page, and save its figures as SVG files in a folder, too."""
    figures: dict[str, list[str]] = {}
    for drawn in draw_comparison(comparison, metrics):
        path = folder / f"{drawn.name}.svg"
        with rc_context({"svg.hashsalt": drawn.name}):  # the same numbers give the same file
            save_figure(drawn.figure, path, metadata={"Date": None})
        figures.setdefault(drawn.section, []).append(embed_figure(path, drawn.title, drawn.caption, drawn.alternative))
    first = escape_unprintable(comparison.systems[0])
    best = "; the best is bold" if len(comparison.systems) > 1 else ""
    scores, differences, classes, sources = [], [], [], []
    for leads in comparison.lead_sets:
        title = pluralise(leads, "lead")
        systems = list(map(escape_unprintable, comparison.systems_at(comparison.indices_with_leads(leads))))
        rows = score_rows(comparison, metrics, leads)
        scores += [
            html_table(SCORE_HEADER, {"": rows}, f"{title}: scores {INTERVALS}{best}"),
            *figures[f"scores {leads}"],
        ]
        if rows := difference_rows(comparison, metrics, leads):
            caption = f"{title}: differences to {first} {INTERVALS}; an interval without 0 is bold"
            differences += [html_table(SCORE_HEADER, {"": rows}, caption), *figures[f"differences {leads}"]]
        classes += figures.get(f"class {leads}", [])
        for name, rows in class_rows(comparison, metrics, leads).items():
            table = html_table(("class", *systems), {"": rows}, f"{name} by class {INTERVALS}{best}")
            classes.append(details(f"{title}: {name} by class", table))
        sources += figures.get(f"source {leads}", [])
        groups = source_rows(comparison, metrics, leads)
        table = html_table(("source", *systems), groups, f"Measures by source {INTERVALS}{best}")
        sources.append(details(f"{title}: all measures by source", table))
    costs = {pluralise(leads, "lead"): cost_rows(comparison, leads) for leads in comparison.lead_sets}
    sections = {
        "Scores": scores,
        f"Differences to {first}": differences,
        "By class": classes,
        "By source": sources,
        "Costs": [html_table(COST_HEADER, costs, "What the systems cost"), *figures["costs"]],
        "How to read this": [bullet_list(NOTES)],
        "What was compared": build_fact_tables(facts),
    }
    sections = {name: parts for name, parts in sections.items() if parts}
    return build_page(comparison_title(comparison), comparison_summary(comparison, metrics), sections)


def build_fact_tables(facts: Mapping[str, object]) -> list[str]:
    """Build one table of the strings and numbers, then a table of each other fact.

    Args:
        facts: Further facts for the page: name to string, number, or table (rows, header first).
    """
    rows = [
        [Cell(name), Cell(escape_unprintable(str(value)))]
        for name, value in facts.items()
        if not isinstance(value, list)
    ]
    tables = [html_table((), {"": rows}, "The comparison", prose=True)]
    for name, value in facts.items():
        if isinstance(value, list) and len(value) > 1:
            prose = not all(isinstance(cell, int | float) for row in value[1:] for cell in row[1:])
            caption = name.capitalize() + "; values that differ from most systems are bold" * prose
            rows = setting_rows(value[1:]) if prose else [[Cell(str(cell)) for cell in row] for row in value[1:]]
            tables.append(html_table(value[0], {"": rows}, caption, prose))
    return tables


def comparison_title(comparison: Comparison) -> str:
    """Return the title of the page, such as "4 systems on 150 recordings, 1 lead set"."""
    systems, lead_sets = len(comparison.systems), len(comparison.lead_sets)
    recordings = pluralise(len(comparison.labels), "recording")
    return f"{pluralise(systems, 'system')} on {recordings}, {pluralise(lead_sets, 'lead set')}"


def comparison_summary(comparison: Comparison, metrics: MetricTable) -> list[str]:
    """Summarise the best scores of each lead set.

    Returns:
        A sentence that says what the others are about, and one for each lead set.
    """
    first, several = escape_unprintable(comparison.systems[0]), any(metrics.differences)
    best = "The best Challenge metric" if several else "The Challenge metric"
    differing = f", and the number of systems that differ from {first}" if several else ""
    sentences = [f"{best}, with optimised thresholds and by the systems' own rules{differing}:"]
    for leads in comparison.lead_sets:
        indices = comparison.indices_with_leads(leads)
        text = (f"{pluralise(leads, 'lead')}: {highest_score(comparison, metrics, indices, OPTIMISED)} optimised, "
                f"{highest_score(comparison, metrics, indices, PREDICTED)} by its own rule")  # fmt: skip
        if estimates := [difference[OPTIMISED] for index in indices if (difference := metrics.differences[index])]:
            better = sum(low > 0 for _, low, _ in estimates) or "none"
            worse = sum(high < 0 for _, _, high in estimates) or "none"
            text += f"; of {pluralise(len(estimates), 'other')}, {better} better, {worse} worse"
        sentences.append(f"{text}.")
    return sentences


def highest_score(comparison: Comparison, metrics: MetricTable, indices: Sequence[int], measure: str) -> str:
    """Describe the highest value of a metric, with its interval and system."""
    best = max(indices, key=lambda index: metrics.overall[index][measure][0])
    value, interval = format_estimate(metrics.overall[best][measure])
    return f"{value} ({interval}) by {escape_unprintable(comparison.results[best].system)}"
