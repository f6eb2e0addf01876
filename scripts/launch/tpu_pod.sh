#!/usr/bin/env bash
# Trains on all workers of a Cloud TPU pod slice, which exists and has vitjax in ~/vitjax:
#
#   TPU=my-pod ZONE=us-central1-a bash scripts/launch/tpu_pod.sh \
#       --config=imagenet/vit_s16 --workdir=/mnt/shared/runs/vit
#
# Arguments are those of `vitjax train`. The workdir lies on a file system that all workers have mounted
# at the same place, such as Filestore. To prepare the workers once:
#
#   gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command='
#       git clone URL ~/vitjax && cd ~/vitjax && python3 -m venv .venv &&
#       .venv/bin/pip install -c requirements.txt -e ".[tpu]"'
set -euo pipefail
: "${TPU:?the name of the TPU}" "${ZONE:?its zone}"

# All workers start the same command; JAX reads their numbers and addresses from the TPU's metadata.
command="cd ~/vitjax && .venv/bin/vitjax train --distributed$(printf ' %q' "$@")"

# A worker that is lost ends the others with status 75. The same command resumes from the newest
# checkpoint. A preempted (spot) TPU has to be created again first.
for attempt in 1 2 3; do
    status=0
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$command" || status=$?
    if [ "$status" -ne 75 ]; then
        break
    fi
    echo "attempt $attempt: a worker was lost" >&2
done
exit "$status"
