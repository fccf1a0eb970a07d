"""What a network learns from or answers for: recordings of a store, as it sees them, and what is true of them."""

from dataclasses import dataclass

import numpy as np

from ecg.batches import ANY, Window, gather
from ecg.grid import grid
from ecg.peaks import StoredPeaks
from ecg.store import Store


@dataclass(frozen=True)
class Examples:
    """Recordings of a store, by their places (n,), and the columns of it that a network sees.

    targets (n, K) and masks (n, K): what a label counts, 0 where masked; None where they are only asked about.
    window: how much of a recording is seen at once; persons: whether age and sex are, too; configurations: sets of
    places among the columns, of which one, drawn at random for each recording in training, keeps its leads, and the
    others are 0. peaks: the waves of the store's recordings (ecg.peaks) where they are to be found, too, on a grid of
    cells of so many samples.
    """

    store: Store
    records: np.ndarray
    columns: tuple[int, ...]
    targets: np.ndarray | None = None
    masks: np.ndarray | None = None
    window: Window = ANY
    persons: bool = False
    configurations: tuple[tuple[int, ...], ...] = ()
    peaks: StoredPeaks | None = None
    cell: int | None = None

    @property
    def lengths(self):
        """Samples of each recording: (n,)."""
        return self.store.lengths[self.records]

    def inputs(self, batch, generator=None):
        """Return what the network sees of a Batch: (B, T, leads) float32, mV, and with persons a pair of it and (B, 5).

        With a generator, in training, leads are left out by it where there are configurations.
        """
        signals = gather(self.store, self.records, self.columns, batch, self.window)
        if generator is not None and self.configurations:
            kept = np.zeros((len(self.configurations), len(self.columns)), np.float32)
            for row, places in zip(kept, self.configurations, strict=True):
                row[list(places)] = 1
            signals *= kept[generator.integers(len(kept), size=len(signals)), np.newaxis]
        return (signals, self.store.persons[self.records[batch.records]]) if self.persons else signals

    def truth(self, batch):
        """Return the targets and the masks of a Batch: (B, K) each, with peaks followed by their grid, laid flat."""
        targets, masks = self.targets[batch.records], self.masks[batch.records]
        if self.peaks is None:
            return targets, masks
        cells = batch.length // self.cell
        found = grid(self.peaks, self.records[batch.records], batch.starts, batch.length, cells)
        return tuple(
            np.hstack([labels, flat.reshape(len(flat), -1)])
            for labels, flat in zip((targets, masks), found, strict=True)
        )
