"""The error of everything that concerns files of weights."""

from __future__ import annotations

from vitjax.core.errors import UserError


class WeightsError(UserError):
    """A file of weights cannot be found, read, written or used; the message says why."""
