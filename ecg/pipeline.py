"""From a data folder to a model folder: the method, step by step."""

import json
import os
import re
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from ecg.bundle import Bundle, save_bundle
from ecg.cleaning import CleaningSettings, Relabelling, label_masks
from ecg.headers import RecordError
from ecg.labels import PROXY_SOURCE, TRAINED, expand
from ecg.leads import LEAD_SETS, LEADS
from ecg.losses import AsymmetricLoss, CrossEntropy, FocalLoss, MaskableLoss
from ecg.networks import NetworkSettings, build_network
from ecg.progress import duration
from ecg.report import FOLDER as REPORT
from ecg.report import Results, relabelling_line, summary_lines, write_report
from ecg.review import PICTURES, compare
from ecg.scoring import HALF, challenge_score, load_weights, mean_of_known, roc_and_pr_areas, search_thresholds
from ecg.stages import fingerprint, keep, recall
from ecg.store import build_store
from ecg.training import Epoch, Examples, TrainingSettings, predict, seeds, train_network


def say(line):
    """Print a line at once, for a log is read while it is written."""
    print(line, flush=True)


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a training comes to, beside the data."""

    seed: int = 2021
    cleaning: CleaningSettings = field(default_factory=CleaningSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    validation_share: float = 0.2
    proxy_least: int = 200  # recordings of Georgia in the validation set, from which on they alone give the score
    resamples: int = 100  # of the recordings that give the score, over which the thresholds are averaged; 0: none
    lead_sets: tuple[int, ...] = tuple(LEAD_SETS)
    keep_stages: bool = False  # leave the store and the stages' folders in the model folder
    jobs: int | None = None  # processes that read recordings; one a core where None


@dataclass(frozen=True)
class Stage:
    """A network to be trained: n recordings of a store, K classes.

    records (n,) places in the store, targets (n, K), masks (n, K): what each label counts, training and validation:
    places among the records, asked (m,): places in the store of the recordings that it is to answer for.
    """

    title: str
    leads: int
    loss: MaskableLoss
    records: np.ndarray
    targets: np.ndarray
    masks: np.ndarray
    training: np.ndarray
    validation: np.ndarray
    asked: np.ndarray


class Outcome(NamedTuple):
    """What a stage came to: its epochs, the network's weights, and its probabilities (m, K) for what it was asked."""

    epochs: list[Epoch]
    weights: list[np.ndarray]
    probabilities: np.ndarray


def train(data, model, settings=None, log=say):
    """Train the networks of the method on a folder of recordings and leave them, with a report, in a model folder.

    `log` takes each line of what is done. What an earlier training left in the model folder stays until all is done.
    Stages that one which was cut off has finished are not done again. Returns the Results (ecg.tables). Raises
    FileNotFoundError or RecordError where the data hold nothing to train on, and TrainingError where a loss is not a
    number.
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
    everything, epochs = np.arange(len(store)), []

    def outcome_of(stage, score):
        outcome = fitted(stage, store, stages, settings, score, log)
        epochs.extend(outcome.epochs)
        return outcome

    # What some sources lump together or omit is told by networks that learn from the others.
    labels, relabellings = store.labels, []
    for rule in settings.cleaning.rules:
        relabelling, labels = relabel(rule, labels, store.sources, settings, outcome_of)
        relabellings.append(relabelling)
        log(relabelling_line(relabelling))
    relabelled = (labels != store.labels).any()
    targets = labels[:, TRAINED].astype(np.float32)

    # Training and validation 4:1, scored on Georgia's part of the validation set.
    training, validation = split(len(store), settings, "split")
    scored = scored_part(store.sources[validation], settings)
    chosen = validation[scored]
    weights = load_weights()[1]
    log(f"split: {len(training):,} for training, {len(validation):,} for validation, "
        f"scores on {'all of them' if scored.all() else f'{scored.sum():,} of {PROXY_SOURCE}'}")  # fmt: skip

    def search(probabilities, resamples=0):
        return search_thresholds(labels[chosen], expand(probabilities[scored]), weights, resamples, settings.seed)

    def score(probabilities):
        found, scores = search(probabilities), {}
        if relabelled:
            for name, thresholds in (("at 0.5", HALF / 100), ("optimised", found.by_class)):
                answers = expand(probabilities[scored]) >= thresholds
                scores[f"{name} as labelled"] = challenge_score(store.labels[chosen], answers, weights)
        return {"score at 0.5": found.score_at_half, "optimised": found.score_by_class} | scores

    def stage(title, count, loss, asked):
        return Stage(title, count, loss, everything, targets, masks, training, validation, asked)

    # Round 1: all labels count, focal loss. Those that it is sure are wrong no longer count in round 2.
    masks, listed = np.ones_like(targets), []
    if settings.cleaning.masks:
        first = outcome_of(stage("round 1, 12 leads", 12, FocalLoss(), everything), score).probabilities
        masks = label_masks(targets, first)
        omissions = settings.cleaning.omissions
        _, _, listed = compare(Path(data), store.paths, labels, expand(first), masks, omissions, PICTURES)
        log(f"masks: {int((masks == 0).sum()):,} of {masks.size:,} labels masked")

    # Round 2: one network for each lead set, masked asymmetric loss, thresholds that maximise the score.
    searches, validated = {}, {}
    for count in settings.lead_sets:
        title = f"round 2, {count} leads"
        outcome = outcome_of(stage(title, count, AsymmetricLoss(), validation), score)
        validated[count] = outcome.probabilities
        found = searches[count] = search(outcome.probabilities, settings.resamples)
        network = build_network(settings.network, count, len(TRAINED))
        network.set_weights(outcome.weights)
        save_bundle(Bundle(LEAD_SETS[count], settings.network, found.thresholds, network), finished)
        log(f"{title}: score {found.score_at_half:.3f} at 0.5, {found.score_common:.3f} with one threshold, "
            f"{found.score_by_class:.3f} with one for each class, {found.score:.3f} as answered")  # fmt: skip

    results = Results(store, labels, training, validation, scored, epochs, relabellings, masks, listed,
                      searches, validated)  # fmt: skip
    write_report(finished, results, settings, log)
    for line in summary_lines(results):
        log(line)
    publish(finished, model)
    if not settings.keep_stages:
        shutil.rmtree(stages)
    log(f"{model}: {len(searches)} models after {duration(time.monotonic() - begun)}")
    return results


def relabel(rule, labels, sources, settings, outcome_of):
    """Relabel by a rule of ecg.cleaning and a network of 12 leads that learns from other sources.

    Returns the Relabelling and the labels (N, 26) after it.
    """
    lessons = rule.lessons(labels, sources, rule.misleading(settings.cleaning))
    judged = lessons.judged
    if lessons.lacking:
        none, nothing = labels[:0], np.empty((0, len(rule.columns)), np.float32)
        return Relabelling(rule.title, judged[:0], rule.columns, nothing, none, none, lessons.lacking), labels
    training, validation = split(len(lessons.records), settings, rule.title)

    def score(probabilities):
        return {"AUROC": mean_of_known(roc_and_pr_areas(lessons.targets[validation], probabilities)[0])}

    stage = Stage(rule.title, 12, CrossEntropy(), lessons.records, lessons.targets, lessons.weights,
                  training, validation, judged)  # fmt: skip
    probabilities = rule.probabilities(outcome_of(stage, score).probabilities)
    after = rule.relabelled(labels, sources, probabilities)
    return Relabelling(rule.title, judged, rule.columns, probabilities, labels[judged], after[judged]), after


def fitted(stage, store, folder, settings, score, log):
    """Train the network of a stage from fresh weights, and return its Outcome; of one that is done already, that.

    The stage's own folder in `folder` keeps it, under the fingerprint of all that decides what it comes to. `score`
    and `log` are those of ecg.training.train_network.
    """
    columns = columns_of(stage.leads)
    place = folder / re.sub(r"[^a-z0-9]+", "_", stage.title.lower())
    program = (keras.version(), keras.backend.backend(), type(stage.loss).__name__)
    parts = (stage.records, stage.targets, stage.masks, stage.training, stage.validation, stage.asked)
    mark = fingerprint(store.digest, *program, stage.title, stage.leads, settings.seed, settings.network,
                       settings.training, settings.proxy_least, *parts)  # fmt: skip
    result = recall(place, mark)
    if result is None:
        keras.utils.set_random_seed(int(seeds(settings.seed, f"{stage.title}, weights", 0, 1)[0]))
        network = build_network(settings.network, stage.leads, stage.targets.shape[1])
        learnt, checked = (
            Examples(store, stage.records[part], columns, stage.targets[part], stage.masks[part])
            for part in (stage.training, stage.validation)
        )
        epochs = train_network(network, stage.loss, learnt, checked, settings.training, settings.seed, stage.title,
                               score, log)  # fmt: skip
        probabilities = predict(network, store, stage.asked, columns, f"{stage.title}, answers")
        weights = {f"weights {number:03}": array for number, array in enumerate(network.get_weights())}
        text = json.dumps([asdict(epoch) for epoch in epochs])
        result = {"epochs": np.array(text), "probabilities": probabilities, **weights}
        keep(place, mark, result)
    else:
        log(f"{stage.title}: done before")
    epochs = [Epoch(**epoch) for epoch in json.loads(str(result["epochs"]))]
    weights = [array for name, array in sorted(result.items()) if name.startswith("weights ")]
    return Outcome(epochs, weights, result["probabilities"])


def split(count, settings, title):
    """Return the places of the training and of the validation set, sorted, parted at random by seed and title."""
    order = np.random.default_rng(seeds(settings.seed, title, 0, 4)).permutation(count)
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
    finished.rmdir()


def scored_part(sources, settings):
    """Return which recordings of the validation set give the score: (n,) bool."""
    proxy = sources == PROXY_SOURCE
    return proxy if proxy.sum() >= settings.proxy_least else np.ones(len(sources), bool)


def columns_of(count):
    """Return the columns of a lead set in the store."""
    return tuple(LEADS.index(lead) for lead in LEAD_SETS[count])
