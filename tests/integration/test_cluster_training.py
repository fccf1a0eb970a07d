"""Trainings and comparisons by a cluster give what one machine gives, also if workers are killed meanwhile."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from cluster import run_cluster

from ecg.data.synthetic import synthesize

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TRAINED = "--width 4 --leads 3 2 --epochs 3 --resamples 2 --no-masks --no-relabel-cpsc --no-relabel-flutter".split()
COMPARED = "--systems cai2021-no-masks se_resnet_rhythm --width 4 --depth 18 --leads 2 --folds 2 --epochs 1".split()
# Results are the same to the bit with the same number of threads.
THREADS = {"TF_NUM_INTRAOP_THREADS": "2", "TF_NUM_INTEROP_THREADS": "2", "OMP_NUM_THREADS": "2"}
WORKER = r"127\.0\.0\.1:\d+"


class Command:
    """A command in a process of its own, with what it has printed on standard output and standard error."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "ecg", *map(str, arguments)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=os.environ | THREADS, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)  # fmt: skip

    def lines(self):
        """Wait for a good end, and return the lines on standard output."""
        printed, errors = self.process.communicate()
        assert self.process.returncode == 0, errors
        return printed.splitlines()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    synthesize(folder, 60, seed=1)
    return folder


@pytest.fixture(scope="module")
def local_model(data, tmp_path_factory):
    """A model that one process has trained."""
    folder = tmp_path_factory.mktemp("local") / "model"
    Command("train", data, folder, *TRAINED, "--jobs", 1).lines()
    return folder


@pytest.fixture(scope="module")
def whole_cluster(tmp_path_factory):
    with run_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def small_cluster(whole_cluster):
    """A cluster whose workers are all there, also after a test that has killed some."""
    whole_cluster.wait()
    return whole_cluster


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*_leads*")}


def wait_until(condition, command):
    """Wait until a condition holds, while a command runs."""
    deadline = time.monotonic() + 600
    while not (value := condition()):
        assert command.process.poll() is None and time.monotonic() < deadline, command.process.communicate()
        time.sleep(0.02)
    return value


def who_begins(lines, text):
    """Return the workers that say a text, by what precedes it."""
    matches = [re.match(rf"({WORKER}): (.*): {text}", line) for line in lines]
    return [(match[2], match[1]) for match in matches if match]


def test_a_training_by_two_workers_equals_that_of_one_process(data, local_model, small_cluster, tmp_path):
    model = tmp_path / "model"
    lines = Command("train", data, model, *TRAINED, "--cluster", small_cluster.address).lines()
    assert digests(model) == digests(local_model) != {}
    begun = who_begins(lines, "is trained on ")
    assert sorted(title for title, _ in begun) == ["round 2, 2 leads", "round 2, 3 leads"]
    assert len({worker for _, worker in begun}) == 2
    assert "2 networks to train, 2 at the same time" in lines
    assert not (model / "stages").exists()


def test_a_worker_that_is_killed_in_a_stage_changes_nothing(data, local_model, small_cluster, tmp_path):
    model = tmp_path / "model"
    command = Command("train", data, model, *TRAINED, "--cluster", small_cluster.address)
    wait_until(lambda: any(model.glob("stages/general_*/progress.npz")), command)
    for pid in small_cluster.pids().values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    lines = command.lines()
    assert digests(model) == digests(local_model) != {}
    assert who_begins(lines, "resumed after epoch [12]$")


def test_a_comparison_by_two_workers_equals_that_of_one_machine(data, small_cluster, tmp_path):
    local, shared = tmp_path / "local", tmp_path / "shared"
    Command("compare", data, local, *COMPARED, "--jobs", 1).lines()
    lines = Command("compare", data, shared, *COMPARED, "--cluster", small_cluster.address).lines()
    results = sorted(path.relative_to(local) for path in local.glob("stages/fold*/*/predictions.npz"))
    assert len(results) == 4
    for path in results:
        with np.load(local / path) as expected, np.load(shared / path) as arrays:
            names = [name for name in expected.files if "costs" not in name]  # which have the seconds
            assert names and arrays.files == expected.files
            for name in names:
                np.testing.assert_array_equal(arrays[name], expected[name])
    for name in ("overall", "by_class", "by_fold", "differences", "recordings"):
        assert (shared / f"comparison/{name}.csv").read_text() == (local / f"comparison/{name}.csv").read_text() != ""
    workers = {
        match[1] for line in lines if (match := re.match(rf"({WORKER}): (cai2021-no-masks|se_resnet_rhythm): ", line))
    }
    assert len(workers) == 2
    assert {path.name for path in (shared / "stages").iterdir() if not path.name.startswith("store")} == {
        "fold1of2", "fold2of2", "lock"}  # fmt: skip
    assert not [*shared.glob("stages/fold*/networks_*")]
