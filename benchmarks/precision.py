"""Compare the scores of trainings in bfloat16 and in float32.

python -m benchmarks.precision DATA HELD_OUT [--seeds S ...] [--width N] [--epochs N] [--jobs N] [--folder FOLDER]

For each seed, networks of 12 leads are trained on DATA in both precisions, with all the method's steps, and scored on
HELD_OUT, a folder of other recordings: by the Challenge metric as predicted, and by the mean area under the ROC of
the trained classes. Prints both, and the loss by bfloat16. The time that it saves is a figure of benchmarks.speed.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecg.commands.options import without_none
from ecg.data.class_files import load_weights
from ecg.data.labels import TRAINED
from ecg.data.leads import LEADS
from ecg.evaluation.metrics import challenge_score, nan_mean, roc_and_pr_areas
from ecg.runtime.console import start_logging
from ecg.runtime.executors import LocalExecutor
from ecg.runtime.keras_startup import start_keras

PRECISIONS = ("float32", "bfloat16")
LARGEST_LOSS = 0.02  # accepted loss of the Challenge metric


def train_and_score(data, test, settings, folder, executor):
    """Train on a folder, and return metric and AUROC on the recordings of a Store."""
    from ecg.commands.holdout import predict_stores
    from ecg.commands.train import train
    from ecg.models.bundle import load_bundle

    train(data, folder, settings, executor=executor)
    bundle = load_bundle(folder, LEADS)
    probabilities = predict_stores(bundle.ensemble, {test.preparation: test}, np.arange(len(test)), "held out")
    predictions = bundle.rule.decide(probabilities)
    areas = roc_and_pr_areas(test.labels[:, TRAINED], probabilities)[0]
    return challenge_score(test.labels, predictions, load_weights()[1]), nan_mean(areas)


def format_lines(seeds, scores):
    """Yield the lines of the table in Markdown.

    `scores` has (metric, AUROC) of both precisions for each seed.
    """
    heads = [f"{figure}, {name}" for figure in ("metric", "AUROC") for name in PRECISIONS]
    yield f"| seed | {' | '.join(heads)} |"
    yield "|---" * 5 + "|"
    means = np.mean(scores, axis=0)
    for seed, figures in [*zip(seeds, scores, strict=True), ("mean", means)]:
        yield f"| {seed} | {' | '.join(f'{figure:.3f}' for figure in np.transpose(figures).ravel())} |"
    loss = means[0][0] - means[1][0]
    yield ""
    verdict = "within" if loss <= LARGEST_LOSS else "more than"
    yield f"bfloat16 loses {loss:.3f} of the metric on average, {verdict} {LARGEST_LOSS}."


def main():
    """Train and score for each seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of recordings to train on")
    parser.add_argument("held_out", type=Path, help="folder of other recordings to score on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--width", type=int, help="filters of the first convolution")
    parser.add_argument("--epochs", type=int, help="maximum")
    parser.add_argument("--jobs", type=int, help="processes that read recordings; default: one a core")
    parser.add_argument("--folder", type=Path, default=Path("build/precision"))
    options = parser.parse_args()
    start_keras()
    start_logging()
    from ecg.commands.train import Settings
    from ecg.data.store import build_store

    method, executor = Settings(lead_sets=(len(LEADS),)), LocalExecutor(options.jobs)
    test = build_store(options.held_out, options.folder / "held out", executor)
    scores = []
    for seed in options.seeds:
        scores.append([])
        for precision in PRECISIONS:
            settings = replace(
                method, seed=seed, network=replace(method.network, **without_none(width=options.width)),
                training=replace(method.training, precision=precision, **without_none(epochs=options.epochs)),
            )  # fmt: skip
            scores[-1].append(
                train_and_score(options.data, test, settings, options.folder / f"{precision}, seed {seed}", executor)
            )
    print("\n".join(format_lines(options.seeds, scores)))


if __name__ == "__main__":
    main()
