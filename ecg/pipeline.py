"""From a data folder to a model folder: the method, step by step."""

import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np

from ecg.budget import Budget
from ecg.bundle import Bundle, model_files, save_bundle
from ecg.cleaning import CleaningSettings, Relabelling, label_masks
from ecg.files import LOCK, locked
from ecg.fitting import Stage, fitted
from ecg.headers import RecordError
from ecg.labels import EMPTY, PROXY_SOURCE, TRAINED, expand
from ecg.leads import LEAD_SETS
from ecg.losses import AsymmetricLoss, CrossEntropy, FocalLoss
from ecg.networks import NetworkSettings
from ecg.progress import duration
from ecg.reasons import printable
from ecg.records import find_records
from ecg.report import FOLDER as REPORT
from ecg.report import Results, relabelling_line, summary_lines, write_report
from ecg.review import PICTURES, compare
from ecg.scoring import HALF, challenge_score, decide, load_weights, mean_of_known, roc_and_pr_areas, search_thresholds
from ecg.stages import claim, claimed, differences, fingerprint
from ecg.store import build_store
from ecg.training import TrainingError, TrainingSettings, seeds

STAGES = "stages"  # folder in the model folder, until all is done
CLAIM = "training.json"  # file in it: of what recordings and settings the training there is, and whether it is ...
FINISHED = "finished"
ROUND_1, ROUND_2 = "round 1, 12 leads", "round 2, {} leads"
MADE = ("*_leads.json", "*_leads.weights.h5", REPORT)  # what a training leaves in the model folder
INDIFFERENT = ("hours", "jobs", "keep_stages")  # settings with which an unfinished training may be taken up


def say(line):
    """Print a line at once, for a log is read while it is written."""
    print(printable(line), flush=True)


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
    empty: str | None = None  # class declared where none passes its threshold, such as NSR; None in the paper
    hours: float | None = None  # that all may take, counted anew when a training is taken up; no limit where None
    jobs: int | None = None  # processes that read recordings; one a core where None

    def __post_init__(self):
        if self.empty not in (None, *EMPTY):
            raise ValueError(f"empty is {self.empty!r}, expected None or one of {', '.join(EMPTY)}")
        if self.hours is not None and not self.hours > 0:
            raise ValueError(f"hours are {self.hours!r}, expected a number above 0")


def train(data, model, settings=None, log=say):
    """Train the networks of the method on a folder of recordings and leave them, with a report, in a model folder.

    `log` takes each line of what is done. A training that was cut off is taken up where it stood, and comes to the
    same; one that is done already is not done again. Returns the Results (ecg.tables), None where it was done already.
    Raises FileNotFoundError or RecordError where the data hold nothing to train on, TrainingError where a loss is not
    a number from the first epoch on, the memory is too small, or the model folder holds a training of other recordings
    or settings, finished or not, and BlockingIOError where another process trains into it.
    """
    settings, model = settings or Settings(), Path(model)
    facts = {name: value for name, value in asdict(settings).items() if name not in INDIFFERENT}
    facts["records"] = fingerprint([path.relative_to(data).as_posix() for path in find_records(data)])
    see_that_free(model, facts)
    with locked(model / STAGES):
        return by_the_method(data, model, settings, facts, log)


def by_the_method(data, model, settings, facts, log):
    """Do what `train` says, in a model folder that no other process works in, of whose training these are the facts."""
    begun, budget = time.monotonic(), Budget(settings.hours)
    stages = model / STAGES
    finished, removed = stages / "finished", model / f".part.{STAGES}"
    for left in (finished, removed):  # by a training that was cut off
        shutil.rmtree(left, ignore_errors=True)
    log(f"Keras {keras.version()} on {keras.backend.backend()}, {', '.join(keras.distribution.list_devices())}")
    store = claimed_store(data, model, settings, facts, log)
    whole = all(model_files(model, count)[1].exists() for count in settings.lead_sets)
    if whole and FINISHED in claimed(model / CLAIM):
        put_away(stages, removed)
        log(f"{model}: holds what this training comes to already; give an empty folder to train anew")
        return None
    everything, epochs, ends = np.arange(len(store)), [], {}
    to_come = [rule.title for rule in settings.cleaning.rules] + [ROUND_1] * settings.cleaning.masks
    to_come += [ROUND_2.format(count) for count in settings.lead_sets]

    def outcome_of(stage, score):
        left = len(to_come) - to_come.index(stage.title)
        outcome = fitted(stage, store, stages, settings, score, log, budget, left)
        epochs.extend(outcome.epochs)
        ends[stage.title] = outcome.ended
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
        first = outcome_of(stage(ROUND_1, 12, FocalLoss(), everything), score).probabilities
        masks = label_masks(targets, first)
        omissions = settings.cleaning.omissions
        _, _, listed = compare(Path(data), store.paths, labels, expand(first), masks, omissions, PICTURES)
        log(f"masks: {int((masks == 0).sum()):,} of {masks.size:,} labels masked")

    # Round 2: one network for each lead set, masked asymmetric loss, thresholds that maximise the score.
    searches, validated = {}, {}
    for count in settings.lead_sets:
        title = ROUND_2.format(count)
        outcome = outcome_of(stage(title, count, AsymmetricLoss(), validation), score)
        validated[count] = outcome.probabilities
        found = searches[count] = search(outcome.probabilities, settings.resamples)
        network = settings.network.build(count, None, len(TRAINED))
        network.set_weights(outcome.weights)
        save_bundle(Bundle(LEAD_SETS[count], settings.network, found.thresholds, network, settings.empty), finished)
        answers = decide(expand(outcome.probabilities[scored]), found.thresholds, settings.empty)
        answered = challenge_score(labels[chosen], answers, weights)
        log(f"{title}: score {found.score_at_half:.3f} at 0.5, {found.score_common:.3f} with one threshold, "
            f"{found.score_by_class:.3f} with one for each class, {answered:.3f} as answered")  # fmt: skip

    results = Results(store, labels, training, validation, scored, epochs, relabellings, masks, listed,
                      searches, validated, ends, settings.empty)  # fmt: skip
    write_report(finished, results, settings, log)
    for line in summary_lines(results):
        log(line)
    publish(finished, model)
    if settings.keep_stages:  # for a training with other settings
        (model / CLAIM).unlink()
    else:
        claim(model / CLAIM, facts | {FINISHED: True})
        put_away(stages, removed)
    log(f"{model}: {len(searches)} models after {duration(time.monotonic() - begun)}")
    return results


def claimed_store(data, model, settings, facts, log):
    """Read and filter every recording once, write down in the model folder what is trained there, return the Store.

    The facts get the digest of the recordings. Raises as `train` does, of recordings that are none to train on or
    others than were trained on here before.
    """
    begun = time.monotonic()
    store = build_store(data, model / STAGES / "store", settings.jobs)
    if len(store) < 2:
        raise RecordError(f"{data}: {store.names[0]} alone can be used, and training needs another to validate")
    if not store.labels[:, TRAINED].any():
        raise RecordError(f"{data}: none of {len(store):,} recordings has a diagnosis that is trained")
    log(f"{len(store):,} recordings stored, {len(store.dropped):,} left out, {duration(time.monotonic() - begun)}")
    facts["recordings"] = store.digest
    see_that_none(differences(model / CLAIM, facts), model)
    claim(model / CLAIM, claimed(model / CLAIM) | facts)
    return store


def put_away(folder, place):
    """Remove a folder, out of the way at once, its lock with it, for whoever comes next."""
    os.replace(folder, place)
    shutil.rmtree(place, ignore_errors=True)


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


def see_that_free(model, facts):
    """Raise TrainingError where a model folder holds what is not of a training of these facts."""
    see_that_none(differences(model / CLAIM, facts), model)
    kept = [path.name for path in model.glob(f"{STAGES}/*") if path.name != LOCK]  # by a training that was cut off
    made = sorted(path.name for form in MADE for path in model.glob(form))
    if made and not kept and not claimed(model / CLAIM):
        raise TrainingError(f"{model}: holds {made[0]}, and nothing says of what training; give an empty folder")


def see_that_none(different, model):
    """Raise TrainingError where the training in a model folder differs from one that is to begin."""
    if different:
        data = different.keys() & {"records", "recordings"}
        told = ["other recordings"] if data else []
        for name in sorted(different.keys() - data):
            told.append("{} {!r}, not {!r}".format(name, *different[name]))
        raise TrainingError(f"{model}: holds a training of {', '.join(told)}; give an empty folder, "
                            f"or the same recordings and settings")  # fmt: skip


def split(count, settings, title):
    """Return the places of the training and of the validation set, sorted, parted at random by seed and title."""
    order = np.random.default_rng(seeds(settings.seed, title, 0, 4)).permutation(count)
    validation = max(round(count * settings.validation_share), 1)
    return np.sort(order[validation:]), np.sort(order[:validation])


def publish(finished, model):
    """Move what a training came to into the model folder, in place of what an earlier one left there."""
    for form in MADE[:-1]:
        for old in model.glob(form):
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
