"""Write the report of a comparison: a page, its figures, and CSV tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context

from ecg.evaluation import bootstrap
from ecg.evaluation.bootstrap import (
    AREAS,
    CHALLENGE_METRICS,
    CLASS_METRICS,
    COUNT_METRICS,
    DECISION_NAMES,
    F1_METRICS,
    METRICS,
    Comparison,
    Estimates,
    MetricTable,
)
from ecg.evaluation.metrics import metric_name
from ecg.reports.comparison_charts import NOT_KNOWN, draw_comparison, rank_classes
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
from ecg.runtime.console import escape_unprintable, format_duration, format_estimate, pluralise
from ecg.runtime.files import atomic_path, save_figure

COMPARISON_FOLDER, COMPARISON_PAGE = "comparison", "comparison.html"
INTERVALS = "with 95 % intervals"
NOTES = Path(__file__).with_name("comparison_notes.txt").read_text(encoding="utf-8").splitlines()
CLASS_COUNTS = ("labelled", "optimised", "optimised correctly", "predicted", "predicted correctly",
                "by expected credit", "by expected credit correctly")  # fmt: skip
COSTS = ("networks", "weights", "training seconds", "epochs", "stopped by the time limit", "prediction seconds")
SCORE_COLUMNS = (*CHALLENGE_METRICS, *AREAS)
DECISION_HEADER = ("decision", "metric", "macro F1", "predicted classes")
COST_HEADER = ("system", "networks", "weights", "training", "epochs", "stopped by the time limit",
               "prediction of a recording")  # fmt: skip


def write_comparison(
    folder: Path,
    comparison: Comparison,
    facts: Mapping[str, object],
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
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
    metrics = bootstrap.compute_metrics(comparison, resamples, seed)
    facts = {**facts, "bootstrap": f"{resamples:,} resamples, seed {seed}"}
    with atomic_path(Path(folder) / COMPARISON_FOLDER) as temporary:
        temporary.mkdir(parents=True)
        tables = comparison_tables(comparison, metrics)
        write_tables(temporary, fact_tables(facts) | tables)
        page = build_comparison_page(comparison, metrics, facts | {"recordings": tables["recordings"]}, temporary)
        (temporary / COMPARISON_PAGE).write_text(page, encoding="utf-8")
    return Path(folder) / COMPARISON_FOLDER / COMPARISON_PAGE


def comparison_tables(comparison: Comparison, metrics: MetricTable) -> dict[str, Table]:
    """Collect all tables of a comparison.

    Args:
        comparison: What the systems predicted.
        metrics: What was measured of it.

    Returns:
        Tables by name. An estimate takes three columns: its value and the ends of its interval.
    """
    labels, header, ends = comparison.labels, ("system", "leads"), _with_ends(METRICS)
    overall: Table = [(*header, "recordings", *ends)]
    differences: Table = [(*header, "reference", *ends)]
    by_class: Table = [(*header, "class", "known", *CLASS_COUNTS, *_with_ends(CLASS_METRICS))]
    by_source: Table = [(*header, "source", "recordings", *ends)]
    by_fold: Table = [(*header, "fold", "recordings", *ends)]
    costs: Table = [(*header, *COSTS)]
    for index, result in enumerate(comparison.results):
        name = result.system, result.leads
        overall.append((*name, len(labels), *_numbers(metrics.overall[index], METRICS)))
        costs.append((*name, result.networks, result.parameters, result.training_seconds, result.epochs,
                      result.time_limited, result.prediction_seconds))  # fmt: skip
        if difference := metrics.differences[index]:
            differences.append((*name, comparison.systems[0], *_numbers(difference, METRICS)))
        decisions = [labels]
        for outputs in result.predictions_by_decision[:3]:
            decisions += [outputs, labels & outputs]
        counts = np.array([decision.sum(axis=0) for decision in decisions]).T.tolist()
        for column, (known, count) in enumerate(zip(result.known_classes.tolist(), counts, strict=True)):
            estimates = {name: values[:, column] for name, values in metrics.by_class[index].items()}
            by_class.append(
                (
                    *name,
                    comparison.class_table.abbreviations[column],
                    int(known),
                    *count,
                    *_numbers(estimates, CLASS_METRICS),
                )
            )
        for source, estimates in metrics.by_source[index].items():
            count = int((comparison.sources == source).sum())
            by_source.append((*name, source, count, *_numbers(estimates, METRICS)))
        for fold, estimates in metrics.by_fold[index].items():
            by_fold.append((*name, fold, int((comparison.folds == fold).sum()), *_numbers(estimates, METRICS)))
    return {"recordings": recording_counts(comparison), "overall": overall, "differences": differences,
            "by_class": by_class, "by_source": by_source, "by_fold": by_fold, "costs": costs}  # fmt: skip


def _with_ends(names: Iterable[str]) -> list[str]:
    return [f"{name}{end}" for name in names for end in ("", " low", " high")]


def _numbers(estimates: Mapping[str, np.ndarray], names: Iterable[str]) -> list[float]:
    return [float(number) for name in names for number in estimates[name]]


def recording_counts(comparison: Comparison) -> Table:
    """Count the recordings of each source, in all and in each fold."""
    folds, rows = np.unique(comparison.folds).tolist(), []
    folds = folds if len(folds) > 1 else []
    for source in np.unique(comparison.sources).tolist():
        members = comparison.sources == source
        in_folds = (int((members & (comparison.folds == fold)).sum()) for fold in folds)
        rows.append((source, int(members.sum()), *in_folds))
    return [("source", "recordings", *(f"fold {fold}" for fold in folds)), *rows]


def fact_tables(facts: Mapping[str, object]) -> dict[str, Table]:
    """Turn facts into tables: one of strings and numbers, and the given tables."""
    rows = [(name, value) for name, value in facts.items() if not isinstance(value, list)]
    tables = {name: value for name, value in facts.items() if isinstance(value, list)}
    return {"facts": [("fact", "value"), *rows]} | {table_file_name(name): table for name, table in tables.items()}


def table_file_name(fact: str) -> str:
    """Return the name of the file, without extension, of a fact that is a table."""
    return "".join(char if char.isalnum() else "_" for char in fact)


def build_comparison_page(
    comparison: Comparison, metrics: MetricTable, facts: Mapping[str, object], folder: Path
) -> str:
    """Build the page, and save its figures as SVG files in a folder, too."""
    figures: dict[str, list[str]] = {}
    for drawn in draw_comparison(comparison, metrics):
        path = folder / f"{drawn.name}.svg"
        with rc_context({"svg.hashsalt": drawn.name}):  # the same numbers give the same file
            save_figure(drawn.figure, path, metadata={"Date": None})
        figures[drawn.name] = [embed_figure(path, drawn.title, drawn.caption)]
    first = escape_unprintable(comparison.systems[0])
    best = "; the best is bold" if len(comparison.systems) > 1 else ""
    labelled = f"; {comparison.labels.sum(axis=1).mean():.2f} classes of a recording are labelled"
    scores, differences, classes, sources = [], [], [], []
    for leads in comparison.lead_sets:
        title, suffix = pluralise(leads, "lead"), f"{leads}_leads"
        systems = list(map(escape_unprintable, comparison.systems_at(comparison.indices_with_leads(leads))))
        rows = score_rows(comparison, metrics, leads)
        table = html_table(("system", *SCORE_COLUMNS), {"": rows}, f"{title}: scores {INTERVALS}{best}")
        scores += [table, *figures[f"scores_{suffix}"]]
        groups, caption = decision_rows(comparison, metrics.overall, leads), f"{title}: decisions {INTERVALS}{labelled}"
        scores.append(html_table(DECISION_HEADER, groups, caption))
        if rows := difference_rows(comparison, metrics, leads):
            caption = f"{title}: differences to {first} {INTERVALS}; an interval without 0 is bold"
            differences += [html_table(("system", *SCORE_COLUMNS), {"": rows}, caption)]
            differences += figures[f"differences_{suffix}"]
            groups = decision_rows(comparison, metrics.differences, leads, difference_cell)
            caption = f"{title}: differences of decisions to {first} {INTERVALS}; an interval without 0 is bold"
            differences.append(html_table(DECISION_HEADER, groups, caption))
        classes += figures.get(f"classes_{suffix}", [])
        for name, rows in class_rows(comparison, metrics, leads).items():
            table = html_table(("class", *systems), {"": rows}, f"{name} by class {INTERVALS}{best}")
            classes.append(details(f"{title}: {name} by class", table))
        sources += figures.get(f"sources_{suffix}", [])
        groups = source_rows(comparison, metrics, leads)
        table = html_table(("source", *systems), groups, f"Measures by source {INTERVALS}{best}")
        sources.append(details(f"{title}: all measures by source", table))
    costs = {pluralise(leads, "lead"): cost_rows(comparison, leads) for leads in comparison.lead_sets}
    plain_facts = [(name, str(value)) for name, value in facts.items() if not isinstance(value, list)]
    tables = {name: value for name, value in facts.items() if isinstance(value, list) and len(value) > 1}
    sections = {
        "Scores": scores,
        f"Differences to {first}": differences,
        "By class": classes,
        "By source": sources,
        "Costs": [html_table(COST_HEADER, costs, "What the systems cost"), *figures["costs"]],
        "How to read this": [bullet_list(NOTES)],
        "What was compared": [
            plain_table((), plain_facts, "The comparison"),
            *(first_rows_table(table, name.capitalize(), table_file_name(name)) for name, table in tables.items()),
        ],
    }
    n_systems, n_recordings, n_sets = len(comparison.systems), len(comparison.labels), len(comparison.lead_sets)
    title = f"{pluralise(n_systems, 'system')} on {pluralise(n_recordings, 'recording')}"
    title += f", {pluralise(n_sets, 'lead set')}"
    sections = {name: parts for name, parts in sections.items() if parts}
    return build_page(title, comparison_summary(comparison, metrics), sections)


def comparison_summary(comparison: Comparison, metrics: MetricTable) -> list[str]:
    """Summarise the best scores of each lead set.

    Returns:
        A sentence that says what the others are about, and one for each lead set.
    """
    first, several = escape_unprintable(comparison.systems[0]), any(metrics.differences)
    metric = metric_name(comparison.weights, comparison.class_table)
    best = f"The best {metric}" if several else f"The {metric}"
    differing = f", and the number of systems that differ from {first}" if several else ""
    sentences = [f"{best}, with optimised thresholds, by the systems' own rules and by expected credit{differing}:"]
    for leads in comparison.lead_sets:
        indices = comparison.indices_with_leads(leads)
        optimised, by_rule, by_credit = (
            highest_score(comparison, metrics, indices, name) for name in CHALLENGE_METRICS[:3]
        )
        text = f"{pluralise(leads, 'lead')}: {optimised} optimised, {by_rule} by its own rule, {by_credit} by expected "
        text += "credit"
        differences = [difference for index in indices if (difference := metrics.differences[index])]
        if ends := [difference[CHALLENGE_METRICS[0]][1:] for difference in differences]:
            better = sum(low > 0 for low, _ in ends) or "none"
            worse = sum(high < 0 for _, high in ends) or "none"
            text += f"; of {pluralise(len(ends), 'other')}, {better} better, {worse} worse"
        sentences.append(f"{text}.")
    return sentences


def highest_score(comparison: Comparison, metrics: MetricTable, indices: Sequence[int], measure: str) -> str:
    """Describe the highest value of a metric, with its interval and system."""
    best = max(indices, key=lambda index: metrics.overall[index][measure][0])
    value, interval = format_estimate(metrics.overall[best][measure])
    return f"{value} ({interval}) by {escape_unprintable(comparison.results[best].system)}"


def estimate_cells(estimates: Sequence[np.ndarray], known: np.ndarray | bool = True) -> list[Cell]:
    """Format an estimate of each system with its interval, the best one emphasised.

    Args:
        estimates: (n_systems, 3).
        known: Whether each system knows the class that is measured, (n_systems,).
    """
    values = np.where(known, np.array(estimates)[:, 0], np.nan)
    best = np.nanmax(values) if len(values) > 1 and not np.isnan(values).all() else None
    return [
        Cell(*format_estimate(estimate), bool(value == best)) if is_known else Cell(NOT_KNOWN)
        for estimate, value, is_known in zip(estimates, values, np.broadcast_to(known, values.shape), strict=True)
    ]


def score_rows(comparison: Comparison, metrics: MetricTable, leads: int) -> list[list[Cell]]:
    """List the scores of each system with a number of leads."""
    indices = comparison.indices_with_leads(leads)
    columns = [estimate_cells([metrics.overall[index][name] for index in indices]) for name in SCORE_COLUMNS]
    results = [comparison.results[index] for index in indices]
    notes = [f"{pluralise(n, 'training')} stopped" if (n := result.time_limited) else "" for result in results]
    names = [Cell(escape_unprintable(result.system), note) for result, note in zip(results, notes, strict=True)]
    return [list(row) for row in zip(names, *columns, strict=True)]


def difference_rows(comparison: Comparison, metrics: MetricTable, leads: int) -> list[list[Cell]]:
    """List how each other system differs from the first one.

    A difference with an interval without 0 is emphasised.
    """
    rows = []
    for index in comparison.indices_with_leads(leads):
        if difference := metrics.differences[index]:
            cells = [difference_cell(difference[name]) for name in SCORE_COLUMNS]
            rows.append([Cell(escape_unprintable(comparison.results[index].system)), *cells])
    return rows


def estimate_cell(estimate: np.ndarray) -> Cell:
    """Format an estimate with its interval."""
    return Cell(*format_estimate(estimate))


def difference_cell(estimate: np.ndarray) -> Cell:
    """Format a difference, emphasised if its interval is without 0."""
    return Cell(*format_estimate(estimate, "+"), bool(estimate[1] > 0 or estimate[2] < 0))


def decision_rows(
    comparison: Comparison,
    estimates: Sequence[Estimates | None],
    leads: int,
    format_cell: Callable[[np.ndarray], Cell] = estimate_cell,
) -> dict[str, list[list[Cell]]]:
    """List metric, macro F1 and number of predicted classes of each decision.

    Args:
        comparison: What the systems predicted.
        estimates: The estimates of each result, or None.
        leads: Number of leads.
        format_cell: Formats an estimate.

    Returns:
        By system a row for each decision.
    """
    groups = {}
    for index in comparison.indices_with_leads(leads):
        if values := estimates[index]:
            columns = zip(DECISION_NAMES, CHALLENGE_METRICS, F1_METRICS, COUNT_METRICS, strict=True)
            groups[escape_unprintable(comparison.results[index].system)] = [
                [Cell(decision), *(format_cell(values[name]) for name in names)] for decision, *names in columns
            ]
    return groups


def class_rows(comparison: Comparison, metrics: MetricTable, leads: int) -> dict[str, list[list[Cell]]]:
    """List the measures of each class that recordings have, the most frequent first.

    Returns:
        By measure a row for each class with a cell for each system.
    """
    indices, labelled = comparison.indices_with_leads(leads), comparison.labels.sum(axis=0)
    known = np.array([comparison.results[index].known_classes for index in indices])
    return {
        name: [[Cell(comparison.class_table.abbreviations[column], pluralise(labelled[column], "recording")),
                *estimate_cells([metrics.by_class[index][name][:, column] for index in indices], known[:, column])]
               for column in rank_classes(labelled)]
        for name in CLASS_METRICS
    }  # fmt: skip


def source_rows(comparison: Comparison, metrics: MetricTable, leads: int) -> dict[str, list[list[Cell]]]:
    """List the metrics of each source: by metric a row with a cell for each system."""
    indices = comparison.indices_with_leads(leads)
    sources, counts = np.unique(comparison.sources, return_counts=True)
    return {
        name: [[Cell(escape_unprintable(source), pluralise(count, "recording")),
                *estimate_cells([metrics.by_source[index][source][name] for index in indices])]
               for source, count in zip(sources.tolist(), counts.tolist(), strict=True)]
        for name in METRICS
    }  # fmt: skip


def cost_rows(comparison: Comparison, leads: int) -> list[list[Cell]]:
    """List the costs of each system; trainings stopped by the limit are emphasised."""
    rows = []
    for result in (comparison.results[index] for index in comparison.indices_with_leads(leads)):
        stopped = pluralise(result.time_limited, "training") if result.time_limited else "none"
        rows.append([Cell(escape_unprintable(result.system)), Cell(f"{result.networks:,}"),
                     Cell(f"{result.parameters:,}"), Cell(format_duration(result.training_seconds)),
                     Cell(f"{result.epochs:,}"), Cell(stopped, strong=result.time_limited > 0),
                     Cell(f"{1e3 * result.prediction_seconds:,.1f} ms")])  # fmt: skip
    return rows
