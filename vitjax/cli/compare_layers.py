"""``vitjax compare-layers``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vitjax.cli import arguments, process
from vitjax.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.workdir(
        parser, "a run's folder; twice for two networks", required=False, action="append"
    )
    arguments.config(parser, required=False, action="append")
    parser.add_argument(
        "--layers",
        default="all",
        metavar="PATTERN",
        help="all: the first block's input, the output of each block and the input of the head (the"
        " default); or a regular expression of names, such as 'attention/out'",
    )
    parser.add_argument(
        "--kernel", default="linear", help="linear (the default), or rbf with half of the median"
    )
    parser.add_argument("--split", default="test", help="whose images (default: test)")
    parser.add_argument("--examples", type=int, default=1024, help="images at most (1024)")
    parser.add_argument("--batch-size", type=int, default=128, help="images at once (128)")
    arguments.checkpoint(parser)
    parser.add_argument(
        "--with-checkpoint",
        metavar="CHECKPOINT",
        help="of a single run: another checkpoint to compare with, such as an earlier step",
    )
    arguments.results(
        parser, "cka.json and cka.png (default: layers, in a single run's folder)", required=False
    )


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    process.start_devices()
    from vitjax.analysis import comparing

    comparing.compare_layers(
        parsed.workdir or (),
        parsed.config or (),
        overrides,
        layers=parsed.layers,
        kernel=parsed.kernel,
        split=parsed.split,
        examples=parsed.examples,
        batch_size=parsed.batch_size,
        output=parsed.output,
        checkpoint=parsed.checkpoint,
        with_checkpoint=parsed.with_checkpoint,
        overwrite=parsed.overwrite,
    )
    return 0


COMMAND = Command(
    "compare-layers",
    "measure how alike the layers of one or two networks are (CKA)",
    [
        "vitjax compare-layers --workdir=runs/vit --workdir=runs/resnet --output=vit_resnet",
        "vitjax compare-layers --workdir=runs/vit --kernel=rbf --examples=512",
        "vitjax compare-layers --workdir=runs/vit --checkpoint=last --with-checkpoint=1000",
    ],
    _arguments,
    _run,
)
