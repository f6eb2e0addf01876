"""MixUp and CutMix: pairs of examples are mixed into one, on the device, inside the step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Images = Float[Array, "batch height width channels"]
Labels = Float[Array, "batch classes"]


def mixup(rng: PRNGKeyArray, images: Images, labels: Labels, alpha: float) -> tuple[Images, Labels]:
    """Mixes each example with its neighbour: ``lam * a + (1 - lam) * b``.

    One ``lam`` ~ Beta(alpha, alpha) is drawn per batch, as in Zhang et al. 2018 (arXiv 1710.09412,
    Section 2). The partner is the next example: batches are already shuffled, and a shift by one
    moves little data between devices.
    """
    lam = jax.random.beta(rng, alpha, alpha, dtype=labels.dtype)
    mixed = _blend(lam.astype(images.dtype), images)
    return mixed, _blend(lam, labels)


def cutmix(
    rng: PRNGKeyArray, images: Images, labels: Labels, alpha: float
) -> tuple[Images, Labels]:
    """Pastes a box of its neighbour into each example, and weights the labels by the box's area.

    Yun et al. 2019 (arXiv 1905.04899, Section 3.1): the box has relative area ``1 - lam`` before it
    is clipped at the border, its centre is uniform, and labels are weighted by the clipped area.
    """
    height, width = images.shape[1:3]
    beta_rng, y_rng, x_rng = jax.random.split(rng, 3)
    lam = jax.random.beta(beta_rng, alpha, alpha, dtype=labels.dtype)
    side = jnp.sqrt(1.0 - lam)
    rows = _inside(y_rng, height, side)
    columns = _inside(x_rng, width, side)
    box = rows[:, None] & columns[None, :]
    mixed = jnp.where(box[None, :, :, None], jnp.roll(images, 1, axis=0), images)
    return mixed, _blend(1.0 - jnp.mean(box, dtype=labels.dtype), labels)


def mix(
    rng: PRNGKeyArray,
    images: Images,
    labels: Labels,
    *,
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
    probability: float = 1.0,
) -> tuple[Images, Labels]:
    """MixUp or CutMix, with equal chances if both are on, on a fraction of the batches.

    Args:
        rng: draws whether, which and how.
        images: (batch, height, width, channels).
        labels: (batch, classes), rows that sum to 1.
        mixup_alpha: alpha of MixUp; 0 turns it off.
        cutmix_alpha: alpha of CutMix; 0 turns it off.
        probability: the fraction of batches that are mixed.

    Returns:
        Mixed images and labels of the same shapes.
    """
    kinds = [
        lambda key, x, y, f=f, a=a: f(key, x, y, a)
        for f, a in ((mixup, mixup_alpha), (cutmix, cutmix_alpha))
        if a > 0
    ]
    if not kinds or probability <= 0:
        return images, labels
    chance_rng, kind_rng, rng = jax.random.split(rng, 3)
    chosen = jax.random.randint(kind_rng, (), 0, len(kinds))
    mixed = jax.lax.switch(chosen, kinds, rng, images, labels)
    if probability >= 1:
        return mixed
    apply = jax.random.bernoulli(chance_rng, probability)
    return jax.tree.map(lambda new, old: jnp.where(apply, new, old), mixed, (images, labels))


def _blend(lam: Array, values: Array) -> Array:
    return lam * values + (1.0 - lam) * jnp.roll(values, 1, axis=0)


def _inside(rng: PRNGKeyArray, length: int, side: Array) -> Array:
    """Which of ``length`` pixels are in a randomly centred interval of size ``side * length``."""
    size = jnp.round(side * length).astype(jnp.int32)
    start = jax.random.randint(rng, (), 0, length) - size // 2
    position = jnp.arange(length)
    return (position >= start) & (position < start + size)
