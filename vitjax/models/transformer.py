"""The Transformer encoder over a sequence of tokens, in loop and in scanned form."""

import functools
import re
import warnings
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.models.layers import LayerScale, as_dtype, drop_path, dropout
from vitjax.registry import ConfigError

GELUS = ("exact", "tanh")
ATTENTION_IMPLS = ("plain", "fused")

# Both reference implementations (google-research/vision_transformer and timm) use it.
LAYER_NORM_EPSILON = 1e-6


def layer_norm(
    name: str, dtype: Any, param_dtype: Any, epsilon: float = LAYER_NORM_EPSILON
) -> nn.LayerNorm:
    """Layer normalisation as the ViT family uses it.

    The variance is taken around the mean: E[x^2] - E[x]^2 loses all its digits in the channels of
    very large mean that trained ViTs have.
    """
    return nn.LayerNorm(
        epsilon=epsilon,
        use_fast_variance=False,
        dtype=as_dtype(dtype),
        param_dtype=as_dtype(param_dtype),
        name=name,
    )


def why_not_cudnn(dtype: Any, head_width: int) -> str | None:
    """Says why cuDNN's fused attention cannot serve, or returns None where it can."""
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
        impl: ``"plain"``, which can be differentiated any number of times, or ``"fused"``, which
            takes cuDNN's kernel where it can and `jax.nn.dot_product_attention` elsewhere.
        norm_epsilon: added to the variance by those normalisations.
        dtype: of the computation; the softmax is in float32 or wider whatever this is.
        param_dtype: of the parameters.
    """

    num_heads: int
    qk_norm: bool = False
    impl: str = "plain"
    norm_epsilon: float = LAYER_NORM_EPSILON
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
            tokens = dense(name=name)(tokens)
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
    return jax.nn.dot_product_attention(
        queries, keys, values, implementation="xla" if obstacle else "cudnn"
    )


class MLP(nn.Module):
    """Two dense layers with a GELU between. Sows ``hidden``, what comes out of the GELU.

    Attributes:
        hidden_width: channels between the two layers.
        gelu: ``"exact"`` (by the error function) or ``"tanh"`` (its approximation).
        dropout_rate: of the hidden and of the output channels.
        dtype: of the computation.
        param_dtype: of the parameters.
    """

    hidden_width: int
    gelu: str = "exact"
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens width"], key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch tokens width"]:
        """Applies the layers; ``key`` None means no dropout."""
        dense = functools.partial(
            nn.Dense,
            kernel_init=nn.initializers.xavier_uniform(),
            bias_init=nn.initializers.normal(1e-6),
            dtype=as_dtype(self.dtype),
            param_dtype=as_dtype(self.param_dtype),
        )
        key1, key2 = (None, None) if key is None else jax.random.split(key)
        hidden = dense(self.hidden_width, name="dense1")(x)
        hidden = jax.nn.gelu(hidden, approximate=self.gelu == "tanh")
        self.sow("intermediates", "hidden", hidden)
        hidden = dropout(hidden, self.dropout_rate, key1)
        return dropout(dense(x.shape[-1], name="dense2")(hidden), self.dropout_rate, key2)


class EncoderBlock(nn.Module):
    """One pre-norm layer: attention, then an MLP, each added to the tokens that came in.

    Vaswani et al. as in arXiv:2010.11929, Eq. 2 and 3. Sows ``after_attention`` and ``after_mlp``,
    the tokens after each addition.

    Attributes:
        num_heads: heads of the attention.
        mlp_width: channels inside the MLP.
        dropout_rate: after the attention, and inside and after the MLP.
        layer_scale: initial value of the scale on both branches, or None for no scale.
        qk_norm: see `Attention`.
        gelu: see `MLP`.
        attention_impl: see `Attention`.
        norm_epsilon: added to the variance by every normalisation.
        dtype: of the computation.
        param_dtype: of the parameters.
    """

    num_heads: int
    mlp_width: int
    dropout_rate: float = 0.0
    layer_scale: float | None = None
    qk_norm: bool = False
    gelu: str = "exact"
    attention_impl: str = "plain"
    norm_epsilon: float = LAYER_NORM_EPSILON
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        drop_path_rate: float | Array | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch tokens width"]:
        """Applies the layer.

        Args:
            x: tokens.
            drop_path_rate: probability of leaving out a branch for an example; None for never.
            key: randomness of dropout and drop path; None for neither.
        """
        dtypes: dict[str, Any] = {
            "dtype": as_dtype(self.dtype),
            "param_dtype": as_dtype(self.param_dtype),
        }
        keys = [None] * 4 if key is None else list(jax.random.split(key, 4))

        def finish(branch: Array, number: int, key: PRNGKeyArray | None) -> Array:
            if self.layer_scale is not None:
                name = f"layer_scale{number}"
                branch = LayerScale(self.layer_scale, **dtypes, name=name)(branch)
            return branch if drop_path_rate is None else drop_path(branch, drop_path_rate, key)

        norms = {**dtypes, "epsilon": self.norm_epsilon}
        y = layer_norm("norm1", **norms)(x)
        y = Attention(
            self.num_heads,
            self.qk_norm,
            self.attention_impl,
            self.norm_epsilon,
            **dtypes,
            name="attention",
        )(y, y)
        y = dropout(y, self.dropout_rate, keys[0])
        x = x + finish(y, 1, keys[1])
        self.sow("intermediates", "after_attention", x)

        y = layer_norm("norm2", **norms)(x)
        y = MLP(self.mlp_width, self.gelu, self.dropout_rate, **dtypes, name="mlp")(y, keys[2])
        x = x + finish(y, 2, keys[3])
        self.sow("intermediates", "after_mlp", x)
        return x


class Encoder(nn.Module):
    """A stack of `EncoderBlock`, without the final normalisation.

    Attributes:
        depth: blocks.
        block: keyword arguments of `EncoderBlock`.
        drop_path_rate: of the last block; it grows linearly from zero in the first.
        scan_layers: compile one block and run it ``depth`` times (`jax.lax.scan`): parameters and
            intermediates then lie under ``blocks`` with a leading axis, not ``block_0``, ...
        remat: recompute each block's activations in the backward pass instead of keeping them.
    """

    depth: int
    block: Mapping[str, Any]
    drop_path_rate: float = 0.0
    scan_layers: bool = False
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens width"], key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch tokens width"]:
        """Applies all blocks; ``key`` None means neither dropout nor drop path."""
        rates = np.linspace(0, self.drop_path_rate, self.depth, dtype=np.float32)
        each_rate = None if key is None or not self.drop_path_rate else rates
        each_key = None if key is None else jax.random.split(key, self.depth)

        def run(block: nn.Module, x: Array, of_layer: Any) -> tuple[Array, None]:
            return block(x, *of_layer), None

        if self.remat:
            # Inside a scan, common subexpressions cannot be merged across the loop anyway.
            run = nn.remat(run, prevent_cse=not self.scan_layers)
        if self.scan_layers:
            scan = nn.scan(
                run,
                variable_axes={"params": 0, "intermediates": 0},
                split_rngs={"params": True},
                length=self.depth,
            )
            x, _ = scan(EncoderBlock(**self.block, name="blocks"), x, (each_rate, each_key))
        else:
            for layer in range(self.depth):
                of_layer = [v if v is None else v[layer] for v in (each_rate, each_key)]
                x, _ = run(EncoderBlock(**self.block, name=f"block_{layer}"), x, of_layer)
        return x


def stack_layers(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Brings parameters, gradients or intermediates from the loop's form to the scan's.

    Args:
        tree: nested mappings; wherever ``block_0``, ``block_1``, ... stand together they become
            ``blocks``, with a new first axis.

    Raises:
        ConfigError: the numbers have a gap, or the blocks differ in their structure.
    """
    new: dict[str, Any] = {}
    blocks: dict[int, Any] = {}
    for key, value in tree.items():
        if found := re.fullmatch(r"block_(\d+)", key):
            blocks[int(found[1])] = value
        else:
            new[key] = stack_layers(value) if isinstance(value, Mapping) else value
    if blocks:
        if sorted(blocks) != list(range(len(blocks))):
            raise ConfigError(f"blocks {sorted(blocks)} do not count from 0 without a gap")
        layers = [blocks[i] for i in range(len(blocks))]
        if len({jax.tree.structure(layer) for layer in layers}) > 1:
            raise ConfigError("blocks of different structure cannot be stacked")
        new["blocks"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    return new


def unstack_layers(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `stack_layers`: from the scan's form to the loop's."""
    new: dict[str, Any] = {}
    for key, value in tree.items():
        if key == "blocks":
            for layer in range(len(jax.tree.leaves(value)[0])):
                new[f"block_{layer}"] = jax.tree.map(lambda leaf, i=layer: leaf[i], value)
        else:
            new[key] = unstack_layers(value) if isinstance(value, Mapping) else value
    return new
