"""Multinomial logistic regression by L-BFGS, on the device that JAX computes on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

_MOST_ITERATIONS = 1000
# The largest entry of the gradient of the mean loss at convergence.
_TOLERANCE = 1e-6


class Logistic:
    """Logistic regression on one set of examples, for several strengths of L2 in turn.

    Features are standardised by the mean and standard deviation of the examples. The sum of
    cross-entropies plus l2 / 2 times the squared norm of the kernel is minimised; the bias is not
    regularised.

    Attributes:
        converged: whether the last `fit` reached a minimum, up to the precision of float32.
        kernel: the kernel of the last `fit`, for standardised features.
        bias: the bias of the last `fit`.
        classes: the class number of each column of the kernel: the classes that have examples.
    """

    def __init__(
        self, features: Float[np.ndarray, "examples width"], labels: Int[np.ndarray, "examples"]
    ):
        self.classes, columns = np.unique(labels, return_inverse=True)
        self._mean = features.mean(axis=0, dtype=np.float64)
        deviation = features.std(axis=0, dtype=np.float64)
        # A constant feature is 0 after its mean is subtracted.
        self._deviation = np.where(deviation > 0, deviation, 1)
        self._inputs = jnp.asarray(self._standardised(features))
        self._labels = jnp.asarray(columns.astype(np.int32))
        shape = features.shape[1], len(self.classes)
        self.kernel, self.bias = jnp.zeros(shape), jnp.zeros(shape[1])
        self.converged = False

    def fit(self, l2: float) -> None:
        """Minimises, starting from the last `fit`: similar strengths have similar minima."""
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
    """The weights, and the number of iterations."""

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
        # At the precision of float32 the value no longer decreases.
        unfinished = (largest > _TOLERANCE) & (optax.tree.get(state, "value") < value)
        return optax.apply_updates(weights, updates), state, number + 1, unfinished

    weights, _, iterations, _ = jax.lax.while_loop(
        lambda carry: carry[3] & (carry[2] < _MOST_ITERATIONS),
        step,
        (start, solver.init(start), jnp.zeros((), jnp.int32), jnp.array(True)),
    )
    return weights, iterations
