"""A head on a frozen network: what training the head within the whole network is, to rounding."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from PIL import Image
from small_classifiers import CLASSES

from vitjax import models, weights
from vitjax.core.errors import ConfigError
from vitjax.data.sources.base import ArraySplit
from vitjax.models import UNet
from vitjax.objectives import HeadOnly
from vitjax.objectives.state import FROZEN, TrainState
from vitjax.optim import optimizers
from vitjax.optim.optimizer import Optimizer
from vitjax.tasks import runs
from vitjax.training import experiment as experiments
from vitjax.training import loop
from vitjax.training.runs import load
from vitjax.training.step import make_train_step

RESNET = {"name": "resnet20", "stage_sizes": (1, 1), "width": 4}
VIT = {"name": "vit_ti16", "patch_size": 4, "width": 8, "depth": 2, "num_heads": 2, "mlp_width": 8}
SGD = {"name": "sgd", "learning_rate": 0.3, "momentum": 0.9, "weight_decay": 0.01}


def module(name, **fields):
    return models.create(name, num_classes=CLASSES, **fields)


def random_variables(model, size=8):
    """Variables that are all away from where they start, running statistics included."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    generator = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "var":
            return generator.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)
        scale = np.prod(leaf.shape[:-1]) ** -0.5 if path[-1].key == "kernel" else 0.5
        return (scale * generator.normal(size=leaf.shape)).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def image_batch(seed, masked=0, size=12):
    generator = np.random.default_rng(seed)
    return {
        "image": generator.normal(size=(size, 8, 8, 3)),
        "label": generator.integers(0, CLASSES, size).astype(np.int32),
        "mask": np.arange(size) < size - masked,
    }


def within_the_network(model, variables, batches):
    """The parameters after steps on the whole network in evaluation mode, all but the head frozen.

    Plain code, for comparison.
    """
    params = variables["params"]
    optimizer = optimizers.create(params, lambda step: 0.3, {**SGD, "freeze": r"^(?!head/)"})
    state = optimizer.init(params)

    def loss(params, batch):
        logits = model.apply({**variables, "params": params}, batch["image"], train=False)
        labels = optax.smooth_labels(jax.nn.one_hot(batch["label"], CLASSES), 0.1)
        losses = optax.softmax_cross_entropy(logits, labels)
        return jnp.sum(losses * batch["mask"]) / jnp.sum(batch["mask"])

    @jax.jit
    def step(params, state, batch):
        updates, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    for batch in batches:
        params, state = step(params, state, batch)
    return params


@pytest.mark.parametrize("fields", [RESNET, {**VIT, "dropout": 0.5, "drop_path": 0.5}])
def test_steps_on_features_are_those_within_the_network(fields):
    with jax.enable_x64(True):
        model = module(**fields, dtype="float64", param_dtype="float64")
        variables = random_variables(model)
        batches = [image_batch(seed, masked=seed) for seed in range(4)]
        expected = within_the_network(model, variables, batches)
        for cached in (True, False):
            task = HeadOnly(model, CLASSES, label_smoothing=0.1, cache_features=cached)
            wrapped = task.wrap(jax.random.key(0), variables, batches[0])
            optimizer = Optimizer(optimizers.create(wrapped["params"], lambda step: 0.3, SGD))
            state = TrainState.create(wrapped, optimizer.init(wrapped["params"]), seed=0, ema=True)
            step = jax.jit(make_train_step(task, optimizer, ema_decay=0.5))
            for batch in batches:
                given = dict(batch)
                if cached:
                    given["features"] = jax.jit(task.features)(wrapped, given.pop("image"))
                state, metrics = step(state, given)
            whole = task.unwrap({"params": state.params, **state.model_state})
            found, start = flatten_dict(whole["params"]), flatten_dict(variables["params"])
            for name, leaf in flatten_dict(expected).items():
                np.testing.assert_allclose(found[name], leaf, rtol=0, atol=1e-12)
                if name[0] == "head":
                    assert np.max(np.abs(leaf - start[name])) > 0.01
                else:
                    np.testing.assert_array_equal(found[name], start[name])
            jax.tree.map(
                np.testing.assert_array_equal,
                {**whole, "params": 0},
                {**variables, "params": 0},
            )
            # An evaluation is the same on either, and is that of the whole network.
            logits = model.apply(whole, batch["image"], train=False)
            for each in (batch, given):
                trained = {"params": state.params, **state.model_state}
                np.testing.assert_allclose(task.logits(trained, each), logits, rtol=0, atol=1e-12)
            assert metrics["loss"].count == np.sum(batch["mask"])


# ------------------------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A file of weights, and the weights."""
    model = module(**RESNET)
    variables = random_variables(model)
    path = tmp_path_factory.mktemp("weights") / "source.safetensors"
    return weights.save(variables, model, path, input_shape=(8, 8, 3)), variables


def config(source, **sections):
    return ConfigDict(
        {
            "model": dict(RESNET),
            "data": {
                **{"source": "synthetic", "image_size": 8, "num_classes": 5},
                **{"examples": 40, "val_examples": 21, "batch_size": 16, "eval_batch_size": 16},
            },
            "objective": {"name": "head_only"},
            "optimizer": dict(SGD),
            "train": {"steps": 6, "ema_decay": 0.5, "evaluate_every_steps": 3},
            "checkpoint": {"every_steps": 1, "keep": 3},
            "init": {"from_checkpoint": str(source)},
            "parallel": {"devices": 1},
            **sections,
        }
    )


def trained(source, folder, steps=6):
    said, chosen = [], config(source)
    chosen.train.steps = steps
    return loop.train(experiments.build(chosen), folder, said.append), said


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "head"
    read, original = [], ArraySplit.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            ArraySplit, "read", lambda self, i: read.append(self.origin) or original(self, i)
        )
        summary, said = trained(source[0], folder)
    return folder, summary, said, read


def test_images_are_looked_at_once(run):
    _, summary, said, read = run
    assert [line.split(":")[0] for line in said if line.startswith("Features of")] == [
        "Features of train",
        "Features of val",
    ]
    # Six steps of 16 would be 96. Beside the 40 there is a first look, and 16 tell the cache's key.
    assert read.count("synthetic train") <= 40 + 16 + 4
    assert summary["parameters"] == 8 * 5 + 5


def test_the_finished_run_is_a_whole_network(run, source, tmp_path):
    folder, summary, _, _ = run
    values = runs.evaluate(folder, "val", say=lambda text: None)
    assert values["examples"] == 21
    for name, value in values.items():
        assert value == pytest.approx(summary["val"][name], abs=1e-6)
    built, placed, _ = load(folder, say=lambda text: None)
    whole = built.objective.unwrap(placed)
    for name, leaf in flatten_dict(source[1]).items():
        if name[:2] != ("params", "head"):
            np.testing.assert_array_equal(flatten_dict(whole)[name], leaf)
    assert FROZEN in placed
    pixels = built.data.example("val", 3)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    (result,) = runs.predict(folder, [tmp_path / "one.png"], say=lambda text: None)
    logits = built.objective.model.apply(whole, built.data.normalize(pixels[None]))
    best = result["predictions"][0]
    assert best["class"] == f"class {int(np.argmax(logits))}"
    assert best["probability"] == pytest.approx(float(np.max(jax.nn.softmax(logits))), abs=1e-5)


@pytest.mark.parametrize("cache", ["kept", "gone"])
def test_a_run_goes_on_to_the_same_bits(run, source, tmp_path, cache):
    trained(source[0], tmp_path, steps=4)
    if cache == "gone":
        shutil.rmtree(tmp_path / "features")
    _, said = trained(source[0], tmp_path)
    assert any(line.startswith("Resuming from") for line in said)
    assert any("from" in line.split(":")[1] for line in said if line.startswith("Features")) == (
        cache == "kept"
    )
    states = []
    for folder in (run[0], tmp_path):
        built = experiments.build(config(source[0]))
        store = built.checkpoints(folder / "checkpoints", read_only=True)
        restored = store.restore(built.abstract_state(), config=built.config, step=6)
        states.append(jax.tree.leaves(restored.state))
        store.close()
    for one, other in zip(*states, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_features_of_augmented_images_are_computed_in_every_step(source, tmp_path):
    chosen = config(source[0])
    chosen.objective = {"name": "head_only", "cache_features": False, "mixup": 0.2}
    chosen.data.train_transforms = "flip"
    chosen.train.steps = 3
    said = []
    summary = loop.train(experiments.build(chosen), tmp_path, said.append)
    assert not [line for line in said if line.startswith("Features")]
    assert not (tmp_path / "features").exists()
    assert summary["parameters"] == 8 * 5 + 5


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("init", None, "network would be random; set config.init.from_checkpoint"),
        (
            "data.train_transforms",
            "flip",
            "the value of eval_transforms, or set .*cache_features = False",
        ),
        ("objective.mixup", 0.2, "objective.mixup mixes images in each step"),
        ("objective.cutmix", 1.0, "objective.cutmix mixes images in each step"),
        ("objective.lora", {"rank": 2}, "objective.lora: .* already freezes all but the head"),
        ("objective.frozen_statistics", ".", "objective.frozen_statistics: .* already freezes all"),
        ("objective.cache_feature", True, "did you mean 'cache_features'"),
        ("optimizer.freeze", "^head/", "every parameter is frozen"),
    ],
)
def test_what_does_not_go_together_is_told(key, value, message, source):
    chosen = config(source[0])
    section, _, name = key.rpartition(".")
    (chosen[section] if section else chosen)[name] = value
    with pytest.raises(ConfigError, match=message):
        experiments.build(chosen)


def test_a_model_without_a_head_is_told():
    task = HeadOnly(UNet(num_classes=2, filters=2, depth=1), 2)
    with pytest.raises(ConfigError, match="trains one head, and the model UNet has none"):
        task.wrap(jax.random.key(0), {"params": {"other": {}}}, {})
