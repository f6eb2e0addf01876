"""MAML with implicit gradients: the way the inner loop took plays no part."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.meta.episodic import Task
from vitjax.meta.gradient_based import GradientBased, Learner
from vitjax.meta.parameters import Leaves
from vitjax.metrics.mean import Metrics
from vitjax.objectives.base import ModelState, Params, objectives

# Conjugate gradients are done before their last step where the residual fell by this much.
_TOLERANCE = 1e-8


@objectives.register("imaml")
@dataclasses.dataclass(frozen=True)
class ImplicitMaml(GradientBased):
    """Implicit MAML: Rajeswaran et al. 2019, arXiv:1909.04630, Algorithms 1 and 2.

    A task's parameters phi are those that lower ``support loss + proximal / 2 |phi - theta|^2``.
    Where they are its minimum, the gradient by theta is ``(I + H / proximal)^-1 g`` (Lemma 1), of
    the support loss's Hessian H and the query loss's gradient g at phi. So the inner loop is not
    differentiated, and memory does not grow with ``inner_steps``; but the gradient is only as good
    as the minimum is near.

    Defaults are the paper's for Omniglot. Its published code lowers the support loss alone and adds
    one step of the proximal term, and its system is ``(1 + cg_damping) I + H / (proximal + 10)``;
    here both are as in the paper, and ``cg_damping`` is 0 rather than its 1.

    Attributes:
        proximal: lambda, how strongly a task's parameters are held to the start.
        cg_steps: the most steps of conjugate gradients, each of which takes one product with H.
        cg_damping: added to I in the system: above zero, a Hessian with negative eigenvalues below
            -proximal does less harm, and the gradient is no longer exact.
    """

    inner_steps: int = 16
    inner_learning_rate: float = 0.1
    unroll: int | bool = 1
    proximal: float = 2.0
    cg_steps: int = 5
    cg_damping: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.proximal < float("inf"):
            raise ConfigError(f"objective.proximal is {self.proximal}; it should be above 0")
        if self.cg_steps < 1:
            raise ConfigError(f"objective.cg_steps is {self.cg_steps}; it should be at least 1")
        if not 0 <= self.cg_damping < float("inf"):
            raise ConfigError(f"objective.cg_damping is {self.cg_damping}; it should be at least 0")
        for name in ("first_order", "remat"):
            if getattr(self, name):
                raise ConfigError(
                    f"objective.{name} is True, and imaml does not differentiate its inner loop;"
                    " leave it out"
                )

    @property
    def second_order(self) -> bool:
        """False: the inner loop is not differentiated."""
        return False

    def inner_loss(self, loss: Array, moving: Leaves, start: Leaves) -> Array:
        """With the proximal term."""
        distance = sum(jnp.sum(jnp.square(moving[name] - start[name])) for name in moving)
        return loss + 0.5 * self.proximal * distance

    def task_gradients(
        self, params: Params, model_state: ModelState, task: Task, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The implicit gradient of `task_loss`, as if the inner loop had reached its minimum.

        That of all parameters: those that tasks start from, and those that no task adapts.
        """
        steps = self.inner_steps
        keys = jax.random.split(rng, steps + 1)
        learner = Learner(self, self.network, params, model_state, task)
        leaves = jax.lax.stop_gradient(learner.adapt(steps, keys=keys[:-1], first_order=True))
        adapted, _ = self.partition(params, leaves)

        def query_loss(params: Params, adapted: Leaves) -> Any:
            own = dataclasses.replace(learner, params=params)
            return own.query_loss({**own.leaves(), **adapted}, model_state, steps, keys[-1])

        def inner_gradient(params: Params, adapted: Leaves) -> Leaves:
            own = dataclasses.replace(learner, params=params)
            start, rest = self.partition(params, own.leaves())

            def loss(adapted: Leaves) -> Array:
                support = own.support_loss({**adapted, **rest}, steps, keys[-1])[0]
                return self.inner_loss(support, adapted, start)

            return jax.grad(loss)(adapted)

        (direct, slope), aux = jax.grad(query_loss, argnums=(0, 1), has_aux=True)(params, adapted)
        # The Hessian is its own transpose, and what the house's layers have is the reverse mode.
        _, product = jax.vjp(lambda adapted: inner_gradient(params, adapted), adapted)

        def system(vector: Leaves) -> Leaves:
            return jax.tree.map(
                lambda h, v: h + self.cg_damping * self.proximal * v, product(vector)[0], vector
            )

        solution, _ = cg(system, slope, tol=_TOLERANCE, maxiter=self.cg_steps)
        # At the minimum the inner gradient stays zero when the parameters change, which says how
        # the minimum moves with them.
        _, pull = jax.vjp(lambda params: inner_gradient(params, adapted), params)
        return jax.tree.map(jnp.subtract, direct, pull(solution)[0]), aux
