"""``vitjax explain``: maps of what models look at in image files, written to a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitjax import figures
from vitjax.analysis import object_masks, subjects
from vitjax.analysis.explainer import TOP, TRUE, Explainer, Explanation
from vitjax.analysis.methods import chosen
from vitjax.analysis.subjects import Subject
from vitjax.core.atomic import new_file
from vitjax.core.errors import ConfigError
from vitjax.core.file_lists import find_images
from vitjax.core.text import Say, portable
from vitjax.meta.episodic import Episodic
from vitjax.tasks.output import OutputFolder, result_names
from vitjax.tasks.reading import check_heads
from vitjax.training import runs

RESULTS = "explanations.json"
_RANDOM = "_randomised"


def explain(
    workdir: str | Path | None,
    files: Any,
    methods: str | Sequence[str] = ("grad_cam",),
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    model: str | None = None,
    classes: str | Path | None = None,
    support: Any = None,
    target: str = TOP,
    layer: str | None = None,
    faithful: bool | None = None,
    randomise: bool = False,
    masks: str | Path | None = None,
    checkpoint: str | int | None = None,
    overwrite: bool = False,
    say: Say = print,
    **options: Any,
) -> list[Explanation]:
    """Explains what a model says of image files.

    Args:
        workdir: a run's folder; None for the weights of a file, with ``model`` and ``checkpoint``.
        files: as of `vitjax.predict`.
        methods: one or several names of `vitjax.analysis.methods.METHODS`.
        output: a folder for a figure and an ``.npz`` file of maps per image, and for `RESULTS`.
        overrides: ``--config.key=value`` arguments on the run's config.
        model: one of `vitjax.models.names`.
        classes: of a model without a run: see `vitjax.analysis.subjects.of_file`.
        support: of a few-shot run: the support set, see `vitjax.tasks.adapted.Support`.
        target: see `Explainer.explanations`.
        layer: see `Explainer`.
        faithful: see `Explainer`.
        randomise: see `Explainer`; a further figure per image has the maps.
        masks: a folder with a mask of the object of each image, under the image's name, for the
            pointing game.
        checkpoint: of a run ``"best"``, ``"last"`` or a step; otherwise the file.
        overwrite: whether files in ``output`` that no earlier command wrote may be replaced.
        say: receives what was loaded, and how far the maps are.
        **options: keywords of the method, if it is a single one.

    Raises:
        WorkdirError, CheckpointError: the folder holds no run, or no such checkpoint.
        WeightsError: the file cannot be read, or does not fit the model.
        ConfigError: an unknown method, option, layer or class; a path does not exist.
        DataError: an image cannot be read. Nothing is written then.
        NotFiniteError: the network gives NaN.
    """
    chosen(methods)
    subjects.check_source("explain", workdir, overrides, model, checkpoint)
    if workdir is not None and classes is not None:
        raise ConfigError(f"explain: --classes={classes} is for --model; a run knows its classes")
    if workdir is None and support is not None:
        raise ConfigError("explain: --support is for a run of few-shot learning (--workdir)")
    folder = None if output is None else OutputFolder(output, overwrite=overwrite)
    found = find_images(files, say=say, apart_from=() if folder is None else folder.written)
    mask_files = None if masks is None else object_masks.find(masks, found)
    if workdir is None:
        assert model is not None  # as was checked
        assert checkpoint is not None
        subject = subjects.of_file(model, str(checkpoint), classes, say=say)
        if not subject.class_names:
            raise ConfigError(f"explain: {checkpoint} has no head, so there is no class to explain")
    else:
        subject = _of_run(workdir, found, overrides, support, checkpoint, say)
    explainer = Explainer(
        subject,
        methods,
        layer=layer,
        options=options,
        faithful=faithful,
        randomise=randomise,
        say=say,
    )
    if target == TRUE:
        for file in found:
            explainer.index_in_folder(file)
    elif target != TOP:
        explainer.index_of(target)
    check_heads(found, subject.max_pixels, hint="")
    # Before the first of the results, of which each takes longer, is written.
    for file in found:
        subject.read(file)
    objects = None
    if mask_files is not None:
        objects = [
            object_masks.read(mask, file, subject.read, subject.max_pixels)
            for mask, file in zip(mask_files, found, strict=True)
        ]
    stems = result_names([(file, "") for file in found])
    if folder is not None:
        ends = (".png", ".npz", *((f"{_RANDOM}.png",) if randomise else ()))
        folder.check([*(f"{stem}{end}" for stem in stems for end in ends), RESULTS])
    results = []
    explanations = explainer.explanations(found, target, objects)
    for stem, (image, each) in zip(stems, explanations, strict=True):
        results.append(each)
        if folder is not None:
            _write(folder, stem, image, each)
    if folder is not None:
        summaries = [portable(each.summary()) for each in results]
        with folder.writing(RESULTS) as path, new_file(path) as unfinished:
            unfinished.write_text(json.dumps(summaries, indent=1))
    return results


def _of_run(
    workdir: str | Path,
    files: Sequence[str],
    overrides: Sequence[str],
    support: Any,
    checkpoint: str | int | None,
    say: Say,
) -> Subject:
    experiment, placed, _ = runs.load(
        workdir, overrides, checkpoint=checkpoint, with_data=False, say=say
    )
    task = experiment.task
    task.say = say
    if support is not None:
        if not isinstance(experiment.objective, Episodic):
            raise task.no_adaptation()
        task.check_prediction(files, {"support": support})
    elif isinstance(experiment.objective, Episodic) and experiment.data.target == "class":
        raise ConfigError(
            f"explain: the {type(experiment.objective).__name__} of this run classifies by a"
            " support set: give --support=DIR (support=), with a folder of images for each class"
        )
    return subjects.of_run(experiment, experiment.parallel.fetch(placed), support)


def _write(folder: OutputFolder, stem: str, image: np.ndarray, each: Explanation) -> None:
    (folder.path / stem).parent.mkdir(parents=True, exist_ok=True)
    maps: dict[str, Any] = dict(each.maps)
    heading = f"{Path(each.image).name}: {each.class_name}"
    likely = f"{each.probability:.1%}"
    if each.initial_probability is not None:
        likely = f"{each.initial_probability:.1%} before adaptation, {likely} after it"
    with (
        folder.writing(f"{stem}.npz") as path,
        new_file(path) as unfinished,
        open(unfinished, "wb") as file,
    ):
        np.savez_compressed(file, **maps)
    with folder.writing(f"{stem}.png") as path:
        figures.explanation(image, each.maps, path, heading=f"{heading} {likely}")
    if not each.randomised:
        return
    rows = {
        name: np.stack([np.asarray(one.maps[0], np.float32) for one in found])
        for name, found in each.randomised.items()
    }
    similarities = {
        name: [float(one.similarities[0]) for one in found]
        for name, found in each.randomised.items()
    }
    cascade = next(iter(each.randomised.values()))
    with folder.writing(f"{stem}{_RANDOM}.png") as path:
        figures.randomisation(
            image,
            rows,
            similarities,
            [one.layers for one in cascade],
            path,
            groups=cascade[0].groups,
            heading=f"{heading}; layers become random from the outputs on",
        )
