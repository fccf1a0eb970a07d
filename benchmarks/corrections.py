"""Measure what corrected labels improve, on synthetic recordings.

python -m benchmarks.corrections [--records N] [--held-out N] [--reviewed N ...] [--seeds S ...] [--folds N] [--masks]
[--jobs N] [--folder FOLDER]

5 % of the labels are replaced by another class. Networks of 12 leads are trained on them in five folds, so that each
recording is predicted by a network that was not trained on it. A reviewer who knows the true classes then gives a
verdict on the most suspected labels, those that differ most from the predicted probability. With --folds 0, a network
that was trained on all recordings predicts them, as `ecg review` does with a trained model.

For each number of reviewed labels a network is trained with the corrections, and scored on other recordings with true
labels. The ceiling is a network that is trained on true labels. Prints the table of benchmarks/README.md, and writes
its numbers to FOLDER/corrections.json. The same command again goes on with what is missing there.
"""

import argparse
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.label_cleaning import NETWORK, WRONG, true_classes
from ecg.commands.holdout import predict_stores
from ecg.commands.train import Settings, train
from ecg.data.class_files import load_weights
from ecg.data.labels import ABBREVIATIONS, CHALLENGE_CLASSES, TRAINED
from ecg.data.leads import LEADS
from ecg.data.reviews import Review, Verdict, append_review
from ecg.data.store import Store, build_store
from ecg.data.synthetic import SyntheticSettings, Truth, synthesize
from ecg.evaluation.metrics import challenge_score, nan_mean, roc_and_pr_areas
from ecg.models.bundle import load_bundle
from ecg.runtime.console import start_logging
from ecg.runtime.executors import LocalExecutor
from ecg.runtime.files import atomic_path, to_json
from ecg.systems.label_cleaning import CleaningSettings

NUMBERS = (0, 25, 50, 100, 200)  # of reviewed labels
CEILING = "true labels"
METRICS = ("metric", "metric at 0.5", "AUROC", "AUPRC")
COMPLETE = SyntheticSettings(cpsc_omits=False, ningbo_flutter=False)
FAULTY = SyntheticSettings(cpsc_omits=False, ningbo_flutter=False, wrong_labels=WRONG)

Measures = dict[str, dict[str, float]]  # by the number of reviewed labels, or CEILING


@dataclass(frozen=True)
class Recordings:
    """The recordings of one seed.

    Attributes:
        folder: Folder of this seed.
        store: Recordings to train on, with wrong labels.
        true_labels: Their true classes, (N, 26) bool.
        test: Recordings to score on.
        expected: Their true classes, (n, 26) bool.
        settings: Settings of the training.
    """

    folder: Path
    store: Store
    true_labels: np.ndarray
    test: Store
    expected: np.ndarray
    settings: Settings


def measure_seed(seed: int, options: argparse.Namespace, measures: Measures) -> None:
    """Measure what is missing of a seed, and save it after each training."""
    folder = options.folder / f"seed {seed}"
    missing = [name for name in (*map(str, options.reviewed), CEILING) if name not in measures]
    if not missing:
        return
    recordings = prepare_recordings(seed, folder, options)
    order = rank_labels(recordings, options.folds)
    is_wrong = recordings.store.labels != recordings.true_labels
    for name in missing:
        n_reviewed = None if name == CEILING else int(name)
        reviewed = recordings.true_labels != recordings.store.labels if n_reviewed is None else mask_first(
            order, n_reviewed, is_wrong.shape)  # fmt: skip
        model = train_corrected(recordings, name, reviewed)
        measures[name] = score_model(model, recordings) | {
            "reviewed": int(reviewed.sum()),
            "found": int((reviewed & is_wrong).sum()),
            "wrong": int(is_wrong[:, TRAINED].sum()),
            "labels": int(is_wrong[:, TRAINED].size),
            "folds": options.folds,
        }
        save_measures(options.folder, seed, measures)
    shutil.rmtree(folder)


def prepare_recordings(seed: int, folder: Path, options: argparse.Namespace) -> Recordings:
    """Make the recordings of a seed, and store them."""
    executor = LocalExecutor(options.jobs)
    made = synthesize(folder / "data", options.records, seed, FAULTY, executor)
    held_out = synthesize(folder / "held out", options.held_out, seed + 1000, COMPLETE, executor)
    store = build_store(folder / "data", folder / "store", executor)
    test = build_store(folder / "held out", folder / "held out store", executor)
    settings = Settings(seed=seed, cleaning=CleaningSettings((), (), masks=options.masks), network=NETWORK,
                        lead_sets=(12,))  # fmt: skip
    return Recordings(folder, store, select_true(made, store), test, select_true(held_out, test), settings)


def select_true(recordings: list[Truth], store: Store) -> np.ndarray:
    """Return the true classes (N, 26) bool of the recordings of a store."""
    return true_classes(recordings, store.names).astype(bool)


def rank_labels(recordings: Recordings, folds: int) -> np.ndarray:
    """Return rows and columns of the trained labels, the most suspected first, (n, 2).

    Labels are suspected by their difference from the probability of networks that are trained on the wrong labels.

    Args:
        recordings: The recordings of a seed.
        folds: Number of folds, each predicted by a network that is trained on the others; 0: one network that is
            trained on all predicts them.
    """
    path, store = recordings.folder / f"probabilities {folds} folds.npy", recordings.store
    if not path.exists():
        probabilities = predict_folds(recordings, folds) if folds else predict_store(
            train_corrected(recordings, "0", np.zeros(recordings.true_labels.shape, bool)), store)  # fmt: skip
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.save(file, probabilities)
    suspicion = np.abs(store.labels[:, TRAINED] - np.load(path)[:, TRAINED])
    rows, columns = np.unravel_index(np.argsort(-suspicion, axis=None, kind="stable"), suspicion.shape)
    return np.stack([rows, TRAINED[columns]], axis=1)


def predict_folds(recordings: Recordings, folds: int) -> np.ndarray:
    """Predict each recording by a network that was not trained on it, (N, 26)."""
    model = recordings.folder / f"model {folds} folds"
    shutil.rmtree(model, ignore_errors=True)  # a finished training gives no results
    results = train(recordings.folder / "data", model, replace(recordings.settings, folds=folds))
    assert results is not None and np.array_equal(results.store.names, recordings.store.names)
    probabilities = np.full(recordings.true_labels.shape, np.nan)
    (validated,) = results.validated.values()
    probabilities[np.ix_(results.validation, results.columns)] = validated
    return probabilities


def mask_first(order: np.ndarray, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return a mask of the first labels of an order."""
    mask = np.zeros(shape, bool)
    mask[tuple(order[:count].T)] = True
    return mask


def train_corrected(recordings: Recordings, name: str, reviewed: np.ndarray) -> Path:
    """Train with true verdicts on some labels; return the folder of the model.

    Args:
        recordings: The recordings of a seed.
        name: Name of the training, for its folder.
        reviewed: The labels that are reviewed, (N, 26) bool.
    """
    folder, corrections = recordings.folder / f"model {name}", None
    if reviewed.any():
        corrections = recordings.folder / f"reviews {name}"
        shutil.rmtree(corrections, ignore_errors=True)
        for row, column in np.argwhere(reviewed).tolist():
            verdict = Verdict.PRESENT if recordings.true_labels[row, column] else Verdict.ABSENT
            append_review(
                corrections, "Truth", Review(str(recordings.store.names[row]), ABBREVIATIONS[column], verdict)
            )
    train(recordings.folder / "data", folder, recordings.settings, corrections=corrections)
    return folder


def predict_store(model: Path, store: Store) -> np.ndarray:
    """Return the probabilities (N, 26) of a model for all recordings of a store."""
    ensemble = load_bundle(model, LEADS).ensemble
    return CHALLENGE_CLASSES.expand(
        predict_stores(ensemble, {store.preparation: store}, np.arange(len(store)), "predictions")
    )


def score_model(model: Path, recordings: Recordings) -> dict[str, float]:
    """Return the METRICS of a model on the held-out recordings."""
    probabilities, expected = predict_store(model, recordings.test), recordings.expected
    weights, thresholds = load_weights()[1], load_bundle(model, LEADS).rule.thresholds
    areas = roc_and_pr_areas(expected[:, TRAINED], probabilities[:, TRAINED])
    values = (challenge_score(expected, probabilities >= thresholds, weights),
              challenge_score(expected, probabilities >= 0.5, weights), *map(nan_mean, areas))  # fmt: skip
    return dict(zip(METRICS, map(float, values), strict=True))


def save_measures(folder: Path, seed: int, measures: Measures) -> None:
    """Write the measures of a seed to the file of all seeds."""
    everything = load_measures(folder) | {str(seed): measures}
    with atomic_path(folder / "corrections.json") as temporary:
        temporary.write_text(to_json(everything, indent=1))


def load_measures(folder: Path) -> dict[str, Measures]:
    """Load the measures of all seeds; there are none without the file."""
    path = folder / "corrections.json"
    return json.loads(path.read_text()) if path.exists() else {}


def format_lines(seeds: list[Measures]) -> list[str]:
    """Return the lines of the table in Markdown, of the measures of each seed."""
    header = ("labels reviewed", "wrong labels found", "by chance", *METRICS, "lost metric recovered")
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    names = sorted((name for name in seeds[0] if name != CEILING), key=int)
    means = {name: float(np.mean([seed[name]["metric"] for seed in seeds])) for name in seeds[0]}
    for name in (*names, CEILING):
        rows = [seed[name] for seed in seeds]
        n_found, n_wrong, n_reviewed, n_labels = (
            sum(row[key] for row in rows) for key in ("found", "wrong", "reviewed", "labels")
        )
        shares = [f"{n_found / n_wrong:.0%} ({n_found:,} of {n_wrong:,})", f"{n_reviewed / n_labels:.1%}"]
        if name == CEILING:
            shares = ["all", ""]
        lost = means[CEILING] - means[names[0]]
        recovered = f"{(means[name] - means[names[0]]) / lost:.0%}" if lost > 0 and name != names[0] else ""
        cells = [format_range([row[metric] for row in rows]) for metric in METRICS]
        lines.append(f"| {' | '.join((name, *shares, *cells, recovered))} |")
    return lines


def format_range(values: list[float]) -> str:
    """Format the mean of seeds, with minimum and maximum."""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main(arguments: list[str] | None = None) -> None:
    """Measure for each seed, and print the table of all seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1800, help="to train on")
    parser.add_argument("--held-out", type=int, default=800, help="to score on")
    parser.add_argument("--reviewed", type=int, nargs="+", default=NUMBERS, help="numbers of reviewed labels, 0 first")
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23])
    parser.add_argument("--folds", type=int, default=5, help="by which labels are suspected; 0: none")
    parser.add_argument("--masks", action="store_true", help="mask doubtful labels, as the default system does")
    parser.add_argument("--jobs", type=int, help="processes that write and read recordings; default: one a core")
    parser.add_argument("--folder", type=Path, default=Path("build/corrections"))
    options = parser.parse_args(arguments)
    start_logging()
    for seed in options.seeds:
        measures = load_measures(options.folder).get(str(seed), {})
        if any(row["folds"] != options.folds for row in measures.values()):
            raise SystemExit(f"{options.folder}: has been measured with another number of folds")
        measure_seed(seed, options, measures)
    all_measures = load_measures(options.folder)
    print("\n".join(format_lines([all_measures[str(seed)] for seed in options.seeds])))


if __name__ == "__main__":
    main()
