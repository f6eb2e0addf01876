import dataclasses

import jax
import jax.numpy as jnp
import pytest
from small_classifiers import batch, objective

from vitjax.metrics import Mean
from vitjax.objectives import Classification
from vitjax.objectives.state import TrainState
from vitjax.training import flops


def zeros(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_a_matrix_product():
    assert flops.count(jnp.matmul, zeros(3, 4), zeros(4, 5)) == 2 * 3 * 4 * 5
    assert flops.count(jnp.matmul, zeros(7, 3, 4), zeros(7, 4, 5)) == 7 * 2 * 3 * 4 * 5


def convolution(x, k, strides=(1, 1), padding="VALID"):
    return jax.lax.conv_general_dilated(
        x, k, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_a_convolution():
    counted = flops.count(convolution, zeros(2, 8, 8, 3), zeros(3, 3, 3, 16))
    assert counted == 2 * (2 * 6 * 6 * 16) * (3 * 3 * 3)


def test_the_gradient_of_a_convolution_costs_twice_its_value():
    def loss(x, k):
        return convolution(x, k, strides=(2, 2)).sum()

    x, k = zeros(2, 9, 9, 3), zeros(3, 3, 3, 16)
    forward = flops.count(loss, x, k)
    both = flops.count(jax.value_and_grad(loss, argnums=(0, 1)), x, k)
    assert both == 3 * forward


def test_loops_count_as_often_as_they_run():
    def chain(x, w):
        return jax.lax.scan(lambda carry, _: (carry @ w, None), x, None, length=10)[0]

    once = 2 * 4 * 4 * 4
    assert flops.count(chain, zeros(4, 4), zeros(4, 4)) == 10 * once
    assert flops.count(jax.jit(jax.vmap(chain, (0, None))), zeros(3, 4, 4), zeros(4, 4)) == (
        30 * once
    )


def test_a_branch_counts_as_its_largest():
    def either(x):
        return jax.lax.cond(x[0, 0] > 0, lambda v: v @ v @ v, lambda v: v @ v, x)

    assert flops.count(either, zeros(4, 4)) == 2 * 2 * 4**3


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("TPU v5 lite", 197e12),
        ("TPU v4", 275e12),
        ("cpu", None),
    ],
)
def test_peaks(kind, peak):
    assert flops.peak_per_second(kind) == peak


@dataclasses.dataclass(frozen=True)
class Twice(Classification):
    """An update of its own, with two gradients and no `accumulate`."""

    def update(self, state, batch, rng, optimizer):
        for _ in range(2):
            gradients, _ = self.gradients(state.params, state.model_state, batch, rng)
            params, opt_state, _ = optimizer.apply(
                gradients, state.opt_state, state.params, value=0.0
            )
            state = state.replace(params=params, opt_state=opt_state)
        return state, {"loss": Mean(jnp.zeros(()), jnp.ones(()))}


def test_a_step_counts_what_its_update_computes():
    plain, examples = objective(), batch(16)
    own = Twice(model=plain.model, num_classes=plain.num_classes)
    variables = plain.init(jax.random.key(0), examples)
    state = jax.eval_shape(lambda: TrainState.create(variables, (), seed=0))
    # Two layers of 48 x 16 and 16 x 7 weights: once forward, once for the gradients of the weights,
    # and once for those of the hidden layer.
    once = 2 * (2 * (48 * 16 + 16 * 7) + 16 * 7)
    assert flops.per_example(plain, state, examples) == once
    assert flops.per_example(own, state, examples) == 2 * once
