"""Measure what label cleaning finds and improves, on synthetic recordings.

python -m benchmarks.label_cleaning [--records N] [--held-out N] [--seeds S ...] [--jobs N] [--folder FOLDER]

Planted faults are (a) Ningbo writes AFL for AF, (b) CPSC omits 15 classes, (c) 5 % of the labels are replaced by
another class. For each seed, networks of 12 leads are trained with all three kinds of cleaning, with each alone and
without any, and scored on other recordings with true labels. Prints the tables of benchmarks/README.md, and
writes their numbers to FOLDER/found.json.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecg.commands.holdout import predict_stores
from ecg.commands.train import Settings, train
from ecg.data.class_files import load_weights
from ecg.data.labels import CHALLENGE_CLASSES, CLASS_INDEX, TRAINED
from ecg.data.leads import LEADS
from ecg.data.store import build_store
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.evaluation.metrics import challenge_score, nan_mean, roc_and_pr_areas
from ecg.models.bundle import load_bundle
from ecg.models.network_settings import NetworkSettings
from ecg.runtime.console import start_logging
from ecg.runtime.executors import LocalExecutor
from ecg.runtime.files import to_json
from ecg.systems.label_cleaning import CleaningSettings
from ecg.systems.label_comparison import labelled_mask

WRONG = 0.05
CONFLATION, OMISSION = CleaningSettings().rules
NO_RELABELLING = (replace(CONFLATION, relabel=False),), (replace(OMISSION, relabel=False),)
KINDS = {
    "all on": CleaningSettings(),
    "relabelling AF and AFL alone": CleaningSettings((CONFLATION,), NO_RELABELLING[1], masks=False),
    "relabelling CPSC alone": CleaningSettings(NO_RELABELLING[0], (OMISSION,), masks=False),
    "masks alone": CleaningSettings(*NO_RELABELLING),
    "all off": CleaningSettings(*NO_RELABELLING, masks=False),
}
AF, AFL = CLASS_INDEX["AF"], CLASS_INDEX["AFL"]
NETWORK = NetworkSettings(width=16, kernels=(11, 9, 7))  # smaller than the method's, to save time


def measure(seed, options):
    """Return the counts and scores of each kind of cleaning for one seed, by name."""
    folder = options.folder / f"seed {seed}"
    data, held_out, executor = folder / "data", folder / "held out", LocalExecutor(options.jobs)
    recordings = synthesize(data, options.records, seed, SyntheticSettings(wrong_labels=WRONG), executor)
    true_labels = SyntheticSettings(cpsc_omits=False, ningbo_flutter=False)
    held_out_recordings = synthesize(held_out, options.held_out, seed + 1000, true_labels, executor)
    test = build_store(held_out, folder / "held out store", executor)
    expected, everything = true_classes(held_out_recordings, test.names), np.arange(len(test))
    weights, measures = load_weights()[1], {}
    for name, cleaning in KINDS.items():
        settings = Settings(seed=seed, cleaning=cleaning, network=NETWORK, lead_sets=(12,),
                            keep_stages=True)  # fmt: skip
        results = train(data, folder / "model", settings, executor=executor)
        bundle = load_bundle(folder / "model", LEADS)
        probabilities = CHALLENGE_CLASSES.expand(
            predict_stores(bundle.ensemble, {test.preparation: test}, everything, "held out")
        )
        metric_at_half = challenge_score(expected, probabilities >= 0.5, weights)
        metric = challenge_score(expected, probabilities >= bundle.rule.thresholds, weights)
        areas = roc_and_pr_areas(expected[:, TRAINED], probabilities[:, TRAINED])
        measures[name] = {
            "metric": metric, "metric at 0.5": metric_at_half, "AUROC": nan_mean(areas[0]),
            "AUPRC": nan_mean(areas[1]), **count_faults(results, true_classes(recordings, results.store.names)),
        }  # fmt: skip
    shutil.rmtree(folder)
    return measures


def true_classes(recordings, names):
    """Return the true classes (N, 26) of the recordings of these names."""
    classes = {recording.name: recording.classes for recording in recordings}
    return np.array([classes[name] for name in names])


def count_faults(results, all_true_classes):
    """Count the planted faults that were found, and the correct labels that were lost."""
    store, counts = results.store, {}
    for relabelling in results.relabellings:
        true, before, after = all_true_classes[relabelling.records], relabelling.before, relabelling.after
        if relabelling.title == CONFLATION.title:
            fibrillation, flutter = true[:, AF], true[:, AFL]  # neither, if AFL is a replaced label
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
        wrong = results.labels != all_true_classes
        by_rule = ~labelled_mask(np.zeros_like(wrong), store.sources, [OMISSION])
        by_rule[np.ix_(store.sources == "Ningbo", CONFLATION.find_columns())] = True
        label_kinds = {"right": ~wrong, "wrong": wrong, "replaced": wrong & ~by_rule}
        for kind, labels in label_kinds.items():
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


def format_lines(seeds):
    """Yield the lines of both tables in Markdown, for the results of `measure`."""
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
        cells = [
            format_share([[seed[name][count] for count in counted] for seed in seeds]) for name in ("all on", alone)
        ]
        yield f"| {text} | {' | '.join(cells)} |"


def format_share(counts):
    """Format the share of the first count in the second, for one pair a seed."""
    counts_found, counts_planted = zip(*counts, strict=True)
    values = [found_count / max(planted, 1) for found_count, planted in counts]
    form = ".3%" if max(values) < 0.01 else ".0%"
    share = sum(counts_found) / max(sum(counts_planted), 1)
    totals = f"{sum(counts_found):,} of {sum(counts_planted):,}"
    return f"{share:{form}} ({min(values):{form}} to {max(values):{form}}), {totals}"


def main():
    """Measure for each seed, and print the tables of all seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1800, help="to train on")
    parser.add_argument("--held-out", type=int, default=800, help="to score on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--jobs", type=int, help="processes that write and read recordings; default: one a core")
    parser.add_argument("--folder", type=Path, default=Path("build/label_cleaning"))
    options = parser.parse_args()
    start_logging()
    seeds = []
    for seed in options.seeds:
        seeds.append(measure(seed, options))
        (options.folder / "found.json").write_text(to_json(dict(zip(options.seeds, seeds, strict=False)), indent=1))
    print("\n".join(format_lines(seeds)))


if __name__ == "__main__":
    main()
