import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from vitjax import models, parallel
from vitjax.core.errors import ConfigError
from vitjax.core.names import count_parameters
from vitjax.core.validation import call
from vitjax.models.protocol import Model
from vitjax.nn.batch_norm import BatchNorm
from vitjax.objectives import Classification
from vitjax.objectives.lora import LoRA
from vitjax.objectives.state import FROZEN, TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.training.step import make_evaluate_step, make_train_step

CLASSES = 7


class Small(Model):
    """Two layers with batch normalisation between: quick to compile."""

    num_classes: int = CLASSES
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, train=False):
        double = {"dtype": jnp.float64, "param_dtype": jnp.float64}
        x = nn.Dense(24, name="dense", **double)(images.reshape(len(images), -1))
        x = BatchNorm(not train, axis_name=self.axis_name, name="norm", **double)(x)
        return nn.Dense(self.num_classes, name="head", **double)(jnp.tanh(x))


VIT = {"patch_size": 4, "width": 16, "depth": 2, "num_heads": 2, "mlp_width": 32}
RESNET = {"stage_sizes": (1, 1), "width": 4}


def task(name, lora, **fields):
    own = VIT if name.startswith("vit") else RESNET
    model = models.create(
        name, num_classes=CLASSES, dtype="float64", param_dtype="float64", **own, **fields
    )
    return Classification(model=model, num_classes=CLASSES, lora=LoRA(**lora), frozen_statistics=())


def batch(size=16, seed=0, masked=0):
    generator = np.random.default_rng(seed)
    return {
        "image": generator.normal(size=(size, 8, 8, 3)),
        "label": generator.integers(0, CLASSES, size).astype(np.int32),
        "mask": np.arange(size) < size - masked,
    }


def moved(variables, seed=5):
    """``variables`` with all that is trained somewhere else, and B no longer zero."""
    leaves, structure = jax.tree.flatten(variables["params"])
    generator = np.random.default_rng(seed)
    leaves = [leaf + 0.3 * generator.normal(size=leaf.shape) for leaf in leaves]
    return {**variables, "params": jax.tree.unflatten(structure, leaves)}


def test_training_starts_from_the_outputs_that_there_were():
    with jax.enable_x64(True):
        objective = task("vit_ti16", {})
        model = objective.init_model(jax.random.key(0), batch())
        variables = objective.wrap(jax.random.key(0), model, batch())
        merged = objective.unwrap(variables)
        assert jax.tree.structure(merged) == jax.tree.structure(model)
        jax.tree.map(np.testing.assert_array_equal, merged, model)
        assert set(variables["params"]) == {"head", "lora"}
        updates = flatten_dict(variables["params"]["lora"], sep="/")
        assert len(updates) == 2 * 2 * VIT["depth"]
        for name, leaf in updates.items():
            if name.endswith("/b"):
                assert not leaf.any()
            else:
                assert leaf.shape == (16, 8)
                assert 0.2 < np.abs(leaf).max() <= 16**-0.5
        # Every kernel has a start of its own.
        starts = [leaf for name, leaf in updates.items() if name.endswith("/a")]
        assert len({leaf.tobytes() for leaf in map(np.asarray, starts)}) == len(starts)


def beside(updates, scale):
    """Computes what is updated in the paper's way: the layer, and beside it the product."""

    def intercept(call, arguments, keywords, context):
        outputs = call(*arguments, **keywords)
        module = context.module
        # Modules that are not part of the network have no path.
        if context.method_name != "__call__" or module.scope is None:
            return outputs
        name = "/".join([*module.path, "kernel"])
        if f"{name}/a" not in updates:
            return outputs
        (x, *_), a, b = arguments, updates[f"{name}/a"], updates[f"{name}/b"]
        if isinstance(module, nn.Dense):
            return outputs + scale * ((x @ a) @ b)
        # Down by a convolution of as many channels as the rank has, up by one of a single pixel.
        down = a.reshape(*module.kernel_size, x.shape[-1], -1)
        padding = [((k - 1) // 2, k // 2) for k in module.kernel_size]
        numbers = ("NHWC", "HWIO", "NHWC")
        hidden = jax.lax.conv_general_dilated(
            x, down, module.strides, padding, dimension_numbers=numbers
        )
        return outputs + scale * hidden @ b

    return nn.intercept_methods(intercept)


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("vit_ti16", {"rank": 3, "alpha": 12, "kernels": ["query/kernel", "mlp/dense1/kernel"]}),
        ("resnet20", {"rank": 3, "alpha": 6, "kernels": [r"block1/conv\d/kernel$"]}),
    ],
)
def test_merged_kernels_give_the_outputs_of_updates_beside_the_layers(name, lora):
    with jax.enable_x64(True):
        objective = task(name, lora)
        variables = moved(objective.init(jax.random.key(0), batch()))
        images = jnp.asarray(batch()["image"])
        merged = jax.jit(objective.outputs)(variables, images)
        updates = flatten_dict(variables["params"]["lora"], sep="/")
        assert len(updates) == 2 * 4
        plain = objective.unwrap(
            {
                **variables,
                "params": {
                    **variables["params"],
                    "lora": jax.tree.map(jnp.zeros_like, variables["params"]["lora"]),
                },
            }
        )
        with beside(updates, lora["alpha"] / lora["rank"]):
            expected = jax.jit(lambda v, x: objective.model.apply(v, x))(plain, images)
        without = jax.jit(objective.model.apply)(plain, images)
        assert np.abs(merged - without).max() > 0.1
        np.testing.assert_allclose(merged, expected, rtol=1e-10, atol=1e-12)


def test_stacked_kernels_have_an_update_for_each_layer():
    with jax.enable_x64(True):
        stacked, looped = task("vit_ti16", {}, scan_layers=True), task("vit_ti16", {})
        variables = moved(stacked.init(jax.random.key(0), batch()))
        updates = flatten_dict(variables["params"]["lora"], sep="/")
        assert updates["encoder/blocks/attention/query/kernel/a"].shape == (2, 16, 8)
        images = jnp.asarray(batch()["image"])
        merged = models.unstack_layers(stacked.unwrap(variables))
        outputs = jax.jit(stacked.outputs)(variables, images)
        np.testing.assert_allclose(outputs, jax.jit(looped.model.apply)(merged, images), rtol=1e-10)


def train(mode, devices, accumulation_steps=1, optimizer=None):
    """The state before and after some steps, and the metrics at the end."""
    objective = Classification(
        model=Small(),
        num_classes=CLASSES,
        lora=LoRA(kernels="^dense/kernel"),
        frozen_statistics=(),
    )
    optimizer = optimizer or optax.with_extra_args_support(optax.sgd(0.05, momentum=0.9))
    optimizer = Optimizer(optimizer, accumulation_steps=accumulation_steps)
    way = parallel.create(mode=mode, devices=devices)
    variables = objective.init(jax.random.key(0), batch())
    opt_state = optimizer.init(variables["params"])
    first = TrainState.create(variables, opt_state, seed=0, ema=True)
    first = jax.device_get(first)
    over = objective.over_axis(way.axis_name) if way.axis_name else objective
    step = way.compile(make_train_step(over, optimizer, ema_decay=0.9), donate=True)
    state = way.place_state(first)
    for number in range(4):
        state, _ = step(state, way.place_batch(batch(24, number, masked=3)))
    evaluate = way.compile(make_evaluate_step(objective.evaluate, axis_name=way.axis_name))
    metrics = way.fetch(
        evaluate(way.place_state(way.fetch(state).variables), way.place_batch(batch(24, 9)))
    )
    return first, jax.device_get(way.fetch(state)), jax.device_get(metrics)


def test_many_devices_and_micro_batches_give_the_numbers_of_one():
    with jax.enable_x64(True):
        first, one, metrics = train("jit", 1)
        for mode, devices in (("jit", 4), ("pmap", 3)):
            _, many, others = train(mode, devices)
            for a, b in zip(
                jax.tree.leaves((one, metrics)), jax.tree.leaves((many, others)), strict=True
            ):
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
            jax.tree.map(
                np.testing.assert_array_equal,
                many.model_state[FROZEN],
                first.model_state[FROZEN],
            )
        _, pieces, _ = train("jit", 1, accumulation_steps=2)
        jax.tree.map(
            np.testing.assert_array_equal, pieces.model_state[FROZEN], first.model_state[FROZEN]
        )


def test_only_updates_and_head_are_held_by_the_optimizer_and_the_average():
    with jax.enable_x64(True):
        optimizer = optax.with_extra_args_support(optax.adam(1e-2))
        first, last, _ = train("jit", 1, optimizer=optimizer)
    trained = count_parameters(first.params)
    assert set(first.params) == {"lora", "head"}
    assert trained < count_parameters(first.model_state[FROZEN])
    assert count_parameters(first.opt_state) == 2 * trained + 1
    assert set(last.ema) == {"params", "batch_stats"}
    assert set(last.variables) == {"params", "batch_stats", FROZEN}
    for name, leaf in flatten_dict(last.params, sep="/").items():
        assert np.abs(leaf - flatten_dict(first.params, sep="/")[name]).max() > 0, name


def test_a_family_without_default_kernels_needs_patterns():
    objective = task("resnet20", {})
    variables = {"params": {"head": {"kernel": 1}}}
    with pytest.raises(ConfigError, match=r"lora.kernels is missing: a ResNet has no default"):
        objective.wrap(jax.random.key(0), variables, batch(1))


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"rank": 0}, "config.objective.lora.rank is 0"),
        ({"alpha": -1.0}, "config.objective.lora.alpha is -1.0"),
        ({"rnak": 2}, "did you mean 'rank'"),
        ({"kernels": "quary/kernel"}, "'quary/kernel' matches no parameter"),
        ({"kernels": "attention/query"}, r"query/bias has the shape \(16,\)"),
        ({"trained": "haed"}, "'haed' matches no parameter; did you mean 'head'"),
        ({"kernels": "(", "trained": "."}, "is not a regular expression"),
        ({"trained": "."}, "already matches all of the kernels"),
    ],
)
def test_mistakes_are_named(lora, message):
    def build():
        model = models.create("vit_ti16", num_classes=CLASSES, **VIT)
        objective = call(
            Classification,
            {"lora": lora},
            where="config.objective",
            model=model,
            num_classes=CLASSES,
        )
        return jax.eval_shape(lambda: objective.init(jax.random.key(0), batch(1)))

    with pytest.raises(ConfigError, match=message):
        build()


def test_a_scale_of_one_is_the_default():
    update = LoRA(rank=4)._update(jnp.ones((3, 4)), jnp.ones((4, 5)))
    np.testing.assert_array_equal(update, np.full((3, 5), 4.0))
