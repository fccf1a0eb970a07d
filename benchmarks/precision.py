"""What training in bfloat16 costs in score, against float32; what it brings in time is a figure of benchmarks.speed.

python -m benchmarks.precision DATA HELD_OUT [--seeds S ...] [--width N] [--epochs N] [--jobs N] [--folder FOLDER]

For each seed, networks of 12 leads are trained on DATA in both precisions, with all the method's steps, and scored on
HELD_OUT, whose recordings are to be others: by the Challenge metric, as answered, and by the mean area under the ROC of
the trained classes. Prints both, and what bfloat16 loses.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecg.commands.options import without_none
from ecg.data.labels import TRAINED
from ecg.data.leads import LEADS
from ecg.evaluation.metrics import challenge_score, load_weights, nan_mean, roc_and_pr_areas
from ecg.runtime.keras_startup import start_keras

PRECISIONS = ("float32", "bfloat16")
MOST = 0.02  # that a score may lose


def scores(data, test, settings, folder):
    """Return what networks come to that are trained on a folder, on the recordings of a Store: metric and AUROC."""
    from ecg.commands.train import train
    from ecg.models.bundle import load_bundle

    train(data, folder, settings)
    bundle = load_bundle(folder, LEADS)
    answers = bundle.ensemble.predicted({test.preparation: test}, np.arange(len(test)), "held out")
    answered = bundle.rule.decide(answers)
    areas = roc_and_pr_areas(test.labels[:, TRAINED], answers)[0]
    return challenge_score(test.labels, answered, load_weights()[1]), nan_mean(areas)


def lines(seeds, found):
    """Yield the lines of the table, in Markdown: `found` has (metric, AUROC) of both precisions for each seed."""
    heads = [f"{figure}, {name}" for figure in ("metric", "AUROC") for name in PRECISIONS]
    yield f"| seed | {' | '.join(heads)} |"
    yield "|---" * 5 + "|"
    means = np.mean(found, axis=0)
    for seed, figures in [*zip(seeds, found, strict=True), ("mean", means)]:
        yield f"| {seed} | {' | '.join(f'{figure:.3f}' for figure in np.transpose(figures).ravel())} |"
    lost = means[0][0] - means[1][0]
    yield ""
    yield f"bfloat16 loses {lost:.3f} of the metric in the mean, {'within' if lost <= MOST else 'more than'} {MOST}."


def main():
    """Train and score for each seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of recordings to train on")
    parser.add_argument("held_out", type=Path, help="folder of others to score on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--width", type=int, help="filters of the first convolution")
    parser.add_argument("--epochs", type=int, help="at the most")
    parser.add_argument("--jobs", type=int, help="processes that read recordings; one a core by default")
    parser.add_argument("--folder", type=Path, default=Path("build/precision"))
    options = parser.parse_args()
    start_keras()
    from ecg.commands.train import Settings
    from ecg.data.store import build_store

    method = Settings(lead_sets=(len(LEADS),), jobs=options.jobs)
    test = build_store(options.held_out, options.folder / "held out", options.jobs)
    found = []
    for seed in options.seeds:
        found.append([])
        for precision in PRECISIONS:
            settings = replace(
                method, seed=seed, network=replace(method.network, **without_none(width=options.width)),
                training=replace(method.training, precision=precision, **without_none(epochs=options.epochs)),
            )  # fmt: skip
            found[-1].append(scores(options.data, test, settings, options.folder / f"{precision}, seed {seed}"))
    print("\n".join(lines(options.seeds, found)))


if __name__ == "__main__":
    main()
