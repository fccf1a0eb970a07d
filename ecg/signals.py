"""From stored integers to what the networks see: millivolts at 250 Hz, faults mended, filtered.

`preprocess` is the only way in, for training and for inference alike.
"""

from fractions import Fraction
from functools import lru_cache

import numpy as np
from scipy import fft
from scipy.signal import firwin

from ecg.records import SignalError

RATE = 250  # Hz, of everything after this module
PASS_BAND = (0.5, 45.0)  # Hz
TAPS = 751  # 3 s: 1 Hz and 40 Hz within 0.1 dB, 0.05 Hz down by 32 dB, 60 Hz by 80 dB
LARGEST = 20.0  # mV; what lies beyond is a recording fault
INVALID = -32768  # WFDB's word for "no value" ...
SIXTEEN_BITS = ("16", "61", "160", "516")  # ... in files of these formats
RESOLUTION = np.float32(1e-3)  # mV; answers are whole microvolts, so that 16-bit integers hold them without loss


def preprocess(header, recording, leads):
    """Return the chosen leads of a recording in millivolts at 250 Hz, faults mended, band-passed without delay.

    Takes the header, the stored integers (L, T) with rows in the header's order, and the names of the leads wanted.
    Returns (T', leads) float32 with T' = ceil(250 T / sampling frequency), in whole microvolts within 32.767 mV.
    Raises SignalError if a wanted lead is missing or no sample was recorded.
    Cai et al. 2021: per lead, divided by the gain, minus the mean, beyond 20 mV replaced by what lies
    next to it, resampled to 250 Hz by FFT, band-passed from 0.5 to 45 Hz by an FIR filter.
    """
    position = {name: row for row, name in enumerate(header.lead_names)}
    missing = [lead for lead in leads if lead not in position]
    if missing:
        raise SignalError(f"{header.name}: no lead {', '.join(missing)} among {', '.join(header.lead_names)}")
    if np.ndim(recording) != 2 or recording.shape[0] != len(header.leads) or recording.shape[1] == 0:
        raise SignalError(f"{header.name}: {len(header.leads)} leads need (leads, samples), not {np.shape(recording)}")
    rows = [position[lead] for lead in leads]
    signal = centred_millivolts(recording[rows], [header.leads[row] for row in rows])
    signal = resample_and_filter(signal, header.sampling_frequency)
    return np.clip(np.rint(signal.T / RESOLUTION), -32767, 32767).astype(np.float32) * RESOLUTION


def centred_millivolts(integers, leads):
    """Return (L, T) float32 millivolts of Leads, the mean of each taken off and its faults mended.

    Faults are samples that are not finite, WFDB's invalid ones, and those too far from the median of the others, for
    a long spike moves the mean. Each lead is judged by itself.
    """
    baseline = np.array([[lead.baseline] for lead in leads])
    gain = np.array([[lead.per_millivolt] for lead in leads])
    signal = (integers - baseline) / gain
    sentinel = np.array([[lead.format in SIXTEEN_BITS] for lead in leads])
    faulty = ~np.isfinite(signal) | (sentinel & (integers == INVALID))
    signal[faulty] = 0
    for lead in np.flatnonzero(faulty.any(axis=1) | (np.ptp(signal, axis=1) > LARGEST)):
        good = ~faulty[lead]
        if good.any():
            # A recorded value, not the mean of two that may both be far from it.
            middle = np.quantile(signal[lead, good], 0.5, method="lower")
            good &= np.abs(signal[lead] - middle) <= LARGEST
            signal[lead] = mend(signal[lead], good)
    return (signal - signal.mean(axis=1, keepdims=True)).astype(np.float32)


def mend(signal, good):
    """Put a line between the good samples next to them in place of a lead's faulty ones: (T,), (T,) bool -> (T,)."""
    time = np.arange(len(signal))
    return np.where(good, signal, np.interp(time, time[good], signal[good]))


def resample_and_filter(signal, frequency):
    """Bring (L, T) at `frequency` Hz to (L, T') at 250 Hz, band-passed with zero phase, by one pair of FFTs.

    The ends are continued by reflection about their last value for as long as the filter reaches, so that neither
    the filter nor the FFT, which takes its input for periodic, sees a step there.
    """
    ratio = Fraction(frequency).limit_denominator(1000) / RATE
    source_step, step = ratio.numerator, ratio.denominator  # that many samples here last as long as that many at 250 Hz
    samples = signal.shape[1]
    wanted = -(-samples * step // source_step)
    lead_in = -(-(TAPS // 2) // step)  # in steps
    steps = fft.next_fast_len(2 * lead_in + -(-samples // source_step), real=True)
    before = lead_in * source_step
    extended = np.pad(
        signal, ((0, 0), (before, steps * source_step - before - samples)), mode="reflect", reflect_type="odd"
    )
    response = band_pass_response(steps * step)
    spectrum = fft.rfft(extended)[:, : len(response)]
    spectrum *= response[: spectrum.shape[1]] * np.float32(step / source_step)
    return fft.irfft(spectrum, steps * step)[:, lead_in * step : lead_in * step + wanted]


@lru_cache(maxsize=64)
def band_pass_response(length):
    """Return the filter's real spectrum, centred at zero delay, for at least TAPS samples at 250 Hz."""
    taps = np.zeros(length)
    taps[:TAPS] = firwin(TAPS, PASS_BAND, pass_zero=False, fs=RATE)
    return fft.rfft(np.roll(taps, -(TAPS // 2))).real.astype(np.float32)
