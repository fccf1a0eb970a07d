"""To 250 Hz and into the pass band of the method, by one pair of FFTs."""

from fractions import Fraction
from functools import lru_cache

import numpy as np
from scipy import fft

RATE = 250  # Hz, of everything after this module
PASS_BAND = (0.5, 45.0)  # Hz
TAPS = 751  # 3 s: 1 Hz and 40 Hz within 0.1 dB, 0.05 Hz down by 32 dB, 60 Hz by 80 dB
FINEST = 10_000  # samples in which a sampling frequency and ours come out even at the latest, to within 50 ppm


def resample_and_filter(signal, frequency):
    """Bring (L, T) at `frequency` Hz to (L, T') at 250 Hz, band-passed with zero phase, by one pair of FFTs.

    The ends are continued by reflection about their last value for as long as the filter reaches, so that neither
    the filter nor the FFT, which takes its input for periodic, sees a step there.
    """
    source_step, step = even(frequency)
    samples = signal.shape[1]
    wanted = -(-samples * step // source_step)
    lead_in = -(-(TAPS // 2) // step)  # in steps
    steps = fft.next_fast_len(2 * lead_in + -(-samples // source_step), real=True)
    before = lead_in * source_step
    extended = _continued(signal, before, steps * source_step - before - samples)
    response = band_pass_response(steps * step)
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


@lru_cache(maxsize=64)
def even(frequency):
    """Return how many samples at `frequency` Hz last as long as how many at 250 Hz, neither much above FINEST.

    The FFTs are of whole multiples of these, so that they bound time and memory. Within 50 ppm, which no recorder's
    clock is better than, every frequency has such a pair.
    """
    ratio = (Fraction(frequency) / RATE).limit_denominator(max(int(FINEST * RATE / max(frequency, RATE)), 1))
    return ratio.numerator, ratio.denominator


@lru_cache(maxsize=64)
def band_pass_response(length):
    """Return the filter's real spectrum, centred at zero delay, for at least TAPS samples at 250 Hz."""
    taps = np.zeros(length)
    taps[:TAPS] = band_pass_taps()
    return fft.rfft(np.roll(taps, -(TAPS // 2))).real.astype(np.float32)


def band_pass_taps():
    """Return the filter's taps (TAPS,): the ideal band pass, windowed by Hamming, with a gain of 1 in its middle.

    They are those of scipy.signal.firwin, whose import would take a second of each process.
    """
    time = np.arange(TAPS) - TAPS // 2
    low, high = (2 * edge / RATE for edge in PASS_BAND)
    taps = (high * np.sinc(high * time) - low * np.sinc(low * time)) * np.hamming(TAPS)
    return taps / (taps @ np.cos(np.pi * time * (low + high) / 2))
