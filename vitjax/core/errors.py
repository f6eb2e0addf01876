"""The base class of errors whose message is for the user."""

from __future__ import annotations


class UserError(ValueError):
    """Something that the user wrote, chose or supplied is wrong; the message says what and where.

    The command line prints such an error as one message, without a traceback. Every room derives
    its own errors from this class.
    """


class ConfigError(UserError):
    """A name, key or value in a config or on the command line that cannot be used."""
