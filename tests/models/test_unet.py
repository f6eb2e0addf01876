"""U-Net: the paper's numbers, sizes, borders, initialisation, options and values that cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from model_variables import variables_of

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.nn.unet import center_crop, double, reflect_to_multiple

SMALL = {"filters": 2, "depth": 2, "num_classes": 3}
VALID = {**SMALL, "padding": "valid"}
# All ways in which a level can lose pixels of its border.
UPS = ("transpose", "nearest", "resize")
WAYS = [{"up": up, "attention": gates} for up in UPS for gates in (False, True)]


def made(shape=(2, 16, 12, 2), **fields):
    module = models.UNet(**{**SMALL, **fields})
    images = jax.random.normal(jax.random.key(7), shape)
    return module, variables_of(module, images), images


def run(module, variables, images, **keywords):
    return jax.jit(lambda v, x: module.apply(v, x, **keywords))(variables, images)


def shape_of(module, *shape):
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(module.init_with_output, jax.random.key(0), images)[0].shape


def count(module, *shape):
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), images)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


# --------------------------------------------------------------------------------------- the paper


def test_the_papers_network():
    assert models.count_parameters("unet_valid", num_classes=1) == 31_030_593
    assert models.count_parameters("unet_valid") == 31_030_658
    module = models.create("unet_valid")
    assert shape_of(module, 1, 572, 572, 1) == (1, 388, 388, 2)
    assert module.margin == 184
    assert module.valid_size(572) == 572
    # 32 bottom pixels before its convolutions and 28 behind them (Fig. 1).
    images = jax.ShapeDtypeStruct((1, 572, 572, 1), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    _, state = jax.eval_shape(
        lambda v, x: module.apply(v, x, mutable=["intermediates"]), variables, images
    )
    found = {k: v["output"][0].shape for k, v in state["intermediates"].items() if k != "logits"}
    assert found == {
        "down1": (1, 568, 568, 64),
        "down2": (1, 280, 280, 128),
        "down3": (1, 136, 136, 256),
        "down4": (1, 64, 64, 512),
        "bottom": (1, 28, 28, 1024),
        "merge4": (1, 52, 52, 512),
        "merge3": (1, 100, 100, 256),
        "merge2": (1, 196, 196, 128),
        "merge1": (1, 388, 388, 64),
    }


def test_counts_of_other_networks():
    # Its widely used padded form for images of three channels, convolutions without biases before
    # batch normalisation; and the comparison of arXiv:1807.10165, Table 3: 7.76 million.
    assert count(models.create("unet"), 1, 32, 32, 3) == 31_037_698
    assert round(count(models.UNet(filters=32, num_classes=1), 1, 32, 32, 1), -4) == 7_760_000
    # Both paddings have the same parameters.
    assert models.count_parameters("unet", norm="none") == 31_030_658


def test_initialisation():
    module = models.UNet(filters=24, depth=2, attention=True)
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 16))
    key = jax.random.key(0, impl="unsafe_rbg")
    logits, variables = jax.jit(module.init_with_output)(key, images)
    # So that activations neither die nor grow, which is what it is for.
    assert 0.3 < float(logits.std()) < 5
    for name, value in flatten_dict(variables["params"], sep="/").items():
        if name.endswith("bias"):
            assert not value.any()
            continue
        inputs = value.shape[2] if name.startswith("up") else np.prod(value.shape[:3])
        value = np.asarray(value)
        assert abs(value.mean()) < 5 * (2 / inputs / value.size) ** 0.5
        if value.size > 1000:
            np.testing.assert_allclose(value.std(), np.sqrt(2 / inputs), rtol=0.06, err_msg=name)
            # Normal, not cut off at two deviations.
            assert np.abs(value).max() > 2.5 * np.sqrt(2 / inputs)


# ------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_valid_sizes_are_those_that_the_network_takes(depth, way):
    module = models.UNet(filters=1, depth=depth, padding="valid", num_classes=1, **way)

    def output(side):
        """What is left of a side, step by step; None where something does not go on."""
        for _ in range(depth):
            side -= 4
            if side < 2 or side % 2:
                return None
            side //= 2
        side -= 4
        for level in range(depth, 0, -1):
            gated = way["attention"] and level > 1
            if side < 1:
                return None
            side = 2 * side - (4 if way["up"] == "resize" else 2 if gated else 0) - 4
        return side if side > 0 else None

    sizes = [side for side in range(1, 200) if output(side)]
    assert sizes[0] == module.valid_size(1)
    for side in range(1, sizes[-1]):
        assert module.valid_size(side) == next(s for s in sizes if s >= side)
    assert {side - output(side) for side in sizes} == {module.margin}
    # And the network itself, at the sizes around the smallest ones.
    other = sizes[2]
    for side in range(sizes[0] - 5, sizes[1] + 2):
        if side in sizes:
            expected = (1, output(side), output(other), 1)
            assert shape_of(module, 1, side, other, 1) == expected
        else:
            with pytest.raises(models.ImageError, match=f"nearest to {side}: "):
                shape_of(module, 1, side, other, 1)


def test_a_wrong_size_is_told_the_nearest_valid_ones():
    module = models.create("unet_valid")
    with pytest.raises(
        models.ImageError,
        match=r"570 x 572 pixels \(height x width\).*188 pixels or a multiple of 16 more;"
        r" nearest to 570: 556 and 572 \(padding='same'",
    ):
        shape_of(module, 1, 570, 572, 1)
    with pytest.raises(models.ImageError, match="nearest to 100: 188 "):
        shape_of(module, 1, 572, 100, 1)


@pytest.mark.parametrize("way", [WAYS[0], WAYS[-1]], ids=str)
def test_a_crop_of_the_image_gives_a_crop_of_the_logits(way):
    module = models.UNet(**VALID, **way)
    side = module.valid_size(module.margin + 20)
    images = jax.random.normal(jax.random.key(3), (1, side + 8, side + 12, 1))
    variables = variables_of(module, images)
    whole = run(module, variables, images)
    part = run(module, variables, images[:, 8:, 4 : 4 + side])
    assert part.shape == (1, side - module.margin, side - module.margin, 3)
    columns = slice(4, 4 + part.shape[2])
    np.testing.assert_allclose(whole[:, 8:, columns], part, rtol=0, atol=1e-5)
    # Half a margin on each side is what the logits see beyond themselves.
    assert np.ptp(part) > 0.1


@pytest.mark.parametrize("way", [{}, {"up": "resize", "attention": True}], ids=str)
def test_both_paddings_agree_where_no_border_is_seen(way):
    valid = models.UNet(**VALID, **way)
    side = valid.margin + 8
    images = jax.random.normal(jax.random.key(3), (1, side, side, 1))
    variables = variables_of(valid, images)
    assert valid.valid_size(side) == side
    logits = run(valid, variables, images)
    # With two pixels more on each side, of any value, the windows of pooling are the same ones.
    around = np.random.default_rng(0).normal(size=(1, side + 4, side + 4, 1)).astype(np.float32)
    around[:, 2:-2, 2:-2] = images
    same = run(valid.clone(padding="same"), variables, around)
    assert same.shape == (1, side + 4, side + 4, 3)
    np.testing.assert_allclose(center_crop(same, 8, 8), logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sides", [(16, 12), (13, 10), (3, 17), (2, 1)])
def test_padded_form_is_reflection_and_cropping(sides):
    module, variables, images = made((1, *sides, 2), attention=True)
    pads = [(0, 0), *((-s % 4 // 2, -s % 4 - -s % 4 // 2) for s in sides), (0, 0)]
    by_hand = np.pad(images, pads, mode="reflect")
    assert all(side % 4 == 0 for side in by_hand.shape[1:3])
    top, left = pads[1][0], pads[2][0]
    expected = run(module, variables, by_hand)[:, top : top + sides[0], left : left + sides[1]]
    found = run(module, variables, images)
    assert found.shape == (1, *sides, 3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert module.margin == 0
    assert module.valid_size(sides[0]) == sides[0]


@pytest.mark.parametrize("side", [1, 2, 5, 31, 32])
def test_reflection_of_images_smaller_than_what_is_added(side):
    images = np.arange(side * 3.0).reshape(1, side, 3, 1)
    found = reflect_to_multiple(jnp.asarray(images), 32)
    total = -side % 32
    pads = [(0, 0), (total // 2, total - total // 2), (14, 15), (0, 0)]
    np.testing.assert_array_equal(found, np.pad(images, pads, mode="reflect"))
    np.testing.assert_array_equal(center_crop(found, side, 3), images)


def test_images_without_pixels():
    with pytest.raises(models.ImageError, match="0 x 8 pixels"):
        shape_of(models.UNet(**SMALL), 1, 0, 8, 1)


def test_doubling_keeps_what_is_linear():
    x = jnp.arange(5.0)[:, None] * 3 + jnp.arange(4.0) * 2
    fine = (jnp.arange(10) - 0.5)[:, None] * 1.5 + (jnp.arange(8) - 0.5) * 1
    inner = double(x[None, :, :, None], valid=True)[0, :, :, 0]
    np.testing.assert_allclose(inner, fine[1:-1, 1:-1], rtol=1e-6)
    whole = double(x[None, :, :, None])
    expected = jax.image.resize(x[None, :, :, None], (1, 10, 8, 1), "bilinear")
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-6)


# ----------------------------------------------------------------------------------------- options


def test_gates_scale_the_skips():
    module, variables, images = made(attention=True, depth=3, shape=(1, 16, 16, 1))
    assert {k for k in variables["params"] if k.startswith("gate")} == {"gate2", "gate3"}
    _, state = run(module, variables, images, mutable=["intermediates"])
    gate = variables["params"]["gate3"]
    seen = state["intermediates"]
    skip, coarse = seen["down3"]["output"][0][0], seen["bottom"]["output"][0][0]
    # arXiv:1804.03999, Eq. 1 and 2, pixel by pixel on the coarse map's grid.
    blocks = skip.reshape(2, 2, 2, 2, 8).transpose(0, 2, 1, 3, 4)
    both = np.einsum("hwklc,klci->hwi", blocks, gate["skip_conv"]["kernel"])
    both += coarse @ gate["gate_conv"]["kernel"][0, 0] + gate["gate_conv"]["bias"]
    scores = np.maximum(both, 0) @ gate["map_conv"]["kernel"][0, 0] + gate["map_conv"]["bias"]
    expected = double(jnp.asarray(1 / (1 + np.exp(-scores)))[None])
    np.testing.assert_allclose(seen["gate3"]["map"][0], expected, rtol=1e-5)
    assert both.shape == (2, 2, 4)


def test_gates_open_and_shut():
    module, variables, images = made(attention=True)
    plain = module.clone(attention=False)
    params = variables["params"]

    def logits(bias):
        zero = {**params["gate2"]["map_conv"], "bias": jnp.full((1,), bias)}
        gate = {**params["gate2"], "map_conv": jax.tree.map(jnp.asarray, zero)}
        return run(module, {"params": {**params, "gate2": gate}}, images)

    np.testing.assert_allclose(logits(60.0), run(plain, {"params": params}, images), atol=1e-5)
    kernel = params["merge2"]["conv1"]["kernel"].at[:, :, :4].set(0)
    merge = {**params["merge2"], "conv1": {**params["merge2"]["conv1"], "kernel": kernel}}
    without = run(plain, {"params": {**params, "merge2": merge}}, images)
    np.testing.assert_allclose(logits(-60.0), without, atol=1e-5)
    assert np.abs(logits(0.0) - without).max() > 1e-3


def test_forms_of_convolution_agree():
    fields = {"norm": "batch", "padding": "valid", "attention": True, "up": "resize"}
    module, variables, images = made((2, 24, 28, 2), depth=1, filters=8, **fields)
    keywords = {"train": True, "mutable": ["batch_stats"]}
    expected, _ = run(module, variables, images, **keywords)
    found, _ = run(module.clone(conv_impl="matmul"), variables, images, **keywords)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["group", "layer", "none"])
def test_normalisations_that_know_no_batch(norm):
    module, variables, images = made(norm=norm, norm_groups=2)
    assert set(variables) == {"params"}
    block = variables["params"]["down2"]
    assert ("norm1" in block) == (norm != "none") == ("bias" not in block["conv1"])
    logits = run(module, variables, images)
    np.testing.assert_array_equal(logits, run(module, variables, images, train=True))
    np.testing.assert_allclose(run(module, variables, images[:1]), logits[:1], atol=1e-5)


def test_group_normalisation_is_that_of_its_formula():
    module, variables, images = made(norm="group", norm_groups=2, widths=[4, 4, 4])
    _, state = run(module, variables, images, mutable=["intermediates"], capture_intermediates=True)
    seen = state["intermediates"]["down1"]
    x = np.asarray(seen["conv1"]["__call__"][0])
    groups = x.reshape(2, -1, 2, 2)
    mean, var = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
    normal = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
    norm = variables["params"]["down1"]["norm1"]
    np.testing.assert_allclose(
        seen["norm1"]["__call__"][0], normal * norm["scale"] + norm["bias"], atol=1e-5
    )


def test_batch_statistics_over_a_mapped_axis():
    module, variables, images = made((4, 8, 8, 1), norm="batch")
    assert set(variables) == {"params", "batch_stats"}
    keywords = {"train": True, "mutable": ["batch_stats"]}
    logits, state = run(module, variables, images, **keywords)
    split, states = jax.jit(
        jax.vmap(
            lambda x: module.clone(axis_name="parts").apply(variables, x, **keywords),
            axis_name="parts",
        )
    )(images.reshape(2, 2, 8, 8, 1))
    np.testing.assert_allclose(split.reshape(logits.shape), logits, rtol=1e-3, atol=1e-4)
    for found, expected in zip(jax.tree.leaves(states), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-5)
    assert np.abs(run(module, variables, images) - logits).max() > 1e-2


def test_dropout_is_at_the_bottom_and_in_training_alone():
    module, variables, images = made(dropout=0.5, filters=8)
    calm = run(module.clone(dropout=0.0), variables, images)
    np.testing.assert_array_equal(run(module, variables, images), calm)
    logits, state = run(
        module,
        variables,
        images,
        train=True,
        mutable=["intermediates"],
        rngs={"dropout": jax.random.key(0)},
    )
    _, quiet = run(module, variables, images, mutable=["intermediates"])
    for name in ("down1", "down2", "bottom"):
        found, expected = (s["intermediates"][name]["output"][0] for s in (state, quiet))
        np.testing.assert_array_equal(found, expected)
    assert np.abs(logits - calm).max() > 1e-2


def test_dtypes():
    module, variables, images = made(dtype="bfloat16", attention=True, up="resize")
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits, state = run(module, variables, images, mutable=["intermediates"])
    assert logits.dtype == jnp.float32
    assert state["intermediates"]["merge1"]["output"][0].dtype == jnp.bfloat16
    exact = run(module.clone(dtype="float32"), variables, images)
    np.testing.assert_allclose(logits, exact, rtol=0.1, atol=0.1)


def test_without_a_head_the_features():
    module, variables, images = made((1, 7, 9, 2))
    _, state = run(module, variables, images, mutable=["intermediates"])
    features = run(module.clone(num_classes=None), variables, images)
    assert features.shape == (1, 7, 9, 2)
    expected = center_crop(state["intermediates"]["merge1"]["output"][0], 7, 9)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fields", [{}, {"up": "resize", "attention": True}], ids=str)
def test_gradient_by_finite_differences(fields):
    with jax.enable_x64(True):
        module = models.UNet(**SMALL, norm="batch", **fields, dtype="float64")
        module = module.clone(param_dtype="float64")
        images = jax.random.normal(jax.random.key(7), (2, 7, 9, 2), jnp.float64)
        variables = variables_of(module, images)

        def loss(params):
            logits, _ = module.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            assert logits.dtype == jnp.float64
            return jnp.sum(jnp.sin(logits))

        params = variables["params"]
        direction = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size)).reshape(x.shape), params)
        step = 1e-7
        ends = [jax.tree.map(lambda p, d, s=s: p + s * d, params, direction) for s in (step, -step)]
        value = jax.jit(loss)
        gradient = jax.jit(jax.grad(loss))(params)
        numeric = (value(ends[0]) - value(ends[1])) / (2 * step)
        exact = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))
        np.testing.assert_allclose(numeric, exact, rtol=1e-5)
        # Every parameter has a part in it.
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


def test_explicit_widths():
    module = models.create("unet", widths=[3, 5, 4], depth=2, norm="none")
    assert hash(module) == hash(module.clone())
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 2)))["params"]
    assert shapes["bottom"]["conv1"]["kernel"].shape == (3, 3, 5, 4)
    assert shapes["up2"]["kernel"].shape == (2, 2, 4, 5)
    assert shapes["merge1"]["conv1"]["kernel"].shape == (3, 3, 6, 3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"padding": "vaild"}, "did you mean 'valid'"),
        ({"up": "resise"}, "did you mean 'resize'"),
        ({"norm": "batc"}, "did you mean 'batch'"),
        ({"norm": "group", "norm_groups": 5}, "64 channels do not split into norm_groups=5"),
        ({"depth": 0}, "depth is 0; it must be at least 1"),
        ({"filters": 0}, "filters is 0"),
        ({"widths": [4, 8]}, r"widths=\[4, 8\]: depth=4 has 5 levels.*these are 2"),
        ({"widths": [4, 8, 0, 1, 1]}, r"widths\[2\] is 0; it must be at least 1"),
        ({"dropout": 1.0}, r"dropout is 1.0; it must be in \[0, 1\)"),
        ({"conv_impl": "matmull"}, "did you mean 'matmul'"),
        ({"dtype": "float23"}, "did you mean 'float32'"),
        ({"atention": True}, "did you mean 'attention'"),
    ],
)
def test_values_that_cannot_be(fields, words):
    with pytest.raises(ConfigError, match=words):
        models.create("unet", **fields)
