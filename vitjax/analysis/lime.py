"""LIME: a linear model of the probability of a class by which superpixels an image keeps."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from skimage.segmentation import slic
from sklearn.linear_model import Ridge

from vitjax.analysis.attribution import Images, Map, Target, Variables, scores
from vitjax.analysis.calls import checked
from vitjax.core.text import Say, say_nothing
from vitjax.core.validation import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from vitjax.models.protocol import Model
from vitjax.training.progress import Progress


def superpixels(
    image: Float[np.ndarray, "height width channels"], segments: int = 50
) -> Int[np.ndarray, "height width"]:
    """The superpixels of an image by SLIC (Achanta et al. 2012), numbered from 0.

    Args:
        image: of any range.
        segments: about how many.
    """
    low, high = image.min(), image.max()
    scaled = (image - low) / max(high - low, 1e-12)
    found = slic(scaled, segments, compactness=10, start_label=0, channel_axis=-1)
    numbers: np.ndarray = np.unique(found, return_inverse=True)[1].reshape(found.shape)
    return numbers


@checked
def lime(
    model: Model,
    variables: Variables,
    images: Images,
    target: Target,
    *,
    segments: PositiveInt = 50,
    samples: PositiveInt = 500,
    width: PositiveFloat = 0.25,
    alpha: NonNegativeFloat = 1.0,
    batch_size: PositiveInt = 50,
    seed: NonNegativeInt = 0,
    say: Say = say_nothing,
) -> Map:
    """The coefficients of superpixels in a linear model of the probability of the class.

    Ribeiro et al. 2016, arXiv:1602.04938, Sec. 3.2 to 3.4, with the settings of the authors' code:
    a superpixel that is left out has its mean colour, each is left out in half of the samples, and
    a sample is weighed by ``exp(-d^2 / (2 width^2))`` of its cosine distance from the image.

    Args:
        model: a classifier.
        variables: those of the model.
        images: normalised.
        target: the class.
        segments: about how many superpixels an image has.
        samples: images of which some superpixels are left out.
        width: of the weights.
        alpha: of the ridge regression.
        batch_size: samples of one forward pass.
        seed: of the samples.
        say: receives lines of progress where no terminal shows a bar.
    """
    classes = np.broadcast_to(np.asarray(target), len(images))

    maps = []
    for image, index in zip(np.asarray(images), classes, strict=True):
        parts = superpixels(image, segments)
        count = parts.max() + 1
        kept = np.random.default_rng(seed).integers(0, 2, (samples, count)).astype(bool)
        kept[0] = True  # the image itself
        mean = np.stack([image[parts == part].mean(0) for part in range(count)])[parts]
        # Repeated until batches are full, so that one form is compiled.
        batches = np.resize(kept, (-(-samples // batch_size), batch_size, count))
        results = (_likely(model, variables, image, mean, parts, rows, index) for rows in batches)
        passed = Progress(say).over(results, len(batches), "lime")
        found = np.concatenate([np.asarray(result) for result in passed])[:samples]
        distances = 1 - np.sqrt(kept.mean(1))  # the cosine of a row of 0 and 1 to one of 1
        weights = np.exp(-(distances**2) / (2 * width**2))
        ridge = Ridge(alpha=alpha).fit(kept.astype(float), found, sample_weight=weights)
        maps.append(ridge.coef_[parts])
    return jnp.asarray(np.stack(maps), images.dtype)


@functools.partial(jax.jit, static_argnums=0)
def _likely(
    model: Model,
    variables: Variables,
    image: Array,
    mean: Array,
    parts: Array,
    kept: Array,
    index: Array,
) -> Array:
    """The probability of the class for each row of superpixels that are kept."""
    shown = jnp.where(kept[:, parts][..., None], image, mean)
    outputs: Any = model.apply(variables, shown)
    return scores(jax.nn.softmax(outputs, axis=-1), index)
