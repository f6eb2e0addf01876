"""The networks of other projects in fixtures/, as scripts/parity/references.py wrote them."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from vitjax import models, weights
from vitjax.weights import notes, writing
from vitjax.weights.formats import files

FIXTURES = Path(__file__).resolve().parents[1] / "weights" / "fixtures"


@dataclasses.dataclass
class Reference:
    """A network of another project.

    Attributes:
        file: of its weights.
        spec: what it is here.
        images: of any.
        seen: activations and logits by path, from float64; all but the logits of one image.
    """

    file: Path
    spec: dict[str, Any]
    images: np.ndarray
    seen: dict[str, np.ndarray]

    def module(self, **fields: Any) -> nn.Module:
        """The module that the spec tells, whatever the file does."""
        return getattr(models, self.spec["model"])(**{**self.spec["fields"], **fields})


def read(name: str) -> Reference:
    """The fixture of this name."""
    with np.load(FIXTURES / f"{name}.npz") as file:
        arrays = dict(file)
    spec = json.loads(str(arrays["spec"]))
    seen = {k.removeprefix("seen/"): v for k, v in arrays.items() if k.startswith("seen/")}
    return Reference(FIXTURES / spec["weights"], spec, arrays["images"], seen)


def written(
    variables: Any, module: models.Model, path: Path, format: str, shape: Any = None
) -> Path:
    """The file of a network in a format, also of sizes that the project's own code cannot make."""
    layout = writing.layout_for(module, format)
    ours = {k: np.asarray(x) for k, x in flatten_dict(module.unstack(variables), sep="/").items()}
    path = path if path.suffix else path.with_suffix(layout.suffix)
    metadata = {notes.KEY: notes.text(module, shape)}
    files.write(path, writing.renamed(ours, module, layout, shape), metadata=metadata)
    return path


def check_inference(name: str, **untold: Any) -> None:
    """What a file tells is what the network is, but for the fields ``untold``."""
    reference = read(name)
    opened = weights.open_weights(reference.file)
    assert opened.format == reference.spec["format"]
    found = weights.module_of(opened, say=lambda words: None, **untold)
    expected = reference.module()
    if isinstance(expected, models.ResNet) and expected.stem_width == expected.width:
        expected = expected.clone(stem_width=None)
    assert found == expected
    assert opened.description.input_shape[-1] == reference.images.shape[-1]


def check_activations(name: str) -> None:
    """The network computes, with the weights of its file, what the reference does."""
    reference = read(name)
    assert "logits" in reference.seen
    assert len(reference.seen) > 3
    size, train = reference.images.shape[1:3], reference.spec["train"]
    for dtype, tolerance in (("float32", 1e-4), ("float64", 1e-9)):
        with jax.enable_x64(dtype == "float64"):
            module = reference.module(dtype=dtype, param_dtype=dtype)
            variables = weights.load(reference.file, module, image_size=size)
            mutable = ["intermediates", "batch_stats"]
            apply = partial(module.apply, train=train, mutable=mutable)
            logits, state = jax.jit(apply)(variables, jnp.asarray(reference.images, dtype))
        found = flatten_dict(jax.device_get(state["intermediates"]), sep="/")
        for path, value in reference.seen.items():
            np.testing.assert_allclose(
                found[path][0][: len(value)], value, rtol=0, atol=tolerance, err_msg=path
            )
        assert logits.dtype == dtype


def check_round_trip(name: str, folder: Path, lost: str = "num_batches_tracked") -> None:
    """Written and read again, the file has the same arrays, but for those with ``lost`` names."""
    reference = read(name)
    module = reference.module()
    shape = reference.images.shape[1:]
    variables = weights.load(reference.file, module, image_size=shape[:2])
    path = written(variables, module, folder / "again", reference.spec["format"])
    before, after = (files.read(file) for file in (reference.file, path))
    before = {name: array for name, array in before.items() if lost not in name}
    assert set(after) == set(before)
    for key, array in before.items():
        np.testing.assert_array_equal(after[key], array, err_msg=key)
    again = weights.load(path, module, image_size=shape[:2])
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    # What is written says of itself what its shapes do not.
    assert weights.module_of(weights.open_weights(path)) == module


def random_variables(module: nn.Module, shape: tuple[int, ...]) -> dict[str, Any]:
    """Variables of the shapes that ``module.init`` gives, all of them random."""
    shapes: Any = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes)
