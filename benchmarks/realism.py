"""Measure how synthetic recordings differ from real ones, source by source.

python -m benchmarks.realism FOLDER ... [--records N] [--seed SEED] [--jobs N]

The folders hold real recordings, labelled or not. For each source with enough of them, synthetic recordings are made,
of the usual and of the realistic kind. All are read at 500 Hz without a filter. Prints the tables of
benchmarks/README.md.
"""

import argparse
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
from scipy.signal import butter, find_peaks, sosfiltfilt

from ecg.data.labels import ABBREVIATIONS, source_of
from ecg.data.leads import LEADS
from ecg.data.loading import load_recording
from ecg.data.preprocessing import RESOLUTION
from ecg.data.records import find_records
from ecg.data.resampling import Preprocessing
from ecg.data.synthetic import SYNTHETIC_SOURCES, SyntheticSettings, synthesize
from ecg.runtime.console import start_logging
from ecg.runtime.executors import LocalExecutor

RATE = 500  # Hz
UNFILTERED = Preprocessing(RATE, band=None)
FEWEST = 15  # real recordings of a source, and of a rhythm
WINDOW = RATE // 10  # samples; noise is measured in windows of 100 ms
QUIET = 0.25  # the quantile of the windows' noise, so that beats do not count
KINDS = {"usual": False, "realistic": True}  # SyntheticSettings.realistic
RHYTHMS = ("NSR", "SB", "STach", "AF", "AFL", "SA", "PR")
PAIRS = (("I", "II"), ("II", "V5"), ("I", "V6"), ("V1", "V2"), ("V2", "V3"), ("V3", "V4"), ("V5", "V6"), ("V1", "V6"))
BEFORE, AFTER = 3 * RATE // 10, RATE // 2  # samples of a beat before and after its QRS complex


def band_pass(signal, low, high):
    """Filter (T, L) between two frequencies in Hz, without delay; None for no edge."""
    if low is None:
        sections = butter(2, high, fs=RATE, output="sos")
    else:
        sections = butter(2, low if high is None else (low, high), "high" if high is None else "band", fs=RATE,
                          output="sos")  # fmt: skip
    return sosfiltfilt(sections, signal, axis=0, padlen=min(3 * RATE, len(signal) - 1))


def quiet_noise(signal, low, high):
    """Return the noise between two frequencies in the quiet windows, median of the leads, µV."""
    noise = band_pass(signal, low, high)
    windows = noise[: len(noise) // WINDOW * WINDOW].reshape(-1, WINDOW, signal.shape[1])
    return 1000 * np.median(np.quantile(np.sqrt((windows**2).mean(axis=1)), QUIET, axis=0))


def mains_amplitude(signal):
    """Return the amplitude of 50 or 60 Hz, the larger, above its neighbourhood: µV.

    It is the median of the leads. Harmonics of the heart rate cancel on average.
    """
    taper = np.hanning(len(signal))
    power = abs(np.fft.rfft(signal * taper[:, None], axis=0)) ** 2
    frequency = np.fft.rfftfreq(len(signal), 1 / RATE)
    amplitudes = []
    for mains in (50, 60):
        distance = abs(frequency - mains)
        line, around = distance < 0.25, (distance > 0.5) & (distance < 4)
        excess = power[line].sum(axis=0) - line.sum() * power[around].mean(axis=0)
        amplitudes.append(np.sqrt(4 * np.maximum(excess, 0) / (len(signal) * (taper**2).sum())))
    return 1000 * np.median(np.max(amplitudes, axis=0))


def find_beats(signal):
    """Return the samples of the QRS complexes of (T, L): peaks of the energy of fast changes."""
    fast = np.diff(band_pass(signal, 5, 25), axis=0)
    scale = np.quantile(abs(fast), 0.98, axis=0)
    energy = np.sqrt(((fast / np.maximum(scale, 1e-4)) ** 2).mean(axis=1))
    smooth = np.convolve(energy, np.hanning(RATE * 12 // 100) / (RATE * 6 // 100), "same")
    return find_peaks(smooth, height=0.35 * np.quantile(smooth, 0.98), distance=RATE // 4)[0]


def measure_signal(signal):
    """Measure a recording in mV, (T, 12); returns numbers by name, NaN where there is none."""
    values = {
        "noise, 25 to 45 Hz, µV": quiet_noise(signal, 25, 45),
        "noise, 65 to 95 Hz, µV": quiet_noise(signal, 65, 95),
        "wander below 0.7 Hz, µV": 1000 * np.median(band_pass(signal, None, 0.7).std(axis=0)),
        "mains, µV": mains_amplitude(signal),
    }
    middle = band_pass(signal, 0.5, 40)
    beats = find_beats(signal)
    intervals = np.diff(beats) / RATE
    usual = np.median(intervals) if len(intervals) > 2 else np.nan
    premature = (intervals[:-1] < 0.85 * usual) & (intervals[1:] > 1.02 * usual)
    values |= {
        "heart rate, /min": 60 / usual,
        "RR deviation / mean": intervals.std() / intervals.mean() if len(intervals) > 2 else np.nan,
        "premature beats in 10 s": premature.sum() / (len(signal) / RATE / 10) if len(intervals) > 2 else np.nan,
    }
    inside = beats[(beats >= BEFORE) & (beats < len(signal) - AFTER)]
    if len(inside) < 3 or np.isnan(usual):
        return values
    beat = np.median(middle[inside[:, None] + np.arange(-BEFORE, AFTER)], axis=0)
    speed = np.linalg.norm(np.gradient(beat, axis=0), axis=1)[BEFORE - 60 : BEFORE + 60]
    fast = np.flatnonzero(speed > 0.15 * speed.max()) + BEFORE - 60
    start, end = fast[0], fast[-1]
    beat = beat - np.median(beat[start - 12 : start - 4], axis=0)  # the level before the QRS complex counts as zero
    values["QRS, time of fast change, ms"] = (end - start) * 1000 / RATE
    values |= {f"QRS {lead}, mV": height for lead, height in
               zip(LEADS, np.ptp(beat[start - 5 : end + 5], axis=0), strict=True)}  # fmt: skip
    last = BEFORE + int(np.clip(0.65 * usual * RATE, 0.25 * RATE, AFTER))
    for wave, part in {"P": beat[start - 90 : start - 12], "T": beat[end + 40 : last]}.items():
        peaks = np.take_along_axis(part, abs(part).argmax(axis=0)[None], axis=0)[0]
        values |= {f"{wave} {lead}, mV": peak for lead, peak in zip(LEADS, peaks, strict=True)}
    heights = np.ptp(middle[inside[:, None] + np.arange(-40, 40)], axis=1)
    values["QRS deviation / mean"] = np.median(heights.std(axis=0) / np.maximum(heights.mean(axis=0), 1e-3))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations = np.corrcoef(middle.T)
    for first, second in PAIRS:
        values[f"correlation {first}, {second}"] = correlations[LEADS.index(first), LEADS.index(second)]
    return values


def measure_recording(path):
    """Measure a recording: its measures by name, and its scored classes; None if it cannot be used."""
    loaded = load_recording(path, UNFILTERED)
    if loaded.microvolts is None:
        return None
    signal = loaded.microvolts * RESOLUTION
    values = {"length, s": len(signal) / RATE, **measure_signal(signal.astype(float))}
    gains = {lead.gain for lead in loaded.header.leads}
    values["gain, /mV"] = gains.pop() if len(gains) == 1 else np.nan
    return values, loaded.row.labels, bool(loaded.row.undiagnosed)


class Measured:
    """Measures of recordings of one source.

    Attributes:
        values: By name an array (n,), NaN where a recording has no such measure.
        labels: Scored classes of the recordings with a diagnosis, (m, 26) bool.
        labelled: Which recordings these are, (n,) bool.
    """

    def __init__(self, recordings):
        recordings = [recording for recording in recordings if recording is not None]
        names = dict.fromkeys(name for values, _, _ in recordings for name in values)
        self.values = {name: np.array([values.get(name, np.nan) for values, _, _ in recordings]) for name in names}
        self.labelled = np.array([not undiagnosed for _, _, undiagnosed in recordings], bool)
        self.labels = np.array([labels for _, labels, undiagnosed in recordings if not undiagnosed], bool)
        self.labels = self.labels.reshape(-1, len(ABBREVIATIONS))
        rhythms = np.zeros((len(recordings), len(ABBREVIATIONS)), bool)
        rhythms[self.labelled] = self.labels
        for rhythm in RHYTHMS:
            for name in ("heart rate, /min", "RR deviation / mean"):
                has_rhythm = rhythms[:, ABBREVIATIONS.index(rhythm)]
                self.values[f"{name}, {rhythm}"] = np.where(has_rhythm, self.values[name], np.nan)
        counts = np.full(len(recordings), np.nan)
        counts[self.labelled] = self.labels.sum(axis=1)
        self.values["scored labels"] = counts


def measure_folders(folders, jobs):
    """Measure all recordings in folders; returns `Measured` by source."""
    paths = [path for folder in folders for path in find_records(folder)]
    sources = {}
    with closing(LocalExecutor(jobs).map(measure_recording, paths, "measured")) as recordings:
        for path, recording in zip(paths, recordings, strict=True):
            sources.setdefault(source_of(path.stem), []).append(recording)
    return {source: Measured(recordings) for source, recordings in sources.items()}


def join(by_source, weights, name):
    """Return a measure of all sources, (n,), and the weight of each value, (n,)."""
    values = [measured.values.get(name, np.empty(0)) for measured in by_source.values()]
    shares = [np.full(len(part), weights[source] / max(len(part), 1))
              for source, part in zip(by_source, values, strict=True)]  # fmt: skip
    values, shares = np.concatenate(values), np.concatenate(shares)
    return values[np.isfinite(values)], shares[np.isfinite(values)]


def weighted_quantiles(values, weights, levels):
    """Return quantiles of values with weights."""
    order = np.argsort(values)
    cumulated = np.cumsum(weights[order])
    return values[order][np.searchsorted(cumulated, np.asarray(levels) * cumulated[-1]).clip(0, len(values) - 1)]


def distance(first, second):
    """Return the largest difference of two weighted cumulative distributions, from 0 to 1."""
    points = np.concatenate([first[0], second[0]])
    shares = []
    for values, weights in (first, second):
        order = np.argsort(values)
        cumulated = np.concatenate([[0], np.cumsum(weights[order])])
        shares.append(cumulated[np.searchsorted(values[order], points, side="right")] / cumulated[-1])
    return abs(shares[0] - shares[1]).max()


def measure_rows(real, kinds):
    """Yield the rows of all measures that enough recordings have.

    Args:
        real: `Measured` by source, of real recordings.
        kinds: The same of each kind of synthetic recordings, by name.

    Yields:
        The measure's name; 10, 50 and 90 % quantiles of the real recordings and of each kind, all sources together;
        the distance of each kind, all sources together; and by source the distances of all kinds, or None.
    """
    counts = {source: len(measured.labelled) for source, measured in real.items()}
    names = dict.fromkeys(name for measured in real.values() for name in measured.values)

    def compare(name, sources):
        sides = [join({source: side[source] for source in sources}, counts, name) for side in (real, *kinds.values())]
        enough = min(len(values) for values, _ in sides) >= FEWEST
        return sides, [distance(sides[0], side) for side in sides[1:]] if enough else None

    for name in names:
        sides, distances = compare(name, real)
        if distances:
            quantiles = [weighted_quantiles(*side, (0.1, 0.5, 0.9)) for side in sides]
            yield name, quantiles, distances, [compare(name, [source])[1] for source in real]


def measure_lines(real, kinds):
    """Yield a table of all sources together, and one of the distances by source."""
    rows = list(measure_rows(real, kinds))
    names = [f"distance, {kind}" for kind in kinds]
    yield f"| 10, 50, 90 % of recordings | real | {' | '.join([*kinds, *names])} |"
    yield "|---" * (2 + 2 * len(kinds)) + "|"
    for name, quantiles, distances, _ in rows:
        cells = [", ".join(f"{value:.3g}" for value in values) for values in quantiles]
        yield f"| {name} | {' | '.join([*cells, *(f'{value:.2f}' for value in distances)])} |"
    means = np.mean([distances for _, _, distances, _ in rows], axis=0)
    yield f"| mean | {'| ' * (1 + len(kinds))}{' | '.join(f'{value:.2f}' for value in means)} |"
    yield ""
    yield f"| distances: {', '.join(kinds)} | {' | '.join(real)} |"
    yield "|---" * (1 + len(real)) + "|"
    for name, _, _, by_source in rows:
        cells = [", ".join(f"{value:.2f}" for value in distances or ()) for distances in by_source]
        yield f"| {name} | {' | '.join(cells)} |"
    means = [np.mean([distances for distances in column if distances], axis=0)
             for column in zip(*(by_source for *_, by_source in rows), strict=True)]  # fmt: skip
    yield f"| mean | {' | '.join(', '.join(f'{value:.2f}' for value in mean) for mean in means)} |"


def label_lines(real, kinds, n_shown=20):
    """Yield a table of the classes and pairs of classes whose shares of the recordings differ most."""
    counts = {source: len(measured.labels) for source, measured in real.items()}
    shares = []
    for side in (real, *kinds.values()):
        share = np.zeros((len(ABBREVIATIONS),) * 2)  # of recordings with both classes; on the diagonal with one
        for source, measured in side.items():
            labels = measured.labels.astype(float)
            share += counts[source] * (labels.T @ labels) / max(len(labels), 1) / sum(counts.values())
        shares.append(share[np.triu_indices(len(ABBREVIATIONS))])
    pairs = zip(*np.triu_indices(len(ABBREVIATIONS)), strict=True)
    names = [" and ".join(dict.fromkeys((ABBREVIATIONS[first], ABBREVIATIONS[second]))) for first, second in pairs]
    yield f"| share of labelled recordings | real | {' | '.join(kinds)} |"
    yield "|---" * (2 + len(kinds)) + "|"
    for index in np.argsort(-abs(shares[0] - shares[1]), kind="stable")[:n_shown]:
        yield f"| {names[index]} | {' | '.join(f'{share[index]:.1%}' for share in shares)} |"


def main():
    """Measure real and synthetic recordings, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="folders of real recordings")
    parser.add_argument("--records", type=int, default=1000, help="synthetic recordings of each source and kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, help="processes; default: one a core")
    options = parser.parse_args()
    start_logging()
    real = measure_folders(options.folders, options.jobs)
    real = {source: real[source] for source in SYNTHETIC_SOURCES
            if source in real and len(real[source].labelled) >= FEWEST}  # fmt: skip
    kinds = {}
    for name, realistic in KINDS.items():
        kinds[name] = {}
        for source in real:
            with tempfile.TemporaryDirectory() as folder:
                settings = SyntheticSettings(sources={source: 1}, realistic=realistic)
                synthesize(folder, options.records, options.seed, settings, LocalExecutor(options.jobs or 1))
                kinds[name] |= measure_folders([folder], options.jobs)
    print(", ".join(f"{source} {len(measured.labelled):,}" for source, measured in real.items()))
    print("\n".join([*measure_lines(real, kinds), "", *label_lines(real, kinds)]))


if __name__ == "__main__":
    main()
