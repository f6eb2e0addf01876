#!/usr/bin/env bash
# Installs vitjax with its development tools into .venv and runs the tests. Arguments go on to
# pytest:
#
#   bash scripts/test.sh tests/models -k vit
#
# A process for each core, four at most, runs a file of tests at a time; -n 0 is one for all, which
# starts sooner and shows what is printed (-s). The first run compiles for minutes;
# tests/conftest.py keeps what was compiled for the next one.
# PYTHON and VITJAX_VENV choose the interpreter and the environment, as scripts/install.sh says.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
python=$(bash scripts/install.sh dev)
exec "$python" -m pytest -n logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder "$@"
