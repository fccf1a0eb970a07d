import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from ecg.runtime.processes import CHUNK, ROUND, allow_large_worker, parallel_map, run_in_subprocess

ROOT = Path(__file__).parents[3]


def square(number):
    if number == -1:
        raise ValueError("no root")
    return number**2


def touch_file(folder, number):
    (folder / str(number)).touch()
    return number, os.getpid()


@pytest.mark.parametrize("count", [0, 1, CHUNK + 1, CHUNK * ROUND + 5])
@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_items(count, jobs, capsys):
    numbers = list(range(count))
    assert list(parallel_map(square, numbers, jobs, "squaring")) == [number**2 for number in numbers]
    assert "squaring" not in capsys.readouterr().out


def test_small_items_are_sent_together_and_the_progress_counts_their_sizes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ecg.runtime.console.LOG_SECONDS", 0)
    with closing(parallel_map(partial(touch_file, tmp_path), [0, 1, 2, 3], 2, "writing", [300, 20, 1, 1])) as results:
        assert [number for number, _ in results] == [0, 1, 2, 3]
    counts = [line.partition(" records")[0] for line in capsys.readouterr().err.splitlines()]
    assert counts == [f"writing: {count} of 322" for count in (300, 322)]


def test_all_processes_work_and_none_starts_more_than_a_round_early(tmp_path):
    numbers = list(range(CHUNK * (ROUND + 10)))
    with closing(parallel_map(partial(touch_file, tmp_path), numbers, 2, "keeping")) as results:
        first, worker = next(results)
        assert first == 0 and worker != os.getpid()
        results_of_round = [next(results) for _ in range(CHUNK * ROUND - 1)]  # the rest of the round
        assert len(list(tmp_path.iterdir())) == CHUNK * ROUND
        assert len({worker for _, worker in results_of_round}) == 2


def test_an_error_of_an_item_is_raised_at_its_result():
    with pytest.raises(ValueError, match="no root"):
        list(parallel_map(square, [1, -1], 1, "squaring"))


BUSY = """
import sys, time
from pathlib import Path
from ecg.runtime.processes import parallel_map
from tests.unit.runtime.test_processes import return_long_result

for result in parallel_map(return_long_result, [Path(sys.argv[1])] * 10**6, 2, "working"):
    print("going on", flush=True)
"""


def return_long_result(folder):
    """Make a file named by this process, and return more than fits into a pipe."""
    (folder / str(os.getpid())).touch()
    return bytes(10**6)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_killed_process_ends_its_workers(tmp_path, signal_number):
    with subprocess.Popen([sys.executable, "-c", BUSY, tmp_path], cwd=ROOT, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert shared_memory_files(process.pid) or not os.path.isdir("/dev/shm")
        process.send_signal(signal_number)
    workers = [int(path.name) for path in tmp_path.iterdir()]
    assert workers and process.pid not in workers
    deadline = time.monotonic() + 20
    while (any(map(is_running, workers)) or shared_memory_files(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, workers)) and not shared_memory_files(process.pid)


def shared_memory_files(process):
    """Return joblib's files in the shared memory for this process alone."""
    return list(Path("/dev/shm").glob(f"joblib_memmapping_folder_{process}_*"))


def is_running(process):
    """Return whether a process runs; one that ended but was not waited for does not."""
    try:
        os.kill(process, 0)
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def mark_prepared():
    """Mark this process as prepared."""
    os.environ["PREPARED"] = "before"


def report_process(folder):
    """Make a file; return the mark of this process and its id."""
    return os.environ.get("PREPARED"), touch_file(folder, 7)[1]


def test_a_subprocess_is_prepared_and_ends_with_its_result(tmp_path):
    prepared, worker = run_in_subprocess(report_process, tmp_path, prepare=mark_prepared)
    assert prepared == "before" and "PREPARED" not in os.environ
    assert worker != os.getpid() and (tmp_path / "7").exists() and not is_running(worker)


def kill_itself():
    """End this process as the system does if memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_subprocess_that_is_killed_is_reported():
    with pytest.raises(ChildProcessError, match="its process was killed, perhaps because the memory is too small"):
        run_in_subprocess(kill_itself, prepare=mark_prepared)


def test_an_error_in_a_subprocess_is_raised_here():
    with pytest.raises(ValueError, match="no root"):
        run_in_subprocess(square, -1, prepare=mark_prepared)


def receives_sigint(_):
    """Return whether SIGINT would reach this process."""
    return signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ctrl_c_reaches_this_process_alone():
    assert not any(parallel_map(receives_sigint, list(range(CHUNK + 1)), 2, "asking"))
    assert not run_in_subprocess(receives_sigint, 0, prepare=mark_prepared)
    assert receives_sigint(0)


def wait_long(folder):
    """Make a file named by this process, and wait."""
    (folder / str(os.getpid())).touch()
    time.sleep(600)


def test_an_interruption_ends_the_subprocess(tmp_path):
    def interrupt():
        while not list(tmp_path.iterdir()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_in_subprocess(wait_long, tmp_path, prepare=mark_prepared)
    (worker,) = tmp_path.iterdir()
    assert not is_running(int(worker.name))


KEPT = []  # memory of a worker process


def keep_memory(number):
    """Keep 400 MB from the second chunk on, for longer than joblib takes to notice."""
    allow_large_worker()
    if number == CHUNK * 4:
        KEPT.append(bytearray(b"1") * 400_000_000)
    time.sleep(0.02)
    return os.getpid()


def test_a_worker_that_may_grow_is_not_replaced():
    with warnings.catch_warnings(action="error"):
        workers = set(parallel_map(keep_memory, range(CHUNK * 10), 2, "growing"))
    assert len(workers) == 2
