"""U-Net++ and U-Net on residual networks: counts, pruning, supervision, transfer, any size."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from model_variables import variables_of

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.nn.unet import center_crop

NESTED = {"filters": 2, "depth": 3, "num_classes": 3}
RESIDUAL = {
    "stage_sizes": (1, 1),
    "width": 4,
    "decoder_widths": (4, 3, 2),
    "num_classes": 3,
    "norm_groups": 1,
}
IMAGES = jax.random.normal(jax.random.key(7), (2, 16, 8, 2))


def run(module, variables, images=IMAGES, **keywords):
    return jax.jit(lambda v, x: module.apply(v, x, **keywords))(variables, images)


def shapes(module, *shape):
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    return {k: v.shape for k, v in flatten_dict(variables, sep="/").items()}


def operations(module, variables, **keywords):
    """How many convolutions a forward pass has."""
    jaxpr = jax.make_jaxpr(lambda v: module.apply(v, IMAGES, **keywords))(variables)
    return str(jaxpr).count("conv_general_dilated[")


# ----------------------------------------------------------------------------------------- U-Net++


def test_count_of_the_papers_nested_network():
    # Table 3: 9.04 million with deep supervision and without, for one class.
    for supervised in (True, False):
        module = models.create(
            "unet_plus_plus", norm="none", num_classes=1, deep_supervision=supervised
        )
        found = shapes(module, 1, 32, 32, 3).values()
        assert round(sum(np.prod(shape, dtype=int) for shape in found), -4) == 9_040_000


def test_nodes_see_those_before_them_and_the_one_below():
    found = shapes(models.UNetPlusPlus(**NESTED), 1, 8, 8, 1)
    nodes = {k.split("/")[1] for k in found if "/node" in k}
    assert nodes == {f"node{i}_{j}" for i in range(4) for j in range(4 - i)}
    for i in range(4):
        for j in range(1, 4 - i):
            width = 2 * 2**i
            kernel = found[f"params/node{i}_{j}/conv1/kernel"]
            assert kernel == (3, 3, (j + 1) * width, width)
            assert found[f"params/up{i}_{j}/kernel"] == (2, 2, 2 * width, width)


def test_deep_supervision_and_the_accurate_mode():
    module = models.UNetPlusPlus(**NESTED)
    variables = variables_of(module, IMAGES)
    heads = run(module, variables, train=True)
    assert isinstance(heads, tuple)
    assert [head.shape for head in heads] == [(2, 16, 8, 3)] * 3
    assert min(np.abs(a - b).max() for a, b in itertools.pairwise(heads)) > 1e-2
    mean = run(module, variables)
    np.testing.assert_allclose(mean, sum(heads) / 3, rtol=1e-5, atol=1e-6)
    # Without it, one array from the last head, in training too.
    plain = module.clone(deep_supervision=False)
    assert {k.split("/")[1] for k in shapes(plain, 1, 8, 8, 2) if "head" in k} == {"head3"}
    last = run(plain, variables, train=True)
    np.testing.assert_allclose(last, heads[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("column", [1, 2, 3])
def test_pruned_is_the_smaller_network(column):
    module = models.UNetPlusPlus(**NESTED, norm="batch")
    variables = variables_of(module, IMAGES)
    pruned = module.clone(prune=column)
    # All parameters are made, and all heads are there in training.
    assert shapes(pruned, 1, 8, 8, 2) == shapes(module, 1, 8, 8, 2)
    smaller = module.clone(depth=column, deep_supervision=False)
    wanted = shapes(smaller, 1, 8, 8, 2)
    flat = flatten_dict(variables, sep="/")
    assert {k: flat[k].shape for k in wanted} == wanted
    found = run(pruned, variables)
    np.testing.assert_allclose(found, run(smaller, variables), rtol=1e-5, atol=1e-6)
    if column < 3:
        assert np.abs(found - run(module, variables)).max() > 1e-2
    # And no more is computed: two convolutions a node, and a head.
    assert operations(pruned, variables) == (column + 1) * (column + 2) + 1
    keywords = {"train": True, "mutable": ["batch_stats"]}
    assert operations(pruned, variables, **keywords) == 4 * 5 + 3


def test_nested_network_takes_any_size():
    module = models.UNetPlusPlus(**NESTED)
    images = IMAGES[:1, :13, :5]
    variables = variables_of(module, images)
    by_hand = np.pad(images, [(0, 0), (1, 2), (1, 2), (0, 0)], mode="reflect")
    for train in (False, True):
        found = run(module, variables, images, train=train)
        expected = run(module, variables, by_hand, train=train)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b[:, 1:14, 1:6], atol=1e-6)
    assert (module.margin, module.valid_size(13)) == (0, 13)


# -------------------------------------------------------------------------------- residual networks


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_encoder_has_the_classifiers_names_and_shapes(depth):
    found = shapes(models.create(f"unet_resnet{depth}"), 1, 64, 64, 3)
    encoder = {k.replace("/encoder", ""): v for k, v in found.items() if "/encoder/" in k}
    classifier = shapes(models.create(f"resnet{depth}", num_classes=None), 1, 64, 64, 3)
    assert encoder == classifier


def test_weights_of_a_classifier_give_its_maps():
    module = models.UNetResNet(**RESIDUAL)
    variables = variables_of(module, IMAGES)
    classifier = models.ResNet((1, 1), block="basic", width=4, num_classes=None)
    weights = {k: v["encoder"] for k, v in variables.items()}
    seen = [
        run(net, given, mutable=["intermediates"])[1]["intermediates"]
        for net, given in ((module, variables), (classifier, weights))
    ]
    for name in ("stem", "stage1", "stage2"):
        np.testing.assert_allclose(seen[0]["encoder"][name][0], seen[1][name][0], atol=1e-6)


@pytest.mark.parametrize("train", [False, True])
def test_skips_are_the_encoders_maps(train):
    module = models.UNetResNet(**RESIDUAL)
    variables = variables_of(module, IMAGES)
    _, state = run(
        module,
        variables,
        train=train,
        mutable=["intermediates", "batch_stats"],
        capture_intermediates=True,
    )
    seen, params = state["intermediates"], variables["params"]
    stem = jax.nn.relu(seen["encoder"]["stem_norm"]["__call__"][0])
    assert stem.shape == (2, 8, 4, 4)
    for step, skip in ((1, seen["encoder"]["stage1"][0]), (2, stem)):
        up = seen[f"up{step}"]["__call__"][0]
        joined = jnp.concatenate([skip, up], axis=-1)
        expected = jax.lax.conv_general_dilated(
            joined,
            params[f"merge{step}"]["conv1"]["kernel"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        found = seen[f"merge{step}"]["conv1"]["__call__"][0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # At the image's own size the encoder has no map.
    assert params["merge3"]["conv1"]["kernel"].shape == (3, 3, 2, 2)


@pytest.mark.parametrize(
    "fields",
    [{"norm": "group", "up": "resize"}, {"stem": "cifar", "decoder_widths": [5]}],
    ids=["group", "cifar"],
)
def test_residual_network_takes_any_size(fields):
    module = models.UNetResNet(**{**RESIDUAL, **fields})
    assert hash(module) == hash(module.clone())
    multiple = 2 ** len(module.decoder_widths)
    images = IMAGES[:1, :13, :5]
    variables = variables_of(module, images)
    pads = [(-side % multiple // 2, -side % multiple - -side % multiple // 2) for side in (13, 5)]
    by_hand = np.pad(images, [(0, 0), *pads, (0, 0)], mode="reflect")
    (top, _), (left, _) = pads
    found = run(module, variables, images)
    expected = run(module, variables, by_hand)[:, top : top + 13, left : left + 5]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (module.margin, module.valid_size(13)) == (0, 13)
    features = run(module.clone(num_classes=None), variables, images)
    assert features.shape == (1, 13, 5, module.decoder_widths[-1])


# -------------------------------------------------------------------------------------------- both


@pytest.mark.parametrize(
    "module", [models.UNetPlusPlus(**NESTED, norm="batch"), models.UNetResNet(**RESIDUAL)]
)
def test_gradients_are_finite_and_reach_every_parameter(module):
    variables = variables_of(module, IMAGES)

    def loss(params):
        logits, state = module.apply(
            {**variables, "params": params}, IMAGES, train=True, mutable=["batch_stats"]
        )
        total = sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(logits))
        return total, (logits, state["batch_stats"])

    gradient, (logits, stats) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    for name, leaf in flatten_dict(gradient, sep="/").items():
        assert np.isfinite(leaf).all(), name
        assert np.abs(leaf).max() > 0, name
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])
    assert {x.dtype for x in jax.tree.leaves(logits)} == {jnp.dtype("float32")}
    assert center_crop(jax.tree.leaves(logits)[0], 16, 8).shape == (2, 16, 8, 3)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("unet_plus_plus", {"prune": 5}, r"prune=5: the columns are 1 to 4 \(depth\)"),
        ("unet_plus_plus", {"prune": 0}, "prune is 0; it must be at least 1"),
        ("unet_plus_plus", {"prune": 2, "deep_supervision": False}, "only the last column"),
        ("unet_plus_plus", {"widths": [1, 2]}, "depth=4 has 5 levels"),
        ("unet_plus_plus", {"norm": "group", "norm_groups": 3}, "32 channels do not split"),
        ("unet_plus_plus", {"deep_supervison": True}, "did you mean 'deep_supervision'"),
        (
            "unet_resnet18",
            {"decoder_widths": [8, 8]},
            "the image 5 times, and these are 2 steps",
        ),
        ("unet_resnet18", {"stem": "cifar"}, "halves the image 3 times, and these are 5"),
        ("unet_resnet18", {"stem": "cifr"}, "did you mean 'cifar'"),
        ("unet_resnet18", {"norm": "none"}, "it must be 'batch' or 'group'"),
        ("unet_resnet18", {"norm": "group", "norm_groups": 32}, "16 channels do not split"),
        ("unet_resnet18", {"width": 0}, "width is 0; it must be at least 1"),
        ("unet_resnet18", {"head_kernel": 2}, "head_kernel=2: it must be odd"),
        ("unet_resnet_18", {}, "did you mean 'unet_resnet18'"),
    ],
)
def test_values_that_cannot_be(name, fields, words):
    with pytest.raises(ConfigError, match=words):
        models.create(name, **fields)
