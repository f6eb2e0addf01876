"""The forms of convolution agree in value and in two derivatives, whatever the shapes."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.nn.convolution import FEW_EXAMPLES, INNER_LOOP_IMPL, ConvImpl, convolve

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
    (5, 8, 4, 2, (2, 5), (1, 1), ((1, 0), (0, 3))),
    (6, 7, 4, 2, (5, 2), (1, 1), ((0, 3), (1, 0))),
    (6, 7, 3, 4, (1, 1), (1, 1), ((0, 0), (0, 0))),
    (7, 6, 3, 2, (1, 1), (2, 2), ((0, 0), (0, 0))),
    (12, 11, 3, 2, (4, 4), (4, 4), ((0, 0), (0, 0))),
    (9, 9, 1, 2, (7, 7), (2, 2), ((3, 3), (3, 3))),
    (5, 8, 2, 2, (2, 5), (1, 3), ((1, 0), (2, 2))),
]


def drawn(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape)) for shape in shapes]


def largest_difference(found, expected):
    differences = [
        float(jnp.max(jnp.abs(a - b)) / jnp.maximum(1, jnp.max(jnp.abs(b))))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    ]
    return max(differences)


# Height, width, channels in, out, groups; kernel; strides; padding.
GROUPED = [
    (7, 9, 6, 6, 6, (3, 3), (1, 1), SAME),
    (8, 9, 4, 4, 4, (3, 3), (2, 2), SAME),
    (9, 8, 3, 6, 3, (5, 5), (2, 2), ((2, 2), (1, 3))),
    (6, 6, 4, 4, 4, (2, 2), (3, 3), ((0, 0), (0, 0))),
    (7, 7, 2, 2, 2, (1, 3), (1, 2), ((0, 0), (1, 1))),
    (6, 5, 4, 4, 2, (3, 3), (1, 1), SAME),
    (7, 5, 8, 12, 4, (3, 3), (2, 2), ((1, 0), (0, 1))),
    (6, 5, 12, 4, 2, (3, 3), (1, 1), SAME),
    (6, 7, 12, 16, 2, (3, 3), (2, 2), SAME),
]


def check_forms(batch, height, width, before, after, kernel_size, strides, padding, groups=1):
    """All forms agree in value and in two derivatives."""
    with jax.enable_x64(True):
        x, kernel, along_x, along_kernel = drawn(
            2 * [(batch, height, width, before), (*kernel_size, before // groups, after)]
        )

        def derivatives(impl):
            def loss(x, kernel):
                # Not linear, so that every second derivative is there.
                return jnp.sum(jnp.sin(convolve(x, kernel, strides, padding, impl, groups)))

            def slope(x, kernel):
                by_x, by_kernel = jax.grad(loss, (0, 1))(x, kernel)
                return jnp.vdot(by_x, along_x) + jnp.vdot(by_kernel, along_kernel)

            first, second = jax.grad(loss, (0, 1)), jax.grad(slope, (0, 1))
            value = convolve(x, kernel, strides, padding, impl, groups)
            return value, first(x, kernel), second(x, kernel)

        found = jax.jit(lambda: {impl: derivatives(impl) for impl in get_args(ConvImpl)})()
        assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(found["lax"]))
        for impl in ("auto", "matmul"):
            assert largest_difference(found[impl], found["lax"]) < 1e-10, impl


@pytest.mark.parametrize("batch", [2, FEW_EXAMPLES])
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_values_and_two_derivatives(case, batch):
    check_forms(batch, *case)


@pytest.mark.parametrize("batch", [1, 3, 9])
@pytest.mark.parametrize("case", GROUPED, ids=str)
def test_groups_in_values_and_two_derivatives(case, batch):
    *shape, groups, kernel_size, strides, padding = case
    check_forms(batch, *shape, kernel_size, strides, padding, groups)


def test_groups_take_no_grouped_convolution_of_xla_where_it_is_slow():
    """Depthwise never, and wider groups not for the derivative by the kernel, on a CPU."""

    def convolutions(inner):
        x, kernel = jnp.ones((2, 8, 8, 16)), jnp.ones((3, 3, inner, 16))

        def loss(x, kernel):
            return jnp.sum(convolve(x, kernel, (1, 1), SAME, "auto", 16 // inner) ** 2)

        return str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernel)).count("conv_general_dilated")

    assert convolutions(1) == convolutions(4) == 0
    assert convolutions(8) == 2  # forward, and by the input


def test_each_task_with_a_kernel_of_its_own():
    with jax.enable_x64(True):
        x, kernels = drawn([(4, 2, 7, 6, 3), (4, 3, 3, 3, 5)])

        def loss(impl, x, kernel):
            return jnp.sum(jnp.sin(convolve(x, kernel, (1, 1), SAME, impl)))

        def both(impl, x, kernel):
            y = convolve(x, kernel, (1, 1), SAME, impl)
            return y, jax.grad(loss, (1, 2))(impl, x, kernel)

        found = jax.jit(jax.vmap(lambda x, k: both("matmul", x, k)))(x, kernels)
        one = jax.jit(lambda x, k: both("lax", x, k))
        rows = [one(a, b) for a, b in zip(x, kernels, strict=True)]
        assert largest_difference(found, jax.tree.map(lambda *r: jnp.stack(r), *rows)) < 1e-10


def test_inner_loops_take_no_convolution_of_xla():
    x, kernels = jnp.ones((4, 2, 8, 8, 8)), jnp.ones((4, 3, 3, 8, 8))
    forward = jax.vmap(lambda x, k: convolve(x, k, (1, 1), SAME, INNER_LOOP_IMPL))
    text = str(jax.make_jaxpr(jax.grad(lambda k: jnp.sum(forward(x, k) ** 2)))(kernels))
    assert "conv_general_dilated" not in text
    assert "dot_general" in text


@pytest.mark.parametrize(
    ("channels", "features", "dtype", "width"),
    [(4, 4, "float32", 12), (2, 9, "float32", 9), (4, 4, "bfloat16", 4)],
)
def test_which_copies_are_made(channels, features, dtype, width):
    """Three of the input and three of the output, or nine of the input: the fewer numbers."""
    x, kernel = jnp.ones((2, 6, 6, channels), dtype), jnp.ones((3, 3, channels, features), dtype)
    text = str(jax.make_jaxpr(lambda: convolve(x, kernel, (1, 1), SAME, "matmul"))())
    (product,) = [line for line in text.splitlines() if "dot_general" in line]
    assert f",{width}]" in product.split("=")[0]


@pytest.mark.parametrize(
    ("batch", "side", "kernel", "stride", "convolutions", "products"),
    [
        (1, 16, 3, 1, 2, 1),
        (4, 16, 3, 1, 3, 0),
        (1, 1, 3, 1, 1, 2),
        (4, 16, 3, 2, 2, 1),
        (4, 16, 1, 1, 1, 2),
        (4, 16, 1, 2, 1, 2),
    ],
)
def test_what_auto_multiplies_on_a_cpu(batch, side, kernel, stride, convolutions, products):
    """Kernels of one pixel; few examples (by the kernel); strides and large kernels (by x)."""
    x, kernel = jnp.ones((batch, side, side, 16)), jnp.ones((kernel, kernel, 16, 16))
    padding = SAME if len(kernel) == 3 else ((0, 0), (0, 0))

    def loss(x, kernel):
        return jnp.sum(convolve(x, kernel, (stride, stride), padding) ** 2)

    text = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernel))
    assert text.count("= conv_general_dilated") == convolutions
    assert text.count("= dot_general") == products


def test_bfloat16_is_as_exact_as_xla_s():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 12, 12, 32)), rng.normal(size=(3, 3, 32, 32)) / 17
    exact = convolve(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), (1, 1), SAME)
    x, kernel = jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16)

    def error(impl):
        found = convolve(x, kernel, (1, 1), SAME, impl).astype(jnp.float32)
        return float(jnp.sqrt(jnp.mean((found - exact) ** 2)))

    assert error("matmul") < 1.05 * error("lax")


@pytest.mark.gpu
@pytest.mark.parametrize("impl", get_args(ConvImpl))
@pytest.mark.parametrize("case", [SHAPES[0], SHAPES[4], SHAPES[10], SHAPES[13]], ids=str)
def test_values_and_gradients_on_a_gpu(gpu, impl, case):
    height, width, before, after, kernel_size, strides, padding = case

    def both(impl, device):
        def loss(x, kernel):
            outputs = convolve(x, kernel, strides, padding, impl)
            return jnp.sum(jnp.sin(outputs)), outputs

        inputs = jax.device_put(
            drawn([(3, height, width, before), (*kernel_size, before, after)]), device
        )
        return jax.device_get(jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(*inputs))

    with jax.default_matmul_precision("highest"):
        found, expected = both(impl, gpu), both("lax", jax.devices("cpu")[0])
    assert largest_difference(found, expected) < 1e-4
