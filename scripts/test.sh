#!/usr/bin/env bash
# Installs vitjax with its development tools into .venv and runs the tests. Arguments go on to
# pytest:
#
#   bash scripts/test.sh tests/models -k vit
#
# The first run compiles for minutes; tests/conftest.py keeps what was compiled for the next one.
# PYTHON and VITJAX_VENV choose the interpreter and the environment, as scripts/install.sh says.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
python=$(bash scripts/install.sh dev)
exec "$python" -m pytest "$@"
