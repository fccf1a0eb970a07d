"""Measure what pretraining and augmentation bring on real recordings.

python -m benchmarks.pretraining DATA FOLDER [--variants NAME ...] [--splits N] [--leads N] [--jobs N]

For each split a quarter of the recordings in DATA is held out. One network is trained on the others for each variant,
and predicts the held-out ones. Only the variant "cleaned" cleans labels. Thresholds and calibration come from the
validation set. A pretrained network is also scored without training on any real recording; its calibration then comes
from synthetic ones. All splits share their pretrained networks. Results are kept in FOLDER, so that an interrupted run
goes on where it was. Prints a table with the mean over the splits and the range. An unknown name lists all variants.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ecg.commands.holdout import predict_held_out
from ecg.commands.protocol import training_records
from ecg.data.augmentation import AUGMENTATIONS
from ecg.data.batches import Dataset
from ecg.data.class_files import load_weights
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.leads import LEAD_SETS, lead_indices
from ecg.data.memory_stores import build_synthetic_store
from ecg.data.store import build_stores, store_folder
from ecg.evaluation.calibration import fit_calibration
from ecg.evaluation.metrics import challenge_score, nan_mean, roc_and_pr_areas
from ecg.models.decision import EXPECTED_CREDIT
from ecg.runtime.console import format_table, start_logging
from ecg.runtime.executors import LocalExecutor
from ecg.runtime.files import to_json
from ecg.runtime.limits import TimeBudget
from ecg.systems.folds import STRATA, assign_folds
from ecg.systems.method import train_system
from ecg.systems.recipes import AS_LABELLED, CAI2021, Settings, SyntheticPretraining
from ecg.systems.stage_runner import StageRunner
from ecg.training.trainer import predict_dataset

HELD_OUT = 4  # one in four recordings
SEED = 2021  # of the pretraining, which all splits share
CALIBRATED_ON = 500  # synthetic recordings that no network was trained on
BASE = replace(CAI2021, system="base", cleaning=AS_LABELLED, loss="cross-entropy")
REALISTIC = SyntheticPretraining().kind
USUAL = replace(REALISTIC, realistic=False)
KINDS = {
    "realistic": REALISTIC, "realistic-dirty": replace(REALISTIC, clean=False),
    "usual": USUAL, "usual-dirty": replace(USUAL, clean=False),
}  # fmt: skip
SIZES = (2000, 6000, 12_000, 20_000, 30_000)
AUGMENTED = ("gain", "noise", "wander", "lead_dropout")


def pretrained(records=6000, kind=REALISTIC, **changes):
    """Return the base with pretraining on a number of synthetic recordings."""
    return replace(BASE, pretraining=SyntheticPretraining(records, kind, **changes))


VARIANTS = {
    "random": BASE,
    **{f"{name}-{size}": pretrained(size, kind) for name, kind in KINDS.items() for size in SIZES},
    "asymmetric-loss": replace(pretrained(), loss=CAI2021.loss),
    "cleaned": replace(pretrained(), cleaning=CAI2021.cleaning),
    "augmented": replace(pretrained(augmentations=AUGMENTED), augmentations=AUGMENTED),
    **{name: replace(pretrained(), augmentations=(name,)) for name in AUGMENTATIONS},
}


@dataclass(frozen=True)
class Scores:
    """Scores of held-out recordings: AUROC and AUPRC over the classes, the metric, and classes a recording."""

    auroc: float
    auprc: float
    thresholds: float
    credit: float
    classes: float


def score(labels, probabilities, by_thresholds, by_credit, columns):
    """Return the scores of predictions.

    Args:
        labels: As the Challenge scores them, (n, 26) bool.
        probabilities: (n, 26).
        by_thresholds: Predicted classes by thresholds, (n, 26) bool.
        by_credit: Predicted classes by expected credit, (n, 26) bool.
        columns: Indices of the trained classes, (K,).
    """
    weights = load_weights()[1]
    areas = [nan_mean(area) for area in roc_and_pr_areas(labels[:, columns], probabilities[:, columns])]
    metrics = [challenge_score(labels, outputs, weights) for outputs in (by_thresholds, by_credit)]
    return Scores(*map(float, (*areas, *metrics, by_credit.sum(axis=1).mean())))


def measure(settings, stores, held_out, folder, data):
    """Return the scores of a variant on held-out recordings, and without real recordings if it is pretrained."""
    store = stores[settings.views[0].preparation]
    training = training_records(store, held_out)
    subsets = {preparation: full.subset(training) for preparation, full in stores.items()}
    runner = StageRunner(subsets, folder, SEED, TimeBudget(None))
    trained = train_system(settings, runner, {}, data)
    labels, columns = store.as_scored[held_out], CHALLENGE_CLASSES.indices(settings.classes)
    (predicted,) = predict_held_out(trained, settings, stores, held_out).by_leads.values()
    scores = [score(labels, predicted.probabilities, predicted.predictions, predicted.by_credit, columns)]
    for network in runner.initial_networks:
        scores.append(score_pretrained(network, settings, store, held_out, folder))
    return scores


def score_pretrained(network, settings, store, held_out, folder):
    """Return the scores of a network that was never trained on a real recording."""
    member = network.build()
    fresh = build_synthetic_store(store_folder(folder / "calibration", store.preparation), CALIBRATED_ON, SEED + 1,
                                  settings.pretraining.kind, store.preparation)  # fmt: skip
    columns = CHALLENGE_CLASSES.indices(settings.classes)
    on_fresh, on_real = (
        CHALLENGE_CLASSES.expand(
            predict_dataset(member, Dataset(part, records, lead_indices(network.leads)), "pretrained"), columns
        )
        for part, records in ((fresh, np.arange(len(fresh))), (store, held_out))
    )
    calibration = fit_calibration(fresh.labels, on_fresh, on_fresh > 0)
    rule = replace(settings, decision=EXPECTED_CREDIT).decision_rule(np.full(26, 0.5), calibration)
    by_credit = rule.decide(on_real[:, columns], columns)
    return score(store.as_scored[held_out], on_real, on_real >= 0.5, by_credit, columns)


def format_rows(measured):
    """Return the rows of the table: mean [smallest, largest] over the splits.

    Args:
        measured: Scores of each split, by variant.
    """
    rows = [("variant", *Scores.__annotations__)]
    for name, scores in measured.items():
        cells = []
        for field in Scores.__annotations__:
            values = [getattr(split, field) for split in scores]
            cells.append(f"{np.mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]")
        rows.append((name, *cells))
    return rows


def main(arguments=None):
    """Measure the variants and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["random", "realistic-6000"])
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--leads", type=int, default=12, choices=LEAD_SETS)
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args(arguments)
    start_logging()
    preparation = BASE.views[0].preparation
    stores = build_stores(options.data, options.folder, [preparation], LocalExecutor(options.jobs))
    store, measured = stores[preparation], {}
    for name in options.variants:
        for split in range(options.splits):
            held_out = np.flatnonzero(assign_folds(store.labels, HELD_OUT, SEED + split, stratification=STRATA) == 0)
            settings: Settings = replace(VARIANTS[name], lead_sets=(options.leads,), seed=SEED)
            folder = options.folder / f"{options.leads}_leads"
            fine, *without_real = measure(settings, stores, held_out, folder, options.data)
            measured.setdefault(name, []).append(fine)
            for scores in without_real:
                measured.setdefault(f"{name}, no real recording", []).append(scores)
        (options.folder / f"scores_{options.leads}_leads.json").write_text(to_json(measured))
        for line in format_table(format_rows(measured)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
