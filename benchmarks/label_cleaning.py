"""What label cleaning finds and what it brings, on made-up recordings whose truth is known.

python -m benchmarks.label_cleaning [--records N] [--held-out N] [--seeds S ...] [--jobs N] [--folder FOLDER]

Planted are (a) Ningbo writing AFL for AF, (b) CPSC omitting 15 classes, (c) 5 % of the labels told, each replaced by
another class. For each seed, networks of 12 leads are trained with all three kinds of cleaning, with each alone and
without any, and scored on other recordings whose labels are the truth. Prints the tables of benchmarks/README.md, and
leaves the numbers behind them in FOLDER/found.json.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecg.commands.train import Settings, train
from ecg.data.labels import CLASS_INDEX, TRAINED, expand
from ecg.data.leads import LEADS
from ecg.data.store import build_store
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.evaluation.metrics import challenge_score, load_weights, nan_mean, roc_and_pr_areas
from ecg.models.bundle import load_bundle
from ecg.models.resnets import NetworkSettings
from ecg.runtime.files import to_json
from ecg.systems.label_cleaning import CleaningSettings, unlabelled_mask

WRONG = 0.05
LUMPING, OMISSION = CleaningSettings().rules
BELIEVED = (replace(LUMPING, relabel=False),), (replace(OMISSION, relabel=False),)
KINDS = {
    "all on": CleaningSettings(),
    "relabelling AF and AFL alone": CleaningSettings((LUMPING,), BELIEVED[1], masks=False),
    "relabelling CPSC alone": CleaningSettings(BELIEVED[0], (OMISSION,), masks=False),
    "masks alone": CleaningSettings(*BELIEVED),
    "all off": CleaningSettings(*BELIEVED, masks=False),
}
AF, AFL = CLASS_INDEX["AF"], CLASS_INDEX["AFL"]
NETWORK = NetworkSettings(width=16, kernels=(11, 9, 7))  # smaller than the method's, for time


def measure(seed, options):
    """Return what each kind of cleaning found and scored for one seed: a dict of dicts of numbers by name."""
    folder = options.folder / f"seed {seed}"
    data, held_out = folder / "data", folder / "held out"
    truths = synthesize(data, options.records, seed, SyntheticSettings(wrong_labels=WRONG), jobs=options.jobs)
    complete = SyntheticSettings(cpsc_omits=False, ningbo_flutter=False)
    clean = synthesize(held_out, options.held_out, seed + 1000, complete, jobs=options.jobs)
    test = build_store(held_out, folder / "held out store", options.jobs)
    expected, everything = matched(clean, test.names), np.arange(len(test))
    weights, found = load_weights()[1], {}
    for name, cleaning in KINDS.items():
        settings = Settings(seed=seed, cleaning=cleaning, network=NETWORK, lead_sets=(12,),
                            keep_stages=True, jobs=options.jobs)  # fmt: skip
        results = train(data, folder / "model", settings)
        bundle = load_bundle(folder / "model", LEADS)
        probabilities = expand(bundle.ensemble.predicted({test.preparation: test}, everything, "held out"))
        half = challenge_score(expected, probabilities >= 0.5, weights)
        answered = challenge_score(expected, probabilities >= bundle.rule.thresholds, weights)
        areas = roc_and_pr_areas(expected[:, TRAINED], probabilities[:, TRAINED])
        found[name] = {
            "metric": answered, "metric at 0.5": half, "AUROC": nan_mean(areas[0]),
            "AUPRC": nan_mean(areas[1]), **decided(results, matched(truths, results.store.names)),
        }  # fmt: skip
    shutil.rmtree(folder)
    return found


def matched(truths, names):
    """Return the true classes (N, 26) of the recordings of these names, dropped ones included."""
    classes = {truth.name: truth.classes for truth in truths}
    return np.array([classes[name] for name in names])


def decided(results, truth):
    """Return how many of the planted faults were found, and how many right labels were taken for faults: counts."""
    store, counts = results.store, {}
    for relabelling in results.relabellings:
        true, before, after = truth[relabelling.records], relabelling.before, relabelling.after
        if relabelling.title == LUMPING.title:
            fibrillation, flutter = true[:, AF], true[:, AFL]  # or neither, where AFL is a replaced label
            counts |= {
                "AF": fibrillation.sum(), "AF recovered": (fibrillation & after[:, AF]).sum(),
                "AFL": flutter.sum(), "AFL lost": (flutter & ~after[:, AFL]).sum(),
            }  # fmt: skip
        else:
            true, before, after = (labels[:, relabelling.columns] for labels in (true, before, after))
            added = after & ~before
            counts |= {"missing": (true & ~before).sum(), "added": added.sum(), "added and right": (added & true).sum()}
    masked = results.masks == 0
    if masked.any():
        wrong = results.labels != truth
        by_habit = unlabelled_mask(store.sources, [OMISSION])
        by_habit[np.ix_(store.sources == "Ningbo", LUMPING.columns)] = True
        kinds = {"right": ~wrong, "wrong": wrong, "replaced": wrong & ~by_habit}
        for kind, labels in kinds.items():
            labels = labels[:, TRAINED]
            counts |= {f"{kind} labels": labels.sum(), f"{kind} labels masked": (labels & masked).sum()}
    return {name: int(count) for name, count in counts.items()}


SHARES = {
    "AF among Ningbo's AFL that are recovered": ("AF recovered", "AF"),
    "AFL among Ningbo's AFL that are lost": ("AFL lost", "AFL"),
    "CPSC's missing labels that are added": ("added and right", "missing"),
    "added labels that are correct": ("added and right", "added"),
    "wrong labels that are masked": ("wrong labels masked", "wrong labels"),
    "replaced labels that are masked": ("replaced labels masked", "replaced labels"),
    "correct labels that are masked": ("right labels masked", "right labels"),
}


def lines(seeds):
    """Yield the lines of both tables, in Markdown, for what `measure` found with each seed."""
    metrics = ("metric", "metric at 0.5", "AUROC", "AUPRC")
    yield f"| mean of {len(seeds)} seeds (minimum to maximum) | {' | '.join(metrics)} |"
    yield "|---" * (len(metrics) + 1) + "|"
    for name in KINDS:
        cells = []
        for metric in metrics:
            values = [seed[name][metric] for seed in seeds]
            cells.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    yield "| all seeds together (minimum to maximum of a seed) | all on | alone |"
    yield "|---|---|---|"
    for text, counted in SHARES.items():
        (alone,) = (name for name in KINDS if name != "all on" and counted[1] in seeds[0][name])
        cells = [share([[seed[name][count] for count in counted] for seed in seeds]) for name in ("all on", alone)]
        yield f"| {text} | {' | '.join(cells)} |"


def share(counts):
    """Return as text what share the first of each pair of counts is of the second, one pair a seed."""
    parts, wholes = zip(*counts, strict=True)
    values = [part / max(whole, 1) for part, whole in counts]
    form = ".3%" if max(values) < 0.01 else ".0%"
    together = sum(parts) / max(sum(wholes), 1)
    return f"{together:{form}} ({min(values):{form}} to {max(values):{form}}), {sum(parts):,} of {sum(wholes):,}"


def main():
    """Measure for each seed, and print what all seeds come to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1800, help="to train on")
    parser.add_argument("--held-out", type=int, default=800, help="to score on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--jobs", type=int, help="processes that make and read recordings; one a core by default")
    parser.add_argument("--folder", type=Path, default=Path("build/label_cleaning"))
    options = parser.parse_args()
    seeds = []
    for seed in options.seeds:
        seeds.append(measure(seed, options))
        (options.folder / "found.json").write_text(to_json(dict(zip(options.seeds, seeds, strict=False)), indent=1))
    print("\n".join(lines(seeds)))


if __name__ == "__main__":
    main()
