"""What a comparison of systems came to, as tables, and all that is written of it."""

from pathlib import Path

import numpy as np

from ecg.files import aside
from ecg.labels import ABBREVIATIONS
from ecg.measures import MEASURES, OF_CLASSES, RESAMPLES, measure
from ecg.peaks import neurokit_version
from ecg.progress import duration
from ecg.reasons import first_of, grouped
from ecg.report import versions, write_tables
from ecg.synopsis import html, markdown
from ecg.wording import differing

FOLDER = "comparison"
# Columns: recordings that have a class by their labels, that are answered so, and that are so rightly.
ANSWERS_BY_CLASS = ("labelled", "optimised", "optimised rightly", "answered", "answered rightly")
COSTS = ("networks", "weights", "training seconds", "epochs", "ended by the time limit", "answering seconds")


def write_comparison(folder, comparison, facts, resamples=RESAMPLES, seed=0):
    """Measure a Comparison, and write tables, pictures and a page into folder/comparison, in place of what is there.

    facts: what else is to be told of it, by its name a text or number, or a table: a list of rows, the first of them
    the names of the columns. Returns the path of the page.
    """
    found = measure(comparison, resamples, seed)
    facts = {**facts, "bootstrap": f"{resamples:,} resamples, seed {seed}"}
    with aside(Path(folder) / FOLDER) as part:
        part.mkdir(parents=True)
        named = tables(comparison, found)
        write_tables(part, fact_tables(facts) | named)
        facts["recordings"] = named["recordings"]
        texts = {"md": markdown(comparison, found, facts), "html": html(comparison, found, facts, part)}
        for ending, text in texts.items():
            (part / f"comparison.{ending}").write_text(text, encoding="utf-8")
    return Path(folder) / FOLDER / "comparison.html"


def fact_tables(facts):
    """Return the facts as tables by name: one of those that are a text or number, and those that are tables."""
    plain = [(name, value) for name, value in facts.items() if not isinstance(value, list)]
    return {"facts": [("fact", "value"), *plain]} | {
        "".join(c if c.isalnum() else "_" for c in name): rows for name, rows in facts.items() if isinstance(rows, list)
    }


def tables(comparison, found):
    """Return all tables of a comparison by name, of estimates with the ends of their intervals."""
    labels, overall, differences, by_class, parts, costs = comparison.labels, [], [], [], {"source": [], "fold": []}, []
    for place, trial in enumerate(comparison.trials):
        name = trial.system, trial.leads
        overall.append((*name, len(labels), *_spread(found.overall[place], MEASURES)))
        costs.append((*name, trial.networks, trial.parameters, trial.training_seconds, trial.epochs, trial.cut,
                      trial.answering_seconds))  # fmt: skip
        if found.differences[place]:
            differences.append((*name, comparison.systems[0], *_spread(found.differences[place], MEASURES)))
        kinds = labels, trial.optimised, labels & trial.optimised, trial.answers, labels & trial.answers
        counts = np.array([kind.sum(axis=0) for kind in kinds]).T.tolist()
        for column, count in enumerate(counts):
            estimates = {kind: values[:, column] for kind, values in found.by_class[place].items()}
            known = int(trial.known[column])
            by_class.append((*name, ABBREVIATIONS[column], known, *count, *_spread(estimates, OF_CLASSES)))
        for kind, groups, measured in (
            ("source", comparison.sources, found.by_source[place]),
            ("fold", comparison.folds, found.by_fold[place]),
        ):
            for group, estimates in measured.items():
                parts[kind].append((*name, group, int((groups == group).sum()), *_spread(estimates, MEASURES)))
    header = ("system", "leads")
    return {
        "recordings": recordings(comparison),
        "overall": [(*header, "recordings", *_ends(MEASURES)), *overall],
        "differences": [(*header, "minus", *_ends(MEASURES)), *differences],
        "by_class": [(*header, "class", "known", *ANSWERS_BY_CLASS, *_ends(OF_CLASSES)), *by_class],
        "by_source": [(*header, "source", "recordings", *_ends(MEASURES)), *parts["source"]],
        "by_fold": [(*header, "fold", "recordings", *_ends(MEASURES)), *parts["fold"]],
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
        held = f"all of {', '.join(np.unique(store.sources[protocol.own(store.sources)]).tolist())}"
    reasons = [f"{len(names):,}: {reason} ({first_of(names)})" for reason, names in grouped(dropped)]
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
        "time limit of each system and part": "none" if hours is None else duration(3600 * hours),
        **{name: value for name, value in given.items() if value is not None},
        "seed": protocol.seed,
        "versions": ", ".join(f"{name} {number}" for name, number in made_by.items()),
        "settings that differ": differing(systems),
    }
