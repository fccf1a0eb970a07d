"""What label cleaning finds and what it brings, on made-up recordings whose truth is known.

python -m benchmarks.label_cleaning [--records N] [--held-out N] [--seeds S ...] [--width N] [--folder FOLDER]

Planted are (a) Ningbo writing AFL for AF, (b) CPSC omitting 15 classes, (c) 5 % of the labels told, each replaced by
another class. For each seed, networks of 12 leads are trained with all three kinds of cleaning, with each alone and
without any, and scored on other recordings whose labels are the truth. Prints the tables of benchmarks/README.md.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

from ecg.bundle import load_bundle
from ecg.cleaning import CleaningSettings
from ecg.labels import COLUMN, LEADS, TRAINED, expand
from ecg.networks import NetworkSettings
from ecg.pipeline import Settings, columns_of, train
from ecg.scoring import challenge_score, load_weights, mean_of_known, roc_and_pr_areas
from ecg.store import build_store
from ecg.synthetic import synthesize
from ecg.training import predict

WRONG = 0.05
METHOD = CleaningSettings()
KINDS = {  # the first stage of one serves the next, where it is the same
    "all on": METHOD,
    "relabelling AF and AFL alone": CleaningSettings(METHOD.lumpings, (), masks=False),
    "relabelling CPSC alone": CleaningSettings((), METHOD.omissions, masks=False),
    "masks alone": CleaningSettings((), ()),
    "all off": CleaningSettings((), (), masks=False),
}
AF, AFL = COLUMN["AF"], COLUMN["AFL"]


def measure(seed, options):
    """Return what each kind of cleaning found and scored for one seed: a dict of dicts of numbers by name."""
    folder = options.folder / f"seed {seed}"
    data, held_out = folder / "data", folder / "held out"
    truths = synthesize(data, options.records, seed, wrong_labels=WRONG, jobs=options.jobs)
    clean = synthesize(held_out, options.held_out, seed + 1000, cpsc_omits=False, ningbo_flutter=False,
                       jobs=options.jobs)  # fmt: skip
    test = build_store(held_out, folder / "held out store", options.jobs)
    expected, everything = matched(clean, test.names), np.arange(len(test))
    weights, found = load_weights()[1], {}
    for name, cleaning in KINDS.items():
        settings = Settings(seed=seed, cleaning=cleaning, network=NetworkSettings(width=options.width),
                            lead_sets=(12,), keep_stages=True, jobs=options.jobs)  # fmt: skip
        results = train(data, folder / "model", settings)
        bundle = load_bundle(folder / "model", LEADS)
        probabilities = expand(predict(bundle.network, test, everything, columns_of(12), "held out"))
        half = challenge_score(expected, probabilities >= 0.5, weights)
        answered = challenge_score(expected, probabilities >= bundle.thresholds, weights)
        areas = roc_and_pr_areas(expected[:, TRAINED], probabilities[:, TRAINED])
        found[name] = {
            "metric": answered, "metric at 0.5": half, "AUROC": mean_of_known(areas[0]),
            "AUPRC": mean_of_known(areas[1]), **decided(results, matched(truths, results.store.names)),
        }  # fmt: skip
    shutil.rmtree(folder)
    return found


def matched(truths, names):
    """Return the true classes (N, 26) of the recordings of these names, dropped ones included."""
    classes = {truth.name: truth.classes for truth in truths}
    return np.array([classes[name] for name in names])


def decided(results, truth):
    """Return how many of the planted faults were found, and how many right labels were taken for faults."""
    store, counts = results.store, {}
    for relabelling in results.relabellings:
        if relabelling.lacking:
            raise SystemExit(f"{relabelling.title}: {relabelling.lacking}; more recordings are needed")
        true, before, after = truth[relabelling.records], relabelling.before, relabelling.after
        if AF in relabelling.columns:
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
        told, true = results.labels[:, TRAINED], truth[:, TRAINED]
        wrong = told != true
        kinds = {"right": ~wrong, "wrong": wrong, "replaced": wrong & ~habits(store.sources)[:, TRAINED]}
        for kind, labels in kinds.items():
            counts |= {f"{kind} labels": labels.sum(), f"{kind} labels masked": (labels & masked).sum()}
    return {name: int(count) for name, count in counts.items()}


def habits(sources):
    """Return where a label may be wrong by the habits of its source: (N, 26) bool."""
    places = np.zeros((len(sources), len(expand(np.zeros(len(TRAINED))))), bool)
    places[np.ix_(sources == "CPSC", METHOD.omissions[0].columns)] = True
    places[np.ix_(sources == "Ningbo", METHOD.lumpings[0].columns)] = True
    return places


def shares(found):
    """Return the shares that the counts of one kind of cleaning and one seed come to, by what they say."""
    pairs = {
        "AF among Ningbo's AFL that are recovered": ("AF recovered", "AF"),
        "AFL among Ningbo's AFL that are lost": ("AFL lost", "AFL"),
        "CPSC's missing labels that are added": ("added and right", "missing"),
        "added labels that are right": ("added and right", "added"),
        "wrong labels that are masked": ("wrong labels masked", "wrong labels"),
        "of these, replaced labels that are masked": ("replaced labels masked", "replaced labels"),
        "right labels that are masked": ("right labels masked", "right labels"),
    }
    return {text: found[part] / max(found[whole], 1) for text, (part, whole) in pairs.items() if whole in found}


def lines(seeds):
    """Yield the lines of both tables, in Markdown, for what `measure` found with each seed."""
    metrics = ("metric", "metric at 0.5", "AUROC", "AUPRC")
    yield f"| mean of {len(seeds)} seeds (least to most) | {' | '.join(metrics)} |"
    yield "|---" * (len(metrics) + 1) + "|"
    for name in KINDS:
        yield f"| {name} | {' | '.join(spread([seed[name][metric] for seed in seeds]) for metric in metrics)} |"
    yield ""
    yield "| found | all on | alone |"
    yield "|---|---|---|"
    told = {name: [shares(seed[name]) for seed in seeds] for name in KINDS}
    for text in told["all on"][0]:
        (alone,) = (name for name in KINDS if name != "all on" and text in told[name][0])
        cells = [spread([share[text] for share in told[name]], "%") for name in ("all on", alone)]
        yield f"| {text} | {' | '.join(cells)} |"


def spread(values, unit=""):
    """Return mean, least and most of values as text."""
    form = ".2%" if unit and max(values) < 0.01 else ".0%" if unit else ".3f"
    return f"{np.mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main():
    """Measure for each seed, and print what all seeds come to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1600, help="to train on")
    parser.add_argument("--held-out", type=int, default=800, help="to score on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--width", type=int, default=16, help="of the networks")
    parser.add_argument("--jobs", type=int, help="processes that make and read recordings; one a core by default")
    parser.add_argument("--folder", type=Path, default=Path("build/label_cleaning"))
    options = parser.parse_args()
    seeds = []
    for seed in options.seeds:
        seeds.append(measure(seed, options))
        (options.folder / "found.json").write_text(json.dumps(dict(zip(options.seeds, seeds, strict=False)), indent=1))
    print("\n".join(lines(seeds)))


if __name__ == "__main__":
    main()
