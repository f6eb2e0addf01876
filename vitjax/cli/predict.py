"""``vitjax predict``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import islice
from typing import Any

from vitjax.cli import arguments, process
from vitjax.cli.command import Command
from vitjax.core.errors import ConfigError
from vitjax.core.text import portable

# Lines of a table that are aligned together and printed at once.
_ROWS = 64


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.workdir(parser)
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="an image file, a folder of them, a quoted wildcard such as 'photos/**/*.jpg', or"
        " @FILE, a text file with one of these per line (@- reads standard input)",
    )
    parser.add_argument(
        "--list", action="append", default=[], metavar="FILE", help="the same as @FILE"
    )
    arguments.results(
        parser,
        "predictions.jsonl, predictions.csv and predictions.png, or the masks",
        required=False,
    )
    parser.add_argument(
        "--on-corrupt",
        choices=("error", "skip"),
        help="skip: leave out images that cannot be read, and report them at the end",
    )
    parser.add_argument(
        "--top",
        type=int,
        metavar="K",
        help="classification and few-shot: the K most probable classes (5)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="classification and few-shot: images that the model takes at once (64)",
    )
    parser.add_argument(
        "--tta",
        action="store_const",
        const=True,
        help="average over an image and its mirror image (classification), or over 8 flips and"
        " rotations (segmentation)",
    )
    parser.add_argument(
        "--support",
        type=arguments.path,
        metavar="DIR",
        help="few-shot: a folder with a folder of images for each new class",
    )
    parser.add_argument(
        "--transductive",
        action="store_const",
        const=True,
        help="few-shot: normalise all images together instead of classifying each alone",
    )
    parser.add_argument(
        "--tile", type=int, metavar="SIDE", help="segmentation: tile side in pixels"
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


_OPTIONS = (
    *("tile", "tta", "probabilities", "top", "batch_size", "on_corrupt", "support"),
    "transductive",
)


def _options(parsed: argparse.Namespace) -> dict[str, Any]:
    """The options of the task that were given."""
    options = {name: getattr(parsed, name) for name in _OPTIONS}
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in parsed.option:
        if name in given:
            raise ConfigError(f"--option {name}={value}: {name} is given twice")
        given[name] = value
    return given


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    from vitjax.core.file_lists import find_images

    options = _options(parsed)
    named = [*parsed.images, *(f"@{path}" for path in parsed.list)]
    if "@-" in named:
        # Standard input can be read once, and what it names is no list.
        named = [f"./{path}" if path.startswith("@") else path for path in find_images(named)]
    else:
        find_images(named)  # a mistake is reported before JAX is imported
    process.start_devices()
    from vitjax.tasks import prediction

    started = prediction.start(
        parsed.workdir,
        named,
        parsed.output,
        overrides,
        checkpoint=parsed.checkpoint,
        overwrite=parsed.overwrite,
        say=lambda text: print(text, file=sys.stderr),
        **options,
    )
    if parsed.json:
        for result in started.results:
            print(json.dumps(portable(result)), flush=True)
        return 0
    while rows := list(islice(started.results, _ROWS)):
        if read := [row for row in rows if "error" not in row]:
            print("\n".join(started.task.table(read)), flush=True)
    if parsed.output:
        print(f"Written: {parsed.output}")
    return 0


COMMAND = Command(
    "predict",
    "classify or segment image files with a run's model",
    [
        "vitjax predict --workdir=runs/pets cat.jpg dog.png --output=predicted",
        "vitjax predict --workdir=runs/pets photos 'more/*.png' @files.txt --on-corrupt=skip",
        "vitjax predict --workdir=runs/maml --support=support photos   # new classes",
    ],
    _arguments,
    _run,
    several="images",
)
