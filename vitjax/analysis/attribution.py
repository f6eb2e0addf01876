"""What a network looks at: maps over the pixels of an image for the score of a class.

All functions take ``(model, variables, images, target)`` and return maps of shape (batch, height,
width). Where a method says nothing else, positive numbers speak for the class. `checked` refuses
arguments that cannot be used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal
from jaxtyping import Array, Float, Int, PRNGKeyArray

from vitjax.analysis.calls import checked
from vitjax.analysis.opened import Opened
from vitjax.core.errors import ConfigError
from vitjax.core.text import Say, say_nothing
from vitjax.core.validation import NonNegativeFloat, NonNegativeInt, PositiveInt
from vitjax.models.protocol import Model
from vitjax.training.progress import Progress

Variables = Mapping[str, Any]
# A class for all images, or one for each.
Target = int | Int[Array, " batch"] | Int[np.ndarray, " batch"]
Images = Float[Array, "batch height width channels"]
Map = Float[Array, "batch height width"]


def scores(outputs: Array, target: Target) -> Float[Array, " batch"]:
    """The score of a class for each image.

    Args:
        outputs: logits (batch, classes); or of a segmentation (batch, height, width, classes), of
            which the mean is taken over the pixels that are predicted as the class, or over all
            pixels of an image that has none (Vinogradova et al. 2020, arXiv:2002.11434).
        target: the class.
    """
    classes = jnp.broadcast_to(jnp.asarray(target), outputs.shape[:1])
    if outputs.ndim == 2:
        return jnp.take_along_axis(outputs, classes[:, None], axis=1)[:, 0]
    index = classes[:, None, None, None]
    own = jnp.take_along_axis(outputs, jnp.broadcast_to(index, (*outputs.shape[:3], 1)), axis=3)
    chosen = jnp.argmax(outputs, axis=-1) == classes[:, None, None]
    chosen = chosen | ~jnp.any(chosen, axis=(1, 2), keepdims=True)
    return jnp.mean(own[..., 0], axis=(1, 2), where=chosen)


def resized(maps: Float[Array, "batch rows columns"], height: int, width: int) -> Map:
    """Maps at the resolution of the images, bilinearly."""
    return jax.image.resize(maps, (len(maps), height, width), "bilinear")


@checked
def cam(
    model: Model, variables: Variables, images: Images, target: Target, layer: str | None = None
) -> Map:
    """Class activation mapping: the channels of the last map, weighed by the head.

    Zhou et al. 2016, arXiv:1512.04150, Eq. 2. Exact where the head is a dense layer on the mean of
    a map over its pixels: the mean of the map of scores is the logit without its bias.

    Raises:
        ConfigError: the head reads something else.
    """
    opened = Opened(model)
    name = opened.default_layer() if layer is None else layer
    _, values = opened(variables, images)
    x = opened.as_map(name, _value(opened, values, name), images.shape[1:])
    head, _ = model.split_head(variables["params"])
    kernels = [layer["kernel"] for layer in model.main_head(head).values() if "kernel" in layer]
    read: Any = model.headless().apply(_without(model, variables), images)
    means = jnp.mean(x, axis=(1, 2))
    fits = len(kernels) == 1 and kernels[0].ndim == 2 and read.shape == means.shape
    if not fits or not np.allclose(read, means, rtol=1e-3, atol=1e-3):
        raise ConfigError(
            f"CAM: the head of this {type(model).__name__} is not one dense layer on the mean of"
            f" {name!r} over its pixels; use grad_cam"
        )
    weights = jnp.take(kernels[0], jnp.broadcast_to(jnp.asarray(target), len(x)), axis=1)
    return resized(jnp.einsum("bhwc,cb->bhw", x, weights), *images.shape[1:3])


@checked
def grad_cam(
    model: Model, variables: Variables, images: Images, target: Target, layer: str | None = None
) -> Map:
    """Grad-CAM: the channels of a map, weighed by the mean of the gradient of the score.

    Selvaraju et al. 2017, arXiv:1610.02391, Eq. 1 and 2.

    Args:
        model: a classifier, or a segmentation.
        variables: those of the model.
        images: normalised.
        target: the class, see `scores`.
        layer: a sown value with positions; None for the last one.
    """
    x, gradient, resize = _map_and_gradient(model, variables, images, target, layer)
    weights = jnp.mean(gradient, axis=(1, 2))
    return resize(jax.nn.relu(jnp.einsum("bhwc,bc->bhw", x, weights)))


@checked
def grad_cam_plus_plus(
    model: Model, variables: Variables, images: Images, target: Target, layer: str | None = None
) -> Map:
    """Grad-CAM++: positive gradients alone, each weighed so that several objects count alike.

    Chattopadhyay et al. 2018, arXiv:1710.11063, Eq. 10 and 19, for scores to which the exponential
    is applied: second and third derivatives are powers of the first.
    """
    x, gradient, resize = _map_and_gradient(model, variables, images, target, layer)
    square, cube = gradient**2, gradient**3
    below = 2 * square + jnp.sum(x, axis=(1, 2), keepdims=True) * cube
    alpha = jnp.where(below == 0, 0, square / jnp.where(below == 0, 1, below))
    weights = jnp.sum(alpha * jax.nn.relu(gradient), axis=(1, 2))
    return resize(jax.nn.relu(jnp.einsum("bhwc,bc->bhw", x, weights)))


@checked
def layer_cam(
    model: Model, variables: Variables, images: Images, target: Target, layer: str | None = None
) -> Map:
    """Layer-CAM: each number of a map, weighed by its own positive gradient.

    Jiang et al. 2021, doi:10.1109/TIP.2021.3089943, Eq. 5 to 7: good for early layers too.
    """
    x, gradient, resize = _map_and_gradient(model, variables, images, target, layer)
    return resize(jax.nn.relu(jnp.sum(x * jax.nn.relu(gradient), axis=-1)))


@checked
def score_cam(
    model: Model,
    variables: Variables,
    images: Images,
    target: Target,
    layer: str | None = None,
    *,
    batch_size: PositiveInt = 32,
    say: Say = say_nothing,
) -> Map:
    """Score-CAM: the channels of a map, weighed by the probability of the image that each masks.

    Wang et al. 2020, arXiv:1910.01279, Eq. 4 to 6 and Algorithm 1. Without gradients; one forward
    pass for each channel.

    Args:
        model: a classifier.
        variables: those of the model.
        images: normalised, so that 0 is the mean of the data.
        target: the class.
        layer: as of `grad_cam`.
        batch_size: masked images of one forward pass.
        say: receives lines of progress where no terminal shows a bar.
    """
    opened = Opened(model)
    name = opened.default_layer() if layer is None else layer
    _, values = jax.jit(opened.__call__)(variables, images)
    x = opened.as_map(name, _value(opened, values, name), images.shape[1:])
    height, width = images.shape[1:3]
    classes = jnp.broadcast_to(jnp.asarray(target), len(images))

    @jax.jit
    def weighed(variables: Any, image: Array, maps: Array, index: Array) -> Array:
        """The scores of an image by each of its channels (channels, rows, columns)."""
        large = resized(maps, height, width)
        low, high = (f(large, axis=(1, 2), keepdims=True) for f in (jnp.min, jnp.max))
        masks = (large - low) / jnp.where(high == low, 1, high - low)
        outputs: Any = model.apply(variables, image * masks[..., None])
        likely = jax.nn.softmax(outputs, axis=-1) if outputs.ndim == 2 else outputs
        return scores(likely, index)

    found = []
    for image, each, index in zip(images, x, classes, strict=True):
        maps = jnp.moveaxis(each, -1, 0)
        # The last batch is filled up, so that one form is compiled.
        lacking = -len(maps) % min(batch_size, len(maps))
        padded = jnp.pad(maps, ((0, lacking), (0, 0), (0, 0)))
        parts = jnp.split(padded, len(padded) // min(batch_size, len(maps)))
        results = (weighed(variables, image, part, index) for part in parts)
        weights = jnp.concatenate(list(Progress(say).over(results, len(parts), "score_cam")))
        found.append(jnp.einsum("chw,c->hw", maps, weights[: len(maps)]))
    # Resized after the sum, which is the same and does not hold every channel at the image's size.
    return jax.nn.relu(resized(jnp.stack(found), height, width))


@checked
def gradient(model: Model, variables: Variables, images: Images, target: Target) -> Images:
    """The gradient of the score by the pixels, with its channels (batch, height, width, channels).

    Simonyan et al. 2014, arXiv:1312.6034, Sec. 3.
    """
    return _by_pixels(Opened(model), None, variables, images, target)


@checked
def saliency(model: Model, variables: Variables, images: Images, target: Target) -> Map:
    """The largest magnitude of `gradient` among the channels of each pixel; it has no sign.

    Simonyan et al. 2014, arXiv:1312.6034, Sec. 3.1.
    """
    return jnp.max(jnp.abs(gradient(model, variables, images, target)), axis=-1)


@checked
def guided_backpropagation(
    model: Model, variables: Variables, images: Images, target: Target
) -> Map:
    """`saliency` of a backward pass in which each ReLU also drops what is negative on its way back.

    Springenberg et al. 2015, arXiv:1412.6806, Sec. 3.4. It shows edges of the image more than what
    decides (Adebayo et al. 2018, arXiv:1810.03292).

    Raises:
        ConfigError: the model has no ReLU.
    """
    seen: list[JaxprEqn] = []
    rule = functools.partial(_guided_rule, seen)
    found = _by_pixels(Opened(model), rule, variables, images, target)
    if not seen:
        raise ConfigError(
            f"guided_backpropagation: a {type(model).__name__} has no ReLU, which the method"
            " changes; use smooth_grad or integrated_gradients"
        )
    return jnp.max(jnp.abs(found), axis=-1)


@checked
def integrated_gradients(
    model: Model,
    variables: Variables,
    images: Images,
    target: Target,
    *,
    baseline: float | Sequence[Any] = 0.0,
    steps: PositiveInt = 64,
) -> Map:
    """The mean gradient on the way from a baseline to the image, times their difference.

    Sundararajan et al. 2017, arXiv:1703.01365, Eq. 2, by the midpoint rule. The map sums to the
    difference of the scores of image and baseline, but for the error of the rule.

    Args:
        model: a classifier, or a segmentation.
        variables: those of the model.
        images: normalised, so that 0 is the mean of the data.
        target: the class.
        baseline: an image without information: a number, one for each channel, or those of all
            pixels.
        steps: gradients on the way.

    Raises:
        ConfigError: ``baseline`` has another shape than an image.
    """
    shape = np.shape(baseline)
    if shape not in ((), images.shape[-1:], images.shape[1:], images.shape):
        raise ConfigError(
            f"integrated_gradients.baseline has the shape {shape}; it must be a number, or have the"
            f" shape {images.shape[-1:]} or {images.shape[1:]}, as the images"
        )
    start = jnp.broadcast_to(jnp.asarray(baseline, images.dtype), images.shape)
    opened = Opened(model)

    def one(total: Array, fraction: Array) -> tuple[Array, None]:
        at = start + fraction * (images - start)
        return total + _by_pixels(opened, None, variables, at, target), None

    fractions = (jnp.arange(steps, dtype=images.dtype) + 0.5) / steps
    total, _ = jax.lax.scan(one, jnp.zeros_like(images), fractions)
    return jnp.sum((images - start) * total / steps, axis=-1)


@checked
def smooth_grad(
    model: Model,
    variables: Variables,
    images: Images,
    target: Target,
    *,
    samples: PositiveInt = 25,
    noise: NonNegativeFloat = 0.15,
    seed: NonNegativeInt = 0,
) -> Map:
    """`saliency` of the mean gradient over noisy copies of the image.

    Smilkov et al. 2017, arXiv:1706.03825, Sec. 3.

    Args:
        model: a classifier, or a segmentation.
        variables: those of the model.
        images: normalised.
        target: the class.
        samples: noisy copies.
        noise: its standard deviation, as a fraction of the range of each image.
        seed: of the noise.
    """
    spread = jnp.ptp(images, axis=(1, 2, 3), keepdims=True) * noise
    opened = Opened(model)

    def one(total: Array, key: PRNGKeyArray) -> tuple[Array, None]:
        noisy = images + spread * jax.random.normal(key, images.shape, images.dtype)
        return total + _by_pixels(opened, None, variables, noisy, target), None

    keys = jax.random.split(jax.random.key(seed), samples)
    total, _ = jax.lax.scan(one, jnp.zeros_like(images), keys)
    return jnp.max(jnp.abs(total / samples), axis=-1)


@checked
def occlusion(
    model: Model,
    variables: Variables,
    images: Images,
    target: Target,
    *,
    size: PositiveInt | None = None,
    stride: PositiveInt | None = None,
    fill: float = 0.0,
) -> Map:
    """By how much the score falls where a square hides the image, averaged over the squares.

    Zeiler and Fergus 2014, arXiv:1311.2901, Sec. 4.2.

    Args:
        model: a classifier, or a segmentation.
        variables: those of the model.
        images: normalised, so that 0 is the mean of the data.
        target: the class.
        size: side of the square in pixels; None for an eighth of the shorter side.
        stride: of its positions in pixels, at most ``size``; None for half of it.
        fill: the value that hides.

    Raises:
        ConfigError: ``stride`` is larger than ``size``.
    """
    height, width = images.shape[1:3]
    size = size or max(1, min(height, width) // 8)
    stride = stride or max(1, size // 2)
    if stride > size:
        raise ConfigError(
            f"occlusion.stride is {stride}; it must be at most size ({size}), so that some square"
            " hides each pixel"
        )
    rows, columns = (_positions(n, size, stride) for n in (height, width))
    corners = jnp.array([(row, column) for row in rows for column in columns])

    def by_pixels(images: Array) -> Array:
        outputs: Any = model.apply(variables, images)
        return scores(outputs, target)

    whole = by_pixels(images)
    ys, xs = jnp.arange(height)[:, None], jnp.arange(width)[None]

    def one(state: tuple[Array, Array], corner: Array) -> tuple[tuple[Array, Array], None]:
        total, count = state
        inside = (ys >= corner[0]) & (ys < corner[0] + size)
        inside &= (xs >= corner[1]) & (xs < corner[1] + size)
        hidden = jnp.where(inside[None, :, :, None], fill, images).astype(images.dtype)
        fall = whole - by_pixels(hidden)
        return (total + fall[:, None, None] * inside, count + inside), None

    state = jnp.zeros(images.shape[:3], whole.dtype), jnp.zeros((height, width), jnp.int32)
    (total, count), _ = jax.lax.scan(one, state, corners)
    return total / count


def _value(opened: Opened, values: Mapping[str, Array], name: str) -> Array:
    opened.check(name, values)
    return values[name]


def _without(model: Model, variables: Variables) -> dict[str, Any]:
    """The variables without the head."""
    _, rest = model.split_head(variables["params"])
    return {**variables, "params": rest}


def _map_and_gradient(
    model: Model, variables: Variables, images: Images, target: Target, layer: str | None
) -> tuple[Array, Array, Callable[[Array], Map]]:
    """A map, the gradient of the score by it, and what brings maps to the size of the images."""
    opened = Opened(model)
    name = opened.default_layer() if layer is None else layer
    shapes = opened.shapes(variables, images)
    opened.check(name, shapes)
    change = {name: jnp.zeros(shapes[name], jnp.result_type(images))}

    def total(change: Mapping[str, Array]) -> tuple[Array, Array]:
        outputs, values = opened(variables, images, change)
        return jnp.sum(scores(outputs, target)), values[name]

    gradient, value = jax.grad(total, has_aux=True)(change)
    x, by_map = (opened.as_map(name, y, images.shape[1:]) for y in (value, gradient[name]))
    return x, by_map, lambda maps: resized(maps, *images.shape[1:3])


def _by_pixels(
    opened: Opened, rule: Any, variables: Variables, images: Array, target: Target
) -> Array:
    """The gradient of the score by the pixels."""

    def total(images: Array) -> Array:
        return jnp.sum(scores(opened(variables, images, rule=rule)[0], target))

    found: Array = jax.grad(total)(images)
    return found


def _positions(length: int, size: int, stride: int) -> list[int]:
    """Where squares begin: the last one ends at the border."""
    last = length - size
    return [*range(0, last, stride), last]


@jax.custom_vjp
def _guided_relu(x: Array) -> Array:
    return jax.nn.relu(x)


def _guided_forward(x: Array) -> tuple[Array, Array]:
    return jax.nn.relu(x), x


def _guided_backward(x: Array, upstream: Array) -> tuple[Array]:
    return (jnp.where((x > 0) & (upstream > 0), upstream, 0),)


_guided_relu.defvjp(_guided_forward, _guided_backward)


def _guided_rule(seen: list[JaxprEqn], equation: JaxprEqn, inputs: list[Any]) -> list[Any] | None:
    """Computes each ``max(x, 0)`` by `_guided_relu`."""
    if equation.primitive.name != "max":
        return None
    for place, atom in enumerate(equation.invars):
        if isinstance(atom, Literal) and np.ndim(atom.val) == 0 and atom.val == 0:
            seen.append(equation)
            return [_guided_relu(inputs[1 - place])]
    return None
