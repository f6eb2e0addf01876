"""Every family of convolutional networks against its references.

scripts/parity/family.py writes what the references say: the names and shapes of all members, and
logits and activations of small networks with weights from a seed.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seeded
from families import FAMILIES, FIXTURES, MEMBERS, SMALL
from flax.traverse_util import flatten_dict, unflatten_dict

from vitjax import models, weights
from vitjax.weights import writing
from vitjax.weights.formats import files

# The leaves of a layer in PyTorch.
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def test_every_family_has_members_a_small_network_and_a_fixture():
    used = {json.loads(str(np.load(path)["spec"]))["model"] for path in FIXTURES}
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
    """The names and shapes under which a layout stores a model."""
    side = model.smallest_image
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    shapes = jax.eval_shape(model.plain().init, jax.random.key(0), image)
    variables = flatten_dict(shapes, sep="/")
    layout = writing.layout_for(model, format)
    found = {}
    for entry in layout.entries_at(model, None, None):
        written = jax.eval_shape(entry.write, *(variables.pop(name) for name in entry.ours))
        found |= {name: x.shape for name, x in zip(entry.theirs, written, strict=True)}
    assert not variables
    return found


@pytest.mark.parametrize(
    "member", [m for m in MEMBERS if m["format"]], ids=lambda m: f"{m['model']}-{m['format']}"
)
def test_files_of_every_member_are_written_and_recognised(member, tmp_path, monkeypatch):
    model = models.create(member["model"], **member["fields"])
    shapes = shapes_in_file(model, member["format"])
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


def read(stored, model, spec):
    """The variables of a model that a reference has under its names."""
    variables = {}
    if spec["format"]:
        layout = writing.layout_for(model, spec["format"])
        for entry in layout.entries_at(model, None, None):
            values = entry.read(*(stored.pop(name) for name in entry.theirs))
            variables |= dict(zip(entry.ours, values, strict=True))
    else:
        images = jax.ShapeDtypeStruct(spec["images"], jnp.float32)
        shapes = jax.eval_shape(model.init, jax.random.key(0), images)
        for name in flatten_dict(shapes, sep="/"):
            _, *layer, leaf = name.split("/")
            array = stored.pop(".".join([*layer, LEAVES[leaf]]))
            # PyTorch has the outputs first, and before the pixels the inputs.
            places = {4: ((0, 1), (3, 2)), 3: (0, 2), 2: (0, 1)}
            variables[name] = np.moveaxis(array, *places[array.ndim]) if leaf == "kernel" else array
    assert not stored
    return variables


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_logits_and_activations_are_those_of_the_reference(path, dtype):
    with np.load(path) as file:
        arrays = dict(file)
    spec = json.loads(str(arrays.pop("spec")))
    stored = seeded.weights(spec["arrays"])
    with jax.enable_x64(dtype == "float64"):
        model = models.create(spec["model"], **spec["fields"], dtype=dtype, param_dtype=dtype)
        variables = read(stored, model, spec)
        variables = jax.tree.map(lambda x: jnp.asarray(x, dtype), variables)
        train = spec["train"]
        model = model.without_regularisers() if train else model
        mutable = ["intermediates", *(["batch_stats", "auxiliary"] if train else [])]
        logits, state = jax.jit(lambda v, x: model.apply(v, x, train=train, mutable=mutable))(
            unflatten_dict(variables, sep="/"), jnp.asarray(seeded.images(spec["images"]), dtype)
        )
    found = {"outputs/logits": logits}
    found |= {f"outputs/{n}": x for n, x in state.get("auxiliary", {}).items()}
    sown = flatten_dict(jax.device_get(state["intermediates"]), sep="/")
    for name, shape in spec["shapes"].items():
        assert sown[name][0].shape == tuple(shape), name
        found[f"seen/{name}"] = sown[name][0].reshape(-1)[seeded.places(shape)]
    assert len(arrays) > 1
    for name, expected in arrays.items():
        # Relative to the largest number of an activation, which may be thousands.
        largest = max(1, np.abs(expected).max())
        tolerance = {"float64": 1e-9, "float32": 1e-4}[dtype] * largest
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=tolerance, err_msg=name)
        assert found[name].dtype == dtype
