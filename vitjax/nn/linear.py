"""Linear functions with a given transpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


def linear(forward: Callable[[Any], Any], transposed: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``forward`` with ``transposed`` as its derivative, whose derivative is ``forward`` again.

    For functions whose automatic transpose is slow: that of a slice is a padded array, and a sum of
    many padded arrays tests at each number whether it is inside of each array.

    Args:
        forward: a linear function of one array.
        transposed: its transpose.
    """

    @jax.custom_vjp
    def there(x: Any) -> Any:
        return forward(x)

    @jax.custom_vjp
    def back(y: Any) -> Any:
        return transposed(y)

    there.defvjp(lambda x: (forward(x), None), lambda _, cotangent: (back(cotangent),))
    back.defvjp(lambda y: (transposed(y), None), lambda _, cotangent: (there(cotangent),))
    return there
