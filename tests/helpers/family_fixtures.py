"""What vitjax computes of the networks of tests/families/fixtures, and what the references do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import seeded
from flax.traverse_util import flatten_dict, unflatten_dict

from vitjax import models
from vitjax.models.convnet import ConvNet
from vitjax.weights import writing

# The leaves of a layer in PyTorch.
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def spec(path: Path) -> dict[str, Any]:
    """The model of a fixture, its fields, and how it is computed."""
    found: dict[str, Any] = json.loads(str(np.load(path)["spec"]))
    return found


def _read(stored: dict[str, np.ndarray], model: ConvNet, spec: dict[str, Any]) -> dict[str, Any]:
    """The variables of a model that a reference has under its names."""
    variables: dict[str, Any] = {}
    if spec["format"]:
        layout = writing.layout_for(model, spec["format"])
        for entry in layout.entries_at(model, None, None):
            values = entry.read(*(stored.pop(name) for name in entry.theirs))
            variables |= dict(zip(entry.ours, values, strict=True))
    else:
        images = jax.ShapeDtypeStruct(spec["images"], jnp.float32)
        shapes: Any = jax.eval_shape(model.init, jax.random.key(0), images)
        for name in flatten_dict(shapes, sep="/"):
            _, *layer, leaf = name.split("/")
            array = stored.pop(".".join([*layer, LEAVES[leaf]]))
            # PyTorch has the outputs first, and before the pixels the inputs.
            places: Any = {4: ((0, 1), (3, 2)), 3: (0, 2), 2: (0, 1)}
            variables[name] = np.moveaxis(array, *places[array.ndim]) if leaf == "kernel" else array
    assert not stored
    return variables


def computed(path: Path, dtype: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Logits and numbers of activations by name: vitjax's, and those of the reference.

    Args:
        path: of the fixture.
        dtype: of vitjax's computation; float64 needs no setting of JAX.
    """
    with np.load(path) as file:
        wanted = dict(file)
    spec = json.loads(str(wanted.pop("spec")))
    stored = seeded.weights(spec["arrays"])
    with jax.enable_x64(dtype == "float64"):
        model: Any = models.create(spec["model"], **spec["fields"], dtype=dtype, param_dtype=dtype)
        variables = _read(stored, model, spec)
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
    return {name: np.asarray(x) for name, x in found.items()}, wanted
