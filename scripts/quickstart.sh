#!/usr/bin/env bash
# Installs vitjax into .venv and trains a small ViT on handwritten digits, on a CPU in minutes and
# without a download. Arguments are passed to `vitjax train`:
#
#   bash scripts/quickstart.sh --config.train.epochs=20
#
# PYTHON and VITJAX_VENV choose the interpreter and the environment, see scripts/install.sh.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
python=$(bash scripts/install.sh)

# Every call trains into a new folder, so a finished run stays.
workdir=runs/digits_vit
number=1
while [ -e "$workdir" ]; do
    number=$((number + 1))
    workdir=runs/digits_vit_$number
done
exec "$python" -m vitjax train --config=configs/digits/vit.py --workdir="$workdir" "$@"
