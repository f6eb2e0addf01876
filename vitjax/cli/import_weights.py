"""``vitjax import``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vitjax.cli import arguments
from vitjax.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="FILE", help="a file, hf:OWNER/NAME, augreg:NAME, or an https:// address"
    )
    parser.add_argument(
        "--model", help="a name of `vitjax models` (default: derived from the file)"
    )
    parser.add_argument(
        "--output",
        type=arguments.path,
        help="the file to write (default: none, FILE is only read and named)",
    )
    parser.add_argument(
        "--format", default="safetensors", help="the format to write (default: vitjax's own)"
    )
    parser.add_argument("--read-as", help="the format of FILE, if its names do not show it")
    parser.add_argument(
        "--image-size",
        type=arguments.sides,
        metavar="SIDE",
        help="size of the images, SIDE or HEIGHT,WIDTH: positions are resized for it, and it"
        " decides between several ways to read them",
    )
    parser.add_argument(
        "--grid",
        type=arguments.pair,
        metavar="ROWS,COLUMNS",
        help="grid of patches, if it is not square",
    )
    parser.add_argument(
        "--position-interpolation",
        metavar="HOW",
        help="how positions are resized: bicubic (as timm), bicubic_plain (transformers),"
        " bicubic_offset (DINOv2), bicubic_corners (torchvision) or bilinear (ViT's published code)"
        " (default: as the project of FILE)",
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


def _start(parsed: argparse.Namespace) -> list[str]:
    """The entries of a config's ``init`` section that read the file in the same way."""
    options = {
        "position_interpolation": parsed.position_interpolation,
        "format": parsed.read_as,
        "grid": parsed.grid,
        "part": parsed.part,
        "ignore": tuple(parsed.ignore) or None,
        "allow_nonfinite": parsed.allow_nonfinite or None,
    }
    given = {"from_checkpoint": parsed.source, **options}
    return [f"{key}={value!r}" for key, value in given.items() if value is not None]


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
        ignore=parsed.ignore,
        allow_nonfinite=parsed.allow_nonfinite,
        fields=dict(parsed.field),
    )
    examples = "images of " if len(done.input_shape) == 3 else "vectors of "
    print(
        f"Read as {done.read_as}: {type(done.module).__name__} of {done.parameters:,} parameters,"
        f" for {examples}{' x '.join(map(str, done.input_shape))}"
    )
    if done.named is not None:
        print(f"The network is a {done.named}. In a config:")
        print(f"  {done.named.config}")
        print(f"  config.init = dict({', '.join(_start(parsed))})")
    print("Nothing is written without --output" if done.path is None else f"Written: {done.path}")
    return 0


COMMAND = Command(
    "import",
    "read another project's weights and write them as vitjax's, or as a third project's",
    [
        "vitjax import vit_small.safetensors",
        "vitjax import vit_small.safetensors --model=vit_s16 --output=vit_s16.safetensors",
        "vitjax import hf:timm/vit_small_patch16_224.augreg_in1k --format=npz --output=s16.npz",
    ],
    _arguments,
    _run,
    overrides=False,
)
