"""Complete runs with a sharded state: training, checkpoints, evaluation, features."""

import shutil

import jax
import numpy as np
import pytest

from vitjax.core.errors import ConfigError
from vitjax.training import experiment as experiments
from vitjax.training import features, loop
from vitjax.training import runs as runs_of
from vitjax.training.evaluation import Evaluator
from vitjax.training.fingerprint import fingerprint

FSDP = {"rules": {"name": "fsdp", "min_size": 16}}
MESH = {"mesh": {"data": 2, "fsdp": 2, "model": 2}, "rules": {"name": "auto", "min_size": 16}}
ONE = {"devices": 1}


SMALL = {
    "name": "vit_ti16",
    **{"patch_size": 4, "width": 16, "depth": 1, "num_heads": 2, "mlp_width": 32},
    **{"dtype": "float64", "param_dtype": "float64"},
}


def build(steps=6, model=SMALL, image_size=8, **placement):
    data = {"source": "synthetic", "image_size": image_size, "examples": 64, "batch_size": 16}
    return experiments.build(
        {
            "model": model,
            "data": data,
            "optimizer": {"name": "adamw", "learning_rate": 1e-2},
            "train": {"steps": steps, "evaluate_every_steps": 3, "ema_decay": 0.9},
            "checkpoint": {"best": "val/loss"},
            "parallel": placement,
        }
    )


def state_of(folder, **placement):
    """The newest checkpoint's state, as the devices of ``placement`` hold it."""
    built = build(**placement)
    checkpoints = built.checkpoints(folder / "checkpoints", read_only=True)
    restored = checkpoints.restore(built.abstract_state(), config=built.config, say=str)
    checkpoints.close()
    return restored.state


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-10), a, b)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of six steps: on one device; begun on a mesh and ended on one; and under ``fsdp``."""
    folder = tmp_path_factory.mktemp("runs")
    with jax.enable_x64(True):
        loop.train(build(**ONE), folder / "one", say=str)
        for name, first, then in (("from_mesh", MESH, ONE), ("to_fsdp", ONE, FSDP)):
            if first is ONE:
                shutil.copytree(folder / "one", folder / name)
                shutil.rmtree(folder / name / "checkpoints" / "6")
            else:
                loop.train(build(3, **first), folder / name, say=str)
            loop.train(build(**then), folder / name, say=str)
        yield folder


def test_a_run_resumes_under_another_placement_to_equal_numbers(runs):
    expected = state_of(runs / "one", **ONE)
    assert expected.step == 6
    for name in ("from_mesh", "to_fsdp"):
        assert_close(expected, state_of(runs / name, **ONE))


def test_placement_changes_neither_the_bits_nor_the_fingerprint_of_a_state(runs):
    states = [state_of(runs / "to_fsdp", **placement) for placement in (ONE, {}, FSDP)]
    for other in states[1:]:
        jax.tree.map(np.testing.assert_array_equal, states[0], other)
    assert len({fingerprint(state) for state in states}) == 1
    specs = [leaf.sharding.spec for leaf in jax.tree.leaves(states[2])]
    assert sum("data" in spec for spec in specs) > len(specs) / 2
    assert all(loop.all_finite(state.params) for state in states)


def test_evaluation_and_features_read_a_sharded_state(runs, tmp_path):
    found = []
    for devices in ("--config.parallel=None", "--config.parallel.devices=8"):
        with jax.enable_x64(True):
            experiment, variables, _ = runs_of.load(runs / "to_fsdp", [devices], say=str)
            evaluator, said = Evaluator(experiment), []
            objective, model = experiment.objective, experiment.objective.model
            extractor = features.Extractor(
                experiment,
                objective.unwrap(experiment.parallel.fetch(variables)),
                lambda variables, images, model=model: {
                    "flat": model.headless().apply(variables, images)
                },
                {"layers": ["flat"]},
                cache=tmp_path,
                say=said.append,
            )
            found.append(
                (
                    evaluator.metrics(variables, "val"),
                    evaluator.gather(objective.predict, variables, "val"),
                    extractor.of("val").layers,
                )
            )
    # The cache is found again whatever the placement.
    assert "from" in said[-1]
    assert_close(*found)


def test_a_mesh_that_a_model_cannot_use_is_an_error_before_the_run():
    message = r"mesh.model is 2, .*: a ResNet has no rules of tensor parallelism.*: vit_ti16, "
    with pytest.raises(ConfigError, match=message):
        build(model={"name": "resnet20"}, mesh={"model": 2})
    message = r"mesh\.model is 4, .* does not divide the 2 num_heads"
    with jax.enable_x64(True), pytest.raises(ConfigError, match=message):
        build(mesh={"model": 4})


def test_rules_may_name_each_array_of_a_state():
    rest = [".", {"name": "fsdp", "min_size": 16}]
    with jax.enable_x64(True):
        for name in ("^opt_state/.*count$", "^step$", "^head/kernel$"):
            build(rules=[[name, "replicate"], rest])
        with pytest.raises(ConfigError, match=r"'\^opt_state/count' matches no array"):
            build(rules=[["^opt_state/count", "replicate"], rest])


@pytest.mark.slow
def test_eight_devices_hold_an_eighth_of_a_vit_l_each():
    """By XLA's analysis of the train step; nothing is allocated."""

    def held(**placement):
        """The bytes that the arguments of the step take on a device."""
        model = {"name": "vit_l16", "scan_layers": True}
        built = build(model=model, image_size=224, **placement)
        state, example = built.abstract_state(), built.data.example_batch()
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((16, *x.shape[1:]), x.dtype), example)
        step = built.train_step().lower(state, batch)
        return step.compile().memory_analysis().argument_size_in_bytes

    one, each = held(**ONE), held(mesh={"fsdp": 8})
    # Parameters, two moments and a moving average, of 303 million numbers each.
    assert one > 4 * 4 * 303e6
    assert each == pytest.approx(one / 8, rel=0.01)
