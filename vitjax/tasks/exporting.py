"""A run's model in another project's format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from vitjax import weights
from vitjax.core.paths import expanded
from vitjax.models.protocol import Model
from vitjax.training import runs
from vitjax.training.experiment import Experiment
from vitjax.weights import adapting, sizes
from vitjax.weights.loading import flat
from vitjax.weights.preprocessing import Preprocessing


def export(
    folder: str | Path,
    format: str,
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    image_size: int | Sequence[int] | None = None,
    any_size: bool = False,
    opset: int | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Writes a run's model in another project's format, and beside it what its users need.

    The weights are those that `vitjax predict` uses: the moving average if the run keeps one, with
    LoRA's products merged. For images, ``preprocess.json`` beside the file has the transforms of
    evaluation, mean, standard deviation and class names.

    Args:
        folder: a run's folder.
        format: one of `vitjax.weights.written_formats`.
        output: the file; None for ``exported/<format>/model`` in the run's folder.
        overrides: as in `vitjax.training.runs.load`.
        checkpoint: as in `vitjax.training.runs.load`.
        image_size: pixels on a side or (height, width) of the exported model's images: learned
            positions are resized, and so are the sizes in ``preprocess.json``; None for those of
            the run.
        any_size: ``"onnx"``: whether images of any height and width are accepted.
        opset: ``"onnx"``: the version of its operators; None for the default.
        say: receives what was loaded and written.

    Returns:
        The path of the written file.

    Raises:
        WeightsError: the format cannot hold the model.
        WorkdirError, CheckpointError: the folder holds no run, or no such checkpoint.
    """
    weights.check_target(format)
    folder = expanded(folder)
    experiment, placed, _ = runs.load(
        folder, overrides, checkpoint=checkpoint, with_data=False, say=say
    )
    objective = experiment.objective
    variables = objective.unwrap(experiment.parallel.to_host(placed))
    preprocessing = preprocessing_of(experiment)
    shape = example_shape(experiment, preprocessing)
    if image_size is not None:
        size = sizes.pair(image_size, "image_size, pixels on a side or (height, width),")
        if len(shape) != 3:
            raise weights.WeightsError(f"image_size={image_size}: the examples are not images")
        shape = (*size, shape[-1])
        sizes.image(shape, "image_size")
        variables = resized(variables, objective.model, shape, say)
        preprocessing = preprocessing and preprocessing.at(size)
    if experiment.data.episodic and "batch_stats" in variables:
        say(
            "the run normalises by the statistics of each batch, and the exported model in"
            " evaluation by running averages, like the model of `vitjax.load`"
        )
    path = weights.save(
        variables,
        objective.model,
        Path(folder) / "exported" / format / "model" if output is None else expanded(output),
        format,
        input_shape=shape,
        preprocessing=preprocessing,
        opset=opset,
        any_size=any_size,
        say=say,
    )
    return path


def example_shape(experiment: Experiment, images: Preprocessing | None) -> tuple[int, ...]:
    """The shape of an example that the exported model takes.

    It is that of evaluation. Images of segmentation have many sizes there; the size of training is
    the one that was chosen for the model.
    """
    if images is not None and not images.any_size:
        return images.shape
    example = experiment.data.example_batch()
    shape: tuple[int, ...] = jax.eval_shape(experiment.objective.inputs, example).shape[1:]
    return shape


def preprocessing_of(experiment: Experiment) -> Preprocessing | None:
    """How images become inputs of a run's model in evaluation; None if examples are not images."""
    data = experiment.data
    if data.preparation is None:
        return None
    names = None if data.episodic else experiment.task.class_names
    return Preprocessing.of(data.preparation, names)


def resized(
    variables: Mapping[str, Any],
    model: Model,
    shape: Sequence[int],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The variables of ``model`` for images of another ``shape``.

    Raises:
        WeightsError: its layers depend on the size in another way than by learned positions.
    """
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    wanted = jax.eval_shape(model.unscanned().init, jax.random.key(0), example)
    shapes = {name: leaf.shape for name, leaf in flat(wanted).items()}
    arrays = {name: np.asarray(x) for name, x in flat(model.unstack(variables)).items()}
    found = adapting.adapt(arrays, shapes, model, say=say)
    wrong = [name for name, array in found.items() if array.shape != shapes[name]]
    if wrong:
        name = wrong[0]
        raise weights.WeightsError(
            f"image_size={tuple(shape[:2])}: the model was made for images of another size; its"
            f" {name} of shape {found[name].shape} would be {shapes[name]}"
        )
    cast = {name: array.astype(arrays[name].dtype) for name, array in found.items()}
    return model.stack(unflatten_dict(cast, sep="/"))
