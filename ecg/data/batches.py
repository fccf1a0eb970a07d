"""Plan batches, read them from the store, and prefetch the next ones.

A batch holds signals of one length. Whole recordings are never padded; a network with a fixed window sees one length.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np

from ecg.data.augmentation import MIXUP, Part, augment_signals, mix_examples
from ecg.data.leads import LEADS
from ecg.data.resampling import DEFAULT_PREPROCESSING, RATE, Preprocessing
from ecg.data.store import Store
from ecg.data.wave_peaks import WavePeaks, encode_peaks

Item = TypeVar("Item")
Result = TypeVar("Result")

# Samples. Training crops a recording to the largest of these that it reaches. None is the usual length, 10 s, so that
# most crops begin elsewhere in each epoch.
CROP_LENGTHS = np.array((1, 2, 4, 8, 16, 32, 64)) * RATE
FULL_BATCH_LENGTH = 20 * RATE  # samples; batches of longer signals hold fewer recordings, to save memory
# Paddings of short recordings: at the end, with zeros or the recording repeated, or in front, with zeros.
ZEROS, REPEATED, ZEROS_IN_FRONT = "zeros", "repeated", "zeros in front"


@dataclass(frozen=True)
class Window:
    """How much of a recording a network sees at once; by default all of it.

    Attributes:
        length: Samples; None for any number.
        fill: Padding of shorter recordings: ZEROS or REPEATED at the end, or ZEROS_IN_FRONT.
        overlap: Minimum overlap, in samples, of the segments of a longer recording in prediction.
        slack: Samples that a recording may exceed the length before it gets one more segment.
        first_only: Whether only the first window of a longer recording is predicted.
        standardised: Whether each lead is scaled within the window to mean 0 and standard deviation 1, before padding.

    Raises:
        ValueError: The values are inconsistent.
    """

    length: int | None = None
    fill: str = ZEROS
    overlap: int = 0
    slack: int = 0
    first_only: bool = False
    standardised: bool = False

    def __post_init__(self) -> None:
        limit = 0 if self.length is None else self.length // 2  # beyond it, samples would be predicted many times
        valid = self.length is None or self.length > 0
        valid &= 0 <= self.overlap <= limit and 0 <= self.slack <= limit
        valid &= self.length is not None or not self.first_only
        if not valid or self.fill not in (ZEROS, REPEATED, ZEROS_IN_FRONT):
            raise ValueError(f"a window of {self.length} samples, filled with {self.fill!r}, overlap {self.overlap}, "
                             f"slack {self.slack}")  # fmt: skip

    @property
    def crop_lengths(self) -> np.ndarray:
        """Samples that training crops recordings to, the largest possible: (n,)."""
        return CROP_LENGTHS if self.length is None else np.array([self.length])

    def segment_starts(self, samples: int) -> np.ndarray:
        """Return the first sample of each segment in prediction, evenly spaced.

        L samples give ceil((L - length) / (length - overlap)) + 1 segments (Zhao et al. 2022), or one in the middle if
        L - length is within the slack.
        """
        if self.length is None or self.first_only:
            return np.array([0])
        excess = max(int(samples) - self.length, 0)
        if excess <= self.slack:
            return np.array([excess // 2])
        last = -(-(excess - self.slack) // (self.length - self.overlap))
        return excess * np.arange(last + 1) // last

    def signal_slice(self, length: int, samples: int) -> slice:
        """Return the part of a window that the samples of a recording fill.

        Args:
            length: Samples of the window.
            samples: Samples of the recording within it.
        """
        return slice(length - samples, length) if self.fill == ZEROS_IN_FRONT else slice(0, samples)

    def complete(self, window: np.ndarray, samples: int) -> None:
        """Scale and pad a window in place. The signal must already be in `signal_slice`.

        Args:
            window: (length, leads) float32.
            samples: Samples of the recording within it.
        """
        if self.standardised:
            standardise(window[self.signal_slice(len(window), samples)])
        if self.fill == ZEROS_IN_FRONT:
            window[: len(window) - samples] = 0
        elif self.fill == ZEROS:
            window[samples:] = 0
        else:
            for first in range(samples, len(window), samples):
                part = window[first : first + samples]
                part[:] = window[: len(part)]

    def segments(self, signal: np.ndarray) -> np.ndarray:
        """Split a recording (T, leads) for prediction: (n_segments, length or T, leads)."""
        if self.length is None and not self.standardised:
            return signal[np.newaxis]
        starts, length = self.segment_starts(len(signal)), self.length or len(signal)
        segments = np.empty((len(starts), length, signal.shape[1]), signal.dtype)
        for segment, start in zip(segments, starts, strict=True):
            part = signal[start : start + length]
            segment[self.signal_slice(length, len(part))] = part
            self.complete(segment, len(part))
        return segments


def standardise(signal: np.ndarray) -> None:
    """Scale each lead of a signal (T, leads) in place to mean 0 and deviation 1.

    A flat lead becomes 0.
    """
    flat = signal.max(axis=0) == signal.min(axis=0)
    signal -= signal.mean(axis=0, dtype=np.float64).astype(signal.dtype)
    signal /= np.where(flat, 1, signal.std(axis=0, dtype=np.float64)).astype(signal.dtype)
    signal[:, flat] = 0


WHOLE_RECORDING = Window()


@dataclass(frozen=True)
class View:
    """How a network sees a recording: its preprocessing, and how much of it at once."""

    preparation: Preprocessing = DEFAULT_PREPROCESSING
    window: Window = WHOLE_RECORDING

    @property
    def title(self) -> str:
        """Description such as '500 Hz, 15 s', without seconds for any length."""
        seconds = f", {self.window.length / self.preparation.rate:.0f} s" if self.window.length else ""
        return f"{self.preparation.rate} Hz{seconds}"


DEFAULT_VIEW = View()


class Batch(NamedTuple):
    """Indices of recordings (B,), their first samples (B,), and the number of samples."""

    records: np.ndarray
    starts: np.ndarray
    length: int

    def part(self, rows: slice) -> "Batch":
        """Return some of the recordings as a batch."""
        return self._replace(records=self.records[rows], starts=self.starts[rows])


WHOLE_BATCH = slice(None)


def plan_training(
    lengths: np.ndarray, size: int, generator: np.random.Generator, window: Window = WHOLE_RECORDING
) -> list[Batch]:
    """Shuffle recordings into batches, each randomly cropped to a crop length.

    Every recording is in exactly one batch. A remainder that does not fill a batch joins the next shorter crop length
    if that has recordings; otherwise all batches of the crop length are slightly smaller.

    Args:
        lengths: Samples of each recording, (N,).
        size: Recordings per batch.
        generator: Random generator.
        window: The network's window.

    Raises:
        ValueError: A recording is shorter than the shortest crop length.
    """
    crops = window.crop_lengths
    if window.length is None and len(lengths) and min(lengths) < crops[0]:
        raise ValueError(f"a recording of {min(lengths)} samples is shorter than the shortest cut, {crops[0]}")
    chosen = np.maximum(np.searchsorted(crops, lengths, side="right") - 1, 0)
    batches, waiting = [], np.array([], int)
    for index in reversed(range(len(crops))):
        group = np.concatenate([waiting, generator.permutation(np.flatnonzero(chosen == index))])
        count = batch_size(size, crops[index], window)
        carried = len(group) % count if index > 0 and np.any(chosen == index - 1) else 0
        group, waiting = np.split(group, [len(group) - carried])
        for records in np.array_split(group, -(-len(group) // count)) if len(group) else ():
            starts = generator.integers(0, np.maximum(lengths[records] - crops[index], 0), endpoint=True)
            batches.append(Batch(records, starts, int(crops[index])))
    return [batches[index] for index in generator.permutation(len(batches))]


def plan_prediction(lengths: np.ndarray, size: int, window: Window = WHOLE_RECORDING) -> list[Batch]:
    """Put recordings into batches for prediction.

    A batch holds whole recordings of equal length. With a fixed window it holds segments, recording by recording.

    Args:
        lengths: Samples of each recording, (N,).
        size: Recordings, or segments, per batch.
        window: The network's window.
    """
    if window.length is not None:
        segments = [window.segment_starts(length) for length in lengths]
        records = np.repeat(np.arange(len(lengths)), [len(starts) for starts in segments])
        starts = np.concatenate([*segments, np.array([], int)])
        slices = (slice(first, first + size) for first in range(0, len(records), size))
        return [Batch(records[part], starts[part], window.length) for part in slices]
    order = np.argsort(lengths, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1) if len(order) else []
    batches = []
    for run in runs:
        length = int(lengths[run[0]])
        count = batch_size(size, length)
        parts = (run[first : first + count] for first in range(0, len(run), count))
        batches += [Batch(part, np.zeros(len(part), int), length) for part in parts]
    return batches


def batch_size(size: int, length: int, window: Window = WHOLE_RECORDING) -> int:
    """Return the number of recordings of some length in a batch.

    It is `size` for a window of fixed length and up to 20 s; longer batches hold at most as many samples as that.
    """
    return size if window.length else max(1, min(size, size * FULL_BATCH_LENGTH // int(length)))


def read_batch(
    store: Store, records: np.ndarray, leads: Sequence[int], batch: Batch, window: Window = WHOLE_RECORDING
) -> np.ndarray:
    """Read a batch from a store.

    Args:
        store: The store.
        records: Indices in the store, (n,), of the recordings that the batch numbers from 0.
        leads: Indices of the leads.
        batch: The batch.
        window: The network's window.

    Returns:
        Millivolts, or without unit if the window is standardised: (B, T, n_leads) float32.
    """
    signals = np.empty((len(batch.records), batch.length, len(leads)), np.float32)
    chosen = records[batch.records]
    counts = count_samples(store, records, batch)
    store.advise_read(chosen, batch.starts, counts)
    every = tuple(leads) == tuple(range(len(LEADS)))
    columns: slice | list[int] = slice(None) if every else list(leads)  # a slice copies without gaps
    for signal, record, start, count in zip(signals, chosen, batch.starts, counts, strict=True):
        store.signal(record, columns, start, count, out=signal[window.signal_slice(batch.length, count)])
        window.complete(signal, count)
    store.release()
    return signals


def count_samples(store: Store, records: np.ndarray, batch: Batch) -> np.ndarray:
    """Return the samples of a batch that recordings fill, without padding: (B,).

    The arguments are those of `read_batch`.
    """
    return np.minimum(store.lengths[records[batch.records]] - batch.starts, batch.length)


def place_leads(signals: np.ndarray, leads: Sequence[int]) -> np.ndarray:
    """Place some leads among the twelve; the others are 0.

    Args:
        signals: (..., n_leads).
        leads: Indices of the leads.

    Returns:
        (..., 12).
    """
    if tuple(leads) == tuple(range(len(LEADS))):
        return signals
    placed = np.zeros((*signals.shape[:-1], len(LEADS)), signals.dtype)
    placed[..., list(leads)] = signals
    return placed


def prefetch(function: Callable[[Item], Result], items: Iterable[Item], count: int = 2) -> Iterator[Result]:
    """Yield function(item) for each item, computed up to `count` items ahead."""
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[Result]] = []
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > count:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()


@dataclass(frozen=True)
class Dataset:
    """Recordings of a store as a network sees them.

    Attributes:
        store: The store.
        records: Indices of the recordings in the store, (n,).
        leads: Indices of the leads that are read.
        targets: Targets, (n, K); None for prediction.
        masks: Weights of the targets, (n, K), 0 for a masked label; None for prediction.
        window: How much of a recording is seen at once.
        demographics: Whether age and sex are seen, too.
        configurations: Sets of indices in `leads`. In training, one set drawn per recording keeps its leads, and all
            others are zero.
        peaks: Wave peaks of the store, if they are targets, too.
        cell: Samples per cell of the grid of peaks.
        augmentations: Names of random changes in training (ecg.data.augmentation). They come before the scaling of a
            standardised window.
        all_leads: Whether the network sees the twelve leads, with zeros for those that are not read.
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
    augmentations: tuple[str, ...] = ()
    all_leads: bool = False

    @property
    def lengths(self) -> np.ndarray:
        """Samples of each recording: (n,)."""
        return self.store.lengths[self.records]

    def inputs(
        self, batch: Batch, generator: np.random.Generator | None = None, rows: slice = WHOLE_BATCH
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Return the inputs of a network for recordings of a batch.

        Args:
            batch: The batch.
            generator: Draws the lead configurations and augmentations in training.
            rows: Which n recordings of the batch are read. They are the same whatever else is read.

        Returns:
            Millivolts, or as the window scales them, (n, T, n_leads) float32; with demographics a pair of these and
            (n, 5) float32.
        """
        part, batch = Part(rows, len(batch.records)), batch.part(rows)
        scales_later = generator is not None and bool(self.augmentations) and self.window.standardised
        window = replace(self.window, standardised=False) if scales_later else self.window
        signals = read_batch(self.store, self.records, self.leads, batch, window)
        if generator is not None and self.configurations:
            kept = np.zeros((len(self.configurations), len(self.leads)), np.float32)
            for row, indices in zip(kept, self.configurations, strict=True):
                row[list(indices)] = 1
            signals *= kept[generator.integers(len(kept), size=part.size)[rows], np.newaxis]
        if generator is not None:
            augment_signals(signals, self.augmentations, self.store.preparation.rate, generator, part)
        if scales_later:
            for signal, count in zip(signals, count_samples(self.store, self.records, batch), strict=True):
                self.window.complete(signal, count)
        if self.all_leads:
            signals = place_leads(signals, self.leads)
        return (signals, self.store.demographics[self.records[batch.records]]) if self.demographics else signals

    def targets_and_masks(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return targets and masks (B, K) of a batch, then the flattened grid of peaks."""
        assert self.targets is not None and self.masks is not None
        pair = self.targets[batch.records], self.masks[batch.records]
        if self.peaks is None or self.cell is None:
            return pair
        cells = batch.length // self.cell
        grids = encode_peaks(self.peaks, self.records[batch.records], batch.starts, batch.length, cells)
        targets, masks = (np.hstack([x, y.reshape(len(y), -1)]) for x, y in zip(pair, grids, strict=True))
        return targets, masks

    def training_examples(self, batch: Batch, generator: np.random.Generator, rows: slice = WHOLE_BATCH) -> tuple:
        """Return inputs, targets and masks of a batch, as training sees them.

        Args:
            batch: The batch.
            generator: Draws the lead configurations and augmentations.
            rows: Which recordings of the batch the inputs are of. Mixup reads the others, too.

        Returns:
            What `inputs` returns, and targets and masks of the whole batch (B, K).
        """
        targets, masks = self.targets_and_masks(batch)
        if MIXUP not in self.augmentations:
            return self.inputs(batch, generator, rows), targets, masks
        inputs = self.inputs(batch, generator)
        arrays = inputs if isinstance(inputs, tuple) else (inputs,)
        mixed, targets, masks = mix_examples(arrays, targets, masks, generator)
        parts = tuple(array[rows] for array in mixed)
        return parts if isinstance(inputs, tuple) else parts[0], targets, masks
