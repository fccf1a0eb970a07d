import math

import numpy as np
import pytest

from ecg.training.checkpoint import CLOSING, FIRST_PREDICTIONS, LEAST_CLOSING, Budget


class Clock:
    """A clock that goes when it is told to."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_without_hours_it_is_never_over(clock):
    budget = Budget(None, clock)
    budget.begin(3, 10**9)
    budget.record_prediction_time(1, 3600.0)
    clock.now += 1e9
    assert not budget.is_over


def test_stages_share_what_is_left_evenly(clock):
    budget = Budget(1, clock)
    whole = 3600 * (1 - CLOSING)
    budget.begin(4, 0)
    assert budget.stage_end - clock.now == pytest.approx(whole / 4)
    clock.now += 60  # it was done early, and the others have more
    budget.begin(3, 0)
    assert budget.stage_end - clock.now == pytest.approx((whole - 60) / 3)
    clock.now = budget.stage_end + 30  # it took longer, and the others have less
    budget.begin(2, 0)
    assert budget.stage_end - clock.now == pytest.approx((100 + whole - clock.now) / 2)
    budget.begin(1, 0)
    assert budget.stage_end == budget.end == pytest.approx(100 + whole)


def test_a_stage_is_over_while_there_is_time_for_its_answers(clock):
    budget = Budget(1, clock)
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


def test_what_an_answer_takes_is_known_to_the_next_stage_at_its_slowest(clock):
    budget = Budget(2, clock)
    budget.begin(2, 50)
    budget.record_prediction_time(10, 10.0)
    budget.record_prediction_time(10, 2.0)
    budget.begin(1, 100)
    clock.now = budget.stage_end - 101
    assert not budget.is_over
    clock.now += 2
    assert budget.is_over


def test_a_budget_that_is_spent_is_over_at_once(clock):
    budget = Budget(1e-6, clock)
    clock.now += 1
    budget.begin(3, 10)
    assert budget.is_over and math.isfinite(budget.stage_end)


def test_there_is_time_for_what_comes_last(clock):
    assert Budget(48, clock).end == pytest.approx(100 + 48 * 3600 * (1 - CLOSING))
    assert Budget(0.1, clock).end == pytest.approx(100 + 360 - LEAST_CLOSING)
    assert Budget(0.01, clock, cumulative=True).end == pytest.approx(100 + 36)


def test_what_was_used_before_it_was_cut_off_counts_where_the_budget_lasts(clock):
    """Stages that are done, and one that is taken up, leave as much as if nothing had come between."""
    whole = Budget(1, clock, cumulative=True)
    whole.begin(3, 10)
    clock.now += 600
    whole.record_prediction_time(10, 50.0)
    done = whole.used
    whole.begin(2, 20)
    clock.now += 300
    kept = whole.used
    np.testing.assert_allclose([done, kept], [(600, 5), (300, 5)])
    left = whole.stage_end - clock.now, whole.end - clock.now, whole.reserved
    clock.now += 10**6
    again = Budget(1, clock, cumulative=True)
    again.skip(done)
    again.begin(2, 20)
    again.resume(kept)
    assert (again.stage_end - clock.now, again.end - clock.now, again.reserved) == pytest.approx(left)
    clock.now += 7
    np.testing.assert_allclose(again.used, (307, 5))


def test_else_the_hours_are_counted_anew_and_what_was_used_is_told_all_the_same(clock):
    budget = Budget(1, clock)
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
