"""How long each part of a training takes on this machine, by doing a little of it with a sample of the recordings."""

import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from joblib import cpu_count

from ecg.batches import GRID, batch_size, step_of
from ecg.budget import Budget
from ecg.checkpoint import WeightAverage
from ecg.devices import over_all
from ecg.fitting import columns_of
from ecg.headers import RecordError, read_header
from ecg.labels import DISCARDED_SOURCES, TRAINED, expand, source_of
from ecg.leads import LEADS
from ecg.losses import FocalLoss
from ecg.networks import computing_in
from ecg.parallel import CHUNK
from ecg.report import Results, write_report
from ecg.review import Disagreement, draw_disagreements
from ecg.scoring import load_weights, search_thresholds
from ecg.store import build_store
from ecg.training import PREDICTION_BATCH, Examples, make_ready, predict, train_epoch

SAMPLE = "sample"  # folder of what is read
CHUNKS, FEWEST_CHUNKS = 4, 16  # of recordings that are read as a sample: for each process, and at the least
WARM_STEPS = 10  # the first ones are slow, ...
WARM_SECONDS, TIMED_SECONDS = 3.0, 3.0  # ... and have so long at the most, as those that are timed
SMALLER = 4  # of how many times fewer recordings the batches are that tell what a batch takes whatever its size


class Pace(NamedTuple):
    """Seconds that batches take: one of whatever size, each sample of a recording in it, and a shape that is new.

    A sample is one moment at 250 Hz of one recording, all its leads together.
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

    The first one takes `starting` seconds more. The memory is that of the second one, at the most; so much is left of
    each, and its successors have it beside them.
    """

    starting: float
    ready: float
    training: Pace
    answering: Pace
    memory: float
    left: float


def read_sample(data, paths, place, settings):
    """Store a random sample of recordings as a training does; return the Store and seconds, to start and for each."""
    jobs = settings.jobs or cpu_count()
    known = [path for path in paths if source_of(path.stem) not in DISCARDED_SOURCES]
    if not known:
        raise RecordError(f"{data}: {len(paths):,} recordings, all of sources that are not trained on")
    first, more = CHUNK * jobs, CHUNK * max(CHUNKS * jobs, FEWEST_CHUNKS)
    order = np.random.default_rng(settings.seed).permutation(len(known))[: first + more]
    chosen = [known[number] for number in order]
    # The first ones start the processes; where there are few recordings, the others take that with them.
    first = min(first, len(chosen) // 4)
    parts, seconds = {"first": chosen[:first], SAMPLE: chosen[first:]}, {}
    for name, part in parts.items():
        if part:
            link(part, place / name)
            begun = time.monotonic()
            try:
                sample = build_store(place / name, place / f"store of {name}", jobs)
            except RecordError as error:
                raise RecordError(f"{data}: of a sample none can be used: {error}") from error
            seconds[name] = time.monotonic() - begun
    reading = seconds[SAMPLE] / len(parts[SAMPLE])
    return sample, max(seconds.get("first", 0.0) - reading * first, 0.0), reading


def link(paths, folder):
    """Link the files of records, by their headers' paths, into a folder, each record's into one of its own.

    For names may come twice. A file that is not there, or that a header does not tell, is left out, and the store says
    so. Raises FileExistsError where the folder has links already.
    """
    for number, path in enumerate(paths):
        place = folder / f"{number:06}"
        place.mkdir(parents=True)
        try:
            files = [lead.file for lead in read_header(path).leads]
        except (RecordError, OSError):  # which the store tells of
            files = []
        for name in {path.name, path.with_suffix(".mat").name, *files}:
            if path.with_name(name).exists():
                (place / name).symlink_to(path.with_name(name).resolve())


def calibrated(sample, batch, settings, peak):
    """Return what networks take, as Networks, by training one of 12 leads for a while and asking it, on a Store.

    The batches have so many recordings, and the Peak watches. Raises TrainingError where a loss is not a number, and
    what the backend raises where the memory is too small.
    """
    steps = GRID[step_of(sample.lengths)]
    length, whole = commonest(steps), commonest(sample.lengths)
    cut, uncut = np.flatnonzero(steps == length), np.flatnonzero(sample.lengths == whole)
    labels = sample.labels[:, TRAINED].astype(np.float32)
    training, columns = settings.training, columns_of(len(LEADS))

    def examples(records):
        return Examples(sample, records, columns, labels[records], np.ones((len(records), len(TRAINED)), np.float32))

    def train(size):
        def run(count):  # an epoch of so many steps, all of one shape
            taught = examples(np.resize(cut, count * batch_size(size, length)))
            order, average = np.random.default_rng(settings.seed), WeightAverage(training.averaging)
            sized = replace(training, batch=size, smallest_batch=size, steps=1)
            train_epoch(network, taught, sized, order, average, f"training steps of {size}", Budget(None))

        return run

    def answer(size):
        def run(count):
            records = np.resize(uncut, count * batch_size(size, whole))
            predict(network, sample, records, columns, f"answers of {size}", size)

        return run

    most, ready, memory = min(training.batch, PREDICTION_BATCH), [], []
    for _ in range(2):  # the first one starts more than itself, and what it leaves of its memory shows with the second
        begun = time.monotonic()
        with computing_in(training.precision):
            network = settings.network.build(len(LEADS), None, len(TRAINED))
        make_ready(network, over_all(FocalLoss()), training.first_rate)
        train(batch)(1)
        answer(most)(1)
        ready.append(time.monotonic() - begun)
        memory.append(peak.taken())
    starting, left = max(ready[0] - ready[1], 0.0), max(memory[1] - memory[0], 0.0)
    found = []
    for run, size, samples in ((train, batch, length), (answer, most, whole)):
        sizes = size, max(size // SMALLER, 1)
        (_, large), (first, small) = (steady(run(size)) for size in sizes)
        found.append(pace(*(batch_size(size, samples) * samples for size in sizes), large, small, first))
        ready[1] -= large + found[-1].shape  # of the first batch of each kind, which is counted with the others
    return Networks(starting, max(ready[1], 0.0), *found, max(memory[1], peak.taken()), left)


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


def report_seconds(sample, place, settings):
    """Return the seconds of a report for a sample: its tables and pictures for one lead set, and a page of ECG paper.

    They are left in the folder `place`, below which the sample was read.
    """
    generator, everything, weights = np.random.default_rng(settings.seed), np.arange(len(sample)), load_weights()[1]
    probabilities = generator.random((len(sample), len(TRAINED)), np.float32)
    search = search_thresholds(sample.labels, expand(probabilities), weights)
    results = Results(sample, sample.labels, everything, everything, everything >= 0, [], [],
                      np.ones_like(probabilities), [], {len(LEADS): search}, {len(LEADS): probabilities})  # fmt: skip
    charts = seconds_of(lambda: write_report(place, results, settings))
    one = Disagreement(place / SAMPLE / sample.paths[0], "", "", TRAINED[0], False, 1.0, expand(probabilities)[0])
    pages = seconds_of(lambda: draw_disagreements(place, 2 * [one], search.thresholds)) / 2
    return charts, pages
