"""What a training will take on this machine, part by part, told before it begins."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.batches import plan_training, plan_whole
from ecg.calibration import calibrated, read_sample, report_seconds, seconds_of
from ecg.devices import accelerators, together
from ecg.leads import LEADS
from ecg.memory import Peak
from ecg.pipeline import ROUND_1, ROUND_2, Settings, say, scored_part, split
from ecg.progress import duration
from ecg.records import some_records
from ecg.report import columns
from ecg.resampling import RATE
from ecg.review import PICTURES
from ecg.scoring import load_weights, search_thresholds
from ecg.survey import survey
from ecg.training import PREDICTION_BATCH, out_of_memory_told

USUAL_EPOCHS = 25  # in each network's training; assumed, for when it stops early is not known beforehand


class Network(NamedTuple):
    """A network to be trained: its places among the recordings for training, for validation, and to answer for.

    Thresholds are searched `searches` times each epoch, and `averaged` times at the end, over resamples.
    """

    title: str
    training: np.ndarray
    validation: np.ndarray
    asked: np.ndarray
    searches: int = 0
    averaged: int = 0


@dataclass(frozen=True)
class Cost:
    """What a part of a training takes: seconds once and for each epoch, MB of memory at the most.

    Where it is a network, `recordings` are trained on in batches of `batch`, so many `steps` an epoch.
    """

    title: str
    once: float
    memory: float
    epoch: float = 0.0
    recordings: int | None = None
    batch: int | None = None
    steps: int | None = None

    def seconds(self, epochs):
        """Return the seconds of so many epochs and all beside."""
        return self.once + epochs * self.epoch


def estimate(data, settings=None, log=say):
    """Tell what training with these settings on a data folder would take on this machine; return its list of Cost.

    `log` takes the lines of it. The headers are all read; recordings are prepared, a network trained and a report
    written for a sample. Nothing is written but in a temporary folder, which is removed. Raises FileNotFoundError or
    RecordError where the data hold nothing to train on, and TrainingError where the memory is too small.
    """
    settings, begun = settings or Settings(), time.monotonic()
    paths = some_records(data)
    with tempfile.TemporaryDirectory() as place, Peak() as peak:
        sample, starting, reading = read_sample(data, paths, Path(place), settings)
        memory = peak.taken()
        found = survey(data, paths, settings.jobs)
        memory = max(memory, peak.taken())
        lengths = np.where(found.lengths > 0, found.lengths, round(np.median(sample.lengths)))
        found = found._replace(lengths=lengths)
        store = Cost("store", starting + reading * len(found.lengths), memory)
        networks = list(networks_of(found, settings, log))
        with out_of_memory_told("estimate"), together(accelerators()):
            most = max(settings.training.batch_for(len(network.training)) for network in networks)
            taken = calibrated(sample, most, settings, peak)
            costs = [store, *costs_of(networks, found, taken, settings)]
            charts, page = report_seconds(sample, Path(place), settings)
        drawing = charts * len(settings.lead_sets) + page * (PICTURES if settings.cleaning.masks else 0)
        beside = taken.left * (len(networks) - 2)  # of the networks, of which two have left theirs here
        costs.append(Cost("report", drawing, max(costs[-1].memory, peak.taken() + beside)))
    seconds = found.lengths / RATE
    megabytes = found.lengths.sum() * len(LEADS) * 2 / 1e6
    for line in (
        f"{len(found.lengths):,} of {len(paths):,} recordings to train on, {seconds.min():g} to {seconds.max():g} s, "
        f"{np.median(seconds):g} s as a rule; {len(sample):,} of them read and trained on for "
        f"{duration(time.monotonic() - begun)}",
        *columns(table(costs, settings)),
        *assumptions(settings, megabytes),
    ):
        log(line)
    return costs


def table(costs, settings):
    """Return the rows of a table of costs, with a sum; the first is of the columns' names."""
    most = settings.training.epochs
    counts = [USUAL_EPOCHS, most] if USUAL_EPOCHS < most else [most]
    epochs = [f"{count} epoch{'s' if count > 1 else ''}" for count in counts]
    rows = [("", "recordings", "batch", "steps", "an epoch", *epochs, "memory")]
    for cost in costs:
        facts = ("" if fact is None else fact for fact in (cost.recordings, cost.batch, cost.steps))
        epoch = duration(cost.epoch) if cost.steps else ""
        times = (duration(cost.seconds(count)) for count in counts)
        rows.append((cost.title, *facts, epoch, *times, f"{cost.memory:,.0f} MB"))
    times = (duration(sum(cost.seconds(count) for cost in costs)) for count in counts)
    return [*rows, ("all", "", "", "", "", *times, f"{max(cost.memory for cost in costs):,.0f} MB")]


def assumptions(settings, megabytes):
    """Yield in lines what the table assumes, and what it does not show."""
    training = settings.training
    yield f"On disk, until all is done: {megabytes:,.0f} MB for the store."
    usual = f"; {USUAL_EPOCHS} are assumed to be usual" if USUAL_EPOCHS < training.epochs else ""
    yield (f"A network stops once its loss has not fallen for {training.patience} epochs, or after all "
           f"{training.epochs}{usual}.")  # fmt: skip
    yield "Memory is that of all processes, without the pages of files, and without that of a GPU."
    yield "Networks of fewer leads are taken to need what that of 12 does."
    if settings.hours is not None:
        yield f"With its time limit the training ends after {settings.hours:g} h at the latest."


def networks_of(found, settings, log):
    """Yield the networks that the method trains, as Network; what is left as it is for want of recordings is told."""
    for rule in settings.cleaning.rules:
        lessons = rule.lessons(found.labels, found.sources, rule.misleading(settings.cleaning))
        if lessons.lacking:
            log(f"{rule.title}: no network, {lessons.lacking}")
            continue
        training, validation = (lessons.records[part] for part in split(len(lessons.records), settings, rule.title))
        yield Network(rule.title, training, validation, lessons.judged)
    training, validation = split(len(found.lengths), settings, "split")
    if settings.cleaning.masks:
        yield Network(ROUND_1, training, validation, np.arange(len(found.lengths)), 1)
    for count in settings.lead_sets:
        yield Network(ROUND_2.format(count), training, validation, validation, 1, 1)


def costs_of(networks, found, taken, settings):
    """Return the Cost of each network, in a list, for a Survey, by what those of 12 leads take, as Networks."""
    costs, validation = [], networks[-1].validation
    labels = found.labels[validation[scored_part(found.sources[validation], settings)]]
    probabilities = np.random.default_rng(settings.seed).random(labels.shape)
    weights = load_weights()[1]
    searching = seconds_of(lambda: search_thresholds(labels, probabilities, weights))
    averaging = seconds_of(lambda: search_thresholds(labels, probabilities, weights, settings.resamples))
    for number, network in enumerate(networks):
        lengths = found.lengths[network.training]
        size, passes = settings.training.batch_for(len(lengths)), settings.training.passes_for(len(lengths))
        plan = plan_training(lengths, size, np.random.default_rng(settings.seed))
        checked, asked = (
            plan_whole(found.lengths[part], min(settings.training.batch, PREDICTION_BATCH))
            for part in (network.validation, network.asked)
        )
        once = taken.ready + taken.training.of_shapes(plan) + taken.answering.of_shapes(checked + asked)
        once += taken.answering.of(asked) + averaging * network.averaged + (0 if number else taken.starting)
        epoch = passes * taken.training.of(plan) + taken.answering.of(checked) + searching * network.searches
        memory = taken.memory + taken.left * (number - 1)
        costs.append(Cost(network.title, once, memory, epoch, len(lengths), size, passes * len(plan)))
    return costs
