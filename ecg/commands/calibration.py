"""How long each part of a training takes on this machine, by doing a little of it with a sample of the recordings."""

import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ecg.commands.sample import SAMPLE
from ecg.data.batches import batch_size, crop_indices
from ecg.data.labels import TRAINED, class_indices, expand, select_labels
from ecg.reports.ecg_paper import draw_disagreements
from ecg.reports.training_report import write_report
from ecg.systems.label_cleaning import Disagreement
from ecg.systems.method import ValidationScorer, make_stage
from ecg.systems.plan import GATE, GENERAL, NetworkPlan
from ecg.systems.results import Results
from ecg.systems.stage import build_network, check_precision, make_dataset, prediction_part, stage_loss
from ecg.training.backend import distributed_loss
from ecg.training.checkpoint import Budget, WeightAverage
from ecg.training.trainer import PREDICTION_BATCH, compile_network, predict, train_epoch

WARM_STEPS = 10  # the first ones are slow, ...
WARM_SECONDS, TIMED_SECONDS = 3.0, 3.0  # ... and have so long at the most, as those that are timed
SMALLER = 4  # of how many times fewer recordings the batches are that tell what a batch takes whatever its size
BUILDS = 3  # of a network that is saved: where its weights are known, as it answers, and as it is written


class Pace(NamedTuple):
    """Seconds that batches take: one of whatever size, each sample of a recording in it, and a shape that is new.

    A sample is one moment of one recording, at the sampling frequency of the network, all its leads together.
    """

    batch: float
    sample: float
    shape: float

    def of(self, plan):
        """Return the seconds of a list of Batch, whose shapes have been before."""
        return self.batch * len(plan) + self.sample * sum(len(batch.records) * batch.length for batch in plan)

    def of_shapes(self, plan):
        """Return the seconds that the shapes of a list of Batch take, once."""
        return self.shape * len({(len(batch.records), batch.length) for batch in plan})


class Networks(NamedTuple):
    """What networks take one after another: seconds until one is ready, its Pace in training and in answering, MB.

    The first one takes `starting` seconds more, and `saving` what is done for a model that holds one. The memory is
    that of the second one, at the most; so much is left of each, and its successors have it beside them.
    """

    starting: float
    ready: float
    training: Pace
    answering: Pace
    saving: float
    memory: float
    left: float


def between(one, other, share):
    """Return what lies between two Networks, or Pace, by a share from 0, the one, to 1, the other."""
    if isinstance(one, tuple):
        return type(one)(*(between(*each, share) for each in zip(one, other, strict=True)))
    return one + share * (other - one)


def tried(store, peaks, settings, view, leads, group=GENERAL):
    """Return the Stage of a network of a group as a training has it, for a View and leads, on a Store of a sample.

    `peaks` are the StoredPeaks, where the network finds them.
    """
    everything, columns = np.arange(len(store)), class_indices(settings.classes)
    targets = select_labels(columns, store.labels, store.unscored).astype(np.float32)
    judge = ValidationScorer(settings, store.labels, store.labels, store.sources, columns)
    one = NetworkPlan("training", "training", leads, group, 0, view)
    split = everything, everything
    stage, _ = make_stage(one, settings, store.sources, targets, np.ones_like(targets), [split], judge)
    return stage if group == GATE or peaks is None else replace(stage, peaks=peaks, loss_weights=(1.0, settings.peaks))


def calibrated(stage, store, batch, seed, peak, started=False):
    """Return what networks take, as Networks, by training that of a Stage for a while and asking it, on a Store.

    The batches have so many recordings, and the Peak watches. Where one was `started` before, nothing is found of what
    the first one takes, and of what they leave. Raises TrainingError where a loss is not a number, and what the backend
    raises where the memory is too small.
    """
    window, learning = stage.view.window, stage.learning
    if window.length:  # so that each is answered in one piece
        store = replace(store, lengths=np.minimum(store.lengths, window.length))
    steps = window.crop_lengths[crop_indices(store.lengths, window)]
    wholes = steps if window.length else store.lengths
    length, whole = commonest(steps), commonest(wholes)
    cut, uncut = np.flatnonzero(steps == length), np.flatnonzero(wholes == whole)

    def train(size):
        def run(count):  # an epoch of so many steps, all of one shape
            taught = make_dataset(stage, store, np.resize(cut, count * batch_size(size, length, window)), network)
            order, average = np.random.default_rng(seed), WeightAverage(learning.averaging)
            sized = replace(learning, batch=size, smallest_batch=size, steps=1)
            train_epoch(network, taught, sized, order, average, f"training steps of {size}", Budget(None))

        return run

    def answer(size, part=None):
        def run(count):
            asked = make_dataset(stage, store, np.resize(uncut, count * batch_size(size, whole, window)), network)
            predict(part or network, asked, f"answers of {size}", size)

        return run

    most, ready, memory = min(learning.batch, PREDICTION_BATCH), [], []
    for _ in range(1 if started else 2):  # the first starts more than itself; what is left of it shows with the second
        begun = time.monotonic()
        network = build_network(stage, learning.precision)
        building = time.monotonic() - begun
        check_precision(network, learning.precision)
        compile_network(network, distributed_loss(stage_loss(stage, network)), learning.make_optimizer())
        train(batch)(1)
        answer(most)(1)
        if stage.peaks is not None:
            answer(most, prediction_part(stage, network))(1)
        ready.append(time.monotonic() - begun)
        memory.append(peak.taken())
    starting, left = max(ready[0] - ready[-1], 0.0), max(memory[-1] - memory[0], 0.0)
    found = []
    for run, size, samples, times in ((train, batch, length, 1), (answer, most, whole, 1 + (stage.peaks is not None))):
        sizes = size, max(size // SMALLER, 1)
        (_, large), (first, small) = (steady(run(size)) for size in sizes)
        found.append(pace(*(batch_size(size, samples, window) * samples for size in sizes), large, small, first))
        ready[-1] -= times * (large + found[-1].shape)  # of batches that are counted with the others
    memory = max(memory[-1], peak.taken())
    return Networks(starting, max(ready[-1], 0.0), *found, BUILDS * building, memory, left)


def pace(more, fewer, large, small, first):
    """Return the Pace by which batches of so many samples, more and fewer, take so many seconds, large and small.

    The first batch of the fewer took `first`.
    """
    sample = (large - small) / (more - fewer) if more > fewer else 0.0
    if not 0 < sample <= large / more:  # so few, or so small a network, that chance decides
        sample = large / more
    return Pace(large - sample * more, sample, max(first - small, 0.0))


def commonest(values):
    """Return the value that comes most often."""
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])


def steady(run):
    """Return the seconds of a first step, and of one once it has warmed up; `run` does so many."""
    first = seconds_of(lambda: run(1))
    warm = int(np.clip(WARM_SECONDS / first, 1, WARM_STEPS))
    step = seconds_of(lambda: run(warm)) / warm
    count = max(round(TIMED_SECONDS / step), 1)
    return first, seconds_of(lambda: run(count)) / count


def seconds_of(run):
    """Return the seconds that a function takes."""
    begun = time.monotonic()
    run()
    return time.monotonic() - begun


def report_seconds(sample, settings):
    """Return the seconds of a report for a Sample: its tables and pictures for one lead set, and a page of ECG paper.

    They are left in the sample's folder. Where there is no round 1, no such page is drawn, and it takes none.
    """
    store = sample.stores[settings.views[0].preparation]
    everything, columns = np.arange(len(store)), class_indices(settings.classes)
    probabilities = np.random.default_rng(settings.seed).random((len(store), len(columns)), np.float32)
    judge, count = ValidationScorer(settings, store.labels, store.labels, store.sources, columns), settings.lead_sets[0]
    search = judge.search(everything, probabilities)
    results = Results(store, store.labels, everything, everything, everything >= 0, [], [],
                      np.ones_like(probabilities), [], {count: search}, {count: probabilities}, {}, settings.classes,
                      judge.rule(None))  # fmt: skip
    charts = seconds_of(lambda: write_report(sample.place, results, settings))
    if not settings.cleaning.masks:
        return charts, 0.0
    path = sample.place / SAMPLE / store.paths[0]
    one = Disagreement(path, "", "", TRAINED[0], False, 1.0, expand(probabilities, columns)[0])
    pages = seconds_of(lambda: draw_disagreements(sample.place, 2 * [one], search.thresholds)) / 2
    return charts, pages
