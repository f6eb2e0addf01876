"""Placement rules: which spec an array gets, by its name and shape."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vitjax import models, parallel
from vitjax.core.errors import ConfigError
from vitjax.objectives.state import FROZEN, TrainState
from vitjax.parallel import rules

TENSOR = [
    ["(query|key|value|dense1)/kernel$", [None, "model"]],
    ["(out|dense2)/kernel$", ["model"]],
    ["^head/", "replicate"],
    [".", {"name": "fsdp", "min_size": 64}],
]


def specs(way, tree):
    """Name -> spec of every leaf; names that occur twice must have one spec."""
    found = {}
    shardings = jax.tree.leaves(way.state_sharding(tree))
    for name, sharding in zip(rules.names(tree), shardings, strict=True):
        assert found.setdefault(name, sharding.spec) == sharding.spec
    return found


def state(optimizer, ema=False):
    """The abstract state of a small ViT."""
    model = models.create(
        "vit_ti16", num_classes=6, patch_size=2, width=16, depth=1, num_heads=2, mlp_width=32
    )

    def create():
        variables = model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
        opt_state = optimizer.init(variables["params"])
        return TrainState.create(variables, opt_state, seed=0, ema=ema)

    return jax.eval_shape(create)


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((), P()),
        ((16,), P("data")),
        ((15,), P()),
        ((7,), P()),
        ((16, 32), P(None, "data")),
        ((32, 16), P("data")),
        ((16, 16), P(None, "data")),
        ((100, 24), P(None, "data")),
        ((3, 3, 64, 32), P(None, None, "data")),
        ((2, 4), P()),
    ],
)
def test_fsdp_splits_the_largest_dimension_that_divides(shape, spec):
    way = parallel.create(rules={"name": "fsdp", "min_size": 15})
    assert way.state_sharding(jax.ShapeDtypeStruct(shape, jnp.float32)).spec == spec


def test_fsdp_replicates_small_arrays_unless_told():
    small, large = (jax.ShapeDtypeStruct((n,), jnp.float32) for n in (4088, 4096))
    way = parallel.create(rules="fsdp")
    assert [way.state_sharding(leaf).spec for leaf in (small, large)] == [P(), P("data")]


def test_the_default_replicates():
    way = parallel.create()
    assert set(specs(way, state(optax.adam(1e-3))).values()) == {P()}


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adamw(1e-3),
        optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.multi_transform(
                {"a": optax.adam(1e-3), "b": optax.sgd(0.1, momentum=0.9)},
                lambda params: {name: "a" if name == "head" else "b" for name in params},
            ),
        ),
    ],
)
def test_optimizer_and_moving_average_are_placed_as_their_parameters(optimizer):
    way = parallel.create(mesh={"model": 2}, rules=TENSOR)
    tree = state(optimizer, ema=True)
    found = specs(way, tree)
    block = "encoder/block_0/"
    assert found[block + "attention/query/kernel"] == P(None, "model")
    assert found[block + "attention/out/kernel"] == P("model")
    assert found[block + "mlp/dense2/kernel"] == P("model")
    assert found["patch_embedding/kernel"] == P(None, None, None, "data")
    assert found["head/kernel"] == P()
    others = {name for name in found if name not in rules.names({"params": tree.params})}
    assert {"step", "rng"} <= others
    assert all(name.startswith(("step", "rng", "opt_state")) for name in others)
    assert {found[name] for name in others} == {P()}


def test_an_objective_s_own_collections_are_placed_by_the_same_rules():
    way = parallel.create(rules=[["kernel$", ["data"]], ["^replay/", [None, "data"]]])
    kernel = jnp.zeros((16, 4))
    tree = {
        "params": {"dense": {"kernel": kernel}},
        "teacher": {"params": {"dense": {"kernel": kernel}}},
        "replay": {"images": jnp.zeros((3, 8, 2)), "place": jnp.zeros((1, 8))},
        "batch_stats": {"mean": jnp.zeros(16)},
    }
    assert specs(way, tree) == {
        "dense/kernel": P("data"),
        "replay/images": P(None, "data"),
        "replay/place": P(None, "data"),
        "batch_stats/mean": P(),
    }


def test_the_optimizer_of_a_group_is_placed_as_the_group_s_parameters():
    way = parallel.create(rules=[["^player/", ["data"]]])
    params = {name: {"kernel": jnp.zeros((8, 4))} for name in ("player", "other")}
    opt_state = {name: optax.adam(1e-3).init(group) for name, group in params.items()}
    found = specs(way, {"params": params, "opt_state": opt_state})
    assert found.pop("player/kernel") == P("data")
    assert found == {
        "other/kernel": P(),
        "opt_state/player/0/count": P(),
        "opt_state/other/0/count": P(),
    }


def test_a_step_gathers_parameters_over_the_batch_axis_alone():
    way = parallel.create(mesh={"model": 2}, rules=[["a$", ["data", "model"]], ["b$", ["data"]]])
    params = {name: jnp.zeros((8, 4)) for name in "ab"}
    placed = way.place_state({"params": params, "ema": {"params": params}})
    seen = {}

    def step(state, batch):
        for name in "ab":
            jax.debug.inspect_array_sharding(
                state["params"][name], callback=lambda sharding, n=name: seen.update({n: sharding})
            )
        return state, jnp.sum(batch["x"])

    step = way.compile(step, state=placed)
    new, _ = step(placed, way.place_batch({"x": np.zeros(4)}))
    assert seen["a"].is_equivalent_to(NamedSharding(way.mesh, P(None, "model")), 2)
    assert seen["b"].is_equivalent_to(way.replicated, 2)
    assert specs(way, placed) == {"a": P("data", "model"), "b": P("data")}
    assert jax.tree.map(lambda leaf: leaf.sharding, new) == way.state_sharding(placed)


def test_a_step_gathers_frozen_parameters():
    way = parallel.create(rules={"name": "fsdp", "min_size": 16})
    kernel = jnp.zeros((16, 8))
    variables = {
        "params": {"lora": {"dense/kernel": {"a": kernel}}},
        FROZEN: {"dense": {"kernel": kernel}},
        "replay": {"images": kernel},
    }
    placed = way.place_state(TrainState.create(variables, (), seed=0))
    seen = {}

    def step(state, batch):
        for name, tree in state.model_state.items():
            jax.debug.inspect_array_sharding(
                jax.tree.leaves(tree)[0], callback=lambda s, n=name: seen.update({n: s.spec})
            )
        return state, jnp.sum(batch["x"])

    way.compile(step, state=placed)(placed, way.place_batch({"x": np.zeros(8)}))
    # As XLA reports it; a collection of the method's own stays as it is placed.
    assert seen == {FROZEN: P(), "replay": P("data")}
    assert specs(way, placed)["dense/kernel"] == P("data")


def test_a_mesh_has_data_first_and_gives_it_the_devices_that_are_left():
    assert dict(parallel.create(mesh={"model": 2}).mesh.shape) == {"data": 4, "model": 2}
    way = parallel.create(devices=4, mesh={"a": 2, "data": 2})
    assert list(way.mesh.shape.items()) == [("data", 2), ("a", 2)]
    assert way.batch_shards == 2
    assert [way.round_up(size) for size in (1, 2, 3)] == [2, 2, 4]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"rules": "fsdpp"}, "unknown placement rule 'fsdpp'; did you mean 'fsdp'"),
        ({"rules": {"name": "fsdp", "minsize": 4}}, "'minsize'; did you mean 'min_size'"),
        ({"rules": {"min_size": 4}}, "config.parallel.rules: the key 'name' is missing"),
        ({"rules": [["kernel$", [None], 3]]}, "must be a string, a section of keys or a list of"),
        ({"rules": [["kernel$", 3]]}, "must be a string, a section of keys or a list of"),
        ({"rules": {"name": "fsdp", "min_size": -1}}, "rules.min_size is -1; it must be"),
        ({"rules": [["kernel(", "fsdp"]]}, r"'kernel\(' is not a regular expression"),
        ({"mesh": {"model": 3}}, "a mesh of 6 devices, but the run has 8"),
        ({"mesh": {"model": 16}}, "a mesh of 16 devices, but the run has 8"),
        ({"mesh": {"model": 0}}, "config.parallel.mesh.model is 0; it must be .*at least 1"),
        ({"mesh": {"data": 4}}, "a mesh of 4 devices, but the run has 8"),
        ({"mode": "pmap", "rules": "fsdp"}, "config.parallel.rules is 'fsdp', but mode 'pmap'"),
        ({"mode": "pmap", "mesh": {"model": 2}}, "config.parallel.mesh is .*, but mode 'pmap'"),
    ],
)
def test_mistakes_in_the_section_are_named(section, message):
    with pytest.raises(ConfigError, match=message):
        parallel.create(**section)


@pytest.mark.parametrize(
    ("placement", "message"),
    [
        ([["kernell$", "fsdp"]], "'kernell\\$' matches no array; did you mean 'kernel'"),
        ([["kernel$", [None, "modle"]]], "no axis 'modle'; did you mean 'model'"),
        ({"name": "fsdp", "axis": "fsdp"}, r"no axis 'fsdp' \(axes: data, model;"),
        ([["bias$", [None, "model"]]], r"2 dimensions, but .*/bias has shape \(16,\)"),
        ([["^head/kernel$", [None, "data"]]], r"of head/kernel with shape \(16, 6\) into 4 parts"),
    ],
)
def test_rules_that_do_not_fit_the_state_are_named(placement, message):
    way = parallel.create(mesh={"model": 2}, rules=placement)
    variables = state(optax.sgd(0.1)).variables
    with pytest.raises(ConfigError, match=f"config.parallel.rules: .*{message}"):
        way.check(variables)


def test_a_name_registered_elsewhere_is_a_rule():
    class First:
        def __call__(self, name, shape, mesh):
            return P("data")

    rules.RULES.register("first_dimension_of_a_test")(First)
    way = parallel.create(rules="first_dimension_of_a_test")
    assert way.state_sharding(jnp.zeros((8, 2))).spec == P("data")
