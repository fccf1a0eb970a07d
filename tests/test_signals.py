from dataclasses import replace

import numpy as np
import pytest
from scipy import signal as scipy_signal

from ecg.leads import LEAD_SETS, LEADS
from ecg.records import SignalError
from ecg.signals import RATE, RESOLUTION, TAPS, band_pass_response, centred_millivolts, preprocess

SECONDS = 20


def sine(frequency, rate, seconds=SECONDS, amplitude=2.0):
    time = np.arange(round(rate * seconds)) / rate
    return amplitude * np.sin(2 * np.pi * frequency * time)


def integers(millivolts, gain=1000.0):
    return np.rint(np.atleast_2d(millivolts) * gain).astype(np.int16)


@pytest.mark.parametrize("rate", [100.0, 128.0, 250.0, 257.0, 333.3, 360.0, 500.0, 1000.0, 2000.0])
def test_a_sine_keeps_its_size_and_place_at_every_sampling_frequency(rate, make_header):
    got = preprocess(make_header(["I"], rate), integers(sine(7.0, rate)), ["I"])[:, 0]
    assert got.shape == (-(-round(rate * SECONDS) * RATE // rate),)
    middle = slice(2 * RATE, -2 * RATE)
    np.testing.assert_allclose(got[middle], sine(7.0, RATE, len(got) / RATE)[middle], atol=0.01)


@pytest.mark.parametrize(
    ("frequency", "lowest", "highest"), [(1, -1, 1), (10, -1, 1), (40, -1, 1), (0.05, -np.inf, -20), (60, -np.inf, -40)]
)
def test_the_bands_edges(frequency, lowest, highest):
    length = 100_000
    decibels = 20 * np.log10(abs(band_pass_response(length)[round(frequency * length / RATE)]))
    assert lowest <= decibels <= highest


def test_what_is_heard_of_a_60_hz_hum_is_next_to_nothing(make_header):
    got = preprocess(make_header(["I"]), integers(sine(60.0, 500)), ["I"])
    assert np.abs(got[2 * RATE : -2 * RATE]).max() < 0.002


def test_equal_to_scipy_away_from_the_ends(real_data):
    from ecg.records import read_record

    header, recording = read_record(real_data / "train" / "A0001.hea")
    got = preprocess(header, recording, LEADS)
    taps = scipy_signal.firwin(TAPS, (0.5, 45), pass_zero=False, fs=RATE)
    resampled = scipy_signal.resample(recording / 1000 - recording.mean(axis=1, keepdims=True) / 1000, len(got), axis=1)
    expected = scipy_signal.fftconvolve(resampled, taps[np.newaxis], mode="same", axes=1).T
    np.testing.assert_allclose(got[2 * RATE : -2 * RATE], expected[2 * RATE : -2 * RATE], atol=0.0006)


def test_the_ends_do_not_ring(make_header):
    """A recording that begins and ends at different levels, as one with a wandering baseline does."""
    ramp = np.linspace(-3, 3, 5000)
    got = preprocess(make_header(["I"]), integers(ramp), ["I"])
    assert np.abs(got).max() < 0.2


def test_answers_are_whole_microvolts_and_16_bits_hold_them(make_header):
    rng = np.random.default_rng(0)
    got = preprocess(make_header(), rng.integers(-30000, 30000, (12, 3000)).astype(np.int16), LEADS)
    assert got.dtype == np.float32
    stored = np.rint(got / RESOLUTION).astype(np.int16)
    np.testing.assert_array_equal(stored * RESOLUTION, got)


def test_leads_come_in_the_order_asked_for_whatever_the_files(make_header):
    rng = np.random.default_rng(1)
    recording = rng.integers(-1000, 1000, (12, 2500)).astype(np.int16)
    order = rng.permutation(12)
    whole = preprocess(make_header(), recording, LEADS)
    shuffled = make_header([LEADS[place] for place in order])
    for leads in LEAD_SETS.values():
        np.testing.assert_array_equal(
            preprocess(shuffled, recording[order], leads), whole[:, [LEADS.index(lead) for lead in leads]]
        )


@pytest.mark.parametrize(("gain", "baseline"), [(500.0, 0), (2000.0, 0), (4000.0, -1024), (200.0, 17)])
def test_the_gain_in_which_the_same_millivolts_are_written_plays_no_part(gain, baseline, make_header):
    millivolts = np.random.default_rng(2).integers(-200, 200, (1, 2500)) / 100
    expected = preprocess(make_header(["I"]), np.rint(millivolts * 1000).astype(int), ["I"])
    got = preprocess(make_header(["I"], gain=gain, baseline=baseline),
                     np.rint(millivolts * gain).astype(int) + baseline, ["I"])  # fmt: skip
    np.testing.assert_allclose(got, expected, atol=1.001e-3)  # a rounding to the microvolt may fall the other way
    assert np.mean(got != expected) < 0.01


@pytest.mark.parametrize("places", [slice(0, 1), slice(-1, None), slice(700, 703), slice(300, 900)])
@pytest.mark.parametrize("value", [32767, -32767, -32768])
def test_spikes_and_missing_values_are_bridged_by_their_neighbours(places, value, make_header):
    clean = integers(sine(1.0, 500, 10)).repeat(2, axis=0)
    broken = clean.copy()
    broken[0, places] = value
    leads = make_header(["I", "II"]).leads
    got = centred_millivolts(broken, leads)
    good = np.ones(clean.shape[1], bool)
    good[places] = False
    assert np.abs(got).max() < 4
    difference = got[0, good] - clean[0, good] / 1000
    assert np.ptp(difference) < 1e-5  # the mean moves, nothing else
    np.testing.assert_allclose(got[1], clean[1] / 1000, atol=1e-5)


def test_kinds_of_faults_side_by_side_are_mended_together(make_header):
    clean = integers(sine(1.0, 500, 10))
    broken = clean.copy()
    broken[0, 1000:1004] = 32767, -32768, 32767, -32768
    got = centred_millivolts(broken, make_header(["I"]).leads)
    assert np.abs(got).max() < 2.1


@pytest.mark.parametrize("samples", [2250, 2499, 2500])
@pytest.mark.parametrize("gain", [200.0, 1000.0])
def test_a_lead_at_the_rail_for_up_to_half_its_time_is_mended(gain, samples, make_header):
    broken = integers(sine(1.0, 500, 10), gain)
    broken[0, 5000 - samples :] = 32767
    assert np.abs(centred_millivolts(broken, make_header(["I"], gain=gain).leads)).max() < 5


@pytest.mark.parametrize(("kind", "largest"), [("16", 2.1), ("160", 2.1), ("32", 17)])
def test_the_invalid_value_is_that_of_16_bit_formats(kind, largest, make_header):
    recording = integers(sine(1.0, 500, 10), 2000.0)
    recording[0, 1000] = -32768
    lead = replace(make_header(["I"], gain=2000.0).leads[0], format=kind)
    assert np.abs(centred_millivolts(recording, [lead])).max() == pytest.approx(largest, abs=0.7)


@pytest.mark.parametrize("leads", LEAD_SETS.values())
def test_a_lead_does_not_depend_on_which_others_are_asked_for(leads, make_header):
    """Not even where one of them is faulty, and the lead itself has a high level for a while."""
    recording = np.random.default_rng(3).integers(-500, 500, (12, 5000)).astype(np.int16)
    recording[0, :800] += 15_000
    recording[7, 100:200] = 32767
    recording[11, 40] = -32768
    whole = preprocess(make_header(), recording, LEADS)
    part = preprocess(make_header(), recording, leads)
    np.testing.assert_array_equal(part, whole[:, [LEADS.index(lead) for lead in leads]])


def test_the_offset_of_a_32_bit_file_costs_no_precision(make_header):
    wave = np.rint(sine(5.0, 500, 10) * 1000).astype(np.int64)[np.newaxis]
    expected = centred_millivolts(wave, make_header(["I"]).leads)
    far = centred_millivolts(wave + 2_000_000_000, make_header(["I"], baseline=7).leads)
    np.testing.assert_allclose(far, expected, atol=1e-6)


def test_not_a_number_and_infinity_are_faults_too(make_header):
    recording = np.tile(np.sin(np.arange(2500.0) / 20) * 1000, (2, 1))
    recording[0, [3, 77]] = np.nan, np.inf
    got = preprocess(make_header(["I", "II"]), recording, ["I", "II"])
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[:, 0], got[:, 1], atol=0.1)


def test_a_lead_without_one_good_sample_is_flat(make_header):
    recording = np.full((2, 2500), -32768)
    recording[1] = np.arange(2500) % 7
    assert not preprocess(make_header(["I", "II"]), recording, ["I"]).any()


@pytest.mark.parametrize("samples", [1, 2, 3, 50, 400, 751, 5000])
def test_any_length_from_one_sample_on(samples, make_header):
    got = preprocess(make_header(["I"]), np.arange(samples)[np.newaxis], ["I"])
    assert got.shape == (-(-samples // 2), 1) and np.isfinite(got).all()


def test_errors_name_the_record_and_what_is_missing(make_header):
    with pytest.raises(SignalError, match="made: no lead V2 among I, II"):
        preprocess(make_header(["I", "II"]), np.zeros((2, 100)), ["I", "V2"])
    with pytest.raises(SignalError, match=r"2 leads need \(leads, samples\), not \(2, 0\)"):
        preprocess(make_header(["I", "II"]), np.zeros((2, 0)), ["I"])
    with pytest.raises(SignalError, match=r"not \(3, 100\)"):
        preprocess(make_header(["I", "II"]), np.zeros((3, 100)), ["I"])
