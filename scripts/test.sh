#!/usr/bin/env bash
# Installs vitjax with its development tools into .venv and runs the tests. Arguments are passed to
# pytest:
#
#   bash scripts/test.sh tests/models -k vit
#
# One process per core, at most four, runs one file of tests at a time. -n 0 is one process for all,
# which starts sooner and shows what is printed (-s). --slow adds the slow tests. The first
# run compiles for minutes; tests/conftest.py keeps compiled code for the next one.
# PYTHON and VITJAX_VENV choose the interpreter and the environment, see scripts/install.sh.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
python=$(bash scripts/install.sh dev)
exec "$python" -m pytest -n logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder "$@"
