"""The pictures of a segmentation run, and the masks that it gives image files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from vitjax import figures
from vitjax.data.segmentation import write_mask, write_picture, write_probabilities
from vitjax.registry import ConfigError
from vitjax.training.checkpoints import CheckpointError
from vitjax.training.evaluation import Evaluator
from vitjax.training.experiment import Experiment
from vitjax.training.tiling import Tiler

_SHOWN = 3
# An image of sides up to so many pixels is predicted whole, a larger one in tiles.
WHOLE, TILE = 1024, 512


def draw(evaluator: Evaluator, variables: Any, split: str, pictures: Path) -> None:
    """Draws the images of ``split`` with the lowest and the highest intersection over union.

    All hosts call it, and the first one draws.

    Args:
        evaluator: of the run's experiment.
        variables: placed on the devices.
        split: whose images are drawn.
        pictures: the folder.
    """
    ious = evaluator.image_ious(variables, split)
    if jax.process_index() > 0:
        return
    experiment = evaluator.experiment
    data, objective = experiment.data, evaluator.objective
    # Copies of the first host: it alone computes what follows.
    own = jax.device_get(experiment.parallel.fetch(variables))
    predict = jax.jit(objective.predict)
    order = np.argsort(ious, kind="stable")
    for name, chosen in (("worst", order[:_SHOWN]), ("best", order[::-1][:_SHOWN])):
        rows, titles = [], []
        for index in map(int, chosen):
            image, truth = data.example(split, index), data.truth(split, index)
            probabilities = np.asarray(predict(own, {"image": image[None]}))[0]
            rows.append((image, truth, probabilities.argmax(axis=-1)))
            titles.append(f"{split} {index}: IoU {ious[index]:.1%}")
        figures.segmentations(rows, titles, experiment.class_names, pictures / f"{name}.png")


def predict(
    experiment: Experiment,
    variables: Any,
    paths: Sequence[str | Path],
    output: str | Path | None,
    *,
    tile: int | None = None,
    tta: bool = False,
    keep_probabilities: bool = False,
) -> list[dict[str, Any]]:
    """Segments image files of any size.

    Into ``output`` go for each image ``<stem>_mask.png``, which has the values of the masks that
    the run was trained on and is shown in colours; ``<stem>_overlay.png``; and with
    ``keep_probabilities`` ``<stem>_probabilities.npz`` with ``probabilities`` (height, width,
    classes) float32.

    Args:
        experiment: of the run.
        variables: of the model, one copy.
        paths: of the image files.
        output: a folder; None writes nothing.
        tile: the side in pixels of the tiles that an image is predicted in; None takes images of
            up to `WHOLE` pixels a side whole, and others in tiles of `TILE`.
        tta: average over the 8 flips and quarter turns of each image.
        keep_probabilities: write them too.

    Returns:
        For each image ``{"image": path, "shares": {class: share of the pixels}}``.

    Raises:
        ConfigError: two images would have one name in ``output``; a tile that is too small.
        DataError: an image cannot be read. Nothing is written then.
    """
    stems = [Path(path).stem for path in paths]
    if twice := [stem for stem, count in Counter(stems).items() if count > 1]:
        raise ConfigError(f"two images are called {twice[0]!r}: their masks would be one file")
    data, objective = experiment.data, cast(Any, experiment.objective)
    sides = [max(data.read_image(path).shape[:2]) for path in paths]  # all can be read
    side = tile or (TILE if max(sides, default=0) > WHOLE else None)
    tiler = None if side is None else Tiler(objective, variables, side)
    whole = jax.jit(objective.predict)
    names = experiment.class_names
    # A head may have more classes than the data names: their values are the next ones.
    known = data.class_values
    values = [*known, *(max(known) + 1 + extra for extra in range(len(names) - len(known)))]
    results = []
    for path, stem in zip(paths, stems, strict=True):
        image = data.read_image(path)
        if tiler is not None:
            probabilities = tiler(image, tta=tta)
        elif tta:
            probabilities = Tiler(objective, variables, max(image.shape[:2]))(image, tta=True)
        else:
            probabilities = np.asarray(whole(variables, {"image": image[None]}))[0]
        if not np.isfinite(probabilities).all():
            raise CheckpointError(f"{path}: the checkpoint's model gives probabilities of NaN")
        mask = _most_probable(probabilities)
        counts = np.bincount(mask.ravel(), minlength=len(names)) / mask.size
        shares = {name: float(share) for name, share in zip(names, counts, strict=True)}
        results.append({"image": str(path), "shares": shares})
        if output is not None:
            folder, classes = Path(output), len(names)
            write_mask(folder / f"{stem}_mask.png", mask, figures.palette(classes), values)
            write_picture(folder / f"{stem}_overlay.png", figures.overlay(image, mask, classes))
            if keep_probabilities:
                write_probabilities(folder / f"{stem}_probabilities.npz", probabilities)
    return results


def _most_probable(probabilities: np.ndarray) -> np.ndarray:
    """Class numbers, a row at a time: 64 bits a pixel of a large image would be the most of all."""
    return np.stack([row.argmax(axis=-1).astype(np.int32) for row in probabilities])
