"""``vitjax report``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vitjax.cli import arguments, process
from vitjax.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.workdir(
        parser,
        "a run's folder; several times, or with further folders after it, to compare runs",
        action="append",
    )
    parser.add_argument(
        "folders", nargs="*", type=arguments.path, metavar="DIR", help="further runs' folders"
    )
    parser.add_argument(
        "--output",
        type=arguments.path,
        metavar="FILE",
        help="the page (default: report.html, in the folder of a single run)",
    )


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    process.start_devices()
    from vitjax.report import writing

    path = writing.report(
        [*parsed.workdir, *map(Path, parsed.folders)],
        parsed.output,
        overrides,
        say=lambda text: print(text, file=sys.stderr),
    )
    print(f"Written: {path}")
    return 0


COMMAND = Command(
    "report",
    "write a page about a run, or about several side by side",
    [
        "vitjax report --workdir=runs/digits_vit",
        "vitjax report --workdir=runs/vit_seed0 runs/vit_seed1 runs/resnet --output=compared.html",
    ],
    _arguments,
    _run,
    several="folders",
)
