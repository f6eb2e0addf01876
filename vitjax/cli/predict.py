"""``vitjax predict``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from vitjax.cli import arguments, process
from vitjax.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.workdir(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="an image file")
    parser.add_argument(
        "--output", type=Path, help="folder for predictions.jsonl and predictions.png, or the masks"
    )
    parser.add_argument(
        "--tile", type=int, metavar="SIDE", help="segmentation: tile side in pixels"
    )
    parser.add_argument(
        "--tta", action="store_true", help="segmentation: average over 8 flips and rotations"
    )
    parser.add_argument(
        "--probabilities", action="store_true", help="segmentation: also write them, as .npz"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    arguments.checkpoint(parser)


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    process.start_devices()
    from vitjax.tasks import runs

    results, lines = runs.prediction_table(
        parsed.workdir,
        parsed.images,
        parsed.output,
        overrides,
        checkpoint=parsed.checkpoint,
        say=lambda text: print(text, file=sys.stderr),
        tile=parsed.tile,
        tta=parsed.tta,
        probabilities=parsed.probabilities,
    )
    if parsed.json:
        for result in results:
            print(json.dumps(result))
        return 0
    print("\n".join(lines))
    if parsed.output:
        print(f"Written: {parsed.output}")
    return 0


COMMAND = Command(
    "predict",
    "classify or segment image files with a run's model",
    ["vitjax predict --workdir=runs/pets cat.jpg dog.png --output=predicted"],
    _arguments,
    _run,
)
