#!/usr/bin/env bash
# Trains on several machines of a Slurm cluster, one process per GPU. From a folder that all of them
# share, with vitjax installed there in .venv:
#
#   sbatch --nodes=4 scripts/launch/slurm.sh --config=imagenet/vit_s16 --workdir=/shared/runs/vit
#
# Arguments are those of `vitjax train`. The options of #SBATCH can be replaced on sbatch's line, and a
# cluster may need --partition and --account. Without GPUs: --gpus-per-node=0 --ntasks-per-node=1.
#SBATCH --job-name=vitjax
#SBATCH --nodes=2
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# Three minutes before the time is up, all hosts are told to save and to stop.
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -uo pipefail

# One task per GPU: JAX reads number and address from Slurm's variables, which srun sets, and takes the
# GPU of the task's number on its machine. The others may save although one has ended.
srun --kill-on-bad-exit=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    .venv/bin/vitjax train --distributed "$@"
status=$?

# 143: stopped by a signal, with a checkpoint. 75: a host was lost; the newest checkpoint is older.
# The same job, queued again, resumes from it. Any other status is an error to look at.
if [ "$status" -eq 143 ] || [ "$status" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
