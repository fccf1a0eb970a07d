"""From a data folder to a model folder: the method, step by step."""

import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from ecg.bundle import Bundle, save_bundle
from ecg.cleaning import label_masks
from ecg.labels import LEAD_SETS, LEADS, PROXY_SOURCE, TRAINED, expand
from ecg.losses import AsymmetricLoss, FocalLoss
from ecg.networks import NetworkSettings, build_network
from ecg.progress import duration
from ecg.records import RecordError
from ecg.report import FOLDER as REPORT
from ecg.report import Results, summary_lines, write_report
from ecg.scoring import load_weights, search_thresholds
from ecg.store import build_store
from ecg.training import Examples, TrainingSettings, predict, seeds, train_network


def say(line):
    """Print a line at once, for a log is read while it is written."""
    print(line, flush=True)


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a training comes to, beside the data."""

    seed: int = 2021
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    validation_share: float = 0.2
    proxy_least: int = 200  # recordings of Georgia in the validation set, from which on they alone give the score
    resamples: int = 100  # of the recordings that give the score, over which the thresholds are averaged; 0: none
    lead_sets: tuple[int, ...] = tuple(LEAD_SETS)
    keep_stages: bool = False  # leave the store and the stages' folders in the model folder
    jobs: int | None = None  # processes that read recordings; one a core where None


def train(data, model, settings=None, log=say):
    """Train the networks of the method on a folder of recordings and leave them, with a report, in a model folder.

    `log` takes each line of what is done. What an earlier training left in the model folder stays until all is done.
    Raises FileNotFoundError or RecordError where the data hold nothing to train on, and TrainingError where a loss is
    not a number.
    """
    settings = settings or Settings()
    model, begun = Path(model), time.monotonic()
    stages = model / "stages"
    finished = stages / "finished"
    shutil.rmtree(finished, ignore_errors=True)  # what a training that was cut off has left
    log(f"Keras {keras.version()} on {keras.backend.backend()}, {', '.join(keras.distribution.list_devices())}")

    # Every recording is read and filtered once.
    store = build_store(data, stages / "store", settings.jobs)
    if len(store) < 2:
        raise RecordError(f"{data}: {store.names[0]} alone can be used, and training needs another to validate")
    log(f"{len(store):,} recordings stored, {len(store.dropped):,} left out, {duration(time.monotonic() - begun)}")

    # Training and validation 4:1, scored on Georgia's part of the validation set.
    training, validation = split(len(store), settings)
    scored = scored_part(store.sources[validation], settings)
    weights = load_weights()[1]
    targets = store.labels[:, TRAINED].astype(np.float32)
    log(f"split: {len(training):,} for training, {len(validation):,} for validation, "
        f"scores on {'all of them' if scored.all() else f'{scored.sum():,} of {PROXY_SOURCE}'}")  # fmt: skip

    def search(probabilities, resamples=0):
        chosen = validation[scored]
        return search_thresholds(store.labels[chosen], expand(probabilities[scored]), weights, resamples, settings.seed)

    def trained(stage, count, loss, masks):
        """Train one network from fresh weights; return it with its epochs."""

        def score(probabilities):
            found = search(probabilities)
            return {"score at 0.5": found.score_at_half, "optimised": found.score_by_class}

        def examples(records):
            return Examples(store, records, columns_of(count), targets[records], masks[records])

        keras.utils.set_random_seed(int(seeds(settings.seed, f"{stage}, weights", 0, 1)[0]))
        network = build_network(settings.network, count, len(TRAINED))
        epochs = train_network(network, loss, examples(training), examples(validation), settings.training,
                               settings.seed, stage, score, log)  # fmt: skip
        return network, epochs

    # Round 1: all labels count, focal loss.
    network, epochs = trained("round 1, 12 leads", 12, FocalLoss(), np.ones_like(targets))
    everything = np.arange(len(store))
    first = predict(network, store, everything, columns_of(12), "round 1, masks")

    # Labels that round 1 is sure are wrong no longer count.
    masks = label_masks(targets, first)
    log(f"masks: {int((masks == 0).sum()):,} of {masks.size:,} labels masked")

    # Round 2: one network for each lead set, masked asymmetric loss, thresholds that maximise the score.
    searches, validated = {}, {}
    for count in settings.lead_sets:
        stage = f"round 2, {count} leads"
        network, more = trained(stage, count, AsymmetricLoss(), masks)
        epochs += more
        validated[count] = predict(network, store, validation, columns_of(count), f"{stage}, thresholds")
        found = searches[count] = search(validated[count], settings.resamples)
        save_bundle(Bundle(LEAD_SETS[count], settings.network, found.thresholds, network), finished)
        log(f"{stage}: score {found.score_at_half:.3f} at 0.5, {found.score_common:.3f} with one threshold, "
            f"{found.score_by_class:.3f} with one for each class, {found.score:.3f} as answered")  # fmt: skip

    results = Results(store, training, validation, scored, epochs, masks, searches, validated)
    write_report(finished, results, settings)
    for line in summary_lines(results):
        log(line)
    publish(finished, model)
    if not settings.keep_stages:
        shutil.rmtree(stages)
    log(f"{model}: {len(searches)} models after {duration(time.monotonic() - begun)}")


def split(count, settings):
    """Return the records of the training and of the validation set, sorted, parted at random."""
    order = np.random.default_rng(seeds(settings.seed, "split", 0, 4)).permutation(count)
    validation = max(round(count * settings.validation_share), 1)
    return np.sort(order[validation:]), np.sort(order[:validation])


def publish(finished, model):
    """Move what a training came to into the model folder, in place of what an earlier one left there."""
    for old in [*model.glob("*_leads.json"), *model.glob("*_leads.weights.h5")]:
        old.unlink()
    shutil.rmtree(model / REPORT, ignore_errors=True)
    # A description makes a model whole, and sorts before its weights: in reverse it comes after them.
    for new in sorted(finished.iterdir(), reverse=True):
        os.replace(new, model / new.name)


def scored_part(sources, settings):
    """Return which recordings of the validation set give the score: (n,) bool."""
    proxy = sources == PROXY_SOURCE
    return proxy if proxy.sum() >= settings.proxy_least else np.ones(len(sources), bool)


def columns_of(count):
    """Return the columns of a lead set in the store."""
    return tuple(LEADS.index(lead) for lead in LEAD_SETS[count])
