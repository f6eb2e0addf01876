"""The command line: one file per command, with its arguments and one call."""

from vitjax.cli.entry import main

__all__ = ["main"]
