"""Errors of data."""

from __future__ import annotations

from vitjax.core.errors import UserError


class DataError(UserError):
    """A file, array or image that cannot be used; the message says which, why and what would do."""


class CorruptImage(DataError):
    """One image that cannot be read or decoded; ``on_corrupt="skip"`` skips these only.

    Sources raise it from `vitjax.data.sources.Split.read`.
    """


class ImageShapeError(DataError):
    """An image that was read and is not of the shape that the model takes; never skipped."""
