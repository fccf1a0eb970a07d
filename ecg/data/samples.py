"""The samples of stored recordings, read from the memory-mapped files of a store."""

import mmap
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ecg.data.leads import LEADS
from ecg.data.preprocessing import RESOLUTION

SAMPLES = ".int16"  # extension of the files of samples
WIDTH = len(LEADS) * np.dtype(np.int16).itemsize  # bytes of a row
# Files that are mapped at the same time. Linux allows 65,530 in a process by default.
MOST_MAPPED = 32_768


class SampleFiles(Protocol):
    """Samples by the number of a file, each (n_rows, 12) int16."""

    def __getitem__(self, number: int, /) -> np.ndarray:
        """Return the samples of a file."""
        ...


class MappedFiles:
    """Files of samples, each mapped into memory when it is first read.

    Copies in other processes, by pickle, map the files themselves.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """Map nothing yet.

        Args:
            folder: Folder of the files.
            names: Their names, without extension, in the order of their numbers.
        """
        self.folder, self.names = folder.absolute(), names
        self._mapped: dict[int, tuple[np.ndarray, mmap.mmap]] = {}
        self._read: set[int] = set()  # since the last `release`
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple:
        return MappedFiles, (self.folder, self.names)

    def __getitem__(self, number: int) -> np.ndarray:
        """Return the samples of a file, (n_rows, 12) int16, read-only."""
        self._read.add(number)
        entry = self._mapped.get(number)
        return (self._map(number) if entry is None else entry)[0]

    def path(self, number: int) -> Path:
        """Return the path of a file."""
        return self.folder / f"{self.names[number]}{SAMPLES}"

    def memory_map(self, number: int) -> mmap.mmap:
        """Return the memory map of a file."""
        entry = self._mapped.get(number)
        return (self._map(number) if entry is None else entry)[1]

    def release(self) -> None:
        """Stop counting what was read as memory of this process (madvise DONTNEED)."""
        numbers, self._read = self._read, set()
        for number in numbers:
            if entry := self._mapped.get(number):
                entry[1].madvise(mmap.MADV_DONTNEED)

    def _map(self, number: int) -> tuple[np.ndarray, mmap.mmap]:
        with self._lock:
            while len(self._mapped) >= MOST_MAPPED:
                del self._mapped[next(iter(self._mapped))]  # unmapped as soon as nothing refers to it
            with open(self.path(number), "rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            entry = np.frombuffer(mapped, np.int16).reshape(-1, len(LEADS)), mapped
            self._mapped[number] = entry
            return entry


@dataclass(frozen=True)
class Samples:
    """Samples of N recordings in microvolts, each in one of several files.

    Attributes:
        files: The files of samples, by number.
        numbers: Number of the file of each recording, (N,).
        starts: First row of each recording in its file, (N,).
        lengths: Number of rows of each recording, (N,).
    """

    files: SampleFiles
    numbers: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def subset(self, records: np.ndarray) -> "Samples":
        """Return the samples of some recordings (n,), in the same files."""
        arrays = {name: getattr(self, name)[records] for name in ("numbers", "starts", "lengths")}
        return replace(self, **arrays)

    def signal(
        self,
        record: int,
        leads: Sequence[int] | slice | int = slice(None),
        start: int = 0,
        length: int | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return a recording or a segment of it.

        Args:
            record: Index of the recording.
            leads: Indices of the leads, or one index.
            start: First sample.
            length: Number of samples; None for all until the end.
            out: Array for the result, (T, n_leads) float32.

        Returns:
            Millivolts, (T, n_leads) float32.
        """
        first = self.starts[record] + start
        last = first + (self.lengths[record] - start if length is None else length)
        return np.multiply(self.files[int(self.numbers[record])][first:last, leads], RESOLUTION, out=out)

    def advise_read(self, records: np.ndarray, starts: np.ndarray, lengths: np.ndarray | int) -> None:
        """Let the system read segments of recordings ahead of use (madvise WILLNEED).

        The next batch of a store larger than memory is usually on the disk. Without this, a few pages are read at a
        time, each waited for.

        Args:
            records: Indices of the recordings, (n,).
            starts: First sample of each segment, (n,).
            lengths: Number of samples of each segment, (n,) or one for all.
        """
        if isinstance(self.files, MappedFiles):
            rows = self.starts[records] + starts
            first, last = rows * WIDTH, (rows + lengths) * WIDTH
            pages = first - first % mmap.PAGESIZE
            segments = zip(self.numbers[records].tolist(), pages.tolist(), (last - pages).tolist(), strict=True)
            for number, page, size in segments:
                self.files.memory_map(number).madvise(mmap.MADV_WILLNEED, page, size)

    def release(self) -> None:
        """Stop counting what was read as memory of this process (madvise DONTNEED).

        The system keeps it as long as it has room. Without this, a process that has read a store seems to hold all of
        it.
        """
        if isinstance(self.files, MappedFiles):
            self.files.release()
