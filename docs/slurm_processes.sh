#!/bin/bash
#SBATCH --job-name=ecg
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00

# Train each network by all processes of a job together, one for each task.
#
#     sbatch slurm_processes.sh /shared/DATA /shared/MODEL
#
# Submit it from a folder that all nodes see. VENV is the Python environment with this program. Submit the same again
# after the time limit: it goes on at the last whole epoch.

set -euo pipefail
source "${VENV:-.venv}/bin/activate"
export KERAS_BACKEND=jax
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=1 ecg train "$@" --processes "$SLURM_NTASKS"
