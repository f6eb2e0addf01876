"""``vitjax train``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vitjax.cli import arguments, hosts, process
from vitjax.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.config(parser, required=False)
    arguments.workdir(
        parser,
        "the run's folder; if it has checkpoints, training resumes from the newest, without"
        " --config by the config that the run saved",
    )
    parser.add_argument(
        "--accept-data-change",
        action="store_true",
        help="resume although the images are not those that the run was trained on",
    )
    hosts.add_arguments(parser)


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    # Before the config, which may be a file with code of the user that computes.
    process.start_devices(hosts=hosts.from_arguments(parsed))
    from vitjax.report import training
    from vitjax.training.interruption import Interrupted

    try:
        training.train(
            parsed.config,
            parsed.workdir,
            overrides,
            accept_data_change=parsed.accept_data_change,
        )
    except Interrupted as interrupted:
        print(f"vitjax: {interrupted}", file=sys.stderr)
        return 128 + interrupted.signal
    return 0


COMMAND = Command(
    "train",
    "train what a config describes, or resume it",
    [
        "vitjax train --config=configs/digits/vit.py --workdir=runs/digits_vit"
        " --config.optimizer.learning_rate=1e-3",
        "vitjax train --workdir=runs/digits_vit",
    ],
    _arguments,
    _run,
)
