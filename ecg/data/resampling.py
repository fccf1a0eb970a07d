"""To another sampling frequency and into a pass band, by one pair of FFTs, or straight lines between samples."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from scipy import fft

RATE = 250  # Hz, of the method
PASS_BAND = (0.5, 45.0)  # Hz
REACH = 3  # s, of the filter: 1 Hz and 40 Hz within 0.1 dB, 0.05 Hz down by 32 dB, 60 Hz by 80 dB
FINEST = 10_000  # samples in which two sampling frequencies come out even at the latest, to within 50 ppm


@dataclass(frozen=True)
class Preprocessing:
    """How signals are prepared for networks; the defaults are those of Cai et al. 2021.

    Attributes:
        rate: Sampling frequency in Hz, an integer.
        band: Edges of the pass band in Hz; None for no filter.
        linear: Whether samples are interpolated linearly. Otherwise they are resampled by FFT.
        early_gains: Whether the wrong gains of early-2020 headers are corrected (ecg.data.preprocessing.correct_gains).

    Raises:
        ValueError: If the pass band is not below half the sampling frequency.
    """

    rate: int = RATE
    band: tuple[float, float] | None = PASS_BAND
    linear: bool = False
    early_gains: bool = False

    def __post_init__(self):
        if self.rate < 1 or (self.band and not 0 < self.band[0] < self.band[1] < self.rate / 2):
            raise ValueError(f"the pass band {self.band} Hz is not within what {self.rate} Hz hold")


DEFAULT_PREPROCESSING = Preprocessing()


def resample_and_filter(signal, frequency, preparation=DEFAULT_PREPROCESSING):
    """Bring (L, T) at `frequency` Hz to (L, T') as a Preparation has it; a filter has zero phase.

    Resampling and filter are one pair of FFTs; where samples are interpolated in straight lines, the filter alone is,
    and none is needed without one. The ends are continued by reflection about their last value for as long as the
    filter reaches, so that neither the filter nor the FFT, which takes its input for periodic, sees a step there.
    """
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
    extended = _continued(signal, before, steps * source_step - before - samples)
    response = frequency_response(steps * step, preparation)
    spectrum = fft.rfft(extended)[:, : len(response)]
    spectrum *= response[: spectrum.shape[1]] * np.float32(step / source_step)
    return fft.irfft(spectrum, steps * step)[:, lead_in * step : lead_in * step + wanted]


def _continued(signal, before, after):
    """Continue (L, T) at both ends by so many samples, reflected about its first and its last value."""
    samples = signal.shape[1]
    if max(before, after) >= samples:  # reflected more than once
        return np.pad(signal, ((0, 0), (before, after)), mode="reflect", reflect_type="odd")
    extended = np.empty((len(signal), before + samples + after), signal.dtype)
    extended[:, before : before + samples] = signal
    np.subtract(2 * signal[:, :1], signal[:, before:0:-1], out=extended[:, :before])
    np.subtract(2 * signal[:, -1:], signal[:, -2 : -2 - after : -1], out=extended[:, before + samples :])
    return extended


def interpolate_linearly(signal, frequency, rate):
    """Bring (L, T) at `frequency` Hz to (L, ceil(rate T / frequency)) by straight lines; the last value goes on."""
    samples = signal.shape[1]
    source_step, step = rational_ratio(frequency, rate)
    places = np.arange(-(-samples * step // source_step)) * (source_step / step)
    return np.array([np.interp(places, np.arange(samples), row) for row in signal], signal.dtype)


@lru_cache(maxsize=64)
def rational_ratio(frequency, rate=RATE):
    """Return how many samples at `frequency` Hz last as long as how many at `rate` Hz, neither much above FINEST.

    The FFTs are of whole multiples of these, so that they bound time and memory. Within 50 ppm, which no recorder's
    clock is better than, every frequency has such a pair.
    """
    ratio = (Fraction(frequency) / rate).limit_denominator(max(int(FINEST * rate / max(frequency, rate)), 1))
    return ratio.numerator, ratio.denominator


@lru_cache(maxsize=64)
def frequency_response(length, preparation):
    """Return the filter's real spectrum, centred at zero delay, for so many samples, as many as the filter has.

    Without a filter it is 1, but for half the sampling frequency, which no signal can be told apart at.
    """
    if preparation.band is None:
        response = np.ones(length // 2 + 1, np.float32)
        response[-1] = length % 2
        return response
    taps = np.zeros(length)
    own = band_pass_taps(preparation.rate, preparation.band)
    taps[: len(own)] = own
    return fft.rfft(np.roll(taps, -(len(own) // 2))).real.astype(np.float32)


def filter_length(rate):
    """Return how many taps the filter has at a sampling frequency, an odd number: 751 at 250 Hz."""
    return REACH * rate // 2 * 2 + 1


def band_pass_taps(rate=RATE, band=PASS_BAND):
    """Return the filter's taps: the ideal band pass, windowed by Hamming, with a gain of 1 in its middle.

    They are those of scipy.signal.firwin, whose import would take a second of each process.
    """
    count = filter_length(rate)
    time = np.arange(count) - count // 2
    low, high = (2 * edge / rate for edge in band)
    taps = (high * np.sinc(high * time) - low * np.sinc(low * time)) * np.hamming(count)
    return taps / (taps @ np.cos(np.pi * time * (low + high) / 2))
