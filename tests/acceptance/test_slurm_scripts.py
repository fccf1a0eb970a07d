"""The job scripts of the documentation, with a stand-in for Slurm's srun that starts a command on this machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ecg.data.synthetic import synthesize

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "docs").glob("slurm_*.sh"))
SRUN = 'while [[ "$1" == --* ]]; do shift; done; exec "$@"'
SRUN_TWICE = (
    'while [[ "$1" == --* ]]; do shift; done; for i in 0 1; do SLURM_PROCID=$i SLURM_STEP_NUM_TASKS=2 "$@"; done'
)
PRINTED = 'echo "$SLURM_PROCID $KERAS_BACKEND $*"'


def run_script(name, folder, arguments, srun, ecg, **variables):
    """Run a job script as sbatch would, and return what it prints."""
    commands = folder / "venv" / "bin"
    commands.mkdir(parents=True)
    for command, code in (("srun", srun), ("ecg", ecg)):
        (commands / command).write_text(f"#!/bin/bash\n{code}\n")
        (commands / command).chmod(0o755)
    (commands / "activate").write_text(f'export PATH="{commands}:{Path(sys.executable).parent}:$PATH"\n')
    variables |= {"VENV": str(folder / "venv"), "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURMD_NODENAME": "node1",
                  "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}  # fmt: skip
    finished = subprocess.run(["bash", ROOT / "docs" / name, *map(str, arguments)], cwd=folder, timeout=500,
                              env=os.environ | variables, capture_output=True, text=True)  # fmt: skip
    logs = "".join(path.read_text() for path in folder.glob("cluster-7/*.log"))
    assert finished.returncode == 0, finished.stderr + logs
    return finished.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_bash_can_read_a_script_and_sbatch_its_options(script):
    subprocess.run(["bash", "-n", script], check=True)
    options = [line for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    assert len(options) >= 5 and all(line.startswith("#SBATCH --") and "=" in line for line in options)


def test_there_is_a_script_for_a_cluster_and_one_for_joint_processes():
    assert [script.name for script in SCRIPTS] == ["slurm_cluster.sh", "slurm_processes.sh"]


def test_each_process_of_a_job_gets_the_same_command(tmp_path):
    printed = run_script("slurm_processes.sh", tmp_path, ["/data of us", "/model"], SRUN_TWICE, PRINTED)
    assert printed.splitlines() == [f"{i} jax train /data of us /model --processes 2" for i in (0, 1)]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dask", path=Path(sys.executable).parent) is None, reason="dask is not a command here")
@pytest.mark.parametrize("gpus", ["0", "1"])
def test_a_job_starts_scheduler_and_workers_and_runs_a_command_by_them(tmp_path, gpus):
    synthesize(tmp_path / "data", 20, seed=1)
    variables = {"SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "1", "SLURM_GPUS_ON_NODE": gpus,
                 "TMPDIR": str(tmp_path), "INTERFACE": "lo"}  # fmt: skip
    printed = run_script("slurm_cluster.sh", tmp_path, ["audit", tmp_path / "data"], SRUN, "exec python -m ecg \"$@\"",
                         **variables)  # fmt: skip
    assert "20" in printed
    logs = {path.name: path.read_text() for path in (tmp_path / "cluster-7").glob("*.log")}
    assert all("Registered to" in logs[name] for name in ("readers.log", "trainers.log"))
