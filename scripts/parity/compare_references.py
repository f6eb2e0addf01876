"""Load what `references` wrote into vitjax's models, and compare what they compute.

    python -m scripts.parity.compare_references /tmp/references/*.npz

A line of a Markdown table for each: the model, the reference, the number of activations and the
largest absolute value among them, and the largest absolute difference in float32 and in float64.
Files of other projects are read by `vitjax.weights.load`, which has to find out by itself whose
they are; those with vitjax's own names in PyTorch's forms by the layout here.
"""

import functools
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from vitjax import models, weights
from vitjax.models.protocol import Model
from vitjax.weights.formats import files
from vitjax.weights.layouts import residual
from vitjax.weights.layouts.layout import (
    Arrays,
    Description,
    Entry,
    Layout,
    batch_norm,
    convolution,
    dense,
    norm,
    within,
)
from vitjax.weights.layouts.resnet import TORCHVISION


def named_alike(module: Model, shapes: dict[str, Any]) -> list[Entry]:
    """The entries of a PyTorch module that has our names; an encoder has torchvision's."""
    found: list[Entry] = []
    for layer in sorted({name.partition("/")[2].rpartition("/")[0] for name in shapes}):
        theirs = layer.replace("/", ".")
        leaves = {name for name in shapes if name.partition("/")[2].rpartition("/")[0] == layer}
        kernel = shapes.get(f"params/{layer}/kernel")
        if layer.startswith("encoder/"):
            continue
        if kernel is None:
            found += (batch_norm if f"batch_stats/{layer}/mean" in leaves else norm)(layer, theirs)
            continue
        bias = f"params/{layer}/bias" in leaves
        entries = (dense if len(kernel.shape) == 2 else convolution)(layer, theirs, bias=bias)
        if layer.startswith("up") and "/" not in layer:
            # A transposed convolution's kernel has its inputs first.
            turn = lambda x: (x.transpose(2, 3, 0, 1),)  # noqa: E731
            entries[0] = Entry(entries[0].ours, entries[0].theirs, turn, turn)
        found += entries
    if isinstance(module, models.UNetResNet):
        part, encoder = module.backbone
        inner = [e for e in residual.entries(TORCHVISION, encoder) if not e.optional]
        found += within(inner, part, "encoder.")
    return found


def variables(path: Path, spec: dict[str, Any], module: Model, shape: Any) -> Any:
    """The variables of ``module`` with a reference's weights."""
    file = path.parent / spec["weights"]
    if spec["format"] != "vitjax":
        opened = weights.open_weights(file, grid=spec["grid"])
        assert opened.format == spec["format"], (opened.format, spec["format"])
        return weights.load(file, module, image_size=shape[1:3], grid=spec["grid"])
    expected: Any = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape))
    entries = named_alike(module, flatten_dict(expected, sep="/"))
    layout = Layout(
        name="vitjax's own, in PyTorch",
        modules=(type(module),),
        source="scripts/parity",
        required=(".*",),
        describe=lambda arrays, known: Description(type(module), {}, shape[1:]),
        entries=lambda module, arrays: entries,
        ignored=(".*num_batches_tracked",),
    )
    arrays: Arrays = files.read(file)
    description = Description(type(module), {}, shape[1:])
    opened = weights.Weights(str(file), arrays, layout, description)
    return weights.fill(opened, module, expected, lambda names: {})


def main() -> None:
    print("| Model | Reference | Activations | Largest | float32 | float64 |")
    print("|---|---|---:|---:|---:|---:|")
    for path in map(Path, sys.argv[1:]):
        with np.load(path) as file:
            arrays = dict(file)
        spec = json.loads(str(arrays["spec"]))
        expected = {k.removeprefix("seen/"): v for k, v in arrays.items() if k[:5] == "seen/"}
        differences = []
        for dtype in ("float32", "float64"):
            with jax.enable_x64(dtype == "float64"):
                fields = {**spec["fields"], "dtype": dtype, "param_dtype": dtype}
                name = spec["model"]
                known = name if name in models.names() else None
                if spec["inferred"]:
                    file = path.parent / spec["weights"]
                    opened = weights.open_weights(file, grid=spec["grid"])
                    module = weights.module_of(opened, known, **fields)
                elif known:
                    module = models.create(name, **fields)
                else:
                    module = getattr(models, name)(**fields)
                images = jnp.asarray(arrays["images"], dtype)
                loaded = variables(path, spec, module, images.shape)
                mutable = ["intermediates", "batch_stats"]
                apply = functools.partial(module.apply, train=spec["train"], mutable=mutable)
                _, state = jax.jit(apply)(loaded, images)
                found = flatten_dict(jax.device_get(state["intermediates"]), sep="/")
            # What a network without a head answers with.
            found.setdefault("logits", found.get("representation"))
            pairs = [(found[k][0], v) for k, v in expected.items()]
            differences.append(max(np.abs(a[: len(b)] - b).max() for a, b in pairs))
        largest = max(np.abs(value).max() for value in expected.values())
        shown = name + "".join(f", {k}={v}" for k, v in spec["fields"].items() if v is not None)
        print(
            f"| `{shown}` | {spec['reference']} | {len(expected)} | {largest:.3g} |"
            f" {differences[0]:.1g} | {differences[1]:.1g} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
