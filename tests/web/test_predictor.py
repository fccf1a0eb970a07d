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
from ecg.web.predictions import PREDICTED, UNKNOWN
from ecg.web.predictor import BackgroundTask, BusyError, Predictor, TimeLimitError, WorkerEnded

pytestmark = pytest.mark.slow  # each starts a process


@pytest.fixture
def predictor(monkeypatch):
    monkeypatch.setattr(predictor_module, "run_worker", stand_in_worker.run_worker)
    monkeypatch.setattr(predictor_module, "RESTART_SECONDS", 0.1)
    predictor = Predictor(Path("model"))
    predictor.start()
    yield predictor
    predictor.close()


def make_task(name, store, fail=lambda reason: None, postpone=lambda: None):
    return BackgroundTask(Path(name), store, fail, postpone)


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
    with pytest.raises(TimeLimitError, match="more than 0.3 s"):
        predictor.submit("sleep", 60).result(timeout=30)
    monkeypatch.setattr(predictor_module, "TASK_SECONDS", 30.0)
    assert predictor.submit("echo", 1).result(timeout=30)[1] != pid and not is_running(pid)


def test_urgent_tasks_come_before_background_tasks(predictor):
    predictor.submit("echo", 0).result(timeout=30)
    stored, order = threading.Event(), []

    def find_background_task():
        if len(order) > 50:
            return None
        return make_task("x", lambda result: (order.append("background"), len(order) > 3 and stored.set()))

    predictor.find_background_task = find_background_task
    predictor.wake()
    assert stored.wait(30)
    futures = [predictor.submit("echo", number) for number in range(10)]
    for future in futures:
        future.add_done_callback(lambda done: order.append("urgent"))
    wait(futures, timeout=30)
    urgent = [index for index, kind in enumerate(order) if kind == "urgent"]
    assert len(urgent) == 10 and urgent[-1] - urgent[0] == 9, "no background task between them"


def test_recordings_that_end_the_process_or_cannot_be_read_are_given_up_and_the_next_one_predicted(predictor):
    results, names = {}, ["good", "deadly", "locked", "better"]
    done = threading.Event()

    def find_background_task():
        name = next((name for name in names if name not in results), None)
        if name is None:
            done.set()
            return None
        return make_task(name, lambda result: results.update({name: result}), lambda why: results.update({name: why}))

    predictor.find_background_task = find_background_task
    predictor.wake()
    assert done.wait(60)
    assert "ended" in results["deadly"] and results["locked"] == "Permission denied"
    assert results["good"].lead_set == results["better"].lead_set == 12


def test_what_a_page_shows_comes_first_and_the_newest_explanation_next(predictor):
    predictor.submit("echo", 0).result(timeout=30)
    order, begun = [], predictor.submit("sleep", 1)
    time.sleep(0.2)
    explanations = [("explain_record", "old", 0), ("explain_record", "new", 0)]
    tasks = [("echo", 1), *explanations, ("predict_record", "a"), ("echo", 2)]
    futures = [begun, *(predictor.submit(*task) for task in tasks)]
    for task, future in zip(tasks, futures[1:], strict=True):
        future.add_done_callback(lambda done, task=task: order.append(task[1]))
    assert not wait(futures, timeout=30).not_done
    assert order == ["a", "new", "old", 1, 2]


def test_cancelled_tasks_are_not_done_and_make_room(predictor, monkeypatch):
    pid = predictor.submit("echo", 0).result(timeout=30)[1]
    predictor.submit("sleep", 0.5)
    time.sleep(0.2)
    monkeypatch.setattr(predictor_module, "MOST_WAITING", 5)
    for _ in range(20):
        assert predictor.submit("end").cancel()
    assert predictor.submit("echo", 1).result(timeout=30) == (1, pid), "the process was not ended"


def test_a_background_task_gives_way_to_an_urgent_one(predictor, monkeypatch):
    monkeypatch.setattr(predictor_module, "PATIENCE_SECONDS", 0.2)
    predictor.submit("echo", 0).result(timeout=30)
    names, postponed, stored = ["slow", "fast"], threading.Event(), threading.Event()

    def find_background_task():
        return make_task(names.pop(0), lambda result: stored.set(), postpone=postponed.set) if names else None

    predictor.find_background_task = find_background_task
    predictor.wake()
    time.sleep(1)
    assert not postponed.is_set(), "nothing urgent waits"
    start = time.monotonic()
    assert predictor.submit("echo", 1).result(timeout=30)[0] == 1
    assert time.monotonic() - start < 20 and postponed.is_set() and stored.wait(30)


def test_the_start_of_the_process_is_no_part_of_a_task(predictor, monkeypatch):
    monkeypatch.setattr(predictor_module, "TASK_SECONDS", 0.3)
    monkeypatch.setattr(predictor_module, "RESTART_SECONDS", 1.5)
    predictor.submit("echo", 0).result(timeout=30)
    with pytest.raises(WorkerEnded):
        predictor.submit("end").result(timeout=30)
    assert predictor.submit("echo", 1).result(timeout=30)[0] == 1


class TestWorkbench:
    """The workbench with a prediction process."""

    @pytest.fixture
    def bench(self, make_bench, predictor):
        bench = make_bench(runner=predictor)
        bench._next = iter(())
        predictor.find_background_task = bench.find_background_task
        return bench

    def test_a_slow_recording_is_left_to_the_background(self, bench, predictor, monkeypatch):
        predictor.submit("echo", 0).result(timeout=30)
        monkeypatch.setattr(predictor_module, "TASK_SECONDS", 0.3)
        monkeypatch.setattr(bench.catalogue, "path", lambda row: Path("slow" if row == 3 else "x"), raising=False)
        with pytest.raises(TimeLimitError):
            bench.predict_row(3).result(timeout=30)
        wait([bench.predict_row(4)], timeout=30)
        assert bench.predictions.state[[3, 4]].tolist() == [UNKNOWN, PREDICTED]
        assert bench.predict_row(3) is None, "it is not tried again at once"

    def test_an_explanation_that_takes_too_long_is_told(self, bench, predictor, make_client, monkeypatch):
        predictor.submit("echo", 0).result(timeout=30)
        monkeypatch.setattr(predictor_module, "TASK_SECONDS", 0.3)
        parameters = {"record": bench.catalogue.keys[0], "class": "NSR", "method": "occlusion"}
        client = make_client(bench)
        predictor.submit = lambda name, *arguments: Predictor.submit(predictor, "sleep", 60)
        answer = client.get("/api/explanation", params=parameters)
        assert answer.status_code == 504
        assert answer.json() == {"error": "The recording cannot be explained: it took more than 0.3 s"}

    def test_who_waits_for_too_long_is_told_and_forgotten(self, bench, predictor, make_client, monkeypatch):
        monkeypatch.setattr("ecg.web.app.ANSWER_SECONDS", 0.3)
        begun, client = predictor.submit("sleep", 2), make_client(bench)
        parameters = {"record": bench.catalogue.keys[0], "class": "NSR", "method": "occlusion"}
        answer = client.get("/api/explanation", params=parameters)
        assert answer.status_code == 503 and "try again" in answer.json()["error"]
        assert all(task.future.cancelled() for task in predictor._waiting)
        begun.result(timeout=30)


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
