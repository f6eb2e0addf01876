#!/usr/bin/env bash
# Creates .venv with vitjax and the versions of requirements.txt, if it does not exist yet, and
# prints the path of its Python. An argument names an extra: bash scripts/install.sh dev
#
#   PYTHON       the interpreter (default: the first suitable one of python3, python3.12,
#                python3.11 and python3.13)
#   VITJAX_VENV  another folder than .venv
set -euo pipefail

extra=${1:-}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VITJAX_VENV:-$root/.venv}

fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

version() {
    "$1" -c 'import sys; print("Python %d.%d" % sys.version_info[:2])' 2>/dev/null ||
        echo "no working Python"
}

fail() {
    echo "vitjax: $*" >&2
    exit 1
}

if [ -e "$venv/bin/python" ]; then
    fits "$venv/bin/python" || fail "$venv has $(version "$venv/bin/python");" \
        "vitjax needs Python 3.11 to 3.13. Remove the folder and run this again."
    if [ -n "${PYTHON:-}" ] && [ "$(version "$PYTHON")" != "$(version "$venv/bin/python")" ]; then
        fail "$venv has $(version "$venv/bin/python") and PYTHON=$PYTHON is" \
            "$(version "$PYTHON"). Remove the folder and run this again, or unset PYTHON."
    fi
    python=$venv/bin/python
elif [ -n "${PYTHON:-}" ]; then
    python=$PYTHON
    fits "$python" || fail "PYTHON=$python is $(version "$python");" \
        "vitjax needs Python 3.11 to 3.13."
else
    python=
    for candidate in python3 python3.12 python3.11 python3.13; do
        if fits "$candidate"; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || fail "needs Python 3.11 to 3.13; python3 is $(version python3)," \
        "and neither python3.12, python3.11 nor python3.13 runs. Install one of them, or name one:" \
        "PYTHON=/path/to/python3.12 bash $0"
fi

# What is installed depends on these; the folder is one of them, since the install points to it.
state=$("$python" - "$root" <<'END'
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
parts = [str(root).encode()] + [(root / n).read_bytes() for n in ("requirements.txt", "pyproject.toml")]
print(hashlib.sha256(b"\0".join(parts)).hexdigest())
END
)

installed() {
    [ -f "$venv/.vitjax-$1" ] && [ "$(cat "$venv/.vitjax-$1")" = "$state" ]
}

# Every extra includes vitjax itself.
if ! installed "${extra:-base}" && { [ -n "$extra" ] || ! installed dev; }; then
    echo "Installing vitjax into $venv with $(version "$python"): a minute or two." >&2
    # Also repairs an incomplete environment.
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv "$venv" >&2 || fail "could not make $venv; on Debian and Ubuntu," \
            "python3-venv must be installed for that"
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint "$root/requirements.txt" --editable "$root${extra:+[$extra]}" >&2 ||
        fail "could not install into $venv; see the messages of pip above"
    # It requires an older Orbax than vitjax does, without using it; the extra has its dependencies.
    if [ "$extra" = dev ]; then
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
            --constraint "$root/requirements.txt" jax2onnx >&2 ||
            fail "could not install jax2onnx into $venv; see the messages of pip above"
    fi
    echo "$state" >"$venv/.vitjax-${extra:-base}"
fi
echo "$venv/bin/python"
