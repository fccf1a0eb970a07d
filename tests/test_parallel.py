import os
from contextlib import closing
from functools import partial

import pytest

from ecg.parallel import CHUNK, ROUND, each


def squared(number):
    if number == -1:
        raise ValueError("no root")
    return number**2


def kept(folder, number):
    (folder / str(number)).touch()
    return number, os.getpid()


@pytest.mark.parametrize("count", [0, 1, CHUNK + 1, CHUNK * ROUND + 5])
@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_what_they_are_of(count, jobs, capsys):
    numbers = list(range(count))
    assert list(each(squared, numbers, jobs, "squaring")) == [number**2 for number in numbers]
    assert "squaring" not in capsys.readouterr().out


def test_all_processes_take_part_and_none_takes_more_than_a_round_ahead(tmp_path):
    numbers = list(range(CHUNK * (ROUND + 10)))
    with closing(each(partial(kept, tmp_path), numbers, 2, "keeping")) as results:
        first, worker = next(results)
        assert first == 0 and worker != os.getpid()
        done = [next(results) for _ in range(CHUNK * ROUND - 1)]  # the round, of which all but this is handed over
        assert len(list(tmp_path.iterdir())) == CHUNK * ROUND
        assert len({worker for _, worker in done}) == 2


def test_an_error_of_one_is_raised_where_it_is_asked_for():
    with pytest.raises(ValueError, match="no root"):
        list(each(squared, [1, -1], 1, "squaring"))
