import functools

import jax
import numpy as np
import optax
import pixelwise
import pytest
from networks import batch

from vitjax import models, parallel
from vitjax.core.errors import ConfigError
from vitjax.metrics import numbers
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
    model = models.create(name, num_classes=pixelwise.CLASSES, **DOUBLE, **arguments)
    losses = {"cross_entropy": 1.0, "dice": 1.0}
    return pixelwise.objective(model, losses=losses), functools.partial(
        pixelwise.batch, weights=True
    )


VIT = {"patch_size": 2, "width": 16, "depth": 1, "num_heads": 2, "mlp_width": 32}
TASKS = {
    "vit": lambda: classification("vit_ti16", **VIT),
    "resnet": lambda: classification("resnet20", stage_sizes=(1,), width=8),
    "unet": lambda: segmentation("unet", filters=2, depth=1),
}


def train(mode, devices, name, accumulation_steps=1):
    """Parameters, statistics and metrics after `STEPS` steps in float64, so that sums agree."""
    task, make = TASKS[name]()
    optimizer = Optimizer(
        optax.with_extra_args_support(optax.sgd(0.05, momentum=0.9)),
        accumulation_steps=accumulation_steps,
    )
    variables = task.init(jax.random.key(0), make())
    opt_state = optimizer.init(variables["params"])
    way = parallel.create(mode=mode, devices=devices)
    state = way.place_state(TrainState.create(variables, opt_state, seed=0, ema=True))
    over = task.over_axis(way.axis_name) if way.axis_name else task
    step = way.compile(
        make_train_step(over, optimizer, ema_decay=0.9, axis_name=way.axis_name), donate=True
    )
    for number in range(STEPS):
        state, metrics = step(state, way.place_batch(make(16, seed=number, masked=3)))
    evaluate = make_evaluate_step(task.evaluate, axis_name=way.axis_name)

    def gathered(variables, batch):
        likely = task.predict(variables, batch)
        if isinstance(task, Segmentation):
            return {"likely": likely, "prediction": task.image_iou(variables, batch)}
        return {"likely": likely, "prediction": likely.argmax(axis=-1)}

    predict = make_gather_step(gathered, axis_name=way.axis_name)
    both = way.compile(lambda v, b: (evaluate(v, b), predict(v, b)))
    found = way.fetch(both(state.variables, way.place_batch(make(32, seed=99, masked=5))))
    return jax.device_get((way.fetch(state), numbers(way.fetch(metrics)), *found))


@pytest.mark.parametrize("name", TASKS)
def test_many_devices_give_the_numbers_of_one(name):
    with jax.enable_x64(True):
        one = train("jit", 1, name)
        assert one[1]["loss"] > 0
        if name != "vit":
            statistics = jax.tree.leaves(one[0].model_state["batch_stats"])
            assert any(np.ptp(leaf) > 0.01 for leaf in statistics)
        for mode in ("jit", "pmap"):
            many = train(mode, 8, name)
            for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
            assert many[3]["values"]["prediction"].shape == (32,)


def test_accumulation_on_many_devices_gives_the_numbers_of_one():
    with jax.enable_x64(True):
        one = train("jit", 1, "vit")
        for mode in ("jit", "pmap"):
            many = train(mode, 4, "vit", accumulation_steps=2)
            for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


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
    assert list(ahead(iter(range(50)), lambda n: n * n)) == [n * n for n in range(50)]


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
