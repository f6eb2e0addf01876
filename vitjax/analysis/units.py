"""What single channels of a network respond to: kernels, feature maps, exciting images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Int, PRNGKeyArray

from vitjax.analysis.attribution import Images, Variables
from vitjax.analysis.opened import Opened
from vitjax.core.errors import ConfigError
from vitjax.core.validation import Length, NonNegativeInt, PositiveInt, check_value
from vitjax.models.protocol import Model

# Of Adam, for gradients whose root mean square is 1 at the start: it would take steps of the full
# size for coefficients whose gradient is next to nothing, and drive pixels to the wrong bound.
_EPSILON = 0.3


def first_kernels(
    model: Model, variables: Variables
) -> dict[str, Float[np.ndarray, "kernels height width channels"]]:
    """The kernels that read the image, by the name of the parameter.

    Raises:
        ConfigError: no kernel of the model reads pixels as an image.
    """
    params = flatten_dict(dict(variables["params"]), sep="/")
    found = {
        name: np.moveaxis(np.asarray(params[name], np.float32), -1, 0)
        for name in model.image_kernels
        if np.ndim(params[name]) == 4
    }
    if not found:
        raise ConfigError(f"a {type(model).__name__} has no kernels that read an image")
    return found


def feature_maps(
    model: Model, variables: Variables, images: Images, layer: str | None = None
) -> Float[Array, "batch rows columns channels"]:
    """The map of a layer; of tokens, those of patches.

    Args:
        model: any network.
        variables: those of the model.
        images: normalised.
        layer: a sown value with positions; None for the last one.

    Raises:
        ConfigError: there is no such layer, or it has no positions.
    """
    opened = Opened(model)
    name = opened.default_layer() if layer is None else layer
    _, values = opened(variables, images)
    opened.check(name, values)
    return opened.as_map(name, values[name], images.shape[1:])


class Exciting(NamedTuple):
    """The images to which channels respond most.

    Attributes:
        examples: the number of each image in the order in which they were read, the strongest
            response first.
        values: the largest number of the channel's map for that image.
        places: row and column of that number in the map.
        map_shape: rows and columns of the map.
    """

    examples: Int[np.ndarray, "channels count"]
    values: Float[np.ndarray, "channels count"]
    places: Int[np.ndarray, "channels count 2"]
    map_shape: tuple[int, int]


def most_exciting(
    model: Model,
    variables: Variables,
    batches: Iterable[Images],
    channels: Sequence[int],
    layer: str | None = None,
    count: int = 8,
) -> Exciting:
    """The images in which each channel has the largest number anywhere in its map.

    As the patches of Zeiler and Fergus 2014, arXiv:1311.2901, Sec. 4. Of an image the largest
    number alone counts.

    Args:
        model: any network.
        variables: those of the model.
        batches: images, normalised.
        channels: of the layer.
        layer: as of `feature_maps`.
        count: images for each channel; fewer if there are fewer.

    Raises:
        ConfigError: there is no such layer or channel, or there are no images.
    """
    check_value(count, PositiveInt, "count")
    chosen = np.asarray(channels)

    @jax.jit
    def responses(variables: Any, images: Array) -> tuple[Array, Array]:
        maps = feature_maps(model, variables, images, layer)
        check_channels(channels, maps.shape[-1])
        flat = jnp.moveaxis(maps, -1, 1)[:, chosen].reshape(len(maps), len(chosen), -1)
        return jnp.max(flat, axis=-1), jnp.argmax(flat, axis=-1)

    values: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    shape = (0, 0)
    for images in batches:
        if not len(images):
            continue
        largest, where = jax.device_get(responses(variables, images))
        values.append(largest)
        positions.append(where)
        _, *rows_columns, _ = jax.eval_shape(
            lambda v, x: feature_maps(model, v, x, layer), variables, images
        ).shape
        shape = rows_columns[0], rows_columns[1]
    if not values:
        raise ConfigError("there are no images to excite a channel")
    every, where = np.concatenate(values).T, np.concatenate(positions).T
    order = np.argsort(-every, axis=1, kind="stable")[:, :count]
    places = np.take_along_axis(where, order, axis=1)
    return Exciting(
        order,
        np.take_along_axis(every, order, axis=1),
        np.stack(np.divmod(places, shape[1]), axis=-1),
        shape,
    )


def maximise(
    model: Model,
    variables: Variables,
    shape: tuple[int, int, int],
    channels: Sequence[int],
    layer: str | None = None,
    *,
    key: PRNGKeyArray,
    bounds: tuple[Any, Any] = (-2.0, 2.0),
    steps: int = 256,
    learning_rate: float = 0.05,
    jitter: int | None = None,
) -> tuple[Images, Float[Array, " channels"]]:
    """Images that maximise the mean of a channel's map, one for each channel.

    Olah et al. 2017, doi:10.23915/distill.00007. The prior: an image is the inverse Fourier
    transform of coefficients that are divided by their frequency, as in natural images, and it is
    moved at random before each step, so that no single pixel decides. A sigmoid keeps its numbers
    within bounds.

    Args:
        model: any network.
        variables: those of the model.
        shape: (height, width, channels) of the images.
        channels: of the layer.
        layer: as of `feature_maps`.
        key: of the first images and the moves.
        bounds: the least and the largest number of a pixel, normalised: of black and white. Numbers
            or arrays over the channels.
        steps: of Adam.
        learning_rate: of Adam, for the coefficients.
        jitter: the most pixels by which an image is moved; None for a sixteenth of the shorter
            side.

    Returns:
        The images, normalised, and the mean of each one's channel.

    Raises:
        ConfigError: there is no such layer or channel.
    """
    check_value(steps, NonNegativeInt, "steps")
    check_value(shape, tuple[PositiveInt, PositiveInt, PositiveInt], "shape")
    height, width, depth = shape
    opened = Opened(model)
    name = opened.default_layer() if layer is None else layer
    shapes = opened.shapes(variables, jax.ShapeDtypeStruct((len(channels), *shape), jnp.float32))
    opened.check(name, shapes)
    check_channels(channels, shapes[name][-1])
    most = min(height, width) // 16 if jitter is None else jitter
    low, high = (jnp.broadcast_to(jnp.asarray(x, jnp.float32), (depth,)) for x in bounds)
    rows, columns = jnp.fft.fftfreq(height), jnp.fft.rfftfreq(width)
    frequencies = jnp.hypot(rows[:, None], columns[None])
    # The mean of the image has the weight of the lowest frequency.
    weights = 1 / jnp.maximum(frequencies, 1 / max(height, width))
    weights = (weights * jnp.sqrt(height * width) / jnp.max(weights))[..., None]
    which = jnp.asarray(channels)

    def images_of(spectrum: Mapping[str, Array]) -> Array:
        complex_ = (spectrum["real"] + 1j * spectrum["imaginary"]) * weights
        found = jnp.fft.irfft2(complex_, (height, width), axes=(1, 2))
        return low + (high - low) * jax.nn.sigmoid(found * jnp.sqrt(height * width))

    def responses(images: Array) -> Array:
        _, values = opened(variables, images)
        maps = opened.as_map(name, values[name], shape)
        means = jnp.mean(maps, axis=(1, 2))
        return jnp.take_along_axis(means, which[:, None], axis=1)[:, 0]

    optimizer = optax.adam(learning_rate, eps=_EPSILON)

    def gradient(spectrum: Any, move: Any, scales: Any) -> Any:
        def loss(spectrum: Any) -> Array:
            moved = jnp.roll(images_of(spectrum), move, axis=(1, 2))
            return -jnp.sum(responses(moved) * scales)

        return jax.grad(loss)(spectrum)

    def scales_of(spectrum: Any) -> Array:
        """What brings the root mean square of each image's gradient to 1 at the start.

        Later gradients keep this scale: they vanish as an image becomes the best one.
        """
        parts = gradient(spectrum, jnp.zeros(2, jnp.int32), jnp.ones(len(channels)))
        squares = jnp.stack([jnp.mean(part**2, axis=(1, 2, 3)) for part in jax.tree.leaves(parts)])
        sizes = jnp.sqrt(jnp.mean(squares, axis=0))
        return 1 / jnp.where(sizes > 0, sizes, 1)

    def step(state: tuple[Any, Any, Any], key: PRNGKeyArray) -> tuple[tuple[Any, Any, Any], None]:
        spectrum, moments, scales = state
        move = jax.random.randint(key, (2,), -most, most + 1)
        updates, moments = optimizer.update(gradient(spectrum, move, scales), moments)
        return (optax.apply_updates(spectrum, updates), moments, scales), None

    @jax.jit
    def run(key: PRNGKeyArray) -> tuple[Array, Array]:
        start, moves = jax.random.split(key)
        size = (len(channels), *frequencies.shape, depth)
        real, imaginary = 0.01 * jax.random.normal(start, (2, *size))
        spectrum = {"real": real, "imaginary": imaginary}
        state = spectrum, optimizer.init(spectrum), scales_of(spectrum)
        (spectrum, _, _), _ = jax.lax.scan(step, state, jax.random.split(moves, steps))
        images = images_of(spectrum)
        return images, responses(images)

    return run(key)


def check_channels(channels: Sequence[int], count: int) -> None:
    """Checks that a layer has the channels.

    Raises:
        ConfigError: it does not.
    """
    check_value(np.asarray(channels).tolist(), Annotated[list[int], Length(at_least=1)], "channels")
    wrong = [channel for channel in channels if not 0 <= channel < count]
    if wrong:
        raise ConfigError(
            f"the layer has {count} channels, 0 to {count - 1}; there is no channel {wrong[0]}"
        )
