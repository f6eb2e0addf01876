"""Maps of what a run's model looks at in image files, with how faithful they are."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vitjax import figures
from vitjax.analysis import faithfulness
from vitjax.analysis.attribution import Map
from vitjax.analysis.methods import Method, method
from vitjax.core.atomic import new_file
from vitjax.core.errors import ConfigError
from vitjax.core.file_lists import find_images
from vitjax.core.text import Say, near_match, quoted
from vitjax.data.any_image import AnyImage, name_of
from vitjax.objectives import Classifier
from vitjax.objectives.interfaces import Segmenter
from vitjax.tasks.output import OutputFolder, result_names
from vitjax.tasks.reading import check_heads, check_shape, some, stacked
from vitjax.training import runs
from vitjax.training.experiment import Experiment

# What the areas of methods are compared with.
BASELINES = ("centre", "random")
RESULTS = "explanations.json"
TOP, TRUE = "top", "true"


@dataclasses.dataclass(frozen=True)
class Explanation:
    """The maps of one image for one class.

    Attributes:
        image: the name of the image.
        class_name: the class that is explained.
        probability: of that class; of a segmentation, the fraction of its pixels.
        maps: (height, width) of the model's input, by method.
        areas: the areas below the curves of ``"deletion"`` and ``"insertion"`` by method, and of
            `BASELINES`; empty if they were not asked for.
        seconds: of each map; the first image's have the time of compilation too.
    """

    image: str
    class_name: str
    probability: float
    maps: Mapping[str, Float[np.ndarray, "height width"]]
    areas: Mapping[str, Mapping[str, float]]
    seconds: Mapping[str, float]

    def summary(self) -> dict[str, Any]:
        """Everything but the maps, as JSON values."""
        values = dataclasses.asdict(self)
        del values["maps"]
        return values


class Explainer:
    """A run's model, ready to explain what it says of images.

    Attributes:
        class_names: the names of the model's outputs.
        methods: those that are used.
    """

    def __init__(
        self,
        experiment: Experiment,
        variables: Any,
        methods: Sequence[str] = ("grad_cam",),
        *,
        layer: str | None = None,
        options: Mapping[str, Any] | None = None,
        faithful: bool | None = None,
    ):
        """Checks the methods and compiles nothing yet.

        Args:
            experiment: of a classification or a segmentation.
            variables: those of its objective, one copy.
            methods: names of `vitjax.analysis.methods.METHODS`.
            layer: the layer that is explained by, for the methods that take one.
            options: further keywords of a single method.
            faithful: measure deletion and insertion, of a classification; None does so for
                several methods.

        Raises:
            ConfigError: an unknown method or option, or the run's model has no classes of images.
        """
        objective = experiment.objective
        self._segments = isinstance(objective, Segmenter)
        if not isinstance(objective, Classifier | Segmenter):
            raise ConfigError(
                f"explain: the run's objective {type(objective).__name__} does not classify images"
                " or their pixels"
            )
        if faithful and self._segments:
            raise ConfigError(
                "explain: deletion and insertion are of the probability of an image's class, which"
                " a segmentation does not have"
            )
        if len(methods) > 1 and options:
            raise ConfigError(f"explain: options ({', '.join(options)}) are of a single method")
        self.methods: list[Method] = [method(name) for name in methods]
        self.class_names = experiment.task.class_names
        self._model = objective.model
        self._variables = objective.unwrap(variables)
        self._data = experiment.data
        several = len(methods) > 1 and not self._segments
        self._faithful = several if faithful is None else faithful
        self._outputs = jax.jit(lambda v, images: self._model.apply(v, images))
        self._functions = {
            each.name: each.of(self._model, **self._keywords(each, layer, options or {}))
            for each in self.methods
        }

    def explanations(
        self, images: Sequence[AnyImage], target: str = TOP
    ) -> Iterator[tuple[np.ndarray, Explanation]]:
        """Yields each image as the model sees it, before normalisation, and its explanation.

        Args:
            images: files, Pillow images or arrays.
            target: the name of a class; `TOP` for the most probable one (of a segmentation, the one
                with most pixels); `TRUE` for the class that the folder of a file is called by.

        Raises:
            DataError: an image cannot be read.
            ConfigError: there is no such class, or a folder has no name of a class.
        """
        for number, image in enumerate(images):
            read = self._data.read_image(image)
            batch = jnp.asarray(self._data.normalize(stacked([read])))
            likely = self._likely(batch)
            name = name_of(image, number)
            index = self._index(target, likely, name)
            classes = jnp.array([index])
            maps, seconds = {}, {}
            for each, function in self._functions.items():
                start = time.perf_counter()
                found = np.asarray(function(self._variables, batch, classes), np.float32)
                seconds[each] = time.perf_counter() - start
                maps[each] = found[0]
            areas = self._areas(batch, maps, classes) if self._faithful else {}
            yield (
                read,
                Explanation(
                    name, self.class_names[index], float(likely[index]), maps, areas, seconds
                ),
            )

    def _keywords(
        self, each: Method, layer: str | None, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        keywords = dict(options)
        if layer is None:
            return keywords
        if "layer" in each.options:
            keywords["layer"] = _number(layer) if each.name == "attention" else layer
        elif len(self.methods) == 1:
            raise ConfigError(f"layer={layer!r}: {each.name} does not read a layer")
        return keywords

    def _likely(self, batch: Any) -> np.ndarray:
        """The probability of each class for one image, or the fraction of its pixels."""
        outputs = self._outputs(self._variables, batch)[0]
        if not self._segments:
            return np.asarray(jax.nn.softmax(outputs.astype(jnp.float32)))
        counts = np.bincount(np.asarray(outputs.argmax(-1)).ravel(), minlength=outputs.shape[-1])
        return counts / counts.sum()

    def _index(self, target: str, likely: np.ndarray, image: str) -> int:
        if target == TOP:
            return int(likely.argmax())
        return self.index_in_folder(image) if target == TRUE else self.index_of(target)

    def index_in_folder(self, image: str) -> int:
        """The number of the class that the folder of a file is called by.

        Raises:
            ConfigError: the folder has no name of a class.
        """
        folder = Path(image).absolute().parent.name
        if folder not in self.class_names:
            raise ConfigError(
                f"{image}: class=true takes the folder {quoted(folder)} for the class, which is"
                f" none of the run's{near_match(folder, self.class_names)}"
            )
        return self.class_names.index(folder)

    def index_of(self, name: str) -> int:
        """The number of a class.

        Raises:
            ConfigError: there is no such class; the message gives the near match.
        """
        if name not in self.class_names:
            raise ConfigError(
                f"class {quoted(name)} is none of the {len(self.class_names)} classes of the run"
                f"{near_match(name, self.class_names)}; or use {TOP} or {TRUE}"
            )
        return self.class_names.index(name)

    def _areas(
        self, batch: Any, maps: Mapping[str, np.ndarray], classes: Any
    ) -> dict[str, dict[str, float]]:
        """The areas of all maps at once, and those of the baselines."""
        shape = batch.shape[1:3]
        noise = np.random.default_rng(0).random(shape)
        judged = {**maps, "centre": faithfulness.centre_gaussian(*shape), "random": noise}
        stacked_maps: Map = jnp.asarray(np.stack(list(judged.values())))
        images = jnp.broadcast_to(batch, (len(judged), *batch.shape[1:]))
        index = jnp.broadcast_to(classes, len(judged))
        curves = {
            name: function(self._model, self._variables, images, stacked_maps, index)
            for name, function in (
                ("deletion", faithfulness.deletion),
                ("insertion", faithfulness.insertion),
            )
        }
        return {
            each: {name: float(curve.areas[i]) for name, curve in curves.items()}
            for i, each in enumerate(judged)
        }


def _number(layer: str) -> int:
    try:
        return int(layer)
    except ValueError:
        raise ConfigError(
            f"layer={layer!r}: attention takes the number of a layer, from 0, or from the end if"
            " negative"
        ) from None


def explain(
    workdir: str | Path,
    files: Any,
    methods: Sequence[str] = ("grad_cam",),
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    target: str = TOP,
    layer: str | None = None,
    faithful: bool | None = None,
    checkpoint: str | int | None = None,
    overwrite: bool = False,
    say: Say = print,
    **options: Any,
) -> list[Explanation]:
    """Explains what a run's model says of image files.

    Args:
        workdir: the run's folder.
        files: as of `vitjax.predict`.
        methods: names of `vitjax.analysis.methods.METHODS`.
        output: a folder for a figure and an ``.npz`` file of maps per image, and for `RESULTS`.
        overrides: ``--config.key=value`` arguments on the run's config.
        target: see `Explainer.explanations`.
        layer: see `Explainer`.
        faithful: see `Explainer`.
        checkpoint: ``"best"``, ``"last"`` or a step.
        overwrite: whether files in ``output`` that no earlier command wrote may be replaced.
        say: receives what was loaded.
        **options: keywords of the method, if it is a single one.

    Raises:
        WorkdirError, CheckpointError: the folder holds no run, or no such checkpoint.
        ConfigError: an unknown method, option, layer or class; a path does not exist.
        DataError: an image cannot be read. Nothing is written then.
    """
    for name in methods:
        method(name)
    folder = None if output is None else OutputFolder(output, overwrite=overwrite)
    found = some(find_images(files, say=say, apart_from=() if folder is None else folder.written))
    overrides = ("--config.parallel=None", *overrides)
    experiment, placed, _ = runs.load(
        workdir, overrides, checkpoint=checkpoint, with_data=False, say=say
    )
    variables = experiment.parallel.fetch(placed)
    explainer = Explainer(
        experiment, variables, methods, layer=layer, options=options, faithful=faithful
    )
    if target == TRUE:
        for file in found:
            explainer.index_in_folder(str(file))
    elif target != TOP:
        explainer.index_of(target)
    check_heads(found, experiment.data.max_pixels)
    check_shape(experiment.data.read_image, found)
    stems = result_names([(str(file), "") for file in found])
    if folder is not None:
        names = [f"{stem}{end}" for stem in stems for end in (".png", ".npz")]
        folder.check([*names, RESULTS])
    results = []
    for stem, (image, each) in zip(stems, explainer.explanations(found, target), strict=True):
        results.append(each)
        if folder is not None:
            _write(folder, stem, image, each)
    if folder is not None:
        with folder.writing(RESULTS) as path, new_file(path) as unfinished:
            unfinished.write_text(json.dumps([each.summary() for each in results], indent=1))
    return results


def _write(folder: OutputFolder, stem: str, image: np.ndarray, each: Explanation) -> None:
    (folder.path / stem).parent.mkdir(parents=True, exist_ok=True)
    maps: dict[str, Any] = dict(each.maps)
    with (
        folder.writing(f"{stem}.npz") as path,
        new_file(path) as unfinished,
        open(unfinished, "wb") as file,
    ):
        np.savez_compressed(file, **maps)
    with folder.writing(f"{stem}.png") as path:
        heading = f"{Path(each.image).name}: {each.class_name} {each.probability:.1%}"
        figures.explanation(image, each.maps, path, heading=heading)
