"""Networks whose head is a convolution, of whose maps the means are the logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.validation import Rate
from vitjax.models.convnet import ConvNet
from vitjax.models.protocol import Model
from vitjax.nn.conv import Initializer
from vitjax.nn.conv_norm import Layers
from vitjax.nn.dtypes import output_dtype


class ConvHead(Model):
    """Dropout, a 1 x 1 convolution ``head``, a ReLU, and the mean over pixels.

    Lin et al. 2014, arXiv:1312.4400, Sec. 3.2.

    Attributes:
        num_classes: the number of outputs.
        dropout: rate before the convolution.
        kernel_init: initialiser of the kernel.
        dtype: of the computation.
        param_dtype: of the parameters.
    """

    num_classes: int
    dropout: Rate = 0.0
    kernel_init: Initializer = nn.initializers.normal(0.01)
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """The logits for a map."""
        layers = Layers(kernel_init=self.kernel_init, **self.dtypes)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = jax.nn.relu(layers.conv(self.num_classes, use_bias=True, name="head")(x))
        return jnp.mean(x, axis=(1, 2), dtype=output_dtype(self.param_dtype))


class ConvHeadNet(ConvNet):
    """The base of networks with a `ConvHead`: without one they return the last map."""

    @property
    def head_fields(self) -> dict[str, Any]:
        """The ``dropout`` and the ``kernel_init`` of the head, where they are not the defaults."""
        return {}

    @nn.compact
    def classify(self, x: Array, train: bool) -> Array:
        """The logits for the last map, or without a head the map."""
        if not self.num_classes:
            return x
        head = ConvHead(self.num_classes, **self.head_fields, **self.dtypes)
        nn.share_scope(self, head)
        x = head(x, train)
        self.sow("intermediates", "logits", x)
        return x

    def only_head(self, head: Mapping[str, Any]) -> Model:
        """The head, for maps."""
        (layer,) = head.values()
        fields = {**self.head_fields, "dropout": 0.0}
        return ConvHead(layer["kernel"].shape[-1], **fields, parent=None)
