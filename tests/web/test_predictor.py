"""The prediction process: urgent tasks come first, and its end loses nothing."""

import os
import signal
import threading
import time
from concurrent.futures import CancelledError, wait
from pathlib import Path

import pytest
from web import stand_in_worker

from ecg.web import predictor as predictor_module
from ecg.web.prediction_worker import TaskError
from ecg.web.predictor import BusyError, Predictor, WorkerEnded

pytestmark = pytest.mark.slow  # each starts a process


@pytest.fixture
def predictor(monkeypatch):
    monkeypatch.setattr(predictor_module, "run_worker", stand_in_worker.run_worker)
    monkeypatch.setattr(predictor_module, "RESTART_SECONDS", 0.1)
    predictor = Predictor(Path("model"))
    predictor.start()
    yield predictor
    predictor.close()


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_each_task_gets_its_own_result(predictor):
    futures = [predictor.submit("echo", number) for number in range(200)]
    results = [future.result(timeout=30) for future in futures]
    assert [number for number, _ in results] == list(range(200))
    assert len({pid for _, pid in results}) == 1 and results[0][1] != os.getpid()


def test_a_failure_is_told_and_hurts_nobody_else(predictor):
    failed = predictor.submit("fail", "it is flat")
    with pytest.raises(TaskError, match="it is flat"):
        failed.result(timeout=30)
    assert predictor.submit("echo", 1).result(timeout=30)[0] == 1


def test_a_process_that_ends_is_started_again(predictor):
    pid = predictor.submit("echo", 0).result(timeout=30)[1]
    ended = predictor.submit("end")
    after = predictor.submit("echo", 1)
    with pytest.raises(WorkerEnded, match="ended"):
        ended.result(timeout=30)
    assert after.result(timeout=30)[1] != pid
    os.kill(pid := after.result()[1], signal.SIGKILL)
    number, other_pid = [predictor.submit("echo", 2), predictor.submit("echo", 3)][1].result(timeout=30)
    assert number == 3 and other_pid != pid


def test_a_task_that_takes_too_long_is_given_up(predictor, monkeypatch):
    pid = predictor.submit("echo", 0).result(timeout=30)[1]
    monkeypatch.setattr(predictor_module, "TASK_SECONDS", 0.3)
    with pytest.raises(WorkerEnded, match="more than 0.3 s"):
        predictor.submit("sleep", 60).result(timeout=30)
    monkeypatch.setattr(predictor_module, "TASK_SECONDS", 30.0)
    assert predictor.submit("echo", 1).result(timeout=30)[1] != pid and not is_running(pid)


def test_urgent_tasks_come_before_background_tasks(predictor):
    predictor.submit("echo", 0).result(timeout=30)
    stored, order = threading.Event(), []

    def find_background_task():
        if len(order) > 50:
            return None
        return Path("x"), lambda result: (order.append("background"), len(order) > 3 and stored.set())

    predictor.find_background_task = find_background_task
    predictor.wake()
    assert stored.wait(30)
    futures = [predictor.submit("echo", number) for number in range(10)]
    for future in futures:
        future.add_done_callback(lambda done: order.append("urgent"))
    wait(futures, timeout=30)
    urgent = [index for index, kind in enumerate(order) if kind == "urgent"]
    assert len(urgent) == 10 and urgent[-1] - urgent[0] == 9, "no background task between them"


def test_a_recording_that_ends_the_process_is_given_up_and_the_next_one_predicted(predictor):
    results, paths = {}, [Path("good"), Path("deadly"), Path("better")]
    done = threading.Event()

    def find_background_task():
        left = [path for path in paths if path not in results]
        if not left:
            done.set()
            return None
        return left[0], lambda result: results.update({left[0]: result})

    predictor.find_background_task = find_background_task
    predictor.wake()
    assert done.wait(60)
    assert isinstance(results[Path("deadly")], str) and "ended" in results[Path("deadly")]
    assert results[Path("good")].lead_set == results[Path("better")].lead_set == 12


def test_too_many_tasks_are_refused(predictor, monkeypatch):
    predictor.submit("sleep", 1)
    monkeypatch.setattr(predictor_module, "MOST_WAITING", 5)
    with pytest.raises(BusyError):
        for _ in range(20):
            predictor.submit("echo", 0)


def test_closing_cancels_what_waits_and_ends_the_process(predictor):
    pid = predictor.submit("echo", 0).result(timeout=30)[1]
    running = predictor.submit("sleep", 60)
    waiting = [predictor.submit("echo", number) for number in range(5)]
    time.sleep(0.2)
    start = time.monotonic()
    predictor.close()
    assert time.monotonic() - start < 5 and not is_running(pid)
    with pytest.raises(WorkerEnded, match="stops"):
        running.result(timeout=1)
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(timeout=1)
    with pytest.raises(BusyError):
        predictor.submit("echo", 0)
