"""Summarise what benchmarks.explanations measures, and format its tables."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ecg.data.labels import TRAINED_CLASSES
from ecg.data.synthetic_evidence import INTERVALS
from ecg.evaluation.bootstrap import RESAMPLES, draw_resamples, estimate_interval
from ecg.systems.attribution import METHODS

CLASSES = tuple(name for name in INTERVALS if name in TRAINED_CLASSES)
CASCADE = (0.1, 0.25, 0.5, 0.75, 1.0)  # shares of the layers that are randomised, from the top
POINTING = "pointing"
MOST_CORRELATION = 0.2  # of the shading with that of random weights
ALL = "all"  # classes together

Values = dict[str, list[float]]  # of the recordings of a part, by the name of a measure
Part = dict[str, Values]  # by POINTING, and by the share of random layers
Parts = dict[tuple[str, str], Part]  # by method and class
Estimate = tuple[float, float, float]  # mean, and the ends of its interval


class Summary(NamedTuple):
    """The results of a method for a class.

    Attributes:
        n_recordings: Number of recordings.
        hits: Share of recordings whose largest relevance lies within the evidence.
        chance: Share of the time that the evidence covers.
        above_chance: Hits above chance.
        random_hits: Hits with random weights.
        above_random: Hits above those with random weights.
        correlation: Rank correlation of the shading with that of random weights.
        lead_hits: Share of recordings whose most relevant lead shows the class; None if all leads show it.
        lead_chance: Share of the leads that show the class.
        above_lead_chance: Lead hits above chance.
    """

    n_recordings: int
    hits: Estimate
    chance: float
    above_chance: Estimate
    random_hits: Estimate
    above_random: Estimate
    correlation: Estimate
    lead_hits: Estimate | None
    lead_chance: float
    above_lead_chance: Estimate | None


SummaryTable = dict[str, dict[str, Summary]]  # by class and method


def estimate_mean(values: Sequence[float] | np.ndarray, seed: int = 0) -> Estimate:
    """Return the mean of values and its 95 % bootstrap interval over recordings."""
    array = np.asarray(values, float)
    counts = np.hstack(draw_resamples(len(array), RESAMPLES, seed))
    mean, low, high = estimate_interval(np.concatenate([[array.mean()], array @ counts / len(array)])).tolist()
    return mean, low, high


def summarise_values(values: Values) -> Summary:
    """Summarise the pointing game of a method for a class."""
    hits, chance, random, lead_hits, lead_chance = (
        np.array(values[name]) for name in ("hit", "chance", "random", "lead_hit", "lead_chance")
    )
    some_leads = bool((lead_chance < 1).all())
    return Summary(
        len(hits), estimate_mean(hits), float(chance.mean()), estimate_mean(hits - chance), estimate_mean(random),
        estimate_mean(hits - random), estimate_mean(values["correlation"]),
        estimate_mean(lead_hits) if some_leads else None, float(lead_chance.mean()),
        estimate_mean(lead_hits - lead_chance) if some_leads else None,
    )  # fmt: skip


def merge_values(parts: Parts, method: str, key: str) -> Values:
    """Return the values of all classes together."""
    merged: Values = {}
    for (part_method, _), part in parts.items():
        if part_method == method:
            for name, values in part.get(key, {}).items():
                merged.setdefault(name, []).extend(values)
    return merged


def summarise_parts(parts: Parts) -> SummaryTable:
    """Summarise the pointing game by class and method, and of all classes together."""
    table: SummaryTable = {}
    for name in CLASSES:
        for method in METHODS:
            if pointing := parts.get((method, name), {}).get(POINTING):
                table.setdefault(name, {})[method] = summarise_values(pointing)
    for method in METHODS:
        if merged := merge_values(parts, method, POINTING):
            table.setdefault(ALL, {})[method] = summarise_values(merged)
    return table


def choose_offered(table: SummaryTable) -> dict[str, tuple[str, ...]]:
    """Return the methods that pass for each class, those with most hits first.

    A class without a recording that the model predicts, and one that was not measured, has none.
    """
    offered = {}
    for name, summaries in table.items():
        passing = [
            method for method, summary in summaries.items()
            if name != ALL and summary.above_chance[1] > 0 and table[ALL][method].correlation[2] < MOST_CORRELATION
        ]  # fmt: skip
        if passing:
            offered[name] = tuple(sorted(passing, key=lambda method: -summaries[method].hits[0]))
    return offered


def format_estimate(estimate: Estimate) -> str:
    """Return a mean and its interval as text."""
    return f"{estimate[0]:.2f} ({estimate[1]:.2f} to {estimate[2]:.2f})"


def format_hits(summary: Summary | None) -> list[str]:
    """Format hits and those of random weights.

    Hits above chance are bold. A star says that they are above those of random weights.
    """
    if summary is None:
        return ["", ""]
    hits, random = format_estimate(summary.hits), f"{summary.random_hits[0]:.2f}"
    return [f"**{hits}**" if summary.above_chance[1] > 0 else hits, random + " *" * (summary.above_random[1] > 0)]


def format_pointing(table: SummaryTable) -> Iterator[str]:
    """Yield the lines of the table of the pointing game in time, in Markdown."""
    yield f"| class | recordings | chance | {' | '.join(f'{method} | random weights' for method in METHODS)} |"
    yield "|---" * (3 + 2 * len(METHODS)) + "|"
    for name, summaries in table.items():
        first = next(iter(summaries.values()))
        cells = [cell for method in METHODS for cell in format_hits(summaries.get(method))]
        yield f"| {' | '.join([name, f'{first.n_recordings}', f'{first.chance:.2f}', *cells])} |"


def format_leads(table: SummaryTable) -> Iterator[str]:
    """Yield the lines of the table of the pointing game with leads, in Markdown."""
    yield f"| class | chance | {' | '.join(METHODS)} |"
    yield "|---" * (2 + len(METHODS)) + "|"
    for name, summaries in table.items():
        first, cells = next(iter(summaries.values())), []
        if first.lead_hits is None:
            continue
        for method in METHODS:
            summary = summaries.get(method)
            if summary is None or summary.lead_hits is None or summary.above_lead_chance is None:
                cells.append("")
            else:
                hits = format_estimate(summary.lead_hits)
                cells.append(f"**{hits}**" if summary.above_lead_chance[1] > 0 else hits)
        yield f"| {name} | {first.lead_chance:.2f} | {' | '.join(cells)} |"


def format_sanity(table: SummaryTable, parts: Parts) -> Iterator[str]:
    """Yield the lines of the tables of the sanity check, in Markdown."""
    yield "| method | rank correlation of the shading with that of random weights |"
    yield "|---|---|"
    for method, summary in table.get(ALL, {}).items():
        yield f"| {method} | {format_estimate(summary.correlation)} |"
    yield ""
    yield f"| random layers | {' | '.join(f'{method}: correlation | of sizes | hits' for method in METHODS)} |"
    yield "|---" * (1 + 3 * len(METHODS)) + "|"
    for share in CASCADE:
        cells = []
        for method in METHODS:
            values = merge_values(parts, method, f"{share}")
            cells += [f"{np.mean(values[name]):.2f}" if values else "" for name in ("correlation", "size", "hit")]
        yield f"| {share:.0%} | {' | '.join(cells)} |"


def format_offered(table: SummaryTable, parts: Parts) -> Iterator[str]:
    """Yield the lines of the new OFFERED, or which parts are not measured yet."""
    missing = [f"{method} {name}" for method in METHODS for name in CLASSES if (method, name) not in parts]
    if missing:
        yield f"{len(missing)} parts are not measured yet: {', '.join(missing)}"
        return
    yield "OFFERED: dict[str, tuple[str, ...]] = {"
    for name, methods in choose_offered(table).items():
        yield f'    "{name}": ({", ".join(method.upper() for method in methods)},),'
    yield "}"
