import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from ecg.runtime.processes import CHUNK, ROUND, parallel_map, run_in_subprocess

ROOT = Path(__file__).parents[3]


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
    assert list(parallel_map(squared, numbers, jobs, "squaring")) == [number**2 for number in numbers]
    assert "squaring" not in capsys.readouterr().out


def test_all_processes_take_part_and_none_takes_more_than_a_round_ahead(tmp_path):
    numbers = list(range(CHUNK * (ROUND + 10)))
    with closing(parallel_map(partial(kept, tmp_path), numbers, 2, "keeping")) as results:
        first, worker = next(results)
        assert first == 0 and worker != os.getpid()
        done = [next(results) for _ in range(CHUNK * ROUND - 1)]  # the rest of the round
        assert len(list(tmp_path.iterdir())) == CHUNK * ROUND
        assert len({worker for _, worker in done}) == 2


def test_an_error_of_an_item_is_raised_at_its_result():
    with pytest.raises(ValueError, match="no root"):
        list(parallel_map(squared, [1, -1], 1, "squaring"))


BUSY = """
import sys, time
from pathlib import Path
from ecg.runtime.processes import parallel_map
from tests.unit.runtime.test_processes import long

for result in parallel_map(long, [Path(sys.argv[1])] * 10**6, 2, "working"):
    print("going on", flush=True)
"""


def long(folder):
    """Leave a file with this process's number, and return more than a pipe takes at once."""
    (folder / str(os.getpid())).touch()
    return bytes(10**6)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_takes_its_helpers_with_it(tmp_path, end):
    with subprocess.Popen([sys.executable, "-c", BUSY, tmp_path], cwd=ROOT, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert shared(process.pid) or not os.path.isdir("/dev/shm")
        process.send_signal(end)
    helpers = [int(path.name) for path in tmp_path.iterdir()]
    assert helpers and process.pid not in helpers
    deadline = time.monotonic() + 20
    while (any(map(alive, helpers)) or shared(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, helpers)) and not shared(process.pid)


def shared(process):
    """Return what joblib has put into the shared memory for a process; other processes have theirs there, too."""
    return list(Path("/dev/shm").glob(f"joblib_memmapping_folder_{process}_*"))


def alive(process):
    """Return whether a process runs, one that has ended and nobody asks for excepted."""
    try:
        os.kill(process, 0)
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def prepared():
    """Leave word in this process that it is prepared."""
    os.environ["PREPARED"] = "before"


def told_apart(folder):
    """Leave a file with this process's number; return whether it was prepared."""
    return os.environ.get("PREPARED"), kept(folder, 7)[1]


def test_what_is_done_apart_is_done_by_another_process_that_is_prepared_and_has_ended_afterwards(tmp_path):
    said, worker = run_in_subprocess(told_apart, tmp_path, prepare=prepared)
    assert said == "before" and "PREPARED" not in os.environ
    assert worker != os.getpid() and (tmp_path / "7").exists() and not alive(worker)


def ended():
    """End this process as the system does where memory is wanting."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_subprocess_that_is_killed_is_reported():
    with pytest.raises(ChildProcessError, match="its process was killed, perhaps because the memory is too small"):
        run_in_subprocess(ended, prepare=prepared)


def test_an_error_of_what_is_done_apart_is_raised_here():
    with pytest.raises(ValueError, match="no root"):
        run_in_subprocess(squared, -1, prepare=prepared)


def interruptible(_):
    """Return whether SIGINT would reach this process."""
    return signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ctrl_c_reaches_this_process_alone():
    assert not any(parallel_map(interruptible, list(range(CHUNK + 1)), 2, "asking"))
    assert not run_in_subprocess(interruptible, 0, prepare=prepared)
    assert interruptible(0)


def waiting(folder):
    """Leave a file with this process's number, and wait."""
    (folder / str(os.getpid())).touch()
    time.sleep(600)


def test_what_is_done_apart_ends_with_an_interruption(tmp_path):
    def interrupt():
        while not list(tmp_path.iterdir()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_in_subprocess(waiting, tmp_path, prepare=prepared)
    (worker,) = tmp_path.iterdir()
    assert not alive(int(worker.name))
