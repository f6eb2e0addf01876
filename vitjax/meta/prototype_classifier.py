"""A network whose logits are by the distances of its features to prototypes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.meta import parameters
from vitjax.models.protocol import Model

Self = TypeVar("Self", bound="PrototypeClassifier")


class PrototypeClassifier(Model):
    """A network with the prototypes of a support set in place of a head.

    The prototypes are its variable ``prototypes/centers``, (classes, width).

    Attributes:
        network: computes the features.
        num_classes: the number of prototypes.
        distance: one of `vitjax.meta.prototypical.DISTANCES`.
        temperature: divides the logits.
        transform: the features that are compared.
    """

    head_name: ClassVar[str | None] = None

    network: Model
    num_classes: int
    distance: str
    temperature: float
    transform: Callable[[Array], Array]

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Float[Array, "batch classes"]:
        """The logits of images."""
        features = self.transform(self.network(images, train=train))
        shape = self.num_classes, features.shape[-1]
        centers = self.variable("prototypes", "centers", jnp.zeros, shape, features.dtype)
        return similarity(features, centers.value, self.distance) / self.temperature

    def replaced(self: Self, **values: Any) -> Self:
        """A copy with those of ``values`` whose fields it or the network declares."""
        copy = super().replaced(**values)
        return copy.clone(network=self.network.replaced(**values))

    @property
    def backbone(self) -> tuple[str, Model]:
        """The network."""
        return "network", self.network

    @property
    def prefix_tokens(self) -> int:
        """Those of the network."""
        return self.network.prefix_tokens

    @property
    def reads_class_token(self) -> bool:
        """Whether the features are those of a class token."""
        return self.network.reads_class_token

    def patch_grid(self, image_shape: Sequence[int]) -> tuple[int, int] | None:
        """That of the network."""
        return self.network.patch_grid(image_shape)

    def layer_key(self, name: str) -> tuple[int, ...]:
        """That of the network."""
        return self.network.layer_key(name.removeprefix("network/"))


def similarity(
    features: Float[Array, "examples width"], centers: Float[Array, "ways width"], distance: str
) -> Float[Array, "examples ways"]:
    """The negative squared Euclidean distance, or the cosine similarity (0 for a null vector).

    Args:
        features: compared with all centers.
        centers: such as prototypes.
        distance: one of `DISTANCES`.
    """
    # Distances are small differences of large numbers, so the products need full precision.
    if distance == "cosine":
        return jnp.matmul(unit(features), unit(centers).T, precision="highest")
    kernel, bias = parameters.prototype_head(centers)
    products = jnp.matmul(features, kernel, precision="highest")
    return products + bias - jnp.sum(jnp.square(features), axis=-1, keepdims=True)


def unit(vectors: Float[Array, "examples width"]) -> Float[Array, "examples width"]:
    """``vectors`` scaled to length one; a null vector stays null."""
    squares = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))
