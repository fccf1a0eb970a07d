"""Random changes of training recordings: ranges, seeds, and what stays zero."""

import numpy as np
import pytest

from ecg.data.augmentation import (
    AUGMENTATIONS,
    CHANGES,
    MASK_SECONDS,
    MAX_GAIN,
    NOISE_MILLIVOLTS,
    augment_signals,
    mix_examples,
)

RATE = 250


@pytest.fixture
def signals():
    """Eight recordings of 10 s; the first lacks a lead, the second ends in padding."""
    values = np.random.default_rng(0).normal(size=(8, 10 * RATE, 12)).astype(np.float32)
    values[0, :, 3] = 0
    values[1, 7 * RATE :] = 0
    return values


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_what_is_absent_and_depends_on_the_generator_alone(name, signals):
    first, again, different = (signals.copy() for _ in range(3))
    augment_signals(first, [name], RATE, np.random.default_rng(1))
    augment_signals(again, [name], RATE, np.random.default_rng(1))
    augment_signals(different, [name], RATE, np.random.default_rng(2))
    assert first.dtype == np.float32 and np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    assert (first != different).any() and (first != signals).any()
    assert not first[0, :, 3].any() and not first[1, 7 * RATE :].any()


@pytest.mark.parametrize("names", [(), ("mixup",)])
def test_without_a_change_nothing_changes_and_nothing_is_drawn(names, signals):
    generator, before = np.random.default_rng(1), signals.copy()
    augment_signals(signals, names, RATE, generator)
    np.testing.assert_array_equal(signals, before)
    assert generator.random() == np.random.default_rng(1).random()


def test_a_gain_is_the_same_for_all_leads_of_a_recording(signals):
    before = signals.copy()
    augment_signals(signals, ["gain"], RATE, np.random.default_rng(1))
    factors = signals[2:] / before[2:]
    assert np.ptp(factors, axis=(1, 2)).max() < 1e-5
    assert 1 / MAX_GAIN - 1e-5 <= factors.min() < 1 < factors.max() <= MAX_GAIN + 1e-5
    assert len(np.unique(factors[:, 0, 0].round(4))) == len(factors)


def test_noise_has_its_range_and_no_offset(signals):
    before = signals.copy()
    augment_signals(signals, ["noise"], RATE, np.random.default_rng(1))
    noise = (signals - before)[2:]
    deviations = noise.std(axis=1)
    assert NOISE_MILLIVOLTS[0] * 0.9 < deviations.min() < 0.008 and 0.015 < deviations.max() < NOISE_MILLIVOLTS[1] * 1.1
    assert abs(noise.mean()) < 1e-3


def test_wander_is_slow_and_bounded(signals):
    before = signals.copy()
    augment_signals(signals, ["wander"], RATE, np.random.default_rng(1))
    wander = (signals - before)[2:]
    assert 0.02 < abs(wander).max() <= 0.2 + 1e-5
    spectrum = abs(np.fft.rfft(wander * np.hanning(wander.shape[1])[:, np.newaxis], axis=1)) ** 2
    hertz = np.fft.rfftfreq(wander.shape[1], 1 / RATE)
    assert spectrum[:, hertz <= 1].sum() > 0.999 * spectrum.sum()


def test_lead_dropout_keeps_a_lead_and_drops_a_tenth():
    for n_leads in (1, 2, 12):
        signals = np.ones((2000, 2, n_leads), np.float32)
        augment_signals(signals, ["lead_dropout"], RATE, np.random.default_rng(1))
        kept = signals.any(axis=1)
        assert kept.any(axis=1).all() and (signals.min(axis=1) == signals.max(axis=1)).all()
        assert abs((~kept).mean() - (0.1 if n_leads > 1 else 0)) < 0.02


def test_lead_dropout_keeps_one_of_the_leads_that_are_present():
    signals = np.zeros((2000, 2, 12), np.float32)
    signals[:, :, [3, 8]] = 1
    augment_signals(signals, ["lead_dropout"], RATE, np.random.default_rng(1))
    kept = signals.any(axis=1)[:, [3, 8]]
    assert kept.any(axis=1).all() and abs((~kept).mean() - 0.095) < 0.02


@pytest.mark.parametrize("samples", [20, 10 * RATE])
def test_a_time_mask_is_one_interval_of_all_leads(samples):
    signals = np.ones((500, samples, 3), np.float32)
    augment_signals(signals, ["time_mask"], RATE, np.random.default_rng(1))
    masked = signals == 0
    assert (masked.all(axis=2) == masked.any(axis=2)).all()
    edges = abs(np.diff(masked[:, :, 0].astype(int), axis=1)).sum(axis=1)
    assert edges.max() <= 2
    durations = masked[:, :, 0].sum(axis=1)
    longest = min(MASK_SECONDS[1] * RATE, samples / 2)
    assert longest * 0.9 < durations.max() <= longest
    assert durations.min() >= min(MASK_SECONDS[0] * RATE - 1, samples // 2)


def test_mixup_mixes_inputs_and_labels_alike():
    targets = np.eye(6, dtype=np.float32)
    masks = np.ones((6, 6), np.float32)
    masks[0, 5] = 0
    signals = targets[:, np.newaxis] * np.ones((6, 4, 6), np.float32)
    (mixed, ages), labels, weights = mix_examples((signals, targets), targets, masks, np.random.default_rng(1))
    np.testing.assert_allclose(mixed, labels[:, np.newaxis] * np.ones((6, 4, 6)), atol=1e-6)
    np.testing.assert_allclose(ages, labels, atol=1e-6)
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    assert (labels.max(axis=1) >= 0.5).all() and (labels.max(axis=1) < 1).any()
    assert weights[0, 5] == 0 and weights.sum() in (34, 35)


def test_all_changes_together_leave_finite_signals(signals):
    augment_signals(signals, AUGMENTATIONS, RATE, np.random.default_rng(1))
    assert np.isfinite(signals).all() and signals.any(axis=(1, 2)).all()
