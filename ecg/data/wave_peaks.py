"""Peaks of the waves P, Q, R, S and T in lead II, and their grid for networks."""

import logging
import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.headers import Header
from ecg.data.leads import LEADS
from ecg.data.preprocessing import to_centred_millivolts
from ecg.data.records import SignalError
from ecg.data.resampling import Preprocessing
from ecg.data.store import Store, open_store, store_folder
from ecg.runtime.cache import ResultCache, fingerprint, source_hash
from ecg.runtime.console import abbreviated_list
from ecg.runtime.executors import ALL_CORES, Executor

LOGGER = logging.getLogger("ecg")

LEAD = "II"
WAVES = "PQRST"  # in the order of a beat; a wave is coded by its index
# NeuroKit2's method after Emrich et al. 2024. Its default, wavelets, finds no inverted T waves, as after LBBB, and is
# nine times as slow.
DELINEATION_METHOD = "prominence"
# NeuroKit2's errors for a recording with too few peaks.
NEUROKIT_ERRORS = (ArithmeticError, LookupError, TypeError, ValueError)
CACHE_NAME = "peaks"

# Beats by the slopes of all leads: the width of a QRS complex and the least distance of two, in s, the time in which
# the steepest slope is looked for, and the share of its median over the recording that a beat reaches.
COMPLEX_SECONDS, REFRACTORY_SECONDS, STEEPEST_SECONDS, STEEPNESS = 0.1, 0.24, 2.0, 0.3

PEAKS_PER_CELL = 3
# Values of a peak on the grid: confidence, position in the cell (0 to 1), one per wave.
CONFIDENCE, POSITION, FIRST_WAVE = 0, 1, 2
VALUES_PER_PEAK = FIRST_WAVE + len(WAVES)
PRESENT = np.array([1, 5, *[1] * len(WAVES)], np.float32)  # loss weights of a peak's values
ABSENT = np.array([0.2, 0, *[0] * len(WAVES)], np.float32)  # loss weights if there is no peak


class NeuroKitMissing(ImportError):
    """NeuroKit2, an optional requirement, is not installed."""


class PeakList(NamedTuple):
    """Peaks in the order of time: samples (p,) and waves (p,), indices of WAVES."""

    samples: np.ndarray
    waves: np.ndarray


@dataclass(frozen=True)
class WavePeaks:
    """Peaks of N recordings, one recording after the other.

    Attributes:
        starts: Index of the first peak of each recording, and the number of all peaks, (N + 1,).
        samples: Samples of the peaks, counted from the beginning of their recording, (p,) int32.
        waves: Indices of WAVES, (p,) int8.
    """

    starts: np.ndarray
    samples: np.ndarray
    waves: np.ndarray

    def recording(self, record: int) -> PeakList:
        """Return the peaks of one recording."""
        peaks = slice(*self.starts[record : record + 2])
        return PeakList(self.samples[peaks], self.waves[peaks])

    def select_recordings(self, records: np.ndarray) -> "WavePeaks":
        """Return the peaks of some recordings, by their indices (n,)."""
        counts = np.diff(self.starts)[records]
        starts = np.cumsum([0, *counts])
        indices = np.arange(starts[-1]) + np.repeat(self.starts[records] - starts[:-1], counts)
        return WavePeaks(starts, self.samples[indices], self.waves[indices])


def find_peaks(signal: np.ndarray, rate: float) -> PeakList:
    """Find the peaks of one lead.

    Args:
        signal: Millivolts, (T,), filtered or not, of any length.
        rate: Sampling frequency in Hz.

    Returns:
        The peaks. If NeuroKit2 finds fewer than two beats or fails, they are R peaks only, or none.

    Raises:
        NeuroKitMissing: NeuroKit2 is not installed.
    """
    neurokit_version()  # or raise NeuroKitMissing
    import neurokit2 as neurokit

    beats, waves = (), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # several for a flat or short recording
        try:
            cleaned = neurokit.ecg_clean(np.asarray(signal, np.float64), sampling_rate=rate)
            beats = neurokit.ecg_findpeaks(cleaned, sampling_rate=rate)["ECG_R_Peaks"]
            if len(beats) > 1:
                _, waves = neurokit.ecg_delineate(cleaned, beats, sampling_rate=rate, method=DELINEATION_METHOD)
        except NEUROKIT_ERRORS:
            pass  # keep what was found before
    samples = [beats if wave == "R" else waves.get(f"ECG_{wave}_Peaks", ()) for wave in WAVES]
    codes = np.repeat(np.arange(len(WAVES), dtype=np.int8), [len(values) for values in samples])
    return sort_peaks(np.concatenate(samples).astype(np.float64), codes)


def find_beats(signal: np.ndarray, rate: float) -> np.ndarray:
    """Find the centres of QRS complexes by the slopes of all leads.

    It needs no NeuroKit2, and no lead II.

    Args:
        signal: Filtered millivolts, or in another unit, (T, leads).
        rate: Sampling frequency in Hz.

    Returns:
        Samples, (n_beats,), in the order of time.
    """
    from scipy.ndimage import uniform_filter1d
    from scipy.signal import find_peaks as find_maxima  # its import takes a second

    slopes = np.sqrt(np.square(np.gradient(np.asarray(signal, np.float64), axis=0)).sum(axis=1))
    steepness = uniform_filter1d(slopes, max(round(COMPLEX_SECONDS * rate), 1), mode="constant")
    parts = np.array_split(steepness, max(round(len(steepness) / (STEEPEST_SECONDS * rate)), 1))
    limit = STEEPNESS * np.median([part.max() for part in parts])
    if not limit > 0:
        return np.array([], int)
    return find_maxima(steepness, height=limit, distance=max(REFRACTORY_SECONDS * rate, 1))[0]


def find_record_peaks(header: Header, recording: np.ndarray) -> PeakList:
    """Find the peaks in lead II of a recording, in samples at its own frequency.

    Args:
        header: The header.
        recording: Stored integers, (L, T).

    Raises:
        SignalError: The recording has no lead II.
        HeaderError: Lead II is not a voltage.
        NeuroKitMissing: NeuroKit2 is not installed.
    """
    if LEAD not in header.lead_names:
        raise SignalError(f"{header.name}: peaks are those of lead {LEAD}, which is not among its leads")
    row = header.lead_names.index(LEAD)
    (signal,), _ = to_centred_millivolts(recording[[row]], [header.leads[row]])
    return find_peaks(signal, header.sampling_frequency)


def load_wave_peaks(store: Store, rate: int, folder: Path, executor: Executor = ALL_CORES) -> WavePeaks:
    """Find the peaks of all recordings of a store, or load them from the cache.

    The number of recordings with R peaks only is logged.

    Args:
        store: The store.
        rate: Its sampling frequency in Hz.
        folder: Its folder, which also holds the cache.
        executor: Finds the peaks.

    Raises:
        NeuroKitMissing: NeuroKit2 is not installed.
    """
    cache = ResultCache(Path(folder), fingerprint(store.digest, rate, neurokit_version(), source_hash("data")))
    arrays = cache.load(CACHE_NAME)
    if arrays is None:
        find = partial(_find_store_peaks, folder, store.digest, rate)
        with closing(executor.map(find, range(len(store)), "peaks")) as results:
            lists = list(results)
        arrays = {name: np.concatenate([getattr(peaks, name) for peaks in lists]) for name in PeakList._fields}
        arrays["starts"] = np.cumsum([0, *(len(peaks.samples) for peaks in lists)])
        cache.save(CACHE_NAME, arrays)
        bare = [name for name, peaks in zip(store.names, lists, strict=True) if set(peaks.waves) <= {WAVES.index("R")}]
        if bare:
            LOGGER.info(f"peaks at {rate} Hz: none but R in {len(bare):,} of {len(store):,} recordings: "
                        f"{abbreviated_list(bare)}")  # fmt: skip
    return WavePeaks(**arrays)


def neurokit_version() -> str:
    """Return the version of NeuroKit2, without its import, or raise NeuroKitMissing."""
    try:
        return metadata.version("neurokit2")
    except metadata.PackageNotFoundError:
        raise NeuroKitMissing("neurokit2 is missing: pip install 'reduced-lead-ecg[peaks]'") from None


def _find_store_peaks(folder: Path, digest: str, rate: int, record: int) -> PeakList:
    """Find the peaks of a recording; each process opens the store once."""
    store = _open_store_once(folder, digest)
    signal = store.signal(record, LEADS.index(LEAD))
    store.release()
    return find_peaks(signal, rate)


@lru_cache(maxsize=1)
def _open_store_once(folder: Path, digest: str) -> Store:
    return open_store(folder)


def encode_peaks(
    peaks: WavePeaks, records: np.ndarray, starts: np.ndarray, length: int, cells: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lay the peaks of a batch on a grid of cells.

    A cell holds its first three peaks. The loss weights are those of Li et al. 2021: 5 for a position, 0.2 for the
    confidence that there is no peak, 1 otherwise. Addition to the paper: position and wave of an absent peak weigh 0.

    Args:
        peaks: Peaks of the store.
        records: Indices of the recordings in the store, (B,).
        starts: First sample of each recording in the batch, (B,).
        length: Number of samples.
        cells: Number of cells, all of the same length.

    Returns:
        Targets and their loss weights, (B, cells, 3, 7) float32 each.
    """
    records, starts = np.asarray(records), np.asarray(starts)
    first, last = peaks.starts[records], peaks.starts[records + 1]
    row = np.repeat(np.arange(len(records)), last - first)
    index = np.arange(len(row)) + np.repeat(last - np.cumsum(last - first), last - first)
    sample = peaks.samples[index] - starts[row]
    inside = (sample >= 0) & (sample < length)
    row, index, sample = row[inside], index[inside], sample[inside]
    cell, rest = np.divmod(sample * cells, length)
    order = row * cells + cell  # never falls; equal values are peaks of the same cell
    slot = np.arange(len(row)) - np.searchsorted(order, order)
    fits = slot < PEAKS_PER_CELL
    position = row[fits], cell[fits], slot[fits]
    targets = np.zeros((len(records), cells, PEAKS_PER_CELL, VALUES_PER_PEAK), np.float32)
    weights = np.broadcast_to(ABSENT, targets.shape).copy()
    targets[*position, CONFIDENCE] = 1
    targets[*position, POSITION] = rest[fits] / length
    targets[*position, FIRST_WAVE + peaks.waves[index[fits]]] = 1
    weights[position] = PRESENT
    return targets, weights


def decode_peaks(outputs: np.ndarray, length: int, threshold: float = 0.5) -> PeakList:
    """Read the peaks off a grid.

    Args:
        outputs: Outputs of a network, or targets of `encode_peaks`, (cells, 3, 7).
        length: Number of samples.
        threshold: Minimum confidence of a peak.

    Returns:
        The peaks, each at the nearest sample of its cell, with its most probable wave.
    """
    outputs = np.asarray(outputs, np.float64)
    cell, slot = np.nonzero(outputs[:, :, CONFIDENCE] >= threshold)
    chosen = outputs[cell, slot]
    samples = np.rint((cell + chosen[:, POSITION].clip(0, 1)) * length / len(outputs)).clip(max=length - 1)
    return sort_peaks(samples, chosen[:, FIRST_WAVE:].argmax(axis=1))


def sort_peaks(samples: np.ndarray, waves: np.ndarray) -> PeakList:
    """Sort peaks, given samples (p,) and waves (p,), by time, without NaN samples."""
    order = np.lexsort((waves, samples))
    order = order[: np.isfinite(samples).sum()]  # NaN comes last
    return PeakList(samples[order].astype(np.int32), waves[order].astype(np.int8))


def load_all_wave_peaks(
    stores: Mapping[Preprocessing, Store], folder: Path, executor: Executor = ALL_CORES
) -> dict[Preprocessing, WavePeaks]:
    """Find or load the wave peaks of each store of `build_stores` in its folder."""
    return {
        preparation: load_wave_peaks(store, preparation.rate, store_folder(folder, preparation), executor)
        for preparation, store in stores.items()
    }


def intersect_stores(
    stores: Mapping[Preprocessing, Store], peaks: Mapping[Preprocessing, WavePeaks]
) -> tuple[Mapping[Preprocessing, Store], Mapping[Preprocessing, WavePeaks]]:
    """Return stores and peaks of the recordings that are in all stores.

    By a microvolt or a sample, a recording can be flat or too short after one preprocessing and not after another.
    """
    paths = [set(store.paths.tolist()) for store in stores.values()]
    common = set.intersection(*paths)
    if all(len(present) == len(common) for present in paths):
        return stores, peaks
    records = {key: np.flatnonzero([path in common for path in store.paths]) for key, store in stores.items()}
    return ({key: store.subset(records[key]) for key, store in stores.items()},
            {key: waves.select_recordings(records[key]) for key, waves in peaks.items()})  # fmt: skip
