"""The one base class of errors that speak to the person at the keyboard."""

from __future__ import annotations


class UserError(ValueError):
    """Something a person wrote, chose or supplied is wrong, and the message says what and where.

    The command line prints such an error as one message, without a traceback. Every room that has
    errors of its own derives them from this class.
    """


class ConfigError(UserError):
    """A name, key or value in a config or on the command line that cannot be used."""
