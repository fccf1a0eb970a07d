"""Measure whether explanations point at the true evidence, on synthetic recordings.

python -m benchmarks.explanations FOLDER [--model MODEL] [--held-out N] [--per-class N] [--classes NAME ...] [--seed S]

A network of 12 leads is trained on synthetic recordings with true labels, unless --model names a trained one. Held-out
recordings whose class is predicted are explained by each method. The simulator knows where each class shows
(ecg.data.synthetic_evidence).

The pointing game (Zhang et al. 2016) counts how often the largest smoothed relevance lies within the evidence, give or
take 50 ms. Chance is the share of the time that the evidence covers. The sanity check (Adebayo et al. 2018) plays it
with random weights in all layers, too. Where a random network points as well, the evidence is the largest wave, which
any network sees, and the game says nothing of what was learnt. A second table has the rank correlation with the
original relevance, and of its size without the sign, as layers are randomised from the top.

In the first table, hits above chance are bold, and a star says that they are above those of random weights. The classes
for which each method fails to beat chance follow. The numbers are written to FOLDER/explanations.json.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import spearmanr

from ecg.commands.train import Settings, train
from ecg.data.labels import CLASS_INDEX, TRAINED_CLASSES
from ecg.data.leads import LEADS
from ecg.data.records import read_record
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.data.synthetic_evidence import INTERVALS
from ecg.models.bundle import load_bundle
from ecg.models.ensemble import Ensemble, Group, Member
from ecg.models.resnets import NetworkSettings
from ecg.runtime.console import Progress, start_logging
from ecg.runtime.files import to_json
from ecg.systems.attribution import METHODS
from ecg.systems.explanations import explain, smooth_relevance
from ecg.systems.recipes import AS_LABELLED

TOLERANCE = 0.05  # s
CLASSES = tuple(name for name in INTERVALS if name in TRAINED_CLASSES)
TRUE_LABELS = SyntheticSettings(cpsc_omits=False, ningbo_flutter=False, clean=True)
NETWORK = NetworkSettings(width=16, kernels=(11, 9, 7))  # smaller than the method's, to save time
CASCADE = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # shares of the layers that are randomised, from the top
RESAMPLES = 2000


class Case(NamedTuple):
    """A recording of which a class is explained."""

    header: object
    recording: np.ndarray
    class_name: str
    evidence: object


class Pointing(NamedTuple):
    """Whether the largest relevance lies within the evidence, 0 to 1, and the share of the time of the evidence."""

    hit: float
    chance: float


def train_model(options):
    """Train a network on synthetic recordings with true labels, or load it."""
    if options.model:
        return load_bundle(options.model, LEADS)
    data, model = options.folder / "data", options.folder / "model"
    if not data.exists():
        synthesize(data, options.records, options.seed, options.kind, options.jobs)
    settings = Settings(seed=options.seed, cleaning=AS_LABELLED, network=options.network, lead_sets=(12,),
                        jobs=options.jobs)  # fmt: skip
    if options.epochs:
        settings = replace(settings, training=replace(settings.training, epochs=options.epochs))
    train(data, model, settings)
    return load_bundle(model, LEADS)


def choose_cases(bundle, options):
    """Return held-out recordings and classes that they have and the model predicts."""
    folder, counts, cases = options.folder / "held out", dict.fromkeys(options.classes, 0), []
    for facts in synthesize(folder, options.held_out, options.seed + 1000, options.kind, options.jobs):
        wanted = [name for name in facts.evidence if counts.get(name, options.per_class) < options.per_class]
        if wanted:
            header, recording = read_record(folder / f"{facts.name}.hea")
            predicted = bundle.predict_recording(header, recording).outputs
            for name in (name for name in wanted if predicted[CLASS_INDEX[name]] or options.missed):
                counts[name] += 1
                cases.append(Case(header, recording, name, facts.evidence[name]))
    return cases


def randomise(bundle, share, seed=0):
    """Return a bundle whose networks have random weights in a share of their layers, from the top."""
    members = []
    for index, member in enumerate(bundle.ensemble.general.members):
        n_outputs = len(bundle.ensemble.general.classes)
        fresh = Member.build(member.leads, member.settings, n_outputs, member.output_activation, member.view)
        initialise(fresh.network, seed + index)
        pairs = [pair for pair in zip(member.network.layers, fresh.network.layers, strict=True) if pair[0].weights]
        for trained, untrained in pairs[: len(pairs) - round(share * len(pairs))]:
            untrained.set_weights(trained.get_weights())
        members.append(fresh)
    group = Group(bundle.ensemble.general.classes, tuple(members))
    return replace(bundle, ensemble=Ensemble(group))


def initialise(network, seed):
    """Give kernels of a network normal weights with He's variance; all else stays as it is built."""
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        weights = [
            rng.normal(0, np.sqrt(2 / np.prod(values.shape[:-1])), values.shape) if values.ndim > 1 else values
            for values in layer.get_weights()
        ]
        layer.set_weights(weights)


def play(explanation, evidence):
    """Play the pointing game; several largest values count by their share."""
    relevance = smooth_relevance(explanation).max(axis=1)
    times = (np.arange(len(relevance)) + 0.5) / explanation.rate
    covered = evidence.cover(times, TOLERANCE)
    largest = relevance >= relevance.max() - 1e-6 * np.abs(relevance).max()
    return Pointing(float(covered[largest].mean()), float(covered.mean()))


def explain_cases(bundle, cases, method, title):
    """Return the explanations of cases by a method."""
    explanations = []
    with Progress(title, len(cases), "explanations") as progress:
        for case in cases:
            explanations.append(explain(bundle, case.header, case.recording, case.class_name, method))
            progress.advance()
    return explanations


def interval(values, seed=0):
    """Return the mean of values and its 95 % bootstrap interval over recordings."""
    values = np.asarray(values, float)
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    return float(values.mean()), *map(float, np.quantile(values[drawn].mean(axis=1), (0.025, 0.975)))


def measure_pointing(bundle, cases, options):
    """Return the results of the pointing game by class and method, for trained and for random weights."""
    random, table = randomise(bundle, 1.0, options.seed), {}
    for method in METHODS:
        games = [
            [play(explanation, case.evidence) for explanation, case in zip(explained, cases, strict=True)]
            for explained in (
                explain_cases(bundle, cases, method, method),
                explain_cases(random, cases, method, f"{method}, random weights"),
            )
        ]
        for name in [*options.classes, "all"]:
            chosen = [index for index, case in enumerate(cases) if name in (case.class_name, "all")]
            if chosen:
                trained, untrained = ([game[index] for index in chosen] for game in games)
                table.setdefault(name, {})[method] = summarise(trained, untrained)
    return table


def summarise(trained, untrained):
    """Summarise the games of a class, with trained and with random weights.

    A method passes if the interval of the difference between hits and chance lies above 0.
    """
    hits, chance = np.array(trained).T
    random = np.array(untrained)[:, 0]
    above_chance, above_random = interval(hits - chance), interval(hits - random)
    return {
        "recordings": len(hits), "hits": interval(hits), "chance": float(chance.mean()), "random": interval(random),
        "above chance": above_chance, "above random": above_random,
        "passes": above_chance[1] > 0,
    }  # fmt: skip


def measure_cascade(bundle, cases, options):
    """Return rank correlations with the original relevance, and hits, by share of random layers and by method."""
    rows = {}
    for method in METHODS:
        original = explain_cases(bundle, cases, method, method)
        for share in CASCADE:
            explained = explain_cases(randomise(bundle, share, options.seed), cases, method, f"{method}, {share:.0%}")
            pairs = [
                (smooth_relevance(a).ravel(), smooth_relevance(b).ravel())
                for a, b in zip(original, explained, strict=True)
            ]
            rows.setdefault(share, {})[method] = {
                "correlation": interval([rank_correlation(*pair) for pair in pairs]),
                "correlation of sizes": interval([rank_correlation(*map(np.abs, pair)) for pair in pairs]),
                "hits": interval([play(e, case.evidence).hit for e, case in zip(explained, cases, strict=True)]),
            }
    return rows


def rank_correlation(first, second):
    """Return Spearman's rank correlation; 0 if one does not vary."""
    return float(spearmanr(first, second).statistic) if np.ptp(first) and np.ptp(second) else 0.0


def format_interval(values):
    """Return a mean and its interval as text."""
    return f"{values[0]:.2f} ({values[1]:.2f} to {values[2]:.2f})"


def format_pointing(table):
    """Yield the lines of the table of the pointing game, in Markdown."""
    yield f"| class | recordings | chance | {' | '.join(f'{name} | random weights' for name in METHODS)} |"
    yield "|---" * (3 + 2 * len(METHODS)) + "|"
    for name, methods in table.items():
        first = next(iter(methods.values()))
        cells = [name, f"{first['recordings']}", f"{first['chance']:.2f}"]
        for result in methods.values():
            hits, random = format_interval(result["hits"]), f"{result['random'][0]:.2f}"
            cells += [f"**{hits}**" if result["passes"] else hits, random + " *" * (result["above random"][1] > 0)]
        yield f"| {' | '.join(cells)} |"


def format_cascade(rows):
    """Yield the lines of the table of the sanity check, in Markdown."""
    yield f"| random layers | {' | '.join(f'{name}: correlation | of sizes | hits' for name in METHODS)} |"
    yield "|---" * (1 + 3 * len(METHODS)) + "|"
    for share, methods in rows.items():
        cells = [f"{result[key][0]:.2f}" for result in methods.values() for key in result]
        yield f"| {share:.0%} | {' | '.join(cells)} |"


def failures(table):
    """Return the classes for which each method fails, as NOT_OFFERED of ecg.systems.explanations has them."""
    failed = {
        method: tuple(name for name, methods in table.items() if name != "all" and not methods[method]["passes"])
        for method in METHODS
    }
    return {method: names for method, names in failed.items() if names}


def main(arguments=None):
    """Measure the methods and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--held-out", type=int, default=1500)
    parser.add_argument("--per-class", type=int, default=30)
    parser.add_argument("--cascade", type=int, default=40, help="number of recordings of the second table")
    parser.add_argument("--classes", nargs="+", choices=CLASSES, default=CLASSES)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--width", type=int, default=NETWORK.width)
    parser.add_argument("--realistic", action="store_true")
    parser.add_argument("--missed", action="store_true", help="explain classes that the model misses, too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args(arguments)
    options.kind = replace(TRUE_LABELS, realistic=options.realistic)
    options.network = replace(NETWORK, width=options.width)
    start_logging()
    bundle = train_model(options)
    cases = choose_cases(bundle, options)
    table = measure_pointing(bundle, cases, options)
    spread = [cases[index] for index in np.linspace(0, len(cases) - 1, min(options.cascade, len(cases))).astype(int)]
    rows = measure_cascade(bundle, spread, options)
    failed = failures(table)
    (options.folder / "explanations.json").write_text(to_json({"pointing": table, "cascade": rows, "failed": failed}))
    for line in (*format_pointing(table), "", *format_cascade(rows), "", f"NOT_OFFERED = {failed}"):
        print(line)


if __name__ == "__main__":
    main()
