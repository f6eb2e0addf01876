"""Every family of convolutional networks against its references.

scripts/parity/family.py writes what the references say: the names and shapes of all members, and
logits and activations of small networks with weights from a seed.
"""

import json
import math

import family_fixtures
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seeded
from families import FAMILIES, FIXTURES, MEMBERS, SMALL

from vitjax import models, weights
from vitjax.models.convnet import variable_shapes
from vitjax.weights import writing
from vitjax.weights.formats import files


def test_every_family_has_members_a_small_network_and_a_fixture():
    used = {json.loads(str(np.load(path)["spec"]))["model"] for path in FIXTURES}
    assert {path.stem for path in FIXTURES} >= ROUNDED
    for family in FAMILIES.values():
        assert family["members"]
        assert family["small"]
        # Networks without a format have no code to compare with but that of their own test.
        formats = any(member["format"] for member in family["members"])
        assert used.intersection(m["model"] for m in family["members"]) or not formats


@pytest.mark.parametrize("name", ["pyramidnet110_a48", "densenet_bc_100_12"])
def test_networks_for_cifar_read_smaller_images(name):
    model = models.create(name, stage_sizes=(1, 1, 1))
    for side in (28, 4):  # of MNIST, and the smallest
        images = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
        outputs, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
        assert outputs.shape == (1, 10)
    with pytest.raises(models.ImageError, match="needs at least 4 x 4"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4, 3, 3)))


def shapes_in_file(model, format):
    """The names and shapes under which a layout stores a model, and its number of parameters."""
    variables = dict(variable_shapes(model))
    parameters = sum(
        math.prod(shape) for name, shape in variables.items() if name.startswith("params/")
    )
    layout = writing.layout_for(model, format)
    found = {}
    for entry in layout.entries_at(model, None, None):
        ours = (np.broadcast_to(np.float32(0), variables.pop(name)) for name in entry.ours)
        written = entry.write(*ours)
        found |= {name: x.shape for name, x in zip(entry.theirs, written, strict=True)}
    assert not variables
    return found, parameters


@pytest.mark.parametrize(
    "member", [m for m in MEMBERS if m["format"]], ids=lambda m: f"{m['model']}-{m['format']}"
)
def test_files_of_every_member_are_written_and_recognised(member, tmp_path, monkeypatch):
    model = models.create(member["model"], **member["fields"])
    shapes, parameters = shapes_in_file(model, member["format"])
    assert parameters == member["parameters"]
    assert len(shapes) == member["arrays"]
    assert seeded.digest(shapes) == member["digest"]
    arrays = {n: np.broadcast_to(np.float32(0), shape) for n, shape in shapes.items()}
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"")
    monkeypatch.setattr(files, "read", lambda *_, **__: arrays)
    monkeypatch.setattr(files, "metadata", lambda path: {})
    opened = weights.open_weights(path, format=member["format"], say=lambda words: None)
    found = opened.description.model(**opened.description.fields)
    assert found.effective_fields() == model.effective_fields()


@pytest.mark.parametrize("name", SMALL)
def test_a_training_step_has_gradients(name):
    """Traced alone: every operation has a derivative, and every statistic is updated.

    Images have odd sides, of which branches with a stride could give maps that differ in size.
    """
    fields, (*_, channels) = SMALL[name]
    model = models.create(name, **fields)
    shape = (model.smallest_image + 6, model.smallest_image + 19, channels)
    # Some heads of training need images of the paper's size.
    shape = models.input_shape(name) if model.auxiliary_logits else shape
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    params, others = variables["params"], {k: v for k, v in variables.items() if k != "params"}

    def loss(params, others, images):
        outputs, new = model.apply(
            {"params": params, **others},
            images,
            train=True,
            rngs={"dropout": jax.random.key(1)},
            mutable=[*others, "auxiliary", "intermediates"],
            capture_intermediates=True,  # some layers have the names of maps
        )
        return jnp.sum(outputs), new

    gradients, new = jax.eval_shape(jax.grad(loss, has_aux=True), params, others, images)
    assert jax.tree.map(lambda x: x.shape, gradients) == jax.tree.map(lambda x: x.shape, params)
    assert set(new.get("auxiliary", {})) == set(model.auxiliary_logits)
    assert new.keys() - {"auxiliary", "intermediates"} == others.keys()


# Sums of squares, distances, softmaxes, attention and variances of batches, which may lose digits,
# in float32 as well. float64 shows the others, up to XLA's own rounding.
ROUNDED = {"alexnet", "lenet5_paper", "resnest", "skresnet", "san_patchwise", "googlenet_train"}
CASES = [(path, "float64") for path in FIXTURES]
CASES += [(path, "float32") for path in FIXTURES if path.stem in ROUNDED]


@pytest.mark.parametrize(("path", "dtype"), CASES, ids=lambda x: getattr(x, "stem", x))
def test_logits_and_activations_are_those_of_the_reference(path, dtype):
    found, wanted = family_fixtures.computed(path, dtype)
    assert len(wanted) > 1
    for name, expected in wanted.items():
        # Relative to the largest number of an activation, which may be thousands.
        largest = max(1, np.abs(expected).max())
        tolerance = {"float64": 1e-9, "float32": 1e-4}[dtype] * largest
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=tolerance, err_msg=name)
        assert found[name].dtype == dtype
