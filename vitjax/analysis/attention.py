"""Where the tokens of a Vision Transformer attend to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vitjax.analysis.attribution import Images, Map, Target, Variables, resized, scores
from vitjax.analysis.calls import checked
from vitjax.analysis.opened import Opened
from vitjax.core.errors import ConfigError
from vitjax.core.names import matches
from vitjax.models.protocol import Model

Tokens = Float[Array, "batch tokens tokens"]
_NUMBER = re.compile(r"\d+")


def attention_maps(
    model: Model, variables: Variables, images: Images
) -> list[Float[Array, "batch heads tokens tokens"]]:
    """The attention of each layer from the first on: of each query (rows) to all keys (columns).

    The first `Model.prefix_tokens` tokens are the class token and registers, the others patches.

    Raises:
        ConfigError: the model has no self-attention over patches.
    """
    opened = Opened(model)
    _, values = opened(variables, images)
    return [values[name] for name in _names(opened, images, values)]


@checked
def attention(
    model: Model,
    variables: Variables,
    images: Images,
    target: Target = 0,
    layer: int = -1,
    head: int | None = None,
) -> Map:
    """The attention of one layer to each patch: of the class token, or the mean over patches.

    Args:
        model: a ViT. If its head does not read a class token, the mean over all patches' rows is
            taken, which is what the pooling reads.
        variables: those of the model.
        images: normalised.
        target: not used; attention does not depend on a class.
        layer: its number from 0, or from the end if negative.
        head: its number; None for the mean over heads.

    Raises:
        ConfigError: the model has no self-attention, no such layer or no such head.
    """
    del target
    maps = attention_maps(model, variables, images)
    if not -len(maps) <= layer < len(maps):
        raise ConfigError(f"layer={layer}: the model has {len(maps)} layers of attention, from 0")
    chosen = maps[layer]
    heads = chosen.shape[1]
    if head is not None and not 0 <= head < heads:
        raise ConfigError(f"head={head}: the layer has {heads} heads, from 0")
    one = jnp.mean(chosen, axis=1) if head is None else chosen[:, head]
    return _over_pixels(model, one, images)


@checked
def rollout(model: Model, variables: Variables, images: Images, target: Target = 0) -> Map:
    """The product of the attention of all layers, each averaged over heads and with the identity.

    Abnar and Zuidema 2020, arXiv:2005.00928, Sec. 3. The arguments are those of `attention`.
    """
    del target
    maps = attention_maps(model, variables, images)
    identity = jnp.eye(maps[0].shape[-1])
    total = jnp.broadcast_to(identity, (len(images), *identity.shape))
    for each in maps:
        total = (jnp.mean(each, axis=1) + identity) / 2 @ total
    return _over_pixels(model, total, images)


@checked
def relevance(model: Model, variables: Variables, images: Images, target: Target) -> Map:
    """Attention times its gradient, where positive, added up over the layers.

    Chefer et al. 2021, arXiv:2103.15679, Eq. 5 and 6.

    Args:
        model: a ViT with a head.
        variables: those of the model.
        images: normalised.
        target: the class, see `vitjax.analysis.attribution.scores`.
    """
    opened = Opened(model)
    shapes = opened.shapes(variables, images)
    names = _names(opened, images, {n: jax.ShapeDtypeStruct(s, float) for n, s in shapes.items()})
    changes = {name: jnp.zeros(shapes[name]) for name in names}

    def total(changes: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        outputs, values = opened(variables, images, changes)
        return jnp.sum(scores(outputs, target)), {name: values[name] for name in names}

    gradients, maps = jax.grad(total, has_aux=True)(changes)
    identity = jnp.eye(shapes[names[0]][-1])
    found = jnp.broadcast_to(identity, (len(images), *identity.shape))
    for name in names:
        own = jnp.mean(jax.nn.relu(gradients[name] * maps[name]), axis=1)
        found = found + own @ found
    return _over_pixels(model, found - identity, images)


def attention_distances(
    model: Model, variables: Variables, images: Images
) -> Float[Array, "layers heads"]:
    """The mean distance in pixels between a patch and what each head attends to.

    Dosovitskiy et al. 2021, arXiv:2010.11929, Fig. 7 (right) and App. D.7: the distances of patch
    centres, weighed by the attention among patches, averaged over queries and images.
    """
    maps = attention_maps(model, variables, images)
    height, width = images.shape[1:3]
    rows, columns = _grid(model, images)
    down, right = np.mgrid[:rows, :columns].reshape(2, -1)
    sides = np.array([height / rows, width / columns])
    places = np.stack([down, right], axis=-1) * sides
    far = jnp.asarray(np.linalg.norm(places[:, None] - places[None], axis=-1))
    first = model.prefix_tokens

    def mean(each: Array) -> Array:
        own = each[:, :, first:, first:]
        own = own / jnp.sum(own, axis=-1, keepdims=True)
        return jnp.mean(jnp.sum(own * far, axis=-1), axis=(0, 2))

    return jnp.stack([mean(each) for each in maps])


def position_similarities(
    model: Model, variables: Variables
) -> Float[np.ndarray, "rows columns rows columns"]:
    """The cosine between the position embeddings of any two patches.

    Dosovitskiy et al. 2021, arXiv:2010.11929, Fig. 7 (centre).

    Raises:
        ConfigError: the model has no learned position embedding.
    """
    name = model.position_embedding
    params = variables["params"]
    if name is None or name not in params:
        raise ConfigError(f"this {type(model).__name__} has no learned position embedding")
    embedding = np.asarray(params[name], np.float64)[0]
    norms = np.linalg.norm(embedding, axis=-1, keepdims=True)
    unit = embedding / np.where(norms == 0, 1, norms)
    return np.einsum("rcw,stw->rcst", unit, unit)


def embedding_filters(
    model: Model, variables: Variables, count: int = 28
) -> Float[np.ndarray, "count height width channels"]:
    """The first principal components of the kernel that embeds patches.

    Dosovitskiy et al. 2021, arXiv:2010.11929, Fig. 7 (left). In the order of the variance that they
    explain, each of norm 1; the sign is that of the component's largest number.

    Raises:
        ConfigError: the model has no kernel of patches.
    """
    name = model.patch_kernel
    if name is None:
        raise ConfigError(f"a {type(model).__name__} has no kernel of patches")
    kernel: Any = variables["params"]
    for part in name.split("/"):
        kernel = kernel[part]
    kernel = np.asarray(kernel, np.float64)
    columns = kernel.reshape(-1, kernel.shape[-1])
    columns = columns - columns.mean(axis=1, keepdims=True)
    components, _, _ = np.linalg.svd(columns, full_matrices=False)
    components = components[:, :count].T
    largest = np.take_along_axis(components, np.abs(components).argmax(1, keepdims=True), axis=1)
    return (components * np.sign(largest)).reshape(-1, *kernel.shape[:-1])


def _names(opened: Opened, images: Any, values: Mapping[str, Any]) -> list[str]:
    """The attention maps over the patches of the images, in the order of layers."""
    model = opened.model
    grid = model.patch_grid(images.shape[1:])
    tokens = 0 if grid is None else model.prefix_tokens + grid[0] * grid[1]
    found = [
        name
        for name, value in values.items()
        if matches(name, (model.no_channels,)) and value.shape[-2:] == (tokens, tokens)
    ]
    if not found:
        raise ConfigError(f"a {type(model).__name__} has no self-attention over patches")
    return sorted(found, key=lambda name: [int(number) for number in _NUMBER.findall(name)])


def _grid(model: Model, images: Any) -> tuple[int, int]:
    grid = model.patch_grid(images.shape[1:])
    assert grid is not None
    return grid


def _over_pixels(model: Model, matrix: Tokens, images: Images) -> Map:
    """The row of a matrix that the head reads, or the mean of the patches' rows, enlarged."""
    first = model.prefix_tokens
    read = matrix[:, 0] if model.reads_class_token else jnp.mean(matrix[:, first:], axis=1)
    maps = read[:, first:].reshape(len(matrix), *_grid(model, images))
    return resized(maps, *images.shape[1:3])
