"""Which recordings, cut how, go together: a pure plan, then the arrays, then the next ones while the present are used.

Nothing is ever padded: a batch holds recordings of one length.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from ecg.leads import LEADS
from ecg.resampling import RATE

# Samples; training cuts to the largest that a recording reaches. No step is the usual length, 10 s, so that most cuts
# fall elsewhere in each epoch.
GRID = np.array((1, 2, 4, 8, 16, 32, 64)) * RATE
FULL = 20 * RATE  # samples; up to here a batch holds all the recordings asked for, beyond it fewer, for memory


class Batch(NamedTuple):
    """Recordings (B,) by their place in a store, where each is cut (B,), and to how many samples."""

    records: np.ndarray
    starts: np.ndarray
    length: int


def plan_training(lengths, size, generator):
    """Shuffle recordings of the given lengths (N,) into batches of `size`, each cut at random to a step of the grid.

    Every recording is in exactly one batch. What does not fill a batch joins the next shorter step where that has
    recordings of its own; else all batches of the step are a little smaller. ValueError where a recording is shorter
    than the first step.
    """
    if len(lengths) and min(lengths) < GRID[0]:
        raise ValueError(f"a recording of {min(lengths)} samples is shorter than the shortest cut, {GRID[0]}")
    step = step_of(lengths)
    batches, waiting = [], np.array([], int)
    for place in reversed(range(len(GRID))):
        group = np.concatenate([waiting, generator.permutation(np.flatnonzero(step == place))])
        count = batch_size(size, GRID[place])
        carried = len(group) % count if place > 0 and np.any(step == place - 1) else 0
        group, waiting = np.split(group, [len(group) - carried])
        for records in np.array_split(group, -(-len(group) // count)) if len(group) else ():
            starts = generator.integers(0, lengths[records] - GRID[place], endpoint=True)
            batches.append(Batch(records, starts, int(GRID[place])))
    return [batches[place] for place in generator.permutation(len(batches))]


def step_of(lengths):
    """Return the place in the grid of the step that recordings of these lengths (N,) are cut to: (N,)."""
    return np.searchsorted(GRID, lengths, side="right") - 1


def plan_whole(lengths, size):
    """Put recordings of the given lengths (N,) into batches of at most `size`, each whole, with its exact equals."""
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


def batch_size(size, length):
    """Return how many recordings of a length make a batch: `size`, or as many as hold the samples of `size` at 20 s."""
    return max(1, min(size, size * FULL // int(length)))


def gather(store, records, columns, batch):
    """Read a batch of `records`, places in the store, (n,): (B, T, leads) float32, mV at 250 Hz."""
    signals = np.empty((len(batch.records), batch.length, len(columns)), np.float32)
    chosen = records[batch.records]
    store.expect(chosen, batch.starts, batch.length)
    leads = slice(None) if tuple(columns) == tuple(range(len(LEADS))) else list(columns)  # all are copied at a stretch
    for signal, record, start in zip(signals, chosen, batch.starts, strict=True):
        store.signal(record, leads, start, batch.length, out=signal)
    store.release()
    return signals


def ahead(function, items, count=2):
    """Yield function(item) for each item, in order, computed by a thread up to `count` items ahead of their use."""
    with ThreadPoolExecutor(1) as pool:
        waiting = []
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > count:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
