"""``vitjax evaluate``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vitjax.cli import arguments, process
from vitjax.cli.command import Command
from vitjax.core.errors import ConfigError


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.workdir(parser, required=False)
    arguments.config(parser, required=False)
    parser.add_argument("--split", default="test", help="train, val or test (default: test)")
    arguments.checkpoint(parser)
    parser.add_argument(
        "--ensemble",
        type=int,
        metavar="K",
        help="few-shot: also evaluate the mean of the K best checkpoints",
    )


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    if (parsed.workdir is None) == (parsed.config is None):
        raise ConfigError(
            "vitjax evaluate takes --workdir=DIR, for a run, or --config=FILE, for what its"
            f" config.init loads; {'neither is' if parsed.config is None else 'both are'} given"
        )
    process.start_devices()
    from vitjax.tasks import runs as tasks
    from vitjax.training import runs

    if parsed.config is None:
        experiment, results = runs.evaluate(
            parsed.workdir,
            parsed.split,
            overrides,
            checkpoint=parsed.checkpoint,
            ensemble=parsed.ensemble,
        )
    else:
        for name in ("checkpoint", "ensemble"):
            if getattr(parsed, name) is not None:
                raise ConfigError(f"--{name} chooses among a run's checkpoints: give --workdir=DIR")
        config = arguments.load_config(parsed.config, overrides)
        experiment, results = tasks.evaluate_initial(config, parsed.split)
    summary = experiment.task.describe(results)
    for line in summary:
        print(f"{parsed.split}: {line}")
    for line in experiment.task.describe(results, full=True)[len(summary) :]:
        print(line)
    return 0


COMMAND = Command(
    "evaluate",
    "evaluate a run's checkpoint, or weights that a config loads, on a split",
    [
        "vitjax evaluate --workdir=runs/digits_vit --split=val",
        "vitjax evaluate --config=configs/cifar10/resnet20.py"
        " --config.init.from_checkpoint=weights.th",
    ],
    _arguments,
    _run,
)
