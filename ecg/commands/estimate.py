"""What a training will take on this machine, part by part, told before it begins."""

import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.commands.calibration import Networks, between, calibrated, report_seconds, seconds_of, tried
from ecg.commands.sample import find_peaks, read_sample
from ecg.commands.survey import survey
from ecg.data.batches import View, plan_prediction, plan_training
from ecg.data.labels import add_implied_labels, class_indices
from ecg.data.leads import LEADS
from ecg.data.records import require_records
from ecg.data.wave_peaks import neurokit_version
from ecg.runtime.console import format_duration, format_table
from ecg.runtime.processes import MemoryMonitor
from ecg.systems.label_cleaning import MAX_DRAWN
from ecg.systems.method import ValidationScorer, drop_untrainable_gate, make_stage
from ecg.systems.plan import (
    GATE,
    GENERAL,
    first_round_title,
    known_labels,
    planned_networks,
    split_recordings,
    split_validation,
)
from ecg.systems.recipes import Settings
from ecg.training.backend import accelerators, distribution_scope
from ecg.training.trainer import PREDICTION_BATCH, TrainingSettings, translate_out_of_memory

LOGGER = logging.getLogger("ecg")

USUAL_EPOCHS = 25  # in each network's training; assumed, for when it stops early is not known beforehand


class Network(NamedTuple):
    """A network to be trained: its places among the recordings for training, for validation, and to answer for.

    learning, view and leads: how it is trained, how it sees signals, and of which leads; gate: whether it tells a
    source. Thresholds are searched `searches` times each epoch, and `averaged` times at the end, over resamples; so
    many models, `saved`, hold it.
    """

    title: str
    training: np.ndarray
    validation: np.ndarray
    asked: np.ndarray
    learning: TrainingSettings
    view: View
    leads: tuple[str, ...]
    gate: bool = False
    searches: int = 0
    averaged: int = 0
    saved: int = 0


class Taken(NamedTuple):
    """What networks of the most and of the fewest leads take, as Networks, and a gate, where there is one.

    counts: how many leads these are.
    """

    counts: tuple[int, int]
    most: Networks
    fewest: Networks
    gate: Networks | None

    @property
    def networks(self):
        """How many networks were built to find out, of which each has left its memory: two for the first."""
        return 2 + (self.fewest is not self.most) + (self.gate is not None)

    def of(self, network):
        """Return what a Network takes: between the most and the fewest leads, as much as its leads are."""
        if network.gate:
            return self.gate
        most, fewest = self.counts
        return between(self.fewest, self.most, (len(network.leads) - fewest) / max(most - fewest, 1))


@dataclass(frozen=True)
class Cost:
    """What a part of a training takes: seconds once and for each epoch, MB of memory at the most.

    Where it is a network, `recordings` are trained on in batches of `batch`, so many `steps` an epoch, for `most`
    epochs at the most.
    """

    title: str
    once: float
    memory: float
    epoch: float = 0.0
    most: int = 0
    recordings: int | None = None
    batch: int | None = None
    steps: int | None = None

    def seconds(self, epochs):
        """Return the seconds of so many epochs, or of all where they are fewer, and all beside."""
        return self.once + min(epochs, self.most) * self.epoch


def estimate(data, settings=None):
    """Tell what training with these settings on a data folder would take on this machine; return its list of Cost.

    The headers are all read; recordings are prepared, networks trained and a report
    written for a sample. Nothing is written but in a temporary folder, which is removed. Raises FileNotFoundError or
    RecordError where the data hold nothing to train on, TrainingError where the memory is too small, and
    NeuroKitMissing where peaks are to be found without it.
    """
    settings, begun = settings or Settings(), time.monotonic()
    if settings.peaks:
        neurokit_version()  # which is missing now or never
    paths = require_records(data)
    with tempfile.TemporaryDirectory() as place, MemoryMonitor() as peak:
        sample = read_sample(data, paths, Path(place), settings)
        memory = peak.taken()
        found = survey(data, paths, settings.jobs)
        memory = max(memory, peak.taken())
        first = next(iter(sample.stores.values()))
        usual = np.median(first.lengths) / first.preparation.rate
        found = found._replace(seconds=np.where(found.seconds > 0, found.seconds, usual))
        costs = [Cost(f"store{told(one, sample.stores)}", effort.of(len(found.seconds)), memory)
                 for one, effort in sample.reading.items()]  # fmt: skip
        networks, peaks = list(networks_of(found, settings)), {}
        if settings.peaks:
            peaks, finding = find_peaks(sample, settings)
            memory = peak.taken()
            costs += [Cost(f"peaks{told(one, sample.stores)}", effort.of(len(found.seconds)), memory)
                      for one, effort in finding.items()]  # fmt: skip
        with translate_out_of_memory("estimate"), distribution_scope(accelerators()):
            taken = taken_by(networks, sample, peaks, settings, peak)
            costs += costs_of(networks, found, taken, settings)
            charts, page = report_seconds(sample, settings)
        saving = sum(taken.of(network).saving * network.saved for network in networks)
        drawing = charts * len(settings.lead_sets) + page * (MAX_DRAWN if settings.cleaning.masks else 0)
        beside = taken.most.left * (len(networks) - taken.networks)  # for some have left theirs here
        costs.append(Cost("models, report", saving + drawing, max(costs[-1].memory, peak.taken() + beside)))
    megabytes = sum(found.lengths(one.rate).sum() for one in sample.stores) * len(LEADS) * 2 / 1e6
    for line in (
        f"{len(found.seconds):,} of {len(paths):,} recordings to train on, {found.seconds.min():g} to "
        f"{found.seconds.max():g} s, {np.median(found.seconds):g} s as a rule; {len(first):,} of them read and trained "
        f"on for {format_duration(time.monotonic() - begun)}",
        *format_table(table(costs, settings)),
        *assumptions(networks, settings, megabytes),
    ):
        LOGGER.info(line)
    return costs


def told(preparation, stores):
    """Return what is said of a Preparation where there are several: ', 500 Hz', else nothing."""
    return f", {preparation.rate} Hz" if len(stores) > 1 else ""


def table(costs, settings):
    """Return the rows of a table of costs, with a sum; the first is of the columns' names."""
    counts = sorted({usual_epochs(settings), most_epochs(settings)})
    epochs = [f"{count} epoch{'s' if count > 1 else ''}" for count in counts]
    rows = [("", "recordings", "batch", "steps", "an epoch", *epochs, "memory")]
    for cost in costs:
        facts = ("" if fact is None else fact for fact in (cost.recordings, cost.batch, cost.steps))
        epoch = format_duration(cost.epoch) if cost.steps else ""
        times = (format_duration(cost.seconds(count)) for count in counts)
        rows.append((cost.title, *facts, epoch, *times, f"{cost.memory:,.0f} MB"))
    times = (format_duration(sum(cost.seconds(count) for cost in costs)) for count in counts)
    return [*rows, ("all", "", "", "", "", *times, f"{max(cost.memory for cost in costs):,.0f} MB")]


def trainings_of(settings):
    """Return how networks are trained, a list of TrainingSettings: for peaks alone, where they are, and then."""
    return [each for each in (settings.pretraining, settings.training) if each]


def most_epochs(settings):
    """Return how many epochs a network is trained for at the most."""
    return max(each.epochs for each in trainings_of(settings))


def usual_epochs(settings):
    """Return how many epochs are assumed to be usual: the most where no network stops before."""
    early = all(map(stops_early, trainings_of(settings)))
    return min(USUAL_EPOCHS, most_epochs(settings)) if early else most_epochs(settings)


def stops_early(learning):
    """Return whether a training may end before its last epoch."""
    return learning.patience < learning.epochs


def assumptions(networks, settings, megabytes):
    """Yield in lines what the table assumes, and what it does not show."""
    yield f"On disk, until all is done: {megabytes:,.0f} MB for what is stored of the recordings."
    for each, what in ((settings.pretraining, " for peaks alone"), (settings.training, " for labels")):
        if each:
            kind = f"Training{what if settings.pretraining else ''}"
            early = f"once the loss has not fallen for {each.patience} epochs, or after all {each.epochs}"
            yield f"{kind} ends {early if stops_early(each) else f'after all {each.epochs} epochs'}."
    if usual_epochs(settings) == USUAL_EPOCHS < most_epochs(settings):
        yield f"{USUAL_EPOCHS} epochs are assumed to be usual."
    yield "Memory is that of all processes, without the pages of files, and without that of a GPU."
    counts = sorted({len(network.leads) for network in networks if not network.gate})
    if len(counts) > 2:
        yield f"Networks of {counts[0]} and of {counts[-1]} leads were tried; those between are taken to lie between."
    views = dict.fromkeys(network.view for network in networks)
    if len(views) > 1:
        yield (f"Networks of {widest(views).title} were tried; the others are taken to need as much time for each "
               f"sample, and as much memory.")  # fmt: skip
    if settings.hours is not None:
        yield f"With its time limit the training ends after {settings.hours:g} h at the latest."


def networks_of(found, settings):
    """Yield the networks that the method trains, as Network; what is left as it is for want of recordings is told."""
    labels, everything = add_implied_labels(found.labels, settings.implies), np.arange(len(found.seconds))
    own = known_labels(found, settings)
    splits = split_recordings(own, settings)
    settings = drop_untrainable_gate(settings, found.sources, splits)
    seen = settings.training, settings.views[0], settings.leads_of(12)
    for rule in settings.cleaning.rules:
        lessons = rule.training_data(labels, found.sources, rule.excluded_sources(settings.cleaning))
        if lessons.skip_reason:
            LOGGER.info(f"{rule.title}: no network, {lessons.skip_reason}")
            continue
        training, validation = (
            lessons.records[part] for part in split_validation(len(lessons.records), settings, rule.key)
        )
        yield Network(rule.title, training, validation, lessons.candidates, *seen)
    if settings.cleaning.masks:
        yield Network(first_round_title(settings), *splits[0], everything, *seen, searches=1)
    judge, networks = judge_of(found, settings), planned_networks(settings)
    last = {one.leads: one.title for one in networks}  # after which the thresholds for these leads are found
    for one in networks:
        stage, _ = make_stage(one, settings, found.sources, own, own, splits, judge)
        network = Network(one.title, stage.training, stage.validation, stage.to_predict, stage.learning, one.view, one.leads,
                          one.group == GATE)  # fmt: skip
        if one.pretrained:
            yield network._replace(title=one.peaks_title, asked=stage.to_predict[:0], learning=settings.pretraining)
        models = sum(settings.leads_of(count) == one.leads for count in settings.lead_sets)
        yield network._replace(searches=int(one.group == GENERAL), averaged=int(last[one.leads] == one.title),
                               saved=models)  # fmt: skip


def judge_of(found, settings):
    """Return the Judge (ecg.systems.method) of the recordings of a Survey."""
    labels = add_implied_labels(found.labels, settings.implies)
    return ValidationScorer(settings, labels, labels, found.sources, class_indices(settings.classes))


def widest(views):
    """Return the View whose window has the most samples."""
    return max(views, key=lambda view: view.window.length or 0)


def taken_by(networks, sample, peaks, settings, peak):
    """Return what networks take, as Taken, by training some on a Sample and its peaks, by the Preparation.

    The Peak watches.
    """
    batch = max(network.learning.batch_for(len(network.training)) for network in networks)
    leads = sorted({network.leads for network in networks if not network.gate}, key=len)
    fewest, most = leads[0], leads[-1]

    def trial(leads, group=GENERAL, started=True):
        view = settings.views[0] if group == GATE else widest(settings.views)
        store = sample.stores[view.preparation]
        stage = tried(store, peaks.get(view.preparation), settings, view, leads, group)
        return calibrated(stage, store, batch, settings.seed, peak, started)

    of_most = trial(most, started=False)
    of_fewest = trial(fewest) if len(fewest) < len(most) else of_most
    gate = trial(most, GATE) if any(network.gate for network in networks) else None
    return Taken((len(most), len(fewest)), of_most, of_fewest, gate)


def costs_of(networks, found, taken, settings):
    """Return the Cost of each network, in a list, for a Survey, by what those that were tried take, as Taken."""
    costs, judge, generator = [], judge_of(found, settings), np.random.default_rng(settings.seed)
    parts = [network.validation for network in networks if network.searches]
    one, every = parts[-1], np.unique(np.concatenate(parts))
    probabilities = generator.random((len(every), len(settings.classes)), np.float32)
    searching = seconds_of(lambda: judge.scores_on(one)(probabilities[: len(one)]))
    averaging = seconds_of(lambda: judge.search(every, probabilities, settings.resamples))
    for number, network in enumerate(networks):
        its, learning, window = taken.of(network), network.learning, network.view.window
        lengths, count = found.lengths(network.view.preparation.rate), len(network.training)
        size, passes = learning.batch_for(count), learning.passes_for(count)
        plan = plan_training(lengths[network.training], size, np.random.default_rng(settings.seed), window)
        checked, asked = (
            plan_prediction(lengths[part], min(learning.batch, PREDICTION_BATCH), window)
            for part in (network.validation, network.asked)
        )
        once = its.ready + its.training.of_shapes(plan) + its.answering.of_shapes(checked + asked)
        once += its.answering.of(asked) + averaging * network.averaged + (0 if number else taken.most.starting)
        epoch = passes * its.training.of(plan) + its.answering.of(checked) + searching * network.searches
        memory = taken.most.memory + taken.most.left * (number - 1)
        costs.append(Cost(network.title, once, memory, epoch, learning.epochs, count, size, passes * len(plan)))
    return costs
