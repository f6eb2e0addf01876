"""The entry point of the command line: finds the command, runs it, and reports errors in words."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from vitjax.cli import (
    class_split,
    data,
    evaluate,
    export,
    import_weights,
    models,
    predict,
    probe,
    process,
    train,
)
from vitjax.core.errors import ConfigError, UserError
from vitjax.core.paths import expanded
from vitjax.core.text import near_match, printable_lines

_MODULES = (
    *(train, evaluate, predict, import_weights, export, probe),
    *(models, data, class_split),
)
COMMANDS = tuple(module.COMMAND for module in _MODULES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    process.prepare()
    try:
        try:
            return _run(arguments)
        finally:
            process.flush_output()
    except BrokenPipeError:
        process.discard_output()
        return process.BROKEN_PIPE
    except OSError as error:
        process.discard_output()
        return _report(error.strerror or error, 2)


def _run(arguments: Sequence[str] | None) -> int:
    """Runs the command; returns the exit status, after reporting an error."""
    parsed, rest = _parser().parse_known_args(arguments)
    try:
        parsed = argparse.Namespace(**expanded(vars(parsed)))
        return parsed.chosen.run(parsed, _overrides(parsed, rest))
    except UserError as error:
        return _report(error, 2)
    except KeyboardInterrupt:
        return _report("stopped from the keyboard", 130)
    except BrokenPipeError:
        raise
    except OSError as error:
        # The disk is full, a folder is not writable: the cause is outside the program.
        where = f" ({error.filename})" if error.filename else ""
        return _report(f"{error.strerror or error}{where}", 2)


def _report(problem: object, status: int) -> int:
    """Prints a message for the person at the keyboard; returns ``status``."""
    print(f"vitjax: {printable_lines(str(problem))}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vitjax", description="Vision research in JAX and Flax.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return parser


def _overrides(parsed: argparse.Namespace, rest: list[str]) -> list[str]:
    """The ``--config.`` arguments among ``rest``; anything else is an error with a near match."""
    options = re.findall(r"--[\w-]+", parsed.parser.format_usage())
    for argument in rest:
        if not parsed.chosen.overrides or not argument.startswith("--config."):
            word = argument.partition("=")[0]
            raise ConfigError(
                f"vitjax {parsed.command} has no argument {argument!r}{near_match(word, options)}"
                f" (see vitjax {parsed.command} --help)"
            )
    return rest
