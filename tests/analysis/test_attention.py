"""Where the tokens of a ViT attend to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_variables import variables_of

from vitjax import models
from vitjax.analysis import attention
from vitjax.core.errors import ConfigError

FIELDS = {"width": 8, "depth": 3, "num_heads": 2, "patch_size": 4, "num_classes": 3}
KINDS = {
    "token": {"registers": 2},
    "mean": {"pooling": "mean"},
    "map": {"pooling": "map", "class_token": True},
    "scanned": {"scan_layers": True},
}
SHAPE = (8, 12, 3)


@functools.cache
def made(kind):
    model = models.create("vit_ti16", **FIELDS, **KINDS[kind])
    images = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    return model, variables_of(model, images), jnp.asarray(images)


def patches_of(model, matrix):
    """By hand: the row of the class token or the mean row, at 2 x 3 patches, enlarged."""
    first = model.prefix_tokens
    row = matrix[:, 0] if model.reads_class_token else matrix[:, first:].mean(1)
    return jax.image.resize(row[:, first:].reshape(2, 2, 3), (2, *SHAPE[:2]), "bilinear")


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_those_that_the_layers_compute(kind):
    model, variables, images = made(kind)
    maps = jax.jit(functools.partial(attention.attention_maps, model))(variables, images)
    tokens = 6 + model.prefix_tokens
    assert [x.shape for x in maps] == [(2, 2, tokens, tokens)] * 3
    for each in maps:
        np.testing.assert_allclose(each.sum(-1), 1, rtol=1e-5)
    own = jax.jit(functools.partial(attention.attention, model, layer=1, head=1))
    expected = patches_of(model, maps[1][:, 1])
    np.testing.assert_allclose(own(variables, images), expected, rtol=1e-5)
    mean = jax.jit(functools.partial(attention.attention, model))(variables, images)
    np.testing.assert_allclose(mean, patches_of(model, maps[-1].mean(1)), rtol=1e-5)


@pytest.mark.parametrize("kind", ["token", "mean"])
def test_rollout_by_hand(kind):
    model, variables, images = made(kind)
    maps = attention.attention_maps(model, variables, images)
    found = np.eye(maps[0].shape[-1])
    for each in maps:
        mixed = 0.5 * np.asarray(each).mean(1) + 0.5 * np.eye(each.shape[-1])
        found = mixed @ found
    rolled = attention.rollout(model, variables, images)
    np.testing.assert_allclose(rolled, patches_of(model, found), rtol=1e-5)


def test_relevance_by_finite_differences():
    """The gradient by an attention map is that of the score by what is added to the map."""
    model, variables, images = made("token")
    opened = attention.Opened(model)
    found = attention.relevance(model, variables, images, 2)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables)
        double = attention.Opened(model.clone(dtype="float64", param_dtype="float64"))
        pixels = jnp.asarray(images, jnp.float64)
        names = [f"encoder/block_{i}/attention/map" for i in range(3)]

        @functools.partial(jax.jit, static_argnums=0)
        def score(name, change):
            return double(wide, pixels, {name: change})[0][:, 2].sum()

        values = double(wide, pixels)[1]
        total = np.eye(9)
        for name in names:
            zeros, own = jnp.zeros_like(values[name]), np.zeros(values[name].shape)
            for place in [(0, 1, 0, 4), (1, 0, 3, 8)]:
                step = zeros.at[place].set(1e-5)
                own[place] = float(score(name, step) - score(name, -step)) / 2e-5
            slope = jax.grad(score, argnums=1)(name, zeros)
            for place in [(0, 1, 0, 4), (1, 0, 3, 8)]:
                np.testing.assert_allclose(float(slope[place]), own[place], rtol=1e-5, atol=1e-9)
            positive = np.maximum(np.asarray(slope) * np.asarray(values[name]), 0)
            total = total + positive.mean(1) @ total
    assert opened.model == model
    np.testing.assert_allclose(found, patches_of(model, total - np.eye(9)), rtol=1e-3, atol=1e-6)


def test_distances_of_uniform_attention():
    model, variables, images = made("token")
    flat = jax.tree.map(jnp.zeros_like, variables)  # all queries and keys are equal
    found = attention.attention_distances(model, flat, images)
    places = np.array([(4 * r, 4 * c) for r in range(2) for c in range(3)])
    far = np.linalg.norm(places[:, None] - places[None], axis=-1).mean()
    np.testing.assert_allclose(found, np.full((3, 2), far), rtol=1e-5)


def test_positions_and_filters():
    model, variables, _ = made("token")
    similar = attention.position_similarities(model, variables)
    assert similar.shape == (2, 3, 2, 3)
    embedding = np.asarray(variables["params"]["position_embedding"])[0]
    a, b = embedding[0, 1], embedding[1, 2]
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    np.testing.assert_allclose(similar[0, 1, 1, 2], cosine, rtol=1e-5)
    filters = attention.embedding_filters(model, variables, 5)
    assert filters.shape == (5, 4, 4, 3)
    flat = filters.reshape(5, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(5), atol=1e-8)


def test_what_a_model_lacks_is_said():
    model, variables, images = made("token")
    with pytest.raises(ConfigError, match="layer=3: the model has 3 layers of attention"):
        attention.attention(model, variables, images, layer=3)
    with pytest.raises(ConfigError, match="head=2: the layer has 2 heads"):
        attention.attention(model, variables, images, head=2)
    with pytest.raises(ConfigError, match="this ViT has no learned position embedding"):
        attention.position_similarities(model.clone(positions="none"), {"params": {}})
    other = models.create("conv4", filters=2, depth=1)
    own = variables_of(other, images)
    for function in (attention.rollout, attention.relevance):
        with pytest.raises(ConfigError, match="a Conv4 has no self-attention over patches"):
            function(other, own, images, 1)
    with pytest.raises(ConfigError, match="a Conv4 has no kernel of patches"):
        attention.embedding_filters(other, own)
