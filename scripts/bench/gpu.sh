#!/usr/bin/env bash
# The figures of docs/benchmarks.md that need a GPU, in at most eight minutes. By estimate all parts
# take 470 s of the 480 s, but no GPU has run them yet: parts that take longer use up the time of the
# last ones, which are left out in this order: MAML in bfloat16, MAML in TF32, CIFAR-10, ViT-S/16.
#
#   bash scripts/bench/gpu.sh --out=bench_gpu --data=cifar10.npz
#   bash scripts/bench/gpu.sh --dry-run          # every part with tiny networks on a CPU
#   bash scripts/bench/gpu.sh --help
#
# A part that is named fills its rows alone: --parts vit_b16 maml_float32.
# What is missing is a null with a reason in the table, never a failure. Run again with the same
# --out, it measures what is still null, such as parts that the time did not suffice for.
#
#   PYTHON               the interpreter (default: that of .venv, otherwise python3)
#   VITJAX_TORCH_PYTHON  a Python with the packages of scripts/bench/gpu_peers.txt, if the interpreter
#                        has none; a CUDA of their own is no conflict then
#   OUT                  the folder of results without --out
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-${VITJAX_VENV:-$root/.venv}/bin/python}
[ -n "${PYTHON:-}" ] || [ -x "$python" ] || python=python3
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "$python" "$root/scripts/bench/gpu.py" "$@"
