"""Models as ONNX files, through jax2onnx, which is asked for only where one is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.core.atomic import new_file
from vitjax.models.protocol import Model
from vitjax.weights.errors import WeightsError

# jax2onnx wants an older Orbax than vitjax has, though it needs none for this: so it comes without
# its dependencies, and those that count come by the extra.
INSTALL = 'pip install "vitjax[onnx]" && pip install --no-deps jax2onnx==0.17.1'
# A file of protocol buffers is smaller than this.
_LARGEST = 2**31
# float32 to rounding, of the largest number in the outputs.
_TOLERANCE = 1e-4


def write(
    variables: Mapping[str, Any], model: Model, path: Path, input_shape: Sequence[int]
) -> None:
    """Writes ``model`` in evaluation mode as an ONNX graph from ``images`` to ``outputs``.

    The graph takes any number of images as the model does: (batch, height, width, channels),
    float32, already normalised. It is run by onnxruntime beside the model before it is written, for
    a converter may know an operation and not all of its forms.

    Args:
        variables: the model's.
        model: the module.
        path: of the file.
        input_shape: (height, width, channels) of an image.

    Raises:
        WeightsError: a package is missing, the model has an operation that has no counterpart, or
            the graph computes other numbers.
    """
    try:
        import onnxruntime
        from jax2onnx import to_onnx
    except ImportError as error:
        raise WeightsError(f"format 'onnx' needs {error.name or 'jax2onnx'}: {INSTALL}") from error
    size = sum(leaf.size for leaf in jax.tree.leaves(variables)) * 4
    if size >= _LARGEST:
        raise WeightsError(
            f"format 'onnx': the weights take {size / 2**30:.1f} GiB, and a file holds less than 2"
        )
    model = model.clone(dtype=jnp.float32, param_dtype=jnp.float32)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), dict(variables))

    def outputs(images: jax.Array) -> Any:
        return model.apply(variables, images, train=False)

    try:
        graph = to_onnx(
            outputs,
            [("batch", *input_shape)],
            model_name=type(model).__name__,
            input_names=["images"],
            output_names=["outputs"],
        )
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsError(
            f"format 'onnx': jax2onnx cannot convert this {type(model).__name__}: {reason[0]}"
        ) from error
    content = graph.SerializeToString()
    _check(content, outputs, input_shape, onnxruntime)
    with new_file(path) as unfinished:
        unfinished.write_bytes(content)


def _check(content: bytes, outputs: Any, input_shape: Sequence[int], onnxruntime: Any) -> None:
    """Raises WeightsError unless the graph computes what the model does."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    images = np.random.default_rng(0).normal(size=(2, *input_shape)).astype(np.float32)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (found,) = session.run(["outputs"], {"images": images})
    except Exception as error:
        raise WeightsError(f"format 'onnx': onnxruntime cannot run the graph: {error}") from error
    expected = np.asarray(jax.jit(outputs)(jnp.asarray(images)))
    scale = np.abs(expected).max()
    # Said so that NaN, which compares with nothing, fails too.
    if found.shape != expected.shape or not np.abs(found - expected).max() <= _TOLERANCE * scale:
        raise WeightsError(
            "format 'onnx': the converted graph computes other numbers than the model; nothing was"
            " written"
        )
