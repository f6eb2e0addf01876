"""``vitjax models``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vitjax.cli.command import Command
from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pattern", nargs="?", default="", help="list only names that contain this text"
    )


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    from vitjax import models

    names = [name for name in models.names() if parsed.pattern in name]
    if not names:
        raise ConfigError(
            f"no model's name contains {parsed.pattern!r}"
            f"{near_match(parsed.pattern, models.names())}"
        )
    width = max(len(name) for name in names)
    print(f"{'name':{width}}  {'parameters':>13}  input  paper")
    for name in names:
        facts = models.facts(name)
        count = models.count_parameters(name)
        print(f"{name:{width}}  {count:>13,}  {facts['image_size'] or '-':>5}  {facts['paper']}")
    return 0


COMMAND = Command(
    "models", "list the models", ["vitjax models resnet"], _arguments, _run, overrides=False
)
