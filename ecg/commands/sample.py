"""A sample of the recordings, read as a training reads all of them, and how long that takes."""

import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import cpu_count

from ecg.data.headers import RecordError, read_header
from ecg.data.labels import DISCARDED_SOURCES, source_of
from ecg.data.records import resolve_case
from ecg.data.store import build_store, open_store, store_folder
from ecg.data.wave_peaks import load_wave_peaks
from ecg.runtime.processes import CHUNK

FIRST, SAMPLE = "first", "sample"  # folders of what is read: to start the processes, and to be timed
CHUNKS, FEWEST_CHUNKS = 4, 16  # of recordings that are read as a sample: for each process, and at the least


class Effort(NamedTuple):
    """Seconds that a work on recordings takes: to start, and for each of them."""

    starting: float
    each: float

    def of(self, recordings):
        """Return the seconds of so many recordings."""
        return self.starting + self.each * recordings


class Sample(NamedTuple):
    """A sample of the recordings: the folder that it is read into, and how many are read first, and then.

    stores: a Store for each Preparation (ecg.data.resampling), reading: the Effort that it takes.
    """

    place: Path
    counts: dict
    stores: dict
    reading: dict


def read_sample(data, paths, place, settings):
    """Store a random sample of recordings as a training does, in a folder: a Sample."""
    jobs = settings.jobs or cpu_count()
    known = [path for path in paths if source_of(path.stem) not in DISCARDED_SOURCES]
    if not known:
        raise RecordError(f"{data}: {len(paths):,} recordings, all of sources that are not trained on")
    first, more = CHUNK * jobs, CHUNK * max(CHUNKS * jobs, FEWEST_CHUNKS)
    order = np.random.default_rng(settings.seed).permutation(len(known))[: first + more]
    chosen = [known[number] for number in order]
    # The first ones start the processes; where there are few recordings, the others take that with them.
    first = min(first, len(chosen) // 4)
    parts = {FIRST: chosen[:first], SAMPLE: chosen[first:]}
    counts = {name: len(part) for name, part in parts.items() if part}
    for name in counts:
        link(parts[name], place / name)
    try:
        found = {one: timed(partial(stored, place, one, jobs), counts) for one in settings.preparations}
    except RecordError as error:
        raise RecordError(f"{data}: of a sample none can be used: {error}") from error
    stores, reading = ({one: each[number] for one, each in found.items()} for number in range(2))
    return Sample(place, counts, stores, reading)


def stored(place, preparation, jobs, name):
    """Return the Store of the part of a sample of this name."""
    return build_store(place / name, sample_folder(place, preparation, name), jobs, preparation)


def sample_folder(place, preparation, name):
    """Return the folder of the store of the part of a sample of this name."""
    return store_folder(place / f"stores of {name}", preparation)


def find_peaks(sample, settings):
    """Find the peaks of a Sample as a training does: by the Preparation, the StoredPeaks and the Effort that it takes.

    Raises NeuroKitMissing.
    """
    found = {one: timed(partial(peaks_of, sample.place, one, settings.jobs), sample.counts) for one in sample.stores}
    return tuple({one: each[number] for one, each in found.items()} for number in range(2))


def peaks_of(place, preparation, jobs, name):
    """Return the StoredPeaks of the part of a sample of this name."""
    folder = sample_folder(place, preparation, name)
    return load_wave_peaks(open_store(folder), preparation.rate, folder, jobs)


def timed(work, counts):
    """Return what a work comes to for a sample, of so many recordings by part, and the Effort that it takes.

    `work` does it for the part of a name.
    """
    seconds = {}
    for name in counts:
        begun = time.monotonic()
        found = work(name)
        seconds[name] = time.monotonic() - begun
    each = seconds[SAMPLE] / counts[SAMPLE]
    return found, Effort(max(seconds.get(FIRST, 0.0) - each * counts.get(FIRST, 0), 0.0), each)


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
        named = (path.with_name(name) for name in (path.with_suffix(".mat").name, *files))
        for file in {path, *map(resolve_case, named)}:
            if file.exists():
                (place / file.name).symlink_to(file.resolve())
