"""Where the waves of lead II peak: found by NeuroKit2, and kept beside a store."""

import logging
import warnings
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.leads import LEADS
from ecg.data.preprocessing import to_centred_millivolts
from ecg.data.records import SignalError
from ecg.data.store import open_store, store_folder
from ecg.runtime.cache import ResultCache, fingerprint, source_hash
from ecg.runtime.console import abbreviated_list
from ecg.runtime.processes import parallel_map

LOGGER = logging.getLogger("ecg")

LEAD = "II"
# Of NeuroKit2's methods, after Emrich et al. 2024. Its own choice, by wavelets, finds no T wave that points down, as
# after LBBB, and takes nine times as long.
DELINEATION_METHOD = "prominence"
# What NeuroKit2 raises over a recording in which it finds too little, by an index, a division or a window of nothing.
NEUROKIT_ERRORS = (ArithmeticError, LookupError, TypeError, ValueError)
CACHE_NAME = "peaks"


class NeuroKitMissing(ImportError):
    """NeuroKit2, which is no requirement of the rest, is not installed."""


@dataclass(frozen=True)
class WavePeaks:
    """The peaks of N recordings, one after the other: starts (N + 1,), samples (p,) int32, waves (p,) int8.

    The samples are counted from the beginning of each recording.
    """

    starts: np.ndarray
    samples: np.ndarray
    waves: np.ndarray

    def recording(self, record):
        """Return the Peaks of one recording."""
        part = slice(*self.starts[record : record + 2])
        return PeakList(self.samples[part], self.waves[part])

    def select_recordings(self, records):
        """Return those of some of the recordings alone, by their places (n,)."""
        counts = np.diff(self.starts)[records]
        starts = np.cumsum([0, *counts])
        places = np.arange(starts[-1]) + np.repeat(self.starts[records] - starts[:-1], counts)
        return WavePeaks(starts, self.samples[places], self.waves[places])


def find_peaks(signal, rate):
    """Find the Peaks of one lead (T,), mV at `rate` Hz, filtered or not and of any length.

    Where NeuroKit2 finds fewer than two beats or fails, they are those of R alone, or none. Raises NeuroKitMissing.
    """
    neurokit, beats, waves = _neurokit(), (), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a flat or short recording there are several
        try:
            cleaned = neurokit.ecg_clean(np.asarray(signal, np.float64), sampling_rate=rate)
            beats = neurokit.ecg_findpeaks(cleaned, sampling_rate=rate)["ECG_R_Peaks"]
            if len(beats) > 1:
                _, waves = neurokit.ecg_delineate(cleaned, beats, sampling_rate=rate, method=DELINEATION_METHOD)
        except NEUROKIT_ERRORS:
            pass  # what was found until then counts
    found = [beats if wave == "R" else waves.get(f"ECG_{wave}_Peaks", ()) for wave in WAVES]
    numbers = np.repeat(np.arange(len(WAVES), dtype=np.int8), [len(samples) for samples in found])
    return sort_peaks(np.concatenate(found).astype(np.float64), numbers)


def find_record_peaks(header, recording):
    """Find the Peaks of lead II of a recording as it is stored, (L, T), in samples at its own frequency.

    Raises SignalError where it has no lead II, HeaderError where that is not a voltage, and NeuroKitMissing.
    """
    if LEAD not in header.lead_names:
        raise SignalError(f"{header.name}: peaks are those of lead {LEAD}, which is not among its leads")
    row = header.lead_names.index(LEAD)
    (signal,), _ = to_centred_millivolts(recording[[row]], [header.leads[row]])
    return find_peaks(signal, header.sampling_frequency)


def load_wave_peaks(store, rate, folder, jobs=None):
    """Return the StoredPeaks of all recordings of a Store at `rate` Hz, found by `jobs` processes, one a core if None.

    `folder` is the store's own: the peaks are kept there, and read back as long as the store and the way in which they
    are found are the same. How many recordings have none beside R is told in a line. Raises NeuroKitMissing.
    """
    kept = ResultCache(Path(folder), fingerprint(store.digest, rate, neurokit_version(), source_hash("data")))
    arrays = kept.load(CACHE_NAME)
    if arrays is None:
        find = partial(_of_record, folder, store.digest, rate)
        with closing(parallel_map(find, range(len(store)), jobs, "peaks")) as each_ones:
            found = list(each_ones)
        arrays = {
            "starts": np.cumsum([0, *(len(peaks.samples) for peaks in found)]),
            "samples": np.concatenate([peaks.samples for peaks in found]),
            "waves": np.concatenate([peaks.waves for peaks in found]),
        }
        kept.save(CACHE_NAME, arrays)
        bare = [name for name, peaks in zip(store.names, found, strict=True) if set(peaks.waves) <= {WAVES.index("R")}]
        if bare:
            none = f"none beside R in {len(bare):,} of {len(store):,} recordings"
            LOGGER.info(f"peaks at {rate} Hz: {none}: {abbreviated_list(bare)}")
    return WavePeaks(**arrays)


def neurokit_version():
    """Return the version of NeuroKit2 that is installed, without the seconds of its import; else NeuroKitMissing."""
    try:
        return metadata.version("neurokit2")
    except metadata.PackageNotFoundError:
        raise NeuroKitMissing("peaks are found by NeuroKit2, which is missing: pip install neurokit2") from None


def _of_record(folder, digest, rate, record):
    """Find the Peaks of a recording of the store in a folder, which this process opens once."""
    store = _opened(folder, digest)
    signal = store.signal(record, LEADS.index(LEAD))
    store.release()
    return find_peaks(signal, rate)


@lru_cache(maxsize=1)
def _opened(folder, digest):
    return open_store(folder)


@lru_cache(maxsize=1)
def _neurokit():
    neurokit_version()
    import neurokit2

    return neurokit2


WAVES = "PQRST"  # in the order in which a beat has them, which is that of their numbers
PEAKS_PER_CELL = 3  # peaks in a cell, at the most
CONFIDENCE, POSITION, FIRST_WAVE = 0, 1, 2  # places of the numbers of a peak, the last of the first wave
VALUES_PER_PEAK = FIRST_WAVE + len(WAVES)
PRESENT = np.array([1, 5, *[1] * len(WAVES)], np.float32)  # weights of a peak's numbers
ABSENT = np.array([0.2, 0, *[0] * len(WAVES)], np.float32)  # where there is none


class PeakList(NamedTuple):
    """Peaks in the order of time: their samples (p,) and waves (p,), 0 to 4 for P, Q, R, S, T."""

    samples: np.ndarray
    waves: np.ndarray


def encode_peaks(peaks, records, starts, length, cells):
    """Lay the StoredPeaks (ecg.data.wave_peaks) of a batch on a grid: targets and their weights, both (B, cells, 3, 7) float32.

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
    held = slot < PEAKS_PER_CELL
    place = row[held], cell[held], slot[held]
    targets = np.zeros((len(records), cells, PEAKS_PER_CELL, VALUES_PER_PEAK), np.float32)
    weights = np.broadcast_to(ABSENT, targets.shape).copy()
    targets[*place, CONFIDENCE] = 1
    targets[*place, POSITION] = rest[held] / length
    targets[*place, FIRST_WAVE + peaks.waves[number[held]]] = 1
    weights[place] = PRESENT
    return targets, weights


def decode_peaks(outputs, length, sure=0.5):
    """Read the Peaks off a grid (cells, 3, 7) of `length` samples, as a network answers or `grid` has it.

    Those are taken that it is `sure` of, each at the nearest sample of its cell, and of its likeliest wave.
    """
    outputs = np.asarray(outputs, np.float64)
    cell, slot = np.nonzero(outputs[:, :, CONFIDENCE] >= sure)
    chosen = outputs[cell, slot]
    samples = np.rint((cell + chosen[:, POSITION].clip(0, 1)) * length / len(outputs)).clip(max=length - 1)
    return sort_peaks(samples, chosen[:, FIRST_WAVE:].argmax(axis=1))


def sort_peaks(samples, waves):
    """Return Peaks of samples (p,) and waves (p,) in any order; those without a sample, NaN, are left out."""
    order = np.lexsort((waves, samples))
    order = order[: np.isfinite(samples).sum()]  # NaN comes last
    return PeakList(samples[order].astype(np.int32), waves[order].astype(np.int8))


def load_all_wave_peaks(stores, folder, jobs):
    """Find or load the wave peaks of each store of `build_stores`, in the same folder, by its preprocessing."""
    return {
        preparation: load_wave_peaks(store, preparation.rate, store_folder(folder, preparation), jobs)
        for preparation, store in stores.items()
    }


def intersect_stores(stores, peaks):
    """Return stores and waves of the recordings that all of the stores hold.

    One may be flat or too short in one way and not in another, by a microvolt or a sample.
    """
    paths = [set(store.paths.tolist()) for store in stores.values()]
    common = set.intersection(*paths)
    if all(len(each) == len(common) for each in paths):
        return stores, peaks
    places = {one: np.flatnonzero([path in common for path in store.paths]) for one, store in stores.items()}
    return ({one: store.subset(places[one]) for one, store in stores.items()},
            {one: waves.select_recordings(places[one]) for one, waves in peaks.items()})  # fmt: skip
