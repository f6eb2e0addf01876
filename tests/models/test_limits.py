"""Every integer field of every model has bounds, and a model has to fit into memory."""

import collections.abc
import time
import types
import typing

import jax
import jax.numpy as jnp
import pytest
from own_models import own_models

from vitjax import models
from vitjax.core import validation
from vitjax.core.errors import ConfigError
from vitjax.models import counting, limits
from vitjax.models.limits import Limit

FAMILIES = sorted({type(models.create(name)) for name in own_models()}, key=lambda c: c.__name__)
IMAGES = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)


def unbounded(hint, constraints=()):
    """The places within ``hint`` where an integer or a list has no largest size."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        base, *own = arguments
        return unbounded(base, own)
    limited = any(isinstance(each, Limit) for each in constraints)
    if hint is int:
        return [] if limited else [hint]
    if origin in (typing.Union, types.UnionType, tuple):
        return [found for each in arguments for found in unbounded(each)]
    if origin is collections.abc.Sequence:
        return [*([] if limited else [hint]), *unbounded(arguments[0])]
    return []


def test_an_integer_without_a_limit_would_be_found():
    assert unbounded(int) == unbounded(validation.PositiveInt) == [int]
    assert unbounded(int | None) == [int]
    assert len(unbounded(collections.abc.Sequence[validation.PositiveInt])) == 2
    assert unbounded(limits.StageSizes | None) == []


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_integer_field_has_a_largest_value(family):
    hints = validation._hints(family)
    assert {name: found for name in family.field_names() if (found := unbounded(hints[name]))} == {}


def bounded_fields():
    """Each field of each family that is an integer or a list of integers."""
    for family in FAMILIES:
        for name in family.field_names():
            if "Limit(" in str(validation._hints(family)[name]):
                yield family, name


# Of each family, a name of the registry.
NAMES = {type(models.create(name)): name for name in own_models()}


@pytest.mark.parametrize(
    ("family", "field"), list(bounded_fields()), ids=lambda each: getattr(each, "__name__", each)
)
@pytest.mark.parametrize("value", [-2, 10**12])
def test_absurd_sizes_are_refused_and_the_message_says_how_to_allow_them(family, field, value):
    was = getattr(models.create(NAMES[family]), field)
    listed = isinstance(was, tuple) or "Sequence" in str(validation._hints(family)[field])
    with pytest.raises(ConfigError) as caught:
        models.create(NAMES[family], where="config.model", **{field: [value] if listed else value})
    message = str(caught.value)
    assert message.startswith(f"config.model.{field}{'[0]' if listed else ''} is {value}; it must")
    if value > 0:
        assert "VITJAX_MODEL_LIMITS=off in the environment removes this limit" in message


@pytest.mark.parametrize(
    ("name", "field", "number"),
    [("resnet18", "stage_sizes", 13), ("mlp_sinusoid", "hidden", 1_001), ("unet", "widths", 13)],
)
def test_lists_have_a_largest_length(name, field, number):
    with pytest.raises(ConfigError, match=rf"{field} is .* must be a list of at most [\d,]+ items"):
        models.create(name, **{field: [1] * number})


def test_limits_can_be_removed(monkeypatch):
    monkeypatch.setenv("VITJAX_MODEL_LIMITS", "off")
    assert models.create("vit_ti16", depth=10**6).depth == 10**6
    assert len(models.create("mlp_sinusoid", hidden=[1] * 2_000).hidden) == 2_000
    with pytest.raises(ConfigError, match="at least 1"):
        models.create("vit_ti16", depth=-1)
    counting.check_memory(counting.Size(1, 10**20, 10**20), "config.model")


VIT = {"width": 16, "num_heads": 2, "patch_size": 16}
DEEP = {
    "ViT": ("vit_ti16", {**VIT, "depth": 9, "layer_scale": 0.1, "registers": 3}),
    "scanned ViT": ("vit_ti16", {**VIT, "depth": 7, "scan_layers": True, "dtype": "bfloat16"}),
    "ResNet": ("resnet18", {"stage_sizes": (6, 1, 5, 7), "width": 8}),
    "bottlenecks": ("resnet50", {"stage_sizes": (2, 8), "width": 32, "norm": "group"}),
    "U-Net": ("unet_resnet18", {"stage_sizes": (1, 2, 6, 5), "width": 8}),
    "U-Net on a ViT": ("unet_encoder", {"encoder": {"name": "vit_ti16", **VIT, "depth": 7}}),
}


@pytest.mark.parametrize("kind", DEEP)
def test_a_deep_model_is_counted_from_shallow_ones(kind, monkeypatch):
    monkeypatch.setattr(counting, "_MOST_TRACED", 5)
    name, fields = DEEP[kind]
    model = models.create(name, **fields)
    assert counting.is_deep(model)
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    counted = counting.size_of(model, IMAGES)
    leaves = jax.tree.leaves(model.unstack(variables))
    assert counted.arrays == len(leaves)
    assert counted.numbers == sum(leaf.size for leaf in leaves)
    assert counted.bytes == sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def test_a_model_that_fits_into_no_memory_is_refused_soon():
    fields = {"depth": 10_000, "width": 100_000, "num_heads": 1_000}  # each within its limit
    started = time.process_time()
    with pytest.raises(ConfigError) as caught:
        models.count_parameters("vit_ti16", **fields)
    assert time.process_time() - started < 3
    # 12 width^2 for each block, and less than a thousandth besides.
    assert "this model of 1,200,0" in str(caught.value)
    assert "in all; make it smaller (VITJAX_MODEL_LIMITS=off" in str(caught.value)
