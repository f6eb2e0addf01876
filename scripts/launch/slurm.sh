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

# What each task ends with: srun tells the highest status alone, and 137 of a killed one hides the others.
statuses=$PWD/slurm-$SLURM_JOB_ID-statuses
rm -rf "$statuses" && mkdir "$statuses" || exit 1

# One task per GPU: JAX reads number and address from Slurm's variables, which srun sets, and takes the
# GPU of the task's number on its machine. The others may save although one has ended. The trap lets the
# shell wait for vitjax, which receives the signal too.
srun --kill-on-bad-exit=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c '
    trap : TERM INT
    .venv/bin/vitjax train --distributed "${@:2}"
    status=$?
    echo "$status" >"$1/$SLURM_PROCID"
    exit "$status"' task "$statuses" "$@"
status=$?

# 1 and 2 are errors to look at, of any task. Otherwise the same job, queued again, resumes from the newest
# checkpoint: 143 is a stop by a signal, 75 a lost host, and a task that was killed leaves 137 or no file.
if [ "$status" -ne 0 ] && ! grep -qxE "1|2" "$statuses"/* 2>/dev/null; then
    if [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
        scontrol requeue "$SLURM_JOB_ID"
    else
        echo "queued again ${SLURM_RESTART_COUNT} times, and no more" >&2
    fi
fi
rm -rf "$statuses"
exit "$status"
