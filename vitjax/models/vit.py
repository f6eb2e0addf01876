"""The Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929)."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.validation import NonNegativeFloat, PositiveFloat, Rate
from vitjax.models.limits import Classes, Depth, Heads, Pixels, Tokens, Width
from vitjax.models.protocol import FeatureInfo, Model, Shapeless, SplitRules, numbers_in
from vitjax.models.registry import IMAGENET, MODELS, SYMMETRIC
from vitjax.nn.attention import AttentionImpl
from vitjax.nn.attention_pooling import AttentionPooling
from vitjax.nn.conv import Conv
from vitjax.nn.drop import dropout
from vitjax.nn.dtypes import Dtype, as_dtype, output_dtype
from vitjax.nn.inputs import ImageError, check_images
from vitjax.nn.layer_norm import LAYER_NORM_EPSILON, layer_norm
from vitjax.nn.positions import sincos2d
from vitjax.nn.transformer import Encoder, Gelu, Remat

# Poolings that take the class token.
_READ_TOKEN = ("token", "token_and_mean")

_BLOCK = re.compile(r"(?:^|/)block_(\d+)/")
_STACKED = re.compile(r"(^|/)encoder/blocks/")
_EMBEDDING = re.compile(
    r"(^|/)(patch_embedding|position_embedding|class_token|class_position_embedding"
    r"|register_tokens|pre_norm)(/|$)"
)


class ViT(Model):
    """Vision Transformer: an image as a sequence of patches.

    Initialised as in google-research/vision_transformer: Xavier-uniform kernels in attention and
    MLP, MLP biases normal with standard deviation 1e-6, LeCun-normal patch embedding, position
    embedding normal with standard deviation ``position_stddev``, class token and head zero.

    Sows ``patches`` (batch, rows, columns, width), ``tokens`` (the input of the encoder),
    ``encoded`` (its output, normalised unless ``fc_norm``), ``pooled``, ``representation`` (the
    input of the head) and ``logits``; `EncoderBlock`, `Attention` and `MLP` sow more.

    Attributes:
        width: channels of a token.
        depth: number of blocks.
        num_heads: number of attention heads; must divide ``width``.
        mlp_width: channels inside the MLPs; None for four times ``width``.
        patch_size: side of a patch in pixels, or (height, width).
        num_classes: number of logits; 0 or None for no head: the model then returns the
            representation.
        pooling: ``"token"`` (the class token), ``"mean"`` (of all patch tokens),
            ``"token_and_mean"`` (both concatenated, as in DINOv2's linear classifiers:
            arXiv:2304.07193, App. B.3) or ``"map"`` (`AttentionPooling` over all tokens).
        class_token: whether there is a class token; None for one if ``pooling`` reads it.
        class_position: whether learned positions include one for the class token.
        positions: ``"learned"``, ``"sincos2d"`` (fixed, any image size) or ``"none"``.
        position_stddev: standard deviation of learned positions at initialisation; 0 for zeros.
        registers: number of further learned tokens, without position, that are not pooled (Darcet
            et al. 2024, arXiv:2309.16588).
        representation_size: width of a hidden tanh layer before the head; None for none.
        layer_scale: initial value of LayerScale; None for none.
        qk_norm: layer normalisation of queries and keys.
        qkv_bias: whether the query, key and value layers of the blocks have biases; those of
            ``pooling="map"`` always have.
        pre_norm: layer normalisation of all tokens before the first block, as in CLIP
            (arXiv:2103.00020, Sec. 2.4).
        fc_norm: normalise after pooling instead of before, as in MAE's fine-tuned networks.
        norm_epsilon: added to the variance by every layer normalisation.
        dropout: rate, after the position embedding and within each block.
        drop_path: rate of the last block; it grows linearly over depth from 0.
        gelu: ``"exact"``, as in the paper and in PyTorch, or ``"tanh"``, as in Flax's ``nn.gelu``
            and so for the weights of google-research/vision_transformer, or ``"quick"``, as in
            OpenAI's CLIP.
        attention_impl: ``"plain"`` or ``"fused"``; see `Attention`.
        scan_layers: see `Encoder`.
        remat: see `Encoder`.
        dtype: of the computation, as a dtype or its name.
        param_dtype: of the parameters, likewise.

    Raises:
        ConfigError: at construction, for a value that cannot be used.
    """

    head_hidden: ClassVar[tuple[str, ...]] = ("pre_logits",)
    image_kernels: ClassVar[tuple[str, ...]] = ("patch_embedding/kernel",)
    patch_kernel: ClassVar[str | None] = "patch_embedding/kernel"
    position_embedding: ClassVar[str | None] = "position_embedding"
    low_rank_kernels: ClassVar[tuple[str, ...]] = (r"attention/(query|value)/kernel$",)
    # Each device computes some of the heads, and some of an MLP's hidden channels.
    tensor_parallel: ClassVar[SplitRules] = (
        (r"(attention/(query|key|value)|mlp/dense1)/(bias|kernel(/b)?)$", -1),
        (r"(attention/out|mlp/dense2)/kernel(/a)?$", -2),
    )
    tensor_parallel_counts: ClassVar[tuple[str, ...]] = ("num_heads",)
    shapeless_fields: ClassVar[Mapping[str, Shapeless]] = {
        "num_heads": Shapeless(exact=True),
        "gelu": Shapeless(),
        "norm_epsilon": Shapeless(),
        "positions": Shapeless(shown="learned"),
    }
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(tokens|after_mlp)$",)
    counted_layers: ClassVar[Mapping[str, re.Pattern[str]]] = {"depth": _BLOCK}

    width: Width = 768
    depth: Depth = 12
    num_heads: Heads = 12
    mlp_width: Width | None = None
    patch_size: Pixels | tuple[Pixels, Pixels] = 16
    num_classes: Classes | None = 1000
    pooling: Literal["token", "mean", "token_and_mean", "map"] = "token"
    class_token: bool | None = None
    class_position: bool = True
    positions: Literal["learned", "sincos2d", "none"] = "learned"
    position_stddev: NonNegativeFloat = 0.02
    registers: Tokens = 0
    representation_size: Width | None = None
    layer_scale: float | None = None
    qk_norm: bool = False
    qkv_bias: bool = True
    pre_norm: bool = False
    fc_norm: bool = False
    norm_epsilon: PositiveFloat = LAYER_NORM_EPSILON
    dropout: Rate = 0.0
    drop_path: Rate = 0.0
    gelu: Gelu = "exact"
    attention_impl: AttentionImpl = "plain"
    scan_layers: bool = False
    remat: Remat = "none"
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        if self.width % self.num_heads:
            raise ConfigError(f"width={self.width} cannot be split over {self.num_heads} num_heads")
        if self.pooling in _READ_TOKEN and self.class_token is False:
            raise ConfigError(f"pooling={self.pooling!r} reads the class token: class_token=False")

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns logits, or without a head the representation.

        Args:
            images: floats; height and width are multiples of the patch size, and with learned
                positions those that the parameters were initialised with.
            train: apply dropout and drop path, drawing from the RNG collection ``"dropout"``.

        Returns:
            (batch, num_classes), float32 or wider.

        Raises:
            ImageError: images of the wrong rank, dtype or size.
        """
        return self._logits(self._encode(images, train)[0])

    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """The tokens of patches after each quarter of the blocks, all at the stride of a patch.

        Raises:
            ConfigError: patches are not square.
        """
        height, width = self.patch
        if height != width:
            raise ConfigError(f"patch_size={self.patch_size}: feature maps need square patches")
        return tuple(FeatureInfo(f"block{n}", height, self.width) for n in self._quarters())

    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Array]:
        """The maps of `feature_info`; the last is normalised unless ``fc_norm``."""
        rows, columns = self.patch_grid(images.shape[1:])
        last, outputs = self._encode(images, train, collect=True)
        chosen = [outputs[n - 1] for n in self._quarters()[:-1]]
        return {
            f"block{n}": x[:, self.prefix_tokens :].reshape(x.shape[0], rows, columns, self.width)
            for n, x in zip(self._quarters(), [*chosen, last], strict=True)
        }

    @property
    def map_name(self) -> str | None:
        """As of `Model`: if the class token alone is pooled, the input of the last block."""
        last = self.depth - 2 if self.pooling == "token" else self.depth - 1
        return f"encoder/block_{last}/after_mlp" if last >= 0 else "tokens"

    def _quarters(self) -> list[int]:
        """The numbers, from 1, of the blocks that end a quarter of the depth."""
        return sorted({-(-self.depth * quarter // 4) for quarter in range(1, 5)})

    def layer_key(self, name: str) -> tuple[int, ...]:
        """Embeddings and further tokens, then each block, then what follows the blocks.

        Raises:
            ConfigError: ``scan_layers`` stacks the blocks.
        """
        if _STACKED.search(name):
            raise ConfigError(
                "under scan_layers one array holds all blocks, so they have one rate; set"
                " config.model.scan_layers = False (weights of one form can be loaded into the"
                " other)"
            )
        if block := numbers_in(_BLOCK, name):
            return 1, *block
        return (0,) if _EMBEDDING.search(name) else (2,)

    @nn.compact
    def _encode(
        self, images: Array, train: bool, collect: bool = False
    ) -> tuple[Array, list[Array]]:
        """The encoded tokens; with ``collect`` the output of each block too."""
        dtypes = self.dtypes
        key_in = key_blocks = None
        if train and (self.dropout or self.drop_path):
            key_in, key_blocks = jax.random.split(self.make_rng("dropout"))

        x = self._patches(images)
        self.sow("intermediates", "patches", x)
        x = self._tokens(x)
        if self.pre_norm:
            x = layer_norm("pre_norm", **dtypes, epsilon=self.norm_epsilon)(x)
        x = dropout(x, self.dropout, key_in)
        self.sow("intermediates", "tokens", x)

        block = {
            "num_heads": self.num_heads,
            "mlp_width": self.mlp_width or 4 * self.width,
            "dropout_rate": self.dropout,
            "layer_scale": self.layer_scale,
            "qk_norm": self.qk_norm,
            "qkv_bias": self.qkv_bias,
            "gelu": self.gelu,
            "attention_impl": self.attention_impl,
            "norm_epsilon": self.norm_epsilon,
            **dtypes,
        }
        encoder = Encoder(
            self.depth, block, self.drop_path, self.scan_layers, self.remat, name="encoder"
        )
        x, outputs = encoder(x, key_blocks, collect)
        if not self.fc_norm:
            x = layer_norm("encoder_norm", **dtypes, epsilon=self.norm_epsilon)(x)
        self.sow("intermediates", "encoded", x)
        return x, outputs

    @nn.compact
    def _logits(self, x: Array) -> Array:
        """Pools the encoded tokens ``x`` and applies the head."""
        dtypes, out = self.dtypes, output_dtype(self.param_dtype)
        x = self._pool(x)
        if self.fc_norm:
            x = layer_norm("fc_norm", **dtypes, epsilon=self.norm_epsilon)(x)
        self.sow("intermediates", "pooled", x)
        if self.representation_size is not None:
            x = nn.Dense(self.representation_size, **dtypes, name="pre_logits")(x)
            x = jnp.tanh(x)
        x = x.astype(out)
        self.sow("intermediates", "representation", x)
        if self.num_classes:
            x = nn.Dense(
                self.num_classes,
                kernel_init=nn.initializers.zeros,
                dtype=out,
                param_dtype=dtypes["param_dtype"],
                name="head",
            )(x)
            self.sow("intermediates", "logits", x)
        return x

    @property
    def has_class_token(self) -> bool:
        """Whether the first token is a class token."""
        return self.pooling in _READ_TOKEN if self.class_token is None else self.class_token

    @property
    def reads_class_token(self) -> bool:
        """Whether the class token is pooled."""
        return self.pooling in _READ_TOKEN

    @property
    def prefix_tokens(self) -> int:
        """Tokens before those of the patches: the class token and the registers."""
        return self.has_class_token + self.registers

    def effective_fields(self) -> dict[str, Any]:
        """As `Model.effective_fields`."""
        positioned = self.has_class_token and self.positions == "learned"
        usual_token = self.has_class_token == (self.pooling in _READ_TOKEN)
        fields = super().effective_fields()
        del fields["position_stddev"]
        return {
            **fields,
            "mlp_width": None if self.mlp_width == 4 * self.width else self.mlp_width,
            "class_token": None if usual_token else self.has_class_token,
            "class_position": self.class_position or not positioned,
            "patch_size": self.patch[0] if self.patch[0] == self.patch[1] else self.patch,
        }

    @property
    def patch(self) -> tuple[int, int]:
        """The (height, width) of a patch in pixels."""
        height, width = np.broadcast_to(self.patch_size, 2).tolist()
        return height, width

    def patch_grid(self, image_shape: Sequence[int]) -> tuple[int, int]:
        """Patches (rows, columns) of an image of (height, width, channels)."""
        return image_shape[0] // self.patch[0], image_shape[1] // self.patch[1]

    def _patches(self, images: Array) -> Array:
        """Embeds each patch: (batch, rows, columns, width)."""
        check_images(images)
        patch, sides = self.patch, images.shape[1:3]
        if any(side % p or side < p for side, p in zip(sides, patch, strict=True)):
            near = [
                sorted({max(s // p, 1) * p, -(-s // p) * p})
                for s, p in zip(sides, patch, strict=True)
            ]
            nearest = " x ".join(" or ".join(map(str, options)) for options in near)
            raise ImageError(
                f"images of {sides[0]} x {sides[1]} pixels (height x width) do not divide into"
                f" patches of {patch[0]} x {patch[1]}; the nearest sizes that do: {nearest}"
            )
        return Conv(
            self.width,
            patch,
            patch,
            padding=0,
            use_bias=True,
            **self.dtypes,
            name="patch_embedding",
        )(images)

    def _tokens(self, x: Array) -> Array:
        """Adds positions and further tokens: [class token,] [registers,] patches."""
        batch, rows, columns, _ = x.shape

        def learned(name: str, init: Any, *shape: int) -> Array:
            shape = (1, *shape, self.width)
            return self.param(name, init, shape, as_dtype(self.param_dtype)).astype(x.dtype)

        position = nn.initializers.normal(self.position_stddev)
        if self.positions == "learned":
            self._check_grid(rows, columns)
            x = x + learned("position_embedding", position, rows, columns)
        elif self.positions == "sincos2d":
            x = x + jnp.asarray(sincos2d(rows, columns, self.width), x.dtype)

        first = []
        if self.has_class_token:
            token = learned("class_token", nn.initializers.zeros, 1)
            if self.positions == "learned" and self.class_position:
                token = token + learned("class_position_embedding", position, 1)
            first.append(token)
        if self.registers:
            register = nn.initializers.normal(0.02)
            first.append(learned("register_tokens", register, self.registers))
        tokens = [jnp.broadcast_to(t, (batch, *t.shape[1:])) for t in first]
        return jnp.concatenate([*tokens, x.reshape(batch, rows * columns, self.width)], axis=1)

    def _pool(self, x: Array) -> Array:
        """Pools all tokens to one vector."""
        if self.pooling == "map":
            return AttentionPooling(
                self.num_heads,
                self.mlp_width or 4 * self.width,
                self.gelu,
                self.attention_impl,
                self.norm_epsilon,
                **self.dtypes,
                name="pool",
            )(x)
        if self.pooling == "token":
            return x[:, 0]
        mean = jnp.mean(x[:, self.prefix_tokens :], axis=1)
        return mean if self.pooling == "mean" else jnp.concatenate([x[:, 0], mean], axis=-1)

    def _check_grid(self, rows: int, columns: int) -> None:
        if self.has_variable("params", "position_embedding"):
            made: tuple[int, int] = self.get_variable("params", "position_embedding").shape[1:3]
            if made != (rows, columns):
                raise ImageError(
                    f"the position embedding is for a grid of {made[0]} x {made[1]} patches and"
                    f" these images give {rows} x {columns} (patch_size={self.patch_size}); give"
                    " images of the size that the parameters were initialised with, interpolate the"
                    " embedding, or set positions='sincos2d'"
                )


_SIZES: dict[str, dict[str, Any]] = {
    "ti": {"width": 192, "depth": 12, "num_heads": 3},
    "s": {"width": 384, "depth": 12, "num_heads": 6},
    "b": {"width": 768, "depth": 12, "num_heads": 12},
    "l": {"width": 1024, "depth": 24, "num_heads": 16},
    "h": {"width": 1280, "depth": 32, "num_heads": 16},
    "g": {"width": 1408, "depth": 40, "num_heads": 16, "mlp_width": 6144},
}

_VIT = {"paper": "Dosovitskiy et al. 2021, arXiv:2010.11929", "year": 2021, **SYMMETRIC}
_DEIT = {"paper": "Touvron et al. 2021 (DeiT), arXiv:2012.12877", "year": 2021, **IMAGENET}
_SCALING = "Zhai et al. 2022 (Scaling Vision Transformers), arXiv:2106.04560"
_PAPERS: dict[str, dict[str, Any]] = {
    "ti": {**_DEIT, "interpolation": "bicubic"},
    "s": {**_DEIT, "interpolation": "bicubic"},
    "g": {"paper": _SCALING, "year": 2022, **SYMMETRIC},
}

for _name in (
    *("ti16", "s16", "s32", "b8", "b16", "b32"),
    *("l16", "l32", "h14", "g14"),
):
    _size, _patch = _name.rstrip("0123456789"), int(_name.lstrip("tisblhg"))
    MODELS.register(f"vit_{_name}", image_size=224, **_PAPERS.get(_size, _VIT))(
        functools.partial(ViT, **{"mlp_width": None, **_SIZES[_size]}, patch_size=_patch)
    )
