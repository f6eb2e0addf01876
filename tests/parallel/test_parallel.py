import dataclasses
import functools
import math
import re

import jax
import numpy as np
import optax
import pytest
import small_segmentation
from small_classifiers import batch
from small_problems import episodes

from vitjax import metrics as metrics_
from vitjax import models, parallel
from vitjax.core.errors import ConfigError
from vitjax.meta import Maml
from vitjax.objectives import Classification, Segmentation
from vitjax.objectives.state import TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.parallel.prefetch import ahead
from vitjax.training.step import make_evaluate_step, make_gather_step, make_train_step

STEPS = 20
DOUBLE = {"dtype": "float64", "param_dtype": "float64"}


def classification(name, **arguments):
    """An objective, and a function that makes its batches."""
    model = models.create(name, num_classes=7, **DOUBLE, **arguments)
    return Classification(model=model, num_classes=7), batch


def segmentation(name, **arguments):
    """The same, of images with a class for every pixel and a weight map."""
    model = models.create(name, num_classes=small_segmentation.CLASSES, **DOUBLE, **arguments)
    losses = {"cross_entropy": 1.0, "dice": 1.0}
    return small_segmentation.objective(model, losses=losses), functools.partial(
        small_segmentation.batch, weights=True
    )


def few_shot(name, inner_learning_rate=0.3, **arguments):
    """MAML, and a function that makes batches of episodes."""
    model = models.create(name, num_classes=3, **DOUBLE, **arguments)
    objective = Maml(
        model=model,
        num_classes=3,
        normalize=lambda images: images,
        inner_steps=1,
        inner_learning_rate=inner_learning_rate,
        unroll=1,
    )

    def make(size=16, seed=0, masked=0):
        size //= 2  # an episode is much to compute
        made = episodes(size, (8, 8, 1), shots=2, queries=3, seed=seed)
        made["mask"][size - masked :] = False
        return made

    return objective, make


VIT = {"patch_size": 2, "width": 16, "depth": 1, "num_heads": 2, "mlp_width": 32}
NETWORKS = {
    "vit": lambda: classification("vit_ti16", **VIT),
    "resnet": lambda: classification("resnet20", stage_sizes=(1,), width=8),
    "unet": lambda: segmentation("unet", filters=8, depth=1),
    "maml": lambda: few_shot("conv4", filters=8, depth=2, activation="tanh"),
    "maml_vit": lambda: few_shot("vit_ti16", 0.01, **VIT | {"patch_size": 4}),
}
# What the axes of a mesh do; pmap has none.
MESHES = {
    "data": {"data": 8},
    "fsdp": {"fsdp": 8},
    "data x fsdp": {"data": 2, "fsdp": 4},
    "data x model": {"data": 4, "model": 2},
    "fsdp x model": {"fsdp": 4, "model": 2},
    "data x fsdp x model": {"data": 2, "fsdp": 2, "model": 2},
    "pmap": None,
}
PLACEMENTS = {
    name: {"mode": "pmap"}
    if mesh is None
    else {"mesh": mesh, "rules": {"name": "auto", "min_size": 1}}
    for name, mesh in MESHES.items()
}
# Without an axis of its own, fsdp is over the one axis of the mesh.
FSDP = {"rules": {"name": "fsdp", "min_size": 1}}
# These tests compile much and compute little.
QUICK = {"xla_backend_optimization_level": 0}


def train(name, devices, accumulation_steps=1, evaluated=True, mode="jit", **placement):
    """The losses of `STEPS` steps in float64, so that sums agree, and the state after them.

    With ``evaluated`` also the last metrics, and the metrics and predictions of an evaluation. And
    the compiled step.
    """
    objective, make = NETWORKS[name]()
    way = parallel.create(mode=mode, devices=devices, **placement).for_model(objective.model)
    if isinstance(objective, Maml):
        shards = way.batch_shards if mode == "jit" else 1
        objective = dataclasses.replace(objective, devices=shards)
    optimizer = Optimizer(
        optax.with_extra_args_support(optax.sgd(0.05, momentum=0.9)),
        accumulation_steps=accumulation_steps,
    )
    variables = objective.init(jax.random.key(0), make())
    state = TrainState.create(variables, optimizer.init(variables["params"]), seed=0, ema=True)
    if way.axis_name:
        objective = objective.over_axis(way.axis_name)
    step = way.compile(
        make_train_step(objective, optimizer, ema_decay=0.9),
        state=state,
        donate=True,
    )
    state = way.place_state(state)
    # No training episode is masked.
    masked = 0 if isinstance(objective, Maml) else 3
    batch = way.place_batch(make(16, masked=masked))
    step = step.lower(state, batch).compile(QUICK)
    all_metrics = []
    for number in range(STEPS):
        batch = way.place_batch(make(16, seed=number, masked=masked))
        state, metrics = step(state, batch)
        all_metrics.append(metrics)
    losses = [metrics_.numbers(metrics)["loss"] for metrics in way.to_host(all_metrics)]
    if not evaluated:
        return (losses, way.to_host(state)), step
    evaluate = make_evaluate_step(objective.evaluate, axis_name=way.axis_name)
    predict = make_gather_step(
        lambda variables, batch: [read(variables, batch) for read in gathered(objective)],
        axis_name=way.axis_name,
    )
    both = way.compile(lambda v, b: (evaluate(v, b), predict(v, b)))
    batch = way.place_batch(make(32, seed=99, masked=5))
    found = both.lower(state.variables, batch).compile(QUICK)(state.variables, batch)
    state, metrics, *found = way.to_host((state, metrics, *found))
    return (losses, state, metrics_.numbers(metrics), *found), step


@functools.cache
def train_on_one(name):
    return train(name, 1)


def state_bytes(step):
    """The bytes of the state on each device: the memory that a compiled step reuses.

    All of the state is donated: each array has the memory of one that the step returns.
    """
    (state, _), _ = step.input_shardings
    shapes, _ = step.args_info[0]
    held = sum(
        math.prod(sharding.shard_shape(each.shape)) * each.dtype.itemsize
        for each, sharding in zip(jax.tree.leaves(shapes), jax.tree.leaves(state), strict=True)
    )
    assert step.memory_analysis().alias_size_in_bytes == held
    return held


def gathered(objective):
    """The functions of an objective whose results are gathered over examples."""
    if isinstance(objective, Maml):
        return [objective.query_probabilities]
    if isinstance(objective, Segmentation):
        return [objective.predict, objective.image_iou]
    return [objective.predict]


def assert_equal_numbers(one, many):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
        assert np.shape(a) == np.shape(b)


@pytest.mark.parametrize("name", ["vit", "resnet", "unet", "maml"])
def test_many_devices_give_the_numbers_of_one(name):
    with jax.enable_x64(True):
        one, alone = train_on_one(name)
        assert min(one[0]) > 0
        if name != "vit":
            statistics = jax.tree.leaves(one[1].model_state["batch_stats"])
            assert any(np.ptp(leaf) > 0.01 for leaf in statistics)
        sharded, step = train(name, 8, **PLACEMENTS["fsdp"])
        assert_equal_numbers(one, sharded)
        # Parameters, momentum and moving average; what eight does not divide is small.
        assert 1 / 8 < state_bytes(step) / state_bytes(alone) < 1 / 7
        # Parameters are gathered; activations stay where their examples are.
        assert "all-gather" in step.as_text()
        assert "all-to-all" not in step.as_text()
        # Where a copy is on every device, test_maml.py has the same for MAML.
        if name != "maml":
            replicated, step = train(name, 8, **PLACEMENTS["data"])
            assert_equal_numbers(one, replicated)
            assert state_bytes(step) == state_bytes(alone)
            mapped, _ = train(name, 8, **PLACEMENTS["pmap"])
            assert_equal_numbers(one, mapped)


def test_all_axes_together_give_the_numbers_of_one():
    with jax.enable_x64(True):
        one, alone = train_on_one("vit")
        split, step = train("vit", 8, **PLACEMENTS["data x fsdp x model"])
        assert_equal_numbers(one, split)
        # Of the layers a device holds a quarter, of the other arrays half.
        assert 1 / 4 < state_bytes(step) / state_bytes(alone) < 1 / 2
        # After the sum over fsdp, a device keeps its part of a kernel's gradient: of (16, 16) here.
        assert re.search(r"f64\[8,8\].* all-reduce\(.*transpose\(", step.as_text())
        assert summed_activations(step) == (
            (2, {"attention/out", "mlp/dense2"}),
            # The gradients of their inputs.
            (4, {"attention/query", "attention/key", "attention/value", "mlp/dense1"}),
        )


def summed_activations(step):
    """How many arrays of activations are summed over devices, and in which layers of the block.

    In the forward and in the backward pass. One operation may sum several arrays, and has the names
    of all.
    """
    passes = [0, set()], [0, set()]
    for results, name in re.findall(r"= (.*) all-reduce\(.*op_name=\"([^\"]*)", step.as_text()):
        # A quarter of the batch, four tokens and that of the class, the width.
        if arrays := results.count("f64[4,5,16]"):
            found = passes["transpose(" in name]
            found[0] += arrays
            found[1].update(re.findall(r"block_0/(\w+/\w+)/dot_general", name))
    return tuple(map(tuple, passes))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "placement"),
    [
        *(("vit", each) for each in ("data x fsdp", "data x model", "fsdp x model")),
        ("resnet", "data x fsdp"),
        ("unet", "data x fsdp"),
        *(("maml", each) for each in ("data", "data x fsdp", "pmap")),
        *(("maml_vit", each) for each in ("data x fsdp x model", "data x model", "fsdp x model")),
    ],
)
def test_other_meshes_give_the_losses_of_one(name, placement):
    with jax.enable_x64(True):
        one, _ = train_on_one(name)
        many, _ = train(name, 8, evaluated=False, **PLACEMENTS[placement])
        assert_equal_numbers(one[:2], many)


def test_accumulation_on_many_devices_gives_the_numbers_of_one():
    with jax.enable_x64(True):
        one, _ = train_on_one("vit")
        for placement in ({}, FSDP, PLACEMENTS["pmap"]):
            many, _ = train("vit", 4, accumulation_steps=2, **placement)
            assert_equal_numbers(one, many)


def test_tensor_parallelism_gives_the_numbers_of_one():
    placement = {
        "mesh": {"model": 4},
        "rules": [
            ["(query|key|value|dense1)/kernel$", [None, "model"]],
            ["(out|dense2)/kernel$", ["model"]],
            [".", {"name": "fsdp", "min_size": 64}],
        ],
    }
    with jax.enable_x64(True):
        one, _ = train_on_one("vit")
        many, _ = train("vit", 8, **placement)
        assert_equal_numbers(one, many)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_placing_and_fetching_is_the_identity(mode):
    way = parallel.create(mode=mode)
    tree = {"a": np.arange(6.0).reshape(2, 3), "b": np.int32(4)}
    jax.tree.map(np.testing.assert_array_equal, way.fetch(way.place_state(tree)), tree)


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="did you mean 'pmap'"):
        parallel.create(mode="pmp")
    with pytest.raises(ConfigError, match="there are 8 devices"):
        parallel.create(devices=9)


def test_evaluation_batches_grow_to_a_share_for_each_device():
    way = parallel.create()
    assert [way.round_up(size) for size in (1, 8, 9, 100)] == [8, 8, 16, 104]


def test_ahead_keeps_order_and_ends():
    assert list(ahead((n for n in range(50)), lambda n: n * n)) == [n * n for n in range(50)]


def test_ahead_hands_on_errors_in_their_place():
    def batches():
        yield 1
        raise KeyError("broken")

    iterator = ahead(batches(), lambda n: n)
    assert next(iterator) == 1
    with pytest.raises(KeyError, match="broken"):
        next(iterator)


def test_ahead_reads_no_further_than_asked_and_closes_its_source():
    class Endless:
        read = 0
        closed = False

        def __iter__(self):
            return self

        def __next__(self):
            self.read += 1
            return self.read

        def close(self):
            self.closed = True

    source = Endless()
    iterator = ahead(source, lambda n: n, size=2)
    assert next(iterator) == 1
    iterator.close()
    assert source.closed
    assert source.read <= 5
