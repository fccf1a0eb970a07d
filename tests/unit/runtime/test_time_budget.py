import math
import pickle
import time

import numpy as np
import pytest

from ecg.runtime.limits import CLOSING, FIRST_PREDICTIONS, LEAST_CLOSING, TimeBudget


class Clock:
    """A clock that the tests set."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_budget_without_hours_is_never_over(clock):
    budget = TimeBudget(None, clock)
    budget.begin(3, 10**9)
    budget.record_prediction_time(1, 3600.0)
    clock.now += 1e9
    assert not budget.is_over


def test_stages_share_the_remaining_time_evenly(clock):
    budget = TimeBudget(1, clock)
    available = 3600 * (1 - CLOSING)
    budget.begin(4, 0)
    assert budget.stage_end - clock.now == pytest.approx(available / 4)
    clock.now += 60  # early: the others have more
    budget.begin(3, 0)
    assert budget.stage_end - clock.now == pytest.approx((available - 60) / 3)
    clock.now = budget.stage_end + 30  # late: the others have less
    budget.begin(2, 0)
    assert budget.stage_end - clock.now == pytest.approx((100 + available - clock.now) / 2)
    budget.begin(1, 0)
    assert budget.stage_end == budget.end == pytest.approx(100 + available)


def test_a_stage_ends_while_there_is_time_for_its_predictions(clock):
    budget = TimeBudget(1, clock)
    budget.begin(2, 600)
    share = budget.stage_end - clock.now
    clock.now += share * (1 - FIRST_PREDICTIONS) - 1
    assert not budget.is_over
    clock.now += 2
    assert budget.is_over
    budget.record_prediction_time(100, 10.0)  # 60 s for 600 of them
    assert not budget.is_over
    clock.now = budget.stage_end - 61
    assert not budget.is_over
    clock.now += 2
    assert budget.is_over


def test_the_next_stage_reserves_the_slowest_prediction_time(clock):
    budget = TimeBudget(2, clock)
    budget.begin(2, 50)
    budget.record_prediction_time(10, 10.0)
    budget.record_prediction_time(10, 2.0)
    budget.begin(1, 100)
    clock.now = budget.stage_end - 101
    assert not budget.is_over
    clock.now += 2
    assert budget.is_over


def test_a_used_budget_is_over_at_once(clock):
    budget = TimeBudget(1e-6, clock)
    clock.now += 1
    budget.begin(3, 10)
    assert budget.is_over and math.isfinite(budget.stage_end)


def test_time_is_reserved_for_the_work_after_the_last_stage(clock):
    assert TimeBudget(48, clock).end == pytest.approx(100 + 48 * 3600 * (1 - CLOSING))
    assert TimeBudget(0.1, clock).end == pytest.approx(100 + 360 - LEAST_CLOSING)
    assert TimeBudget(0.01, clock, cumulative=True).end == pytest.approx(100 + 36)


def test_a_cumulative_budget_counts_the_time_before_an_interruption(clock):
    """Finished stages and a resumed one leave as much time as without the interruption."""
    first = TimeBudget(1, clock, cumulative=True)
    first.begin(3, 10)
    clock.now += 600
    first.record_prediction_time(10, 50.0)
    finished = first.used
    first.begin(2, 20)
    clock.now += 300
    interrupted = first.used
    np.testing.assert_allclose([finished, interrupted], [(600, 5), (300, 5)])
    expected = first.stage_end - clock.now, first.end - clock.now, first.reserved
    clock.now += 10**6
    resumed = TimeBudget(1, clock, cumulative=True)
    resumed.skip(finished)
    resumed.begin(2, 20)
    resumed.resume(interrupted)
    assert (resumed.stage_end - clock.now, resumed.end - clock.now, resumed.reserved) == pytest.approx(expected)
    clock.now += 7
    np.testing.assert_allclose(resumed.used, (307, 5))


def test_otherwise_the_hours_start_anew_and_the_used_time_is_reported(clock):
    budget = TimeBudget(1, clock)
    until = budget.end
    budget.skip((3000, 2.0))
    budget.begin(1, 100)
    budget.resume((500, 3.0))
    assert (budget.end, budget.stage_end) == (until, until) and not budget.is_over
    np.testing.assert_allclose(budget.used, (500, 3))
    clock.now = until - 301
    assert not budget.is_over
    clock.now += 2
    assert budget.is_over


def test_a_stage_in_another_process_ends_when_its_share_does(clock):
    budget = TimeBudget(1, clock)
    clock.now += 200
    budget.record_prediction_time(10, 5.0)
    task = pickle.loads(pickle.dumps(budget.for_task(4)))
    share = (budget.end - clock.now) / 4
    task.begin(1, 60)  # 30 s for predictions
    assert task.end - time.time() == pytest.approx(share, abs=2) and task.reserved == 30
    assert not task.is_over and task.prediction_seconds == 0.5
    task.clock = lambda: task.end - 29
    assert task.is_over
    assert TimeBudget(None, clock).for_task(3).end == math.inf
