"""``vitjax data``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vitjax.cli import arguments, process
from vitjax.cli.command import Command
from vitjax.core.text import printable


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.config(parser)
    parser.add_argument(
        "--output",
        type=arguments.path,
        default=Path("batch.png"),
        help="the figure (default: batch.png)",
    )


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    # Before the config, which may be a file with code of the user that computes.
    process.start_devices()
    from vitjax.training import checks, experiment

    config = arguments.load_config(parsed.config, overrides)
    built = experiment.build(config)
    for note in built.data.notes:
        print(printable(note))
    built.task.inspect(parsed.output, print)
    checks.trainable(built.data, built.objective)
    return 0


COMMAND = Command(
    "data",
    "count a config's examples and draw its first training batch",
    ["vitjax data --config=configs/folder/vit.py --config.data.path=photos"],
    _arguments,
    _run,
)
