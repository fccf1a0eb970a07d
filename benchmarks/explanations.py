"""Measure whether explanations of synthetic recordings point at the evidence.

python -m benchmarks.explanations FOLDER [--model MODEL] [--methods NAME ...] [--classes NAME ...] [--held-out N]
[--per-class N] [--cascade N] [--seed S]

A network of 12 leads is trained on synthetic recordings with true labels, unless --model names a trained one. Held-out
recordings whose class is predicted are explained by each method. The simulator knows where each class shows
(ecg.data.synthetic_evidence).

The pointing game (Zhang et al. 2016) counts how often the largest smoothed relevance lies within the evidence, give or
take 50 ms. Chance is the share of the time that the evidence covers. If only some leads show the class, it also counts
how often the lead with the largest relevance is one of them. Chance is the share of these leads.

The sanity check (Adebayo et al. 2018) plays the game with random weights in all layers, too. Where a random network
points as well, the evidence is the largest wave, which any network sees, and the game says nothing of what was learnt.
The shading has to lose its likeness to that of random weights, by Spearman's rank correlation. For a few recordings of
each class, layers are randomised from the top. A second table has the rank correlation with the original relevance, and
of its size without the sign.

A method passes for a class if its hits are above chance (the 95 % interval of the difference is above 0), and if the
correlation of the method's shading is below 0.2 (the upper bound of the interval over all classes). The program prints
the tables of benchmarks/README.md, and the table of the methods that pass, OFFERED of ecg.systems.explanations.

Each method and class is a part with a file in FOLDER/parts. The same command again goes on with what is missing. After
the first process has trained the network, several can measure different --methods or --classes in one folder at once.
The tables are of all parts in the folder.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from scipy.stats import spearmanr

from benchmarks.explanation_tables import (
    CASCADE,
    CLASSES,
    POINTING,
    Part,
    Parts,
    format_leads,
    format_offered,
    format_pointing,
    format_sanity,
    summarise_parts,
)
from ecg.commands.train import Settings, train
from ecg.data.headers import Header, parse_header
from ecg.data.labels import CLASS_INDEX
from ecg.data.leads import LEADS
from ecg.data.synthetic import SyntheticSettings, make_recording, plan_recordings, synthesize
from ecg.data.synthetic_evidence import Evidence
from ecg.models.bundle import Bundle, load_bundle
from ecg.models.ensemble import Ensemble, Group, Member
from ecg.models.network_settings import NetworkSettings
from ecg.runtime.cache import fingerprint
from ecg.runtime.console import Progress, start_logging
from ecg.runtime.executors import LocalExecutor
from ecg.runtime.files import atomic_path, to_json
from ecg.systems.attribution import METHODS
from ecg.systems.explanations import Explanation, compute_shading, explain, smooth_relevance
from ecg.systems.recipes import AS_LABELLED

TOLERANCE = 0.05  # s
TRUE_LABELS = SyntheticSettings(cpsc_omits=False, ningbo_flutter=False, clean=True)
NETWORK = NetworkSettings(width=16, kernels=(11, 9, 7))  # smaller than the method's, to save time


class Case(NamedTuple):
    """A recording, and the class whose prediction is explained.

    Attributes:
        header: Its header.
        recording: Stored integers, (L, T).
        class_name: Abbreviation of the class.
        evidence: Where the class shows.
    """

    header: Header
    recording: np.ndarray
    class_name: str
    evidence: Evidence


class Pointing(NamedTuple):
    """Result of the pointing game.

    Attributes:
        hit: Whether the largest relevance lies within the evidence, 0 to 1.
        chance: Share of the time or of the leads that the evidence covers.
    """

    hit: float
    chance: float


def train_model(options: argparse.Namespace) -> Bundle:
    """Train a network on synthetic recordings with true labels, or load it."""
    if options.model:
        return load_bundle(options.model, LEADS)
    data, model, executor = options.folder / "data", options.folder / "model", LocalExecutor(options.jobs)
    if not data.exists():
        with atomic_path(data) as temporary:
            synthesize(temporary, options.records, options.seed, options.kind, executor)
    settings = Settings(seed=options.seed, cleaning=AS_LABELLED, network=options.network, lead_sets=(12,))
    if options.epochs:
        settings = replace(settings, training=replace(settings.training, epochs=options.epochs))
    train(data, model, settings, executor=executor)
    return load_bundle(model, LEADS)


def choose_cases(bundle: Bundle, options: argparse.Namespace) -> dict[str, list[Case]]:
    """Make held-out recordings of each class that the model predicts."""
    cases: dict[str, list[Case]] = {name: [] for name in options.classes}
    seed = options.seed + 1000
    with Progress("held out", options.held_out) as progress:
        for item in enumerate(plan_recordings(options.held_out, seed, options.kind)):
            text, samples, facts = make_recording(seed, options.kind, item)
            wanted = [name for name in facts.evidence if len(cases.get(name, ())) < options.per_class and name in cases]
            if wanted:
                header, recording = parse_header(text), samples.T
                predicted = bundle.predict_recording(header, recording).outputs
                for name in (name for name in wanted if predicted[CLASS_INDEX[name]] or options.missed):
                    cases[name].append(Case(header, recording, name, facts.evidence[name]))
            progress.advance()
    return cases


def randomise_layers(bundle: Bundle, share: float, seed: int = 0) -> Bundle:
    """Return a bundle with random weights in a share of the layers, from the top."""
    members = []
    for index, member in enumerate(bundle.ensemble.general.members):
        n_outputs = len(bundle.ensemble.general.classes)
        fresh = Member.build(member.leads, member.settings, n_outputs, member.output_activation, member.view)
        initialise_network(fresh.network, seed + index)
        pairs = [pair for pair in zip(member.network.layers, fresh.network.layers, strict=True) if pair[0].weights]
        for trained, untrained in pairs[: len(pairs) - round(share * len(pairs))]:
            untrained.set_weights(trained.get_weights())
        members.append(fresh)
    group = Group(bundle.ensemble.general.classes, tuple(members))
    return replace(bundle, ensemble=Ensemble(group))


def initialise_network(network: keras.Model, seed: int) -> None:
    """Give kernels normal weights with He's variance; all else stays as it is built."""
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        weights = [
            rng.normal(0, np.sqrt(2 / np.prod(values.shape[:-1])), values.shape) if values.ndim > 1 else values
            for values in layer.get_weights()
        ]
        layer.set_weights(weights)


def score_time(explanation: Explanation, evidence: Evidence) -> Pointing:
    """Play the pointing game in time; several largest values count by their share."""
    relevance = smooth_relevance(explanation).max(axis=1)
    times = (np.arange(len(relevance)) + 0.5) / explanation.rate
    covered = evidence.cover(times, TOLERANCE)
    largest = relevance >= relevance.max() - 1e-6 * np.abs(relevance).max()
    return Pointing(float(covered[largest].mean()), float(covered.mean()))


def score_leads(explanation: Explanation, evidence: Evidence) -> Pointing:
    """Play the pointing game with leads; several largest values count by their share."""
    shows = np.isin(explanation.leads, evidence.leads)
    largest = explanation.by_lead == explanation.by_lead.max()
    return Pointing(float(shows[largest].mean()), float(shows.mean()))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation; 0 if one does not vary."""
    return float(spearmanr(first, second, axis=None).statistic) if np.ptp(first) and np.ptp(second) else 0.0


def measure_part(networks: dict[float, Bundle], cases: Sequence[Case], method: str, n_cascade: int) -> Part:
    """Measure a method on the recordings of a class.

    Args:
        networks: The trained network by 0, and those with random layers by their share.
        cases: The recordings.
        method: Name of the method.
        n_cascade: Number of recordings for which layers are randomised one after another.

    Returns:
        The values of each recording: by POINTING those of the pointing game, and by the share of random layers those
        of the cascade.
    """
    part: Part = {}

    def add(key: str, **values: float) -> None:
        for name, value in values.items():
            part.setdefault(key, {}).setdefault(name, []).append(value)

    for index, case in enumerate(cases):
        shares = CASCADE if index < n_cascade else (1.0,)
        trained, *randomised = (
            explain(networks[share], case.header, case.recording, case.class_name, method) for share in (0.0, *shares)
        )
        time, lead, random = (
            score_time(trained, case.evidence), score_leads(trained, case.evidence),
            score_time(randomised[-1], case.evidence),
        )  # fmt: skip
        add(POINTING, hit=time.hit, chance=time.chance, random=random.hit, lead_hit=lead.hit, lead_chance=lead.chance,
            correlation=rank_correlation(compute_shading(trained), compute_shading(randomised[-1])))  # fmt: skip
        for share, explanation in zip(shares, randomised, strict=True):
            if index < n_cascade:
                pair = smooth_relevance(trained), smooth_relevance(explanation)
                add(f"{share}", correlation=rank_correlation(*pair), size=rank_correlation(*map(np.abs, pair)),
                    hit=score_time(explanation, case.evidence).hit)  # fmt: skip
    return part


def save_part(path: Path, key: str, part: Part) -> None:
    """Write the values of a part, with a key of all that they depend on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(to_json({"key": key, "values": part}))


def load_parts(folder: Path, key: str) -> Parts:
    """Load all parts that are measured.

    Raises:
        SystemExit: A part is of another model or of other options.
    """
    parts: Parts = {}
    for path in sorted(folder.glob("*/*.json")):
        content = json.loads(path.read_text())
        if content["key"] != key:
            raise SystemExit(f"{path}: measured with another model or other options; remove {folder} to begin again")
        parts[path.parent.name, path.stem] = content["values"]
    return parts


def measure_missing(bundle: Bundle, options: argparse.Namespace, key: str) -> Parts:
    """Measure and save the missing parts of the options; return all in the folder."""
    folder = options.folder / "parts"
    known = load_parts(folder, key)
    missing = [(method, name) for method in options.methods for name in options.classes if (method, name) not in known]
    if missing:
        cases = choose_cases(bundle, options)
        networks = {0.0: bundle} | {share: randomise_layers(bundle, share, options.seed) for share in CASCADE}
        with Progress("explanations", len(missing), "parts") as progress:
            for method, name in missing:
                part = measure_part(networks, cases[name], method, options.cascade)
                save_part(folder / method / f"{name}.json", key, part)
                progress.advance()
    return load_parts(folder, key)


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--records", type=int, default=4000, help="to train on")
    parser.add_argument("--held-out", type=int, default=1500, help="recordings to choose from")
    parser.add_argument("--per-class", type=int, default=30, help="most recordings of a class")
    parser.add_argument("--cascade", type=int, default=3, help="recordings of a class for the cascade")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
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
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the missing parts, and print the tables of all."""
    options = parse_options(arguments)
    start_logging()
    bundle = train_model(options)
    weights = [values for member in bundle.ensemble.general.members for values in member.network.get_weights()]
    names = ("held_out", "per_class", "cascade", "realistic", "missed", "seed")
    parts = measure_missing(bundle, options, fingerprint({name: getattr(options, name) for name in names}, *weights))
    table = summarise_parts(parts)
    tables = format_pointing(table), format_leads(table), format_sanity(table, parts), format_offered(table, parts)
    print("\n\n".join("\n".join(lines) for lines in tables))


if __name__ == "__main__":
    main()
