#!/usr/bin/env bash
# Measures every row of the table in docs/benchmarks.md, draws its figures, and writes the table.
#
#   bash scripts/bench/all.sh                                   # everything: an hour on two cores
#   bash scripts/bench/all.sh --only 'inference|startup'        # the rows whose name matches
#   bash scripts/bench/all.sh --list                            # their names and commands
#   bash scripts/bench/all.sh --torch-python /opt/torch/bin/python --out rows.jsonl --no-docs
#
# A row appends JSON lines to --out (default: bench_rows.jsonl). Rows that were measured before stay,
# so that a table can be made in several runs; of several rows of one case the last counts. A row that
# fails is reported at the end, the others go on. A peer that is not installed is a dash.
# --python, --torch-python and --equimo-python (or VITJAX_PYTHON, VITJAX_TORCH_PYTHON,
# VITJAX_EQUIMO_PYTHON) name the Pythons of vitjax and of its peers. --before is a command that each
# row's command is an argument of, such as taskset or a queue.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${VITJAX_PYTHON:-python} out=bench_rows.jsonl only=. list= docs=docs/benchmarks.md before=()
while [ $# -gt 0 ]; do
    case $1 in
        --only) only=$2; shift ;;
        --out) out=$2; shift ;;
        --python) python=$2; shift ;;
        --torch-python) export VITJAX_TORCH_PYTHON=$2; shift ;;
        --equimo-python) export VITJAX_EQUIMO_PYTHON=$2; shift ;;
        --before) read -ra before <<<"$2"; shift ;;
        --no-docs) docs= ;;
        --list) list=yes ;;
        *) echo "all.sh: unknown argument $1 (see the head of the file)" >&2; exit 2 ;;
    esac
    shift
done
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
failed=()
row() {  # NAME PROGRAM ARGUMENTS...
    local name=$1 program=$2
    shift 2
    [[ $name =~ $only ]] || return 0
    if [ -n "$list" ]; then
        echo "$name: python scripts/bench/$program $*"
        return 0
    fi
    echo "== $name" >&2
    ${before[@]+"${before[@]}"} "$python" "scripts/bench/$program" "$@" --json "$out" || failed+=("$name")
}
small="--image-size 32 --num-classes 10"
for batch in 8 16 32 48 64 96 128; do
    row "training-vit_ti4-$batch" training.py --models vit_ti16 --patch-size 4 $small \
        --batch-size $batch --steps 1 --rounds 5
done
for batch in 1 2 4 8; do
    row "training-vit_s16-$batch" training.py --models vit_s16 --batch-size $batch --steps 1 --rounds 5
done
for batch in 8 16 32 64 128; do
    row "training-resnet18-$batch" training.py --models resnet18 $small --batch-size $batch \
        --steps 1 --rounds 5
done
row training-resnet50 training.py --models resnet50 --batch-size 8 --steps 1 --rounds 5
row training-mobilenet_v2 training.py --models mobilenet_v2 --batch-size 8 --steps 1 --rounds 5
row training-unet training.py --models unet --image-size 256 --batch-size 1 --steps 1 --rounds 5
row few-shot-omniglot maml.py --case omniglot
row few-shot-miniimagenet maml.py --case miniimagenet
for batch in 1 32; do
    row "inference-vit_ti4-$batch" inference.py --models vit_ti16 --patch-size 4 $small \
        --batch-size $batch
    row "inference-vit_s16-$batch" inference.py --models vit_s16 --batch-size $batch
    row "inference-resnet50-$batch" inference.py --models resnet50 --batch-size $batch
done
row startup startup.py
row checkpoint checkpoint.py
row input-arrays loader.py --compared --images arrays
row input-jpeg loader.py --compared --images jpeg --batch-size 32
for axis in batch depth width size inner_steps episodes devices; do
    row "growth-$axis" growth.py --axes $axis
done
[ -n "$list" ] && exit 0
if [ -n "$docs" ]; then
    "$python" scripts/bench/plots.py "$out" --images docs/images
    "$python" scripts/bench/tables.py "$out" --docs "$docs"
else
    "$python" scripts/bench/tables.py "$out"
fi
if [ ${#failed[@]} -gt 0 ]; then
    echo "all.sh: failed: ${failed[*]}" >&2
    exit 1
fi
