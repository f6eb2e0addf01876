"""How faithful a map is to the network: what happens without what the map points to."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.initializers import lecun_normal
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from vitjax.analysis import object_masks
from vitjax.analysis.attribution import Images, Map, Target, Variables, scores
from vitjax.core.errors import ConfigError
from vitjax.core.validation import Bounds, PositiveInt, check_value
from vitjax.models.protocol import Model

# Standard deviation of the blur from which insertion starts, as a fraction of the shorter side.
_BLUR = 0.05


class Curve(NamedTuple):
    """Probabilities of a class while pixels are removed or added.

    Attributes:
        fractions: of the pixels that are removed or added, from 0 to 1.
        probabilities: of the class at each fraction.
    """

    fractions: Float[np.ndarray, " points"]
    probabilities: Float[np.ndarray, "batch points"]

    @property
    def areas(self) -> Float[np.ndarray, " batch"]:
        """The area below each curve, by the trapezoidal rule."""
        areas: np.ndarray = np.trapezoid(self.probabilities, self.fractions, axis=1)
        return areas


def deletion(
    model: Model, variables: Variables, images: Images, maps: Map, target: Target, steps: int = 32
) -> Curve:
    """The probability of the class as the pixels with the largest numbers are removed first.

    Petsiuk et al. 2018, arXiv:1806.07421, Sec. 4.1: a small area is good. A pixel that is removed
    becomes 0, which is the mean of the data.

    Args:
        model: a classifier.
        variables: those of the model.
        images: normalised.
        maps: what is to be judged.
        target: the class.
        steps: in which all pixels are removed, at least 1.

    Raises:
        ConfigError: the maps do not have the size of the images, or are not finite; or ``steps`` is
            less than 1.
    """
    return _curve(model, variables, images, jnp.zeros_like(images), maps, target, steps)


def insertion(
    model: Model, variables: Variables, images: Images, maps: Map, target: Target, steps: int = 32
) -> Curve:
    """The probability of the class as pixels return to a blurred image, the largest numbers first.

    Petsiuk et al. 2018, arXiv:1806.07421, Sec. 4.1: a large area is good. The arguments and errors
    are those of `deletion`.
    """
    return _curve(model, variables, blurred(images), images, maps, target, steps)


def blurred(images: Images, fraction: float = _BLUR) -> Images:
    """Images after a Gaussian blur, mirrored at the border.

    Args:
        images: floats.
        fraction: the standard deviation over the shorter side; it is at least a pixel.
    """
    deviation = max(1.0, fraction * min(images.shape[1:3]))
    found = gaussian_filter(np.asarray(images), (0, deviation, deviation, 0), mode="reflect")
    return jnp.asarray(found, images.dtype)


def centre_gaussian(height: int, width: int) -> Float[np.ndarray, "height width"]:
    """The map that says "the middle": a Gaussian whose standard deviation is a quarter of a side.

    A method that does not beat it says nothing about the image.
    """
    rows, columns = (np.linspace(-1, 1, n) for n in (height, width))
    return np.exp(-2 * (rows[:, None] ** 2 + columns[None] ** 2))


def pointing_game(
    maps: Map, masks: Bool[Array, "batch height width"], tolerance: int = 15
) -> Bool[np.ndarray, " batch"]:
    """Whether the largest number of each map lies within the object, or near to it.

    Zhang et al. 2018, arXiv:1608.00507, Sec. 4.1.

    Args:
        maps: at the size of the masks.
        masks: where the object is.
        tolerance: pixels by which the point may miss the object.

    Raises:
        ConfigError: the shapes of maps and masks differ, a map is not finite, or a mask has no
            object.
    """
    points, objects = np.asarray(maps), np.asarray(masks, bool)
    object_masks.check(objects, len(points))
    _check_maps(points, objects.shape, "masks")
    found = np.zeros(len(points), bool)
    for number, (one, mask) in enumerate(zip(points, objects, strict=True)):
        row, column = np.unravel_index(one.argmax(), one.shape)
        rows, columns = np.nonzero(mask)
        found[number] = np.hypot(rows - row, columns - column).min() <= tolerance
    return found


class Randomised(NamedTuple):
    """A map after some layers have lost their weights.

    Attributes:
        layers: how many groups of layers are random, counted from the outputs.
        groups: how many groups of layers the network has.
        maps: by the network that is left.
        similarities: the rank correlation of each map with that of the trained network; NaN where
            one of both is constant, such as a map of zeros, or is not finite.
    """

    layers: int
    groups: int
    maps: Map
    similarities: Float[np.ndarray, " batch"]


def cascade(
    model: Model,
    variables: Variables,
    images: Images,
    method: Callable[[Variables, Images], Map],
    key: PRNGKeyArray,
    most: int | None = None,
) -> Iterator[Randomised]:
    """The maps as layer after layer becomes random, from the outputs to the inputs.

    Adebayo et al. 2018, arXiv:1810.03292, Sec. 3: a map that does not change is not one of what the
    network has learned. Layers are those of `Model.layer_groups`. Statistics of batch normalisation
    remain.

    Args:
        model: with an order of layers.
        variables: those of the model.
        images: normalised.
        method: a map from variables and images.
        key: of the random weights, drawn as for a fresh network. Kernels that begin as zeros, such
            as a ViT's head, are drawn from LeCun's normal distribution: the score would not depend
            on the image.
        most: the number of maps, at least 3, by networks with evenly spaced numbers of random
            groups from 1 on; None for all.

    Yields:
        First the map of the trained network, of which 0 layers are random; last that of a network
        of which all are.

    Raises:
        ConfigError: the model's layers have no order, or ``most`` is less than 3.
    """
    check_value(most, Annotated[int, Bounds(at_least=3)] | None, "most")
    plain = {**model.unstack(variables)}
    own = flatten_dict(dict(plain["params"]), sep="/")
    groups = layer_groups(model, variables)
    fresh = _fresh(model, images, key)
    # From the outputs on.
    places = sorted(set(groups.values()), reverse=True)
    counts = np.arange(len(places) + 1)
    if most is not None and most < len(counts):
        counts = np.append(0, np.round(np.linspace(1, len(places), most - 1)).astype(int))
    first = None
    for count in counts.tolist():
        random = set(places[:count])
        mixed = {name: (fresh if groups[name] in random else own)[name] for name in own}
        maps = method(model.stack({**plain, "params": unflatten_dict(mixed, sep="/")}), images)
        first = maps if first is None else first
        yield Randomised(count, len(places), maps, _rank_correlations(first, maps))


def layer_groups(model: Model, variables: Variables) -> dict[str, int]:
    """The layer of each parameter of an unstacked model, see `Model.layer_groups`.

    Raises:
        ConfigError: the model's layers have no order.
    """
    names = list(flatten_dict(dict(model.unstack(variables)["params"]), sep="/"))
    return dict(zip(names, model.unscanned().layer_groups(names), strict=True))


def _fresh(model: Model, images: Images, key: PRNGKeyArray) -> dict[str, Array]:
    """Random parameters of an unstacked model by name."""
    shape = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    draw = jax.jit(lambda key: model.init(key, jnp.zeros(shape.shape, shape.dtype)))
    found = flatten_dict(dict(model.unstack(draw(key))["params"]), sep="/")
    for number, (name, value) in enumerate(found.items()):
        if name.endswith("kernel") and not np.any(value):
            own = jax.random.fold_in(key, number)
            found[name] = lecun_normal()(own, value.shape, value.dtype)
    return found


def _rank_correlations(first: Map, second: Map) -> Float[np.ndarray, " batch"]:
    """Spearman's correlation over the pixels of each pair of maps; NaN where one is constant."""
    ranks = (rankdata(np.asarray(x).reshape(len(x), -1), axis=1) for x in (first, second))
    a, b = (x - x.mean(1, keepdims=True) for x in ranks)
    below = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.where(below == 0, np.nan, (a * b).sum(1) / np.where(below == 0, 1, below))


def _check_maps(maps: Any, shape: tuple[int, ...], of: str) -> None:
    """Checks that maps have a shape and only finite numbers."""
    if maps.shape != shape:
        raise ConfigError(
            f"maps: shape {maps.shape}, but {of} of shape {shape}; they must be equal"
        )
    bad = np.flatnonzero(~np.isfinite(maps).reshape(len(maps), math.prod(shape[1:])).all(axis=1))
    if bad.size:
        raise ConfigError(f"maps: map {bad[0]} has numbers that are NaN or infinite")


def _curve(
    model: Model,
    variables: Variables,
    before: Images,
    after: Images,
    maps: Map,
    target: Target,
    steps: int,
) -> Curve:
    """Pixels of ``before`` become those of ``after``, the largest numbers of the maps first."""
    check_value(steps, PositiveInt, "steps")
    _check_maps(np.asarray(maps), before.shape[:3], "images")
    pixels = maps[0].size
    order = np.argsort(-np.asarray(maps).reshape(len(maps), -1), axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable").reshape(maps.shape)
    fractions = np.linspace(0, 1, steps + 1)

    counts = np.round(fractions * pixels).astype(np.int32)
    found = [
        np.asarray(_probability(model, variables, before, after, ranks, count, target))
        for count in counts
    ]
    return Curve(fractions, np.stack(found, axis=1))


@functools.partial(jax.jit, static_argnums=0)
def _probability(
    model: Model,
    variables: Variables,
    before: Images,
    after: Images,
    ranks: Array,
    count: Array,
    target: Target,
) -> Array:
    """The probability of the class where the pixels of the first ranks are those of ``after``."""
    images = jnp.where((ranks < count)[..., None], after, before)
    outputs: Any = model.apply(variables, images)
    return scores(jax.nn.softmax(outputs, axis=-1), target)
