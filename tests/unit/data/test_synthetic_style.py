"""Realistic synthetic recordings: they vary more, keep their findings, and have the noise of their source."""

from dataclasses import replace

import numpy as np
import pytest

from ecg.data import labels, synthetic
from ecg.data import synthetic_heart as heart
from ecg.data.headers import parse_header
from ecg.data.synthetic import SyntheticSettings, compute_leads, make_recording, plan_recordings
from ecg.data.synthetic_noise import RECORDERS, Recorder, draw_realistic_noise
from ecg.data.synthetic_shapes import (
    ATRIA,
    LEAD_FACTORS,
    REPOLARISATION,
    VENTRICLES,
    place_waves,
    sum_heart_vector,
)
from ecg.data.synthetic_style import draw_burden, draw_rate, make_realistic

REALISTIC = SyntheticSettings(realistic=True)


def make(records, settings=REALISTIC, seed=1):
    return [make_recording(seed, settings, item) for item in enumerate(plan_recordings(records, seed, settings))]


@pytest.fixture(scope="module")
def recordings():
    """Headers, integers and factss of 120 clean realistic recordings."""
    return make(120, replace(REALISTIC, clean=True))


def test_headers_are_read_and_limb_leads_obey_einthoven(recordings):
    for text, integers, facts in recordings:
        header = parse_header(text, f"{facts.name}.hea")
        assert (header.samples, 12) == integers.shape and set(header.codes) == set(facts.codes) != set()
        first, second, third, right = integers[:, :4].astype(int).T
        assert abs(third - (second - first)).max() <= 1 and abs(2 * right + first + second).max() <= 2


def test_recordings_depend_on_seed_and_index_alone_and_not_on_the_order(recordings):
    settings = replace(REALISTIC, clean=True)
    plan = list(enumerate(plan_recordings(120, 1, settings)))
    for index in (7, 3):
        text, integers, _ = make_recording(1, settings, plan[index])
        assert text == recordings[index][0]
        np.testing.assert_array_equal(integers, recordings[index][1])
    assert make_recording(2, settings, plan[3])[0] != recordings[3][0]


def test_samples_are_multiples_of_the_resolution_of_the_source():
    for source, recorder in RECORDERS.items():
        (_, integers, _), *_ = make(1, replace(REALISTIC, sources={source: 1}, clean=True))
        independent = integers[:, [0, 1, *range(6, 12)]].astype(float)
        nearest = recorder.step * np.rint(independent / recorder.step)
        assert abs(independent - nearest).max() <= 0.5
    assert RECORDERS.keys() == synthetic.SYNTHETIC_SOURCES.keys()


def test_every_trained_class_occurs_and_most_recordings_have_few_labels():
    rng = np.random.default_rng(0)
    drawn = np.array([np.isin(labels.ABBREVIATIONS, list(synthetic.draw_findings(rng, draw_burden(rng))))
                      for _ in range(4000)])  # fmt: skip
    usual = np.array([np.isin(labels.ABBREVIATIONS, list(synthetic.draw_findings(rng))) for _ in range(4000)])
    assert drawn[:, labels.TRAINED].mean(axis=0).min() > 0.012
    counts, usual_counts = drawn.sum(axis=1), usual.sum(axis=1)
    assert (counts == 1).mean() > (usual_counts == 1).mean() + 0.15
    assert (counts >= 5).mean() > 0.5 * (usual_counts >= 5).mean()


@pytest.mark.parametrize(
    ("findings", "lowest", "highest"),
    [({"NSR"}, 56, 99), ({"SB"}, 36, 59.5), ({"STach"}, 100.5, 170), ({"AF"}, 48, 180), ({"AF", "Brady"}, 38, 56)],
)
def test_rates_are_those_of_the_finding(findings, lowest, highest):
    rng = np.random.default_rng(0)
    rates = np.array([draw_rate(frozenset(findings), rng) for _ in range(500)])
    assert rates.min() >= lowest and rates.max() <= highest and np.ptp(rates) > 0.6 * (highest - lowest)


def test_low_voltage_stays_low_and_axes_stay_on_their_side():
    def limb_leads(findings, seed):
        rng = np.random.default_rng(seed)
        patient = make_realistic(heart.draw_patient(findings, rng), rng)
        qrs = heart.draw_qrs_complex(patient, rng)
        time = np.linspace(0, 1.1, 200)[:, None]
        parts = patient.style.project(qrs, patient.leads, VENTRICLES, rng)
        first, second = (np.exp(-0.5 * ((time - parts[:, 0]) / parts[:, 1]) ** 2) @ parts[:, 2:4]).T
        return first, second

    for seed in range(30):
        first, second = limb_leads(["NSR", "LQRSV"], seed)
        assert max(np.ptp(first), np.ptp(second), np.ptp(second - first)) < 0.65
        areas = {name: [part.sum() for part in limb_leads(["NSR", name], seed)] for name in ("LAD", "RAD")}
        assert areas["LAD"][0] > 0 > areas["LAD"][1] - areas["LAD"][0] / 2  # I up, aVF down
        assert areas["RAD"][0] < 0 < areas["RAD"][1] - areas["RAD"][0] / 2


def test_a_projection_is_that_of_the_heart_vector_if_nothing_deviates(monkeypatch):
    monkeypatch.setattr("ecg.data.synthetic_style.DEVIATION", 0.0)
    rng = np.random.default_rng(0)
    patient = make_realistic(heart.draw_patient(["NSR"], rng), rng)
    factors = dict.fromkeys((VENTRICLES, REPOLARISATION, ATRIA), np.ones(8))
    alike = replace(patient, style=replace(patient.style, factors=factors))
    parts = rng.uniform(0.1, 1, size=(4, 5))
    projected = alike.style.project(parts, patient.leads, ATRIA, rng)
    np.testing.assert_allclose(projected[:, 2:], parts[:, 2:] @ patient.leads.T)
    np.testing.assert_array_equal(projected[:, :2], parts[:, :2])
    # The electrodes' potentials give back what the leads record.
    table = place_waves(projected, [0.5], 0.1)
    leads = sum_heart_vector(table, 500, 500)
    assert leads.shape == (500, 8)
    vector = sum_heart_vector(place_waves(parts, [0.5], 0.1), 500, 500)
    np.testing.assert_allclose(leads, vector @ patient.leads.T, atol=1e-12)


def test_patients_differ_in_the_shapes_of_their_leads():
    def correlations(findings, style):
        values = []
        for seed in range(25):
            rng = np.random.default_rng(seed)
            patient = heart.draw_patient(findings, rng)
            patient = make_realistic(patient, rng) if style else patient
            leads = compute_leads(heart.compute_potentials(patient, 2500, 500, rng)[0])
            values.append(np.corrcoef(leads[:, 0], leads[:, 11])[0, 1])  # I and V6, whose vectors are nearly parallel
        return np.array(values)

    assert np.median(correlations(["NSR"], True)) < np.median(correlations(["NSR"], False)) - 0.03


@pytest.mark.parametrize("wave", LEAD_FACTORS)
def test_factors_of_the_leads_are_positive_and_vary_between_patients(wave):
    rng = np.random.default_rng(0)
    patient = heart.draw_patient(["NSR"], rng)
    factors = np.array([make_realistic(patient, rng).style.factors[wave] for _ in range(300)])
    assert factors.shape == (300, 8) and factors.min() > 0
    np.testing.assert_allclose(np.median(factors, axis=0), LEAD_FACTORS[wave], rtol=0.06)


def spectrum(noise, low, high, frequency=500):
    """Deviation of noise between two frequencies, µV, (9,)."""
    transformed = np.fft.rfft(noise, axis=0)
    bins = np.fft.rfftfreq(len(noise), 1 / frequency)
    transformed[(bins < low) | (bins > high)] = 0
    return 1000 * np.fft.irfft(transformed, len(noise), axis=0).std(axis=0)


def test_noise_has_the_strengths_of_the_recorder():
    rng = np.random.default_rng(0)

    def strengths(recorder, low, high, n=60):
        return np.array([spectrum(draw_realistic_noise(recorder, 5000, 500, 50, rng), low, high).mean()
                         for _ in range(n)])  # fmt: skip

    silent = Recorder(0, 0, 0)
    assert strengths(silent, 0, 250).max() == 0
    muscle, wander, mains = Recorder(10, 0, 0), Recorder(0, 30, 0), Recorder(0, 0, 5)
    assert 5 < np.median(strengths(muscle, 1, 250)) < 20 and strengths(muscle, 0, 0.7).max() < 1
    assert 18 < np.median(strengths(wander, 0, 1)) < 45 and np.median(strengths(wander, 2, 250)) < 3
    hum = strengths(mains, 49, 51)
    assert 1.5 < np.median(hum) < 6 and (strengths(mains, 60, 250) < 0.2 * np.median(hum)).all()
    for filtered in (0.0, 1.0):
        recorder = Recorder(10, 0, 0, filtered=filtered)
        ratio = np.median(strengths(recorder, 65, 95) / strengths(recorder, 25, 45))
        assert (ratio < 0.1) if filtered else (0.3 < ratio < 0.9)  # it falls with the frequency


def test_noise_settings_scale_realistic_noise_too():
    quiet, usual, loud = (make(1, replace(REALISTIC, noise=noise, sources={"PTB-XL": 1}, clean=True))[0][1]
                          for noise in (0, 1, 3))  # fmt: skip
    first, second = usual.astype(float) - quiet, loud.astype(float) - quiet
    np.testing.assert_allclose(second, 3 * first, atol=3 * 5 + 5)
    assert abs(first).max() > 10
