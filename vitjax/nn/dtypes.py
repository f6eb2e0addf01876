"""Floating dtypes of computations, parameters and outputs."""

from typing import Annotated, Any

import jax.numpy as jnp

from vitjax.core.constraints import Constraint, alternatives
from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match, quoted

_NAMES = ("bfloat16", "float16", "float32", "float64")


class _Floating(Constraint):
    """A floating dtype, or the name of one."""

    options = _NAMES

    @property
    def words(self) -> str:
        """The names."""
        return f"a floating dtype: {alternatives([repr(name) for name in _NAMES])}"

    def allows(self, value: Any) -> bool:
        """Whether `as_dtype` knows it."""
        return _floating(value) is not None


# In an annotation: what `as_dtype` takes.
Dtype = Annotated[Any, _Floating()]


def as_dtype(dtype: Any) -> jnp.dtype:
    """The floating dtype that ``dtype`` names: a dtype, or a string such as ``"bfloat16"``.

    Raises:
        ConfigError: an unknown dtype, or one that is not floating.
    """
    found = _floating(dtype)
    if found is None:
        raise ConfigError(
            f"{quoted(dtype)} is not a floating dtype{near_match(dtype, _NAMES)} (known: "
            f"{', '.join(_NAMES)})"
        )
    return found


def _floating(dtype: Any) -> jnp.dtype | None:
    """The floating dtype that ``dtype`` names, or None."""
    try:
        found = None if dtype is None else jnp.dtype(dtype)
    except (TypeError, ValueError):
        return None
    return found if found is not None and jnp.issubdtype(found, jnp.floating) else None


def output_dtype(param_dtype: Any) -> jnp.dtype:
    """The dtype of logits: float32, or that of the parameters if that is wider.

    Logits in bfloat16 have eight bits, too few to compare the losses of two runs.
    """
    return jnp.promote_types(jnp.float32, as_dtype(param_dtype))
