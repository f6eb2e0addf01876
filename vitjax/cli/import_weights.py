"""``vitjax import``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vitjax.cli import arguments
from vitjax.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="FILE", help="a file, hf:OWNER/NAME, augreg:NAME, or an https:// address"
    )
    parser.add_argument(
        "--model", help="a name of `vitjax models` (default: derived from the file)"
    )
    parser.add_argument("--output", required=True, type=Path, help="the file to write")
    parser.add_argument(
        "--format", default="safetensors", help="the format to write (default: vitjax's own)"
    )
    parser.add_argument("--read-as", help="the format of FILE, if its names do not show it")
    parser.add_argument(
        "--image-size",
        type=arguments.sides,
        metavar="SIDE",
        help="size of the images that positions are resized for: SIDE or HEIGHT,WIDTH",
    )
    parser.add_argument(
        "--grid",
        type=arguments.pair,
        metavar="ROWS,COLUMNS",
        help="grid of patches, if it is not square",
    )
    parser.add_argument(
        "--position-interpolation",
        default="bicubic",
        metavar="HOW",
        help="how positions are resized: bicubic (as timm) or bilinear (as ViT's published code)",
    )
    parser.add_argument(
        "--field",
        type=arguments.assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a field of the model that the file does not show, such as num_heads=6",
    )
    parser.add_argument("--part", help="which of several sets of weights in FILE, such as teacher")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="PATTERN",
        help="arrays of FILE to leave out, a regular expression of their names",
    )
    parser.add_argument(
        "--allow-nonfinite", action="store_true", help="accept weights that are NaN or infinite"
    )


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    from vitjax import weights

    done = weights.convert(
        parsed.source,
        parsed.output,
        model=parsed.model,
        format=parsed.format,
        read_as=parsed.read_as,
        grid=parsed.grid,
        part=parsed.part,
        image_size=parsed.image_size,
        position_interpolation=parsed.position_interpolation,
        fields=dict(parsed.field),
    )
    examples = "images of " if len(done.input_shape) == 3 else "vectors of "
    print(
        f"Read as {done.read_as}: {type(done.module).__name__} of {done.parameters:,} parameters,"
        f" for {examples}{' x '.join(map(str, done.input_shape))}"
    )
    print(f"Written: {done.path}")
    return 0


COMMAND = Command(
    "import",
    "read another project's weights and write them as vitjax's, or as a third project's",
    [
        "vitjax import vit_small.safetensors --model=vit_s16 --output=vit_s16.safetensors",
        "vitjax import hf:timm/vit_small_patch16_224.augreg_in1k --format=npz --output=s16.npz",
    ],
    _arguments,
    _run,
    overrides=False,
)
