import inspect
import types
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.core.names import parameter_names
from vitjax.core.validation import check_value, keywords_of
from vitjax.models.protocol import Model
from vitjax.optim import arguments, optimizers
from vitjax.optim.lookup import find_optimizer, optimizer_names

PARAMS = {
    "stem": {"kernel": jnp.full((3, 4), 2.0), "bias": jnp.full((4,), 3.0)},
    "head": {"kernel": jnp.full((4, 5), -1.0), "bias": jnp.full((5,), 1.0)},
}
GRADIENTS = jax.tree.map(lambda p: 0.1 * p + 0.05, PARAMS)


def rate(step):
    return 0.1


def take(section, steps=1, gradients=GRADIENTS):
    optimizer = optimizers.create(PARAMS, rate, {"learning_rate": 0.1, **section})
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        updates, state = optimizer.update(gradients, state, params, value=1.0)
        params = optax.apply_updates(params, updates)
    return params


def close(first, second, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), first, second)


@pytest.mark.parametrize(
    "name",
    ["sgd", "adam", "adamw", "lion", "lamb", "lars", "adafactor", "rmsprop", "muon"],
)
def test_any_optax_optimizer_by_name(name):
    constructor = getattr(optax, name, None) or getattr(optax.contrib, name)
    reference = optax.with_extra_args_support(constructor(rate))
    state = reference.init(PARAMS)
    updates, _ = reference.update(GRADIENTS, state, PARAMS)
    # Without a weight_decay of ours, optax's own default counts.
    ours = take({"name": name})
    close(ours, optax.apply_updates(PARAMS, updates), rtol=1e-6)


def test_an_optimizer_s_own_arguments_reach_it():
    reference = optax.sgd(rate, momentum=0.9, nesterov=True)
    updates, _ = reference.update(GRADIENTS, reference.init(PARAMS), PARAMS)
    ours = take({"name": "sgd", "momentum": 0.9, "nesterov": True})
    close(ours, optax.apply_updates(PARAMS, updates))


def test_decay_of_sgd_is_added_to_the_gradient_as_in_pytorch():
    ours = take({"name": "sgd", "weight_decay": 0.01})
    close(
        ours,
        jax.tree.map(lambda p, g: p - 0.1 * (g + 0.01 * p), PARAMS, GRADIENTS),
        rtol=1e-6,
    )


def test_decay_of_adamw_is_decoupled_and_spares_what_a_pattern_says():
    section = {"name": "adamw", "weight_decay": 0.5}
    plain = take({"name": "adamw", "weight_decay": 0.0})
    spared = take({**section, "weight_decay_factors": [["bias$", 0.0], ["head", 0.5]]})
    close(spared["stem"]["bias"], plain["stem"]["bias"])
    close(spared["head"]["bias"], plain["head"]["bias"])
    # Decoupled: rate * decay * parameter, whatever the gradient.
    close(spared["stem"]["kernel"], plain["stem"]["kernel"] - 0.1 * 0.5 * 2.0, rtol=1e-6)
    close(spared["head"]["kernel"], plain["head"]["kernel"] + 0.1 * 0.25 * 1.0, rtol=1e-6)


def test_the_first_pattern_that_matches_counts():
    factors = [["stem/bias", 0.0], ["bias", 2.0], [".", 1.0]]
    ours = take({"name": "sgd", "learning_rate_factors": factors})
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, PARAMS, GRADIENTS)
    expected["stem"]["bias"] = PARAMS["stem"]["bias"]
    expected["head"]["bias"] = PARAMS["head"]["bias"] - 0.2 * GRADIENTS["head"]["bias"]
    close(ours, expected, rtol=1e-6)


def test_frozen_parameters_keep_their_bits_even_under_decay():
    ours = take({"name": "adamw", "weight_decay": 0.5, "freeze": ["^stem/"]}, steps=3)
    close(ours["stem"], PARAMS["stem"], rtol=0)
    assert not np.allclose(ours["head"]["kernel"], PARAMS["head"]["kernel"])


def test_one_pattern_may_stand_alone():
    close(take({"name": "sgd", "freeze": "^stem/"})["stem"], PARAMS["stem"], rtol=0)


def test_clipping_by_norm_is_over_all_that_trains():
    norm = float(optax.tree.norm(GRADIENTS))
    ours = take({"name": "sgd", "clip_norm": norm / 4})
    close(ours, jax.tree.map(lambda p, g: p - 0.1 * g / 4, PARAMS, GRADIENTS), rtol=1e-5)
    head = float(optax.tree.norm(GRADIENTS["head"]))
    ours = take({"name": "sgd", "clip_norm": head, "freeze": ["stem"]})
    close(ours["head"], take({"name": "sgd"})["head"], rtol=1e-5)


def test_clipping_by_value():
    ours = take({"name": "sgd", "clip_value": 0.01})

    def clip(p, g):
        return p - 0.1 * jnp.clip(g, -0.01, 0.01)

    close(ours, jax.tree.map(clip, PARAMS, GRADIENTS), rtol=1e-6)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "adamwx"}, "did you mean 'adamw'"),
        ({"name": "chain"}, "no optimizer 'chain'"),
        ({}, "'name' is missing"),
        ({"name": "adamw", "b3": 0.9}, "'b3'; did you mean 'b"),
        ({"name": "sgd", "momentun": 0.9}, "did you mean 'momentum'"),
        ({"name": "sgd", "learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"name": "sgd", "freeze": ["hed"]}, "'hed' matches no parameter; did you mean 'head'"),
        ({"name": "sgd", "freeze": ["."]}, "every parameter is frozen"),
        ({"name": "sgd", "freeze": ["("]}, r"optimizer.freeze: '\(' is no.* regular expression"),
        ({"name": "sgd", "weight_decay_factors": ["bias"]}, r"factors\[0\] is 'bias'; it must be"),
        ({"name": "sgd", "learning_rate": "high"}, "learning_rate is 'high'; it must be a number"),
        ({"name": "sgd", "weight_decay_factors": 5}, "factors is 5; it must be a list of"),
        ({"name": "adafactor", "weight_decay_rate": 0.1}, "is called 'weight_decay' here"),
        ({"name": "sgd", "clip_norm": 0}, "clip_norm is 0; it must be above 0"),
        ({"name": "sgd", "clip_value": True}, "clip_value is True"),
        ({"name": "sgd", "momentum": "high"}, r"'high'; it must be a number in \[-1, 1\]"),
        ({"name": "sgd", "momentum": 2}, r"optimizer\.momentum is 2; it must be in \[-1, 1\]"),
        ({"name": "sgd", "nesterov": "maybe"}, r"nesterov is 'maybe'; it must be True or False"),
        ({"name": "adamw", "b1": 2}, r"optimizer\.b1 is 2; it must be in \[0, 1\)"),
        ({"name": "adamw", "weight_decay": -0.1}, r"weight_decay is -0.1; it must be at least 0"),
        ({"name": "adamw", "mu_dtype": "float9"}, "a floating dtype: 'bfloat16', 'float16'"),
        ({"name": "adopt", "clip_value_fn": "exp"}, "clip_value_fn is 'exp'; it must be None"),
        ({"name": "lbfgs"}, "lbfgs refuses its arguments"),
    ],
)
def test_mistakes_are_named(section, message):
    with pytest.raises(ConfigError, match=message):
        optimizers.create(PARAMS, rate, {"learning_rate": 0.1, **section})


def test_names_are_paths():
    assert parameter_names(PARAMS) == [
        "head/bias",
        "head/kernel",
        "stem/bias",
        "stem/kernel",
    ]


def shapes(model):
    images = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


VIT = {"patch_size": 8, "width": 8, "depth": 3, "num_heads": 2, "mlp_width": 8, "registers": 1}


def layers(model):
    names = parameter_names(shapes(model))
    return dict(zip(names, model.layer_groups(names), strict=True))


def test_layers_of_a_vit_are_numbered_as_beit_does():
    found = layers(models.create("vit_ti16", layer_scale=0.1, **VIT))
    embeddings = {name for name, layer in found.items() if layer == 0}
    assert embeddings == {
        *("patch_embedding/kernel", "patch_embedding/bias", "position_embedding"),
        *("class_token", "class_position_embedding", "register_tokens"),
    }
    for name, layer in found.items():
        if "block_" in name:
            assert layer == 1 + int(name.split("block_")[1][0])
    behind = {name for name, layer in found.items() if layer == 4}
    assert behind == {"encoder_norm/scale", "encoder_norm/bias", "head/kernel", "head/bias"}


def test_layers_of_a_resnet_are_numbered_through_its_stages():
    found = layers(models.create("resnet20", stage_sizes=(2, 11), width=4, preactivation=True))
    assert found["stem_conv/kernel"] == 0
    assert found["stage1_block2/norm1/scale"] == 2
    assert found["stage2_block1/conv1/kernel"] == 3
    # By number, not by letter.
    assert found["stage2_block2/conv2/kernel"] == 4
    assert found["stage2_block11/conv2/kernel"] == 13
    assert found["final_norm/scale"] == found["head/bias"] == 14


def test_layer_decay_multiplies_the_rate_of_each_layer():
    model = models.create("vit_ti16", **VIT)
    params = jax.tree.map(lambda s: jnp.ones(s.shape), shapes(model))
    section = {"name": "adam", "learning_rate": 0.1, "layer_decay": 0.5}
    section["learning_rate_factors"] = [(r"^head/kernel", 10.0)]
    optimizer = optimizers.create(params, rate, section, layer_groups=model.layer_groups)
    updates, _ = optimizer.update(params, optimizer.init(params), params, value=0.0)
    plain = optax.adam(rate)
    expected, _ = plain.update(params, plain.init(params), params)
    ratios = {
        name: float((update / reference).mean())
        for name, update, reference in zip(
            parameter_names(params),
            jax.tree.leaves(updates),
            jax.tree.leaves(expected),
            strict=True,
        )
    }
    for name, layer in layers(model).items():
        factor = 10 if name == "head/kernel" else 1
        assert ratios[name] == pytest.approx(factor * 0.5 ** (4 - layer)), name


@pytest.mark.parametrize(
    ("model", "decay", "message"),
    [
        (None, 0.7, "have no order"),
        (Model(), 0.7, "the layers of a Model have no order.*learning_rate_factors works"),
        (Model(), 0.0, r"is 0.0; it must be in \(0, 1\]"),
        (Model(), "0.7", "is '0.7'"),
        (models.create("vit_ti16", scan_layers=True), 0.7, "set config.model.scan_layers = False"),
    ],
)
def test_what_has_no_layers_is_told(model, decay, message):
    params = {"encoder": {"blocks": PARAMS}}
    section = {"name": "sgd", "learning_rate": 0.1, "layer_decay": decay}
    groups = None if model is None else model.layer_groups
    with pytest.raises(ConfigError, match=f"config.optimizer.layer_decay.*{message}"):
        optimizers.create(params, rate, section, layer_groups=groups)


def test_train_only_is_the_complement_of_freeze():
    one = take({"name": "adamw", "train_only": [r"bias$", r"^head/"], "clip_norm": 0.1}, steps=2)
    other = take({"name": "adamw", "freeze": r"^stem/kernel$", "clip_norm": 0.1}, steps=2)
    close(one, other, rtol=0)
    np.testing.assert_array_equal(one["stem"]["kernel"], PARAMS["stem"]["kernel"])
    assert not np.array_equal(one["stem"]["bias"], PARAMS["stem"]["bias"])
    both = take({"name": "sgd", "train_only": r"bias$", "freeze": r"^stem/"})
    moved = [
        not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (both, PARAMS)), strict=True)
    ]
    assert moved == [True, False, False, False]
    section = {"train_only": r"bias$", "freeze": r"^stem/"}
    assert jax.tree.leaves(optimizers.trained(PARAMS, section)) == moved


def test_a_pattern_of_train_only_that_matches_nothing_is_told():
    with pytest.raises(ConfigError, match="train_only: 'biass' matches no parameter; did you mean"):
        take({"name": "sgd", "train_only": "biass"})


@pytest.mark.parametrize("name", optimizer_names())
def test_the_defaults_of_optax_are_what_its_arguments_may_be(name):
    constructor = find_optimizer(name, "name")
    hints = arguments.annotations_of(name, constructor)
    for key, parameter in keywords_of(constructor).items():
        default = parameter.default
        if key != "learning_rate" and type(default) in (bool, int, float, str, tuple):
            check_value(default, hints[key], f"{name}.{key}")


def of_functions(value):
    return inspect.isroutine(value) or (isinstance(value, tuple) and any(map(callable, value)))


@pytest.mark.parametrize("name", optimizer_names())
def test_what_optax_declares_is_accepted(name):
    constructor = find_optimizer(name, "name")
    hints = arguments.annotations_of(name, constructor)
    for key, parameter in keywords_of(constructor).items():
        default = parameter.default
        if key != "learning_rate" and default is not parameter.empty and not of_functions(default):
            check_value(default, hints[key], key)
        if types.NoneType in typing.get_args(parameter.annotation):
            check_value(None, hints[key], key)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("optimistic_adam_v2", {"alpha": -0.5, "beta": -1.0}),
        ("optimistic_gradient_descent", {"beta": -1.0}),
        ("sgd", {"momentum": 1.0, "accumulator_dtype": "f4"}),
        ("adam", {"mu_dtype": "f2"}),
        ("adafactor", {"clipping_threshold": None}),
    ],
)
def test_what_can_work_is_accepted(name, own):
    optimizers.create(PARAMS, rate, {"name": name, "learning_rate": 0.1, **own})
