import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal as scipy_signal

from ecg.data.headers import HIGHEST_FREQUENCY, INVALID, Header, HeaderError, Lead
from ecg.data.leads import LEAD_SETS, LEADS, derivation_weights
from ecg.data.preprocessing import (
    COMPUTED,
    FLAT,
    GAIN,
    GAIN_ZERO,
    INVALID_VALUE,
    MAX_DURATION,
    MOST_HOURS,
    NOT_FINITE,
    REJECTED,
    RESOLUTION,
    SPIKE,
    TRANSPOSED,
    Repair,
    correct_gains,
    preprocess,
    split_segments,
    to_centred_millivolts,
)
from ecg.data.records import SignalError, read_record
from ecg.data.resampling import DEFAULT_PREPROCESSING, RATE, Preprocessing, filter_length

SECONDS = 20


def sine(frequency, rate, seconds=SECONDS, amplitude=2.0):
    time = np.arange(round(rate * seconds)) / rate
    return amplitude * np.sin(2 * np.pi * frequency * time)


def integers(millivolts, gain=1000.0):
    return np.rint(np.atleast_2d(millivolts) * gain).astype(np.int16)


def preprocessed_signal(header, recording, leads):
    return preprocess(header, recording, leads).signal


def signal_and_repairs(header, recording, leads, preparation=DEFAULT_PREPROCESSING):
    prepared = preprocess(header, recording, leads, preparation=preparation)
    return prepared.signal, prepared.repairs


@pytest.mark.parametrize("rate", [100.0, 128.0, 250.0, 257.0, 333.3, 360.0, 500.0, 1000.0, 2000.0])
def test_a_sine_keeps_its_size_and_place_at_every_sampling_frequency(rate, make_header):
    got = preprocessed_signal(make_header(["I"], rate), integers(sine(7.0, rate)), ["I"])[:, 0]
    assert got.shape == (-(-round(rate * SECONDS) * RATE // rate),)
    middle = slice(2 * RATE, -2 * RATE)
    np.testing.assert_allclose(got[middle], sine(7.0, RATE, len(got) / RATE)[middle], atol=0.01)


def test_a_60_hz_hum_is_removed(make_header):
    got = preprocessed_signal(make_header(["I"]), integers(sine(60.0, 500)), ["I"])
    assert np.abs(got[2 * RATE : -2 * RATE]).max() < 0.002


def test_equal_to_scipy_away_from_the_ends(real_data):
    header, recording = read_record(real_data / "train" / "A0001.hea")
    got = preprocessed_signal(header, recording, LEADS)
    taps = scipy_signal.firwin(filter_length(RATE), (0.5, 45), pass_zero=False, fs=RATE)
    resampled = scipy_signal.resample(recording / 1000 - recording.mean(axis=1, keepdims=True) / 1000, len(got), axis=1)
    expected = scipy_signal.fftconvolve(resampled, taps[np.newaxis], mode="same", axes=1).T
    np.testing.assert_allclose(got[2 * RATE : -2 * RATE], expected[2 * RATE : -2 * RATE], atol=0.0006)


def test_the_ends_do_not_ring(make_header):
    """The ends of this recording differ in level, as with a wandering baseline."""
    ramp = np.linspace(-3, 3, 5000)
    got = preprocessed_signal(make_header(["I"]), integers(ramp), ["I"])
    assert np.abs(got).max() < 0.2


def test_signals_are_integers_of_microvolts_and_16_bits_hold_them(make_header):
    rng = np.random.default_rng(0)
    got = preprocess(make_header(gain=2000.0), rng.integers(-30000, 30000, (12, 3000)).astype(np.int16), LEADS)
    assert got.microvolts.dtype == np.int16 and got.microvolts.flags.c_contiguous
    assert got.signal.dtype == np.float32
    np.testing.assert_array_equal(got.signal, got.microvolts * RESOLUTION)


def test_values_beyond_16_bits_are_clipped(make_header):
    # A ramp with a step of nearly 20 mV up and one down; each overshoots after filtering.
    ramp = np.linspace(-19.9, 19.9, 5000) + np.where(np.arange(5000) < 2500, 19.9, -19.9)
    got = preprocess(make_header(["I"], gain=1e6), np.rint(ramp[np.newaxis] * 1e6).astype(np.int32), ["I"]).microvolts
    assert np.abs(got).max() <= 32767 and np.abs(np.diff(got[:, 0].astype(int))).max() < 32767


def test_leads_come_in_the_wanted_order_whatever_the_files(make_header):
    rng = np.random.default_rng(1)
    recording = rng.integers(-1000, 1000, (12, 2500)).astype(np.int16)
    order = rng.permutation(12)
    all_leads = preprocessed_signal(make_header(), recording, LEADS)
    shuffled = make_header([LEADS[index] for index in order])
    for leads in LEAD_SETS.values():
        np.testing.assert_array_equal(
            preprocessed_signal(shuffled, recording[order], leads), all_leads[:, [LEADS.index(lead) for lead in leads]]
        )


@pytest.mark.parametrize(("gain", "baseline"), [(500.0, 0), (2000.0, 0), (4000.0, -1024), (200.0, 17)])
def test_the_gain_of_the_same_millivolts_does_not_matter(gain, baseline, make_header):
    millivolts = np.random.default_rng(2).integers(-200, 200, (1, 2500)) / 100
    expected = preprocessed_signal(make_header(["I"]), np.rint(millivolts * 1000).astype(int), ["I"])
    got = preprocessed_signal(make_header(["I"], gain=gain, baseline=baseline),
                     np.rint(millivolts * gain).astype(int) + baseline, ["I"])  # fmt: skip
    np.testing.assert_allclose(got, expected, atol=1.001e-3)  # rounding to a microvolt may differ
    assert np.mean(got != expected) < 0.01


PLACES = (slice(0, 1), slice(-1, None), slice(700, 703), slice(300, 900), slice(0, None, 3), slice(2000, 3600))


@pytest.mark.parametrize("samples", PLACES)
@pytest.mark.parametrize("value", [32767, -32767, -32768, np.nan, np.inf, -np.inf, 1e300])
def test_spikes_and_missing_values_are_bridged_by_their_neighbours_and_counted(samples, value, make_header):
    clean = integers(sine(1.0, 500, 10)).repeat(2, axis=0)
    broken = clean.astype(np.int16 if abs(value) < 40000 else np.float64)
    broken[0, samples] = value
    got, faults = to_centred_millivolts(broken, make_header(["I", "II"]).leads)
    good = np.ones(clean.shape[1], bool)
    good[samples] = False
    assert np.abs(got).max() < 4
    difference = got[0, good] - clean[0, good] / 1000
    assert np.ptp(difference) < 1e-5  # only the mean moves
    np.testing.assert_allclose(got[1], clean[1] / 1000, atol=1e-5)
    kind = {-32768: INVALID_VALUE, 32767: SPIKE, -32767: SPIKE}.get(value, NOT_FINITE)
    assert faults.pop(kind) == {"I": np.count_nonzero(~good)}
    assert not any(faults.values())


def test_several_faults_of_several_leads_are_counted_by_kind(make_header):
    recording = np.tile(integers(sine(1.0, 500, 10)), (3, 1)).astype(np.float64)
    recording[0, [0, 17, 4999]] = 30000, -30000, 29999
    recording[2, 100:300] = -25000
    recording[2, 401:403] = np.nan, -32768
    recording[1] = 7
    _, repairs = preprocess(make_header(["II", "V2", "I"]), recording, ["I", "II", "V2"])
    assert repairs == (
        Repair(FLAT, ("V2",), 1),
        Repair(NOT_FINITE, ("I",), 1),
        Repair(INVALID_VALUE, ("I",), 1),
        Repair(SPIKE, ("I", "II"), 203),
    )
    with pytest.raises(SignalError, match="made: lead V2 is flat"):
        preprocess(make_header(["II", "V2", "I"]), recording, ["V2"])


def test_a_sound_recording_has_no_repairs_and_none_is_made_in_the_callers_array(make_header):
    recording = integers(sine(1.0, 500, 10))
    assert preprocess(make_header(["I"]), recording, ["I"]).repairs == ()
    recording[0, 5] = 32767
    before = recording.copy()
    assert preprocess(make_header(["I"]), recording, ["I"]).repairs
    np.testing.assert_array_equal(recording, before)


def test_adjacent_faults_of_different_kinds_are_repaired_as_one_gap(make_header):
    clean = integers(sine(1.0, 500, 10))
    broken = clean.copy()
    broken[0, 1000:1004] = 32767, -32768, 32767, -32768
    got, _ = to_centred_millivolts(broken, make_header(["I"]).leads)
    assert np.abs(got).max() < 2.1


@pytest.mark.parametrize("samples", [2250, 2499, 2500])
@pytest.mark.parametrize("gain", [200.0, 1000.0])
def test_a_lead_at_the_rail_for_up_to_half_its_time_is_repaired(gain, samples, make_header):
    broken = integers(sine(1.0, 500, 10), gain)
    broken[0, 5000 - samples :] = 32767
    assert np.abs(to_centred_millivolts(broken, make_header(["I"], gain=gain).leads)[0]).max() < 5


@pytest.mark.parametrize(("kind", "largest"), [("16", 2.1), ("160", 2.1), ("32", 17)])
def test_the_invalid_value_is_that_of_16_bit_formats(kind, largest, make_header):
    recording = integers(sine(1.0, 500, 10), 2000.0)
    recording[0, 1000] = -32768
    lead = make_header(["I"], gain=2000.0).leads[0]._replace(format=kind)
    assert np.abs(to_centred_millivolts(recording, [lead])[0]).max() == pytest.approx(largest, abs=0.7)


@pytest.mark.parametrize("leads", LEAD_SETS.values())
def test_a_lead_does_not_depend_on_which_others_are_wanted(leads, make_header):
    """Some of the other leads are faulty, and each lead has a high level at first."""
    recording = np.random.default_rng(3).integers(-500, 500, (12, 5000)).astype(np.int16)
    recording[0, :800] += 15_000
    recording[7, 100:200] = 32767
    recording[11, 40] = -32768
    all_leads = preprocessed_signal(make_header(), recording, LEADS)
    selected = preprocessed_signal(make_header(), recording, leads)
    np.testing.assert_array_equal(selected, all_leads[:, [LEADS.index(lead) for lead in leads]])


def test_the_offset_of_a_32_bit_file_costs_no_precision(make_header):
    wave = np.rint(sine(5.0, 500, 10) * 1000).astype(np.int64)[np.newaxis]
    expected, _ = to_centred_millivolts(wave, make_header(["I"]).leads)
    far, _ = to_centred_millivolts(wave + 2_000_000_000, make_header(["I"], baseline=7).leads)
    np.testing.assert_allclose(far, expected, atol=1e-6)


def test_not_a_number_and_infinity_are_faults_too(make_header):
    recording = np.tile(np.sin(np.arange(2500.0) / 20) * 1000, (2, 1))
    recording[0, [3, 77]] = np.nan, np.inf
    got = preprocessed_signal(make_header(["I", "II"]), recording, ["I", "II"])
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[:, 0], got[:, 1], atol=0.1)


@pytest.mark.parametrize("samples", [251, 2500, 4999, 5000])
@pytest.mark.parametrize("value", [-32768, np.nan, np.inf, 32000])
def test_a_chest_lead_with_more_than_a_twentieth_of_faults_is_flat(value, samples, make_header):
    recording = np.tile(integers(sine(1.0, 500, 10)), (3, 1)).astype(np.float64)
    recording[1, :samples] = value
    if value == 32000 and samples > 2500:
        recording[1, samples // 2 : samples] = -32000  # the median is one of them, the others are far from it
    signal, repairs = signal_and_repairs(make_header(["I", "V1", "II"]), recording, ["I", "II", "V1"])
    assert not signal[:, 2].any() and signal[:, 0].any()
    assert repairs[:2] == (Repair(REJECTED, ("V1",), 1), Repair(FLAT, ("V1",), 1))
    assert repairs[2].kind == {-32768: INVALID_VALUE, 32000: SPIKE}.get(value, NOT_FINITE)
    assert repairs[2].leads == ("V1",) and repairs[2].count > 250


@pytest.mark.parametrize("value", [-32768, np.nan, np.inf, 32000])
def test_a_twentieth_of_faults_is_repaired(value, make_header):
    recording = np.tile(integers(sine(1.0, 500, 10)), (2, 1)).astype(np.float64)
    recording[1, 1000:1250] = value
    signal, repairs = signal_and_repairs(make_header(["I", "II"]), recording, ["I", "II"])
    assert signal[:, 1].any() and [repair.kind for repair in repairs] != REJECTED
    assert [(repair.leads, repair.count) for repair in repairs] == [(("II",), 250)]


@pytest.mark.parametrize(("gain", "units"), [(1000.0, "V"), (1.0, "mV"), (1.0, "V"), (0.01, "mV")])
def test_a_wrong_unit_makes_a_recording_unusable_and_is_suspected(gain, units, make_header):
    """Integers are microvolts, as in the Challenge's files: 1000 for a millivolt."""
    header = make_header(gain=gain)
    header = replace(header, leads=tuple(lead._replace(units=units) for lead in header.leads))
    with pytest.raises(SignalError, match="beyond 20 mV.*no lead set is left: a unit or a gain is likely wrong"):
        preprocess(header, limb_recording(LEADS), LEADS)


def test_one_lead_in_a_wrong_unit_costs_that_lead_alone(make_header):
    expected = preprocessed_signal(make_header(), limb_recording(LEADS), LEADS)
    header = make_header()
    for name, computed in (("V3", ()), ("II", ("II",))):
        row = LEADS.index(name)
        leads = tuple(lead._replace(units="V") if lead.name == name else lead for lead in header.leads)
        signal, repairs = signal_and_repairs(replace(header, leads=leads), limb_recording(LEADS), LEADS)
        leads_by_kind = {repair.kind: repair.leads for repair in repairs}
        assert leads_by_kind[REJECTED] == (name,) and leads_by_kind.get(COMPUTED, ()) == computed
        kept = [index for index in range(12) if index != row or computed]
        np.testing.assert_allclose(signal[:, kept], expected[:, kept], atol=1.001e-3)


def test_a_lead_that_is_not_chosen_does_not_matter(make_header):
    names = ("I", "II", "V2", "RESP")
    recording = np.vstack([limb_recording(names[:3]), np.full((1, 2500), 30000, np.int16)])
    expected = preprocessed_signal(make_header(names[:3]), recording[:3], names[:3])
    header = make_header(names)
    for changes in ({"units": "ohm"}, {"gain": 1e-300}, {"gain": 200.0, "gain_is_zero": True}):
        leads = (*header.leads[:3], header.leads[3]._replace(**changes))
        signal, repairs = signal_and_repairs(replace(header, leads=leads), recording, names[:3])
        np.testing.assert_array_equal(signal, expected)
        assert repairs == ()
    leads = (header.leads[0]._replace(units="ohm"), *header.leads[1:])
    with pytest.raises(HeaderError, match="made.mat lead I: units 'ohm' are not mV, uV or V"):
        preprocess(replace(header, leads=leads), recording, names[:3])


def test_a_limb_lead_that_is_no_voltage_is_not_computed_from(make_header):
    names = ("I", "II", "III")
    header = make_header(names)
    leads = (header.leads[0], header.leads[1], header.leads[2]._replace(units="ohm"))
    expected = preprocessed_signal(make_header(names[:2]), limb_recording(names[:2]), LEADS[:6])[:, [0, 1, 3]]
    got = preprocessed_signal(replace(header, leads=leads), limb_recording(names), ("I", "II", "aVR"))
    np.testing.assert_array_equal(got, expected)


def test_a_gain_of_0_is_used_as_200_and_listed(make_header):
    names = ("I", "II", "V2")
    recording = limb_recording(names)
    header = make_header(names, gain=200.0)
    leads = (header.leads[0], *(lead._replace(gain_is_zero=True, gain_written=False) for lead in header.leads[1:]))
    signal, repairs = signal_and_repairs(replace(header, leads=leads), recording, ("I", "II"))
    np.testing.assert_array_equal(signal, preprocessed_signal(header, recording, ("I", "II")))
    assert repairs == (Repair(GAIN_ZERO, ("II",), 1),)


@pytest.mark.parametrize(("kind", "value"), INVALID.items())
def test_the_invalid_value_depends_on_the_format(kind, value, make_header):
    recording = np.random.default_rng(0).integers(-60, 60, (2, 2500))
    header = make_header(["I", "II"], gain=10.0)
    header = replace(header, leads=tuple(lead._replace(format=kind) for lead in header.leads))
    recording[1, 700:720] = value
    signal, repairs = signal_and_repairs(header, recording, ["I", "II"])
    assert repairs == (Repair(INVALID_VALUE, ("II",), 20),)
    assert np.abs(signal[:, 1]).max() < 9
    header = replace(header, leads=tuple(lead._replace(format="8") for lead in header.leads))
    assert INVALID_VALUE not in [repair.kind for repair in preprocess(header, recording, ["I", "II"]).repairs]


def test_a_recording_that_is_flat_or_without_a_valid_sample_cannot_be_used(make_header):
    for value in (0, 250):
        with pytest.raises(SignalError, match="made: every lead is flat"):
            preprocess(make_header(), np.full((12, 1000), value, np.int16), LEADS)
    for value in (-32768, np.nan):
        with pytest.raises(SignalError, match="made: no sample was recorded, none of I, II has a valid one"):
            preprocess(make_header(["I", "II"]), np.full((2, 1000), value), ["I", "II"])


def limb_recording(names, seed=5, samples=2500):
    """Return microvolts of leads; the limb leads come from three electrodes."""
    independent = np.random.default_rng(seed).integers(-500, 500, (8, samples)) * 2
    by_lead = dict(zip(("I", "II", *LEADS[6:]), independent, strict=True))
    for name in LEADS[2:6]:
        by_lead[name] = sum(weight * by_lead[lead] for lead, weight in derivation_weights(name, ["I", "II"]).items())
    return np.array([by_lead[name] for name in names]).astype(np.int16)


@pytest.mark.parametrize("names", [("I", "II"), ("III", "aVF"), ("aVR", "aVL"), ("aVL", "I", "II", "aVR"), LEADS[1:5]])
def test_limb_leads_are_computed_from_others(names, make_header):
    names = (*names, *LEADS[6:])
    expected = preprocessed_signal(make_header(), limb_recording(LEADS), LEADS)
    signal, repairs = signal_and_repairs(make_header(names), limb_recording(names), LEADS)
    np.testing.assert_allclose(signal, expected, atol=1.001e-3)
    computed = tuple(lead for lead in LEADS if lead not in names)
    assert repairs == (Repair(COMPUTED, computed, len(computed)),)
    recorded = [LEADS.index(lead) for lead in LEADS if lead in names]
    np.testing.assert_array_equal(signal[:, recorded], expected[:, recorded])


def test_leads_are_computed_in_millivolts_and_from_repaired_leads(make_header):
    names = ("I", "II")
    recording = limb_recording(names)
    expected = preprocessed_signal(make_header(names), recording, LEADS[:6])
    header = make_header(names)
    header = replace(header, leads=(header.leads[0]._replace(gain=2000.0, baseline=-70), header.leads[1]))
    scaled = np.array([recording[0] * 2 - 70, recording[1]])
    np.testing.assert_allclose(preprocessed_signal(header, scaled, LEADS[:6]), expected, atol=1.001e-3)
    recording[1, 300:420] = 32767
    signal, repairs = signal_and_repairs(make_header(names), recording, LEADS[:6])
    repaired = preprocessed_signal(make_header(names), recording, names)
    np.testing.assert_allclose(signal[:, 2], repaired[:, 1] - repaired[:, 0], atol=2.001e-3)
    assert repairs == (Repair(COMPUTED, LEADS[2:6], 4), Repair(SPIKE, ("II",), 120))


def test_a_limb_lead_without_one_valid_sample_is_computed_too(make_header):
    recording = limb_recording(LEADS)
    expected = preprocessed_signal(make_header(), recording, LEADS)
    recording[1] = recording[4] = -32768
    signal, repairs = signal_and_repairs(make_header(), recording, LEADS)
    np.testing.assert_allclose(signal, expected, atol=1.001e-3)
    both = ("II", "aVL")
    assert repairs == (Repair(REJECTED, both, 2), Repair(COMPUTED, both, 2), Repair(INVALID_VALUE, both, 5000))


def test_real_limb_leads_follow_from_two_of_them(real_data):
    header, recording = read_record(real_data / "train" / "E00001.hea")
    all_leads = preprocessed_signal(header, recording, LEADS)
    rows = [header.lead_names.index(lead) for lead in ("III", "aVR", *LEADS[6:])]
    header_of_two = replace(header, leads=tuple(header.leads[row] for row in rows))
    np.testing.assert_allclose(preprocessed_signal(header_of_two, recording[rows], LEADS), all_leads, atol=5e-3)


def test_of_two_leads_of_a_name_the_first_counts(make_header):
    recording = limb_recording(("I", "II", "V1"))
    expected = preprocessed_signal(make_header(["I", "II"]), recording[:2], ["I", "II"])
    got = preprocessed_signal(make_header(["I", "II", "I"]), recording, ["I", "II"])
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("samples", [0, 2500])
def test_a_recording_by_samples_is_turned(samples, make_header):
    recording = limb_recording(LEADS)
    header = make_header(samples=samples)
    signal, repairs = signal_and_repairs(header, recording.T, LEADS)
    np.testing.assert_array_equal(signal, preprocessed_signal(header, recording, LEADS))
    assert repairs == (Repair(TRANSPOSED, LEADS, 12),)


def test_the_memory_layout_of_the_samples_does_not_matter(make_header):
    recording = limb_recording(LEADS)
    expected = preprocessed_signal(make_header(), recording, LEADS)
    for layout in (np.asfortranarray(recording), recording[:, ::-1].copy()[:, ::-1], recording.astype(np.float32),
                  recording.astype(">i4"), recording.tolist()):  # fmt: skip
        np.testing.assert_array_equal(preprocessed_signal(make_header(), layout, LEADS), expected)


EARLY_GAINS = Preprocessing(early_gains=True)


def test_the_gain_of_early_2020_is_corrected_to_what_is_in_the_file(real_data):
    header, recording = read_record(next((real_data / "dialects" / "early-2020-gain").glob("*.hea")))
    right = replace(header, leads=tuple(lead._replace(gain=1000.0) for lead in header.leads))
    expected = preprocessed_signal(right, recording, LEADS)
    signal, repairs = signal_and_repairs(header, recording, LEADS, EARLY_GAINS)
    np.testing.assert_array_equal(signal, expected)
    assert repairs == (Repair(GAIN, LEADS, 12),)
    recording = recording.astype(np.int32)
    recording[3, 100:150] = 40_000  # 40 mV, and 8 by the wrong gain
    signal, repairs = signal_and_repairs(header, recording, LEADS, EARLY_GAINS)
    np.testing.assert_array_equal(signal, preprocessed_signal(right, recording, LEADS))
    assert repairs == (Repair(GAIN, LEADS, 12), Repair(SPIKE, ("aVR",), 50))


@pytest.mark.parametrize("folder", ["ptb-xl-raw", "challenge-2021", "physionet-1.0.3"])
def test_gains_that_are_right_stay(folder, real_data):
    for path in (real_data / "dialects" / folder).glob("*.hea"):
        header, recording = read_record(path)
        assert GAIN not in [
            repair.kind for repair in preprocess(header, recording, LEADS, preparation=EARLY_GAINS).repairs
        ], path


def test_no_gain_is_corrected_by_default(make_header):
    """A true PTB-XL recording may have a gain of 200/mV and an unusual range."""
    recording = limb_recording(LEADS)
    header = replace(make_header(gain=200.0), name="HR00015")
    assert correct_gains(header, recording)[1] == LEADS
    signal, repairs = signal_and_repairs(header, recording, LEADS)
    np.testing.assert_array_equal(signal, preprocessed_signal(make_header(gain=200.0), recording, LEADS))
    assert repairs == signal_and_repairs(make_header(gain=200.0), recording, LEADS)[1]


@pytest.mark.parametrize(("name", "gain", "millivolts", "corrected"), [
    ("E00015", 4880.0, 1.0, True), ("HR00015", 200.0, 1.0, True), ("S0015", 2e6, 1.0, True),
    ("S0015", 2000.0, 1.0, False), ("JS00015", 4880.0, 1.0, False), ("HR00015", 4880.0, 1.0, False),
    ("E00015", 4880.0, 4.88, False), ("HR00015", 200.0, 0.1, False), 
])  # fmt: skip
def test_a_gain_is_wrong_by_name_and_range_together(name, gain, millivolts, corrected, make_header):
    """The integers are microvolts of this amplitude: the true gain is 1000/mV."""
    names = ("I", "V1", "V2")
    recording = limb_recording(names) * millivolts
    recording[2] = 3  # a flat lead does not count
    header = replace(make_header(names, gain=gain), name=name)
    signal, repairs = signal_and_repairs(header, recording, names, EARLY_GAINS)
    assert (GAIN in [repair.kind for repair in repairs]) == corrected
    expected = preprocessed_signal(make_header(names, gain=1000.0 if corrected else gain), recording, names)
    np.testing.assert_array_equal(signal, expected)


def test_a_gain_whose_signal_would_be_too_small_is_not_corrected(make_header):
    recording = limb_recording(("I", "II")) * 0.001
    header = replace(make_header(("I", "II"), gain=2e6), name="S0015")
    assert correct_gains(header, recording) == (header, ())


def test_a_gain_that_the_header_does_not_write_is_never_corrected(make_header):
    recording = limb_recording(("I", "II"))
    written = replace(make_header(["I", "II"], gain=200.0), name="HR00015")
    default = replace(written, leads=tuple(lead._replace(gain_written=False) for lead in written.leads))
    assert correct_gains(written, recording)[1] == ("I", "II")
    assert correct_gains(default, recording) == (default, ())


@pytest.mark.parametrize(("first", "corrected"), [(1.0, True), (0.01, False)])
def test_a_long_recording_has_one_gain_which_is_that_of_training(first, corrected, make_header):
    """Later segments alone may suggest another gain."""
    header = replace(make_header(["I", "II"], frequency=100.0, gain=200.0), name="HR00015")
    recording = limb_recording(("I", "II"), samples=30_000)
    training = round(MAX_DURATION * 100)
    recording[:, :training] = recording[:, :training] * first
    recording[:, training:] = recording[:, training:] * (1.01 - first)
    assert bool(correct_gains(header, recording[:, training:])[1]) != corrected
    assert bool(correct_gains(header, recording[:, :training])[1]) == corrected
    gain = 1000.0 if corrected else 200.0
    for segment in split_segments(header, recording):
        prepared = preprocess(header, segment, ["I", "II"], recording, EARLY_GAINS)
        assert (GAIN in [repair.kind for repair in prepared.repairs]) == corrected
        expected = preprocessed_signal(make_header(["I", "II"], frequency=100.0, gain=gain), segment, ["I", "II"])
        np.testing.assert_array_equal(prepared.signal, expected)


@pytest.mark.parametrize("rate", [257.5, 499.999, 500.05, 101.0001, 1999.99, 9876.543, HIGHEST_FREQUENCY, 10.003])
def test_an_odd_sampling_frequency_costs_no_more_memory_than_another(rate, make_header):
    wave = integers(sine(3.0, rate, 10))
    tracemalloc.start()
    try:
        got = preprocessed_signal(make_header(["I"], rate), wave, ["I"])[:, 0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3e6 + 40 * wave.size
    assert abs(len(got) - 10 * RATE) <= 1
    middle = slice(2 * RATE, -2 * RATE)
    np.testing.assert_allclose(got[middle], sine(3.0, RATE, len(got) / RATE)[middle], atol=0.03)


@pytest.mark.slow
def test_the_longest_segment_at_the_highest_sampling_frequency_takes_less_than_500_mb(make_header):
    """The largest file that is read, 200 MB, is in memory, too."""
    recording = np.ones((12, round(MAX_DURATION * HIGHEST_FREQUENCY)), np.int8)
    recording[:, ::1000] = 2
    tracemalloc.start()
    try:
        (segment,) = split_segments(make_header(frequency=HIGHEST_FREQUENCY), recording)
        preprocess(make_header(frequency=HIGHEST_FREQUENCY), segment, LEADS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300e6


@given(st.integers(1, 400_000), st.sampled_from([100.0, 250.0, 257.5, 1000 / 3, 360.0, 499.999, 500.0, 2000.0]))
def test_segments_are_consecutive_equally_long_and_limited(samples, rate):
    header = Header("made", rate, samples, (Lead("I", "made.mat", "16", 24, 1000.0, 0, "mV"),), np.nan, "Unknown", ())
    recording = np.arange(samples)[np.newaxis]
    segments = split_segments(header, recording)
    np.testing.assert_array_equal(np.concatenate(segments, axis=1), recording)
    assert all(np.shares_memory(segment, recording) for segment in segments)
    lengths = [segment.shape[1] for segment in segments]
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) <= MAX_DURATION * rate * 1.0001
    assert len(segments) == 1 or samples > MAX_DURATION * rate * 0.9999
    assert all(length > MAX_DURATION * rate / 3 for length in lengths[1:])


@pytest.mark.parametrize("rate", [10.0, 500.0])
def test_two_days_are_split_and_more_is_an_error(rate, make_header):
    most = int(MOST_HOURS * 3600 * rate)
    recording = np.broadcast_to(np.int16(0), (1, most + 1))  # one number in memory
    assert len(split_segments(make_header(["I"], rate), recording[:, :-1])) == MOST_HOURS * 3600 // MAX_DURATION
    with pytest.raises(SignalError, match=r"made: 48\.0 h of signal, expected 48 h or less"):
        split_segments(make_header(["I"], rate), recording)


@pytest.mark.parametrize("rate", [100.0, 257.0, 257.5, 1000 / 3, 360.0, 500.0, 2000.0])
def test_a_recording_that_training_does_not_crop_is_one_segment(rate, make_header):
    samples = round(MAX_DURATION * rate)
    assert len(split_segments(make_header(["I"], rate), np.zeros((1, samples)))) == 1
    assert len(split_segments(make_header(["I"], rate), np.zeros((1, samples + 2)))) == 2


@pytest.mark.parametrize("samples", [1, 2, 3, 50, 499])
def test_less_than_a_second_cannot_be_used(samples, make_header):
    with pytest.raises(SignalError, match=rf"made: {samples / 500:.2f} s is shorter than 1 s"):
        preprocess(make_header(["I"]), np.arange(samples)[np.newaxis], ["I"])


@pytest.mark.parametrize("samples", [500, 501, 751, 5000])
def test_any_length_from_a_second_on(samples, make_header):
    got = preprocessed_signal(make_header(["I"]), np.arange(samples)[np.newaxis], ["I"])
    assert got.shape == (-(-samples // 2), 1) and np.isfinite(got).all()


def test_errors_name_the_record_and_what_is_missing(make_header):
    with pytest.raises(SignalError, match="made: no lead V2 among I, II"):
        preprocessed_signal(make_header(["I", "II"]), np.zeros((2, 100)), ["I", "V2"])
    with pytest.raises(SignalError, match=r"2 leads need \(leads, samples\) of numbers, not float64 \(2, 0\)"):
        preprocessed_signal(make_header(["I", "II"]), np.zeros((2, 0)), ["I"])
    with pytest.raises(SignalError, match=r"not float64 \(3, 100\)"):
        preprocessed_signal(make_header(["I", "II"]), np.zeros((3, 100)), ["I"])
    with pytest.raises(SignalError, match=r"made: no lead I, V2 among II, V1, nor two limb leads that give it"):
        preprocessed_signal(make_header(["II", "V1"]), np.ones((2, 100)), ["I", "II", "V2"])
    with pytest.raises(SignalError, match="2 leads need .* of numbers, not <U1"):
        preprocessed_signal(make_header(["I", "II"]), np.full((2, 100), "a"), ["I"])
