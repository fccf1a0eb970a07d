"""Ctrl-C in real processes: one line, status 130, and a second run that ends well."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import drop_progress

from ecg.data.synthetic import synthesize
from ecg.runtime.console import INTERRUPTED, INTERRUPTED_MESSAGE, RESUME_MESSAGE

ROOT = Path(__file__).parents[2]
SMALL = "--width 4 --leads 2 --epochs 2 --jobs 2 --resamples 5".split()
COMPARED = "--systems cai2021-no-relabelling --width 4 --leads 2 --epochs 1 --folds 2 --jobs 2".split()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of 120 recordings: more than one process takes at once."""
    folder = tmp_path_factory.mktemp("data")
    synthesize(folder, 120, seed=1)
    return folder


def interrupt(command, until, wait=0.0):
    """Send SIGINT to a command and all that it started, `wait` seconds after something was the case.

    That is a text in a line of standard output, or what a function of the process's number returns. Returns the status,
    the lines on standard error without those on progress, and the lines on standard output.
    """
    lines, reached = [], threading.Event()
    with subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip

        def read():
            for line in process.stdout:
                lines.append(line)
                if isinstance(until, str) and until in line:
                    reached.set()

        reader = threading.Thread(target=read)
        reader.start()
        deadline = time.monotonic() + 300
        while not (reached.wait(0.02) or (callable(until) and until(process.pid))):
            assert process.poll() is None and time.monotonic() < deadline, "it did not come so far"
        time.sleep(wait)
        assert process.poll() is None, "it ended before it was interrupted"
        os.killpg(process.pid, signal.SIGINT)
        error = process.stderr.read()
        reader.join()
        status = process.wait()
        deadline = time.monotonic() + 20
        while processes_of(process.pid) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not processes_of(process.pid)
    return status, drop_progress(error), lines


def starts_keras(process):
    """Return whether a process has begun to load TensorFlow."""
    return "tensorflow" in Path(f"/proc/{process}/maps").read_text()


def processes_of(session):
    """Return the numbers of the processes of a session that still run."""
    processes = subprocess.run(["ps", "-s", str(session), "-o", "pid=,stat="], capture_output=True, text=True).stdout
    rows = [line.split() for line in processes.splitlines()]
    return [int(number) for number, state in rows if not state.startswith("Z")]


def run(command):
    return subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*_leads*")}


@pytest.mark.slow
def test_a_training_that_is_interrupted_again_and_again_comes_to_the_same(data, tmp_path):
    command = ["-m", "ecg", "train", data, tmp_path / "model", *SMALL]
    phases = [
        (starts_keras, 0.2),
        ("Keras", 0.3),  # two processes start, and read recordings
        ("recordings stored", 0.5),  # a step is compiled
        ("epoch 1", 0.0),
        ("round 1", 0.1),
        ("2 leads, epoch 2", 0.3),  # models are saved, and the report written
    ]
    for phase, wait in phases:
        status, error, lines = interrupt(command, phase, wait)
        assert (status, error) == (INTERRUPTED, [RESUME_MESSAGE]), (phase, lines)
    ended = run(command)
    assert (ended.returncode, drop_progress(ended.stderr)) == (0, []), ended.stdout
    straight = ["-m", "ecg", "train", data, tmp_path / "straight", *SMALL]
    assert run(straight).returncode == 0
    assert digests(tmp_path / "model") == digests(tmp_path / "straight") != {}
    assert not list(tmp_path.glob("**/.part*"))


@pytest.mark.slow
def test_a_comparison_that_is_interrupted_is_resumed(data, tmp_path):
    command = ["-m", "ecg", "compare", data, tmp_path / "report", *COMPARED]
    for phase, wait in [("held out", 0.2), ("held out", 3.0), ("epoch 1", 0.0), ("fold 2 of 2: ", 1.0)]:
        status, error, lines = interrupt(command, phase, wait)
        assert (status, error) == (INTERRUPTED, [RESUME_MESSAGE]), (phase, lines)
    ended = run(command)
    assert (ended.returncode, drop_progress(ended.stderr)) == (0, []), ended.stdout
    assert (tmp_path / "report/comparison/comparison.html").is_file()


@pytest.mark.slow
def test_the_script_of_a_training_is_interrupted_in_one_line(data, tmp_path):
    status, error, _ = interrupt(["train_model.py", data, tmp_path / "model"], "Keras", 1.0)
    assert (status, error) == (INTERRUPTED, [RESUME_MESSAGE])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what a process has loaded")
def test_a_command_is_interrupted_in_one_line_while_keras_starts(data, tmp_path):
    status, error, lines = interrupt(["-m", "ecg", "estimate", data], starts_keras, 0.2)
    assert (status, error, lines) == (INTERRUPTED, [INTERRUPTED_MESSAGE], [])


@pytest.mark.parametrize("command", ["audit", "synthesize"])
def test_a_command_with_nothing_to_resume_is_interrupted_in_one_line(data, tmp_path, command):
    arguments, begun = {
        "audit": ([data, "--output", tmp_path / "audit", "--jobs", 2], ".part.audit"),
        "synthesize": ([tmp_path / "data", "--records", 20000, "--jobs", 2], "data/*.mat"),
    }[command]
    status, error, lines = interrupt(["-m", "ecg", command, *arguments], lambda _: any(tmp_path.glob(begun)))
    assert (status, error, lines) == (INTERRUPTED, [INTERRUPTED_MESSAGE], [])
    assert not list(tmp_path.glob(".part*"))
