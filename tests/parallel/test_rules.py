"""Placement rules: which spec an array gets, by its name and shape."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vitjax import meta, models, parallel
from vitjax.core.errors import ConfigError
from vitjax.objectives.lora import LoRA
from vitjax.objectives.state import FROZEN, TrainState
from vitjax.parallel import mesh, rules

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


def vit(**fields):
    small = {"patch_size": 2, "width": 16, "depth": 1, "num_heads": 2, "mlp_width": 32}
    return models.create("vit_ti16", num_classes=6, **small | fields)


def initial(model):
    """The variables of `vit`."""
    return model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))


def state(optimizer, ema=False, model=None):
    """The abstract state of a small ViT."""

    def create():
        variables = initial(model or vit())
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


@pytest.mark.parametrize(
    ("mesh", "rule", "expected"),
    [
        # By itself, an axis of the mesh does its work.
        ({"data": 8}, "auto", [P(), P(), P(), P()]),
        ({"fsdp": 4}, "auto", [P(None, "fsdp"), P("fsdp"), P(), P("fsdp")]),
        ({"model": 2}, "auto", [P(None, "model"), P("model"), P("model"), P()]),
        (
            {"model": 2, "fsdp": 2},
            "auto",
            [P("fsdp", "model"), P("model", "fsdp"), P("model"), P("fsdp")],
        ),
        # Asked for, fsdp is over data on a mesh without an axis fsdp.
        ({"data": 8}, "fsdp", [P(None, "data"), P("data"), P(), P("data")]),
        ({"fsdp": 4}, "fsdp", [P(None, "fsdp"), P("fsdp"), P(), P("fsdp")]),
        (
            {"model": 2},
            "fsdp",
            [P("data", "model"), P("model", "data"), P("model"), P("data")],
        ),
        ({"model": 2, "fsdp": 4}, "replicate", [P()] * 4),
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_the_mesh_and_the_model_say_what_is_split(mesh, rule, expected, stacked):
    rule = {"name": rule, "min_size": 64} if rule != "replicate" else rule
    model = vit(scan_layers=stacked)
    way = parallel.create(mesh=mesh, rules=rule).for_model(model)
    found = specs(way, state(optax.adam(1e-3), ema=True, model=model))
    block = "encoder/blocks/" if stacked else "encoder/block_0/"
    names = ["mlp/dense1/kernel", "mlp/dense2/kernel", "mlp/dense1/bias"]
    assert [found[block + name] for name in names] == [
        P(*(None,) * (stacked and len(spec) > 0), *spec) for spec in expected[:3]
    ]
    assert found["position_embedding"] == P(*expected[3] and (None, None, None), *expected[3])
    for name in ("query/kernel", "query/bias", "out/kernel", "out/bias"):
        # As the layers of the MLP: the first splits its outputs, the second its inputs.
        spec = found[f"{block}attention/{name}"]
        splits = ["model" in entry for entry in map(str, spec)]
        assert any(splits) == ("model" in mesh and rule != "replicate" and name != "out/bias")


def test_moments_in_other_shapes_than_their_parameters_are_copied():
    adafactor = optax.adafactor(1e-3, min_dim_size_to_factor=8)
    found = specs(parallel.create(mesh={"model": 2}).for_model(vit()), state(adafactor))
    others = [name for name in found if name.startswith("opt_state/") and "kernel" in name]
    assert any(name.endswith("v_row/encoder/block_0/mlp/dense1/kernel") for name in others)
    assert {found[name] for name in others} == {P()}


def test_the_factors_of_a_split_kernel_are_split_with_it():
    model = vit()
    kernels = ("attention/(query|out)/kernel$", "head/kernel$")
    lora = LoRA(rank=2, kernels=kernels, trained=("bias$",))
    variables = jax.eval_shape(lambda: lora.split(jax.random.key(0), model, initial(model)))
    found = specs(parallel.create(mesh={"model": 2}).for_model(model), variables)
    block = "encoder/block_0/attention/"
    assert found[block + "query/kernel"] == P(None, "model")
    assert found[f"lora/{block}query/kernel/a"] == P()
    assert found[f"lora/{block}query/kernel/b"] == P(None, "model")
    assert found[f"lora/{block}out/kernel/a"] == P("model")
    assert found[f"lora/{block}out/kernel/b"] == P()
    assert found["lora/head/kernel/b"] == P()


WITHOUT_STATISTICS = {"per_step_norm": False, "per_step_statistics": False}


@pytest.mark.parametrize(
    ("method", "options"),
    [("MamlPlusPlus", WITHOUT_STATISTICS), ("MetaSgd", {}), ("Maml", {})],
)
def test_what_is_learned_beside_a_parameter_is_not_split_as_it_is(method, options):
    """Rates per step have shape (5,), so that no rule of a kernel or a bias fits."""
    objective = getattr(meta, method)(
        model=vit(),
        num_classes=6,
        normalize=jnp.asarray,
        inner_steps=5,
        inner_learning_rate=0.1,
        **options,
    )

    def create():
        variables = objective.wrap(jax.random.key(0), initial(objective.model), {})
        opt_state = optax.adam(1e-3).init(variables["params"])
        return TrainState.create(variables, opt_state, seed=0, ema=True)

    tree = jax.eval_shape(create)
    way = parallel.create(mesh={"model": 2}).for_model(objective.model)
    way.check(tree)
    found = specs(way, tree)
    kernel = "encoder/block_0/mlp/dense1/kernel"
    assert found[f"model/{kernel}"] == P(None, "model")
    beside = {name: spec for name, spec in found.items() if name.endswith(f"rates/{kernel}")}
    assert (
        beside
        == {
            "MamlPlusPlus": {f"params/rates/{kernel}": P()},
            # A rate for each number of the kernel.
            "MetaSgd": {f"rates/{kernel}": P(None, "model")},
            "Maml": {},
        }[method]
    )


def test_a_model_with_a_part_that_can_be_split_is_split_there():
    fields = {"width": 16, "depth": 1, "num_heads": 2, "patch_size": 4}
    encoder = {"name": "vit_ti16", **fields}
    model = models.create("unet_encoder", num_classes=2, encoder=encoder)
    way = parallel.create(mesh={"model": 2}).for_model(model)
    images = jnp.zeros((1, 8, 8, 3))
    found = specs(way, jax.eval_shape(lambda: model.init(jax.random.key(0), images)))
    split = {name for name, spec in found.items() if "model" in spec}
    assert split == {
        name for name in found if re.search("query|key|value|dense|out/kernel", name)
    } - {name for name in found if name.endswith("dense2/bias")}


def test_devices_that_could_only_copy_are_an_error():
    resnet = models.create("resnet20", num_classes=6, stage_sizes=(1,), width=8)
    images = jnp.zeros((1, 8, 8, 3))
    variables = jax.eval_shape(lambda: resnet.init(jax.random.key(0), images))
    way = parallel.create(mesh={"model": 2}).for_model(resnet)
    with pytest.raises(ConfigError, match=r"mesh.model is 2, but .*a ResNet has no .*: vit_ti16,"):
        way.check(variables)
    # Unless the config says what is split.
    parallel.create(mesh={"model": 2}, rules=[["head/kernel", [None, "model"]]]).check(variables)
    model = vit()
    way = parallel.create(mesh={"model": 2}, rules="replicate").for_model(model)
    with pytest.raises(ConfigError, match="are not those of the model"):
        way.check(jax.eval_shape(lambda: initial(model)))


def test_heads_and_channels_that_do_not_divide_are_named():
    way = parallel.create(mesh={"model": 4})
    odd = vit(num_heads=6, width=24)
    with pytest.raises(ConfigError, match=r"mesh.model is 4, .* 6 num_heads .*1, 2, 3, 6 do"):
        way.for_model(odd).check(jax.eval_shape(lambda: initial(odd)))
    # A list that leaves a part to the model says no less.
    for rest, error in (("auto", True), ({"name": "auto", "min_size": 1}, True), ("fsdp", False)):
        own = [["head/kernel$", [None, "model"]], [".", rest]]
        way = parallel.create(mesh={"model": 2, "fsdp": 2}, rules=own)
        three = vit(num_heads=3, width=24)
        way = way.for_model(three)
        variables = jax.eval_shape(lambda model=three: initial(model))
        if error:
            with pytest.raises(ConfigError, match=r"'auto' splits nothing over it.* 3 num_heads"):
                way.check(variables)
        else:
            way.check(variables)
    way = parallel.create(mesh={"model": 4})
    # Rules of the config may split in other ways than the model's.
    own = [["dense1/kernel$", [None, "model"]], [".", {"name": "fsdp", "min_size": 1}]]
    own = parallel.create(mesh={"model": 4}, rules=own).for_model(odd)
    own.check(jax.eval_shape(lambda: initial(odd)))
    model = vit(num_heads=4, mlp_width=30)
    with pytest.raises(ConfigError, match=r"'model' is 4, .* 30, .*mlp/dense1/bias with shape"):
        way.for_model(model).check(jax.eval_shape(lambda: initial(model)))


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


@pytest.mark.parametrize(
    ("axes", "sizes"),
    [
        ({}, (8, 1, 1)),
        ({"model": 2}, (4, 1, 2)),
        ({"fsdp": 8}, (1, 8, 1)),
        ({"model": 2, "fsdp": 2}, (2, 2, 2)),
        ({"fsdp": 2, "data": 4}, (4, 2, 1)),
    ],
)
def test_a_mesh_gives_data_the_devices_that_are_left(axes, sizes):
    way = parallel.create(mesh=axes)
    assert list(way.mesh.shape.items()) == list(zip(("data", "fsdp", "model"), sizes, strict=True))
    # A batch is split over data and fsdp; the devices of an axis model share their part.
    shards = sizes[0] * sizes[1]
    assert [way.round_up(size) for size in (1, shards, shards + 1)] == [shards, shards, 2 * shards]
    rows = way.place_batch({"x": np.arange(16)})["x"].addressable_shards
    assert [shard.data[0] for shard in rows] == [n // sizes[2] * 16 // shards for n in range(8)]


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
        ({"rules": [["a", ["model", "model"]]]}, "the mesh axis 'model' more than once"),
        ({"rules": [["a", [["data", "fsdp"], "data"]]]}, "the mesh axis 'data' more than once"),
        *(
            ({"rules": {"name": name, "axis": axis}}, "config.parallel.rules.axis is .*'fsdp'")
            for name in ("fsdp", "auto")
            for axis in ("model", "fsdpp", 3)
        ),
        ({"mesh": {"model": 3}}, "a mesh of 6 devices, but the run has 8"),
        ({"mesh": {"model": 16}}, "a mesh of 16 devices, but the run has 8"),
        ({"mesh": {"model": 0}}, "config.parallel.mesh.model is 0; it must be .*at least 1"),
        ({"mesh": {"modle": 2}}, "parallel.mesh: unknown key 'modle'; did you mean 'model'"),
        ({"mesh": {"fsdp": 2.0}}, "config.parallel.mesh.fsdp is 2.0; it must be an integer"),
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
        ([["bias$", [None, "model"]]], r"2 dimensions, but .*/bias has shape \(16,\)"),
        ([["^head/kernel$", [None, "data"]]], r"of head/kernel with shape \(16, 6\) into 4 parts"),
    ],
)
def test_rules_that_do_not_fit_the_state_are_named(placement, message):
    way = parallel.create(mesh={"model": 2}, rules=placement)
    variables = state(optax.sgd(0.1)).variables
    with pytest.raises(ConfigError, match=f"config.parallel.rules: .*{message}"):
        way.check(variables)


@dataclasses.dataclass(frozen=True)
class Chip:
    """What JAX reads of a TPU's chip to arrange it."""

    id: int
    process_index: int
    coords: tuple[int, ...]
    device_kind: str
    platform: str = "tpu"
    core_on_chip: int = 0


@pytest.mark.parametrize("kind", ["TPU v4", "TPU v5 lite"])
@pytest.mark.parametrize("hosts", [1, 4])
@pytest.mark.parametrize(
    "shape", [(16, 1, 1), (1, 16, 1), (1, 4, 4), (8, 1, 2), (4, 2, 2), (2, 2, 4), (4, 4, 1)]
)
def test_each_host_has_consecutive_parts_of_a_batch_of_its_own(kind, hosts, shape):
    """A slice of 4 x 4 chips, whose hosts have 2 x 2 each."""
    places = [(x, y, 0) for y in range(4) for x in range(4)]
    chips = [
        Chip(number, (x // 2 + y // 2 * 2) % hosts, (x, y, z), kind)
        for number, (x, y, z) in enumerate(places)
    ]
    found = mesh.arranged(shape, chips)
    assert found.shape == shape
    assert set(found.flat) == set(chips)
    parts = found.reshape(hosts, -1)
    assert [{chip.process_index for chip in part} for part in parts] == [{n} for n in range(hosts)]


def test_hosts_with_unequal_numbers_of_devices_are_an_error():
    chips = [Chip(n, int(n > 2), (n, 0, 0), "TPU v4") for n in range(4)]
    with pytest.raises(ConfigError, match=r"but they have 3 \(host 0\), 1 \(host 1\)"):
        mesh.arranged((4, 1, 1), chips)


def test_a_name_registered_elsewhere_is_a_rule():
    class First:
        def __call__(self, name, shape, mesh):
            return P("data")

    rules.RULES.register("first_dimension_of_a_test")(First)
    way = parallel.create(rules="first_dimension_of_a_test")
    assert way.state_sharding(jnp.zeros((8, 2))).spec == P("data")
