"""``vitjax shape-bias``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vitjax.cli import arguments, process
from vitjax.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.workdir(
        parser, "a run's folder; again for further networks", required=False, action="append"
    )
    parser.add_argument(
        "--shapes",
        type=arguments.path,
        metavar="DIR",
        help="a folder of images with class folders, whose shapes are kept (default: draw shapes)",
    )
    parser.add_argument(
        "--textures",
        type=arguments.path,
        metavar="DIR",
        help="a folder with the same class folders, whose textures the shapes get",
    )
    parser.add_argument(
        "--examples",
        type=int,
        help="images whose shape and texture differ (default: 20 per pair of classes; of --shapes"
        " all)",
    )
    parser.add_argument("--batch-size", type=int, default=128, help="images at once (128)")
    parser.add_argument("--seed", type=int, default=0, help="of drawings, and of textures (0)")
    arguments.checkpoint(parser)
    arguments.results(parser, "shape_bias.json, a table and figures")


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    process.start_devices()
    from vitjax.analysis import shape_bias

    shape_bias.shape_bias(
        parsed.workdir or (),
        parsed.output,
        overrides,
        shapes=parsed.shapes,
        textures=parsed.textures,
        examples=parsed.examples,
        batch_size=parsed.batch_size,
        seed=parsed.seed,
        checkpoint=parsed.checkpoint,
        overwrite=parsed.overwrite,
    )
    return 0


COMMAND = Command(
    "shape-bias",
    "measure whether networks go by the shape or by the texture of images",
    [
        "vitjax shape-bias --workdir=runs/cues_vit --workdir=runs/cues_resnet --output=bias",
        "vitjax shape-bias --workdir=runs/pets --shapes=pets --textures=fur --output=bias",
    ],
    _arguments,
    _run,
)
