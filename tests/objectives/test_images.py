"""What is frozen in a network stays so in training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.models.protocol import Model
from vitjax.objectives import Classification, Segmentation
from vitjax.objectives.state import TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.training.step import make_train_step

CLASSES = 5


class Flax(Model):
    """A network with Flax's own batch normalisation."""

    num_classes: int = CLASSES

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(4, (3, 3), name="conv")(images)
        x = nn.BatchNorm(use_running_average=not train, name="norm1")(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm2")(nn.relu(x))
        return nn.Dense(self.num_classes, name="head")(x.mean((1, 2)))


def batch(seed=0, pixels=False):
    generator = np.random.default_rng(seed)
    shape = (8, 8, 8) if pixels else (8,)
    return {
        "image": generator.normal(2.0, 3.0, size=(8, 8, 8, 3)).astype(np.float32),
        "label": generator.integers(0, CLASSES, shape).astype(np.int32),
        "mask": np.ones(8, bool),
    }


RESNET = {"stage_sizes": (1, 1), "width": 4, "num_classes": CLASSES}


def layers_that_moved(objective, pixels=False):
    """The layers whose running statistics a pass in training changes."""
    examples = batch(pixels=pixels)
    variables = objective.init(jax.random.key(0), examples)
    params, state = variables.pop("params"), variables
    _, after = jax.jit(objective.forward)(params, state, examples["image"], jax.random.key(1))
    before, after = (flatten_dict(s["batch_stats"], sep="/") for s in (state, after))
    return {n.rpartition("/")[0] for n in before if not np.array_equal(before[n], after[n])}


@pytest.mark.parametrize(
    ("frozen", "still", "moving"),
    [
        (None, set(), {"stem_norm", "stage1_block1/norm2", "stage2_block1/norm1"}),
        ("stem|stage1", {"stem_norm", "stage1_block1/norm2"}, {"stage2_block1/norm1"}),
        (["."], {"stem_norm", "stage1_block1/norm2", "stage2_block1/norm1"}, set()),
    ],
)
def test_statistics_of_frozen_layers_stay(frozen, still, moving):
    objective = Classification(
        model=models.create("resnet20", **RESNET), num_classes=CLASSES, frozen_statistics=frozen
    )
    moved = layers_that_moved(objective)
    assert moving <= moved
    assert not still & moved


def test_statistics_stay_in_the_moving_average_too_to_the_bit():
    objective = Classification(model=Flax(), num_classes=CLASSES, frozen_statistics="norm1")
    optimizer = Optimizer(optax.with_extra_args_support(optax.sgd(0.1)))
    variables = objective.init(jax.random.key(0), batch())
    # Not zero and one, which any average keeps.
    odd = jax.tree.map(lambda x: x + 0.123, variables["batch_stats"])
    opt_state = optimizer.init(variables["params"])
    state = TrainState.create({**variables, "batch_stats": odd}, opt_state, seed=0, ema=True)
    step = jax.jit(make_train_step(objective, optimizer, ema_decay=0.9))
    for seed in range(5):
        state, _ = step(state, batch(seed))
    for kept in (state.model_state, state.ema):
        jax.tree.map(np.testing.assert_array_equal, kept["batch_stats"]["norm1"], odd["norm1"])
    assert not np.array_equal(state.ema["batch_stats"]["norm2"]["mean"], odd["norm2"]["mean"])


@pytest.mark.parametrize("model", [Flax(), models.create("resnet20", **RESNET)])
def test_frozen_layers_normalise_in_training_as_in_evaluation(model):
    objective = Classification(model=model, num_classes=CLASSES, frozen_statistics=["."])
    plain = Classification(model=model, num_classes=CLASSES)
    variables = objective.init(jax.random.key(1), batch())
    state = {"batch_stats": variables["batch_stats"]}
    images = jnp.asarray(batch()["image"])
    key = jax.random.key(0)
    outputs, after = jax.jit(objective.forward)(variables["params"], state, images, key)
    expected = jax.jit(objective.outputs)(variables, images)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, after, state)
    others, moved = jax.jit(plain.forward)(variables["params"], state, images, key)
    assert np.abs(others - outputs).max() > 0.1
    assert not np.array_equal(
        jax.tree.leaves(moved["batch_stats"])[0], jax.tree.leaves(state["batch_stats"])[0]
    )


def test_the_encoder_of_a_segmentation_stays_alone():
    model = models.create(
        "unet_resnet18",
        stage_sizes=(1, 1),
        stem="cifar",
        width=4,
        decoder_widths=(4,),
        num_classes=CLASSES,
    )
    objective = Segmentation(model=model, num_classes=CLASSES, frozen_statistics="^encoder/")
    moved = layers_that_moved(objective, pixels=True)
    assert moved
    assert not {layer for layer in moved if layer.startswith("encoder/")}


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        ("stem_nrm", "matches no layer with running statistics; did you mean 'stem_norm'"),
        (["["], "is no"),
    ],
)
def test_a_pattern_that_matches_nothing_is_told(frozen, message):
    def build():
        model = models.create("resnet20", **RESNET)
        objective = Classification(model=model, num_classes=CLASSES, frozen_statistics=frozen)
        return jax.eval_shape(lambda: objective.init(jax.random.key(0), batch()))

    with pytest.raises(ConfigError, match=f"config.objective.frozen_statistics: .*{message}"):
        build()
