"""LayerScale: a learned factor per channel."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.dtypes import as_dtype


class LayerScale(nn.Module):
    """Multiplies each channel by a learned number (Touvron et al. 2021, arXiv:2103.17239, Eq. 4).

    Attributes:
        initial: the number that every channel starts with.
        dtype: of the computation.
        param_dtype: of the parameters.
    """

    initial: float
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """Scales ``x``."""
        scale = self.param(
            "scale",
            nn.initializers.constant(self.initial),
            (x.shape[-1],),
            as_dtype(self.param_dtype),
        )
        return x * scale.astype(as_dtype(self.dtype))
