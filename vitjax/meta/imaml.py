"""MAML with implicit gradients, which do not depend on the path of the inner loop."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.validation import NonNegativeFloat, PositiveFloat, Repetitions
from vitjax.meta.episodic import Episode
from vitjax.meta.gradient_based import GradientBased, Learner
from vitjax.meta.parameters import Leaves
from vitjax.metrics import Metrics
from vitjax.objectives.base import ModelState, Params, objectives

# Conjugate gradients stop early once the residual has fallen by this factor.
_TOLERANCE = 1e-8


@objectives.register("imaml")
@dataclasses.dataclass(frozen=True)
class ImplicitMaml(GradientBased):
    """Implicit MAML: Rajeswaran et al. 2019, arXiv:1909.04630, Algorithms 1 and 2.

    An episode's parameters phi minimise ``support loss + proximal / 2 |phi - theta|^2``. At the
    minimum, the gradient with respect to theta is ``(I + H / proximal)^-1 g`` (Lemma 1), where H is
    the Hessian of the support loss and g the gradient of the query loss, both at phi. The inner
    loop is therefore not differentiated, and memory does not grow with ``inner_steps``; the
    gradient is exact only if the inner loop converges.

    Defaults are the paper's for Omniglot. The published code minimises the support loss alone and
    adds one step of the proximal term, and its system is ``(1 + cg_damping) I + H / (proximal +
    10)``. This implementation follows the paper in both, and ``cg_damping`` defaults to 0 instead
    of 1.

    Attributes:
        proximal: lambda, the strength of the pull towards the parameters before adaptation.
        cg_steps: maximum number of steps of conjugate gradients, each one product with H.
        cg_damping: added to I in the system. A positive value limits the effect of eigenvalues of
            H below -proximal, and the gradient is no longer exact.
    """

    inner_steps: Repetitions = 16
    inner_learning_rate: PositiveFloat = 0.1
    unroll: Repetitions | bool = 1
    proximal: PositiveFloat = 2.0
    cg_steps: Repetitions = 5
    cg_damping: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("first_order", "remat"):
            if getattr(self, name):
                raise ConfigError(
                    f"objective.{name} is True, but imaml does not differentiate its inner loop;"
                    " remove the key"
                )

    @property
    def second_order(self) -> bool:
        """False: the inner loop is not differentiated."""
        return False

    def inner_loss(self, loss: Array, moving: Leaves, start: Leaves) -> Array:
        """``loss`` plus the proximal term."""
        distance = sum(jnp.sum(jnp.square(moving[name] - start[name])) for name in moving)
        return loss + 0.5 * self.proximal * distance

    def episode_gradients(
        self, params: Params, model_state: ModelState, episode: Episode, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The implicit gradient of `episode_loss`, assuming that the inner loop has converged.

        It covers all parameters, those that episodes adapt and those that they do not.
        """
        steps = self.inner_steps
        keys = jax.random.split(rng, steps + 1)
        learner = Learner(self, self.network, params, model_state, episode)
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
        # The Hessian is symmetric, and custom layers support reverse mode only.
        _, product = jax.vjp(lambda adapted: inner_gradient(params, adapted), adapted)

        def system(vector: Leaves) -> Leaves:
            return jax.tree.map(
                lambda h, v: h + self.cg_damping * self.proximal * v, product(vector)[0], vector
            )

        solution, _ = cg(system, slope, tol=_TOLERANCE, maxiter=self.cg_steps)
        # The inner gradient is zero at the minimum for any parameters, which determines how the
        # minimum moves with them.
        _, pull = jax.vjp(lambda params: inner_gradient(params, adapted), params)
        return jax.tree.map(jnp.subtract, direct, pull(solution)[0]), aux
