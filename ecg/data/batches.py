"""Which recordings, cut how, go together: a pure plan, then the arrays, then the next ones while the present are used.

A batch holds signals of one length. By the method nothing is ever padded; a network of another system sees one length.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ecg.data.leads import LEADS
from ecg.data.resampling import DEFAULT_PREPROCESSING, RATE, Preprocessing
from ecg.data.store import Store
from ecg.data.wave_peaks import WavePeaks, encode_peaks

# Samples; training cuts to the largest that a recording reaches. No step is the usual length, 10 s, so that most cuts
# fall elsewhere in each epoch.
CROP_LENGTHS = np.array((1, 2, 4, 8, 16, 32, 64)) * RATE
FULL_BATCH_LENGTH = (
    20 * RATE
)  # samples; up to here a batch holds all the recordings asked for, beyond it fewer, for memory
ZEROS, REPEATED = "zeros", "repeated"  # what a recording that is too short is filled up with


@dataclass(frozen=True)
class Window:
    """How much of a recording a network sees at once; by the default, the method's, as much as there is.

    length: samples, None for any; fill: what shorter recordings are filled up with at their end, zeros or themselves
    repeated; overlap: samples that the pieces have in common, at the least, in which a longer one is answered; spared:
    samples that it may have too many, at the most, before there is one more piece. Raises ValueError where these do
    not go together.
    """

    length: int | None = None
    fill: str = ZEROS
    overlap: int = 0
    slack: int = 0

    def __post_init__(self):
        most = 0 if self.length is None else self.length // 2  # more would be answered many times over
        good = self.length is None or self.length > 0
        good &= 0 <= self.overlap <= most and 0 <= self.slack <= most
        if not good or self.fill not in (ZEROS, REPEATED):
            raise ValueError(f"a window of {self.length} samples, filled with {self.fill!r}, overlap {self.overlap}, "
                             f"slack {self.slack}")  # fmt: skip

    @property
    def crop_lengths(self):
        """Samples that training cuts recordings to, each to the largest that it reaches: (n,)."""
        return CROP_LENGTHS if self.length is None else np.array([self.length])

    def segment_starts(self, samples):
        """Return where the pieces begin in which a recording is answered, evenly from its first to its last sample.

        Of L samples there are ceil((L - length) / (length - overlap)) + 1 pieces (Zhao et al. 2022), or one, of those
        in the middle, where the L - length are spared.
        """
        beyond = 0 if self.length is None else max(int(samples) - self.length, 0)
        if beyond <= self.slack:
            return np.array([beyond // 2])
        last = -(-(beyond - self.slack) // (self.length - self.overlap))
        return beyond * np.arange(last + 1) // last

    def pad(self, window, samples):
        """Fill a window (length, leads) up, in place, of which the first samples are a recording's, all it has."""
        if self.fill == REPEATED:
            for first in range(samples, len(window), samples):
                part = window[first : first + samples]
                part[:] = window[: len(part)]
        else:
            window[samples:] = 0

    def segments(self, signal):
        """Return the pieces in which a recording (T, leads) is answered: (P, length, leads), or (1, T, leads)."""
        if self.length is None:
            return signal[np.newaxis]
        starts = self.segment_starts(len(signal))
        pieces = np.empty((len(starts), self.length, signal.shape[1]), signal.dtype)
        for piece, start in zip(pieces, starts, strict=True):
            part = signal[start : start + self.length]
            piece[: len(part)] = part
            self.pad(piece, len(part))
        return pieces


WHOLE_RECORDING = Window()


@dataclass(frozen=True)
class View:
    """How a network sees a recording: how its signals are prepared, and how much of them it sees at once."""

    preparation: Preprocessing = DEFAULT_PREPROCESSING
    window: Window = WHOLE_RECORDING

    @property
    def title(self):
        """What it is called, such as '500 Hz, 15 s', or without the seconds where any length will do."""
        seconds = f", {self.window.length / self.preparation.rate:.0f} s" if self.window.length else ""
        return f"{self.preparation.rate} Hz{seconds}"


DEFAULT_VIEW = View()


class Batch(NamedTuple):
    """Recordings (B,) by their place in a store, where each is cut (B,), and to how many samples."""

    records: np.ndarray
    starts: np.ndarray
    length: int


def plan_training(lengths, size, generator, window=WHOLE_RECORDING):
    """Shuffle recordings of the given lengths (N,) into batches of `size`, each cut at random to a step of the window.

    Every recording is in exactly one batch. What does not fill a batch joins the next shorter step where that has
    recordings of its own; else all batches of the step are a little smaller. ValueError where a recording is shorter
    than the first step of a grid.
    """
    steps = window.crop_lengths
    if window.length is None and len(lengths) and min(lengths) < steps[0]:
        raise ValueError(f"a recording of {min(lengths)} samples is shorter than the shortest cut, {steps[0]}")
    step = crop_indices(lengths, window)
    batches, waiting = [], np.array([], int)
    for place in reversed(range(len(steps))):
        group = np.concatenate([waiting, generator.permutation(np.flatnonzero(step == place))])
        count = batch_size(size, steps[place], window)
        carried = len(group) % count if place > 0 and np.any(step == place - 1) else 0
        group, waiting = np.split(group, [len(group) - carried])
        for records in np.array_split(group, -(-len(group) // count)) if len(group) else ():
            starts = generator.integers(0, np.maximum(lengths[records] - steps[place], 0), endpoint=True)
            batches.append(Batch(records, starts, int(steps[place])))
    return [batches[place] for place in generator.permutation(len(batches))]


def crop_indices(lengths, window=WHOLE_RECORDING):
    """Return the place among a window's steps of that which recordings of these lengths (N,) are cut to: (N,)."""
    return np.maximum(np.searchsorted(window.crop_lengths, lengths, side="right") - 1, 0)


def plan_prediction(lengths, size, window=WHOLE_RECORDING):
    """Put recordings of the given lengths (N,) into batches of at most `size`, each whole, with its exact equals.

    By a window of one length, each comes in its pieces, one after the other.
    """
    if window.length is not None:
        starts = [window.segment_starts(length) for length in lengths]
        records = np.repeat(np.arange(len(lengths)), [len(each) for each in starts])
        starts = np.concatenate([*starts, np.array([], int)])
        parts = (slice(first, first + size) for first in range(0, len(records), size))
        return [Batch(records[part], starts[part], window.length) for part in parts]
    order = np.argsort(lengths, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1) if len(order) else []
    batches = []
    for run in runs:
        length = int(lengths[run[0]])
        count = batch_size(size, length)
        for first in range(0, len(run), count):
            records = run[first : first + count]
            batches.append(Batch(records, np.zeros(len(records), int), length))
    return batches


def batch_size(size, length, window=WHOLE_RECORDING):
    """Return how many recordings of a length make a batch: `size`, or as many as hold the samples of `size` at 20 s.

    By a window of one length it is `size`.
    """
    return size if window.length else max(1, min(size, size * FULL_BATCH_LENGTH // int(length)))


def read_batch(store, records, columns, batch, window=WHOLE_RECORDING):
    """Read a batch of `records`, places in the store, (n,): (B, T, leads) float32, mV."""
    signals = np.empty((len(batch.records), batch.length, len(columns)), np.float32)
    chosen = records[batch.records]
    counts = np.minimum(store.lengths[chosen] - batch.starts, batch.length)
    store.advise_read(chosen, batch.starts, counts)
    leads = slice(None) if tuple(columns) == tuple(range(len(LEADS))) else list(columns)  # all are copied at a stretch
    for signal, record, start, count in zip(signals, chosen, batch.starts, counts, strict=True):
        store.signal(record, leads, start, count, out=signal[:count])
        if count < batch.length:
            window.pad(signal, count)
    store.release()
    return signals


def prefetch(function, items, count=2):
    """Yield function(item) for each item, in order, computed by a thread up to `count` items ahead of their use."""
    with ThreadPoolExecutor(1) as pool:
        waiting = []
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > count:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()


@dataclass(frozen=True)
class Dataset:
    """Recordings of a store, by their places (n,), and the columns of it that a network sees.

    targets (n, K) and masks (n, K): what a label counts, 0 where masked; None where they are only asked about.
    window: how much of a recording is seen at once; demographics: whether age and sex are, too; configurations: sets of
    places among the columns, of which one, drawn at random for each recording in training, keeps its leads, and the
    others are 0. peaks: the waves of the store's recordings (ecg.data.wave_peaks) where they are to be found, too, on a grid of
    cells of so many samples.
    """

    store: Store
    records: np.ndarray
    leads: tuple[int, ...]
    targets: np.ndarray | None = None
    masks: np.ndarray | None = None
    window: Window = WHOLE_RECORDING
    demographics: bool = False
    configurations: tuple[tuple[int, ...], ...] = ()
    peaks: WavePeaks | None = None
    cell: int | None = None

    @property
    def lengths(self):
        """Samples of each recording: (n,)."""
        return self.store.lengths[self.records]

    def inputs(self, batch, generator=None):
        """Return what the network sees of a Batch: (B, T, leads) float32, mV, and with persons a pair of it and (B, 5).

        With a generator, in training, leads are left out by it where there are configurations.
        """
        signals = read_batch(self.store, self.records, self.leads, batch, self.window)
        if generator is not None and self.configurations:
            kept = np.zeros((len(self.configurations), len(self.leads)), np.float32)
            for row, places in zip(kept, self.configurations, strict=True):
                row[list(places)] = 1
            signals *= kept[generator.integers(len(kept), size=len(signals)), np.newaxis]
        return (signals, self.store.demographics[self.records[batch.records]]) if self.demographics else signals

    def targets_and_masks(self, batch):
        """Return the targets and the masks of a Batch: (B, K) each, with peaks followed by their grid, laid flat."""
        targets, masks = self.targets[batch.records], self.masks[batch.records]
        if self.peaks is None:
            return targets, masks
        cells = batch.length // self.cell
        found = encode_peaks(self.peaks, self.records[batch.records], batch.starts, batch.length, cells)
        return tuple(
            np.hstack([labels, flat.reshape(len(flat), -1)])
            for labels, flat in zip((targets, masks), found, strict=True)
        )
