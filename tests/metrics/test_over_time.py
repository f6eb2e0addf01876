"""Measures of recurrent networks, exact on logits made by hand."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax import metrics
from vitjax.core.errors import ConfigError
from vitjax.metrics import Declaration
from vitjax.models.protocol import Model
from vitjax.objectives import Classification

# Two classes, of which the first has the given logit and the other 0, at three steps.
FIRST = np.array([[0.0, 9.0, 0.0, 2.0], [3.0, 9.0, 0.0, -2.0], [-3.0, -9.0, 0.0, np.inf]])
LOGITS = np.stack([FIRST, np.zeros_like(FIRST)], axis=-1)
LABELS = np.array([0, 0, 1, 1])
P = 1 / (1 + np.exp(-3.0))
ENTROPY = -P * np.log(P) - (1 - P) * np.log(1 - P)  # of the logits 3 and 0: 0.19 nats


class Recurrent(Model):
    """Gives the numbers of an image as its logits over time."""

    @property
    def time_steps(self):
        return 3

    def logits_over_time(self, images):
        return images.reshape(-1, 3, 2).transpose(1, 0, 2)

    def __call__(self, images, train=False):
        return self.logits_over_time(images)[-1]


class Plain(Model):
    """Has no time."""

    @nn.compact
    def __call__(self, images, train=False):
        return images


def batch(padding=0):
    images = np.pad(LOGITS.transpose(1, 0, 2), ((0, padding), (0, 0), (0, 0)))
    return {
        "image": jnp.asarray(images, jnp.float32),
        "label": jnp.asarray(np.pad(LABELS, (0, padding))),
        "mask": jnp.arange(4 + padding) < 4,
    }


def objective(model=None, **fields):
    return Classification(model=model or Recurrent(), num_classes=2, **fields)


def test_reaction_times_by_hand():
    logits = jnp.asarray(np.where(np.isinf(LOGITS), 40.0, LOGITS), jnp.float32)
    below, above = ENTROPY * 0.999, ENTROPY * 1.001
    found = metrics.reaction_times(logits, above)
    # Logits 2 and 0 have 0.37 nats; equal ones have log 2, and never decide.
    np.testing.assert_array_equal(found, [2, 1, 4, 3])
    np.testing.assert_array_equal(metrics.reaction_times(logits, below), [4, 1, 4, 3])
    np.testing.assert_array_equal(metrics.reaction_times(logits, 0.7), [1, 1, 1, 1])
    certain = jnp.array([[[-jnp.inf, 0.0]]])
    np.testing.assert_array_equal(metrics.reaction_times(certain, 1e-3), [1])


@pytest.mark.parametrize("padding", [0, 3])
def test_measures_of_an_objective_over_batches_with_padding(padding):
    made = objective(
        measures=("accuracy_over_time", "reaction_time", "confusion_matrix"),
        entropy_threshold=ENTROPY * 1.001,
    )
    whole = jax.tree.map(
        lambda x: jnp.where(jnp.isinf(x), 40.0, x) if x.ndim == 3 else x, batch(padding)
    )
    parts = [jax.tree.map(lambda x, p=part: x[p], whole) for part in (slice(3), slice(3, None))]
    found = [jax.jit(made.final_metrics)({}, part) for part in parts]
    values = metrics.values(metrics.merge([jax.device_get(each) for each in found]))
    # Equal logits count as the first class.
    np.testing.assert_allclose(values["accuracy_over_time"], [2 / 4, 3 / 4, 0 / 4])
    assert values["reaction_time"] == (2 + 1 + 4 + 3) / 4
    assert values["undecided"] == 1 / 4
    assert values["confusion_matrix"].sum() == 4
    json.dumps([values["reaction_time"], values["accuracy_over_time"].tolist()])


def test_declarations_and_no_examples():
    made = objective(measures=("accuracy_over_time", "reaction_time"))
    found = metrics.declarations(jax.eval_shape(made.final_metrics, {}, batch()))
    assert found == {
        "accuracy_over_time": Declaration(True, "fraction", (3,)),
        "reaction_time": Declaration(None, "time steps"),
        "undecided": Declaration(None, "fraction"),
    }
    nothing = {**batch(), "mask": jnp.zeros(4, bool)}
    values = metrics.values(metrics.merge([jax.device_get(made.final_metrics({}, nothing))]))
    assert all(np.isnan(value).all() for value in values.values())


@pytest.mark.parametrize("name", ["accuracy_over_time", "reaction_time"])
def test_a_network_without_time_has_no_such_measure(name):
    with pytest.raises(ConfigError, match=f"measures: '{name}' is for a recurrent network"):
        objective(Plain(), measures=(name,))
    with pytest.raises(ConfigError, match=r"entropy_threshold is 0\.0; it must be above 0"):
        objective(entropy_threshold=0.0)
