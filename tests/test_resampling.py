import numpy as np
import pytest
from scipy import signal as scipy_signal

from ecg.resampling import FINEST, PASS_BAND, RATE, TAPS, band_pass_response, band_pass_taps, even, resample_and_filter


@pytest.mark.parametrize(
    ("frequency", "lowest", "highest"), [(1, -1, 1), (10, -1, 1), (40, -1, 1), (0.05, -np.inf, -20), (60, -np.inf, -40)]
)
def test_the_bands_edges(frequency, lowest, highest):
    length = 100_000
    decibels = 20 * np.log10(abs(band_pass_response(length)[round(frequency * length / RATE)]))
    assert lowest <= decibels <= highest


def test_the_taps_are_scipys():
    expected = scipy_signal.firwin(TAPS, PASS_BAND, pass_zero=False, fs=RATE)
    np.testing.assert_allclose(band_pass_taps(), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("samples", [2, 300, 751, 752, 4999, 5000])
def test_equal_to_a_convolution_of_what_is_reflected_at_the_ends(samples):
    signal = np.random.default_rng(samples).normal(size=(3, samples)).astype(np.float32)
    extended = np.pad(signal, ((0, 0), (TAPS // 2, TAPS // 2)), mode="reflect", reflect_type="odd")
    taps = scipy_signal.firwin(TAPS, PASS_BAND, pass_zero=False, fs=RATE)
    expected = scipy_signal.fftconvolve(extended, taps[np.newaxis], mode="valid", axes=1)
    np.testing.assert_allclose(resample_and_filter(signal, RATE), expected, atol=2e-5)


@pytest.mark.parametrize("frequency", [10.0, 100.0, 257.0, 257.5, 1000 / 3, 360.0, 499.999, 1999.99, 1e4])
def test_sampling_frequencies_come_out_even_within_50_ppm(frequency):
    here, at_250 = even(frequency)
    assert max(here, at_250) <= FINEST * max(1, RATE / frequency) + 1
    assert abs(here / at_250 / (frequency / RATE) - 1) < 50e-6
