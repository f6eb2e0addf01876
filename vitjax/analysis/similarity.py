"""How alike the layers of two networks are: centred kernel alignment (CKA)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vitjax.analysis.activations import ALL, Activations
from vitjax.core.errors import ConfigError
from vitjax.models.protocol import Model

Kernel = Literal["linear", "rbf"]
Gram = Float[Array, "examples examples"]
# The unbiased estimate divides by the number of examples less 3.
FEWEST = 4


def gram(x: Float[Array, "examples size"], kernel: Kernel = "linear", width: float = 0.5) -> Gram:
    """The kernel of any two examples.

    Args:
        x: the numbers of a layer.
        kernel: ``"linear"`` (dot products), or ``"rbf"``: ``exp(-d^2 / (2 s^2))`` of the distance.
        width: s of the latter over the median distance (Kornblith et al. 2019, arXiv:1905.00414,
            Sec. 3).
    """
    products = jnp.matmul(x, x.T, precision="highest")
    if kernel == "linear":
        return products
    norms = jnp.diag(products)
    squares = jnp.maximum(norms[:, None] + norms[None] - 2 * products, 0)
    median = jnp.median(squares[jnp.triu_indices(len(x), 1)])
    return jnp.exp(-squares / (2 * width**2 * jnp.where(median == 0, 1, median)))


def hsic(
    first: Float[np.ndarray, "a examples examples"],
    second: Float[np.ndarray, "b examples examples"],
) -> Float[np.ndarray, "a b"]:
    """The unbiased Hilbert-Schmidt independence criterion of any two kernels.

    Song et al. 2012, JMLR 13, Eq. 5, as in Nguyen et al. 2021, arXiv:2010.15327, Eq. 3.

    Args:
        first: kernels of the same examples, at least `FEWEST`; sums are in float64, since they
            cancel.
        second: likewise.
    """
    n = first.shape[-1]
    mask = 1 - np.eye(n)
    first, second = first * mask, second * mask
    rows = first.sum(-1), second.sum(-1)
    totals = rows[0].sum(-1)[:, None] * rows[1].sum(-1)[None]
    traces = np.einsum("aij,bij->ab", first, second, optimize=True)
    crossed = np.einsum("ai,bi->ab", *rows)
    found: np.ndarray = traces + totals / ((n - 1) * (n - 2)) - 2 * crossed / (n - 2)
    return found / (n * (n - 3))


def cka(
    x: Float[Array, "examples p"], y: Float[Array, "examples q"], kernel: Kernel = "linear"
) -> float:
    """The CKA of two layers from one batch, by the unbiased estimate; 1 for equal layers.

    Kornblith et al. 2019, arXiv:1905.00414, Eq. 4. It does not change where a layer is rotated or
    scaled as a whole. Of unrelated layers it is about 0, and can be below.
    """
    a, b = (np.asarray(gram(each, kernel))[None] for each in (x, y))
    return float((hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b)))[0, 0])


@dataclasses.dataclass(frozen=True)
class Network:
    """A network whose layers are compared.

    Attributes:
        model: a classifier.
        variables: those of the model.
        pattern: of the names of layers, see `Activations.chosen`.
        where: the option of the pattern, for errors.
    """

    model: Model
    variables: Mapping[str, Any]
    pattern: str = ALL
    where: str = "--layers"


@dataclasses.dataclass(frozen=True)
class Similarities:
    """The CKA of any two layers.

    Attributes:
        first: the names of the layers of the first network, in order of computation.
        second: those of the second.
        cka: of each pair.
        examples: how many there were.
        left_out: images of batches that were too small.
    """

    first: Sequence[str]
    second: Sequence[str]
    cka: Float[np.ndarray, "first second"]
    examples: int
    left_out: int = 0


def compare(
    first: Network,
    second: Network,
    batches: Iterable[tuple[Array, Array]],
    kernel: Kernel = "linear",
) -> Similarities:
    """Compares all layers of two networks on the same images.

    The criteria are averaged over batches before CKA is computed from them, so that the result does
    not depend on the size of batches but for noise: Nguyen et al. 2021, arXiv:2010.15327, Eq. 2.

    Args:
        first: a network.
        second: another network, or the same.
        batches: the images of each batch as inputs of the first and of the second network. A batch
            with fewer than `FEWEST` images is left out.
        kernel: see `gram`.

    Raises:
        ConfigError: no batch has enough images, or a pattern matches no layer.
    """
    sums: list[np.ndarray] | None = None
    examples = count = left_out = 0
    names: list[list[str]] = [[], []]
    functions: list[Callable[..., Array]] = []
    for inputs in batches:
        if len(inputs[0]) < FEWEST:
            left_out += len(inputs[0])
            continue
        if not functions:
            made = [_grams(*pair, kernel) for pair in zip((first, second), inputs, strict=True)]
            functions, names = [each[0] for each in made], [each[1] for each in made]
        a, b = (
            np.asarray(function(network.variables, each))
            for function, network, each in zip(functions, (first, second), inputs, strict=True)
        )
        alone = [np.array([hsic(x[None], x[None])[0, 0] for x in each]) for each in (a, b)]
        found = [hsic(a, b), *alone]
        sums = found if sums is None else [x + y for x, y in zip(sums, found, strict=True)]
        examples, count = examples + len(inputs[0]), count + 1
    if sums is None:
        raise ConfigError(f"layers are compared on at least {FEWEST} images in one batch")
    both, own, other = (each / count for each in sums)
    below = np.sqrt(np.maximum(own[:, None] * other[None], 0))
    values = np.where(below == 0, np.nan, both / np.where(below == 0, 1, below))
    return Similarities(names[0], names[1], values, examples, left_out)


def _grams(
    network: Network, inputs: Array, kernel: Kernel
) -> tuple[Callable[..., Array], list[str]]:
    """A compiled function of variables and inputs: the kernels of all layers; and their names."""
    activations = Activations(network.model, network.variables, inputs)
    layers = activations.chosen(network.pattern, network.where)
    flattened = activations.flattened(layers)

    @jax.jit
    def grams(variables: Any, inputs: Array) -> Array:
        values = flattened(variables, inputs).values()
        return jnp.stack([gram(x.astype(jnp.float32), kernel) for x in values])

    return grams, [layer.name for layer in layers]
