"""A comparison of systems to be read: what matters of it in words, tables and pictures, as HTML and as Markdown."""

import math

import numpy as np
from matplotlib import rc_context

from ecg.files import save_figure
from ecg.gallery import number_of, pictures, said
from ecg.measures import MEASURES, OPTIMISED
from ecg.page import Cell, listed, page, picture, table
from ecg.reasons import printable

SCORES, COST = ("system", *MEASURES), ("system", "weights", "training", "answering a recording")

NOTES = (
    "Challenge metric: 1 for the labels themselves, 0 for sinus rhythm in every recording. It is given for answers "
    "with thresholds optimised on the training part of each fold (optimised), by each system's own rule (as answered), "
    "and with 0.5 for every class (at 0.5).",
    "AUROC, AUPRC and F1 are means over the classes that are labelled in the recordings; F1 is that of the optimised "
    "answers. A class that a system does not know has the probability 0 everywhere: its AUROC is 0.5 and its F1 is 0.",
    "Intervals are 95 % percentile bootstrap intervals over recordings. They tell what other recordings of the same "
    "kind would change, not what another training would. A class that a resample has no recording of is left out of "
    "its means, so that with rare classes an interval may lie to one side of its value.",
    "Differences are on the same resamples of the recordings, so that an interval without 0 tells two systems apart "
    "also where their own intervals overlap. They are not corrected for how many are looked at.",
    "Probabilities of all folds are put together, though they are of a network each. What was answered in part only "
    "is measured on the recordings that it covers, and compared on those that both cover.",
)


def html(comparison, found, facts, folder):
    """Return a page that tells of a Comparison, its Findings and facts; its pictures are left in a folder, too."""
    drawn = {}
    for one in pictures(comparison, found):
        path = folder / f"{one.name}.svg"
        with rc_context({"svg.hashsalt": one.name}):  # so that the same numbers give the same file
            save_figure(one.figure, path, metadata={"Date": None})
        drawn.setdefault(one.place, []).append(picture(path, one.title, one.caption, one.alternative))
    first = printable(comparison.systems[0])
    told = [(name, printable(str(value))) for name, value in facts.items() if not isinstance(value, list)]
    about = [table((), {"": [[Cell(name), Cell(text)] for name, text in told]}, "The comparison", text=True)]
    about += [
        table(rows[0], {"": [[Cell(printable(str(cell))) for cell in row] for row in rows[1:]]}, name.capitalize(),
              text=not all(isinstance(cell, int | float) for row in rows[1:] for cell in row[1:]))
        for name, rows in facts.items() if isinstance(rows, list) and len(rows) > 1
    ]  # fmt: skip
    several = len(comparison.systems) > 1
    scores, differences = [], []
    for leads in comparison.lead_sets:
        best = "; the best stand out" if several else ""
        rows = score_rows(comparison, found, leads)
        scores += [table(SCORES, {"": rows}, f"{number_of(leads, 'lead')}: scores with 95 % intervals{best}")]
        scores += drawn[f"scores {leads}"]
        rows = difference_rows(comparison, found, leads)
        if rows:
            title = f"{number_of(leads, 'lead')}: differences to {first} with 95 % intervals; those without 0 stand out"
            differences += [table(SCORES, {"": rows}, title), *drawn[f"differences {leads}"]]
    costs = table(COST, grouped(cost_rows, comparison), "What the systems cost")
    sections = {
        "What was compared": about,
        "Scores": scores,
        f"Differences to {first}": differences,
        "By class": drawn.get("class", []),
        "By source": drawn.get("source", []),
        "Costs": [costs, *drawn["costs"]],
        "How to read this": [listed(NOTES)],
    }
    sections = {name: parts for name, parts in sections.items() if parts}
    return page(title_of(comparison), summary(comparison, found), sections)


def markdown(comparison, found, facts):
    """Return the same without pictures, in Markdown: the facts, scores, differences and costs."""
    first = printable(comparison.systems[0])
    parts = [f"# {title_of(comparison)}", *summary(comparison, found), "## Scores"]
    parts.append(markdown_table(("leads", *SCORES), grouped(score_rows, comparison, found)))
    if any(found.differences):
        parts.append(f"## Differences to {first}")
        parts.append(markdown_table(("leads", *SCORES), grouped(difference_rows, comparison, found)))
    parts += ["## Costs", markdown_table(("leads", *COST), grouped(cost_rows, comparison)), "## How to read this"]
    parts += ["\n".join(f"- {note}" for note in NOTES), "## What was compared"]
    told = [[Cell(name), Cell(str(value))] for name, value in facts.items() if not isinstance(value, list)]
    parts.append(markdown_table(("what", ""), {None: told}))
    for name, rows in facts.items():
        if isinstance(rows, list) and len(rows) > 1:
            cells = [[Cell(str(cell)) for cell in row] for row in rows[1:]]
            parts += [f"### {name.capitalize()}", markdown_table(rows[0], {None: cells})]
    return "\n\n".join(parts) + "\n"


def title_of(comparison):
    """Return what a comparison is called."""
    counts = {"system": comparison.systems, "recording": comparison.labels, "lead set": comparison.lead_sets}
    systems, recordings, lead_sets = (number_of(len(them), thing) for thing, them in counts.items())
    return f"{systems} on {recordings}, {lead_sets}"


def summary(comparison, found):
    """Return for each lead set a sentence: which system has the best score, and which differ from the first one."""
    sentences = []
    for leads in comparison.lead_sets:
        places = [place for place, trial in enumerate(comparison.trials) if trial.leads == leads]
        known = [place for place in places if not np.isnan(found.overall[place][OPTIMISED][0])]
        if not known:
            sentences.append(f"{number_of(leads, 'lead')}: no recording was answered.")
            continue
        best = max(known, key=lambda place: found.overall[place][OPTIMISED][0])
        value, interval = said(found.overall[best][OPTIMISED])
        most = "the best Challenge metric is" if len(known) > 1 else "the Challenge metric is"
        text = (
            f"{number_of(leads, 'lead')}: {most} {value} ({interval}), by {printable(comparison.trials[best].system)}."
        )
        others = [place for place in known if found.differences[place]]
        if others:
            low, high = np.array([found.differences[place][OPTIMISED][1:] for place in others]).T
            better, worse = ((one > 0).sum() or "none" for one in (low, -high))
            first = printable(comparison.systems[0])
            text += (f" Of {number_of(len(others), 'other')}, {better} is better than {first} and {worse} worse, by "
                     "differences whose intervals are without 0.")  # fmt: skip
        sentences.append(text)
    return sentences


def grouped(rows_of, comparison, *found):
    """Return rows of Cells by lead set, where there are any: a dict by what it is called."""
    rows = {number_of(leads, "lead"): rows_of(comparison, *found, leads) for leads in comparison.lead_sets}
    return {title: own for title, own in rows.items() if own}


def markdown_table(header, groups):
    """Return a table in Markdown of rows of Cells by group, whose title is the first cell, unless it is None."""
    lines = [header, ["---"] * len(header)]
    for title, rows in groups.items():
        for cells in rows:
            texts = [f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in cells]
            lines.append(texts if title is None else [title, *texts])
    return "\n".join(
        "| " + " | ".join(printable(text).replace("<", "&lt;").replace("|", "\\|") for text in line) + " |"
        for line in lines
    )


def score_rows(comparison, found, leads):
    """Return for each system with so many leads a row of Cells: its name, and its measures with their intervals."""
    places = [place for place, trial in enumerate(comparison.trials) if trial.leads == leads]
    values = np.array([[found.overall[place][name][0] for name in MEASURES] for place in places])
    best = [np.nanmax(column) if len(places) > 1 and not np.isnan(column).all() else None for column in values.T]
    rows = []
    for place, row in zip(places, values, strict=True):
        trial = comparison.trials[place]
        covered = int(comparison.covered(trial).sum())
        note = "" if covered == len(comparison.labels) else f"{covered:,} of {len(comparison.labels):,} recordings"
        cells = [
            Cell(*said(found.overall[place][name]), strong=value == most)
            for name, value, most in zip(MEASURES, row, best, strict=True)
        ]
        rows.append([Cell(printable(trial.system), note), *cells])
    return rows


def difference_rows(comparison, found, leads):
    """Return for each system with so many leads but the first a row of Cells: how its measures differ from that one's.

    What an interval tells from 0 stands out.
    """
    rows = []
    for trial, estimates in zip(comparison.trials, found.differences, strict=True):
        if trial.leads == leads and estimates:
            cells = [
                Cell(*said(estimates[name], "+"), strong=bool(estimates[name][1] > 0 or estimates[name][2] < 0))
                for name in MEASURES
            ]
            rows.append([Cell(printable(trial.system)), *cells])
    return rows


def cost_rows(comparison, leads):
    """Return for each system with so many leads a row of Cells: its weights, and the time it takes."""
    return [
        [Cell(printable(trial.system)), Cell(f"{trial.parameters:,}"), Cell(duration(trial.training_seconds)),
         Cell(duration(trial.answering_seconds))]
        for trial in comparison.trials if trial.leads == leads
    ]  # fmt: skip


def duration(seconds):
    """Return so many seconds in the unit in which they read best."""
    for unit, length in (("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return "n/a" if math.isnan(seconds) else f"{seconds / 1e-3:.2g} ms"
