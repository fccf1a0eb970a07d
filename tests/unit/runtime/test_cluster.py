import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
from cluster import run_cluster
from helpers import capture_log
from remote_functions import (
    count_and_die,
    count_to,
    kill_own_process,
    kill_parent,
    prepare_nothing,
    read_environment,
    square,
    square_slowly,
)

from ecg.data.store import build_store
from ecg.runtime.cache import find_last_change
from ecg.runtime.executors import ClusterError, open_executor
from ecg.runtime.locks import LOCK, lock_folder
from ecg.runtime.processes import CHUNK

pytestmark = pytest.mark.slow  # a cluster needs seconds to start

ROOT = Path(__file__).parents[3]
KILLED_WITHIN = 30  # seconds until a task that kills its workers is reported


@pytest.fixture
def executor(cluster):
    cluster.wait()
    with open_executor(cluster=cluster.address) as executor:
        yield executor


def wait_for_count(folder, least=1):
    """Wait until the file of `count_to` has a number, and return it."""
    while True:
        with suppress(FileNotFoundError):
            if (number := int((folder / "count").read_text())) >= least:
                return number
        time.sleep(0.05)


def test_results_come_in_the_order_of_the_items_from_all_workers(executor, tmp_path, cluster):
    numbers = list(range(20 * CHUNK))
    results = list(executor.map(partial(square_slowly, tmp_path), numbers, "squaring"))
    assert [result for result, _ in results] == [number**2 for number in numbers]
    assert {process for _, process in results} == set(cluster.pids().values())
    assert list(executor.map(square, [], "squaring")) == []
    cluster.wait()  # on a busy machine, Dask may have started a worker again
    assert (executor.n_slots, executor.jobs) == (2, 1)


def test_a_killed_worker_loses_no_item(executor, tmp_path, cluster):
    numbers = list(range(20 * CHUNK))
    with closing(executor.map(partial(square_slowly, tmp_path), numbers, "squaring")) as results:
        first = next(results)
        killed = next(pid for pid in cluster.pids().values() if pid != first[1])
        os.kill(killed, signal.SIGKILL)
        rest = list(results)
    assert [result for result, _ in [first, *rest]] == [number**2 for number in numbers]


def test_an_item_that_kills_its_worker_ends_in_an_error(executor):
    start = time.monotonic()
    with pytest.raises(ChildProcessError, match="it has ended 4 workers, the last at tcp://.* the memory is too small"):
        list(executor.map(kill_own_process, [1], "killing"))
    assert time.monotonic() - start < KILLED_WITHIN


def test_a_call_that_is_killed_is_tried_three_times_and_its_worker_lives(executor, cluster):
    before, lines = cluster.pids(), capture_log()
    start = time.monotonic()
    with pytest.raises(ChildProcessError, match=r"its process was killed, .* \(3 times, on worker tcp://.*, tcp://"):
        executor.run(kill_own_process, 1, prepare=prepare_nothing)
    assert time.monotonic() - start < KILLED_WITHIN and len(lines) == 2
    assert cluster.pids() == before


@pytest.mark.parametrize("killer", [kill_own_process, kill_parent])
def test_a_call_that_makes_progress_is_tried_again_however_often_it_is_killed(executor, tmp_path, killer):
    progress = partial(find_last_change, tmp_path.parent, [tmp_path.name])
    task = executor.start(count_and_die, tmp_path, 6, killer, prepare=prepare_nothing, progress=progress)
    assert task.result() == 6


def test_a_call_goes_on_after_its_worker_is_killed_and_the_log_names_the_workers(executor, tmp_path, cluster):
    lines = capture_log()
    task = executor.start(count_to, tmp_path, 40, prepare=prepare_nothing)
    reached = wait_for_count(tmp_path, 5)
    first = task.where
    os.kill(cluster.pids()[first], signal.SIGKILL)
    _, _, resumed = task.result()
    assert reached <= resumed < 40 and task.where != first
    assert lines == [f"{first[6:]}: from 0", f"{task.where[6:]}: from {resumed}"]


def test_errors_and_environment_of_calls_are_those_of_this_process(executor, monkeypatch):
    with pytest.raises(ValueError, match="no root") as raised:
        executor.run(square, -1, prepare=prepare_nothing)
    assert "in square" in str(raised.value.__cause__)
    with pytest.raises(ValueError, match="no root"):
        list(executor.map(square, [1, -1], "squaring"))
    # Dask sets this variable for its workers.
    assert executor.run(read_environment, "OMP_NUM_THREADS", prepare=prepare_nothing) == os.getenv("OMP_NUM_THREADS")


def test_a_cancelled_call_ends(executor, tmp_path):
    task = executor.start(count_to, tmp_path, 10**6, prepare=prepare_nothing)
    wait_for_count(tmp_path)
    task.cancel()
    assert executor.run(square, 4, prepare=prepare_nothing) == 16
    time.sleep(2)
    number = wait_for_count(tmp_path)
    time.sleep(1)
    assert wait_for_count(tmp_path) == number


CLIENT = """
import sys, time
from pathlib import Path
from ecg.runtime.executors import open_executor
from remote_functions import count_to, prepare_nothing

with open_executor(cluster=sys.argv[1]) as executor:
    executor.run(count_to, Path(sys.argv[2]), 10**6, prepare=prepare_nothing)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_outlive_a_client_that_ends_and_its_call_does_not(cluster, tmp_path, number):
    before = cluster.pids()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", CLIENT, cluster.address, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as client:
        wait_for_count(tmp_path)
        client.send_signal(number)
    time.sleep(3)
    reached = wait_for_count(tmp_path)
    time.sleep(1)
    assert wait_for_count(tmp_path) == reached
    assert cluster.pids() == before


def test_all_workers_must_see_the_shared_files(executor, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("content")
    with lock_folder(tmp_path / "data"):
        executor.check_shared(tmp_path / "data", [tmp_path / "data" / "file"])
        assert list(executor.map(square, [2], "squaring")) == [4]
    monkeypatch.chdir(tmp_path)  # the workers have another current folder
    for folder, files in ((Path("data"), []), (None, [Path("data/file")])):
        with pytest.raises(ClusterError, match="worker tcp://.* does not see the files of this program: .*data"):
            executor.check_shared(folder, files)


def test_a_lock_that_other_machines_do_not_notice_is_reported(executor, tmp_path):
    (tmp_path / LOCK).touch()  # a lock that holds on one machine only looks like this on the others
    with pytest.raises(ClusterError, match="worker tcp://.* does not notice the lock of .*flock holds"):
        executor.check_shared(tmp_path)


def test_an_executor_leaves_nothing_in_the_shared_folder(cluster, tmp_path):
    with open_executor(cluster=cluster.address) as executor:
        executor.check_shared(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


def test_a_scheduler_that_is_lost_and_workers_that_differ_are_reported(tmp_path):
    with run_cluster(tmp_path, workers=1) as cluster:
        with open_executor(cluster=cluster.address) as executor:
            changed = tmp_path / "changed"
            shutil.copytree(ROOT / "ecg", changed / "ecg", ignore=shutil.ignore_patterns("__pycache__"))
            with open(changed / "ecg" / "data" / "leads.py", "a") as file:
                file.write("# changed\n")
            for options, message in (
                ({"cwd": changed, "path": [changed]}, "has other source code than this program"),
                ({"cwd": tmp_path, "path": []}, "cannot import this program"),
            ):
                cluster.workers.append(cluster.start_worker(**options))
                cluster.wait()
                with pytest.raises(ClusterError, match=f"worker tcp://.* {message}"):
                    executor.check_shared(tmp_path)
                with (
                    pytest.raises(ClusterError, match=f"worker tcp://.* {message}"),
                    open_executor(cluster=cluster.address),
                ):
                    pass
                cluster.stop_worker()
            task = executor.start(count_to, tmp_path, 10**6, prepare=prepare_nothing)
            wait_for_count(tmp_path)
            cluster.scheduler.kill()
            with pytest.raises(ClusterError, match="the connection to the scheduler is lost; run the same command"):
                task.result()
            with pytest.raises(ClusterError, match="the connection to the scheduler is lost"):
                list(executor.map(square, [1], "squaring"))


def test_a_cluster_without_workers_ends_in_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("ecg.runtime.cluster.START_SECONDS", 2)
    monkeypatch.setattr("ecg.runtime.cluster.LONGEST_WITHOUT_WORKER", 2)
    with (
        pytest.raises(ClusterError, match="tcp://127.0.0.1:9: no scheduler answers"),
        open_executor(cluster="tcp://127.0.0.1:9"),
    ):
        pass
    with run_cluster(tmp_path, workers=1) as cluster:
        with open_executor(cluster=cluster.address) as executor:
            results = executor.map(square, [1], "squaring")
            cluster.stop_worker()
            with pytest.raises(ClusterError, match="no worker is left for [0-9]+ s; see their logs"):
                next(results)
            results.close()
        with (
            pytest.raises(ClusterError, match="the scheduler has no worker after 2 s"),
            open_executor(cluster=cluster.address),
        ):
            pass


def test_a_store_that_workers_read_is_the_local_one(executor, synthetic_recordings, store, tmp_path):
    assert build_store(synthetic_recordings, tmp_path, executor).digest == store.digest


def test_the_command_line_uses_a_cluster(cluster, synthetic_recordings, tmp_path):
    outputs = []
    for name, options in (("local", ["--jobs", "1"]), ("cluster", ["--cluster", cluster.address])):
        command = [sys.executable, "-m", "ecg", "audit", os.path.relpath(synthetic_recordings, ROOT), *options]
        ended = subprocess.run([*command, "--output", tmp_path / name], cwd=ROOT, capture_output=True, text=True)
        assert (ended.returncode, ended.stderr) == (0, "")
        outputs.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert outputs[0] == outputs[1]


MALLOC = """
import ctypes, os, resource, sys
from ecg.runtime.cluster_worker import keep_freed_memory
import numpy as np

def count_faults():
    for _ in range(2000):
        np.ones(50_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(2000):
        np.ones(50_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = count_faults()
keep_freed_memory()
print(before, count_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library returns memory by its own rules")
def test_a_worker_keeps_freed_memory_although_dask_limits_it():
    """Memory that is mapped anew shows as page faults."""
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", MALLOC], env=environment, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 100_000 and after < before / 100
