"""What a comparison of systems came to, as tables, and all that is written of it."""

from typing import NamedTuple

import numpy as np

from ecg.data.labels import ABBREVIATIONS
from ecg.data.wave_peaks import neurokit_version
from ecg.evaluation.bootstrap import CLASS_METRICS, METRICS
from ecg.reports.comparison_charts import NOT_KNOWN, by_frequency
from ecg.reports.training_report import versions
from ecg.reports.wording import differing
from ecg.runtime.console import (
    abbreviated_list,
    escape_unprintable,
    format_duration,
    format_estimate,
    group_reasons,
    pluralise,
)

FOLDER = "comparison"
# Columns: recordings that have a class by their labels, that are answered so, and that are so rightly.
ANSWERS_BY_CLASS = ("labelled", "optimised", "optimised rightly", "answered", "answered rightly")
COSTS = ("networks", "weights", "training seconds", "epochs", "ended by the time limit", "answering seconds")


def fact_tables(facts):
    """Return the facts as tables by name: one of those that are a text or number, and those that are tables."""
    plain = [(name, value) for name, value in facts.items() if not isinstance(value, list)]
    return {"facts": [("fact", "value"), *plain]} | {
        "".join(c if c.isalnum() else "_" for c in name): rows for name, rows in facts.items() if isinstance(rows, list)
    }


def tables(comparison, found):
    """Return all tables of a comparison by name, of estimates with the ends of their intervals."""
    labels, overall, differences, by_class, parts, costs = comparison.labels, [], [], [], {"source": [], "fold": []}, []
    for place, trial in enumerate(comparison.results):
        name = trial.system, trial.leads
        overall.append((*name, len(labels), *_spread(found.overall[place], METRICS)))
        costs.append((*name, trial.networks, trial.parameters, trial.training_seconds, trial.epochs, trial.time_limited,
                      trial.prediction_seconds))  # fmt: skip
        if found.differences[place]:
            differences.append((*name, comparison.systems[0], *_spread(found.differences[place], METRICS)))
        kinds = labels, trial.optimised, labels & trial.optimised, trial.predictions, labels & trial.predictions
        counts = np.array([kind.sum(axis=0) for kind in kinds]).T.tolist()
        for column, count in enumerate(counts):
            estimates = {kind: values[:, column] for kind, values in found.by_class[place].items()}
            known = int(trial.known_classes[column])
            by_class.append((*name, ABBREVIATIONS[column], known, *count, *_spread(estimates, CLASS_METRICS)))
        for kind, groups, measured in (
            ("source", comparison.sources, found.by_source[place]),
            ("fold", comparison.folds, found.by_fold[place]),
        ):
            for group, estimates in measured.items():
                parts[kind].append((*name, group, int((groups == group).sum()), *_spread(estimates, METRICS)))
    header = ("system", "leads")
    return {
        "recordings": recordings(comparison),
        "overall": [(*header, "recordings", *_ends(METRICS)), *overall],
        "differences": [(*header, "minus", *_ends(METRICS)), *differences],
        "by_class": [(*header, "class", "known", *ANSWERS_BY_CLASS, *_ends(CLASS_METRICS)), *by_class],
        "by_source": [(*header, "source", "recordings", *_ends(METRICS)), *parts["source"]],
        "by_fold": [(*header, "fold", "recordings", *_ends(METRICS)), *parts["fold"]],
        "costs": [(*header, *COSTS), *costs],
    }


def _ends(names):
    return [f"{name}{end}" for name in names for end in ("", " low", " high")]


def _spread(estimates, names):
    return [float(number) for name in names for number in estimates[name]]


def recordings(comparison):
    """Return as a table how many recordings there are of each source, in all and in each fold of several."""
    folds = np.unique(comparison.folds).tolist()
    folds = folds if len(folds) > 1 else []
    rows = []
    for source in np.unique(comparison.sources).tolist():
        own = comparison.sources == source
        rows.append((source, int(own.sum()), *(int((own & (comparison.folds == fold)).sum()) for fold in folds)))
    return [("source", "recordings", *(f"fold {fold}" for fold in folds)), *rows]


def facts_of(data, protocol, hours, systems, store, dropped, failed=""):
    """Return what a comparison's page tells beside what was measured: a dict.

    hours: those of each system and part, or None; dropped: pairs of a record that is left out and the reason; `failed`
    says what is not on the page, and why.
    """
    held = f"each of {protocol.folds} folds in turn"
    if protocol.leave_out:
        held = f"all of {', '.join(np.unique(store.sources[protocol.is_left_out(store.sources)]).tolist())}"
    reasons = [f"{len(names):,}: {reason} ({abbreviated_list(names)})" for reason, names in group_reasons(dropped)]
    made_by = versions() | ({"neurokit2": neurokit_version()} if any(one.peaks for one in systems) else {})
    given = {
        "epochs of each network at the most": protocol.epochs or "as the system has them",
        "batch at the most": protocol.batch,
        "precision": protocol.precision,
        **{f"{name} of networks that have one": size for name, size in protocol.sizes.items()},
        "failed": failed or None,
    }
    return {
        "data": str(data),
        "recordings used": len(store),
        "recordings left out": "; ".join(reasons) or "none",
        "held out": held,
        "time limit of each system and part": "none" if hours is None else format_duration(3600 * hours),
        **{name: value for name, value in given.items() if value is not None},
        "seed": protocol.seed,
        "versions": ", ".join(f"{name} {number}" for name, number in made_by.items()),
        "settings that differ": differing(systems),
    }


SCORES = ("system", *METRICS)
COST = ("system", "networks", "weights", "training", "epochs", "ended by the time limit", "answering a recording")


def named(trial, note=""):
    """Return the Cell that names the system of a trial."""
    return Cell(escape_unprintable(trial.system), note)


def cells_of(estimates, known=None):
    """Return a Cell for each of the estimates of systems, (n, 3), with its interval; of several the best stands out.

    known: whether each of the systems knows the class, where it is one.
    """
    estimates = np.asarray(estimates)
    known = np.ones(len(estimates), bool) if known is None else known
    values = np.where(known, estimates[:, 0], np.nan)
    best = np.nanmax(values) if len(values) > 1 and not np.isnan(values).all() else None
    return [
        Cell(*format_estimate(each), strong=bool(value == best)) if one else Cell(NOT_KNOWN)
        for each, value, one in zip(estimates, values, known, strict=True)
    ]


def score_rows(comparison, found, leads):
    """Return for each system with so many leads a row of Cells: its name, and its measures with their intervals."""
    places = comparison.indices_with_leads(leads)
    columns = [cells_of([found.overall[place][name] for place in places]) for name in METRICS]
    rows = []
    for place, *cells in zip(places, *columns, strict=True):
        cut = comparison.results[place].time_limited
        note = f"{pluralise(cut, 'training')} cut short" if cut else ""
        rows.append([named(comparison.results[place], note), *cells])
    return rows


def difference_rows(comparison, found, leads):
    """Return for each system with so many leads but the first a row of Cells: how its measures differ from that one's.

    What an interval tells from 0 stands out.
    """
    rows = []
    for place in comparison.indices_with_leads(leads):
        estimates = found.differences[place]
        if estimates:
            cells = [
                Cell(
                    *format_estimate(estimates[name], "+"),
                    strong=bool(estimates[name][1] > 0 or estimates[name][2] < 0),
                )
                for name in METRICS
            ]
            rows.append([named(comparison.results[place]), *cells])
    return rows


def class_rows(comparison, found, leads):
    """Return by measure rows of Cells: a class, the most frequent first, and a cell for each system with so many leads.

    Classes that no recording has are left out.
    """
    places, labelled = comparison.indices_with_leads(leads), comparison.labels.sum(axis=0)
    known = np.array([comparison.results[place].known_classes for place in places])
    return {
        name: [
            [
                Cell(ABBREVIATIONS[column], pluralise(labelled[column], "recording")),
                *cells_of([found.by_class[place][name][:, column] for place in places], known[:, column]),
            ]
            for column in by_frequency(labelled)
        ]
        for name in CLASS_METRICS
    }


def source_rows(comparison, found, leads):
    """Return by measure rows of Cells: a source, and a cell for each system with so many leads."""
    places = comparison.indices_with_leads(leads)
    sources, counts = np.unique(comparison.sources, return_counts=True)
    return {
        name: [
            [
                Cell(escape_unprintable(source), pluralise(count, "recording")),
                *cells_of([found.by_source[place][source][name] for place in places]),
            ]
            for source, count in zip(sources.tolist(), counts.tolist(), strict=True)
        ]
        for name in METRICS
    }


def cost_rows(comparison, leads):
    """Return for each system with so many leads a row of Cells: what was trained, and the time it takes.

    That trainings were ended by the time limit stands out.
    """
    return [
        [named(one), Cell(f"{one.networks:,}"), Cell(f"{one.parameters:,}"), Cell(format_duration(one.training_seconds)),
         Cell(f"{one.epochs:,}"), Cell(pluralise(one.time_limited, "training") if one.time_limited else "none", strong=one.time_limited > 0),
         Cell(f"{1e3 * one.prediction_seconds:,.1f} ms")]
        for one in (comparison.results[place] for place in comparison.indices_with_leads(leads))
    ]  # fmt: skip


def setting_rows(rows):
    """Return rows of words, a setting's title and what it is for each system, as Cells.

    What is another than with most of the systems stands out.
    """
    told = []
    for name, *words in rows:
        most = next((word for word in words if 2 * words.count(word) > len(words)), None)
        cells = [Cell(escape_unprintable(str(word)), strong=most is not None and word != most) for word in words]
        told.append([Cell(escape_unprintable(str(name))), *cells])
    return told


class Cell(NamedTuple):
    """A cell of a table: its text, what is beneath it in small, and whether it is to stand out."""

    text: str
    note: str = ""
    strong: bool = False
