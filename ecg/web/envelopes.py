"""Read recordings of many hours for the page, in bounded memory.

The page gets windows of their samples, and an envelope: the lowest and the highest sample of each block.
"""

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.headers import Header, Lead, read_header
from ecg.data.records import SignalError
from ecg.data.windows import SampleReader, open_samples
from ecg.web.catalogue import file_state
from ecg.web.signals import (
    INVALID,
    LARGEST,
    RAW,
    LeadUnit,
    PackedSignal,
    choose_unit,
    find_valid,
    open_long,
    pack_recording,
    read_beginning,
    voltage_rows,
)

COARSE_BLOCK, FINE_BLOCK = 256, 16  # samples in a block of an envelope, and of a window that shows some minutes
MOST_BLOCKS = 2**18  # in an envelope
MOST_ENTRIES = 2**16  # samples or blocks in a window
MOST_ENVELOPES = 4  # that are kept; one of twelve leads has up to 12 MB
CHUNK = 2**23  # samples of all leads that are read at once
SAMPLED = 20_000  # samples of a lead of which the median is taken


class TooLongError(SignalError):
    """A recording is too long for what is asked for."""


class Envelope(NamedTuple):
    """The lowest and highest samples of a long recording in blocks.

    Attributes:
        header: Its header, with corrected gains.
        rows: Rows of the leads that are shown, (n_leads,).
        units: Their units.
        block: Samples in a block; the last block may have fewer.
        extremes: Lowest and highest of each block, (n_leads, 2, n_blocks) int16; 32767 and INVALID without a valid one.
        n_samples: Number of samples of a lead.
        states: Sizes and times of the files.
    """

    header: Header
    rows: list[int]
    units: list[LeadUnit]
    block: int
    extremes: np.ndarray
    n_samples: int
    states: tuple[tuple[int, int], ...]

    def is_current(self, path: Path) -> bool:
        """Return whether the files are the same as when they were measured."""
        return self.states == _file_states(path, open_samples(path, read_header(path)))

    def pack(self) -> PackedSignal:
        """Return the envelope as it is sent."""
        return self.describe(self.extremes)._replace(block=self.block, total=self.n_samples)

    def describe(self, integers: np.ndarray) -> PackedSignal:
        """Return samples or blocks of the recording as they are sent."""
        names = tuple(self.header.leads[row].name for row in self.rows)
        units = np.array([unit.microvolts for unit in self.units])
        return PackedSignal(names, integers, self.header.sampling_frequency, units)


def _file_states(path: Path, reader: SampleReader) -> tuple[tuple[int, int], ...]:
    return file_state(path), *map(file_state, reader.files)


def measure_envelope(path: Path, early_gains: bool) -> Envelope:
    """Measure the envelope of a recording, chunk by chunk.

    Args:
        path: The header's path.
        early_gains: Whether the gains of headers of early 2020 are corrected.

    Raises:
        RecordError: The recording cannot be read.
    """
    header = read_header(path)
    reader = open_samples(path, header)
    states, count = _file_states(path, reader), reader.n_samples
    header, _ = read_beginning(header, reader, early_gains)
    rows, block = voltage_rows(header), choose_block(count)
    chunk = max(CHUNK // len(header.leads) // block, 1) * block
    step = max(count // SAMPLED, 1)
    extremes, sampled = [], []
    for first in range(0, count, chunk):
        samples = np.ascontiguousarray(reader.read(first, min(first + chunk, count))[rows])  # each lead in one piece
        valid = np.stack([find_valid(values, header.leads[row]) for values, row in zip(samples, rows, strict=True)])
        extremes.append(find_extremes(samples, valid, block))
        sampled.append((samples[:, -first % step :: step].copy(), valid[:, -first % step :: step].copy()))
    leads = [header.leads[row] for row in rows]
    units, packed = pack_extremes(leads, np.concatenate(extremes, axis=2), sampled)
    return Envelope(header, rows, units, block, packed, count, states)


def choose_block(n_samples: int) -> int:
    """Return the samples in a block, such that an envelope has at most MOST_BLOCKS."""
    return COARSE_BLOCK * 2 ** max(math.ceil(math.log2(n_samples / COARSE_BLOCK / MOST_BLOCKS)), 0)


def pack_extremes(
    leads: Sequence[Lead], extremes: np.ndarray, sampled: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[list[LeadUnit], np.ndarray]:
    """Choose the units of leads, and write their envelope in them.

    Args:
        leads: The leads.
        extremes: Those of all blocks, as `find_extremes` returns them.
        sampled: Samples (n_leads, n) of each chunk at even distances, and which of them are valid.

    Returns:
        The units, and the envelope (n_leads, 2, n_blocks) int16.
    """
    packed, units = np.empty(extremes.shape, "<i2"), []
    packed[:, 0], packed[:, 1] = LARGEST, INVALID
    for index, lead in enumerate(leads):
        values = np.concatenate([samples[index][valid[index]] for samples, valid in sampled]).astype(np.float64)
        has_valid = np.isfinite(extremes[index, 0])
        measured = extremes[index][:, has_valid]
        units.append(choose_unit(lead, values if len(values) else measured.ravel(), measured, sampled[0][0].dtype))
        packed[index][:, has_valid] = np.sort(units[-1].pack(measured), axis=0)
    return units, packed


def find_extremes(samples: np.ndarray, valid: np.ndarray, block: int) -> np.ndarray:
    """Return the lowest and highest valid sample of each block.

    Args:
        samples: (n_leads, n).
        valid: Which are valid, of the same shape.
        block: Samples in a block; the last one may have fewer.

    Returns:
        (n_leads, 2, n_blocks) float64; infinity and minus infinity if no sample is valid.
    """
    limits = np.iinfo(samples.dtype) if samples.dtype.kind in "iu" else np.finfo(samples.dtype)
    short = -samples.shape[1] % block
    if short or not valid.all():
        padded = np.pad(valid, ((0, 0), (0, short)))
        samples = np.pad(samples, ((0, 0), (0, short)))
        low, high = np.where(padded, samples, limits.max), np.where(padded, samples, limits.min)
        has_valid = padded.reshape(len(padded), -1, block).any(axis=2)
    else:
        low, high, has_valid = samples, samples, np.True_
    lowest, highest = (values.reshape(len(values), -1, block) for values in (low, high))
    return np.stack(
        [np.where(has_valid, lowest.min(axis=2), np.inf), np.where(has_valid, highest.max(axis=2), -np.inf)], axis=1
    )


class SampleWindow(NamedTuple):
    """A window of a long recording.

    Attributes:
        first: First sample.
        count: Number of samples, of which there may be fewer; 0: the envelope is wanted.
        block: 1 for samples, or the samples in a block of which the lowest and the highest are sent.
    """

    first: int = 0
    count: int = 0  # type: ignore[assignment]
    block: int = 1


def pack_window(path: Path, envelope: Envelope, window: SampleWindow) -> PackedSignal:
    """Read a window of a long recording, in the units of its envelope.

    Raises:
        RecordError: The recording cannot be read.
    """
    reader = open_samples(path, read_header(path))
    first = min(window.first, reader.n_samples)
    samples = reader.read(first, min(first + window.count, reader.n_samples))
    packed = np.full((len(envelope.rows), samples.shape[1]), INVALID, "<i2")
    for index, (row, unit) in enumerate(zip(envelope.rows, envelope.units, strict=True)):
        valid = find_valid(samples[row], envelope.header.leads[row])
        packed[index, valid] = unit.pack(samples[row][valid].astype(np.float64)).clip(-LARGEST, LARGEST)
    if window.block > 1:
        packed = find_extremes(packed, packed != INVALID, window.block).clip(INVALID, LARGEST).astype("<i2")
    return envelope.describe(packed)._replace(block=window.block, total=samples.shape[1])


class SignalSource:
    """Reads signals, and keeps the last envelopes that it measured."""

    def __init__(self) -> None:
        self._envelopes: dict[Path, Envelope] = {}
        self._lock = threading.Lock()  # one envelope is measured at a time

    def pack(self, path: Path, kind: str, window: SampleWindow, early_gains: bool) -> PackedSignal:
        """Read what is sent of a signal.

        That is all of it, or of a long recording a window or the envelope.

        Args:
            path: The header's path.
            kind: One of KINDS.
            window: The window.
            early_gains: Whether the gains of headers of early 2020 are corrected.

        Raises:
            TooLongError: The recording is too long to be filtered.
            RecordError: It cannot be read.
        """
        if open_long(path, read_header(path)) is None:
            return pack_recording(path, kind, early_gains)
        if kind != RAW:
            raise TooLongError("it is too long to be filtered; look at the raw signal")
        with self._lock:
            envelope = self._envelopes.pop(path, None)
            if envelope is None or not envelope.is_current(path):
                envelope = measure_envelope(path, early_gains)
            self._envelopes[path] = envelope
            while len(self._envelopes) > MOST_ENVELOPES:
                del self._envelopes[next(iter(self._envelopes))]
        return pack_window(path, envelope, window) if window.count else envelope.pack()
