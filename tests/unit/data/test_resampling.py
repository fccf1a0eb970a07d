import numpy as np
import pytest
from scipy import signal as scipy_signal

from ecg.data.resampling import (
    BUTTERWORTH,
    DEFAULT_PREPROCESSING,
    FINEST,
    PASS_BAND,
    RATE,
    Preprocessing,
    band_pass_taps,
    filter_length,
    frequency_response,
    rational_ratio,
    resample_and_filter,
)

TAPS = filter_length(RATE)


@pytest.mark.parametrize(
    ("frequency", "lowest", "highest"), [(1, -1, 1), (10, -1, 1), (40, -1, 1), (0.05, -np.inf, -20), (60, -np.inf, -40)]
)
def test_the_bands_edges(frequency, lowest, highest):
    length = 100_000
    decibels = 20 * np.log10(abs(frequency_response(length, DEFAULT_PREPROCESSING)[round(frequency * length / RATE)]))
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
    here, at_250 = rational_ratio(frequency)
    assert max(here, at_250) <= FINEST * max(1, RATE / frequency) + 1
    assert abs(here / at_250 / (frequency / RATE) - 1) < 50e-6


def sines(frequency, seconds=4.0, tones=(1.5, 7.0, 23.0)):
    time = np.arange(round(seconds * frequency)) / frequency
    return np.array([[np.sin(2 * np.pi * tone * time + tone)] for tone in tones])[:, 0].astype(np.float32)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(("frequency", "rate"), [(500, 257), (257, 500), (1000, 200), (200, 250), (500, 500)])
def test_without_a_filter_slow_waves_come_through_at_any_sampling_frequency(frequency, rate, linear):
    got = resample_and_filter(sines(frequency), frequency, Preprocessing(rate, None, linear))
    assert got.dtype == np.float32
    expected = sines(rate)[:, : got.shape[1]]
    assert abs(got.shape[1] - 4 * rate) <= 1
    middle = slice(rate // 2, -rate // 2)
    np.testing.assert_allclose(got[:, middle], expected[:, middle], atol=0.07 if linear else 0.01)


def test_lines_between_samples_are_numpys():
    signal = np.random.default_rng(0).normal(size=(2, 500)).astype(np.float32)
    got = resample_and_filter(signal, 500.0, Preprocessing(257, None, linear=True))
    assert got.shape == (2, 257)
    for row, expected in zip(got, signal, strict=True):
        np.testing.assert_allclose(row, np.interp(np.arange(257) * 500 / 257, np.arange(500), expected), atol=1e-6)


def test_at_its_own_sampling_frequency_and_without_a_filter_a_signal_stays():
    signal = np.random.default_rng(0).normal(size=(2, 333)).astype(np.float32)
    np.testing.assert_array_equal(resample_and_filter(signal, 500.0, Preprocessing(500, None)), signal)


def test_the_filter_is_as_long_in_seconds_at_any_sampling_frequency():
    assert filter_length(250) == 751 and filter_length(500) == 1501 and filter_length(257) == 771
    for rate in (200, 500):
        response = frequency_response(100 * rate, Preprocessing(rate))
        decibels = 20 * np.log10(np.abs(response[[100, 1000, 4000, 6000]]) + 1e-9)  # 1, 10, 40 and 60 Hz
        assert (abs(decibels[:3]) < 0.2).all() and decibels[3] < -60


@pytest.mark.parametrize(
    "given", [{"rate": 80}, {"band": (45.0, 0.5)}, {"band": (0.0, 45.0)}, {"rate": 0, "band": None}]
)
def test_a_band_that_cannot_be_is_refused(given):
    with pytest.raises(ValueError, match="pass band"):
        Preprocessing(**given)


@pytest.mark.parametrize("samples", [500, 5000])
def test_the_butterworth_filter_is_scipys_forward_and_backward(samples):
    signal = np.random.default_rng(0).normal(size=(3, samples)).cumsum(axis=1).astype(np.float32)
    got = resample_and_filter(signal, 500.0, Preprocessing(500, (1.0, 47.0), kind=BUTTERWORTH))
    assert got.dtype == np.float32
    coefficients = scipy_signal.butter(3, [1, 47], "bandpass", fs=500)
    np.testing.assert_allclose(got, scipy_signal.filtfilt(*coefficients, signal.astype(float)), rtol=1e-4, atol=1e-4)


def test_the_butterworth_filter_keeps_slow_waves_in_their_place_at_any_sampling_frequency():
    for frequency in (257.0, 500.0, 1000.0):
        signal, expected = (sines(rate, seconds=20.0)[1:] for rate in (frequency, 500))  # of 7 and 23 Hz
        got = resample_and_filter(signal, frequency, Preprocessing(500, (1.0, 47.0), kind=BUTTERWORTH))
        np.testing.assert_allclose(got[:, 3000:7000], expected[:, 3000:7000], atol=0.02)


def test_an_unknown_kind_of_filter_is_refused():
    with pytest.raises(ValueError, match="kind of filter is 'notch', expected fir or butterworth"):
        Preprocessing(kind="notch")
