"""Maps of what networks look at in images, with how faithful they are."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from vitjax.analysis import faithfulness, object_masks
from vitjax.analysis.attribution import Map
from vitjax.analysis.faithfulness import Randomised
from vitjax.analysis.methods import Method, chosen
from vitjax.analysis.subjects import ONLY, Subject
from vitjax.core.atomic import finite as json_values
from vitjax.core.errors import ConfigError
from vitjax.core.text import Say, near_match, quoted, say_nothing, shortened
from vitjax.data.any_image import AnyImage, name_of
from vitjax.models.protocol import Model
from vitjax.tasks.reading import stacked
from vitjax.training import finite
from vitjax.training.progress import Counter, Progress

Value = TypeVar("Value")

# What the measures of methods are compared with.
BASELINES = ("centre", "random")
TOP, TRUE = "top", "true"
# Maps of a cascade: of more layers, evenly spaced ones are made random.
_MOST_COLUMNS = 8
# Pixels by which a point may miss an object, of an image with so many on its shorter side.
_TOLERANCE, _SIDE = 15, 224


@dataclasses.dataclass(frozen=True)
class Explanation:
    """The maps of one image for one class.

    Maps of one network are named by their method. Those of a few-shot run are named
    ``METHOD_initial`` and ``METHOD_adapted``, by the weights before and after adaptation.

    Attributes:
        image: the name of the image.
        class_name: the class that is explained.
        probability: of that class; of a segmentation, the fraction of its pixels.
        maps: (height, width) of the model's input, by name.
        areas: the areas below the curves of ``"deletion"`` and ``"insertion"`` by name of the map,
            and of `BASELINES`; empty if they were not asked for.
        seconds: of each map; the first image's have the time of compilation too.
        initial_probability: of the class before adaptation; None where nothing adapts.
        pointing: whether the largest number lies in the object of the mask, by name of the map and
            of `BASELINES`; empty without masks.
        randomised: the maps of each name as layer after layer becomes random; empty if they were
            not asked for.
    """

    image: str
    class_name: str
    probability: float
    maps: Mapping[str, Float[np.ndarray, "height width"]]
    areas: Mapping[str, Mapping[str, float]]
    seconds: Mapping[str, float]
    initial_probability: float | None = None
    pointing: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    randomised: Mapping[str, Sequence[Randomised]] = dataclasses.field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Everything but the maps, as JSON values; of random layers the rank correlations.

        Numbers that are not finite, such as the correlation of a constant map, are None.
        """
        left_out = ("maps", "randomised")
        fields = [field.name for field in dataclasses.fields(self) if field.name not in left_out]
        correlations = {
            name: [
                {
                    "random_layers": each.layers,
                    "of": each.groups,
                    "rank_correlation": float(each.similarities[0]),
                }
                for each in found
            ]
            for name, found in self.randomised.items()
        }
        values = {name: getattr(self, name) for name in fields}
        found: dict[str, Any] = json_values({**values, "randomised": correlations})
        return found


class Explainer:
    """Networks that are ready to be explained.

    >>> subject = subjects.of_file("resnet50", "resnet50.safetensors", "imagenet.txt")
    >>> explainer = Explainer(subject, ["grad_cam", "shap"])
    >>> for image, explanation in explainer.explanations(["cat.jpg"]):
    ...     print(explanation.class_name, explanation.maps["shap"].shape)

    Attributes:
        subject: what is explained.
        class_names: the names of the outputs.
        methods: those that are used.
    """

    def __init__(
        self,
        subject: Subject,
        methods: str | Sequence[str] = ("grad_cam",),
        *,
        layer: str | None = None,
        options: Mapping[str, Any] | None = None,
        faithful: bool | None = None,
        randomise: bool = False,
        say: Say = say_nothing,
    ):
        """Checks the methods and compiles nothing yet.

        Args:
            subject: networks, their classes and what reads images.
            methods: one or several names of `vitjax.analysis.methods.METHODS`.
            layer: the layer that is explained by, for the methods that take one.
            options: further keywords of a single method.
            faithful: measure deletion and insertion, of a classification; None does so for
                several methods.
            randomise: also make the maps of networks whose layers become random.
            say: receives how far the maps are, and the progress of methods that take long.

        Raises:
            ConfigError: an unknown method or option, a package is missing, or the layers of a model
                that are to become random have no order.
        """
        self.methods: list[Method] = chosen(methods)
        if not isinstance(options, Mapping | None):
            raise ConfigError(f"explain: options is {quoted(options)}; it must be a dictionary")
        if len(self.methods) > 1 and options:
            raise ConfigError(f"explain: options ({', '.join(options)}) are of a single method")
        self.subject = subject
        self.class_names = list(subject.class_names)
        self._several = len(self.methods) > 1
        self._say = say
        self._faithful = faithful
        self._randomise = randomise
        keywords = {each.name: self._keywords(each, layer, options or {}) for each in self.methods}
        self._explained: list[_Explained] = []
        for network, (model, variables) in subject.networks.items():
            random = 0
            if randomise:
                groups = set(faithfulness.layer_groups(model, variables).values())
                random = min(_MOST_COLUMNS, len(groups) + 1)
            functions = {
                _title(each, network): each.of(model, say, **keywords[each.name])
                for each in self.methods
            }
            outputs = jax.jit(model.apply)
            self._explained.append(_Explained(model, variables, outputs, functions, random))

    def explanations(
        self,
        images: Iterable[AnyImage],
        target: str = TOP,
        masks: Sequence[Bool[np.ndarray, "height width"]] | None = None,
    ) -> Iterator[tuple[np.ndarray, Explanation]]:
        """Yields each image as the model sees it, before normalisation, and its explanation.

        Args:
            images: files, Pillow images or arrays.
            target: the name of a class; `TOP` for the most probable one (of a segmentation, the one
                with most pixels); `TRUE` for the class that the folder of a file is called by.
            masks: where the object of each image is, at the size that the image has as it is read
                here; for the pointing game.

        Raises:
            DataError: an image cannot be read.
            ConfigError: there is no such class, or a folder has no name of a class; deletion and
                insertion are asked for of a segmentation; or there is not a mask with an object for
                each image, at the size that the image has.
            NotFiniteError: the network gives NaN for an image, or a method gives a map of NaN.
        """
        images = list(images)
        if masks is not None:
            object_masks.check(masks, len(images))
        total = len(images) * sum(
            len(each.functions) * (1 + each.random) for each in self._explained
        )
        with Progress(self._say).counting(total, "explaining", ("map", "maps")) as count:
            yield from self._each(images, target, masks, count)

    def _each(
        self,
        images: Sequence[AnyImage],
        target: str,
        masks: Sequence[Bool[np.ndarray, "height width"]] | None,
        count: Counter,
    ) -> Iterator[tuple[np.ndarray, Explanation]]:
        for number, image in enumerate(images):
            read = self.subject.read(image)
            batch = jnp.asarray(self.subject.normalize(stacked([read])))
            outputs = [each.outputs(each.variables, batch)[0] for each in self._explained]
            name = name_of(image, number)
            for each, values in zip(self._explained, outputs, strict=True):
                finite.check_outputs(
                    np.asarray(values, np.float32),
                    f"{name}: the {type(each.model).__name__}",
                    each.model,
                )
            faithful = self._measures(segments=outputs[-1].ndim > 1)
            likely = [_probabilities(each) for each in outputs]
            index = self._index(target, likely[-1], image, name)
            classes = jnp.array([index])
            maps: dict[str, np.ndarray] = {}
            seconds: dict[str, float] = {}
            areas: dict[str, dict[str, float]] = {}
            randomised: dict[str, list[Randomised]] = {}
            for each in self._explained:
                own = {}
                for title, function in each.functions.items():
                    start = time.perf_counter()
                    found = np.asarray(function(each.variables, batch, classes), np.float32)
                    seconds[title] = time.perf_counter() - start
                    finite.check_outputs(found, f"{name}: {title}", each.model)
                    own[title] = found[0]
                    count(1)
                maps |= own
                judged = {**own, **_baselines(own)} if each is self._explained[-1] else own
                if faithful:
                    areas |= _areas(each, batch, judged, classes)
                if self._randomise:
                    randomised |= _cascades(each, batch, classes, count)
            pointing = (
                {} if masks is None else _pointing({**maps, **_baselines(maps)}, masks[number])
            )
            yield (
                read,
                Explanation(
                    name,
                    self.class_names[index],
                    float(likely[-1][index]),
                    self._ordered(maps),
                    self._ordered(areas),
                    self._ordered(seconds),
                    float(likely[0][index]) if len(likely) > 1 else None,
                    self._ordered(pointing),
                    self._ordered(randomised),
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

    def _ordered(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Values by the name of maps, those of a method together; then the baselines."""
        titles = [_title(each, name) for each in self.methods for name in self.subject.networks]
        return {name: values[name] for name in (*titles, *BASELINES) if name in values}

    def _measures(self, segments: bool) -> bool:
        """Whether deletion and insertion are measured."""
        if self._faithful and segments:
            raise ConfigError(
                "explain: deletion and insertion are of the probability of an image's class, which"
                " a segmentation does not have"
            )
        return not segments and (self._several if self._faithful is None else self._faithful)

    def _index(self, target: str, likely: np.ndarray, image: AnyImage, name: str) -> int:
        if target == TOP:
            return int(likely.argmax())
        if target != TRUE:
            return self.index_of(target)
        if not isinstance(image, str | os.PathLike):
            raise ConfigError(f"{name}: class=true is of files, whose folder names their class")
        return self.index_in_folder(image)

    def index_in_folder(self, image: str | os.PathLike[str]) -> int:
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
            known = shortened(self.class_names, 10)
            raise ConfigError(
                f"class {quoted(name)} is none of the {len(self.class_names)} classes of the model"
                f"{near_match(name, self.class_names)} (known: {known}; or {TOP} or {TRUE})"
            )
        return self.class_names.index(name)


@dataclasses.dataclass(frozen=True)
class _Explained:
    """A network with its maps, by name."""

    model: Model
    variables: Any
    outputs: Callable[..., Any]
    functions: Mapping[str, Callable[..., Map]]
    random: int  # maps of each function in a cascade; 0 for none


def _title(method: Method, network: str) -> str:
    """The name of a map: of the method, and of the network if there are several."""
    return method.name if network == ONLY else f"{method.name}_{network}"


def _probabilities(outputs: Any) -> np.ndarray:
    """The probability of each class for one image, or the fraction of its pixels."""
    if outputs.ndim == 1:
        return np.asarray(jax.nn.softmax(outputs.astype(jnp.float32)))
    counts = np.bincount(np.asarray(outputs.argmax(-1)).ravel(), minlength=outputs.shape[-1])
    return counts / counts.sum()


def _baselines(maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Maps that know nothing of the network, of the size of the others."""
    shape = next(iter(maps.values())).shape
    found = faithfulness.centre_gaussian(*shape), np.random.default_rng(0).random(shape)
    return dict(zip(BASELINES, found, strict=True))


def _areas(
    each: _Explained, batch: Any, maps: Mapping[str, np.ndarray], classes: Any
) -> dict[str, dict[str, float]]:
    """The areas of all maps of a network at once."""
    together: Map = jnp.asarray(np.stack(list(maps.values())))
    images = jnp.broadcast_to(batch, (len(maps), *batch.shape[1:]))
    index = jnp.broadcast_to(classes, len(maps))
    curves = {
        name: function(each.model, each.variables, images, together, index)
        for name, function in (
            ("deletion", faithfulness.deletion),
            ("insertion", faithfulness.insertion),
        )
    }
    return {
        title: {name: float(curve.areas[i]) for name, curve in curves.items()}
        for i, title in enumerate(maps)
    }


def _cascades(
    each: _Explained, batch: Any, classes: Any, count: Counter
) -> dict[str, list[Randomised]]:
    """The maps of a network as its layers become random."""
    key = jax.random.key(0)
    found: dict[str, list[Randomised]] = {}
    for title, function in each.functions.items():

        def of_weights(variables: Any, images: Any, function: Any = function) -> Map:
            return function(variables, images, classes)

        found[title] = []
        for one in faithfulness.cascade(
            each.model, each.variables, batch, of_weights, key, _MOST_COLUMNS
        ):
            found[title].append(one)
            count(1)
    return found


def _pointing(maps: Mapping[str, np.ndarray], mask: np.ndarray) -> dict[str, bool]:
    """Whether maps point into an object."""
    tolerance = round(_TOLERANCE * min(mask.shape) / _SIDE)
    masks = jnp.asarray(np.broadcast_to(mask, (len(maps), *mask.shape)))
    together: Map = jnp.asarray(np.stack(list(maps.values())))
    hits = faithfulness.pointing_game(together, masks, tolerance)
    return dict(zip(maps, hits.tolist(), strict=True))


def _number(layer: str) -> int:
    try:
        return int(layer)
    except ValueError:
        raise ConfigError(
            f"layer={layer!r}: attention takes the number of a layer, from 0, or from the end if"
            " negative"
        ) from None
