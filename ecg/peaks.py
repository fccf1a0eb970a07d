"""Where the waves of lead II peak: found by NeuroKit2, and kept beside a store."""

import warnings
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path

import numpy as np

from ecg.grid import WAVES, Peaks, in_order
from ecg.leads import LEADS
from ecg.parallel import each
from ecg.reasons import first_of, printable
from ecg.records import SignalError
from ecg.signals import centred_millivolts
from ecg.stages import StageFolder, fingerprint, program
from ecg.store import open_store

LEAD = "II"
# Of NeuroKit2's methods, after Emrich et al. 2024. Its own choice, by wavelets, finds no T wave that points down, as
# after LBBB, and takes nine times as long.
METHOD = "prominence"
# What NeuroKit2 raises over a recording in which it finds too little, by an index, a division or a window of nothing.
FAULTS = (ArithmeticError, LookupError, TypeError, ValueError)
KEPT = "peaks"


class NeuroKitMissing(ImportError):
    """NeuroKit2, which is no requirement of the rest, is not installed."""


@dataclass(frozen=True)
class StoredPeaks:
    """The peaks of N recordings, one after the other: starts (N + 1,), samples (p,) int32, waves (p,) int8.

    The samples are counted from the beginning of each recording.
    """

    starts: np.ndarray
    samples: np.ndarray
    waves: np.ndarray

    def of(self, record):
        """Return the Peaks of one recording."""
        part = slice(*self.starts[record : record + 2])
        return Peaks(self.samples[part], self.waves[part])

    def some(self, records):
        """Return those of some of the recordings alone, by their places (n,)."""
        counts = np.diff(self.starts)[records]
        starts = np.cumsum([0, *counts])
        places = np.arange(starts[-1]) + np.repeat(self.starts[records] - starts[:-1], counts)
        return StoredPeaks(starts, self.samples[places], self.waves[places])


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
                _, waves = neurokit.ecg_delineate(cleaned, beats, sampling_rate=rate, method=METHOD)
        except FAULTS:
            pass  # what was found until then counts
    found = [beats if wave == "R" else waves.get(f"ECG_{wave}_Peaks", ()) for wave in WAVES]
    numbers = np.repeat(np.arange(len(WAVES), dtype=np.int8), [len(samples) for samples in found])
    return in_order(np.concatenate(found).astype(np.float64), numbers)


def recorded_peaks(header, recording):
    """Find the Peaks of lead II of a recording as it is stored, (L, T), in samples at its own frequency.

    Raises SignalError where it has no lead II, HeaderError where that is not a voltage, and NeuroKitMissing.
    """
    if LEAD not in header.lead_names:
        raise SignalError(f"{header.name}: peaks are those of lead {LEAD}, which is not among its leads")
    row = header.lead_names.index(LEAD)
    (signal,), _ = centred_millivolts(recording[[row]], [header.leads[row]])
    return find_peaks(signal, header.sampling_frequency)


def stored_peaks(store, rate, folder, jobs=None, log=print):
    """Return the StoredPeaks of all recordings of a Store at `rate` Hz, found by `jobs` processes, one a core if None.

    `folder` is the store's own: the peaks are kept there, and read back as long as the store and the way in which they
    are found are the same. How many recordings have none beside R is told in a line. Raises NeuroKitMissing.
    """
    kept = StageFolder(Path(folder), fingerprint(store.digest, rate, neurokit_version(), program("grid", "peaks")))
    arrays = kept.recall(KEPT)
    if arrays is None:
        find = partial(_of_record, folder, store.digest, rate)
        with closing(each(find, range(len(store)), jobs, "peaks")) as each_ones:
            found = list(each_ones)
        arrays = {
            "starts": np.cumsum([0, *(len(peaks.samples) for peaks in found)]),
            "samples": np.concatenate([peaks.samples for peaks in found]),
            "waves": np.concatenate([peaks.waves for peaks in found]),
        }
        kept.keep(KEPT, arrays)
        bare = [name for name, peaks in zip(store.names, found, strict=True) if set(peaks.waves) <= {WAVES.index("R")}]
        if bare:
            none = f"none beside R in {len(bare):,} of {len(store):,} recordings"
            log(printable(f"peaks at {rate} Hz: {none}: {first_of(bare)}"))
    return StoredPeaks(**arrays)


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
