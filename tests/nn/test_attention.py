"""Fused attention: what cuDNN's kernel is given, and on a GPU what it computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.nn import attention


def heads(queries, keys, width=8, dtype=np.float32, seed=0, batch=2):
    """Random queries, keys, values, and the cotangent of the output."""
    rng = np.random.default_rng(seed)
    shapes = [(batch, n, 3, width) for n in (queries, keys, keys, queries)]
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def plain(queries, keys, values):
    weights = attention.attention_map(queries, keys)
    return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(values.dtype), values)


def outputs_and_gradients(function, queries, keys, values, cotangent):
    @jax.jit
    def both(*inputs):
        outputs, pullback = jax.vjp(function, *inputs)
        return outputs, *pullback(cotangent)

    return [np.asarray(x, np.float32) for x in both(queries, keys, values)]


@pytest.mark.parametrize(("queries", "keys"), [(4, 4), (5, 5), (1, 6), (1, 5), (6, 7)])
def test_tokens_added_for_cudnn_change_nothing(monkeypatch, queries, keys):
    given = []
    original = jax.nn.dot_product_attention

    def by_xla(queries, keys, values, *, implementation, **arguments):
        assert implementation == "cudnn"
        given.extend([queries.shape[1], keys.shape[1], values.shape[1]])
        return original(queries, keys, values, implementation="xla", **arguments)

    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)
    inputs = heads(queries, keys)
    found = outputs_and_gradients(attention._cudnn_attention, *inputs)
    assert given == [queries + queries % 2] + 2 * [keys + keys % 2]
    for value, expected in zip(found, outputs_and_gradients(plain, *inputs), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("queries", "keys", "width", "dtype"),
    [
        *((197, 197, width, "bfloat16") for width in (8, 32, 64, 72, 80, 96, 128)),
        (197, 197, 64, "float16"),
        (196, 196, 64, "bfloat16"),
        (1, 197, 64, "bfloat16"),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_cudnn_equals_plain_within_its_precision(queries, keys, width, dtype):
    """Both are compared with float32: cuDNN's error may be twice that of the plain form."""
    assert attention.why_not_cudnn(dtype, width) is None
    with jax.default_matmul_precision("highest"):
        inputs = heads(queries, keys, width, dtype)
        fused = outputs_and_gradients(attention._fused_attention, *inputs)
        same = outputs_and_gradients(plain, *inputs)
        exact = outputs_and_gradients(plain, *(x.astype(jnp.float32) for x in inputs))
    for name, value, rounded, right in zip(
        ("outputs", "queries", "keys", "values"), fused, same, exact, strict=True
    ):
        scale = np.abs(right).max()
        allowed = 2 * np.abs(rounded - right).max() + 2 * float(jnp.finfo(dtype).eps) * scale
        assert np.abs(value - right).max() <= allowed, name
