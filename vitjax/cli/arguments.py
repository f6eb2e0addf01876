"""Arguments that several commands have, and kinds of values.

`vitjax.config` is imported inside functions: its dependencies would slow down ``--help``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def config(parser: argparse.ArgumentParser, required: bool = True, **options: Any) -> None:
    """Adds ``--config``."""
    parser.add_argument(
        "--config",
        required=required,
        metavar="FILE",
        help="a Python file with get_config(), or the name of one of vitjax's configs, such as"
        " digits/vit; FILE:TEXT calls get_config('TEXT')",
        **options,
    )


def workdir(
    parser: argparse.ArgumentParser,
    help_: str = "the run's folder",
    required: bool = True,
    **options: Any,
) -> None:
    """Adds ``--workdir``."""
    parser.add_argument(
        "--workdir", required=required, type=path, metavar="DIR", help=help_, **options
    )


def model(parser: argparse.ArgumentParser) -> None:
    """Adds ``--model``, of a command for a run or a file of weights."""
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="in place of --workdir: a name of `vitjax models`, with the weights of"
        " --checkpoint=FILE, any file that `vitjax import` reads",
    )


def checkpoint(parser: argparse.ArgumentParser, or_file: bool = False) -> None:
    """Adds ``--checkpoint``: of a run; with ``or_file`` also the file of weights of ``--model``."""
    of_run = "best, last, or a step (default: the best where the run chooses one)"
    parser.add_argument(
        "--checkpoint",
        help=f"of a run: {of_run}; of --model: the file of weights" if or_file else of_run,
    )


def results(parser: argparse.ArgumentParser, files: str, required: bool = True) -> None:
    """Adds ``--output`` and ``--overwrite``, of a command that writes ``files`` to a folder."""
    parser.add_argument(
        "--output", type=path, required=required, metavar="DIR", help=f"folder for {files}"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files in --output that no earlier command wrote",
    )


def load_config(path: str, overrides: Sequence[str]) -> Any:
    """The config that ``--config`` names, with overrides."""
    from vitjax import config as configs

    loaded = configs.load(path)
    configs.override(loaded, overrides)
    return loaded


def pair(text: str) -> tuple[int, int]:
    """``"16,8"`` as two numbers."""
    found = re.fullmatch(r"([1-9]\d*),([1-9]\d*)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} must be two integers, such as 16,8")
    return int(found[1]), int(found[2])


def path(text: str) -> Path:
    """A path, which a variable of a shell that is not set would leave empty."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def integers(text: str) -> tuple[int, ...]:
    """``"1,5,10"`` as numbers."""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be integers, such as 5 or 1,5,10")
    return tuple(map(int, text.split(",")))


def sides(text: str) -> int | tuple[int, int]:
    """``"224"`` as a number, ``"224,192"`` as two."""
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be pixels, such as 224 or 224,192")
    return int(text) if text.isdecimal() else pair(text)


def assignment(text: str) -> tuple[str, Any]:
    """``"num_heads=6"`` as a name and a value."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} must read NAME=VALUE")
    from vitjax import config as configs

    return name, configs.parse_value(value)
