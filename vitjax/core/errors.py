"""The base class of errors whose message is for the user."""

from __future__ import annotations


class UserError(ValueError):
    """Something that the user wrote, chose or supplied is wrong; the message says what and where.

    The command line prints such an error as one message, without a traceback. Every room derives
    its own errors from this class.
    """


def in_one_line(error: BaseException, most: int = 500) -> str:
    """The message of any error on one line, with its kind unless it is one for the user."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # an error of a user's own, whose message cannot be made
        text = ""
    text = text if len(text) <= most else f"{text[:most]}..."
    if isinstance(error, UserError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class ConfigError(UserError):
    """A name, key or value in a config or on the command line that cannot be used."""
