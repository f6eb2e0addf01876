"""Errors of data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from vitjax.core.errors import UserError
from vitjax.core.text import printable


class DataError(UserError):
    """A file, array or image that cannot be used; the message says which, why and what would do."""


class CorruptImage(DataError):
    """One image that cannot be read or decoded; ``on_corrupt="skip"`` skips these only.

    Sources raise it from `vitjax.data.sources.Split.read`.
    """


@contextlib.contextmanager
def on_one_line() -> Iterator[None]:
    """Escapes line ends and control characters in errors of sources, which quote names of files."""
    try:
        yield
    except UserError as error:
        text = printable(error)
        if text == str(error):
            raise
        raise type(error)(text) from error


@contextlib.contextmanager
def with_warnings(notes: Sequence[str]) -> Iterator[None]:
    """Adds the warnings among the notes of a source to errors, which they may explain.

    They are said with the notes otherwise, after data is built.
    """
    try:
        yield
    except UserError as error:
        warnings = [note for note in notes if note.startswith("warning")]
        if not warnings:
            raise
        raise type(error)("; ".join([str(error), *warnings])) from error


class ImageShapeError(DataError):
    """An image that was read and is not of the shape that the model takes; never skipped."""
