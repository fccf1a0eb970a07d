"""One training by two processes over loopback, on JAX."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ecg.runtime.peers import RESUME_ADVICE

ROOT = Path(__file__).parents[2]
START = """
import os, sys
sys.path[:0] = ["tests", "tests/unit/training"]
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from ecg.runtime.keras_startup import start_keras
start_keras(devices=False)
import numpy as np
from ecg.commands.joint import leading_runner
from ecg.models.network_settings import NetworkSettings
from ecg.runtime.console import start_logging
from ecg.runtime.limits import TimeBudget
from ecg.systems.stage import Stage
from ecg.systems.stage_runner import StageRunner
from ecg.training.losses import AsymmetricLoss
from ecg.training.settings import TrainingSettings
from test_trainer import beats_store, stage_like

folder, processes = Path(sys.argv[1]), int(sys.argv[2])
store = beats_store(24, lengths=(600, 1100))  # crops of two lengths
masks = np.random.default_rng(1).integers(0, 2, store.labels.shape).astype(np.float32)
records, targets = np.arange(24), store.labels.astype(np.float32)
"""
# Two processes divide some batches equally, and others not.
ALIKE = (
    START
    + """
learning = TrainingSettings(batch=5, smallest_batch=5, steps=3, first_rate=1e-3, epochs=2)
network = NetworkSettings(width=2, kernels=(3,), squeeze_ratio=2, hidden=4)  # with dropout
lengths = Stage("lengths", "lengths", ("I", "II"), AsymmetricLoss(), records, targets, masks, records[:17],
                records[17:], records[:5], network, learning,
                augmentations=("gain", "noise", "wander", "lead_dropout", "time_mask"))
found = {}
with nullcontext(StageRunner) if processes == 1 else leading_runner(folder, processes, "test") as runner_type:
    leads, leads_store = stage_like("nejedly2021")  # demographics, drawn leads, logits, clipped gradients
    learning = replace(leads.learning, batch=5, smallest_batch=5, epochs=1)
    leads = replace(leads, key="leads", learning=learning, augmentations=("mixup",))
    for stage, stage_store in ((lengths, store), (leads, leads_store)):
        runner = runner_type({stage.view.preparation: stage_store}, folder / "stages", 1, TimeBudget(None))
        outcome = runner.run(stage)
        found[f"{stage.key} losses"] = np.array([(epoch.loss, epoch.validation_loss) for epoch in outcome.epochs])
        found[f"{stage.key} probabilities"] = outcome.probabilities
        found[f"{stage.key} weights"] = np.concatenate([array.ravel() for array in outcome.weights])
    np.savez(folder / "found.npz", **found)
"""
)
RESUMED = (
    START
    + """
learning = TrainingSettings(batch=4, smallest_batch=4, steps=12, first_rate=1e-3, epochs=6, patience=6)
network = NetworkSettings(width=2, kernels=(), hidden=4)
stage = Stage("trial", "trial", ("I", "II"), AsymmetricLoss(), records, targets, masks, records[:17], records[17:],
              records, network, learning)
start_logging()
with leading_runner(folder, processes, "test") as runner_type:
    runner = runner_type({stage.view.preparation: store}, folder / "stages", 1, TimeBudget(100))
    runner.run(stage)
"""
)


def start(code, *arguments, **variables):
    """Start code in a process of its own, with variables of the environment."""
    flags = "--xla_backend_optimization_level=0"  # compiled quickly
    environment = os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": flags} | variables
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def start_two(code, folder):
    """Start code in two processes, as a launcher does."""
    return [start(code, folder, 2, RANK=str(number), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1") for number in (0, 1)]


def wait_for_line(process, part):
    """Read what a process prints until a line has some text."""
    for line in process.stdout:
        if part in line:
            return
    pytest.fail(f"no line with {part!r}, but {process.stderr.read()}")


def end(process):
    """Return the status of a process at its end, what it printed, and the errors that it reported."""
    output, errors = process.communicate(timeout=500)
    return process.returncode, output, [line for line in errors.splitlines() if line.startswith(("test: ", "F"))]


def arrays_of(folder):
    """Return the arrays of all results that a training has left in its stages, by name."""
    results = {}
    for path in folder.glob("stages/*/result.npz"):
        with np.load(path) as arrays:
            results |= {name: arrays[name] for name in arrays.files if name not in ("used", "key")}
    return results


@pytest.mark.slow
def test_two_processes_train_as_a_single_one_does(tmp_path):
    (tmp_path / "alone").mkdir()
    for processes in ([start(ALIKE, tmp_path / "alone", 1)], start_two(ALIKE, tmp_path / "two")):
        for process in processes:
            status, _, errors = end(process)
            assert (status, errors) == (0, [])
    with np.load(tmp_path / "alone/found.npz") as expected, np.load(tmp_path / "two/found.npz") as results:
        assert len(expected.files) == 6
        for name in expected.files:
            # Adam divides a gradient by its size: rounding moves a weight whose gradient is almost 0 more.
            atol = 5e-5 if name.endswith("weights") else 1e-7
            np.testing.assert_allclose(results[name], expected[name], rtol=1e-6, atol=atol, err_msg=name)
    written = sorted(path.name for path in (tmp_path / "two").rglob("*") if path.is_file())
    assert written == ["found.npz", "result.npz", "result.npz"]  # by process 0


@pytest.mark.slow
def test_after_any_process_is_killed_the_same_command_resumes_to_the_same_result(tmp_path):
    lines = {0: "process 1 on {} ends, because process 0 has ended", 1: "process 1 on {} has ended"}
    for victim, part in ((1, "epoch 2: "), (0, "epoch 4: ")):
        processes = start_two(RESUMED, tmp_path / "model")
        wait_for_line(processes[0], part)
        processes[victim].kill()
        killed = time.monotonic()
        status, _, errors = end(processes[1 - victim])
        assert status != 0 and time.monotonic() - killed < 30
        assert errors == [f"test: error: {lines[victim].format(socket.gethostname())}; {RESUME_ADVICE}"]
        assert end(processes[victim])[0] == -signal.SIGKILL
        assert list(tmp_path.glob("model/stages/*/progress.npz"))
    first, second = start_two(RESUMED, tmp_path / "model")
    status, output, errors = end(first)
    assert (status, errors) == (0, []) and "trial: resumed after epoch " in output
    assert end(second) == (0, "", [])  # process 0 alone logs
    straight = start(RESUMED, tmp_path / "straight", 2)  # it starts the other process itself
    assert end(straight)[::2] == (0, [])
    resumed, expected = arrays_of(tmp_path / "model"), arrays_of(tmp_path / "straight")
    assert len(expected) > 5 and resumed.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(resumed[name], array, err_msg=name)


@pytest.mark.slow
def test_another_backend_is_one_clear_error(tmp_path):
    command = [sys.executable, "-m", "ecg", "train", tmp_path, tmp_path / "model", "--processes", "2"]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ | {"KERAS_BACKEND": "tensorflow"}, capture_output=True,
                           text=True)  # fmt: skip
    assert ended.returncode == 1 and not (tmp_path / "model").exists()
    assert "error: --processes needs JAX" in ended.stderr and ended.stderr.count("\n") == 1
