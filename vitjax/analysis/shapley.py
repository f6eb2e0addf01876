"""SHAP: what each pixel adds to the score of a class, by the package ``shap``."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from vitjax.analysis.attribution import Images, Map, Target, Variables, scores
from vitjax.analysis.calls import checked
from vitjax.core.errors import ConfigError
from vitjax.core.text import Say, say_nothing
from vitjax.core.validation import NonNegativeInt, PositiveInt
from vitjax.models.protocol import Model
from vitjax.training.progress import Progress

# Side of the box that blurs, as a fraction of the shorter side; shap's own examples blur images of
# 224 pixels by 128.
_BLUR = 0.5


def package() -> Any:
    """The package ``shap``.

    Raises:
        ConfigError: it is not installed, or cannot be imported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it calls in matplotlib
            import shap as found
    except ImportError as error:
        raise ConfigError(
            f'shap: needs the package shap: pip install "vitjax[explain]" ({error})'
        ) from error
    return found


@checked
def shap(
    model: Model,
    variables: Variables,
    images: Images,
    target: Target,
    *,
    max_evals: PositiveInt = 500,
    masker: Literal["blur", "mean"] = "blur",
    batch_size: PositiveInt = 50,
    seed: NonNegativeInt = 0,
    say: Say = say_nothing,
) -> Map:
    """The Owen values of the pixels: Shapley values in which neighbours join one after the other.

    Lundberg and Lee 2017, arXiv:1705.07874, by the partition explainer of the package ``shap``: the
    image is halved again and again, and the halves that change the score most are halved first. A
    map sums to the difference between the scores of the image and of the image that is hidden
    completely. If the score has interactions between no more than two pixels, Owen values are
    Shapley values.

    Args:
        model: a classifier, or a segmentation.
        variables: those of the model.
        images: normalised.
        target: the class, see `vitjax.analysis.attribution.scores`.
        max_evals: masked images; few of them leave large squares.
        masker: what hides: the image blurred by a box of half its side, or its mean colour.
        batch_size: masked images of one forward pass.
        seed: of the order of parts that change the score equally.
        say: receives lines of progress where no terminal shows a bar.

    Raises:
        ConfigError: the package is not installed.
    """
    found = package()

    shape = images.shape[1:]
    side = max(1, round(_BLUR * min(shape[:2])))
    classes = np.broadcast_to(np.asarray(target), len(images))
    maps = []
    for image, index in zip(np.asarray(images, np.float32), classes, strict=True):
        hidden = f"blur({side},{side})" if masker == "blur" else _mean(image)
        # Compiled before the clock of the progress starts.
        jax.block_until_ready(_score(model, variables, np.stack([image] * batch_size), index))
        with Progress(say).counting(max_evals, "shap", ("image", "images")) as count:

            def evaluate(masked: np.ndarray, index: Any = index, count: Any = count) -> np.ndarray:
                # One form is compiled.
                padded = np.concatenate([masked, masked[-1:].repeat(-len(masked) % batch_size, 0)])
                parts = np.split(padded, len(padded) // batch_size)
                values = [np.asarray(_score(model, variables, part, index)) for part in parts]
                count(len(masked))
                return np.concatenate(values)[: len(masked)].astype(np.float64)

            explainer = found.PartitionExplainer(evaluate, found.maskers.Image(hidden, shape))
            with _seeded(seed):
                explanation = explainer(
                    image[None], max_evals=max_evals, batch_size=batch_size, silent=True
                )
        maps.append(explanation.values[0].sum(-1))
    return jnp.asarray(np.stack(maps), images.dtype)


@functools.partial(jax.jit, static_argnums=0)
def _score(model: Model, variables: Variables, batch: Array, index: Array) -> Array:
    outputs: Any = model.apply(variables, batch)
    return scores(outputs, index)


def _mean(image: np.ndarray) -> np.ndarray:
    return np.broadcast_to(image.mean((0, 1)), image.shape).copy()


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """NumPy's global generator, which the package draws from, with a seed."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
