import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vitjax.registry import ConfigError
from vitjax.training import optimizers

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
        ({"name": "sgd", "freeze": ["("]}, "is no list of regular expressions"),
        ({"name": "sgd", "weight_decay_factors": ["bias"]}, "is no list of"),
        ({"name": "sgd", "learning_rate": "high"}, "should be a number"),
        ({"name": "sgd", "weight_decay_factors": 5}, "is no list of"),
        ({"name": "adafactor", "weight_decay_rate": 0.1}, "here it is called 'weight_decay'"),
        ({"name": "sgd", "clip_norm": 0}, "clip_norm is 0; it should be a number above 0"),
        ({"name": "sgd", "clip_value": True}, "clip_value is True"),
        ({"name": "sgd", "momentum": "high"}, "sgd refuses its arguments"),
    ],
)
def test_mistakes_are_named(section, message):
    with pytest.raises(ConfigError, match=message):
        optimizers.create(PARAMS, rate, {"learning_rate": 0.1, **section})


def test_names_are_paths():
    assert optimizers.parameter_names(PARAMS) == [
        "head/bias",
        "head/kernel",
        "stem/bias",
        "stem/kernel",
    ]
