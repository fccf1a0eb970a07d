"""Tables of a comparison of systems: for CSV files, and as cells for the page."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ecg.data.labels import ABBREVIATIONS
from ecg.evaluation.bootstrap import CLASS_METRICS, METRICS, Comparison, MetricTable, SystemResult
from ecg.reports.comparison_charts import NOT_KNOWN, rank_classes
from ecg.reports.html_page import Cell
from ecg.reports.training_tables import Table
from ecg.runtime.console import escape_unprintable, format_duration, format_estimate, pluralise

CLASS_COUNTS = ("labelled", "optimised", "optimised correctly", "predicted", "predicted correctly")
COSTS = ("networks", "weights", "training seconds", "epochs", "stopped by the time limit", "prediction seconds")
SCORE_HEADER = ("system", *METRICS)
COST_HEADER = ("system", "networks", "weights", "training", "epochs", "stopped by the time limit",
               "prediction of a recording")  # fmt: skip


def comparison_tables(comparison: Comparison, metrics: MetricTable) -> dict[str, Table]:
    """Collect all tables of a comparison.

    Args:
        comparison: What the systems predicted.
        metrics: What was measured of it.

    Returns:
        Tables by name. An estimate takes three columns: its value and the ends of its interval.
    """
    labels, header = comparison.labels, ("system", "leads")
    overall, differences, by_class, costs = [], [], [], []
    groups: dict[str, list[tuple]] = {"source": [], "fold": []}
    for index, result in enumerate(comparison.results):
        name = result.system, result.leads
        overall.append((*name, len(labels), *_numbers(metrics.overall[index], METRICS)))
        costs.append((*name, result.networks, result.parameters, result.training_seconds, result.epochs,
                      result.time_limited, result.prediction_seconds))  # fmt: skip
        if difference := metrics.differences[index]:
            differences.append((*name, comparison.systems[0], *_numbers(difference, METRICS)))
        decisions = labels, result.optimised, labels & result.optimised, result.predictions, labels & result.predictions
        counts = np.array([decision.sum(axis=0) for decision in decisions]).T.tolist()
        for column, count in enumerate(counts):
            estimates = {name: values[:, column] for name, values in metrics.by_class[index].items()}
            known = int(result.known_classes[column])
            by_class.append((*name, ABBREVIATIONS[column], known, *count, *_numbers(estimates, CLASS_METRICS)))
        for title, members, measured in (
            ("source", comparison.sources, metrics.by_source[index]),
            ("fold", comparison.folds, metrics.by_fold[index]),
        ):
            groups[title] += [
                (*name, group, int((members == group).sum()), *_numbers(estimates, METRICS))
                for group, estimates in measured.items()
            ]
    ends = _with_ends(METRICS)
    return {
        "recordings": recording_counts(comparison),
        "overall": [(*header, "recordings", *ends), *overall],
        "differences": [(*header, "reference", *ends), *differences],
        "by_class": [(*header, "class", "known", *CLASS_COUNTS, *_with_ends(CLASS_METRICS)), *by_class],
        **{f"by_{title}": [(*header, title, "recordings", *ends), *rows] for title, rows in groups.items()},
        "costs": [(*header, *COSTS), *costs],
    }


def _with_ends(names: Iterable[str]) -> list[str]:
    return [f"{name}{end}" for name in names for end in ("", " low", " high")]


def _numbers(estimates: Mapping[str, np.ndarray], names: Iterable[str]) -> list[float]:
    return [float(number) for name in names for number in estimates[name]]


def recording_counts(comparison: Comparison) -> Table:
    """Count the recordings of each source, in all and in each fold."""
    folds = np.unique(comparison.folds).tolist()
    folds = folds if len(folds) > 1 else []
    rows = []
    for source in np.unique(comparison.sources).tolist():
        members = comparison.sources == source
        in_folds = (int((members & (comparison.folds == fold)).sum()) for fold in folds)
        rows.append((source, int(members.sum()), *in_folds))
    return [("source", "recordings", *(f"fold {fold}" for fold in folds)), *rows]


def fact_tables(facts: Mapping[str, object]) -> dict[str, Table]:
    """Turn facts into tables: one of strings and numbers, and the given tables."""
    rows = [(name, value) for name, value in facts.items() if not isinstance(value, list)]
    return {"facts": [("fact", "value"), *rows]} | {
        "".join(c if c.isalnum() else "_" for c in name): value
        for name, value in facts.items()
        if isinstance(value, list)
    }


def system_cell(result: SystemResult, note: str = "") -> Cell:
    """Name the system of a result."""
    return Cell(escape_unprintable(result.system), note)


def estimate_cell(estimate: np.ndarray, strong: bool, sign: str = "") -> Cell:
    """Format an estimate (3,) with its interval beneath it."""
    value, interval = format_estimate(estimate, sign)
    return Cell(value, interval, strong)


def estimate_cells(estimates: Sequence[np.ndarray], known: np.ndarray | None = None) -> list[Cell]:
    """Format an estimate of each system with its interval, the best one emphasised.

    Args:
        estimates: (n_systems, 3).
        known: Whether each system knows the class that is measured, (n_systems,); all do if None.
    """
    values = np.array([estimate[0] for estimate in estimates])
    known = np.ones(len(values), bool) if known is None else known
    values = np.where(known, values, np.nan)
    best = np.nanmax(values) if len(values) > 1 and not np.isnan(values).all() else None
    return [
        estimate_cell(estimate, bool(value == best)) if is_known else Cell(NOT_KNOWN)
        for estimate, value, is_known in zip(estimates, values, known, strict=True)
    ]


def score_rows(comparison: Comparison, metrics: MetricTable, leads: int) -> list[list[Cell]]:
    """List the scores of each system with a number of leads."""
    indices = comparison.indices_with_leads(leads)
    columns = [estimate_cells([metrics.overall[index][name] for index in indices]) for name in METRICS]
    rows = []
    for index, *cells in zip(indices, *columns, strict=True):
        cut = comparison.results[index].time_limited
        rows.append(
            [system_cell(comparison.results[index], f"{pluralise(cut, 'training')} stopped" * bool(cut)), *cells]
        )
    return rows


def difference_rows(comparison: Comparison, metrics: MetricTable, leads: int) -> list[list[Cell]]:
    """List how each other system differs from the first one.

    A difference with an interval without 0 is emphasised.
    """
    rows = []
    for index in comparison.indices_with_leads(leads):
        if estimates := metrics.differences[index]:
            chosen = [estimates[name] for name in METRICS]
            cells = [estimate_cell(estimate, bool(estimate[1] > 0 or estimate[2] < 0), "+") for estimate in chosen]
            rows.append([system_cell(comparison.results[index]), *cells])
    return rows


def class_rows(comparison: Comparison, metrics: MetricTable, leads: int) -> dict[str, list[list[Cell]]]:
    """List the measures of each class that recordings have, the most frequent first.

    Returns:
        By measure a row for each class with a cell for each system.
    """
    indices, labelled = comparison.indices_with_leads(leads), comparison.labels.sum(axis=0)
    known, rows = np.array([comparison.results[index].known_classes for index in indices]), {}
    for name in CLASS_METRICS:
        rows[name] = [[Cell(ABBREVIATIONS[column], pluralise(labelled[column], "recording")),
                       *estimate_cells([metrics.by_class[index][name][:, column] for index in indices],
                                       known[:, column])]
                      for column in rank_classes(labelled)]  # fmt: skip
    return rows


def source_rows(comparison: Comparison, metrics: MetricTable, leads: int) -> dict[str, list[list[Cell]]]:
    """List the metrics of each source: by metric a row with a cell for each system."""
    indices, rows = comparison.indices_with_leads(leads), {}
    sources, counts = np.unique(comparison.sources, return_counts=True)
    for name in METRICS:
        rows[name] = [[Cell(escape_unprintable(source), pluralise(count, "recording")),
                       *estimate_cells([metrics.by_source[index][source][name] for index in indices])]
                      for source, count in zip(sources.tolist(), counts.tolist(), strict=True)]  # fmt: skip
    return rows


def cost_rows(comparison: Comparison, leads: int) -> list[list[Cell]]:
    """List the costs of each system; trainings stopped by the limit are emphasised."""
    rows = []
    for result in (comparison.results[index] for index in comparison.indices_with_leads(leads)):
        stopped = Cell(
            pluralise(result.time_limited, "training") if result.time_limited else "none",
            strong=result.time_limited > 0,
        )
        rows.append([system_cell(result), Cell(f"{result.networks:,}"), Cell(f"{result.parameters:,}"),
                     Cell(format_duration(result.training_seconds)), Cell(f"{result.epochs:,}"), stopped,
                     Cell(f"{1e3 * result.prediction_seconds:,.1f} ms")])  # fmt: skip
    return rows


def setting_rows(rows: Table) -> list[list[Cell]]:
    """List settings, with a cell for each system; uncommon values are emphasised."""
    cells = []
    for name, *values in rows:
        common = next((value for value in values if 2 * values.count(value) > len(values)), None)
        strong = [common is not None and value != common for value in values]
        cells.append([Cell(escape_unprintable(str(name))),
                      *(Cell(escape_unprintable(str(value)), strong=flag)
                        for value, flag in zip(values, strong, strict=True))])  # fmt: skip
    return cells
