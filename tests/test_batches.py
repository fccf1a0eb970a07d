import threading
import time

import numpy as np
import pytest

from ecg.batches import FULL, GRID, ahead, batch_size, gather, plan_training, plan_whole

LENGTHS = np.random.default_rng(0).choice([300, 1300, 2500, 2500, 2500, 3000, 7500, 12000, 16000], 500)


def test_training_takes_every_recording_once_within_its_bounds():
    plan = plan_training(LENGTHS, 16, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(np.concatenate([batch.records for batch in plan])), np.arange(len(LENGTHS)))
    for batch in plan:
        assert batch.length in GRID
        assert (batch.starts >= 0).all() and (batch.starts + batch.length <= LENGTHS[batch.records]).all()
        assert len(batch.records) <= 16


def test_most_recordings_are_cut_to_the_largest_step_they_reach():
    plan = plan_training(LENGTHS, 16, np.random.default_rng(1))
    largest = [batch.length == GRID[GRID <= length].max() for batch in plan for length in LENGTHS[batch.records]]
    assert np.mean(largest) > 0.9


def test_what_does_not_fill_a_batch_joins_the_next_shorter_step():
    lengths = np.array([GRID[3]] * 19 + [GRID[2]] * 13)
    plan = plan_training(lengths, 16, np.random.default_rng(0))
    assert sorted((batch.length, len(batch.records)) for batch in plan) == [(GRID[2], 16), (GRID[3], 16)]
    alone = plan_training(np.array([GRID[3]] * 19), 16, np.random.default_rng(0))
    assert sorted(len(batch.records) for batch in alone) == [9, 10]


@pytest.mark.parametrize("count", [1, 15, 16, 17, 769])
def test_no_batch_is_much_smaller_than_the_others_of_its_length(count):
    sizes = [len(batch.records) for batch in plan_training(np.full(count, 2500), 16, np.random.default_rng(0))]
    assert sum(sizes) == count and max(sizes) <= 16 and max(sizes) - min(sizes) <= 1


def test_the_plan_depends_on_the_generator_alone():
    first, second, other = (plan_training(LENGTHS, 16, np.random.default_rng(seed)) for seed in (4, 4, 5))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.records, b.records)
        np.testing.assert_array_equal(a.starts, b.starts)
    assert any(a.records.tolist() != b.records.tolist() for a, b in zip(first, other, strict=True))


def test_cuts_reach_the_first_and_the_last_sample():
    starts = [plan_training(np.array([GRID[0] + 3]), 4, np.random.default_rng(seed))[0].starts[0] for seed in range(99)]
    assert set(starts) == {0, 1, 2, 3}


def test_long_recordings_make_smaller_batches():
    assert batch_size(64, FULL) == 64
    assert batch_size(64, 4 * FULL) == 16
    assert batch_size(2, 100 * FULL) == 1


def test_too_short_a_recording_is_an_error():
    with pytest.raises(ValueError, match="shorter than the shortest cut"):
        plan_training(np.array([2500, GRID[0] - 1]), 4, np.random.default_rng(0))


def test_whole_recordings_go_with_their_exact_equals():
    plan = plan_whole(LENGTHS, 16)
    np.testing.assert_array_equal(np.sort(np.concatenate([batch.records for batch in plan])), np.arange(len(LENGTHS)))
    for batch in plan:
        assert (LENGTHS[batch.records] == batch.length).all() and not batch.starts.any()
    assert plan_whole(np.array([], int), 16) == []


def test_gather_reads_the_planned_cuts_and_lets_go_of_what_it_read(store, monkeypatch):
    records, released = np.array([5, 2, 9, 14, 30]), []
    monkeypatch.setattr(type(store), "release", lambda one: released.append(one))
    for batch in plan_training(store.lengths[records], 2, np.random.default_rng(0)):
        for columns in ((1, 6), range(12)):
            signals = gather(store, records, columns, batch)
            assert signals.shape == (len(batch.records), batch.length, len(columns))
            for signal, record, start in zip(signals, records[batch.records], batch.starts, strict=True):
                np.testing.assert_array_equal(signal, store.signal(record)[start : start + batch.length, columns])
            assert released.pop() is store and not released


def test_ahead_keeps_the_order_and_prepares_the_next_while_one_is_used():
    threads = []

    def square(number):
        threads.append(threading.get_ident())
        return number**2

    results = ahead(square, range(10))
    assert next(results) == 0
    deadline = time.monotonic() + 5
    while len(threads) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(threads) >= 3 and threading.get_ident() not in threads
    assert list(results) == [number**2 for number in range(1, 10)]


def test_ahead_hands_on_an_error():
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda number: 1 / number, [1, 0, 2]))
