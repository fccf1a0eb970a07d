"""Scores, differences and costs of systems as rows of a table to be read, in which the best stand out."""

import numpy as np

from ecg.figures import by_frequency, number_of, said
from ecg.labels import ABBREVIATIONS
from ecg.measures import MEASURES, OF_CLASSES
from ecg.page import Cell
from ecg.plots import NOT_KNOWN
from ecg.progress import duration
from ecg.reasons import printable

SCORES = ("system", *MEASURES)
COST = ("system", "networks", "weights", "training", "epochs", "ended by the time limit", "answering a recording")


def named(trial, note=""):
    """Return the Cell that names the system of a trial."""
    return Cell(printable(trial.system), note)


def cells_of(estimates, known=None):
    """Return a Cell for each of the estimates of systems, (n, 3), with its interval; of several the best stands out.

    known: whether each of the systems knows the class, where it is one.
    """
    estimates = np.asarray(estimates)
    known = np.ones(len(estimates), bool) if known is None else known
    values = np.where(known, estimates[:, 0], np.nan)
    best = np.nanmax(values) if len(values) > 1 and not np.isnan(values).all() else None
    return [
        Cell(*said(each), strong=bool(value == best)) if one else Cell(NOT_KNOWN)
        for each, value, one in zip(estimates, values, known, strict=True)
    ]


def score_rows(comparison, found, leads):
    """Return for each system with so many leads a row of Cells: its name, and its measures with their intervals."""
    places = comparison.places_of(leads)
    columns = [cells_of([found.overall[place][name] for place in places]) for name in MEASURES]
    rows = []
    for place, *cells in zip(places, *columns, strict=True):
        cut = comparison.trials[place].cut
        note = f"{number_of(cut, 'training')} cut short" if cut else ""
        rows.append([named(comparison.trials[place], note), *cells])
    return rows


def difference_rows(comparison, found, leads):
    """Return for each system with so many leads but the first a row of Cells: how its measures differ from that one's.

    What an interval tells from 0 stands out.
    """
    rows = []
    for place in comparison.places_of(leads):
        estimates = found.differences[place]
        if estimates:
            cells = [
                Cell(*said(estimates[name], "+"), strong=bool(estimates[name][1] > 0 or estimates[name][2] < 0))
                for name in MEASURES
            ]
            rows.append([named(comparison.trials[place]), *cells])
    return rows


def class_rows(comparison, found, leads):
    """Return by measure rows of Cells: a class, the most frequent first, and a cell for each system with so many leads.

    Classes that no recording has are left out.
    """
    places, labelled = comparison.places_of(leads), comparison.labels.sum(axis=0)
    known = np.array([comparison.trials[place].known for place in places])
    return {
        name: [
            [
                Cell(ABBREVIATIONS[column], number_of(labelled[column], "recording")),
                *cells_of([found.by_class[place][name][:, column] for place in places], known[:, column]),
            ]
            for column in by_frequency(labelled)
        ]
        for name in OF_CLASSES
    }


def source_rows(comparison, found, leads):
    """Return by measure rows of Cells: a source, and a cell for each system with so many leads."""
    places = comparison.places_of(leads)
    sources, counts = np.unique(comparison.sources, return_counts=True)
    return {
        name: [
            [
                Cell(printable(source), number_of(count, "recording")),
                *cells_of([found.by_source[place][source][name] for place in places]),
            ]
            for source, count in zip(sources.tolist(), counts.tolist(), strict=True)
        ]
        for name in MEASURES
    }


def cost_rows(comparison, leads):
    """Return for each system with so many leads a row of Cells: what was trained, and the time it takes.

    That trainings were ended by the time limit stands out.
    """
    return [
        [named(one), Cell(f"{one.networks:,}"), Cell(f"{one.parameters:,}"), Cell(duration(one.training_seconds)),
         Cell(f"{one.epochs:,}"), Cell(number_of(one.cut, "training") if one.cut else "none", strong=one.cut > 0),
         Cell(f"{1e3 * one.answering_seconds:,.1f} ms")]
        for one in (comparison.trials[place] for place in comparison.places_of(leads))
    ]  # fmt: skip


def setting_rows(rows):
    """Return rows of words, a setting's title and what it is for each system, as Cells.

    What is another than with most of the systems stands out.
    """
    told = []
    for name, *words in rows:
        most = next((word for word in words if 2 * words.count(word) > len(words)), None)
        cells = [Cell(printable(str(word)), strong=most is not None and word != most) for word in words]
        told.append([Cell(printable(str(name))), *cells])
    return told
