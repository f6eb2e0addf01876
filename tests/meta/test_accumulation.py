"""Episodes in micro-batches: the same step as with the complete meta-batch, for all gradients."""

import jax
import numpy as np
import optax
import pytest
from tiny_episodes import episodes, identity, mlp, variables

from vitjax.meta import ImplicitMaml, Maml, MamlPlusPlus
from vitjax.metrics import numbers
from vitjax.objectives.state import TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.training.step import make_train_step

FIELDS = {"inner_steps": 2, "inner_learning_rate": 0.1}
METHODS = {
    "maml": (Maml, FIELDS),
    "mamlpp": (MamlPlusPlus, {**FIELDS, "per_step_norm": False, "per_step_statistics": False}),
    "imaml": (ImplicitMaml, {**FIELDS, "cg_steps": 2}),
}


@pytest.mark.parametrize("method", METHODS)
def test_the_step_is_that_of_the_large_batch(method):
    with jax.enable_x64(True):
        kind, fields = METHODS[method]
        objective = kind(
            model=mlp(3, dtype="float64", param_dtype="float64"),
            num_classes=3,
            normalize=identity,
            **fields,
        )
        adam = optax.with_extra_args_support(optax.adam(1e-2))
        batches = [episodes(4, shots=5, seed=seed, dtype=np.float64) for seed in range(3)]
        for batch in batches:
            batch["mask"][3] = False  # so that the micro-batches weigh differently
        params, state = variables(objective, batches[0])

        def run(pieces):
            optimizer = Optimizer(adam, accumulation_steps=pieces)
            step = jax.jit(make_train_step(objective, optimizer))
            now = TrainState.create({"params": params, **state}, optimizer.init(params), seed=0)
            for batch in batches:
                now, metrics = step(now, batch)
            return now, numbers(metrics)

        (whole, expected), (cut, others) = run(1), run(2)
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(cut), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        for name, value in expected.items():
            assert others[name] == pytest.approx(value, rel=1e-6)
