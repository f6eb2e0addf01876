"""Floating dtypes of computations, parameters and outputs."""

from typing import Any

import jax.numpy as jnp

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match


def as_dtype(dtype: Any) -> jnp.dtype:
    """The floating dtype that ``dtype`` names: a dtype, or a string such as ``"bfloat16"``.

    Raises:
        ConfigError: an unknown dtype, or one that is not floating.
    """
    known = ("bfloat16", "float16", "float32", "float64")
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if dtype is None or found is None or not jnp.issubdtype(found, jnp.floating):
        raise ConfigError(
            f"{dtype!r} is not a floating dtype{near_match(dtype, known)} (known: "
            f"{', '.join(known)})"
        )
    return found


def output_dtype(param_dtype: Any) -> jnp.dtype:
    """The dtype of logits: float32, or that of the parameters if that is wider.

    Logits in bfloat16 have eight bits, too few to compare the losses of two runs.
    """
    return jnp.promote_types(jnp.float32, as_dtype(param_dtype))
