"""The Vision Transformer: shapes, initialisation, intermediates, options."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from model_variables import variables_of

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.nn.attention import Attention, why_not_cudnn
from vitjax.nn.drop import drop_path, dropout
from vitjax.nn.positions import sincos2d
from vitjax.training import flops

SMALL = {"width": 16, "depth": 3, "num_heads": 2, "patch_size": (8, 4), "num_classes": 5}
IMAGES = jax.random.normal(jax.random.key(7), (2, 32, 16, 3))  # a grid of 4 x 4 patches


@functools.cache
def made(**fields):
    module = models.ViT(**{**SMALL, **fields})
    return module, variables_of(module, IMAGES)


def run(module, variables, images=IMAGES, **keywords):
    return jax.jit(lambda v, x: module.apply(v, x, **keywords))(variables, images)


def intermediates(module, variables, images=IMAGES):
    _, state = run(module, variables, images, mutable=("intermediates",))
    return {k: v[0] for k, v in flatten_dict(state["intermediates"], sep="/").items()}


def test_initialisation():
    module = models.ViT(width=192, depth=1, num_heads=3, num_classes=9, registers=4)
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 96, 96, 3)))["params"]
    flat = {k: np.asarray(v) for k, v in flatten_dict(params, sep="/").items()}
    block = "encoder/block_0/"
    # Xavier: uniform within sqrt(6 / (inputs + outputs)).
    for name in ("query", "key", "value", "out"):
        kernel = flat[f"{block}attention/{name}/kernel"]
        limit = np.sqrt(6 / (192 + 192))
        assert kernel.shape == (192, 192)
        assert 0.99 * limit < np.abs(kernel).max() <= limit
        np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.02)
        assert not flat[f"{block}attention/{name}/bias"].any()
    for name in ("dense1", "dense2"):
        kernel = flat[f"{block}mlp/{name}/kernel"]
        limit = np.sqrt(6 / (192 + 768))
        assert 0.99 * limit < np.abs(kernel).max() <= limit
        np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.02)
        np.testing.assert_allclose(flat[f"{block}mlp/{name}/bias"].std(), 1e-6, rtol=0.2)
    # LeCun: variance one over the inputs.
    embedding = flat["patch_embedding/kernel"]
    assert embedding.shape == (16, 16, 3, 192)
    np.testing.assert_allclose(embedding.std(), (16 * 16 * 3) ** -0.5, rtol=0.02)
    assert not flat["patch_embedding/bias"].any()
    for name, shape in (
        ("position_embedding", (1, 6, 6, 192)),
        ("class_position_embedding", (1, 1, 192)),
        ("register_tokens", (1, 4, 192)),
    ):
        assert flat[name].shape == shape
        np.testing.assert_allclose(flat[name].std(), 0.02, rtol=0.15)
    for name in ("class_token", "head/kernel", "head/bias"):
        assert not flat[name].any(), name


def test_intermediates():
    module, variables = made(representation_size=7)
    logits = run(module, variables)
    found = intermediates(module, variables)
    blocks = {}
    for i in range(3):
        blocks |= {
            f"encoder/block_{i}/after_attention": (2, 17, 16),
            f"encoder/block_{i}/after_mlp": (2, 17, 16),
            f"encoder/block_{i}/attention/queries": (2, 17, 2, 8),
            f"encoder/block_{i}/attention/keys": (2, 17, 2, 8),
            f"encoder/block_{i}/attention/values": (2, 17, 2, 8),
            f"encoder/block_{i}/attention/map": (2, 2, 17, 17),
            f"encoder/block_{i}/mlp/hidden": (2, 17, 64),
        }
    assert {k: v.shape for k, v in found.items()} == {
        "patches": (2, 4, 4, 16),
        "tokens": (2, 17, 16),
        "encoded": (2, 17, 16),
        "pooled": (2, 16),
        "representation": (2, 7),
        "logits": (2, 5),
        **blocks,
    }
    np.testing.assert_array_equal(found["logits"], logits)
    for name, value in found.items():
        if name.endswith("map"):
            np.testing.assert_allclose(value.sum(-1), 1, rtol=1e-5)
            assert (np.asarray(value) >= 0).all()
    # The representation is what a model without a head returns.
    headless = module.clone(num_classes=None)
    np.testing.assert_array_equal(run(headless, variables), found["representation"])


def test_outputs_of_all_submodules_are_within_reach():
    module, variables = made()
    _, state = run(module, variables, capture_intermediates=True, mutable=("intermediates",))
    block = state["intermediates"]["encoder"]["block_0"]
    assert block["norm1"]["__call__"][0].shape == (2, 17, 16)
    assert block["mlp"]["dense1"]["__call__"][0].shape == (2, 17, 64)


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"pooling": "mean"}, 16),
        ({"pooling": "map"}, 16),
        ({"registers": 3}, 20),
        ({"pooling": "mean", "registers": 3}, 19),
        ({"positions": "sincos2d"}, 17),
        ({"positions": "none"}, 17),
        ({"qk_norm": True}, 17),
        ({"qkv_bias": False}, 17),
        ({"layer_scale": 0.1}, 17),
        ({"gelu": "tanh"}, 17),
        ({"norm_epsilon": 0.1}, 17),
    ],
    ids=str,
)
def test_options_change_the_output(fields, tokens):
    module, variables = made(**fields)
    found = intermediates(module, variables)
    assert found["tokens"].shape == (2, tokens, 16)
    assert found["logits"].shape == (2, 5)
    plain, plain_variables = made()
    assert np.abs(found["logits"] - run(plain, plain_variables)).max() > 1e-5
    if fields.get("pooling") == "mean":
        registers = fields.get("registers", 0)
        np.testing.assert_allclose(
            found["pooled"], found["encoded"][:, registers:].mean(1), rtol=1e-5, atol=1e-6
        )
    if fields.get("pooling") == "map":
        assert found["pool/attention/map"].shape == (2, 2, 1, 16)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_only_queries_keys_and_values_do_without_a_bias(scan_layers):
    fields = {**SMALL, "pooling": "map", "scan_layers": scan_layers}
    names = [
        set(flatten_dict(jax.eval_shape(module.init, jax.random.key(0), IMAGES)["params"], sep="/"))
        for module in (models.ViT(**fields), models.ViT(**fields, qkv_bias=False))
    ]
    blocks = ["blocks"] if scan_layers else [f"block_{i}" for i in range(3)]
    assert names[1] < names[0]
    assert names[0] - names[1] == {
        f"encoder/{block}/attention/{name}/bias"
        for block in blocks
        for name in ("query", "key", "value")
    }


def test_the_standard_deviation_of_positions():
    shape = jnp.zeros((1, 96, 96, 3))
    fields = {"width": 192, "depth": 1, "num_heads": 3, "registers": 4}
    names = ("position_embedding", "class_position_embedding")
    made = {}
    for value in (0.5, 0.0):
        module = models.ViT(**fields, position_stddev=value)
        made[value] = jax.jit(module.init)(jax.random.key(0), shape)["params"]
    for name in names:
        np.testing.assert_allclose(made[0.5][name].std(), 0.5, rtol=0.15)
        assert not made[0.0][name].any()
    rest = [{k: v for k, v in params.items() if k not in names} for params in made.values()]
    jax.tree.map(np.testing.assert_array_equal, *rest)
    # It is no fact of a trained network.
    assert models.ViT(position_stddev=0.0).effective_fields() == models.ViT().effective_fields()
    with pytest.raises(ConfigError, match=r"position_stddev.*-1"):
        models.ViT(position_stddev=-1.0)


def test_class_token_and_pooling_are_two_choices():
    module, variables = made(pooling="token_and_mean", registers=2)
    assert variables["params"]["head"]["kernel"].shape == (32, 5)
    found = intermediates(module, variables)
    encoded, pooled = found["encoded"], found["pooled"]
    np.testing.assert_array_equal(pooled[:, :16], encoded[:, 0])
    np.testing.assert_allclose(pooled[:, 16:], encoded[:, 3:].mean(1), rtol=1e-5, atol=1e-6)
    other, variables = made(pooling="mean", registers=2, class_token=True)
    found = intermediates(other, variables)
    assert found["tokens"].shape == (2, 19, 16)
    expected = found["encoded"][:, 3:].mean(1)
    np.testing.assert_allclose(found["pooled"], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match="pooling='token' reads the class token"):
        models.ViT(class_token=False)


def test_a_class_token_without_a_position():
    module, variables = made(class_position=False)
    assert "class_position_embedding" not in variables["params"]
    token = variables["params"]["class_token"]
    found = intermediates(module, variables)["tokens"]
    np.testing.assert_allclose(found[:, 0], jnp.broadcast_to(token[:, 0], (2, 16)), rtol=1e-6)


def test_normalising_what_was_pooled():
    module, variables = made(pooling="mean", fc_norm=True)
    assert "encoder_norm" not in variables["params"]
    found = intermediates(module, variables)
    np.testing.assert_array_equal(found["encoded"], found["encoder/block_2/after_mlp"])
    mean = found["encoded"].mean(1)
    centred = mean - mean.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    norm = variables["params"]["fc_norm"]
    expected = normed * norm["scale"] + norm["bias"]
    np.testing.assert_allclose(found["pooled"], expected, rtol=1e-4, atol=1e-5)


def test_without_positions_the_order_of_patches_is_lost():
    upside_down = jnp.concatenate([IMAGES[:, 16:], IMAGES[:, :16]], axis=1)
    for positions in ("none", "learned", "sincos2d"):
        module, variables = made(positions=positions)
        difference = np.abs(run(module, variables) - run(module, variables, upside_down)).max()
        assert (difference < 1e-5) == (positions == "none"), positions


def test_sincos2d_position_by_position():
    embedding = sincos2d(3, 5, 12)
    assert embedding.shape == (3, 5, 12)
    for row in range(3):
        for column in range(5):
            for i, frequency in enumerate((1.0, 1e-2, 1e-4)):
                values = embedding[row, column, i::3]
                expected = [np.sin(column * frequency), np.cos(column * frequency)]
                expected += [np.sin(row * frequency), np.cos(row * frequency)]
                np.testing.assert_allclose(values, expected, atol=1e-12)
    with pytest.raises(ConfigError, match="it is 18"):
        sincos2d(2, 2, 18)
    module, variables = made(positions="sincos2d")
    assert run(module, variables, IMAGES[:, :16]).shape == (2, 5)


def loss(params, module):
    logits, state = module.apply(
        {"params": params},
        IMAGES,
        train=True,
        rngs={"dropout": jax.random.key(3, impl="unsafe_rbg")},
        mutable=["intermediates"],
    )
    return jnp.sum(logits**2), (logits, dict(state))


@functools.cache
def gradients_and_outputs(**fields):
    everything = {"layer_scale": 0.5, "qk_norm": True, "dropout": 0.2, "drop_path": 0.3}
    module, variables = made(depth=2, **everything)
    if fields.get("scan_layers"):
        variables = models.stack_layers(variables)
    module = module.clone(**fields)
    shapes = jax.eval_shape(module.init, jax.random.key(0), IMAGES)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    return jax.jit(jax.grad(functools.partial(loss, module=module), has_aux=True))(
        variables["params"]
    )


@pytest.mark.parametrize(
    "fields",
    [{"remat": "dots"}, {"scan_layers": True}, {"scan_layers": True, "remat": "full"}],
    ids=str,
)
def test_scan_and_remat_equal_the_plain_form(fields):
    """In training, with dropout and drop path: logits, gradients and intermediates."""
    expected = gradients_and_outputs()
    gradients, (logits, state) = gradients_and_outputs(**fields)
    if fields.get("scan_layers"):
        gradients, state = models.unstack_layers(gradients), models.unstack_layers(state)
    found = gradients, (logits, state)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_each_remat_policy_computes_more_again():
    module, variables = made(depth=2)

    def products(remat):
        traced = functools.partial(loss, module=module.clone(remat=remat))
        return flops.count(jax.grad(traced, has_aux=True), variables["params"])

    none, dots, full = map(products, ("none", "dots", "full"))
    assert none < dots < full
    # A block's forward pass twice, but for the last product, whose result nothing reads.
    assert full < none * 4 / 3


def test_stacking_and_unstacking():
    _, variables = made()
    stacked = models.stack_layers(variables)
    kernel = stacked["params"]["encoder"]["blocks"]["attention"]["query"]["kernel"]
    assert kernel.shape == (3, 16, 16)
    back = models.unstack_layers(stacked)
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    with pytest.raises(ConfigError, match=r"blocks \[0, 2\] do not count"):
        models.stack_layers({"block_0": {}, "block_2": {}})
    with pytest.raises(ConfigError, match="different structure"):
        models.stack_layers({"block_0": {"a": 1}, "block_1": {"b": 1}})


def test_dtypes():
    module, variables = made(dtype="bfloat16", layer_scale=0.1, qk_norm=True)
    fresh = jax.eval_shape(module.init, jax.random.key(0), IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    found = intermediates(module, variables)
    assert found.pop("logits").dtype == jnp.float32
    assert found.pop("representation").dtype == jnp.float32
    maps = [name for name in found if name.endswith("map")]
    assert {found.pop(name).dtype for name in maps} == {jnp.dtype("float32")}
    assert {value.dtype for value in found.values()} == {jnp.dtype("bfloat16")}
    exact = run(module.clone(dtype="float32"), variables)
    np.testing.assert_allclose(run(module, variables), exact, atol=0.1)
    half = module.clone(param_dtype=jnp.bfloat16)
    fresh = jax.eval_shape(half.init, jax.random.key(0), IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("fields", [{"dropout": 0.5}, {"drop_path": 0.5}], ids=str)
def test_dropout_and_drop_path_act_in_training_alone(fields):
    module, variables = made(**fields)
    plain = run(made()[0], variables)
    np.testing.assert_array_equal(run(module, variables), plain)
    train = jax.jit(lambda key: module.apply(variables, IMAGES, train=True, rngs={"dropout": key}))
    first, again, second = (train(jax.random.key(seed, impl="unsafe_rbg")) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 1e-3
    assert np.abs(first - plain).max() > 1e-3
    np.testing.assert_array_equal(run(made()[0], variables, train=True), plain)


def test_dropout_and_drop_path_keep_the_mean():
    x = jnp.ones((400, 10, 10))
    for function in (dropout, drop_path):
        y = np.asarray(function(x, 0.25, jax.random.key(0)))
        np.testing.assert_allclose(np.unique(y), [0, 1 / 0.75], rtol=1e-6)
        np.testing.assert_allclose(y.mean(), 1, atol=0.1)
        np.testing.assert_array_equal(function(x, 0.25, None), x)
    by_example = np.asarray(drop_path(x, 0.25, jax.random.key(0))).reshape(400, -1)
    np.testing.assert_array_equal(by_example.min(1), by_example.max(1))


def test_the_drop_path_rate_grows_from_zero():
    module, variables = made(drop_path=0.9)
    other = module.clone(drop_path=0.0)
    _, state = run(
        module,
        variables,
        train=True,
        rngs={"dropout": jax.random.key(0, impl="unsafe_rbg")},
        mutable=("intermediates",),
    )
    first = state["intermediates"]["encoder"]["block_0"]["after_mlp"][0]
    expected = intermediates(other, variables)["encoder/block_0/after_mlp"]
    np.testing.assert_allclose(first, expected, rtol=1e-5, atol=1e-6)


def test_images_that_do_not_fit():
    module, variables = made()
    with pytest.raises(models.ImageError, match=r"30 x 13 pixels .* 8 x 4.*24 or 32 x 12 or 16"):
        module.apply(variables, jnp.zeros((1, 30, 13, 3)))
    with pytest.raises(models.ImageError, match=r"of 3 x 16 pixels.*: 8 x 16"):
        module.apply(variables, jnp.zeros((1, 3, 16, 3)))
    # As many patches, so that a flat embedding would fit without a word.
    with pytest.raises(models.ImageError, match=r"grid of 4 x 4 patches .* give 2 x 8"):
        module.apply(variables, jnp.zeros((1, 16, 32, 3)))


def test_fused_attention_equals_plain():
    module, variables = made()
    fused = module.clone(attention_impl="fused")
    with pytest.warns(UserWarning, match=r"falls back to XLA's: the backend is cpu"):
        logits = run(fused, variables)
    np.testing.assert_allclose(logits, run(module, variables), atol=1e-5)
    with pytest.warns(UserWarning, match="falls back"):
        found = intermediates(fused, variables)
    expected = intermediates(module, variables)
    assert found.keys() == expected.keys()
    name = "encoder/block_2/attention/map"
    np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_where_cudnn_serves(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert why_not_cudnn("bfloat16", 64) is None
    assert "float32" in why_not_cudnn("float32", 64)
    assert "88" not in (why_not_cudnn("float16", 88) or "")
    assert "136 wide" in why_not_cudnn("float16", 136)
    assert "12 wide" in why_not_cudnn("float16", 12)


def test_attention_has_second_derivatives():
    x = jax.random.normal(jax.random.key(0), (1, 3, 8))
    module = Attention(num_heads=2)
    params = jax.jit(module.init)(jax.random.key(1, impl="unsafe_rbg"), x, x)
    hessian = jax.jit(jax.hessian(lambda x: jnp.sum(module.apply(params, x, x) ** 2)))(x)
    assert np.isfinite(hessian).all()
    assert np.abs(hessian).max() > 0
