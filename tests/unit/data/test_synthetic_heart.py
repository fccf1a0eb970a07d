from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import find_peaks

from ecg.data import synthetic_heart as heart
from ecg.data.synthetic import compute_leads

FREQUENCY = 500
LI, LII, LIII, AVF, V1, V2, V5 = 0, 1, 2, 5, 6, 7, 10  # columns of leads


def simulate_recording(findings, seed, seconds=10, **changes):
    """Return a patient and twelve leads in mV without noise: (T, 12)."""
    rng = np.random.default_rng(seed)
    patient = replace(heart.draw_patient(findings, rng), **changes)
    return patient, compute_leads(heart.compute_potentials(patient, seconds * FREQUENCY, FREQUENCY, rng)[0]) / 1000


def find_r_peaks(leads):
    """Return the times of the QRS complexes in s, at least 0.25 s apart.

    They are the times of the fastest changes of the leads.
    """
    speed = np.sqrt((np.gradient(leads, axis=0) ** 2).sum(axis=1))
    smooth = np.convolve(speed, np.hanning(31) / 15, "same")
    return find_peaks(smooth, height=0.35 * np.quantile(smooth, 0.99), distance=FREQUENCY // 4)[0] / FREQUENCY


def measure_activity(leads, peak):
    """Return the PR interval and the QRS width around a QRS complex, in s."""
    size = np.linalg.norm(leads, axis=1)
    peak = round(peak * FREQUENCY)
    inside = size > 0.06 * size[peak - 20 : peak + 20].max()
    start = peak - np.argmin(inside[peak::-1])
    end = peak + np.argmin(inside[peak:])
    before = size[start - 180 : start - 20]  # 360 to 40 ms
    return (180 - np.argmax(before > 0.15 * before.max())) / FREQUENCY, (end - start) / FREQUENCY


@pytest.mark.parametrize(
    ("findings", "lowest", "highest"), [(["NSR"], 60, 100), (["SB"], 30, 60), (["STach"], 100, 160), (["PR"], 55, 85)]
)
def test_heart_rates_are_those_of_the_finding(findings, lowest, highest):
    for seed in range(6):
        patient, leads = simulate_recording(findings, seed)
        intervals = np.diff(find_r_peaks(leads))
        assert lowest < 60 / intervals.mean() < highest
        assert 60 / intervals.mean() == pytest.approx(patient.rate, rel=0.05)
        assert intervals.std() < 0.05 * intervals.mean()


def test_fibrillation_is_irregular_and_sinus_arrhythmia_swings_by_more_than_160_ms():
    for seed in range(6):
        irregular = np.diff(find_r_peaks(simulate_recording(["AF"], seed, 30)[1]))
        assert irregular.std() > 0.12 * irregular.mean()
        for rhythm in ("NSR", "SB"):
            swinging, regular = (
                np.diff(find_r_peaks(simulate_recording([rhythm, *more], seed, 30)[1])) for more in (["SA"], [])
            )
            assert np.ptp(swinging) > 0.16 > np.ptp(regular)


def test_fibrillation_has_no_p_waves_but_a_restless_baseline():
    for seed in range(6):
        shapes = {}
        for findings in (["NSR"], ["AF"]):
            leads = simulate_recording(findings, seed, rate=75.0)[1]
            before = (find_r_peaks(leads) * FREQUENCY).astype(int)[1:-1, None] + np.arange(-110, -30)  # 220 to 60 ms
            shapes[findings[0]] = leads[before, LII]
        mean = {name: np.ptp(shape.mean(axis=0)) for name, shape in shapes.items()}
        deviation = {name: shape.std(axis=0).mean() for name, shape in shapes.items()}
        assert mean["NSR"] > 5 * deviation["NSR"] and mean["AF"] < 4 * deviation["AF"] and deviation["AF"] > 0.01


def test_flutter_conducts_one_in_two_to_five_and_swings_between_the_beats():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        patient = heart.draw_patient(["AFL"], rng)
        assert 250 < 60 / patient.cycle < 350
        ratios = heart.draw_beats(patient, 10, rng).interval / patient.cycle
        assert np.all(np.isin(np.round(ratios, 6), (2, 3, 4, 5)))
        # The atria alone: the beats have almost no amplitude, the flutter remains.
        quiet = simulate_recording(["AFL"], seed, height=1e-6, qt=0.01)[1]
        power = np.abs(np.fft.rfft(quiet[:, [LII, AVF, V1]], axis=0)) ** 2
        assert np.ptp(quiet[:, LII]) > 0.15 and np.ptp(quiet[:, V1]) > 0.08
        assert np.all(np.abs(np.argmax(power[1:], axis=0) + 1 - 10 / patient.cycle) < 2)


def test_early_beats_are_early_and_pause_as_they_should():
    for name, kind, lowest, highest in (("PAC", heart.ATRIAL, 1.4, 1.97), ("PVC", heart.VENTRICULAR, 1.9, 2.1)):
        for seed in range(6):
            rng = np.random.default_rng(seed)
            patient = heart.draw_patient(["NSR", name], rng)
            beats = heart.draw_beats(patient, 10, rng)
            early = np.flatnonzero(beats.kind[:-1] == kind)
            assert np.any((beats.onset[early] > 0) & (beats.onset[early] < 10))
            assert np.all(beats.interval[early] < 0.8 * 60 / patient.rate)
            around = (beats.interval[early] + beats.interval[early + 1]) * patient.rate / 60
            assert np.all((around > lowest) & (around < highest))


def test_both_kinds_of_early_beat_occur_in_the_shortest_recording():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        beats = heart.draw_beats(heart.draw_patient(["NSR", "PAC", "PVC"], rng), 5, rng)
        inside = beats.kind[(beats.onset > 0) & (beats.onset < 5)]
        assert {heart.ATRIAL, heart.VENTRICULAR} <= set(inside)


def test_ventricular_beats_are_wide_and_atrial_ones_are_not():
    for seed in range(6):
        for name, kind, wide in (("PVC", heart.VENTRICULAR, True), ("PAC", heart.ATRIAL, False)):
            rng = np.random.default_rng(seed)
            patient = heart.draw_patient(["NSR", name], rng)
            state = rng.bit_generator.state
            beats = heart.draw_beats(patient, 10, rng)
            rng.bit_generator.state = state
            leads = compute_leads(heart.compute_potentials(patient, 5000, FREQUENCY, rng)[0]) / 1000
            onset = next(at for at in beats.onset[beats.kind == kind] if 0.5 < at < 9)
            around = leads[int(onset * FREQUENCY) + 50 : int(onset * FREQUENCY) + 65]  # 100 to 130 ms after onset
            largest = np.abs(leads[int(onset * FREQUENCY) : int(onset * FREQUENCY) + 100]).max()
            assert (np.abs(around).max() > 0.4 * largest) == wide


def test_pr_interval_and_qrs_width_are_those_of_the_finding():
    widths = {"RBBB": (0.115, 0.18), "LBBB": (0.12, 0.19), "NSIVCB": (0.11, 0.16), "IRBBB": (0.09, 0.125)}
    for seed in range(5):
        for name in ("NSR", "IAVB", *widths):
            _, leads = simulate_recording(["NSR", name], seed, rate=62.0, qt=0.38)
            pr, width = np.median([measure_activity(leads, peak) for peak in find_r_peaks(leads)[1:-1]], axis=0)
            assert (pr > 0.2) == (name == "IAVB")
            lowest, highest = widths.get(name, (0.06, 0.11))
            assert lowest < width < highest, (name, seed)


def test_the_p_wave_is_upright_in_ii_and_biphasic_in_v1():
    for seed in range(5):
        patient, leads = simulate_recording(["NSR"], seed, rate=62.0)
        peak = round(find_r_peaks(leads)[3] * FREQUENCY)
        start = peak - round((patient.pr + 0.05) * FREQUENCY)
        p = leads[start : peak - 30]
        assert 0.05 < p[:, LII].max() < 0.25 and p[:, LII].min() > -0.02
        assert p[:, V1].max() > 0.01 and p[:, V1].min() < -0.01 and p[:, V1].argmax() < p[:, V1].argmin()


def test_a_long_qt_interval_puts_the_t_wave_late():
    for seed in range(5):
        late = {}
        for name in ("NSR", "LQT"):
            _, leads = simulate_recording(["NSR", name], seed, rate=62.0)
            peak = round(find_r_peaks(leads)[3] * FREQUENCY)
            after = leads[peak + 75 : peak + 320, V5]  # 150 to 640 ms
            late[name] = 0.15 + np.argmax(after) / FREQUENCY
        assert late["NSR"] < 0.32 < 0.34 < late["LQT"]


def test_low_voltage_is_below_half_a_millivolt_in_every_limb_lead_and_nothing_else_is():
    for seed in range(5):
        for name in ("LQRSV", "NSR", "LAD", "RAD", "IRBBB"):
            _, leads = simulate_recording(["NSR", name], seed)
            assert (np.ptp(leads[:, :6], axis=0).max() < 0.55) == (name == "LQRSV")


def test_scars_leave_deep_q_waves():
    depths = {}
    for name in ("QAb", "NSR"):
        for seed in range(12):
            _, leads = simulate_recording(["NSR", name], seed)
            peak = round(find_r_peaks(leads)[3] * FREQUENCY)
            size = np.linalg.norm(leads, axis=1)
            onset = peak - np.argmin((size > 0.06 * size[peak - 20 : peak + 20].max())[peak::-1])
            depths.setdefault(name, []).append(-leads[onset : onset + 16, [LI, LIII, V2]].min())  # in the first 32 ms
    assert min(depths["QAb"]) > 0.08
    assert np.median(depths["QAb"]) > 2 * np.median(depths["NSR"])


def test_a_pacemaker_writes_a_spike_before_each_wide_complex():
    for seed in range(5):
        _, leads = simulate_recording(["PR"], seed)
        jumps = np.abs(np.diff(leads, n=2, axis=0)).max(axis=1)
        spikes = find_peaks(jumps, height=0.25 * jumps.max(), distance=FREQUENCY // 4)[0] / FREQUENCY
        peaks = find_r_peaks(leads)
        delays = peaks[1:, None] - spikes
        assert np.all(((delays > -0.01) & (delays < 0.13)).sum(axis=1) == 1)
        assert np.ptp(np.diff(spikes)) < 0.02
        assert np.abs(np.diff(simulate_recording(["NSR"], seed)[1], n=2, axis=0)).max() < 0.5 * jumps.max()


def test_the_same_generator_gives_the_same_heart():
    first, second = (simulate_recording(["NSR", "PVC"], 3)[1] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.any(first != simulate_recording(["NSR", "PVC"], 4)[1])
