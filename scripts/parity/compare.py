"""Compare vitjax's models with what `make_few_shot_fixtures` and `make_unet_fixture` wrote.

    python -m scripts.parity.compare tests/models/fixtures/*.npz

Prints, for float32 and float64, the largest absolute difference over logits and intermediates, and
the largest absolute value among the reference's.
"""

import json
import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vitjax import models


def load(
    path: Path,
) -> tuple[nn.Module, bool, dict[str, Any], np.ndarray, dict[str, np.ndarray]]:
    """The module, if it trains, its variables, the images, the reference's activations by path."""
    with np.load(path) as file:
        arrays = dict(file)
    spec = json.loads(str(arrays.pop("model")))
    name, fields = spec["name"], spec["fields"]
    module = getattr(models, name)(**fields)
    images = arrays.pop("images")
    prefix = "intermediates/"
    expected = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    variables = {k: v for k, v in arrays.items() if not k.startswith(prefix)}
    train = spec.get("train", False)
    return module, train, unflatten_dict(variables, sep="/"), images, expected


def outputs(
    module: nn.Module, train: bool, variables: Any, images: np.ndarray, dtype: str
) -> dict[str, Any]:
    """All intermediates and the logits of ``module``, computed in ``dtype``."""
    with jax.enable_x64(dtype == "float64"):
        module = module.clone(dtype=dtype, param_dtype=dtype)
        variables = jax.tree.map(lambda x: jnp.asarray(x, dtype), variables)
        mutable = ["intermediates", *(["batch_stats"] if train else [])]
        apply = jax.jit(lambda v, x: module.apply(v, x, train=train, mutable=mutable))
        _, state = apply(variables, jnp.asarray(images, dtype))
        found = flatten_dict(jax.device_get(state["intermediates"]), sep="/")
        return {path: value[0] for path, value in found.items()}


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        module, train, variables, images, expected = load(path)
        differences = {}
        for dtype in ("float32", "float64"):
            found = outputs(module, train, variables, images, dtype)
            differences[dtype] = max(
                np.abs(found[k][: len(value)] - value).max() for k, value in expected.items()
            )
        largest = max(np.abs(value).max() for value in expected.values())
        print(
            f"{path.stem}: {len(expected)} activations up to {largest:.3g};"
            f" float32 differs by {differences['float32']:.2g},"
            f" float64 by {differences['float64']:.2g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
