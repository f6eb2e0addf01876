"""Multinomial logistic regression by L-BFGS, on the device that JAX computes on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

_MOST_ITERATIONS = 1000
# Of the largest entry of the gradient of the mean loss.
_TOLERANCE = 1e-6


class Logistic:
    """Logistic regression on one set of examples, for one strength of L2 after the other.

    Features are standardised by the examples' mean and deviation. Minimised is the sum of
    cross-entropies plus l2 / 2 times the squared norm of the kernel; the bias is free.

    Attributes:
        converged: whether the last `fit` has come to a minimum, as far as float32 can tell.
        kernel: of the last `fit`, for standardised features.
        bias: of the last `fit`.
        classes: the class number of each of the kernel's columns: those that there are examples of.
    """

    def __init__(
        self, features: Float[np.ndarray, "examples width"], labels: Int[np.ndarray, "examples"]
    ):
        self.classes, columns = np.unique(labels, return_inverse=True)
        self._mean = features.mean(axis=0, dtype=np.float64)
        deviation = features.std(axis=0, dtype=np.float64)
        # What never changes tells nothing, and is 0 once the mean is taken away.
        self._deviation = np.where(deviation > 0, deviation, 1)
        self._inputs = jnp.asarray(self._standardised(features))
        self._labels = jnp.asarray(columns.astype(np.int32))
        shape = features.shape[1], len(self.classes)
        self.kernel, self.bias = jnp.zeros(shape), jnp.zeros(shape[1])
        self.converged = False

    def fit(self, l2: float) -> None:
        """Minimises, from where the last `fit` ended: strengths that are near have near minima."""
        (self.kernel, self.bias), iterations = _minimise(
            (self.kernel, self.bias), self._inputs, self._labels, l2
        )
        self.converged = int(iterations) < _MOST_ITERATIONS

    def predict(self, features: Float[np.ndarray, "queries width"]) -> Int[np.ndarray, "queries"]:
        """The most probable class of each query."""
        logits = _logits((self.kernel, self.bias), jnp.asarray(self._standardised(features)))
        return self.classes[np.asarray(jnp.argmax(logits, axis=1))]

    def _standardised(self, features: np.ndarray) -> np.ndarray:
        return ((features - self._mean) / self._deviation).astype(np.float32)


Weights = tuple[Float[Array, "width classes"], Float[Array, "classes"]]


@jax.jit
def _logits(weights: Weights, inputs: Float[Array, "examples width"]) -> Array:
    kernel, bias = weights
    return jnp.dot(inputs, kernel, precision="highest") + bias


@jax.jit
def _minimise(
    start: Weights,
    inputs: Float[Array, "examples width"],
    labels: Int[Array, "examples"],
    l2: Any,
) -> tuple[Weights, Int[Array, ""]]:
    """The weights, and how many iterations it took."""

    def objective(weights: Weights) -> Array:
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(
            _logits(weights, inputs), labels
        )
        return jnp.mean(losses) + l2 / (2 * len(labels)) * jnp.sum(jnp.square(weights[0]))

    solver = optax.lbfgs()
    value_and_gradient = optax.value_and_grad_from_state(objective)

    def step(carry: Any) -> Any:
        weights, state, number, _ = carry
        value, gradient = value_and_gradient(weights, state=state)
        updates, state = solver.update(
            gradient, state, weights, value=value, grad=gradient, value_fn=objective
        )
        largest = optax.tree.norm(optax.tree.get(state, "grad"), ord="inf")
        # Where rounding is all that is left, the value no longer falls.
        goes_on = (largest > _TOLERANCE) & (optax.tree.get(state, "value") < value)
        return optax.apply_updates(weights, updates), state, number + 1, goes_on

    weights, _, iterations, _ = jax.lax.while_loop(
        lambda carry: carry[3] & (carry[2] < _MOST_ITERATIONS),
        step,
        (start, solver.init(start), jnp.zeros((), jnp.int32), jnp.array(True)),
    )
    return weights, iterations
