"""``vitjax predict``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitjax.cli import arguments, process
from vitjax.cli.command import Command
from vitjax.core.errors import ConfigError


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
        "--tta",
        action="store_const",
        const=True,
        help="segmentation: average over 8 flips and rotations",
    )
    parser.add_argument(
        "--probabilities",
        action="store_const",
        const=True,
        help="segmentation: also write them, as .npz",
    )
    parser.add_argument(
        "--option",
        type=arguments.assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other option of the run's task, such as a keyword of your own task's predict",
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    arguments.checkpoint(parser)


def _options(parsed: argparse.Namespace) -> dict[str, Any]:
    """The options of the task that were given."""
    options = {name: getattr(parsed, name) for name in ("tile", "tta", "probabilities")}
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in parsed.option:
        if name in given:
            raise ConfigError(f"--option {name}={value}: {name} is given twice")
        given[name] = value
    return given


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
        **_options(parsed),
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
