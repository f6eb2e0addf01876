"""What goes wrong with data, said to the person whose data it is."""

from __future__ import annotations

from vitjax.core.errors import UserError


class DataError(UserError):
    """A file, array or image that cannot be used; the message says which, why and what could be."""


class CorruptImage(DataError):
    """One image that cannot be read or decoded. ``on_corrupt="skip"`` forgives these and no other.

    Sources raise it from `vitjax.data.sources.Split.read`.
    """
