#!/usr/bin/env bash
# Installs vitjax into .venv and trains a small ViT on handwritten digits, on a CPU in minutes and
# without a download. Arguments go on to `vitjax train`:
#
#   bash scripts/quickstart.sh --config.train.epochs=20
#
# PYTHON and VITJAX_VENV choose the interpreter and the environment, as scripts/install.sh says.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
python=$(bash scripts/install.sh)

# A finished run is left as it is: every call trains into a folder of its own.
workdir=runs/digits_vit
number=1
while [ -e "$workdir" ]; do
    number=$((number + 1))
    workdir=runs/digits_vit_$number
done
exec "$python" -m vitjax train --config=configs/digits/vit.py --workdir="$workdir" "$@"
