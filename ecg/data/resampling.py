"""Resample signals and filter them."""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
from scipy import fft

RATE = 250  # Hz, in Cai et al. 2021
PASS_BAND = (0.5, 45.0)  # Hz
FILTER_SECONDS = 3  # 1 Hz and 40 Hz within 0.1 dB, 0.05 Hz down by 32 dB, 60 Hz by 80 dB
FIR, BUTTERWORTH = "fir", "butterworth"  # kinds of filter
BUTTERWORTH_ORDER = 3  # of Nejedly et al. 2021, run forward and backward
FINEST = 10_000  # largest term of the ratio of two sampling frequencies, which is right to within 50 ppm


@dataclass(frozen=True)
class Preprocessing:
    """How signals are prepared for networks; by default as in Cai et al. 2021.

    Attributes:
        rate: Sampling frequency in Hz, an integer.
        band: Edges of the pass band in Hz; None for no filter.
        linear: Whether samples are interpolated linearly. Otherwise they are resampled by FFT.
        early_gains: Whether the wrong gains of early-2020 headers are corrected (ecg.data.preprocessing.correct_gains).
        kind: Kind of the filter, FIR or BUTTERWORTH.

    Raises:
        ValueError: If the pass band is not below half the sampling frequency, or the kind is unknown.
    """

    rate: int = RATE
    band: tuple[float, float] | None = PASS_BAND
    linear: bool = False
    early_gains: bool = False
    kind: str = FIR

    def __post_init__(self) -> None:
        if self.kind not in (FIR, BUTTERWORTH):
            raise ValueError(f"kind of filter is {self.kind!r}, expected {FIR} or {BUTTERWORTH}")
        if self.rate < 1 or (self.band and not 0 < self.band[0] < self.band[1] < self.rate / 2):
            raise ValueError(f"the pass band {self.band} Hz is not within what {self.rate} Hz hold")


DEFAULT_PREPROCESSING = Preprocessing()


def resample_and_filter(
    signal: np.ndarray, frequency: float, preparation: Preprocessing = DEFAULT_PREPROCESSING
) -> np.ndarray:
    """Resample a signal and filter it with zero phase.

    One pair of FFTs does both. Linear interpolation comes first, if it is asked for, and needs no FFT without a filter.
    A Butterworth filter comes last, with the ends that scipy gives it. Otherwise the ends are continued by reflection
    about their last value for as long as the filter reaches, so that neither the filter nor the FFT, which is periodic,
    sees a step there.

    Args:
        signal: (L, T) at `frequency` Hz.
        frequency: Its sampling frequency in Hz.
        preparation: The sampling frequency and pass band to reach.

    Returns:
        (L, ceil(rate T / frequency)).
    """
    if preparation.band and preparation.kind == BUTTERWORTH:
        resampled = resample_and_filter(signal, frequency, replace(preparation, band=None))
        return filter_butterworth(resampled, preparation.rate, preparation.band)
    if preparation.linear:
        signal, frequency = interpolate_linearly(signal, frequency, preparation.rate), preparation.rate
    if preparation.band is None and frequency == preparation.rate:
        return signal
    source_step, step = rational_ratio(frequency, preparation.rate)
    samples = signal.shape[1]
    wanted = -(-samples * step // source_step)
    lead_in = -(-(filter_length(preparation.rate) // 2) // step)  # in steps
    steps = fft.next_fast_len(2 * lead_in + -(-samples // source_step), real=True)
    before = lead_in * source_step
    around = (before, steps * source_step - before - samples)
    extended = np.pad(signal, ((0, 0), around), mode="reflect", reflect_type="odd")
    response = frequency_response(steps * step, preparation)
    spectrum = fft.rfft(extended)[:, : len(response)]
    spectrum *= response[: spectrum.shape[1]] * np.float32(step / source_step)
    return fft.irfft(spectrum, steps * step)[:, lead_in * step : lead_in * step + wanted]


def filter_butterworth(signal: np.ndarray, rate: int, band: tuple[float, float]) -> np.ndarray:
    """Filter a signal by a Butterworth band pass, forward and backward.

    The two passes cancel the delay, and square the gain: it is 1/2 at the edges of the band.

    Args:
        signal: (L, T) at `rate` Hz, of 22 samples or more.
        rate: Its sampling frequency in Hz.
        band: Edges of the pass band in Hz.

    Returns:
        (L, T), of the same type as the signal.
    """
    from scipy.signal import butter, sosfiltfilt  # its import takes a second

    sections = butter(BUTTERWORTH_ORDER, band, "bandpass", fs=rate, output="sos")
    return sosfiltfilt(sections, signal).astype(signal.dtype)


def interpolate_linearly(signal: np.ndarray, frequency: float, rate: int) -> np.ndarray:
    """Resample (L, T) linearly to (L, ceil(rate T / frequency)).

    The last value is repeated.
    """
    samples = signal.shape[1]
    source_step, step = rational_ratio(frequency, rate)
    times = np.arange(-(-samples * step // source_step)) * (source_step / step)
    return np.array([np.interp(times, np.arange(samples), row) for row in signal], signal.dtype)


@lru_cache(maxsize=64)
def rational_ratio(frequency: float, rate: int = RATE) -> tuple[int, int]:
    """Approximate frequency / rate by a fraction with terms below about FINEST.

    The lengths of the FFTs are multiples of the terms, so these bound time and memory. The ratio is right to within
    50 ppm, and no recorder's clock is better.

    Returns:
        Numerator and denominator.
    """
    ratio = (Fraction(frequency) / rate).limit_denominator(max(int(FINEST * rate / max(frequency, rate)), 1))
    return ratio.numerator, ratio.denominator


@lru_cache(maxsize=64)
def frequency_response(length: int, preparation: Preprocessing) -> np.ndarray:
    """Return the filter's real frequency response for a signal of this length.

    The filter has zero delay and at most `length` taps. Without a filter the response is 1, but 0 at half the sampling
    frequency, where sine and cosine cannot be distinguished.
    """
    if preparation.band is None:
        response = np.ones(length // 2 + 1, np.float32)
        response[-1] = length % 2
        return response
    taps = np.zeros(length)
    band_pass = band_pass_taps(preparation.rate, preparation.band)
    taps[: len(band_pass)] = band_pass
    return fft.rfft(np.roll(taps, -(len(band_pass) // 2))).real.astype(np.float32)


def filter_length(rate: int) -> int:
    """Return the filter's number of taps at a sampling frequency, odd: 751 at 250 Hz."""
    return FILTER_SECONDS * rate // 2 * 2 + 1


def band_pass_taps(rate: int = RATE, band: tuple[float, float] = PASS_BAND) -> np.ndarray:
    """Return the taps of a windowed ideal band pass with gain 1 in its middle.

    The window is Hamming's. The taps equal those of scipy.signal.firwin, but its import would take each process a
    second.
    """
    count = filter_length(rate)
    time = np.arange(count) - count // 2
    low, high = (2 * edge / rate for edge in band)
    taps = (high * np.sinc(high * time) - low * np.sinc(low * time)) * np.hamming(count)
    return taps / (taps @ np.cos(np.pi * time * (low + high) / 2))
