"""``vitjax units``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from vitjax.cli import arguments, process
from vitjax.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.workdir(parser, required=False)
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="images whose feature maps are drawn, as of `vitjax predict`",
    )
    arguments.model(parser)
    parser.add_argument(
        "--data",
        metavar="IMAGES",
        help="a folder, a quoted wildcard, or @FILE: images that may excite the channels (default:"
        " those of --split for a run, none for --model)",
    )
    parser.add_argument("--layer", help="whose channels (default: the last map)")
    parser.add_argument(
        "--channels",
        type=_numbers,
        metavar="NUMBERS",
        help="such as 0,3,8-11; at most 64 (default: the first 8)",
    )
    parser.add_argument(
        "--split", help="of a run: whose images may excite the channels (default: test)"
    )
    parser.add_argument(
        "--examples", type=int, default=1024, help="how many of them are tried, at most (1024)"
    )
    parser.add_argument(
        "--count",
        type=int,
        default=8,
        help="images for each channel, at most 64 for all channels together (8)",
    )
    parser.add_argument(
        "--steps", type=int, default=256, help="of the maximisation; 0 for none (256)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the maximisation (0)")
    arguments.checkpoint(parser, or_file=True)
    arguments.results(parser, "figures and units.json")


def _numbers(text: str) -> tuple[int, ...]:
    """``"0,3,8-11"`` as numbers."""
    found: list[int] = []
    for part in text.split(","):
        # Few digits: the numbers of a span are listed.
        numbers = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part.strip())
        span = numbers and range(int(numbers[1]), int(numbers[2] or numbers[1]) + 1)
        if not span:
            raise argparse.ArgumentTypeError(f"{text!r} must be numbers, such as 0,3,8-11")
        found += span
    return tuple(found)


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    process.start_devices()
    from vitjax.analysis import looking

    looking.look(
        parsed.workdir,
        parsed.output,
        parsed.images,
        overrides,
        model=parsed.model,
        data=parsed.data,
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
    "show what channels of a network respond to",
    [
        "vitjax units --workdir=runs/pets --output=units",
        "vitjax units --workdir=runs/pets cat.jpg --layer=stage2 --channels=0-15 --output=units",
        "vitjax units --model=resnet50 --checkpoint=resnet50.pth --data=photos --output=units",
    ],
    _arguments,
    _run,
    several="images",
)
