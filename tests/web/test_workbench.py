"""In which order recordings are predicted."""

import numpy as np
import pytest
from web.conftest import StandInRunner, make_prediction

from ecg.web.catalogue import Catalogue
from ecg.web.workbench import LONG_SECONDS

LONG = 1


@pytest.fixture
def recordings(catalogue):
    """The recordings, of which one is long."""
    seconds = catalogue.columns["seconds"].copy()
    seconds[LONG] = LONG_SECONDS + 1
    columns = catalogue.columns | {"seconds": seconds}
    return Catalogue(
        catalogue.folder, catalogue.files, columns, catalogue.diagnoses, catalogue.errors, catalogue.file_keys
    )


def find_rows(bench, count, postponed=()):
    """Do background tasks; return their rows."""
    rows = []
    for _ in range(count):
        task = bench.find_background_task()
        rows.append(bench.catalogue.files.index(task.path.relative_to(bench.catalogue.folder).as_posix()))
        task.postpone() if rows[-1] in postponed else task.store(make_prediction(NSR=0.7))
    return rows


def test_what_is_shown_comes_first_then_the_list_then_all_by_name(make_bench, recordings):
    bench = make_bench(recordings, review_list=[(5, "LAD"), (3, "AF")])
    bench.show([8, 7])
    assert find_rows(bench, 5) == [8, 7, 5, 3, 0]
    bench.show([9])
    rows = find_rows(bench, 55)
    assert rows == [9, *np.setdiff1d(np.arange(60), [8, 7, 5, 3, 0, 9, LONG]), LONG], "the long one comes last"
    assert bench.find_background_task() is None and bench.predictions.counts()["predicted"] == 60


def test_interrupted_recordings_come_last_even_if_they_are_shown(make_bench, recordings):
    bench = make_bench(recordings)
    bench.show([4])
    assert find_rows(bench, 1, postponed=[4]) == [4]
    assert find_rows(bench, 59) == [*np.setdiff1d(np.arange(60), [4, LONG]), LONG]
    assert find_rows(bench, 1, postponed=[4]) == [4] == find_rows(bench, 1)
    assert bench.find_background_task() is None


def test_a_long_recording_that_is_opened_is_predicted_next_but_keeps_nobody_waiting(make_bench, recordings):
    runner = StandInRunner()
    bench = make_bench(recordings, runner=runner)
    assert bench.predict_row(2).result().lead_set == 12
    assert bench.predict_row(LONG) is None and len(runner.tasks) == 1
    assert find_rows(bench, 2) == [LONG, 0]
