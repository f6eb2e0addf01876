"""The entry point of the command line: finds the command, runs it, and reports errors in words."""

from __future__ import annotations

import argparse
import re
import sys
import traceback
from collections.abc import Sequence

from vitjax.cli import (
    class_split,
    compare_layers,
    data,
    evaluate,
    explain,
    export,
    hosts,
    import_weights,
    models,
    plan,
    predict,
    probe,
    process,
    report,
    robustness,
    shape_bias,
    train,
    units,
)
from vitjax.core.errors import ConfigError, UserError
from vitjax.core.paths import expanded
from vitjax.core.text import near_match, printable_lines

_MODULES = (
    *(train, evaluate, predict, explain, units, import_weights, export, probe, compare_layers),
    *(shape_bias, robustness, report, models, data, class_split, plan),
)
_OVERRIDE = "--config."
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
        return _end(process.BROKEN_PIPE)
    except OSError as error:
        process.discard_output()
        return _report(error.strerror or error, 2)


def _run(arguments: Sequence[str] | None) -> int:
    """Runs the command; returns the exit status, after reporting an error."""
    overrides, others, after = _divided(sys.argv[1:] if arguments is None else arguments)
    end = ["--", *after] if after else []
    parsed, rest = _parser().parse_known_args([*others, *end])
    try:
        _take(parsed, overrides, rest)
        parsed = argparse.Namespace(**expanded(vars(parsed)))
        return _run_command(parsed, overrides)
    except hosts.LostHostError as error:
        return _report(error, hosts.LOST)
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


def _run_command(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Runs the command; an error that another host is the reason of becomes one in words."""
    try:
        return parsed.chosen.run(parsed, overrides)
    except Exception as error:
        lost = hosts.lost(error)
        if lost is not None:
            raise lost from error
        if hosts.started() and not isinstance(error, UserError | OSError):
            hosts.claim_the_end()
            try:
                traceback.print_exc()
            finally:
                _end(1)
        raise


def _report(problem: object, status: int) -> int:
    """Prints a message for the person at the keyboard; returns ``status``.

    One of several hosts ends here.
    """
    hosts.claim_the_end()
    try:
        print(f"vitjax: {printable_lines(str(problem))}", file=sys.stderr)
    finally:
        _end(status)
    return status


def _end(status: int) -> int:
    """Ends the process if it is one of several hosts; otherwise returns ``status``."""
    if hosts.started():
        process.discard_output()
        hosts.end_process(status)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vitjax", description="Vision research in JAX and Flax.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return parser


def _divided(arguments: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Overrides, other arguments, and what follows ``--``.

    Argparse would take an override with a space in it for a positional argument.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    before, after = arguments[:end], list(arguments[end + 1 :])
    overrides = [argument for argument in before if argument.startswith(_OVERRIDE)]
    return overrides, [a for a in before if not a.startswith(_OVERRIDE)], after


def _take(parsed: argparse.Namespace, overrides: Sequence[str], rest: Sequence[str]) -> None:
    """Adds what argparse left over to the argument of several values.

    Argparse fills it with what stands before the first option alone.

    Raises:
        ConfigError: something is no argument of the command; the message has the near match.
    """
    options = re.findall(r"--[\w-]+", parsed.parser.format_usage())
    end = rest.index("--") if "--" in rest else len(rest)
    unknown = [] if parsed.chosen.overrides else list(overrides)
    more = []
    for place, argument in enumerate(rest):
        if place == end:
            continue
        if parsed.chosen.several and (place > end or not argument.startswith("-")):
            more.append(argument)
        else:
            unknown.append(argument)
    if unknown:
        word = unknown[0].partition("=")[0]
        raise ConfigError(
            f"vitjax {parsed.command} has no argument {unknown[0]!r}{near_match(word, options)}"
            f" (see vitjax {parsed.command} --help)"
        )
    if more:
        taken = [*getattr(parsed, parsed.chosen.several), *more]
        setattr(parsed, parsed.chosen.several, taken)
