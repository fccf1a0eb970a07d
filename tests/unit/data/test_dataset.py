from dataclasses import replace

import numpy as np
import pytest

from ecg.data.augmentation import AUGMENTATIONS
from ecg.data.batches import REPEATED, ZEROS, ZEROS_IN_FRONT, Batch, Dataset, Window, read_batch
from ecg.data.leads import lead_indices
from ecg.data.wave_peaks import WavePeaks

RECORDS = np.array([5, 2, 9, 14, 30])
BATCH = Batch(np.array([3, 0, 4]), np.array([7, 0, 2]), 500)
LEADS = lead_indices(("I", "II", "V2", "V6"))


def test_inputs_are_the_crops_of_the_batch(store):
    seen = Dataset(store, RECORDS, LEADS).inputs(BATCH)
    assert seen.shape == (3, 500, 4) and seen.dtype == np.float32
    for signal, index, start in zip(seen, BATCH.records, BATCH.starts, strict=True):
        np.testing.assert_array_equal(signal, store.signal(RECORDS[index])[start : start + 500, LEADS])
    np.testing.assert_array_equal(Dataset(store, RECORDS, LEADS).lengths, store.lengths[RECORDS])


def test_short_recordings_are_padded_as_the_window_says(store):
    samples = store.lengths[RECORDS].min()
    batch = Batch(np.array([store.lengths[RECORDS].argmin()]), np.array([0]), int(samples + 100))
    for fill, expected in (("zeros", np.zeros((100, 4))), ("repeated", None)):
        window = Window(int(samples + 100), fill)
        seen = Dataset(store, RECORDS, LEADS, window=window).inputs(batch)
        np.testing.assert_array_equal(seen, read_batch(store, RECORDS, LEADS, batch, window))
        np.testing.assert_array_equal(seen[0, samples:], seen[0, :100] if expected is None else expected)


def test_age_and_sex_are_those_of_the_same_recordings(store):
    assert len(np.unique(store.demographics[RECORDS], axis=0)) > 1
    signals, demographics = Dataset(store, RECORDS, LEADS, demographics=True).inputs(BATCH)
    np.testing.assert_array_equal(signals, Dataset(store, RECORDS, LEADS).inputs(BATCH))
    np.testing.assert_array_equal(demographics, store.demographics[RECORDS[[3, 0, 4]]])


CONFIGURATIONS = ((0, 1, 2, 3), (0, 1), (0, 1, 2))


@pytest.mark.parametrize("augmentations", [(), AUGMENTATIONS[:-1], AUGMENTATIONS])
@pytest.mark.parametrize("cuts", [(0, 3, 3, 7), (0, 0, 1, 5, 7)])
def test_parts_of_a_batch_are_together_the_whole_batch(store, augmentations, cuts):
    batch = Batch(np.arange(7) % 5, np.arange(7), 500)
    targets = store.labels[RECORDS].astype(np.float32)
    dataset = Dataset(store, RECORDS, LEADS, targets, np.ones_like(targets), Window(500, standardised=True), True,
                      CONFIGURATIONS, augmentations=augmentations)  # fmt: skip
    expected, *labels = dataset.training_examples(batch, np.random.default_rng(1))
    parts, states = [], []
    for rows in map(slice, cuts[:-1], cuts[1:]):
        generator = np.random.default_rng(1)
        inputs, *labels_again = dataset.training_examples(batch, generator, rows)
        np.testing.assert_array_equal(labels_again, labels)
        states.append(generator.bit_generator.state)
        parts.append(inputs)
    for array, pieces in zip(expected, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(pieces), array)
    assert all(state == states[0] for state in states)  # the next batch is drawn alike, too


def test_in_training_each_recording_keeps_the_leads_of_one_configuration_and_all_occur(store):
    batch = Batch(np.arange(60) % 5, np.zeros(60, int), 250)
    all_leads = Dataset(store, RECORDS, LEADS).inputs(batch)
    dataset = Dataset(store, RECORDS, LEADS, configurations=CONFIGURATIONS)
    seen = dataset.inputs(batch, np.random.default_rng(0))
    leads_by_signal = [tuple(np.flatnonzero(signal.any(axis=0))) for signal in seen]
    assert set(leads_by_signal) == set(CONFIGURATIONS)
    for signal, original, leads in zip(seen, all_leads, leads_by_signal, strict=True):
        np.testing.assert_array_equal(signal[:, leads], original[:, leads])
    again = dataset.inputs(batch, np.random.default_rng(0))
    np.testing.assert_array_equal(seen, again)
    assert (seen != dataset.inputs(batch, np.random.default_rng(1))).any()


def test_leads_stay_without_a_generator_or_without_configurations(store):
    all_leads = Dataset(store, RECORDS, LEADS).inputs(BATCH)
    np.testing.assert_array_equal(
        Dataset(store, RECORDS, LEADS, configurations=CONFIGURATIONS).inputs(BATCH), all_leads
    )
    generator = np.random.default_rng(0)
    np.testing.assert_array_equal(Dataset(store, RECORDS, LEADS).inputs(BATCH, generator), all_leads)
    assert generator.bit_generator.state == np.random.default_rng(0).bit_generator.state


@pytest.mark.parametrize("fill", [ZEROS, ZEROS_IN_FRONT, REPEATED])
def test_a_standardised_window_is_scaled_after_the_changes(store, fill):
    window = Window(int(store.lengths[RECORDS].min()) + 100, fill, standardised=True)
    batch = Batch(np.arange(5), np.zeros(5, int), window.length)
    plain = replace(window, standardised=False)
    expected = Dataset(store, RECORDS, LEADS, window=plain, augmentations=("noise", "wander")).inputs(
        batch, np.random.default_rng(3)
    )
    for signal, samples in zip(expected, np.minimum(store.lengths[RECORDS], window.length), strict=True):
        window.complete(signal, samples)
    dataset = Dataset(store, RECORDS, LEADS, window=window, augmentations=("noise", "wander"))
    seen = dataset.inputs(batch, np.random.default_rng(3))
    np.testing.assert_array_equal(seen, expected)
    shorter = window.signal_slice(window.length, window.length - 100)
    row = store.lengths[RECORDS].argmin()
    np.testing.assert_allclose(seen[row][shorter].std(axis=0), 1, atol=1e-4)
    # Prediction, and training without changes, see what they have always seen.
    unchanged = read_batch(store, RECORDS, LEADS, batch, window)
    np.testing.assert_array_equal(dataset.inputs(batch), unchanged)
    without = replace(dataset, augmentations=())
    np.testing.assert_array_equal(without.inputs(batch, np.random.default_rng(3)), unchanged)


@pytest.mark.parametrize("fill", [ZEROS, ZEROS_IN_FRONT, REPEATED])
@pytest.mark.parametrize("augmentations", [(), ("gain",)])
def test_in_a_standardised_window_the_leads_of_a_configuration_are_scaled_and_the_others_zero(
    store, fill, augmentations
):
    window = Window(int(store.lengths[RECORDS].min()) + 100, fill, standardised=True)
    batch = Batch(np.arange(60) % 5, np.zeros(60, int), window.length)
    all_leads = read_batch(store, RECORDS, LEADS, batch, window)
    dataset = Dataset(store, RECORDS, LEADS, window=window, configurations=CONFIGURATIONS, augmentations=augmentations)
    seen = dataset.inputs(batch, np.random.default_rng(0))
    leads_by_signal = [tuple(np.flatnonzero(signal.any(axis=0))) for signal in seen]
    assert set(leads_by_signal) == set(CONFIGURATIONS)
    for signal, original, leads in zip(seen, all_leads, leads_by_signal, strict=True):
        if augmentations:  # scaling takes back the gain, but for rounding
            np.testing.assert_allclose(signal[:, leads], original[:, leads], atol=1e-4)
        else:
            np.testing.assert_array_equal(signal[:, leads], original[:, leads])


TARGETS = np.arange(15, dtype=np.float32).reshape(5, 3)


def test_targets_and_masks_are_those_of_the_batch(store):
    targets, masks = Dataset(store, RECORDS, LEADS, TARGETS, -TARGETS).targets_and_masks(BATCH)
    np.testing.assert_array_equal(targets, TARGETS[[3, 0, 4]])
    np.testing.assert_array_equal(masks, -TARGETS[[3, 0, 4]])


def test_the_grid_of_peaks_follows_the_targets(store):
    """Check the cell of an R wave (number 2) at sample 230.

    The crop begins at sample 7, so the peak is at 223: in cell 2 of 100 samples.
    """
    starts = np.zeros(len(store) + 1, int)
    starts[RECORDS[3] + 1 :] = 1
    peaks = WavePeaks(starts, np.array([230]), np.array([2], np.int8))
    dataset = Dataset(store, RECORDS, LEADS, TARGETS, np.ones_like(TARGETS), Window(500), peaks=peaks, cell=100)
    targets, weights = dataset.targets_and_masks(BATCH)
    assert targets.shape == weights.shape == (3, 3 + 5 * 3 * 7)
    np.testing.assert_array_equal(targets[:, :3], TARGETS[[3, 0, 4]])
    grids = targets[:, 3:].reshape(3, 5, 3, 7)
    expected = np.zeros_like(grids)
    expected[0, 2, 0] = (1, 0.23, 0, 0, 1, 0, 0)
    np.testing.assert_allclose(grids, expected, atol=1e-6)
    weighed = weights[:, 3:].reshape(3, 5, 3, 7)
    assert weighed[0, 2, 0].tolist() == [1, 5, 1, 1, 1, 1, 1]
    assert weighed[1, 2, 0] == pytest.approx([0.2, 0, 0, 0, 0, 0, 0])


def test_a_network_for_all_lead_sets_sees_zeros_for_the_leads_that_are_not_read(store):
    read = Dataset(store, RECORDS, LEADS).inputs(BATCH)
    seen = Dataset(store, RECORDS, LEADS, all_leads=True).inputs(BATCH)
    assert seen.shape == (3, 500, 12)
    np.testing.assert_array_equal(seen[..., LEADS], read)
    assert not np.delete(seen, LEADS, axis=2).any()
    every = Dataset(store, RECORDS, tuple(range(12)), all_leads=True, configurations=(LEADS, tuple(range(12))))
    drawn = every.inputs(Batch(np.arange(60) % 5, np.zeros(60, int), 250), np.random.default_rng(0))
    assert {tuple(np.flatnonzero(signal.any(axis=0))) for signal in drawn} == {LEADS, tuple(range(12))}
