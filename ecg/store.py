"""All preprocessed recordings of a data folder in one memory-mapped file, each read and filtered once."""

import csv
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from joblib import Parallel, cpu_count, delayed

from ecg.files import aside
from ecg.headers import RecordError
from ecg.labels import DISCARDED_SOURCES, encode, source_of
from ecg.leads import LEADS
from ecg.progress import Progress
from ecg.records import find_records, read_record
from ecg.signals import RATE, RESOLUTION, preprocess

SHORTEST = RATE  # samples; less than a second says nothing of a rhythm
LONGEST = 144 * RATE  # samples; the longest recording of CPSC, what comes after is left out of training
CHUNK = 32  # recordings a process reads before it hands them over
ROUND = 64  # chunks under way before all are written, which bounds the memory

SIGNALS, INDEX, DROPPED = "signals.int16", "index.npz", "dropped.csv"


@dataclass(frozen=True)
class Store:
    """N recordings: whole microvolts at 250 Hz in the standard order of leads, one after the other.

    names (N,) text, paths (N,) text, the headers' below the data folder, sources (N,) text, labels (N, 26) bool,
    starts (N + 1,) rows of the memory map, microvolts (rows, 12) int16, dropped: pairs of a record's name and why it is
    not among them, digest: text that is another as soon as a sample, a name, a label or a length is.
    """

    names: np.ndarray
    paths: np.ndarray
    sources: np.ndarray
    labels: np.ndarray
    starts: np.ndarray
    microvolts: np.ndarray
    dropped: tuple[tuple[str, str], ...]
    digest: str

    def __len__(self):
        return len(self.names)

    @cached_property
    def lengths(self):
        """Samples of each recording: (N,)."""
        return np.diff(self.starts)

    def signal(self, record, columns=slice(None), start=0, length=None):
        """Return `length` samples from `start` of one recording, or all: (T, leads) float32, mV at 250 Hz."""
        first = self.starts[record] + start
        last = self.starts[record + 1] if length is None else first + length
        return self.microvolts[first:last, columns] * RESOLUTION


def build_store(data, folder, jobs=None):
    """Read, preprocess and store every recording below the folder `data`, by `jobs` processes; return the Store.

    A recording that cannot be used is left out with its reason. Raises FileNotFoundError where `data` holds no
    header at all, and RecordError where no recording could be used.
    """
    paths = find_records(data)
    if not paths:
        raise FileNotFoundError(f"{data}: no header (*.hea) in this folder or below it")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    chunks = [paths[first : first + CHUNK] for first in range(0, len(paths), CHUNK)]
    kept, dropped, digest = [], [], hashlib.sha256()
    with (
        open(folder / SIGNALS, "wb") as file,
        Progress("reading", len(paths)) as progress,
        Parallel(min(jobs or cpu_count(), len(chunks)), return_as="generator") as parallel,
    ):
        for first in range(0, len(chunks), ROUND):
            for chunk in parallel(delayed(_load)(chunk) for chunk in chunks[first : first + ROUND]):
                for path, labels, microvolts, reason in chunk:
                    if reason:
                        dropped.append((path.stem, reason))
                    else:
                        samples = microvolts.tobytes()
                        file.write(samples)
                        digest.update(samples)
                        below = path.relative_to(data).as_posix()
                        kept.append((path.stem, below, source_of(path.stem), labels, len(microvolts)))
                progress.advance(len(chunk))
    if not kept:
        raise RecordError(f"{data}: none of {len(paths)} recordings can be used, {': '.join(dropped[0])}")
    names, paths, sources, labels, lengths = map(np.array, zip(*kept, strict=True))
    digest.update("\n".join(paths).encode() + np.packbits(labels).tobytes() + lengths.tobytes())
    arrays = {"names": names, "paths": paths, "sources": sources, "labels": labels, "digest": digest.hexdigest()}
    with open(folder / DROPPED, "w", newline="") as file:
        csv.writer(file).writerows([("record", "reason"), *dropped])
    with aside(folder / INDEX) as part:  # last: a store without an index is not a store
        np.savez(part, starts=np.cumsum((0, *lengths)), **arrays)
    return open_store(folder)


def open_store(folder):
    """Open a store that was built in this folder; FileNotFoundError where there is none."""
    folder = Path(folder)
    with np.load(folder / INDEX, allow_pickle=False) as index:
        arrays = {name: index[name] for name in ("names", "paths", "sources", "labels", "starts")}
        digest = str(index["digest"])
    with open(folder / DROPPED, newline="") as file:
        dropped = tuple((row["record"], row["reason"]) for row in csv.DictReader(file))
    microvolts = np.memmap(folder / SIGNALS, np.int16, "r", shape=(int(arrays["starts"][-1]), len(LEADS)))
    return Store(microvolts=microvolts, dropped=dropped, digest=digest, **arrays)


def _load(paths):
    return [_load_one(path) for path in paths]


def _load_one(path):
    """Return a recording's path, labels (26,), microvolts (T, 12) int16 and None, or its path and why not."""
    if source_of(path.stem) in DISCARDED_SOURCES:
        return path, None, None, f"source {source_of(path.stem)} is not trained on"
    try:
        header, recording = read_record(path)
        signal = preprocess(header, recording, LEADS)
    except (RecordError, OSError) as error:
        return path, None, None, str(error)
    if len(signal) < SHORTEST:
        return path, None, None, f"{len(signal) / RATE:.2f} s is shorter than {SHORTEST / RATE:g} s"
    microvolts = np.rint(signal[:LONGEST] / RESOLUTION).astype(np.int16)
    return path, encode(header.codes), microvolts, None
