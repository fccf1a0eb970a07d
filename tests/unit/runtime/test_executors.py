import logging
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from helpers import capture_log
from remote_functions import (
    count_to,
    kill_own_process,
    meet_another_process,
    prepare_nothing,
    raise_unpicklable,
    return_unpicklable,
    square,
)

from ecg.runtime.executors import ALL_CORES, ONE_PROCESS, LocalExecutor, open_executor
from ecg.runtime.processes import CHUNK, RemoteTraceback, make_chunks

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("sizes", "lengths"),
    [([], []), ([1] * 70, [32, 32, 6]), ([512, 512, 3], [1, 1, 1]), ([20, 20, 20], [2, 1]), ([0, 0, 40], [3])],
)
def test_items_are_sent_in_chunks_of_enough_work(sizes, lengths):
    items = list(range(len(sizes)))
    chunks = make_chunks(items, sizes)
    assert [len(chunk.items) for chunk in chunks] == lengths
    assert [item for chunk in chunks for item in chunk.items] == items
    assert sum(chunk.size for chunk in chunks) == sum(sizes)
    assert all(chunk.size >= CHUNK for chunk in chunks[:-1])
    assert not sizes or make_chunks(items) == make_chunks(items, [1] * len(items))


def test_large_items_are_spread_over_the_processes(tmp_path):
    with closing(LocalExecutor(2).map(meet_another_process, [tmp_path] * 2, "meeting", sizes=[512] * 2)) as counts:
        assert list(counts) == [2, 2]


def test_an_executor_checks_its_number_of_processes():
    for jobs in (0, 1025, 1.5):
        with pytest.raises(ValueError, match="jobs: expected an integer from 1 to 1,024"):
            LocalExecutor(jobs)
    assert (ALL_CORES.jobs, ONE_PROCESS.jobs) == (None, 1) and LocalExecutor(1) == ONE_PROCESS


def test_log_messages_of_a_call_are_logged_here(tmp_path):
    lines = capture_log()
    process, parent, first = ONE_PROCESS.run(count_to, tmp_path, 2, prepare=prepare_nothing)
    assert lines == ["from 0"] and parent == os.getpid() != process and first == 0


def test_an_exception_of_a_call_has_its_traceback_as_the_cause():
    with pytest.raises(ValueError, match="no root") as raised:
        ONE_PROCESS.run(square, -1, prepare=prepare_nothing)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert "in square" in str(raised.value.__cause__)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [(return_unpicklable, Exception, "local object"), (raise_unpicklable, RuntimeError, "only three words")],
)
def test_what_cannot_be_sent_back_is_an_error(function, error, message):
    with pytest.raises(error, match=message):
        ONE_PROCESS.run(function, prepare=prepare_nothing)


def test_started_calls_run_one_at_a_time_in_their_order(tmp_path):
    with open_executor() as executor:
        tasks = [executor.start(count_to, tmp_path, last, prepare=prepare_nothing) for last in (3, 5, 6)]
        assert [task.where for task in tasks] == ["this machine", "", ""]
        third, first, second = (tasks[number].result() for number in (2, 0, 1))
    assert [result[2] for result in (first, second, third)] == [0, 3, 5]
    assert len({result[0] for result in (first, second, third)}) == 3


def test_a_killed_call_is_reported_and_the_next_one_runs(tmp_path):
    with open_executor() as executor:
        killed = executor.start(kill_own_process, 0, prepare=prepare_nothing)
        following = executor.start(count_to, tmp_path, 1, prepare=prepare_nothing)
        assert following.result()[2] == 0
        with pytest.raises(ChildProcessError, match="its process was killed, perhaps because the memory"):
            killed.result()


def test_cancelled_calls_end_and_do_not_begin(tmp_path):
    with open_executor() as executor:
        running, waiting = (executor.start(count_to, tmp_path, 10**6, prepare=prepare_nothing) for _ in range(2))
        while not (tmp_path / "count").exists():
            time.sleep(0.05)
        for task in (waiting, running):
            task.cancel()
            with pytest.raises(ChildProcessError, match="it was cancelled"):
                task.result()
        number = (tmp_path / "count").read_text()
        assert executor.start(square, 3, prepare=prepare_nothing).result() == 9
        unfinished = executor.start(count_to, tmp_path, 10**6, prepare=prepare_nothing)
    assert (tmp_path / "count").read_text() == number or unfinished.reply is not None
    number = (tmp_path / "count").read_text()
    time.sleep(0.5)
    assert (tmp_path / "count").read_text() == number


def test_local_work_imports_nothing_of_dask():
    code = "import sys; from ecg.runtime.executors import open_executor\n"
    code += "with open_executor(1): print('distributed' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "False"


def test_without_dask_the_option_names_what_to_install(tmp_path):
    code = "import sys; sys.modules['distributed'] = None; from ecg.__main__ import main\n"
    code += f"main(['audit', {str(tmp_path)!r}, '--cluster', '127.0.0.1:1'])"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    command = "pip install 'reduced-lead-ecg[distributed]'"
    assert ended.stderr.endswith(f"--cluster needs distributed, which is missing: {command}\n")


def test_a_call_does_not_leave_handlers_here(tmp_path):
    before = list(logging.getLogger("ecg").handlers)
    ONE_PROCESS.run(square, 2, prepare=prepare_nothing)
    assert logging.getLogger("ecg").handlers == before
