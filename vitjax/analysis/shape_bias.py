"""Shape bias: whether networks go by shape or by texture where the two contradict each other."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from vitjax import figures
from vitjax.analysis.classifying import (
    Classes,
    aligned_table,
    check_classifier,
    folders_of,
    percent,
    result_files,
    write_results,
)
from vitjax.analysis.networks import Network, of_runs
from vitjax.core.errors import ConfigError
from vitjax.core.paths import expanded
from vitjax.core.text import Say, near_match, shortened
from vitjax.core.validation import NonNegativeInt, PositiveInt, check_value
from vitjax.data.sources.cue_folders import check_same_classes, combined
from vitjax.data.sources.folder import folder as image_folder
from vitjax.data.sources.shape_texture import CLASSES, CONFLICT, CueSplit, shape_texture
from vitjax.metrics import t_interval, wilson
from vitjax.tasks.output import OutputFolder
from vitjax.tasks.reading import read_ahead
from vitjax.training.experiment import Experiment
from vitjax.training.progress import Progress
from vitjax.training.summary import environment
from vitjax.training.task import Table

NAME = "shape_bias"
FIGURE, EXAMPLES = "shape_bias.png", "conflicts.png"
_TABLE = "classes"
_ALL = "all classes"
_PER_PAIR = 20  # drawn images of two classes
_SHOWN = 24


@dataclasses.dataclass(frozen=True)
class Decisions:
    """Counts of what a network went by, over images whose shape and texture differ.

    Attributes:
        shape: images that were given the class of their shape.
        texture: the class of their texture.
        other: another class.
    """

    shape: int
    texture: int
    other: int

    @classmethod
    def of(
        cls,
        predicted: Int[np.ndarray, "images"],
        shapes: Int[np.ndarray, "images"],
        textures: Int[np.ndarray, "images"],
    ) -> Decisions:
        """Counts the predicted classes of images by the classes of shapes and of textures."""
        shape, texture = int(np.sum(predicted == shapes)), int(np.sum(predicted == textures))
        return cls(shape, texture, len(predicted) - shape - texture)

    @property
    def bias(self) -> float:
        """Shape decisions among those for shape or texture; NaN if there are none.

        Geirhos et al. 2019, arXiv:1811.12231, Sec. 3.
        """
        decided = self.shape + self.texture
        return self.shape / decided if decided else math.nan

    def summary(self) -> dict[str, Any]:
        """The counts, the bias and its 95% interval over images, as JSON values."""
        low, high = wilson(self.shape, self.shape + self.texture)
        bias = {"value": self.bias, "low": low, "high": high}
        return {**dataclasses.asdict(self), "shape_bias": bias}


@dataclasses.dataclass(frozen=True)
class Cues:
    """Images whose cues contradict each other, and images whose cues agree, of any size.

    Attributes:
        class_names: the classes of shapes and textures.
        origin: where they come from, as JSON values.
        splits: the images for a side in pixels: those that contradict, those that agree.
    """

    class_names: tuple[str, ...]
    origin: dict[str, Any]
    splits: Callable[[int], tuple[CueSplit, CueSplit]]

    @classmethod
    def drawn(cls, examples: int | None, seed: int) -> Cues:
        """Those of the source ``shape_texture``."""
        pairs = len(CLASSES) * (len(CLASSES) - 1)
        count = pairs * _PER_PAIR if examples is None else examples

        def splits(side: int) -> tuple[CueSplit, CueSplit]:
            source = shape_texture(
                image_size=side, train=1, val=0, test=count, conflict=count, drawing=seed
            )
            return source.split(CONFLICT), source.split("test")

        return cls(tuple(CLASSES), {"source": "shape_texture", "drawing": seed}, splits)

    @classmethod
    def of_folders(cls, shapes: str, textures: str, examples: int | None, seed: int) -> Cues:
        """The shapes of one folder with the textures of another, as of ``cue_folders``.

        Of folders with splits the images of ``test`` are taken, or of the last split; else all.
        """
        one, other = (
            image_folder(path, val_fraction=0, test_fraction=0) for path in (shapes, textures)
        )
        check_same_classes(one, other, shapes, textures)
        split = "test" if "test" in one.splits else list(one.splits)[-1]

        def splits(side: int) -> tuple[CueSplit, CueSplit]:
            conflict, agreeing = (
                combined(one, other, split, side, seed=seed, agreeing=agreeing, most=examples)
                for agreeing in (False, True)
            )
            return conflict, agreeing

        origin = {"shapes": shapes, "textures": textures, "split": split, "seed": seed}
        return cls(one.class_names, origin, splits)

    def check(self, experiment: Experiment, where: str) -> None:
        """Checks that a run knows the classes.

        Raises:
            ConfigError: it is no classifier, or a class is none of its classes; the message gives
                the near match.
        """
        check_classifier(experiment, where, "shape bias")
        names = experiment.data.class_names
        missing = [name for name in self.class_names if name not in names]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ConfigError(
                f"{where}: the class {missing[0]!r}{more} of the images is none of the run's"
                f" {len(names)} classes{near_match(missing[0], names)} (the run has:"
                f" {shortened(names)}); train on the source 'shape_texture', or give folders with"
                " images of the run's classes: --shapes=DIR --textures=DIR"
            )


def shape_bias(
    workdirs: Sequence[str | Path],
    output: str | Path,
    overrides: Sequence[str] = (),
    *,
    shapes: str | Path | None = None,
    textures: str | Path | None = None,
    examples: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
    checkpoint: str | int | None = None,
    overwrite: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Measures how often networks go by shape where shape and texture contradict each other.

    Writes ``shape_bias.json``, ``shape_bias_classes.csv``, `FIGURE` and `EXAMPLES`. Images pass
    through the evaluation transforms of each run. Any class of a run may be predicted, also one
    that no image has.

    Args:
        workdirs: folders of runs that know the classes of the images.
        output: the folder to write to.
        overrides: ``--config.`` arguments for the config of each run.
        shapes: a folder of images with class folders, whose shapes are kept; None draws images.
        textures: a folder with the same class folders, whose textures are taken.
        examples: the number of images whose cues contradict, and of those whose cues agree; None
            for 20 per pair of classes, or of a folder one per shape image, which is the most.
        batch_size: images that pass through a network at once.
        seed: of the drawings, which are in no split for training, or of the choice of textures.
        checkpoint: of each run, see `vitjax.training.runs.load`.
        overwrite: whether files in ``output`` that no earlier command wrote may be replaced.
        say: receives progress messages.

    Returns:
        The contents of the JSON file. ``networks`` holds the counts of each; ``seeds`` holds, for
        runs whose configs differ in the seed alone, the mean over runs and half of its 95% t
        interval.

    Raises:
        ConfigError: no run, one of two folders, a run that does not classify images or does not
            have the classes, or a file in ``output`` that would be lost.
        DataError: the folders of images cannot be used.
        NotFiniteError: a network gives NaN.
        WorkdirError, CheckpointError: a run cannot be loaded.
    """
    folders = folders_of(workdirs, "shape-bias")
    if examples is not None:
        check_value(examples, PositiveInt, "--examples")
    check_value(batch_size, PositiveInt, "--batch-size")
    check_value(seed, NonNegativeInt, "--seed")
    if (shapes is None) != (textures is None):
        given, missing = ("shapes", "textures") if textures is None else ("textures", "shapes")
        raise ConfigError(f"--{given} needs --{missing}: a folder with the same class folders")
    folder = OutputFolder(output, overwrite=overwrite)
    folder.check([*result_files(NAME, [_TABLE]), FIGURE, EXAMPLES])
    if shapes is None or textures is None:
        cues = Cues.drawn(examples, seed)
    else:
        paths = [os.fspath(expanded(path)) for path in (shapes, textures)]
        cues = Cues.of_folders(paths[0], paths[1], examples, seed)
    networks = of_runs(
        folders,
        overrides,
        cues.check,
        checkpoint=checkpoint,
        with_data=False,
        say=say,
    )
    splits = functools.cache(cues.splits)
    found = [_measured(network, cues.class_names, splits, batch_size, say) for network in networks]
    conflict, agreeing = splits(_side(networks[0]))
    results = {
        "classes": list(cues.class_names),
        "images": {**cues.origin, "conflict": len(conflict), "agreeing": len(agreeing)},
        "networks": found,
        "seeds": _over_seeds(networks, found, cues.class_names),
        **environment(),
    }
    write_results(folder, NAME, results, {_TABLE: _table(found)})
    say("\n".join(_lines(results)))
    say(f"Results: {folder.path / NAME}.json")
    _draw(results, folder, say)
    _draw_conflicts(conflict, cues.class_names, folder, say)
    return results


def _side(network: Network) -> int:
    return min(network.experiment.data.image_shape[:2])


def _measured(
    network: Network,
    class_names: Sequence[str],
    splits: Callable[[int], tuple[CueSplit, CueSplit]],
    batch_size: int,
    say: Say,
) -> dict[str, Any]:
    data = network.experiment.data
    numbers = np.array([data.class_names.index(name) for name in class_names])
    conflict, agreeing = splits(_side(network))
    classes = Classes(network, min(batch_size, max(len(conflict), len(agreeing))))

    def predicted(split: CueSplit) -> np.ndarray:
        def read(index: int) -> np.ndarray:
            return data.read_image(split.read(index).image)

        with Progress(say).counting(len(split), network.name, ("image", "images")) as count:
            return classes(read_ahead(read, range(len(split))), count)

    shapes, textures = conflict.labels, conflict.textures
    guesses = predicted(conflict)
    right = int(np.sum(predicted(agreeing) == numbers[agreeing.labels]))
    low, high = wilson(right, len(agreeing))
    per_class = {
        name: Decisions.of(
            *(x[shapes == number] for x in (guesses, numbers[shapes], numbers[textures]))
        ).summary()
        for number, name in enumerate(class_names)
    }
    return {
        "name": network.name,
        **network.origin,
        "seed": network.experiment.seed,
        **Decisions.of(guesses, numbers[shapes], numbers[textures]).summary(),
        "agreeing_accuracy": {"value": right / len(agreeing), "low": low, "high": high},
        "per_class": per_class,
    }


def _over_seeds(
    networks: Sequence[Network], found: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """The means of runs that differ in the seed alone, and half of their 95% t intervals."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for network, each in zip(networks, found, strict=True):
        config = {**network.experiment.config, "seed": None}
        groups.setdefault(json.dumps(config, sort_keys=True, default=str), []).append(each)
    results = []
    for group in groups.values():
        if len({each["seed"] for each in group}) < max(2, len(group)):
            continue

        def mean(values: Sequence[float]) -> dict[str, float]:
            middle, half = t_interval(values)
            return {"mean": middle, "half_width": half}

        results.append(
            {
                "name": _common_name([each["name"] for each in group]),
                "networks": [each["name"] for each in group],
                "shape_bias": mean([each["shape_bias"]["value"] for each in group]),
                "agreeing_accuracy": mean([each["agreeing_accuracy"]["value"] for each in group]),
                "per_class": {
                    name: mean([each["per_class"][name]["shape_bias"]["value"] for each in group])
                    for name in class_names
                },
            }
        )
    return results


def _common_name(names: Sequence[str]) -> str:
    """What the names of runs begin with, up to a whole number or word; else the first name."""
    words = [re.findall(r"\d+|[^\W\d_]+|.", name) for name in names]
    same = itertools.takewhile(lambda found: len(set(found)) == 1, zip(*words, strict=False))
    common = "".join(each[0] for each in same).rstrip("_-. /")
    first = common or f"{names[0]} and others"
    return f"{first}, {len(names)} seeds"


def _table(found: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (
            *(each["name"], name, part["shape"], part["texture"], part["other"]),
            *(part["shape_bias"][key] for key in ("value", "low", "high")),
            each["agreeing_accuracy"]["value"] if name == _ALL else None,
        )
        for each in found
        for name, part in {_ALL: each, **each["per_class"]}.items()
    ]
    columns = ("network", "class", "shape", "texture", "other", "shape_bias", "low", "high")
    return Table((*columns, "agreeing_accuracy"), rows)


def _lines(results: Mapping[str, Any]) -> list[str]:
    rows = [["network", "shape bias", "95% interval", "shape", "texture", "other", "agreeing"]]
    for each in results["networks"]:
        bias = each["shape_bias"]
        rows.append(
            [
                *(each["name"], percent(bias["value"])),
                f"{percent(bias['low'])} to {percent(bias['high'])}",
                *(str(each[key]) for key in ("shape", "texture", "other")),
                percent(each["agreeing_accuracy"]["value"]),
            ]
        )
    for group in results["seeds"]:
        bias, accuracy = group["shape_bias"], group["agreeing_accuracy"]
        rows.append(
            [
                *(group["name"], percent(bias["mean"]), f"± {percent(bias['half_width'])}"),
                *("", "", "", percent(accuracy["mean"])),
            ]
        )
    return aligned_table(rows)


def _draw(results: Mapping[str, Any], folder: OutputFolder, say: Say) -> None:
    """A row per class: of runs that differ in the seed alone their mean, of others each."""
    in_groups = {name for group in results["seeds"] for name in group["networks"]}
    lines = []
    for group in results["seeds"]:
        mean, half = group["shape_bias"]["mean"], group["shape_bias"]["half_width"]
        classes = [each["mean"] for each in group["per_class"].values()]
        lines.append(
            figures.BiasLine(
                group["name"], (mean, max(0.0, mean - half), min(1.0, mean + half)), classes
            )
        )
    for each in results["networks"]:
        if each["name"] not in in_groups:
            classes = [part["shape_bias"]["value"] for part in each["per_class"].values()]
            bias = each["shape_bias"]
            lines.append(
                figures.BiasLine(each["name"], (bias["value"], bias["low"], bias["high"]), classes)
            )
    with figures.optional(str(folder.path / FIGURE), say), folder.writing(FIGURE) as path:
        figures.shape_bias(lines, results["classes"], path)
        say(f"Figure: {path}")


def _draw_conflicts(
    split: CueSplit, class_names: Sequence[str], folder: OutputFolder, say: Say
) -> None:
    shown = np.linspace(0, len(split) - 1, min(_SHOWN, len(split))).astype(int).tolist()
    titles = [f"{class_names[split.labels[i]]} in\n{class_names[split.textures[i]]}" for i in shown]
    with figures.optional(str(folder.path / EXAMPLES), say), folder.writing(EXAMPLES) as path:
        figures.image_grid([split.read(i).image for i in shown], titles, path)
        say(f"Figure: {path}")
