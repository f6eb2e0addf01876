"""``vitjax class_split``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vitjax.cli import arguments
from vitjax.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=arguments.path, metavar="FILE", help="the JSON file to write")
    parser.add_argument(
        "section",
        nargs="+",
        type=arguments.assignment,
        metavar="KEY=VALUE",
        help="the keys of section data that choose the examples: source=folder path=flowers",
    )
    parser.add_argument(
        "--counts",
        type=int,
        nargs=3,
        metavar=("TRAIN", "VAL", "TEST"),
        help="numbers of classes (default: 64%%, 16%% and 20%%, as miniImageNet's)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the shuffle (default: 0)")


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    from vitjax.data.episodes import dealing

    split = dealing.write(parsed.file, dict(parsed.section), counts=parsed.counts, seed=parsed.seed)
    print(f"{parsed.file}: {', '.join(f'{len(names)} {name}' for name, names in split.items())}")
    return 0


COMMAND = Command(
    "class_split",
    "deal a source's classes out to training, validation and testing, for few-shot learning",
    [
        "vitjax class_split flowers.json source=folder path=/data/flowers",
        "vitjax class_split finn.json source=tfds dataset=omniglot --counts 1100 100 423 --seed 1",
    ],
    _arguments,
    _run,
    overrides=False,
)
