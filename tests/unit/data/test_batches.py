import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg.data.batches import (
    CROP_LENGTHS,
    FULL_BATCH_LENGTH,
    REPEATED,
    ZEROS,
    ZEROS_IN_FRONT,
    Window,
    batch_size,
    place_leads,
    plan_prediction,
    plan_training,
    prefetch,
    read_batch,
)

LENGTHS = np.random.default_rng(0).choice([300, 1300, 2500, 2500, 2500, 3000, 7500, 12000, 16000], 500)


def test_training_takes_every_recording_once_within_its_bounds():
    plan = plan_training(LENGTHS, 16, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(np.concatenate([batch.records for batch in plan])), np.arange(len(LENGTHS)))
    for batch in plan:
        assert batch.length in CROP_LENGTHS
        assert (batch.starts >= 0).all() and (batch.starts + batch.length <= LENGTHS[batch.records]).all()
        assert len(batch.records) <= 16


def test_most_recordings_are_cropped_to_the_largest_length_they_reach():
    plan = plan_training(LENGTHS, 16, np.random.default_rng(1))
    largest = [
        batch.length == CROP_LENGTHS[CROP_LENGTHS <= length].max()
        for batch in plan
        for length in LENGTHS[batch.records]
    ]
    assert np.mean(largest) > 0.9


def test_a_remainder_joins_the_next_shorter_crop_length():
    lengths = np.array([CROP_LENGTHS[3]] * 19 + [CROP_LENGTHS[2]] * 13)
    plan = plan_training(lengths, 16, np.random.default_rng(0))
    assert sorted((batch.length, len(batch.records)) for batch in plan) == [
        (CROP_LENGTHS[2], 16),
        (CROP_LENGTHS[3], 16),
    ]
    alone = plan_training(np.array([CROP_LENGTHS[3]] * 19), 16, np.random.default_rng(0))
    assert sorted(len(batch.records) for batch in alone) == [9, 10]


@pytest.mark.parametrize("count", [1, 15, 16, 17, 769])
def test_batches_of_one_length_have_similar_sizes(count):
    sizes = [len(batch.records) for batch in plan_training(np.full(count, 2500), 16, np.random.default_rng(0))]
    assert sum(sizes) == count and max(sizes) <= 16 and max(sizes) - min(sizes) <= 1


def test_the_plan_depends_only_on_the_generator():
    first, second, different = (plan_training(LENGTHS, 16, np.random.default_rng(seed)) for seed in (4, 4, 5))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.records, b.records)
        np.testing.assert_array_equal(a.starts, b.starts)
    assert any(a.records.tolist() != b.records.tolist() for a, b in zip(first, different, strict=True))


def test_crops_reach_the_first_and_the_last_sample():
    starts = [
        plan_training(np.array([CROP_LENGTHS[0] + 3]), 4, np.random.default_rng(seed))[0].starts[0]
        for seed in range(99)
    ]
    assert set(starts) == {0, 1, 2, 3}


def test_long_recordings_make_smaller_batches():
    assert batch_size(64, FULL_BATCH_LENGTH) == 64
    assert batch_size(64, 4 * FULL_BATCH_LENGTH) == 16
    assert batch_size(2, 100 * FULL_BATCH_LENGTH) == 1


def test_too_short_a_recording_is_an_error():
    with pytest.raises(ValueError, match="shorter than the shortest cut"):
        plan_training(np.array([2500, CROP_LENGTHS[0] - 1]), 4, np.random.default_rng(0))


def test_whole_recordings_are_batched_by_equal_length():
    plan = plan_prediction(LENGTHS, 16)
    np.testing.assert_array_equal(np.sort(np.concatenate([batch.records for batch in plan])), np.arange(len(LENGTHS)))
    for batch in plan:
        assert (LENGTHS[batch.records] == batch.length).all() and not batch.starts.any()
    assert plan_prediction(np.array([], int), 16) == []


def test_read_batch_reads_the_planned_crops_and_releases_them(store, monkeypatch):
    records, released = np.array([5, 2, 9, 14, 30]), []
    monkeypatch.setattr(type(store), "release", lambda store: released.append(store))
    for batch in plan_training(store.lengths[records], 2, np.random.default_rng(0)):
        for leads in ((1, 6), range(12)):
            signals = read_batch(store, records, leads, batch)
            assert signals.shape == (len(batch.records), batch.length, len(leads))
            for signal, record, start in zip(signals, records[batch.records], batch.starts, strict=True):
                np.testing.assert_array_equal(signal, store.signal(record)[start : start + batch.length, leads])
            assert released.pop() is store and not released


def test_prefetch_keeps_the_order_and_computes_the_next_items_meanwhile():
    threads = []

    def square(number):
        threads.append(threading.get_ident())
        return number**2

    results = prefetch(square, range(10))
    assert next(results) == 0
    deadline = time.monotonic() + 5
    while len(threads) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(threads) >= 3 and threading.get_ident() not in threads
    assert list(results) == [number**2 for number in range(1, 10)]


def test_prefetch_passes_an_error_on():
    with pytest.raises(ZeroDivisionError):
        list(prefetch(lambda number: 1 / number, [1, 0, 2]))


def test_a_window_has_a_fixed_length_or_any():
    np.testing.assert_array_equal(Window().crop_lengths, CROP_LENGTHS)
    assert Window(4096).crop_lengths.tolist() == [4096]
    assert Window().segment_starts(99_999).tolist() == [0]


@pytest.mark.parametrize(
    "arguments", [{"length": 0}, {"length": -5}, {"length": 9, "overlap": 5}, {"length": 9, "slack": 5}, {"slack": 1},
              {"overlap": 1}, {"length": 9, "overlap": -1}, {"fill": "mirrored"}, {"first_only": True}],
)  # fmt: skip
def test_empty_windows_and_windows_that_do_not_advance_are_refused(arguments):
    with pytest.raises(ValueError, match="a window of"):
        Window(**arguments)


@given(st.integers(1, 60), st.integers(1, 300), st.data())
def test_segments_have_the_papers_number_and_reach_from_the_first_to_the_last_sample(length, samples, data):
    """Zhao et al. 2022: ceil((L - 4096) / (4096 - 256)) + 1 segments.

    They overlap by 256 samples or slightly more.
    """
    overlap = data.draw(st.integers(0, length // 2))
    starts = Window(length, ZEROS, overlap).segment_starts(samples)
    assert len(starts) == (1 if samples <= length else np.ceil((samples - length) / (length - overlap)) + 1)
    assert starts[0] == 0 and starts[-1] == max(samples - length, 0)
    if len(starts) > 1:
        steps = np.diff(starts)
        assert steps.min() > 0 and steps.max() <= length - overlap and steps.max() - steps.min() <= 1


def test_half_an_hour_has_the_papers_number_of_segments():
    assert len(Window(4096, ZEROS, 256).segment_starts(30 * 60 * 257)) == 121
    assert Window(4096, ZEROS, 256).segment_starts(4097).tolist() == [0, 1]


def test_an_excess_within_the_slack_makes_no_segment():
    """Ten seconds at 500 Hz are one window of 4,992 samples, not two."""
    window = Window(4992, slack=32)
    assert [window.segment_starts(samples).tolist() for samples in (4000, 4992, 5000, 5024, 5025, 10_016, 10_017)] == [
        [0], [0], [4], [16], [0, 33], [0, 5024], [0, 2512, 5025]
    ]  # fmt: skip


@given(st.integers(1, 40), st.integers(1, 90), st.sampled_from([ZEROS, REPEATED]))
def test_segments_are_parts_of_the_recording_padded_with_zeros_or_itself(length, samples, fill):
    signal = np.random.default_rng(0).normal(size=(samples, 2)).astype(np.float32)
    window = Window(length, fill, length // 3)
    segments = window.segments(signal)
    assert segments.shape == (len(window.segment_starts(samples)), length, 2) and segments.dtype == np.float32
    for segment, start in zip(segments, window.segment_starts(samples), strict=True):
        indices = start + np.arange(length)
        repeated = signal[indices % samples]
        expected = repeated if fill == REPEATED else np.where(indices[:, np.newaxis] < samples, repeated, 0)
        np.testing.assert_array_equal(segment, expected)
    assert Window().segments(signal).shape == (1, samples, 2)


FIXED = Window(2600, REPEATED, 100)


def test_a_fixed_window_crops_each_recording_anywhere_within():
    plan = plan_training(LENGTHS, 16, np.random.default_rng(1), FIXED)
    np.testing.assert_array_equal(np.sort(np.concatenate([batch.records for batch in plan])), np.arange(len(LENGTHS)))
    starts = np.concatenate([batch.starts for batch in plan])
    lengths = LENGTHS[np.concatenate([batch.records for batch in plan])]
    assert {batch.length for batch in plan} == {2600}
    assert {len(batch.records) for batch in plan} <= {15, 16}
    assert (starts >= 0).all() and (starts <= np.maximum(lengths - 2600, 0)).all()
    assert len(np.unique(starts[lengths == 16000])) > 10
    short = [plan_training(np.array([2602]), 1, np.random.default_rng(seed), FIXED)[0].starts[0] for seed in range(40)]
    assert set(short) == {0, 1, 2}
    assert plan_training(np.array([1]), 1, np.random.default_rng(0), FIXED)[0].starts.tolist() == [0]


def test_a_fixed_window_predicts_the_segments_of_each_recording_in_order():
    plan = plan_prediction(LENGTHS, 16, FIXED)
    assert {batch.length for batch in plan} == {2600} and {len(batch.records) for batch in plan[:-1]} == {16}
    pairs = [pair for batch in plan for pair in zip(batch.records.tolist(), batch.starts.tolist(), strict=True)]
    expected = [
        (record, start) for record, length in enumerate(LENGTHS) for start in FIXED.segment_starts(length).tolist()
    ]
    assert pairs == expected and len(pairs) > len(LENGTHS)
    assert plan_prediction(np.array([], int), 16, FIXED) == []
    assert batch_size(64, 4 * FULL_BATCH_LENGTH, FIXED) == 64


@pytest.mark.parametrize("fill", [ZEROS, REPEATED])
@pytest.mark.parametrize("use", ["training", "whole"])
def test_read_batch_pads_what_a_recording_lacks(fill, use, store, monkeypatch):
    records, expected = np.array([5, 2, 9, 14, 30, 41]), []
    window = Window(int(np.median(store.lengths[records])) + 1, fill, 50)
    lengths = store.lengths[records]
    assert lengths.min() < window.length < lengths.max()
    monkeypatch.setattr(type(store), "advise_read", lambda store, *arguments: expected.append(arguments))
    generator = np.random.default_rng(0)
    plan = plan_training(lengths, 4, generator, window) if use == "training" else plan_prediction(lengths, 4, window)
    for batch in plan:
        signals = read_batch(store, records, (1, 6), batch, window)
        ((chosen, starts, counts),) = expected
        expected.clear()
        assert (starts + counts <= store.lengths[chosen]).all()  # no sample of the next recording
        for signal, record, start in zip(signals, records[batch.records], batch.starts, strict=True):
            crop = store.signal(record)[start : start + window.length, [1, 6]]
            np.testing.assert_array_equal(signal, Window(window.length, fill).segments(crop)[0])


@given(st.integers(1, 40), st.integers(1, 90))
def test_only_the_first_window_is_predicted_with_zeros_in_front_of_short_recordings(length, samples):
    signal = np.random.default_rng(0).normal(size=(samples, 2)).astype(np.float32)
    (segment,) = Window(length, ZEROS_IN_FRONT, first_only=True).segments(signal)
    expected = np.zeros((length, 2), np.float32)
    expected[max(length - samples, 0) :] = signal[:length]
    np.testing.assert_array_equal(segment, expected)


@given(st.integers(1, 40), st.integers(1, 90), st.sampled_from([ZEROS, REPEATED, ZEROS_IN_FRONT]))
def test_a_standardised_window_has_mean_0_and_deviation_1_without_its_padding(length, samples, fill):
    signal = np.random.default_rng(samples).normal(3, 7, (samples, 3)).astype(np.float32)
    signal[:, 1] = 0.1
    window = Window(length, fill, standardised=True)
    for segment, plain in zip(window.segments(signal), Window(length, fill).segments(signal), strict=True):
        filled = window.signal_slice(length, min(length, samples))
        part = plain[filled].astype(np.float64)
        deviation = part.std(axis=0)
        expected = np.zeros_like(part)
        np.divide(part - part.mean(axis=0), deviation, out=expected, where=np.ptp(part, axis=0) > 0)
        np.testing.assert_allclose(segment[filled], expected, atol=1e-4)
        assert not segment[:, 1].any()
        outside = np.ones(length, bool)
        outside[filled] = False
        if fill != REPEATED:
            assert not segment[outside].any()
    assert len(np.unique(signal)) > 1  # the recording stays as it was


def test_a_whole_recording_is_standardised_too():
    signal = np.random.default_rng(0).normal(3, 7, (50, 2)).astype(np.float32)
    (segment,) = Window(standardised=True).segments(signal)
    np.testing.assert_allclose(segment, (signal - signal.mean(axis=0)) / signal.std(axis=0), atol=1e-5)


WINDOW_2021 = Window(2600, ZEROS_IN_FRONT, first_only=True, standardised=True)


def test_read_batch_gives_the_segments_that_a_saved_model_sees(store):
    records = np.array([5, 2, 9, 14, 30, 41])
    assert store.lengths[records].min() < 2600 < store.lengths[records].max()
    for batch in plan_prediction(store.lengths[records], 4, WINDOW_2021):
        assert not batch.starts.any()
        signals = read_batch(store, records, (1, 6), batch, WINDOW_2021)
        for signal, record in zip(signals, records[batch.records], strict=True):
            np.testing.assert_array_equal(signal, WINDOW_2021.segments(store.signal(record, [1, 6]))[0])


def test_leads_are_placed_among_the_twelve():
    signals = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    placed = place_leads(signals, (7, 0, 1))
    assert placed.shape == (2, 5, 12) and placed.dtype == np.float32
    np.testing.assert_array_equal(placed[..., [7, 0, 1]], signals)
    assert not np.delete(placed, [7, 0, 1], axis=2).any()
    every = np.zeros((5, 12))
    assert place_leads(every, tuple(range(12))) is every
