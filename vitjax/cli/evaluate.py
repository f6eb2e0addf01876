"""``vitjax evaluate``."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitjax.cli import arguments, hosts, process
from vitjax.cli.command import Command
from vitjax.core.atomic import finite
from vitjax.core.errors import ConfigError
from vitjax.core.text import Say, portable, say_nothing

if TYPE_CHECKING:
    from vitjax.training.run_evaluation import Evaluation

_FOLDER = "evaluation"


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
    parser.add_argument(
        "--output",
        type=arguments.path,
        metavar="DIR",
        help="the folder for the results as JSON, and for classes and examples as CSV (default: the"
        f" folder {_FOLDER!r} of the run; without --workdir nothing is written)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document, and nothing else"
    )
    hosts.add_arguments(parser)


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    if (parsed.workdir is None) == (parsed.config is None):
        raise ConfigError(
            "vitjax evaluate takes --workdir=DIR, for a run, or --config=FILE, for what its"
            f" config.init loads; {'neither is' if parsed.config is None else 'both are'} given"
        )
    process.start_devices(hosts=hosts.from_arguments(parsed))
    import jax

    from vitjax.training import run_evaluation

    # Standard output is for the results alone.
    aside: Say = functools.partial(print, file=sys.stderr, flush=True)
    say: Say = aside if parsed.json else print
    first_host = jax.process_index() == 0
    if not first_host:
        aside = say = say_nothing
    if parsed.config is None:
        found = run_evaluation.evaluate(
            parsed.workdir,
            parsed.split,
            overrides,
            checkpoint=parsed.checkpoint,
            ensemble=parsed.ensemble,
            say=say,
            progress=aside,
        )
    else:
        for name in ("checkpoint", "ensemble"):
            if getattr(parsed, name) is not None:
                raise ConfigError(f"--{name} chooses among a run's checkpoints: give --workdir=DIR")
        config = arguments.load_config(parsed.config, overrides)
        found = run_evaluation.evaluate_initial(config, parsed.split, say, aside)
    if not first_host:
        return 0
    if parsed.json:
        print(json.dumps(portable(finite(found.record)), indent=2))
    else:
        task = found.experiment.task
        summary = task.describe(found.results)
        for line in summary:
            print(f"{parsed.split}: {line}")
        for line in task.describe(found.results, full=True)[len(summary) :]:
            print(line)
    _write(parsed, found, say, aside)
    return 0


def _write(parsed: argparse.Namespace, found: Evaluation, say: Say, warn: Say) -> None:
    """Writes the files of an evaluation."""
    if parsed.output is None and parsed.workdir is None:
        return
    folder = parsed.output or parsed.workdir / _FOLDER
    try:
        paths = found.write(folder)
    except OSError as error:
        if parsed.output is not None:
            raise
        # The folder of a run may be one that others own. Its results are printed.
        warn(f"warning: nothing is written: {error.strerror or error} ({folder})")
        return
    first, *others = paths
    say(f"Written: {', '.join([str(first), *(path.name for path in others)])}")


COMMAND = Command(
    "evaluate",
    "evaluate a run's checkpoint, or weights that a config loads, on a split",
    [
        "vitjax evaluate --workdir=runs/digits_vit --split=val",
        "vitjax evaluate --workdir=runs/digits_vit --json",
        "vitjax evaluate --config=configs/cifar10/resnet20.py"
        " --config.init.from_checkpoint=weights.th",
    ],
    _arguments,
    _run,
)
