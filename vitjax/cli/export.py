"""``vitjax export``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

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
        "--output",
        type=arguments.path,
        help="the file to write (default: exported/FORMAT/model in the run's folder);"
        " preprocess.json and a program that loads the file are written beside it",
    )
    parser.add_argument(
        "--image-size",
        type=arguments.sides,
        metavar="SIDE",
        help="size of the exported model's images, SIDE or HEIGHT,WIDTH (default: the run's)",
    )
    parser.add_argument(
        "--opset", type=int, metavar="N", help="onnx: version of the operators (default: 17)"
    )
    parser.add_argument(
        "--any-size", action="store_true", help="onnx: accept images of any height and width"
    )
    arguments.checkpoint(parser)


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    process.start_devices()
    from vitjax.tasks import exporting

    path = exporting.export(
        parsed.workdir,
        parsed.format,
        parsed.output,
        overrides,
        checkpoint=parsed.checkpoint,
        image_size=parsed.image_size,
        any_size=parsed.any_size,
        opset=parsed.opset,
    )
    print(f"Written: {path}")
    return 0


COMMAND = Command(
    "export",
    "write a run's model for other projects' tools",
    [
        "vitjax export --workdir=runs/digits_vit --format=timm --output=vit/model.safetensors",
        "vitjax export --workdir=runs/digits_vit --format=onnx --opset=17",
    ],
    _arguments,
    _run,
)
