#!/usr/bin/env bash
# Reads damaged files and texts with each of vitjax's readers, guided by the coverage of its code, and
# prints what ended in anything but an answer in words. Arguments:
#
#   bash scripts/fuzz.sh                            # all readers, two minutes each
#   bash scripts/fuzz.sh --seconds=600 pickle npz   # these, ten minutes each
#   bash scripts/fuzz.sh --list
#
# What was found lies in fuzz/findings/READER, the inputs that reached new code in fuzz/corpus/READER;
# a later run starts from these. --folder chooses another folder than fuzz. Linux alone.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$(bash "$root/scripts/install.sh" fuzz)
exec "$python" "$root/scripts/fuzz/readers.py" "$@"
