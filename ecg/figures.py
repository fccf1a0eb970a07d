"""The pictures of a comparison, each with what it shows in words."""

import math
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ecg.labels import ABBREVIATIONS
from ecg.measures import ANSWERED, AT_HALF, AUPRC, AUROC, F1_ANSWERED, F1_OPTIMISED, OPTIMISED
from ecg.plots import NOT_KNOWN, area_map, cost_chart, forest
from ecg.reasons import printable

SHOWN = (OPTIMISED, AUROC, AUPRC, F1_OPTIMISED)  # of the measures
DIFFERENCES = (OPTIMISED, ANSWERED, AUROC, AUPRC, F1_OPTIMISED, F1_ANSWERED)
COSTS = ("weights", "seconds of training", "milliseconds to answer a recording")
FEW = 10  # recordings of a class, below which its area is a matter of chance


class Picture(NamedTuple):
    """A picture: where it belongs, the name of its file, its title, what it shows, and that for who cannot see it."""

    place: str
    name: str
    figure: Figure
    title: str
    caption: str
    alternative: str


def pictures(comparison, found):
    """Yield the Pictures of a page, one at a time in memory."""
    for leads in comparison.lead_sets:
        places = comparison.places_of(leads)
        yield score_picture(comparison, found, places, leads)
        others = [place for place in places if found.differences[place]]
        if others:
            yield difference_picture(comparison, found, others, leads)
        if comparison.labels.any():
            yield class_picture(comparison, found, places, leads)
        if len(set(comparison.sources.tolist())) > 1:
            yield source_picture(comparison, found, places, leads)
    yield cost_picture(comparison, found)


def score_picture(comparison, found, places, leads):
    """Return the Picture of the scores of the trials at some places."""
    systems = comparison.systems_at(places)
    panels = {name: np.array([found.overall[place][name] for place in places]) for name in SHOWN}
    answered, half, measured = (
        [found.overall[place][name][0] for place in places] for name in (ANSWERED, AT_HALF, F1_ANSWERED)
    )
    beside = {OPTIMISED: {"as answered": answered, "at 0.5": half}, F1_OPTIMISED: {"as answered": measured}}
    figure = forest(systems, panels, beside)
    caption = (
        f"Dots are values, bars their 95 % intervals; the broken line is the value of {systems[0]}. What is far behind "
        "is written at the end of the axis. Each lead set has axes of its own."
    )
    alternative = in_words(systems, OPTIMISED, panels[OPTIMISED])
    return Picture(
        f"scores {leads}", f"scores_{leads}_leads", figure, f"Scores, {number_of(leads, 'lead')}", caption, alternative
    )


def difference_picture(comparison, found, places, leads):
    """Return the Picture of how trials at some places differ from the first system."""
    first, systems = comparison.systems[0], comparison.systems_at(places)
    panels = {name: np.array([found.differences[place][name] for place in places]) for name in DIFFERENCES}
    figure = forest(systems, panels, zero=True)
    title = f"Differences to {first}, {number_of(leads, 'lead')}"
    caption = (
        f"To the right of the broken line a system is better than {first}. Bars are 95 % intervals of the difference."
    )
    alternative = in_words(systems, f"{OPTIMISED}, minus {first}", panels[OPTIMISED])
    return Picture(f"differences {leads}", f"differences_{leads}_leads", figure, title, caption, alternative)


def class_picture(comparison, found, places, leads):
    """Return the Picture of the areas under the ROC curve by class, the most frequent on top."""
    trials, labelled = [comparison.trials[place] for place in places], comparison.labels.sum(axis=0)
    order = by_frequency(labelled)
    areas = np.array([found.by_class[place][AUROC][0, order] for place in places])
    known = np.array([trial.known[order] for trial in trials])
    classes = [(ABBREVIATIONS[column], labelled[column]) for column in order]
    figure = area_map([trial.system for trial in trials], classes, areas, known)
    rare = ", ".join(name for name, count in classes if count < FEW)
    missing = ", ".join(name for name, count in zip(ABBREVIATIONS, labelled, strict=True) if not count)
    caption = f"Beside a class, how many recordings have it; {NOT_KNOWN} where a system does not know it."
    caption += f" Fewer than {FEW} recordings, so that chance decides: {rare}." if rare else ""
    caption += f" In no recording: {missing}." if missing else ""
    title = f"Area under the ROC curve by class, {number_of(leads, 'lead')}"
    alternative = f"{len(classes)} classes by {number_of(len(trials), 'system')}; the numbers are in by_class.csv"
    return Picture(f"class {leads}", f"classes_{leads}_leads", figure, title, caption, alternative)


def by_frequency(labelled):
    """Return the places of classes that recordings have, by how many have them, (26,): the most frequent first."""
    return [column for column in np.argsort(-labelled, kind="stable") if labelled[column]]


def source_picture(comparison, found, places, leads):
    """Return the Picture of the scores of trials at some places in the recordings of each source."""
    systems, panels = comparison.systems_at(places), {}
    for source in np.unique(comparison.sources).tolist():
        title = f"{source}\n{number_of((comparison.sources == source).sum(), 'recording')}"
        panels[title] = np.array([found.by_source[place][source][OPTIMISED] for place in places])
    caption = f"Each source has an axis of its own; the broken line is the value of {systems[0]}."
    alternative = "; ".join(in_words(systems, title.replace("\n", ", "), panel) for title, panel in panels.items())
    title = f"{OPTIMISED.capitalize()} by source, {number_of(leads, 'lead')}"
    return Picture(f"source {leads}", f"sources_{leads}_leads", forest(systems, panels), title, caption, alternative)


def cost_picture(comparison, found):
    """Return the Picture of the scores against what they cost."""
    points = [
        (
            one.system,
            one.leads,
            estimates[OPTIMISED],
            (one.parameters, one.training_seconds, 1e3 * one.answering_seconds),
        )
        for one, estimates in zip(comparison.trials, found.overall, strict=True)
    ]
    caption = "The number in a dot is that of the leads; bars are 95 % intervals."
    alternative = f"{OPTIMISED} of each system against {', '.join(COSTS)}; the numbers are in the table above"
    figure = cost_chart(points, OPTIMISED, COSTS)
    return Picture("costs", "costs", figure, "What a score costs", caption, alternative)


def in_words(systems, name, estimates):
    """Return estimates of systems as a sentence."""
    told = (f"{printable(system)} {said(values)[0]}" for system, values in zip(systems, estimates, strict=True))
    return f"{name}: {', '.join(told)}"


def said(values, sign=""):
    """Return an estimate in words: its value, and its interval or '' where there is none."""
    value, low, high = (float(number) for number in values)
    if math.isnan(value):
        return "n/a", ""
    texts = [f"{number:{sign}.3f}".replace("-", "−") for number in (value, low, high)]
    return texts[0], "" if math.isnan(low) else f"{texts[1]} to {texts[2]}"


def number_of(number, thing):
    """Return how many there are of a thing in words."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
