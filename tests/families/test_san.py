"""What no fixture shows of SAN: its initialisation, its sizes and the authors' call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from vitjax import models, weights
from vitjax.analysis import summary
from vitjax.core.errors import ConfigError
from vitjax.nn.inputs import ImageError
from vitjax.weights import WeightsError, writing
from vitjax.weights.layouts.target import Written

FIELDS = {"stage_sizes": (1, 1), "kernel_sizes": (3, 5), "widths": (64, 128), "num_classes": 5}


@pytest.mark.parametrize("kind", ["pairwise", "patchwise"])
def test_layers_are_initialised_as_in_pytorch(kind):
    fields = {"stage_sizes": (1,), "kernel_sizes": (3,), "widths": (64,)}
    model = models.create(f"san10_{kind}", **fields, num_classes=50)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    found = flatten_dict(jax.device_get(variables["params"]), sep="/")
    layers = [name.removesuffix("/kernel") for name in found if name.endswith("kernel")]
    biased = {name for name in layers if f"{name}/bias" in found}
    inside = {"query", "key", "value", "conv2"} | ({"position"} if kind == "pairwise" else set())
    assert {name.rpartition("/")[2] for name in biased} == inside | {"conv", "head"}
    for name in layers:
        kernel = found[f"{name}/kernel"]
        limit = kernel.shape[-2] ** -0.5
        assert np.abs(kernel).max() <= limit
        if kernel.size > 100:
            np.testing.assert_allclose(kernel.std(), limit / 3**0.5, rtol=0.2)
        if name in biased:
            bias = found[f"{name}/bias"]
            assert 0 < np.abs(bias).max() <= limit
            assert len(bias) < 32 or np.abs(bias).max() > 0.8 * limit


def test_a_map_is_larger_than_half_of_its_footprint():
    assert models.create("san10_pairwise").smallest_image == 128  # 4 pixels for a footprint of 7
    model = models.create("san10_patchwise", **FIELDS)
    assert model.smallest_image == 12
    jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 12, 12, 3)))
    with pytest.raises(ImageError, match="at least 12 x 12"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 12, 11, 3)))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("kernel_sizes", (3, 4), "kernel_sizes has 4: it must be odd"),
        ("widths", (64, 72), "widths has 72: it must be a multiple of 32"),
        ("widths", (64,), "has 1 values; it must have one for each of the 2 stages"),
        ("kernel_sizes", (3, 5, 7), "has 3 values; it must have one for each of the 2 stages"),
        ("kernel_sizes", (1, 3), r"kernel_sizes\[0\] is 1; it must be at least 3"),
    ],
)
def test_fields_that_cannot_be_used(field, value, words):
    with pytest.raises(ConfigError, match=words):
        models.create("san10_pairwise", **{**FIELDS, field: value})


@pytest.mark.parametrize("kind", ["pairwise", "patchwise"])
def test_the_authors_call_is_written(kind):
    model, layers = models.create(f"san15_{kind}"), [3, 2, 3, 5, 2]
    target = writing.layout_for(model, "san").target
    sizes = f"layers={layers}, kernels=[3, 7, 7, 7, 7]"
    number = {"pairwise": 0, "patchwise": 1}[kind]
    call = target(model, Written(224, 224, 3, {})).expression
    assert call == f"san(num_classes=1000, sa_type={number}, {sizes})"
    with pytest.raises(WeightsError, match="only images of 3 channels, not of 4"):
        target(model, Written(224, 224, 4, {}))


def test_footprints_are_compared_with_those_of_a_file(tmp_path):
    """No shape shows those of pairwise attention; the note beside the arrays has them as a list."""
    model = models.create("san10_pairwise", **FIELDS)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    path = weights.save(variables, model, tmp_path / "own", input_shape=(16, 16, 3), say=str)
    for sizes, differ in (((3, 5), False), ((3, 3), True)):
        said = []
        weights.fit(weights.open_weights(path), model.clone(kernel_sizes=sizes), say=said.append)
        assert any("has kernel_sizes=(3, 5), the model (3, 3)" in each for each in said) == differ
        assert differ or not said


def test_the_layer_of_positions_is_not_one_of_training_only():
    layers = summary.summarise(models.create("san10_pairwise", **FIELDS), (16, 16, 3)).layers
    shapes = {layer.name: layer.shape for layer in layers}
    assert shapes["stage1_block1/attention/position"] == (8, 8, 2)
    assert all(shapes.values())
