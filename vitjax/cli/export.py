"""``vitjax export``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vitjax.cli import arguments, process
from vitjax.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.workdir(parser)
    parser.add_argument(
        "--format",
        required=True,
        help="timm, torchvision, npz, safetensors (vitjax's own names), onnx, ...",
    )
    parser.add_argument(
        "--output", type=Path, help="the file to write (default: weights_FORMAT in the folder)"
    )
    arguments.checkpoint(parser)


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    process.start_devices()
    from vitjax.tasks import exporting

    path = exporting.export(
        parsed.workdir, parsed.format, parsed.output, overrides, checkpoint=parsed.checkpoint
    )
    print(f"Written: {path}")
    return 0


COMMAND = Command(
    "export",
    "write a run's model for other projects' tools",
    ["vitjax export --workdir=runs/digits_vit --format=timm --output=vit.safetensors"],
    _arguments,
    _run,
)
