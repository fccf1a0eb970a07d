import logging
import os
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest
from helpers import capture_log
from process_pool import ProcessPool
from remote_functions import count_to, prepare_nothing, square

from ecg.runtime.console import Progress
from ecg.runtime.executors import LocalExecutor
from ecg.runtime.tasks import log_progress, run_tasks


def begin(executor, function):
    """Return a function that starts a function of one number."""
    return lambda number: executor.start(function, number, prepare=prepare_nothing)


@pytest.mark.parametrize("make_executor", [LocalExecutor, lambda: ProcessPool(2)], ids=["one slot", "two slots"])
def test_each_job_is_yielded_with_its_result_or_exception(make_executor):
    executor, results = make_executor(), {}
    for number, result in run_tasks(executor, begin(executor, square), [3, -1, 5]):
        try:
            results[number] = result()
        except ValueError as error:
            results[number] = str(error)
    assert results == {3: 9, -1: "no root", 5: 25}
    assert list(run_tasks(executor, begin(executor, square), [])) == []


def test_a_job_is_taken_when_a_slot_is_free_and_not_earlier():
    executor, ended, taken = ProcessPool(2), [], []

    def jobs():
        for number in range(5):
            taken.append((number, len(ended)))
            yield number

    for number, _ in run_tasks(executor, begin(executor, square), jobs()):
        ended.append(number)
    assert sorted(ended) == [0, 1, 2, 3, 4]
    assert all(number - n_ended <= 1 for number, n_ended in taken) and taken[:2] == [(0, 0), (1, 0)]


def test_slots_that_come_later_are_used(monkeypatch):
    """Each task ends only when all three have begun."""
    monkeypatch.setattr("ecg.runtime.tasks.LOOK_SECONDS", 0.05)
    barrier = threading.Barrier(3, timeout=20)

    class Waiting:
        def result(self):
            return barrier.wait()

        def cancel(self):
            barrier.abort()

    class Growing(ProcessPool):
        looks = 0

        @property
        def n_slots(self):
            self.looks += 1
            return 1 if self.looks < 4 else 3

        @n_slots.setter
        def n_slots(self, number):
            pass

    results = [result() for _, result in run_tasks(Growing(1), lambda _: Waiting(), "abc")]
    assert sorted(results) == [0, 1, 2]


def test_closing_ends_the_processes_of_all_tasks(tmp_path):
    executor = ProcessPool(2)
    folders = [tmp_path / name for name in "ab"]
    for folder, last in zip(folders, (1, 10_000), strict=True):
        folder.mkdir()
        (folder / "last").write_text(str(last))

    def start(folder):
        return executor.start(count_to, folder, int((folder / "last").read_text()), prepare=prepare_nothing)

    with closing(run_tasks(executor, start, folders)) as tasks:
        folder, _ = next(tasks)
        assert folder == folders[0]
    assert executor.tasks[1].process.process.returncode is not None
    with suppress(StopIteration):
        process = int(next(folders[1].glob("*-*")).name.partition("-")[0])
        assert not Path(f"/proc/{process}").exists()


def test_an_exception_of_the_jobs_leaves_no_task(tmp_path):
    executor = ProcessPool(3)

    def jobs():
        yield tmp_path
        raise KeyError("no more")

    def start(folder):
        return executor.start(count_to, folder, 10_000, prepare=prepare_nothing)

    with pytest.raises(KeyError, match="no more"):
        list(run_tasks(executor, start, jobs()))
    assert executor.tasks[0].process.process.returncode is not None


def test_progress_is_logged_line_by_line(capfd):
    lines = capture_log()
    with log_progress():
        progress = Progress("reading", 4)
        progress.last -= 60
        progress.advance(3)
        print("first", end="", file=sys.stderr)
        assert len(lines) == 1
        print(" line\n\nsecond line", file=sys.stderr)
    assert lines[0].startswith("reading: 3 of 4 records, ") and lines[1:] == ["first line", "second line"]
    os.write(2, b"as before\n")
    assert capfd.readouterr().err == "as before\n"
    assert logging.getLogger("ecg").level == logging.INFO
