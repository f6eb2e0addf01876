"""Attention pooling: one learned query over all tokens."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.attention import Attention, AttentionImpl
from vitjax.nn.dtypes import as_dtype
from vitjax.nn.layer_norm import LAYER_NORM_EPSILON, layer_norm
from vitjax.nn.transformer import MLP, Gelu


class AttentionPooling(nn.Module):
    """One learned query that attends to all tokens, then an MLP.

    Zhai et al. 2022, arXiv:2106.04560, Sec. 3.2 ("MAP head", after arXiv:1810.00825).

    Attributes:
        num_heads: heads of the attention.
        mlp_width: channels inside the MLP.
        gelu: see `MLP`.
        attention_impl: see `Attention`.
        norm_epsilon: added to the variance by the normalisation.
        dtype: of the computation.
        param_dtype: of the parameters.
    """

    num_heads: int
    mlp_width: int
    gelu: Gelu = "exact"
    attention_impl: AttentionImpl = "plain"
    norm_epsilon: float = LAYER_NORM_EPSILON
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens width"]) -> Float[Array, "batch width"]:
        """Pools the tokens ``x``."""
        dtypes: dict[str, Any] = {
            "dtype": as_dtype(self.dtype),
            "param_dtype": as_dtype(self.param_dtype),
        }
        shape, init = (1, 1, x.shape[-1]), nn.initializers.xavier_uniform()
        probe = self.param("probe", init, shape, dtypes["param_dtype"])
        probe = jnp.broadcast_to(probe.astype(x.dtype), (x.shape[0], *shape[1:]))
        y = Attention(self.num_heads, impl=self.attention_impl, **dtypes, name="attention")(
            probe, x
        )
        z = layer_norm("norm", **dtypes, epsilon=self.norm_epsilon)(y)
        y = y + MLP(self.mlp_width, self.gelu, **dtypes, name="mlp")(z)
        return y[:, 0]
