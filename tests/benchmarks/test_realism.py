"""The comparison of real and synthetic recordings: its measures on planted signals, and its tables."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from benchmarks import realism
from benchmarks.realism import (
    RATE,
    distance,
    find_beats,
    label_lines,
    mains_amplitude,
    measure_folders,
    measure_lines,
    measure_signal,
    quiet_noise,
    weighted_quantiles,
)
from ecg.data.labels import ABBREVIATIONS
from ecg.data.leads import LEADS
from ecg.data.synthetic import SyntheticSettings, synthesize

TIME = np.arange(10 * RATE) / RATE
HEIGHTS = np.linspace(0.5, 1.6, 12)  # of the QRS complexes, mV


def make_signal(onsets, qrs=HEIGHTS, t=0.3):
    """Return a signal (T, 12) of Gaussian P, QRS and T waves without noise."""
    waves = ((-0.16, 0.02, 0.1), (0.0, 0.012, qrs), (0.3, 0.04, t))
    return sum(np.exp(-0.5 * ((TIME[:, None] - onset - at) / width) ** 2) * np.full(12, height)
               for onset in onsets for at, width, height in waves)  # fmt: skip


REGULAR = np.arange(0.4, 10, 0.8)


def test_beats_rate_and_heights_are_those_that_were_planted():
    values = measure_signal(make_signal(REGULAR))
    assert values["heart rate, /min"] == pytest.approx(75, abs=0.5) and values["RR deviation / mean"] < 0.01
    assert values["premature beats in 10 s"] == 0
    for lead, height in zip(LEADS, HEIGHTS, strict=True):
        assert values[f"QRS {lead}, mV"] == pytest.approx(height, rel=0.15)
        assert values[f"T {lead}, mV"] == pytest.approx(0.3, abs=0.04)
        assert values[f"P {lead}, mV"] == pytest.approx(0.1, abs=0.03)
    assert values["QRS deviation / mean"] < 0.02
    assert measure_signal(make_signal(REGULAR, t=-0.3))["T V2, mV"] == pytest.approx(-0.3, abs=0.04)


def test_premature_beats_are_counted_and_irregular_rhythm_is_measured():
    onsets = REGULAR.copy()
    onsets[[4, 8]] -= 0.25
    values = measure_signal(make_signal(onsets))
    assert values["premature beats in 10 s"] == 2 and values["RR deviation / mean"] > 0.15
    np.testing.assert_allclose(find_beats(make_signal(onsets)) / RATE, onsets, atol=0.03)


def test_noise_wander_and_mains_are_measured_in_microvolts():
    rng, clean = np.random.default_rng(0), make_signal(REGULAR)
    for mains in (50, 60):
        hum = 0.02 * np.sin(2 * np.pi * mains * TIME)[:, None]
        assert mains_amplitude(clean + hum) == pytest.approx(20, rel=0.1)
    assert mains_amplitude(clean) < 1
    white = clean + 0.01 * rng.standard_normal(clean.shape)
    density = 10 / np.sqrt(RATE / 2)  # µV a root of Hz
    assert quiet_noise(white, 25, 45) == pytest.approx(density * np.sqrt(20), rel=0.35)
    assert quiet_noise(white, 65, 95) == pytest.approx(density * np.sqrt(30), rel=0.35)
    slow = 0.1 * np.sin(2 * np.pi * 0.3 * TIME)[:, None] + 0 * clean
    assert measure_signal(clean + slow)["wander below 0.7 Hz, µV"] == pytest.approx(100 / np.sqrt(2), rel=0.2)


def test_a_flat_recording_has_no_beats_and_raises_no_error():
    values = measure_signal(np.zeros((5 * RATE, 12)))
    assert np.isnan(values["heart rate, /min"]) and "QRS I, mV" not in values


def test_too_few_beats_have_no_rate():
    values = measure_signal(make_signal(np.array([2.0, 4.0, 6.0])))
    assert np.isnan(values["heart rate, /min"]) and "QRS I, mV" not in values


def test_the_distance_is_that_of_kolmogorov_and_smirnov():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, 200), rng.normal(0.5, 2, 150).round(1)
    ones = np.ones(200), np.ones(150)
    assert distance((first, ones[0]), (second, ones[1])) == pytest.approx(ks_2samp(first, second).statistic)
    assert distance((first, ones[0]), (first, 3 * ones[0])) == 0
    assert distance((first, ones[0]), (first + 100, ones[0])) == pytest.approx(1)
    # A weight of 2 is the same as a value that occurs twice.
    doubled = np.append(second, second[:50])
    weights = np.append(np.full(50, 2.0), np.ones(100))
    assert distance((first, ones[0]), (second, weights)) == pytest.approx(ks_2samp(first, doubled).statistic)
    expected = np.quantile(doubled, (0.1, 0.5, 0.9), method="inverted_cdf")
    np.testing.assert_array_equal(weighted_quantiles(second, weights, (0.1, 0.5, 0.9)), expected)


def test_the_tables_compare_sources_and_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(realism, "FEWEST", 6)
    sources = ("CPSC", "Georgia")
    folders = {}
    for name, realistic, seed in (("real", False, 1), ("usual", False, 2), ("realistic", True, 2)):
        folders[name] = {}
        for source in sources:
            path = tmp_path / name / source
            synthesize(path, 12, seed, SyntheticSettings(sources={source: 1}, realistic=realistic))
            folders[name] |= measure_folders([path], 1)
    real = folders.pop("real")
    lines = list(measure_lines(real, folders))
    assert lines[0].split(" | ")[-2:] == ["distance, usual", "distance, realistic |"]
    assert {line.count("|") for line in lines[: lines.index("")]} == {7}
    assert {line.count("|") for line in lines[lines.index("") + 1 :]} == {4}
    assert not any("nan" in line for line in lines)
    (noise,) = (line for line in lines[: lines.index("")] if line.startswith("| noise, 65"))
    usual, realistic = map(float, noise.strip("| ").split(" | ")[-2:])
    assert usual < realistic  # the first kind is the same as what stands for real recordings
    shares = list(label_lines(real, folders, n_shown=400))[2:]
    row = {cells[0].strip("| "): cells[1:] for cells in (line.split(" | ") for line in shares)}
    labels = [folders["usual"][source].labels[:, ABBREVIATIONS.index("NSR")].mean() for source in sources]
    counts = [len(real[source].labels) for source in sources]
    assert row["NSR"][1] == f"{np.average(labels, weights=counts):.1%}"
    assert set(row["AF and NSR"]) <= {"0.0%", "0.0% |"}  # no recording has both
