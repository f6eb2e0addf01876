"""What a command of the command line declares."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: as in ``vitjax NAME``.
        help: one line without a full stop.
        examples: command lines, for ``--help``.
        add_arguments: adds the command's arguments to its parser.
        run: runs the command with its parsed arguments and the ``--config.`` overrides; returns the
            exit status. Imports of what computes belong inside, so that ``--help`` stays fast.
        overrides: whether the command takes ``--config.`` arguments.
        several: the argument that takes any number of values, which may stand before, between and
            after options; None if there is none.
    """

    name: str
    help: str
    examples: Sequence[str]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Sequence[str]], int]
    overrides: bool = True
    several: str | None = None

    def add_to(self, commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        """Adds the command to the subcommands of a parser."""
        epilog = "\n  ".join([f"example{'s' * (len(self.examples) > 1)}:", *self.examples])
        if self.overrides:
            epilog += "\n\nAny value of the config can be set: --config.section.key=value"
        parser = commands.add_parser(
            self.name,
            help=self.help,
            description=f"{self.help[0].upper()}{self.help[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_arguments(parser)
        parser.set_defaults(parser=parser, chosen=self)
