"""``vitjax units``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vitjax.cli import arguments, process
from vitjax.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.workdir(parser)
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="images whose feature maps are drawn, as of `vitjax predict`",
    )
    parser.add_argument("--layer", help="whose channels (default: the last map)")
    parser.add_argument(
        "--channels",
        type=_numbers,
        default=tuple(range(8)),
        metavar="NUMBERS",
        help="such as 0,3,8-11 (default: 0-7)",
    )
    parser.add_argument(
        "--split", default="test", help="whose images excite the channels (default: test)"
    )
    parser.add_argument("--examples", type=int, default=1024, help="how many of them (1024)")
    parser.add_argument("--count", type=int, default=8, help="images for each channel (8)")
    parser.add_argument(
        "--steps", type=int, default=256, help="of the maximisation; 0 for none (256)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the maximisation (0)")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for figures, units.json"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files in --output that no earlier command wrote",
    )
    arguments.checkpoint(parser)


def _numbers(text: str) -> tuple[int, ...]:
    """``"0,3,8-11"`` as numbers."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or not (last if dash else "0").isdecimal():
            raise argparse.ArgumentTypeError(f"{text!r} must read as 0,3,8-11")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    process.start_devices()
    from vitjax.analysis import looking

    looking.look(
        parsed.workdir,
        parsed.output,
        parsed.images,
        overrides,
        layer=parsed.layer,
        channels=parsed.channels,
        split=parsed.split,
        examples=parsed.examples,
        count=parsed.count,
        steps=parsed.steps,
        seed=parsed.seed,
        checkpoint=parsed.checkpoint,
        overwrite=parsed.overwrite,
        say=lambda text: print(text, file=sys.stderr),
    )
    print(f"Written: {parsed.output}")
    return 0


COMMAND = Command(
    "units",
    "show what channels of a run's network respond to",
    [
        "vitjax units --workdir=runs/pets --output=units",
        "vitjax units --workdir=runs/pets cat.jpg --layer=stage2 --channels=0-15 --output=units",
    ],
    _arguments,
    _run,
    several="images",
)
