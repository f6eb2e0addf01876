"""What convolutional networks for classification have in common."""

from __future__ import annotations

import abc
import functools
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from vitjax.core.validation import Rate
from vitjax.models.limits import Classes
from vitjax.models.protocol import FeatureInfo, Model
from vitjax.nn.conv_norm import Layers
from vitjax.nn.convolution import ConvImpl
from vitjax.nn.dtypes import Dtype, as_dtype, output_dtype
from vitjax.nn.initializers import pytorch_bias, pytorch_kernel
from vitjax.nn.inputs import check_images, check_width

_STEM = re.compile(r"(^|/)stem_?\w*/")
_STAGE = re.compile(r"(?:^|/)stage(\d+)(?:_[a-z]+(\d+)?)?/")
# In the order of depth, a layer of a stage without a number comes after those with one.
_LAST = 10**9


class ConvNet(Model):
    """The base of convolutional networks: maps, then global average pooling and a dense layer.

    A family defines `maps`; parameters are called ``stem...``, ``stage1_block1``,
    ``stage1_block2``, ..., ``stage1_transition`` (after the blocks), and ``head``. A network whose
    last layers differ overrides `classify`.

    Sows the maps of `features`, ``pooled`` and ``logits``.

    Attributes:
        smallest_image: the fewest pixels that a side of an image may have.
        num_classes: number of logits; 0 or None for no head: the model then returns what the head
            would read, without dropout.
        dropout: rate before the head.
        conv_impl: how convolutions are computed, see `vitjax.nn.convolution.convolve`.
        axis_name: the mapped axis over which batch statistics are averaged; None for none.
        dtype: of the computation, as a dtype or its name.
        param_dtype: of the parameters, likewise.

    Raises:
        ConfigError: at construction, for a value that cannot be used.
    """

    smallest_image: ClassVar[int] = 32

    num_classes: Classes | None = 1000
    dropout: Rate = 0.0
    conv_impl: ConvImpl = "auto"
    axis_name: str | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @abc.abstractmethod
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The maps of the network by name, from fine to coarse, the last one for `classify`.

        Of several maps of one stride the last is to be given. The method is to be ``nn.compact``.

        Args:
            images: floats, with sides of at least `smallest_image` pixels.
            train: as in `__call__`.
        """

    @nn.compact
    def classify(self, x: Array, train: bool) -> Float[Array, "batch outputs"]:
        """The logits for the last map, or without a head what the head would read."""
        x = jnp.mean(x, axis=(1, 2), dtype=output_dtype(self.param_dtype))
        return self.classifier(x, train)

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns logits, or without a head its input.

        Args:
            images: floats.
            train: normalise by the batch's statistics and update ``batch_stats``, which must then
                be mutable; apply dropout, drawing from the RNG collection ``"dropout"``; compute
                the `auxiliary_logits`.

        Returns:
            (batch, num_classes), float32 or wider.

        Raises:
            ImageError: images of the wrong rank, dtype or size.
        """
        *_, x = self.features(images, train).values()
        return self.classify(x, train)

    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Array]:
        """The maps of `feature_info`, from fine to coarse.

        Raises:
            ImageError: images of the wrong rank, dtype or size.
        """
        check_images(images, self.smallest_image)
        found = self.maps(images, train)
        for name, value in found.items():
            # With `capture_intermediates` a layer of this name has its output there already.
            if not isinstance(self.variables.get("intermediates", {}).get(name), Mapping):
                self.sow("intermediates", name, value)
        return found

    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """As `Model.feature_info`, found by tracing."""
        return _traced(self.clone(parent=None, name=None, num_classes=None))

    def layer_key(self, name: str) -> tuple[int, ...]:
        """The stem, then each layer of each stage, then all others."""
        if found := _STAGE.search(name):
            return 1, int(found[1]), int(found[2] or _LAST)
        return (0,) if _STEM.search(name) else (2,)

    def layers(self, train: bool, **fields: Any) -> Layers:
        """The constructors of the network's layers.

        Args:
            train: as in `__call__`.
            **fields: of `Layers`.
        """
        own = {"conv_impl": self.conv_impl, "axis_name": self.axis_name, **self.dtypes}
        return Layers(train=train, **own, **fields)

    def drop(self, x: Array, train: bool) -> Array:
        """``x`` after dropout."""
        return nn.Dropout(self.dropout, deterministic=not train)(x)

    def classifier(
        self, x: Float[Array, "batch width"], train: bool, **initialisers: Any
    ) -> Float[Array, "batch outputs"]:
        """Dropout and the dense layer ``head``; sows ``pooled``, its input, and ``logits``.

        Args:
            x: what the head reads.
            train: as in `__call__`.
            **initialisers: ``kernel_init`` and ``bias_init``; PyTorch's defaults if not given.
        """
        x = x.astype(output_dtype(self.param_dtype))
        self.sow("intermediates", "pooled", x)
        if not self.num_classes:
            return x
        x = self.dense(self.drop(x, train), self.num_classes, "head", **initialisers)
        self.sow("intermediates", "logits", x)
        return x

    def dense(
        self,
        x: Float[Array, "batch width"],
        features: int,
        name: str,
        dtype: Any = None,
        **initialisers: Any,
    ) -> Float[Array, "batch features"]:
        """A dense layer, by default with PyTorch's initialisation; see `classifier`.

        Args:
            x: what the layer reads.
            features: outputs.
            name: of the layer.
            dtype: of the computation; None for that of logits.
            **initialisers: as of `classifier`.

        Raises:
            ImageError: its parameters are for images of another size.
        """
        check_width(self, name, x, "give images of the size that the parameters were made for")
        initial = {"kernel_init": pytorch_kernel, "bias_init": pytorch_bias(x.shape[-1])}
        return nn.Dense(
            features,
            dtype=output_dtype(self.param_dtype) if dtype is None else as_dtype(dtype),
            param_dtype=as_dtype(self.param_dtype),
            name=name,
            **{**initial, **initialisers},
        )(x)

    def sow_auxiliary(self, name: str, logits: Float[Array, "batch classes"]) -> None:
        """Gives out `auxiliary_logits`."""
        if not self.is_initializing():
            self.sow("auxiliary", name, logits, lambda _, new: new, lambda: None)

    def needs_auxiliary(self, train: bool) -> bool:
        """Whether the layers of `auxiliary_logits` are called, to be made or in training."""
        return bool(self.auxiliary_logits) and (train or self.is_initializing())


@functools.cache
def variable_shapes(model: ConvNet) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's variables by name, with the collection first, for its smallest image.

    Tracing a deep network takes seconds, so each is traced once.
    """
    image = jax.ShapeDtypeStruct((1, model.smallest_image, model.smallest_image, 3), jnp.float32)
    # The plain form has the same variables and takes less time to trace.
    variables: Any = jax.eval_shape(model.plain().init, jax.random.key(0), image)
    return {name: leaf.shape for name, leaf in flatten_dict(variables, sep="/").items()}


@functools.cache
def _traced(model: ConvNet) -> tuple[FeatureInfo, ...]:
    """The maps of a model, by their shapes for large images, at which borders do not count."""
    side = 64 * model.smallest_image
    names: list[str] = []  # in order, which a dict that is traced loses

    def maps(key: Array) -> list[Array]:
        images = jnp.zeros((1, side, side, 3))
        found, _ = model.init_with_output(key, images, method="features")
        names.extend(found)
        return list(found.values())

    shapes = jax.eval_shape(maps, jax.random.key(0))
    return tuple(
        FeatureInfo(name, 2 ** round(math.log2(side / x.shape[1])), x.shape[-1])
        for name, x in zip(names, shapes, strict=True)
    )
