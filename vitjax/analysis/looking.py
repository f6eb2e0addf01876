"""Figures of what single channels of a run's network respond to."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax import figures
from vitjax.analysis import units
from vitjax.analysis.networks import image_batches, spaced
from vitjax.analysis.opened import Opened
from vitjax.core.atomic import write_json
from vitjax.core.errors import ConfigError
from vitjax.core.file_lists import find_images
from vitjax.core.text import Say
from vitjax.core.validation import NonNegativeInt, PositiveInt, check_value
from vitjax.data.dataset import Dataset
from vitjax.objectives import Classifier
from vitjax.objectives.interfaces import Segmenter
from vitjax.tasks.output import OutputFolder, result_names
from vitjax.tasks.reading import check_heads, check_shape, some, stacked
from vitjax.training import checks, finite, runs
from vitjax.training.experiment import Experiment

RESULTS = "units.json"
KERNELS, EXCITING, MAXIMISED = "kernels.png", "exciting.png", "maximised.png"
# The most images of one figure.
_MOST = 64
_CHANNELS = 8
# Pixels of an image's shorter side from which on a frame has a dark line inside.
_TWO_LINES = 64


def look(
    workdir: str | Path,
    output: str | Path,
    files: Any = (),
    overrides: Sequence[str] = (),
    *,
    layer: str | None = None,
    channels: Sequence[int] | None = None,
    split: str = "test",
    examples: int = 1024,
    count: int = 8,
    steps: int = 256,
    seed: int = 0,
    checkpoint: str | int | None = None,
    overwrite: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Draws the first kernels of a run's network, and what channels of a layer respond to.

    Writes `KERNELS`, unless the network has none; `EXCITING`, the images of the run's data that
    excite each channel most, with a box around the place; `MAXIMISED`, images that maximise the
    channels; the feature maps of each of ``files``; and `RESULTS`.

    Args:
        workdir: the run's folder.
        output: the folder to write to.
        files: images whose feature maps are drawn, as of `vitjax.predict`.
        overrides: ``--config.key=value`` arguments on the run's config.
        layer: a sown value with positions; None for the last one.
        channels: of the layer, at most 64; None for the first 8.
        split: whose images excite the channels.
        examples: how many of them are tried, at most, evenly spaced in the split.
        count: images for each channel, at most; at most 64 are drawn in all.
        steps: of the maximisation; 0 for none.
        seed: of the maximisation.
        checkpoint: ``"best"``, ``"last"`` or a step.
        overwrite: whether files in ``output`` that no earlier command wrote may be replaced.
        say: receives progress messages.

    Returns:
        The contents of `RESULTS`.

    Raises:
        WorkdirError, CheckpointError: the folder holds no run, or no such checkpoint.
        ConfigError: the run has no images, or there is no such layer, channel or split.
        DataError: an image cannot be read.
        NotFiniteError: the network gives NaN. After an error nothing is written.
    """
    for value, kind, name in (
        (examples, PositiveInt, "--examples"),
        (count, PositiveInt, "--count"),
        (steps, NonNegativeInt, "--steps"),
    ):
        check_value(value, kind, name)
    if channels is not None and not 1 <= len(channels) <= _MOST:
        raise ConfigError(f"--channels: 1 to {_MOST} channels can be drawn, not {len(channels)}")
    if channels is not None and len(set(channels)) < len(channels):
        raise ConfigError(f"--channels={','.join(map(str, channels))}: one is given twice")
    folder = OutputFolder(output, overwrite=overwrite)
    found = find_images(files, say=say, apart_from=folder.written) if files else []
    experiment, placed, step = runs.load(workdir, overrides, checkpoint=checkpoint, say=say)
    objective, data = experiment.objective, experiment.data
    if not isinstance(objective, Classifier | Segmenter):
        raise ConfigError(
            f"units: the run's objective {type(objective).__name__} does not classify images or"
            " their pixels"
        )
    checks.split(split, data.splits)
    model, variables = objective.model, objective.unwrap(experiment.parallel.fetch(placed))
    name = Opened(model).default_layer() if layer is None else layer
    example = jnp.asarray(data.normalize(data.example_batch()["image"][:1]))
    shape = jax.eval_shape(lambda v, x: units.feature_maps(model, v, x, name), variables, example)
    if channels is None:
        channels = range(min(_CHANNELS, shape.shape[-1]))
    units.check_channels(channels, shape.shape[-1])
    if found:
        check_heads(some(found), data.max_pixels)
        check_shape(data.read_image, found)
    stems = result_names([(str(file), "") for file in found])
    folder.check([*(f"{stem}.png" for stem in stems), KERNELS, EXCITING, MAXIMISED, RESULTS])

    # Everything is computed before the first file is written.
    kernels = {}
    with contextlib.suppress(ConfigError):  # a network without kernels, such as a deep encoder's
        kernels = units.first_kernels(model, variables)
    exciting = units.most_exciting(
        model, variables,
        (data.normalize(images) for (images,) in image_batches([data], split, examples)),
        channels, name, min(count, _MOST // len(channels)),
    )  # fmt: skip
    finite.check_outputs(exciting.values, f"layer {name}", model)
    shown = _images_at(data, split, examples, exciting.examples)
    numbers_in_split = spaced(data.num_examples(split), examples)[exciting.examples]
    titles = [
        f"channel {channel}\n{value:.3g}"
        for channel, values in zip(channels, exciting.values, strict=True)
        for value in values
    ]
    boxed = [
        _boxed(shown[int(number)], place, exciting.map_shape)
        for numbers, places in zip(exciting.examples, exciting.places, strict=True)
        for number, place in zip(numbers, places, strict=True)
    ]
    maximised = None
    if steps:
        maximised = _maximised(experiment, model, variables, channels, name, steps, seed)
    feature_maps = [_feature_maps(experiment, model, variables, file, name) for file in found]

    if kernels:
        drawn = [_signed(each) for group in kernels.values() for each in group]
        with folder.writing(KERNELS) as path:
            figures.image_grid(drawn, None, path, heading=", ".join(kernels))
    heading = f"{name}: images of {split} that excite each channel most"
    with folder.writing(EXCITING) as path:
        figures.image_grid(boxed, titles, path, heading=heading, columns=len(exciting.values[0]))
    results: dict[str, Any] = {
        "layer": name,
        "step": step,
        "split": split,
        "channels": [
            {"channel": channel, "examples": numbers, "values": values, "places": places}
            for channel, numbers, values, places in zip(
                channels,
                numbers_in_split.tolist(),
                exciting.values.tolist(),
                exciting.places.tolist(),
                strict=True,
            )
        ],
    }
    if maximised is not None:
        images, means = maximised
        for each, mean in zip(results["channels"], means, strict=True):
            each["maximum"] = mean
        titles = [f"channel {c}\n{mean:.3g}" for c, mean in zip(channels, means, strict=True)]
        heading = f"{name}: images that maximise each channel"
        with folder.writing(MAXIMISED) as path:
            figures.image_grid(images, titles, path, heading=heading)
    for stem, file, (image, maps) in zip(stems, found, feature_maps, strict=True):
        drawn = [image, *(_scaled(maps[..., channel]) for channel in channels)]
        titles = ["image", *(f"channel {channel}" for channel in channels)]
        (folder.path / stem).parent.mkdir(parents=True, exist_ok=True)
        with folder.writing(f"{stem}.png") as path:
            figures.image_grid(drawn, titles, path, heading=f"{Path(str(file)).name}: {name}")
    with folder.writing(RESULTS) as path:
        write_json(path, results)
    return results


def _feature_maps(
    experiment: Experiment, model: Any, variables: Any, file: Any, layer: str
) -> tuple[np.ndarray, np.ndarray]:
    """An image file as the model sees it before normalisation, and its maps."""
    image = experiment.data.read_image(file)
    batch = jnp.asarray(experiment.data.normalize(stacked([image])))
    return image, np.asarray(units.feature_maps(model, variables, batch, layer)[0], np.float32)


def _maximised(
    experiment: Experiment,
    model: Any,
    variables: Any,
    channels: Sequence[int],
    layer: str,
    steps: int,
    seed: int,
) -> tuple[list[np.ndarray], list[float]]:
    """Images that maximise channels, as they are drawn, and the means of the channels."""
    data = experiment.data
    example = np.asarray(data.example_batch()["image"][:1])
    largest = 255 if example.dtype == np.uint8 else 1
    black, white = (
        np.asarray(data.normalize(np.full_like(example, value)))[0, 0, 0] for value in (0, largest)
    )
    images, means = units.maximise(
        model, variables, example.shape[1:], channels, layer,
        key=jax.random.key(seed), bounds=(black, white), steps=steps,
    )  # fmt: skip
    drawn = (np.asarray(images) - black) / (white - black)
    return list(drawn), [float(mean) for mean in means]


def _images_at(data: Dataset, split: str, most: int, wanted: np.ndarray) -> dict[int, np.ndarray]:
    """Those of the images that were tried whose numbers among them are ``wanted``."""
    found: dict[int, np.ndarray] = {}
    start = 0
    for (images,) in image_batches([data], split, most):
        here = {int(n) for n in wanted.flat if start <= n < start + len(images)}
        found |= {number: images[number - start] for number in here}
        start += len(images)
    return found


def _signed(kernel: np.ndarray) -> np.ndarray:
    """A kernel in [0, 1], with 0 in the middle."""
    return 0.5 + kernel / (2 * max(float(np.abs(kernel).max()), float(np.finfo(np.float32).tiny)))


def _scaled(one: np.ndarray) -> np.ndarray:
    """A map from its least to its largest number, in [0, 1]."""
    low, high = float(one.min()), float(one.max())
    return (one - low) / (high - low) if high > low else np.zeros_like(one)


def _boxed(image: np.ndarray, place: np.ndarray, map_shape: tuple[int, int]) -> np.ndarray:
    """An image with a frame around a place of a map: at least a quarter of a side wide."""
    drawn = figures.pixels(image).copy()
    edges = []
    for position, count, length in zip(place, map_shape, drawn.shape[:2], strict=True):
        centre, half = (position + 0.5) * length / count, max(length / count, length / 4) / 2
        first = int(np.clip(round(centre - half), 0, length - 1))
        edges.append((first, int(np.clip(round(centre + half) - 1, first, length - 1))))
    (top, bottom), (left, right) = edges
    for line, value in ((0, 255), (1, 0)) if min(drawn.shape[:2]) >= _TWO_LINES else ((0, 255),):
        rows = slice(top + line, bottom + 1 - line)
        columns = slice(left + line, right + 1 - line)
        drawn[[top + line, bottom - line], columns] = value
        drawn[rows, [left + line, right - line]] = value
    return drawn
