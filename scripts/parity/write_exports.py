"""Write the networks of tests/helpers/export_cases.py for `read_exports`, which runs timm.

    python -m scripts.parity.write_exports FOLDER
    python -m scripts.parity.write_exports FOLDER --families 60
    python -m scripts.parity.write_exports FOLDER --families 60 --only squeezenet1_0 googlenet

Each network gets a folder of its own, with the program and the files that come with an export.
With ``--families`` these are the registered members of the families that timm and torchvision have,
of at most so many million parameters.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))

from export_cases import CASES, made  # type: ignore[import-not-found]
from families import MEMBERS  # type: ignore[import-not-found]

from vitjax import models, weights
from vitjax.data.normalization import Normalization
from vitjax.data.preparation import Preparation
from vitjax.data.transforms import parse
from vitjax.weights.preprocessing import Preprocessing


def small() -> Iterator[tuple[str, str, Any, Any, Any, np.ndarray]]:
    """The cases: a name, the format, the network, a shape, its variables and images."""
    for name in CASES:
        yield name, "timm", *made(name)


def members(
    millions: float, only: Sequence[str]
) -> Iterator[tuple[str, str, Any, Any, Any, np.ndarray]]:
    """The same for members of families, whose weights keep the size of activations."""
    rng = np.random.default_rng(0)

    def drawn(path: Any, leaf: Any) -> np.ndarray:
        values = rng.standard_normal(leaf.shape, np.float32)
        if path[-1].key == "kernel":
            return values * (2 / np.prod(leaf.shape[:-1])) ** 0.5
        if path[-1].key in ("var", "scale"):
            return 0.5 + 0.1 * np.abs(values)
        return 0.1 * values

    for member in MEMBERS:
        name, format = member["model"], member["format"]
        if format not in ("timm", "torchvision") or member["parameters"] > millions * 1e6:
            continue
        if only and name not in only:
            continue
        module: Any = models.create(name, **member["fields"], num_classes=7)
        side = module.smallest_image + 32
        shapes: Any = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))
        variables = jax.tree_util.tree_map_with_path(drawn, shapes)
        images = rng.standard_normal((2, side, side, 3), np.float32)
        parts = [name, format, *(f"{key}={value}" for key, value in member["fields"].items())]
        yield "-".join(parts), format, module, (side, side, 3), variables, images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--families", type=float, metavar="MILLIONS")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="of the families")
    arguments = parser.parse_args()
    most = arguments.families
    networks = members(most, arguments.only) if most else small()
    for name, format, module, shape, variables, images in networks:
        folder = arguments.folder / name
        normalization = Normalization.of(0.4, 0.2, shape[-1])
        pipeline = parse(f"resize({shape[:2]!r})")
        preprocessing = Preprocessing.of(
            Preparation(pipeline, normalization, shape, shape[-1]), None
        )
        path = folder / "model"
        weights.save(variables, module, path, format, preprocessing=preprocessing)
        logits = np.asarray(jax.jit(module.apply)(variables, images))
        np.savez(folder / "expected.npz", images=images, logits=logits)
        print(name, flush=True)


if __name__ == "__main__":
    main()
