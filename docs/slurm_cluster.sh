#!/bin/bash
#SBATCH --job-name=ecg
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00

# Start a Dask scheduler and workers on the nodes of a job, and run a command by them.
#
#     sbatch slurm_cluster.sh train /shared/DATA /shared/MODEL
#
# Submit it from a folder that all nodes see. VENV is the Python environment with this program, INTERFACE the name of
# the network's interface if the host names do not lead to it, such as ib0. Without GPUs, omit --gpus-per-node: then a
# training takes all processors of a node. Submit the same again after the time limit: it goes on where it was.

set -euo pipefail
source "${VENV:-.venv}/bin/activate"

run=$PWD/cluster-$SLURM_JOB_ID # the address of the scheduler, and its log and the workers'
mkdir "$run"
nodes=$SLURM_JOB_NUM_NODES cores=${SLURM_CPUS_PER_TASK:-1} gpus=${SLURM_GPUS_ON_NODE:-0}
# On all nodes, beside what runs there already.
each_node=(srun --overlap --nodes="$nodes" --ntasks-per-node=1 --cpus-per-task="$cores" --cpu-bind=none)
worker=(dask worker --scheduler-file "$run/scheduler.json" --nthreads 1 --no-dashboard --death-timeout 300
    --local-directory "${TMPDIR:-/tmp}")
if [ -n "${INTERFACE:-}" ]; then
    address=(--interface "$INTERFACE")
    worker+=(--interface "$INTERFACE")
else
    address=(--host "$(hostname)")
fi

trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
srun --overlap --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" \
    dask scheduler "${address[@]}" --port 0 --scheduler-file "$run/scheduler.json" --no-dashboard \
    &> "$run/scheduler.log" &

# For reading, a worker for each core.
"${each_node[@]}" "${worker[@]}" --nworkers "$cores" &> "$run/readers.log" &
# For trainings, a worker for each GPU, which srun makes visible to it alone, or one for all cores of a node.
if [ "$gpus" -gt 0 ]; then
    slots=$gpus
    srun --overlap --nodes="$nodes" --ntasks-per-node="$gpus" --gpus-per-task=1 --cpu-bind=none \
        "${worker[@]}" --resources "GPU=1" &> "$run/trainers.log" &
else
    slots=1
    "${each_node[@]}" "${worker[@]}" --resources "SLOT=1" &> "$run/trainers.log" &
fi

# The command counts the slots when it starts, so all workers must be there.
address=$(python - "$run/scheduler.json" "$((nodes * (cores + slots)))" << 'END'
import sys
import time
from pathlib import Path

from distributed import Client

file, deadline = Path(sys.argv[1]), time.monotonic() + 300
while not (file.exists() and file.read_text().endswith("}")) and time.monotonic() < deadline:
    time.sleep(1)
with Client(scheduler_file=sys.argv[1], timeout=300) as client:
    client.wait_for_workers(int(sys.argv[2]), timeout=300)
    print(client.scheduler.address)
END
)
ecg "$@" --cluster "$address"
