"""What goes wrong with a file of weights, said to the person whose file it is."""

from __future__ import annotations

from vitjax.core.errors import UserError


class WeightsError(UserError):
    """A file of weights that cannot be found, read, written or used; the message says why."""
