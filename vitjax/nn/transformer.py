"""The Transformer encoder over a sequence of tokens, as a loop or as a scan over blocks."""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.nn.attention import Attention, AttentionImpl
from vitjax.nn.drop import drop_path, dropout
from vitjax.nn.dtypes import as_dtype
from vitjax.nn.layer_norm import LAYER_NORM_EPSILON, layer_norm
from vitjax.nn.layer_scale import LayerScale

Gelu = Literal["exact", "tanh", "quick"]
Remat = Literal["none", "full", "dots"]


class MLP(nn.Module):
    """Two dense layers with a GELU between them. Sows ``hidden``, the output of the GELU.

    Attributes:
        hidden_width: channels between the two layers.
        gelu: ``"exact"`` (by the error function), ``"tanh"`` (its approximation) or ``"quick"``
            (x * sigmoid(1.702 x), as in OpenAI's CLIP).
        dropout_rate: of the hidden and of the output channels.
        dtype: of the computation.
        param_dtype: of the parameters.
    """

    hidden_width: int
    gelu: Gelu = "exact"
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
        if self.gelu == "quick":
            hidden = hidden * jax.nn.sigmoid(1.702 * hidden)
        else:
            hidden = jax.nn.gelu(hidden, approximate=self.gelu == "tanh")
        self.sow("intermediates", "hidden", hidden)
        hidden = dropout(hidden, self.dropout_rate, key1)
        return dropout(dense(x.shape[-1], name="dense2")(hidden), self.dropout_rate, key2)


class EncoderBlock(nn.Module):
    """One pre-norm layer: attention, then an MLP, each added to its input.

    Dosovitskiy et al. 2021, arXiv:2010.11929, Eq. 2 and 3. Sows ``after_attention`` and
    ``after_mlp``, the tokens after each addition.

    Attributes:
        num_heads: heads of the attention.
        mlp_width: channels inside the MLP.
        dropout_rate: after the attention, and inside and after the MLP.
        layer_scale: initial value of the scale on both branches, or None for no scale.
        qk_norm: see `Attention`.
        qkv_bias: see `Attention`.
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
    qkv_bias: bool = True
    gelu: Gelu = "exact"
    attention_impl: AttentionImpl = "plain"
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
            self.qkv_bias,
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


# Outputs of products without batch dimensions, so of dense layers. The products of attention are
# computed again: they have a number for each pair of tokens.
_DENSE = jax.checkpoint_policies.dots_with_no_batch_dims_saveable


class Encoder(nn.Module):
    """A stack of `EncoderBlock`, without the final normalisation.

    Attributes:
        depth: blocks.
        block: keyword arguments of `EncoderBlock`.
        drop_path_rate: of the last block; it grows linearly from zero in the first.
        scan_layers: compile one block and run it ``depth`` times (`jax.lax.scan`); parameters and
            intermediates are then under ``blocks``, with a leading axis, instead of ``block_0``,
            ``block_1``, ...
        remat: what the backward pass of a block computes again instead of storing it: ``"none"``;
            ``"full"``, all activations; ``"dots"``, all but the outputs of dense layers.
    """

    depth: int
    block: Mapping[str, Any]
    drop_path_rate: float = 0.0
    scan_layers: bool = False
    remat: Remat = "none"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        key: PRNGKeyArray | None = None,
        collect: bool = False,
    ) -> tuple[Float[Array, "batch tokens width"], list[Float[Array, "batch tokens width"]]]:
        """Applies all blocks.

        Args:
            x: tokens.
            key: of dropout and drop path; None for neither.
            collect: return the output of each block too.

        Returns:
            The output of the last block; those of all blocks, or an empty list.
        """
        rates = np.linspace(0, self.drop_path_rate, self.depth, dtype=np.float32)
        each_rate = None if key is None or not self.drop_path_rate else rates
        each_key = None if key is None else jax.random.split(key, self.depth)

        def run(block: nn.Module, x: Array, of_layer: Any) -> tuple[Array, Array | None]:
            x = block(x, *of_layer)
            return x, x if collect else None

        if self.remat != "none":
            policy = _DENSE if self.remat == "dots" else None
            # Inside a scan, XLA cannot merge common subexpressions across iterations.
            run = nn.remat(run, prevent_cse=not self.scan_layers, policy=policy)
        if self.scan_layers:
            scan = nn.scan(
                run,
                variable_axes={"params": 0, "intermediates": 0},
                split_rngs={"params": True},
                length=self.depth,
            )
            x, stacked = scan(EncoderBlock(**self.block, name="blocks"), x, (each_rate, each_key))
            return x, [] if stacked is None else list(stacked)
        outputs = []
        for layer in range(self.depth):
            of_layer = [v if v is None else v[layer] for v in (each_rate, each_key)]
            x, _ = run(EncoderBlock(**self.block, name=f"block_{layer}"), x, of_layer)
            outputs.append(x)
        return x, outputs if collect else []
