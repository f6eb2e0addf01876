"""Figures of what single channels of a network respond to."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vitjax import figures
from vitjax.analysis import subjects, units
from vitjax.analysis.networks import image_batches, spaced
from vitjax.analysis.opened import Opened
from vitjax.analysis.subjects import Subject
from vitjax.analysis.units import Exciting
from vitjax.core.atomic import write_json
from vitjax.core.errors import ConfigError
from vitjax.core.file_lists import find_images
from vitjax.core.text import Say
from vitjax.core.validation import NonNegativeInt, PositiveInt, check_value
from vitjax.data import DataError
from vitjax.data.dataset import Dataset
from vitjax.meta.episodic import Episodic
from vitjax.models.protocol import Model
from vitjax.tasks.output import OutputFolder, result_names
from vitjax.tasks.reading import BATCH, check_heads, check_shape, read_ahead, stacked
from vitjax.training import checks, finite, runs

RESULTS = "units.json"
KERNELS, EXCITING, MAXIMISED = "kernels.png", "exciting.png", "maximised.png"
_OWN = (KERNELS, EXCITING, MAXIMISED)
# The most images of one figure.
_MOST = 64
_CHANNELS = 8


def look(
    workdir: str | Path | None,
    output: str | Path,
    files: Any = (),
    overrides: Sequence[str] = (),
    *,
    model: str | None = None,
    data: Any = None,
    layer: str | None = None,
    channels: Sequence[int] | None = None,
    split: str | None = None,
    examples: int = 1024,
    count: int = 8,
    steps: int = 256,
    seed: int = 0,
    checkpoint: str | int | None = None,
    overwrite: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Draws the first kernels of a network, and what channels of a layer respond to.

    Writes `KERNELS`, unless the network has none; `EXCITING`, the images that excite each channel
    most, with a box around the place; `MAXIMISED`, images that maximise the channels; the feature
    maps of each of ``files``; and `RESULTS`.

    Args:
        workdir: a run's folder; None for the weights of a file, with ``model`` and ``checkpoint``.
        output: the folder to write to.
        files: images whose feature maps are drawn: paths of files, folders and wildcards.
        overrides: ``--config.key=value`` arguments on the run's config.
        model: one of `vitjax.models.names`.
        data: the images that are tried, in the same way; None for those of a split of the run's
            data, and for none if the weights are of a file.
        layer: a sown value with positions; None for the last one.
        channels: of the layer, at most 64; None for the first 8.
        split: of a run, whose images are tried; None for ``"test"``.
        examples: how many images are tried, at most, evenly spaced.
        count: images for each channel, at most; at most 64 are drawn in all.
        steps: of the maximisation; 0 for none.
        seed: of the maximisation.
        checkpoint: of a run ``"best"``, ``"last"`` or a step; otherwise the file.
        overwrite: whether files in ``output`` that no earlier command wrote may be replaced.
        say: receives progress messages.

    Returns:
        The contents of `RESULTS`.

    Raises:
        WorkdirError, CheckpointError: the folder holds no run, or no such checkpoint.
        WeightsError: the file cannot be read, or does not fit the model.
        ConfigError: the run has no images, or there is no such layer, channel or split.
        DataError: an image cannot be read.
        NotFiniteError: the network gives NaN. After an error nothing is written.
    """
    if isinstance(channels, Iterable):
        channels = np.asarray(list(channels)).tolist()
    for value, kind, name in (
        (examples, PositiveInt, "--examples"),
        (count, PositiveInt, "--count"),
        (steps, NonNegativeInt, "--steps"),
        (seed, NonNegativeInt, "--seed"),
        (channels, Sequence[NonNegativeInt] | None, "--channels"),
    ):
        check_value(value, kind, name)
    if channels is not None and not 1 <= len(channels) <= _MOST:
        raise ConfigError(f"--channels: 1 to {_MOST} channels can be drawn, not {len(channels)}")
    if channels is not None and len(set(channels)) < len(channels):
        raise ConfigError(f"--channels={','.join(map(str, channels))}: one is given twice")
    subjects.check_source("units", workdir, overrides, model, checkpoint)
    if split is not None and (data is not None or workdir is None):
        other = "--data" if data is not None else f"--model={model}"
        raise ConfigError(f"units: --split={split} is of the data of a run, not for {other}")
    folder = OutputFolder(output, overwrite=overwrite)
    found = find_images(files, say=say, apart_from=folder.written) if files else []
    tried_files = None
    if data is not None:
        every = find_images(data, say=say, apart_from=folder.written)
        tried_files = [every[number] for number in spaced(len(every), examples)]
    tried: _Tried | None = None
    if workdir is None:
        subject = subjects.of_file(str(model), str(checkpoint), say=say)
        origin: dict[str, Any] = {"model": model, "checkpoint": str(checkpoint)}
    else:
        experiment, placed, step = runs.load(
            workdir, overrides, checkpoint=checkpoint, with_data=tried_files is None, say=say
        )
        if isinstance(experiment.objective, Episodic):
            raise ConfigError(
                f"units: {workdir} is a run of few-shot learning, whose channels change as it"
                " adapts; write its weights to a file by vitjax export, and give --model and"
                " --checkpoint"
            )
        subject = subjects.of_run(experiment, experiment.parallel.fetch(placed))
        origin = {"workdir": str(workdir), "step": step}
        if tried_files is None:
            tried = _of_split(experiment.data, "test" if split is None else split, examples)
    if tried_files is not None:
        tried = _of_files(subject, tried_files)
    layer, channels = _chosen(subject, layer, channels)
    for images in (found, tried_files or []):
        if images:
            check_heads(images, subject.max_pixels, hint="")
            check_shape(subject.read, images)
    names = [f"{stem}.png" for stem in result_names([(file, "") for file in found])]
    for file, name in zip(found, names, strict=True):
        if name in _OWN:
            raise ConfigError(
                f"units: {file} has the name of a figure that the command writes; give it another"
            )
    folder.check([*names, *_OWN, RESULTS])

    # Everything is computed before the first file is written.
    network, variables = next(iter(subject.networks.values()))
    kernels = {}
    with contextlib.suppress(ConfigError):  # a network without kernels, such as a deep encoder's
        kernels = units.first_kernels(network, variables)
    exciting = maximised = None
    if tried is not None:
        exciting = units.most_exciting(
            network, variables, map(subject.normalize, tried.batches()),
            channels, layer, min(count, _MOST // len(channels)),
        )  # fmt: skip
        finite.check_outputs(exciting.values, f"layer {layer}", network)
        shown = tried.images_at({int(number) for number in exciting.examples.flat})
    if steps:
        maximised = _maximised(subject, network, variables, channels, layer, steps, seed)
        finite.check_outputs(np.asarray(maximised[1]), f"layer {layer}", network)
    feature_maps = [_feature_maps(subject, network, variables, file, layer) for file in found]
    for file, (_, maps) in zip(found, feature_maps, strict=True):
        finite.check_outputs(maps, f"{file}: layer {layer}", network)

    folder.discard(_OWN)  # of an earlier command: not all of them are written again
    if kernels:
        drawn = [_signed(each) for group in kernels.values() for each in group]
        _draw(folder, KERNELS, drawn, None, ", ".join(kernels))
    rows: list[dict[str, Any]] = [{"channel": channel} for channel in channels]
    if tried is not None and exciting is not None:
        for i, row in enumerate(rows):
            row["examples"] = [tried.names[number] for number in exciting.examples[i]]
            row |= {"values": exciting.values[i].tolist(), "places": exciting.places[i].tolist()}
        whose = "images" if tried.split is None else f"images of {tried.split}"
        _draw_exciting(
            folder, exciting, shown, channels, f"{layer}: {whose} that excite each channel most"
        )
    if maximised is not None:
        drawn, means = maximised
        for row, mean in zip(rows, means, strict=True):
            row["maximum"] = mean
        titles = [f"channel {c}\n{mean:.3g}" for c, mean in zip(channels, means, strict=True)]
        _draw(folder, MAXIMISED, drawn, titles, f"{layer}: images that maximise each channel")
    for name, file, (image, maps) in zip(names, found, feature_maps, strict=True):
        drawn = [image, *(_scaled(maps[..., channel]) for channel in channels)]
        titles = ["image", *(f"channel {channel}" for channel in channels)]
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        _draw(folder, name, drawn, titles, f"{Path(file).name}: {layer}")
    results = {
        **origin,
        "layer": layer,
        "split": None if tried is None else tried.split,
        "channels": rows,
    }
    with folder.writing(RESULTS) as path:
        write_json(path, results)
    return results


class _Tried(NamedTuple):
    """Images that may excite a channel.

    Attributes:
        batches: reads all of them, before normalisation.
        images_at: reads those with certain numbers.
        names: of each: its number in the split, or its file.
        split: whose they are; None for files.
    """

    batches: Callable[[], Iterable[np.ndarray]]
    images_at: Callable[[set[int]], dict[int, np.ndarray]]
    names: Sequence[int | str]
    split: str | None


def _of_split(data: Dataset, split: str, most: int) -> _Tried:
    checks.split(split, data.splits)

    def batches() -> Iterator[np.ndarray]:
        return (images for (images,) in image_batches([data], split, most))

    def images_at(wanted: set[int]) -> dict[int, np.ndarray]:
        images = itertools.chain.from_iterable(batches())
        return {number: image for number, image in enumerate(images) if number in wanted}

    return _Tried(batches, images_at, spaced(data.num_examples(split), most).tolist(), split)


def _of_files(subject: Subject, files: Sequence[str]) -> _Tried:
    def batches() -> Iterator[np.ndarray]:
        images = read_ahead(subject.read, files)
        start, first = 0, None
        while batch := list(itertools.islice(images, BATCH)):
            first = batch[0] if first is None else first
            for number, image in enumerate(batch, start):
                if image.shape != first.shape:
                    sizes = ("x".join(map(str, each.shape[:2])) for each in (image, first))
                    raise DataError(
                        f"{files[number]} has {next(sizes)} pixels as the model sees it, and"
                        f" {files[0]} {next(sizes)}; images that are tried must have one size"
                    )
            yield stacked(batch)
            start += len(batch)

    def images_at(wanted: set[int]) -> dict[int, np.ndarray]:
        return {number: subject.read(files[number]) for number in wanted}

    return _Tried(batches, images_at, files, None)


def _chosen(
    subject: Subject, layer: str | None, channels: Sequence[int] | None
) -> tuple[str, Sequence[int]]:
    """The layer and its channels, by default the last map and the first ones.

    Raises:
        ConfigError: there is no such layer or channel.
    """
    model, variables = next(iter(subject.networks.values()))
    assert subject.image_shape is not None  # neither a run nor a file of weights lacks it
    name = Opened(model).default_layer() if layer is None else layer
    example = jax.ShapeDtypeStruct((1, *subject.image_shape), jnp.float32)
    maps = jax.eval_shape(lambda v, x: units.feature_maps(model, v, x, name), variables, example)
    if channels is None:
        channels = range(min(_CHANNELS, maps.shape[-1]))
    units.check_channels(channels, maps.shape[-1])
    return name, channels


def _feature_maps(
    subject: Subject, model: Model, variables: Any, file: Any, layer: str
) -> tuple[np.ndarray, np.ndarray]:
    """An image file as the model sees it before normalisation, and its maps."""
    image = subject.read(file)
    batch = jnp.asarray(subject.normalize(stacked([image])))
    return image, np.asarray(units.feature_maps(model, variables, batch, layer)[0], np.float32)


def _maximised(
    subject: Subject,
    model: Model,
    variables: Any,
    channels: Sequence[int],
    layer: str,
    steps: int,
    seed: int,
) -> tuple[list[np.ndarray], list[float]]:
    """Images that maximise channels, as they are drawn, and the means of the channels."""
    assert subject.image_shape is not None
    height, width, depth = subject.image_shape
    black, white = (
        np.asarray(subject.normalize(np.full((1, 1, 1, depth), value, np.float32)))[0, 0, 0]
        for value in (0, 1)
    )
    images, means = units.maximise(
        model, variables, (height, width, depth), channels, layer,
        key=jax.random.key(seed), bounds=(black, white), steps=steps,
    )  # fmt: skip
    drawn = (np.asarray(images) - black) / (white - black)
    return list(drawn), [float(mean) for mean in means]


def _draw(
    folder: OutputFolder,
    name: str,
    images: Sequence[np.ndarray],
    titles: Sequence[str] | None,
    heading: str,
    columns: int | None = None,
) -> None:
    with folder.writing(name) as path:
        figures.image_grid(images, titles, path, heading=heading, columns=columns)


def _draw_exciting(
    folder: OutputFolder,
    exciting: Exciting,
    images: Mapping[int, np.ndarray],
    channels: Sequence[int],
    heading: str,
) -> None:
    """A row of images per channel, with a frame around the place of each."""
    drawn, titles = [], []
    for channel, numbers, values, places in zip(
        channels, exciting.examples, exciting.values, exciting.places, strict=True
    ):
        titles += [f"channel {channel}\n{value:.3g}" for value in values]
        drawn += [
            _boxed(images[int(number)], place, exciting.map_shape)
            for number, place in zip(numbers, places, strict=True)
        ]
    _draw(folder, EXCITING, drawn, titles, heading, columns=exciting.examples.shape[1])


def _signed(kernel: np.ndarray) -> np.ndarray:
    """A kernel in [0, 1], with 0 in the middle."""
    return 0.5 + kernel / max(float(np.abs(kernel).max()), float(np.finfo(np.float32).tiny)) / 2


def _scaled(one: np.ndarray) -> np.ndarray:
    """A map from its least to its largest number, in [0, 1]."""
    low, high = float(one.min()), float(one.max())
    return (one - low) / (high - low) if high > low else np.zeros_like(one)


def _boxed(image: np.ndarray, place: np.ndarray, map_shape: tuple[int, int]) -> np.ndarray:
    """An image with a frame around a place of a map: at least a quarter of a side wide."""
    edges = []
    for position, count in zip(place, map_shape, strict=True):
        centre, half = (position + 0.5) / count, max(1 / count, 1 / 4) / 2
        edges.append((max(0.0, centre - half), min(1.0, centre + half)))
    rows, columns = edges
    return figures.framed(image, rows, columns)
