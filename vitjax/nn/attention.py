"""Multi-head attention."""

import functools
import warnings
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.dtypes import as_dtype
from vitjax.nn.layer_norm import LAYER_NORM_EPSILON, layer_norm

AttentionImpl = Literal["plain", "fused"]


def why_not_cudnn(dtype: Any, head_width: int) -> str | None:
    """Why cuDNN's fused attention cannot be used, or None where it can."""
    if jax.default_backend() != "gpu":
        return f"the backend is {jax.default_backend()}, not gpu"
    if as_dtype(dtype) not in (jnp.bfloat16, jnp.float16):
        return f"the computation is in {as_dtype(dtype).name}, not bfloat16 or float16"
    if head_width % 8 or head_width > 128:
        return f"a head is {head_width} wide, not a multiple of 8 up to 128"
    return None


class Attention(nn.Module):
    """Multi-head attention with four kernels of two dimensions: query, key, value, out.

    Sows ``queries``, ``keys``, ``values``, each (batch, tokens, heads, head width), and ``map``,
    the attention map (batch, heads, queries, keys) whose rows sum to one.

    Attributes:
        num_heads: heads; must divide the width of the tokens.
        qk_norm: layer normalisation of each head's queries and keys (Dehghani et al. 2023,
            arXiv:2302.05442, Sec. 2).
        impl: ``"plain"``, which has derivatives of every order, or ``"fused"``, which uses cuDNN's
            kernel where it can and `jax.nn.dot_product_attention` elsewhere.
        norm_epsilon: added to the variance by those normalisations.
        qkv_bias: whether the query, key and value layers have biases; the output layer has one.
        dtype: of the computation; the softmax is in float32 or wider whatever this is.
        param_dtype: of the parameters.
    """

    num_heads: int
    qk_norm: bool = False
    impl: AttentionImpl = "plain"
    norm_epsilon: float = LAYER_NORM_EPSILON
    qkv_bias: bool = True
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch queries width"], source: Float[Array, "batch keys width"]
    ) -> Float[Array, "batch queries width"]:
        """Lets the tokens ``x`` attend to the tokens ``source`` (arXiv:1706.03762, Sec. 3.2)."""
        width, dtype = x.shape[-1], as_dtype(self.dtype)
        dense = functools.partial(
            nn.Dense,
            width,
            kernel_init=nn.initializers.xavier_uniform(),
            dtype=dtype,
            param_dtype=as_dtype(self.param_dtype),
        )

        def heads(tokens: Array, name: str) -> Array:
            tokens = dense(use_bias=self.qkv_bias, name=name)(tokens)
            return tokens.reshape(*tokens.shape[:2], self.num_heads, width // self.num_heads)

        queries, keys, values = heads(x, "query"), heads(source, "key"), heads(source, "value")
        if self.qk_norm:
            norms = (dtype, self.param_dtype, self.norm_epsilon)
            queries = layer_norm("query_norm", *norms)(queries)
            keys = layer_norm("key_norm", *norms)(keys)
        for name, value in (("queries", queries), ("keys", keys), ("values", values)):
            self.sow("intermediates", name, value)

        weights = None
        if self.impl == "plain" or self.is_mutable_collection("intermediates"):
            weights = attention_map(queries, keys)
            self.sow("intermediates", "map", weights)
        if self.impl == "fused":
            mixed = _fused_attention(queries, keys, values)
        else:
            assert weights is not None
            mixed = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(dtype), values)
        return dense(name="out")(mixed.reshape(x.shape))


def attention_map(
    queries: Float[Array, "batch queries heads head_width"],
    keys: Float[Array, "batch keys heads head_width"],
) -> Float[Array, "batch heads queries keys"]:
    """The softmax of the scaled dot products, in float32 or wider (arXiv:1706.03762, Eq. 1)."""
    wide = jnp.promote_types(jnp.float32, queries.dtype)
    queries = queries * queries.shape[-1] ** -0.5
    logits = jnp.einsum("bqhd,bkhd->bhqk", queries, keys, preferred_element_type=wide)
    return jax.nn.softmax(logits, axis=-1)


def _fused_attention(queries: Array, keys: Array, values: Array) -> Array:
    obstacle = why_not_cudnn(queries.dtype, queries.shape[-1])
    if obstacle:
        warnings.warn(f"fused attention falls back to XLA's: {obstacle}", stacklevel=2)
        return jax.nn.dot_product_attention(queries, keys, values, implementation="xla")
    return _cudnn_attention(queries, keys, values)


def _cudnn_attention(queries: Array, keys: Array, values: Array) -> Array:
    """The kernel of cuDNN, which JAX differentiates only for even numbers of queries and of keys.

    A ViT with a class token has an odd number. One token more, which no other attends to and whose
    output is dropped, makes it even.
    """
    batch, tokens = keys.shape[:2]
    lengths = jnp.full(batch, tokens, jnp.int32) if tokens % 2 else None
    mixed = jax.nn.dot_product_attention(
        *(_to_even(x) for x in (queries, keys, values)),
        key_value_seq_lengths=lengths,
        implementation="cudnn",
    )
    return mixed[:, : queries.shape[1]]


def _to_even(tokens: Array) -> Array:
    return jnp.pad(tokens, ((0, 0), (0, tokens.shape[1] % 2), (0, 0), (0, 0)))
