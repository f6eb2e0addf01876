"""The forms of convolution agree in value and in two derivatives, whatever the shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import jit

from vitjax.models import convolution
from vitjax.models.convolution import CONV_IMPLS, convolve, inner_loop_impl

SAME = ((1, 1), (1, 1))
# Height, width, channels in, out; kernel; strides; padding.
SHAPES = [
    (8, 8, 3, 4, (3, 3), (1, 1), SAME),
    (7, 5, 2, 3, (3, 3), (1, 1), SAME),
    (6, 9, 1, 2, (3, 3), (1, 1), SAME),
    (1, 2, 3, 1, (3, 3), (1, 1), SAME),
    (8, 8, 2, 3, (3, 3), (2, 2), SAME),
    (9, 6, 2, 3, (3, 3), (2, 2), ((0, 1), (1, 1))),
    (7, 8, 2, 2, (3, 3), (1, 1), ((0, 0), (0, 0))),
    (10, 9, 2, 3, (3, 3), (3, 2), ((0, 2), (1, 0))),
    (6, 7, 3, 4, (1, 1), (1, 1), ((0, 0), (0, 0))),
    (7, 6, 3, 2, (1, 1), (2, 2), ((0, 0), (0, 0))),
    (12, 11, 3, 2, (4, 4), (4, 4), ((0, 0), (0, 0))),
    (9, 9, 1, 2, (7, 7), (2, 2), ((3, 3), (3, 3))),
    (5, 8, 2, 2, (2, 5), (1, 3), ((1, 0), (2, 2))),
]


def drawn(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape)) for shape in shapes]


@pytest.fixture
def everywhere(monkeypatch):
    """Winograd for every shape that it can, and the shapes that it was used for."""
    used, real = [], convolution.convolve_3x3
    monkeypatch.setattr(convolution, "WINOGRAD_PIXELS", 0)
    monkeypatch.setattr(convolution, "WINOGRAD_CHANNELS", 1)

    def record(x, kernel):
        used.append((x.shape, kernel.shape))
        return real(x, kernel)

    monkeypatch.setattr(convolution, "convolve_3x3", record)
    return used


def largest_difference(found, expected):
    differences = [
        float(jnp.max(jnp.abs(a - b)) / jnp.maximum(1, jnp.max(jnp.abs(b))))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    ]
    return max(differences)


@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_values_and_two_derivatives(case, everywhere):
    height, width, before, after, kernel_size, strides, padding = case
    with jax.enable_x64(True):
        x, kernel, along_x, along_kernel = drawn(
            2 * [(3, height, width, before), (*kernel_size, before, after)]
        )

        def derivatives(impl):
            def loss(x, kernel):
                # Not linear, so that every second derivative is there.
                return jnp.sum(jnp.sin(convolve(x, kernel, strides, padding, impl)))

            def slope(x, kernel):
                by_x, by_kernel = jax.grad(loss, (0, 1))(x, kernel)
                return jnp.vdot(by_x, along_x) + jnp.vdot(by_kernel, along_kernel)

            first, second = jax.grad(loss, (0, 1)), jax.grad(slope, (0, 1))
            value = convolve(x, kernel, strides, padding, impl)
            return value, first(x, kernel), second(x, kernel)

        found = jit(lambda: {impl: derivatives(impl) for impl in CONV_IMPLS})()
        assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(found["lax"]))
        for impl in ("auto", "matmul", "winograd"):
            assert largest_difference(found[impl], found["lax"]) < 1e-10, impl
    assert bool(everywhere) == (kernel_size == (3, 3) and strides == (1, 1) and padding == SAME)


@pytest.mark.parametrize("impl", ["matmul", "winograd"])
def test_each_task_with_a_kernel_of_its_own(impl, everywhere):
    with jax.enable_x64(True):
        x, kernels = drawn([(4, 2, 7, 6, 3), (4, 3, 3, 3, 5)])

        def loss(impl, x, kernel):
            return jnp.sum(jnp.sin(convolve(x, kernel, (1, 1), SAME, impl)))

        def both(impl, x, kernel):
            y = convolve(x, kernel, (1, 1), SAME, impl)
            return y, jax.grad(loss, (1, 2))(impl, x, kernel)

        found = jit(jax.vmap(lambda x, k: both(impl, x, k)))(x, kernels)
        one = jit(lambda x, k: both("lax", x, k))
        rows = [one(a, b) for a, b in zip(x, kernels, strict=True)]
        assert largest_difference(found, jax.tree.map(lambda *r: jnp.stack(r), *rows)) < 1e-10
    assert bool(everywhere) == (impl == "winograd")


def test_winograd_is_for_what_it_saves_work_on(monkeypatch):
    used = []

    def record(x, kernel):
        used.append(x.shape)
        return jnp.zeros((*x.shape[:3], kernel.shape[3]))

    monkeypatch.setattr(convolution, "convolve_3x3", record)

    def is_used(images, side, channels, filters, kernel=3, strides=1, pad=1, impl="winograd"):
        used.clear()
        x = jax.ShapeDtypeStruct((images, side, side, channels), jnp.float32)
        w = jax.ShapeDtypeStruct((kernel, kernel, channels, filters), jnp.float32)
        pads = ((pad, pad), (pad, pad))
        jax.eval_shape(lambda x, w: convolve(x, w, (strides, strides), pads, impl), x, w)
        return bool(used)

    least = convolution.WINOGRAD_PIXELS
    assert is_used(least // 9, 3, 8, 8) == (least // 9 * 9 >= least)
    assert is_used(least // 9 + 1, 3, 8, 8)
    assert not is_used(least // 9 - 1, 3, 8, 8)
    # Omniglot's first two layers: one channel, then 64.
    assert not is_used(75, 28, 1, 64)
    assert is_used(75, 14, 64, 64)
    assert not is_used(75, 14, 64, 64, kernel=5, pad=2)
    assert not is_used(75, 14, 64, 64, strides=2)
    assert not is_used(75, 14, 64, 64, pad=0)
    assert not is_used(75, 14, 64, 64, impl="matmul")
    assert not is_used(75, 14, 64, 64, impl="auto")


def test_inner_loops_take_no_convolution_of_xla():
    assert inner_loop_impl("cpu") == "winograd"
    assert inner_loop_impl("gpu") == inner_loop_impl("tpu") == "matmul"
    x, kernels = jnp.ones((4, 2, 8, 8, 8)), jnp.ones((4, 3, 3, 8, 8))
    for impl in ("matmul", "winograd"):
        forward = jax.vmap(lambda x, k, impl=impl: convolve(x, k, (1, 1), SAME, impl))
        loss = lambda k, forward=forward: jnp.sum(forward(x, k) ** 2)  # noqa: E731
        text = str(jax.make_jaxpr(jax.grad(loss))(kernels))
        assert "conv_general_dilated" not in text
        assert "dot_general" in text


def test_winograd_in_float32_loses_few_digits(everywhere):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 14, 14, 64)), rng.normal(size=(3, 3, 64, 32)) / 24
    with jax.enable_x64(True):
        exact = np.asarray(convolve(jnp.asarray(x), jnp.asarray(kernel), (1, 1), SAME, "lax"))
    x, kernel = (jnp.asarray(value, jnp.float32) for value in (x, kernel))
    found = np.asarray(jit(lambda: convolve(x, kernel, (1, 1), SAME, "winograd"))())
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < 5e-6 * np.abs(exact).max()
    assert len(everywhere) == 1
