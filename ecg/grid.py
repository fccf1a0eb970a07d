"""Peaks of waves on a grid, as a network learns and answers them: laid on it, and read off.

The grid is that of Li et al. 2021, "Towards Generalization of Cardiac Abnormality Classification Using Reduced-lead
Multi-source ECG Signal": a cell of time holds up to three peaks, each by seven numbers, which are its confidence, its
position in the cell from 0 to 1, and one for each of the five waves.
"""

from typing import NamedTuple

import numpy as np

WAVES = "PQRST"  # in the order in which a beat has them, which is that of their numbers
SLOTS = 3  # peaks in a cell, at the most
CONFIDENCE, POSITION, CLASSES = 0, 1, 2  # places of the numbers of a peak, the last of the first wave
NUMBERS = CLASSES + len(WAVES)
PRESENT = np.array([1, 5, *[1] * len(WAVES)], np.float32)  # weights of a peak's numbers
ABSENT = np.array([0.2, 0, *[0] * len(WAVES)], np.float32)  # where there is none


class Peaks(NamedTuple):
    """Peaks in the order of time: their samples (p,) and waves (p,), 0 to 4 for P, Q, R, S, T."""

    samples: np.ndarray
    waves: np.ndarray


def grid(peaks, records, starts, length, cells):
    """Lay the StoredPeaks (ecg.peaks) of a batch on a grid: targets and their weights, both (B, cells, 3, 7) float32.

    `records` (B,) are places in the store, cut at `starts` (B,) to `length` samples, which are divided evenly among the
    cells. Of more than three peaks in a cell the first count; beyond a recording's end there are none. Li et al. 2021:
    a position weighs 5, the confidence that there is no peak 0.2, all else 1. Ours: where there is no peak, its
    position and wave weigh nothing, for they are of none.
    """
    records, starts = np.asarray(records), np.asarray(starts)
    first, last = peaks.starts[records], peaks.starts[records + 1]
    row = np.repeat(np.arange(len(records)), last - first)
    number = np.arange(len(row)) + np.repeat(last - np.cumsum(last - first), last - first)
    sample = peaks.samples[number] - starts[row]
    inside = (sample >= 0) & (sample < length)
    row, number, sample = row[inside], number[inside], sample[inside]
    cell, rest = np.divmod(sample * cells, length)
    along = row * cells + cell  # never falls: of two equal ones the second is another peak of that cell
    slot = np.arange(len(row)) - np.searchsorted(along, along)
    held = slot < SLOTS
    place = row[held], cell[held], slot[held]
    targets = np.zeros((len(records), cells, SLOTS, NUMBERS), np.float32)
    weights = np.broadcast_to(ABSENT, targets.shape).copy()
    targets[*place, CONFIDENCE] = 1
    targets[*place, POSITION] = rest[held] / length
    targets[*place, CLASSES + peaks.waves[number[held]]] = 1
    weights[place] = PRESENT
    return targets, weights


def peaks_in(outputs, length, sure=0.5):
    """Read the Peaks off a grid (cells, 3, 7) of `length` samples, as a network answers or `grid` has it.

    Those are taken that it is `sure` of, each at the nearest sample of its cell, and of its likeliest wave.
    """
    outputs = np.asarray(outputs, np.float64)
    cell, slot = np.nonzero(outputs[:, :, CONFIDENCE] >= sure)
    chosen = outputs[cell, slot]
    samples = np.rint((cell + chosen[:, POSITION].clip(0, 1)) * length / len(outputs)).clip(max=length - 1)
    return in_order(samples, chosen[:, CLASSES:].argmax(axis=1))


def in_order(samples, waves):
    """Return Peaks of samples (p,) and waves (p,) in any order; those without a sample, NaN, are left out."""
    order = np.lexsort((waves, samples))
    order = order[: np.isfinite(samples).sum()]  # NaN comes last
    return Peaks(samples[order].astype(np.int32), waves[order].astype(np.int8))
