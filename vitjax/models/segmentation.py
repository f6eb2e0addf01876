"""The base class of segmentation networks: their common fields and layers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from vitjax.core.validation import PositiveFloat
from vitjax.models.limits import Classes, Groups
from vitjax.models.protocol import Model, Shapeless
from vitjax.nn.conv import Conv
from vitjax.nn.convolution import ConvImpl
from vitjax.nn.dtypes import Dtype, output_dtype
from vitjax.nn.norm import Norm, normalization
from vitjax.nn.unet import HE, KERNEL, Layer, Up, UpKind


class SegmentationModel(Model):
    """The fields of all segmentation networks.

    Attributes:
        num_classes: number of logits per pixel; 0 or None for no head: the model then returns the
            input of the head.
        norm: after each convolution of a block: ``"none"``, ``"batch"``, ``"group"`` or
            ``"layer"`` (over pixels and channels). Without one, convolutions have biases.
        norm_groups: groups of group normalisation.
        norm_epsilon: added to the variance.
        up: how a map is doubled: ``"transpose"`` (2 x 2 transposed convolution of stride 2),
            ``"resize"`` (bilinear, then a 3 x 3 convolution) or ``"nearest"`` (each pixel becomes
            four; the channels do not change).
        conv_impl: how convolutions are computed, see `vitjax.nn.convolution.convolve`.
        axis_name: the mapped axis over which batch statistics are averaged; None for none.
        dtype: of the computation, as a dtype or its name.
        param_dtype: of the parameters, likewise.

    Raises:
        ConfigError: at construction, for a value that cannot be used.
    """

    shapeless_fields: ClassVar[Mapping[str, Shapeless]] = {
        **dict.fromkeys(("norm_epsilon", "up"), Shapeless()),
        "norm_groups": Shapeless(("norm", "group")),
    }

    num_classes: Classes | None = 2
    norm: Norm = "none"
    norm_groups: Groups = 8
    norm_epsilon: PositiveFloat = 1e-5
    up: UpKind = "transpose"
    conv_impl: ConvImpl = "auto"
    axis_name: str | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def _conv(self, valid: bool = False) -> Layer:
        """A constructor of convolutions, 3 x 3 by default."""
        return functools.partial(
            Conv,
            kernel_size=(KERNEL, KERNEL),
            padding=0 if valid else None,
            use_bias=self.norm == "none",
            kernel_init=HE,
            conv_impl=self.conv_impl,
            **self.dtypes,
        )

    def _norm(self, train: bool) -> Layer:
        return normalization(
            self.norm,
            train=train,
            epsilon=self.norm_epsilon,
            groups=self.norm_groups,
            axis_name=self.axis_name,
            **self.dtypes,
        )

    def _up(self, features: int, name: str, valid: bool = False) -> Up:
        return Up(features, self.up, valid, self._conv(valid), **self.dtypes, name=name)

    def _logits(self, x: Array, name: str = "head", size: int = 1) -> Array:
        """The head, a convolution, applied to ``x``; without a head ``x``."""
        out = output_dtype(self.param_dtype)
        if not self.num_classes:
            return x.astype(out)
        head = self._conv()(
            self.num_classes, kernel_size=(size, size), use_bias=True, dtype=out, name=name
        )
        logits: Array = head(x)
        return logits
