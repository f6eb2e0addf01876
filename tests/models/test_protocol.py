"""Every registered model keeps the protocol: facts, head, layers, feature maps, execution."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import SMALL
from flax import linen as nn
from flax.traverse_util import flatten_dict
from model_variables import variables_of
from own_models import own_models

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.models.convnet import ConvNet
from vitjax.models.protocol import Model

# One small variant per family, whose outputs are compared, and the shape of its inputs.
VIT = {"width": 16, "depth": 2, "num_heads": 2, "patch_size": 4}
RESNET = {"stage_sizes": (1, 1), "width": 4, "stem": "cifar"}
FAMILIES = {
    "vit_ti16": (VIT, (8, 8, 3)),
    "resnet18": (RESNET, (8, 8, 3)),
    "resnet12": ({"widths": (3, 4)}, (8, 8, 3)),
    "conv4": ({"filters": 4, "depth": 2}, (8, 8, 3)),
    "mlp_omniglot": ({"hidden": (6, 5), "num_classes": 3}, (4, 4, 1)),
    "unet": ({"filters": 2, "depth": 1}, (8, 8, 1)),
    "unet_plus_plus": ({"filters": 2, "depth": 2}, (8, 8, 3)),
    "unet_resnet18": ({**RESNET, "decoder_widths": (4,)}, (8, 8, 3)),
    "unet_encoder": ({"encoder": {"name": "vit_ti16", **VIT}}, (8, 8, 3)),
    **SMALL,
}
# Pixels of a side of a map that a network without padding may lose.
LOST = 6
# Every execution field with a value that is not the plain one.
EXECUTION = {
    "attention_impl": "fused",
    "conv_impl": "matmul",
    "remat": "full",
    "scan_layers": True,
}


@functools.cache
def shallow(name):
    """A model of the registry with few and narrow blocks, and the shape of its inputs.

    Names that differ in size alone give the same model, which is traced once.
    """
    model, shape = models.create(name), models.input_shape(name)
    for small, (fields, small_shape) in SMALL.items():
        if type(models.create(small)) is type(model):
            return models.create(name, **fields), small_shape
    if isinstance(model, models.ViT):
        return model.clone(depth=4, width=32, num_heads=2, mlp_width=None), (224, 224, 3)
    if isinstance(model, models.ResNet | models.UNetResNet):
        model = model.clone(stage_sizes=(1,) * len(model.stage_sizes), width=32)
        return model.replaced(stem_width=32), shape
    return model, shape


@functools.cache
def shapes(model, shape):
    """The shapes of the parameters of ``model`` by name."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return {n: leaf.shape for n, leaf in flatten_dict(variables["params"], sep="/").items()}


def entries(names):
    return {name.partition("/")[0] for name in names}


def test_the_families_here_are_all_of_the_registry():
    covered = {type(models.create(name, **fields)) for name, (fields, _) in FAMILIES.items()}
    assert covered == {type(models.create(name)) for name in own_models()}


@pytest.mark.parametrize("name", own_models())
def test_facts(name):
    facts = models.facts(name)
    assert re.search("arXiv:|doi:", facts["paper"])
    assert str(facts["year"]) in facts["paper"]
    shape = models.input_shape(name)
    assert len(shape) in models.create(name).input_ranks
    assert len(shape) == 1 or shape[:2] == (facts["image_size"],) * 2
    for values in (facts["mean"], facts["std"]):
        assert len(values) in (1, shape[-1])
    assert min(facts["std"]) > 0
    assert facts["interpolation"] in ("bilinear", "bicubic")


@pytest.mark.parametrize("name", own_models())
def test_head_is_found_replaced_and_removed(name):
    model, shape = shallow(name)
    own = shapes(model, shape)
    head = {n for n in own if re.search(model.head_pattern, n)}
    # The output codes of lenet5_paper are fixed.
    assert bool(head) != (name == "lenet5_paper")
    assert entries(head) == set(model.split_head(dict.fromkeys(entries(own)))[0])
    assert all(model.head_of(n) == n.partition("/")[0] for n in head)
    assert all(own[n][-1] == model.num_classes for n in head)
    other = shapes(model.with_head(7), shape)
    assert other.keys() == own.keys()
    assert {n for n in own if other[n] != own[n]} == head
    assert all(other[n][-1] == 7 for n in head)
    rest, body = shapes(model.headless(), shape), own.keys() - head
    # A head of training alone has no layers in a model without a head.
    assert all(model.hidden_in_head(n) for n in body - rest.keys())
    assert rest == {n: own[n] for n in body & rest.keys()}


@pytest.mark.parametrize("name", own_models())
def test_parameters_that_the_family_names_are_there(name):
    model, shape = shallow(name)
    own = shapes(model, shape)
    for kernel in model.image_kernels:
        assert own[kernel][2] == shape[-1]
    assert model.patch_kernel is None or model.patch_kernel in model.image_kernels
    if model.position_embedding is not None:
        assert own[model.position_embedding][1:3] == model.patch_grid(shape)
    for pattern in model.low_rank_kernels:
        assert any(re.search(pattern, each) for each in own)
    fields = set(model.field_names())
    assert fields.issuperset(model.shapeless_fields)
    assert not set(model.described_fields()).intersection(
        ["dtype", "axis_name", *model.execution_fields, *model.regularising_fields]
    )
    if model.backbone is not None:
        entry, part = model.backbone
        inner = {n.removeprefix(f"{entry}/") for n in own if n.startswith(f"{entry}/")}
        assert inner == set(shapes(part, shape))


@functools.cache
def first_uses(model, shape):
    """The number of the equation that first reads each parameter, in evaluation."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    traced = jax.make_jaxpr(model.apply)(variables, images).jaxpr
    used = {}
    for number, equation in enumerate(traced.eqns):
        for variable in equation.invars:
            used.setdefault(id(variable), number)
    names = flatten_dict(jax.tree.map(lambda _: 0, variables), sep="/")
    tree = jax.tree.unflatten(
        jax.tree.structure(variables),
        [used.get(id(v), -1) for v in traced.invars[: len(names)]],
    )
    return flatten_dict(tree["params"], sep="/")


@pytest.mark.parametrize("name", own_models())
def test_layer_groups_cover_every_parameter_in_depth_order(name):
    model, shape = shallow(name)
    uses = first_uses(model, shape)
    # The heads of training alone.
    assert all(model.head_of(n) for n, use in uses.items() if use == -1)
    uses = {n: use for n, use in uses.items() if use != -1}
    groups = model.layer_groups(list(uses))
    assert len(groups) == len(uses)
    last = max(groups)
    assert set(groups) == set(range(last + 1))
    # The prototypes of hmax are side by side.
    assert last >= 2 or name.startswith(("unet", "hmax"))
    # A layer begins to be computed after the one before it has begun.
    begins = [
        min(use for use, group in zip(uses.values(), groups, strict=True) if group == number)
        for number in range(last + 1)
    ]
    assert begins == sorted(set(begins))
    for each, group in zip(uses, groups, strict=True):
        assert group == last or model.head_of(each) is None
    # An objective may keep the model's parameters under an entry of its own.
    assert model.layer_groups([f"model/{each}" for each in uses]) == groups


def test_stacked_blocks_have_no_layer_groups():
    model = models.create("vit_ti16", **VIT, scan_layers=True)
    with pytest.raises(ConfigError, match="scan_layers"):
        model.layer_groups(list(shapes(model, (8, 8, 3))))


@functools.cache
def map_shapes(model, shape):
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    features = functools.partial(model.init_with_output, method="features")
    maps, _ = jax.eval_shape(features, jax.random.key(0), images)
    return {name: x.shape for name, x in maps.items()}


@pytest.mark.parametrize("name", own_models())
def test_feature_maps_have_the_stated_strides_and_channels(name):
    model, shape = shallow(name)
    info = model.feature_info()
    if not info:
        assert isinstance(model, models.MLP) or name.startswith("unet")
        with pytest.raises(ConfigError, match="no feature maps"):
            model.features(None)
        return
    strides = [each.stride for each in info]
    assert strides == sorted(strides)
    assert len({each.name for each in info}) == len(info)
    least = model.smallest_image if isinstance(model, ConvNet) else 1
    times = max(2, -(-least // strides[-1]))
    rows, columns = times * strides[-1], (times + 1) * strides[-1]
    found = map_shapes(model, (rows, columns, shape[-1]))
    expected = {n: (1, rows // stride, columns // stride, c) for n, stride, c in info}
    if model.aligned_features:
        assert found == expected
    else:
        for n, size in expected.items():
            assert found[n][3] == size[3]
            # Layers without padding lose some pixels.
            assert all(abs(a - b) <= LOST for a, b in zip(found[n][1:3], size[1:3], strict=True))


@functools.cache
def small(name):
    """A model of a family, its variables and a batch of inputs."""
    fields, shape = FAMILIES[name]
    model = models.create(name, **fields)
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(2, *shape)), jnp.float32)
    return model, variables_of(model, inputs), inputs


@functools.cache
def computed(name):
    """What a family's plain model computes, in one compiled form: outputs, maps, what its head
    reads and, of one with time steps, the logits over time."""
    model, variables, inputs = small(name)

    def compute(variables, inputs):
        plain = model.plain()
        found = {"outputs": plain.apply(variables, inputs)}
        if model.feature_info():
            found["maps"] = plain.apply(variables, inputs, method="features")
        if reads_the_last_map(model):
            found["read"] = pooling_patches(plain).headless().apply(variables, inputs)
        if model.time_steps:
            found["over_time"] = plain.apply(variables, inputs, method="logits_over_time")
        return found

    return jax.device_get(jax.jit(compute)(variables, inputs))


def reads_the_last_map(model):
    own_head = isinstance(model, ConvNet) and type(model).classify is not ConvNet.classify
    return bool(model.feature_info()) and not own_head


def pooling_patches(model):
    """A ViT's class token is pooled, which no map holds."""
    vit = isinstance(model, models.ViT)
    return model.clone(pooling="mean", class_token=True) if vit else model


@pytest.mark.parametrize(
    "name",
    # Of those of SMALL the next test says how they are computed.
    [pytest.param(n, marks=[pytest.mark.slow] if n in SMALL else []) for n in FAMILIES],
)
@pytest.mark.filterwarnings("ignore:fused attention falls back")
def test_execution_fields_change_no_output(name):
    model, variables, inputs = small(name)
    other = model.replaced(**EXECUTION)
    found = jax.jit(other.apply)(other.stack(variables), inputs)
    np.testing.assert_allclose(found, computed(name)["outputs"], rtol=1e-4, atol=1e-5)
    restored = other.unstack(other.stack(variables))
    jax.tree.map(np.testing.assert_array_equal, restored, variables)
    jax.eval_shape(model.over_axis("devices").apply, variables, inputs)


@pytest.mark.parametrize("name", SMALL)
def test_convolutions_are_products_of_matrices_if_so_asked(name):
    """It is the only execution field of these; tests/nn has the values of both ways."""
    model, variables, inputs = small(name)
    assert set(EXECUTION) & set(model.field_names()) == {"conv_impl"}

    def convolutions(conv_impl):
        apply = model.replaced(conv_impl=conv_impl).apply
        return str(jax.make_jaxpr(apply)(variables, inputs)).count("conv_general_dilated")

    # The head of two networks is a convolution.
    assert convolutions("matmul") <= 1 < convolutions("lax")


@pytest.mark.parametrize("name", FAMILIES)
def test_execution_fields_are_known_to_the_model(name):
    model, _, _ = small(name)
    other = model.replaced(**EXECUTION)
    assert set(EXECUTION) == set(Model.execution_fields)
    assert (other == model) == (name == "mlp_omniglot")
    assert other.plain().unscanned() == model.plain().unscanned()
    assert model.for_inner_loops().for_inner_loops() == model.for_inner_loops()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_feature_map_is_what_the_head_reads(name):
    model, _, _ = small(name)
    if not reads_the_last_map(model):
        return
    found = computed(name)
    last = found["maps"][model.feature_info()[-1].name]
    pooling = pooling_patches(model).pooling if "pooling" in model.field_names() else ""
    pooled = last.reshape(len(last), -1) if "flatten" in pooling else last.mean((1, 2))
    np.testing.assert_allclose(found["read"], pooled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_time_step_gives_the_logits(name):
    model, _, inputs = small(name)
    if not model.time_steps:
        with pytest.raises(ConfigError, match="has no time steps"):
            model.logits_over_time(inputs)
        return
    logits, over_time = (computed(name)[key] for key in ("outputs", "over_time"))
    assert over_time.shape == (model.time_steps, *logits.shape)
    np.testing.assert_allclose(over_time[-1], logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_regularisers_can_be_turned_off(name):
    model, _, _ = small(name)
    regularised = model.replaced(**dict.fromkeys(Model.regularising_fields, 0.25))
    assert regularised.without_regularisers() == model.without_regularisers()
    has_some = set(Model.regularising_fields) & set(model.field_names())
    assert (regularised != model) == (bool(has_some) or name == "unet_encoder")


class Tiny(Model):
    """A model that declares nothing."""

    num_classes: int | None = 3

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(4, name="hidden")(x)
        return nn.Dense(self.num_classes, name="head")(x) if self.num_classes else x


class Headless(Model):
    """A model that has no head, and says so."""

    head_name = None

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(4, name="head")(x)


def test_a_small_model_needs_nothing():
    model = Tiny()
    assert set(shapes(model, (5,))) == {
        f"{n}/{k}" for n in ("hidden", "head") for k in ("kernel", "bias")
    }
    assert shapes(model.with_head(9), (5,))["head/kernel"] == (4, 9)
    assert entries(shapes(model.headless(), (5,))) == {"hidden"}
    for same in (model.plain(), model.for_inner_loops(), model.over_axis("i"), model.unscanned()):
        assert same == model
    assert model.without_regularisers() == model
    assert (model.margin, model.valid_size(5), model.prefix_tokens) == (0, 5, 0)
    assert model.backbone is None
    assert not model.scanned
    with pytest.raises(ConfigError, match="declares no layer_key"):
        model.layer_groups(["head/kernel"])


@pytest.mark.parametrize("model", [Tiny(), models.create("conv4", filters=4, depth=1)])
def test_the_head_alone_continues_the_headless_model(model):
    inputs = jnp.ones((2, 5) if isinstance(model, Tiny) else (2, 8, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    head, rest = model.split_head(variables["params"])
    features = model.headless().apply({**variables, "params": rest}, inputs)
    outputs = model.only_head(head).apply({"params": head}, features)
    np.testing.assert_array_equal(outputs, model.apply(variables, inputs))
    wider = model.only_head(head).with_head(9)
    assert wider.init(jax.random.key(0), features)["params"]["head"]["kernel"].shape[-1] == 9


def test_a_head_of_convolutions_is_not_one_dense_layer():
    with pytest.raises(
        ConfigError, match="Tiny is not one dense layer: it has the parameters head"
    ):
        Tiny().only_head({"head": {"kernel": jnp.ones((1, 1, 4, 2))}})
    with pytest.raises(ConfigError, match="parameters none"):
        Tiny().only_head({})


def test_a_model_without_a_head():
    model = Headless()
    assert model.split_head({"head": 1}) == ({}, {"head": 1})
    assert re.search(model.head_pattern, "head/kernel") is None
    assert model.head_of("head/kernel") is None
    with pytest.raises(ConfigError, match="Headless has no field 'num_classes'"):
        model.headless()


@pytest.mark.usefixtures("forgotten_after_the_test")
def test_facts_of_a_name_are_checked():
    models.MODELS.register("other", papr="none")(Tiny)
    with pytest.raises(ConfigError, match=r"facts of model 'other'.*'papr'; did you mean 'paper'"):
        models.facts("other")
    models.MODELS.register("other", interpolation="cubic")(Tiny)
    with pytest.raises(ConfigError, match="did you mean 'bicubic'"):
        models.facts("other")
    models.MODELS.register("other")(Tiny)
    with pytest.raises(ConfigError, match="without image_size"):
        models.input_shape("other")


@pytest.mark.usefixtures("forgotten_after_the_test")
def test_a_registered_module_must_be_a_model():
    class Other(nn.Module):
        pass

    models.MODELS.register("other")(Other)
    with pytest.raises(ConfigError, match=r"should derive from vitjax\.models\.Model"):
        models.create("other")
