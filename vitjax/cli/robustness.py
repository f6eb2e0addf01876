"""``vitjax robustness``."""

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
        "--corruptions",
        default="all",
        metavar="NAME,NAME,...",
        help="all (the default), or names such as fog,jpeg_compression: see"
        " docs/shape_and_robustness.md",
    )
    parser.add_argument(
        "--severities",
        type=arguments.integers,
        default=(1, 2, 3, 4, 5),
        metavar="1,2,...",
        help="how strong, from 1 to 5 (default: 1,2,3,4,5)",
    )
    parser.add_argument("--split", default="test", help="whose images (default: test)")
    parser.add_argument("--examples", type=int, default=1000, help="images at most (1000)")
    parser.add_argument("--batch-size", type=int, default=128, help="images at once (128)")
    parser.add_argument("--seed", type=int, default=0, help="of noise, weather and patches (0)")
    arguments.checkpoint(parser)
    arguments.results(parser, "robustness.json, tables and figures")


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    process.start_devices()
    from vitjax.analysis import robustness

    robustness.robustness(
        parsed.workdir or (),
        parsed.output,
        overrides,
        corruptions=parsed.corruptions,
        severities=parsed.severities,
        split=parsed.split,
        examples=parsed.examples,
        batch_size=parsed.batch_size,
        seed=parsed.seed,
        checkpoint=parsed.checkpoint,
        overwrite=parsed.overwrite,
    )
    return 0


COMMAND = Command(
    "robustness",
    "measure the accuracy of networks on corrupted, shuffled and occluded images",
    [
        "vitjax robustness --workdir=runs/vit --workdir=runs/resnet --output=robust",
        "vitjax robustness --workdir=runs/vit --corruptions=fog,snow --severities=3 --output=fog",
    ],
    _arguments,
    _run,
)
