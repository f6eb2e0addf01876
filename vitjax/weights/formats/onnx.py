"""Models as ONNX files, by jax2onnx, which is imported only to write one."""

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

# jax2onnx requires an older Orbax than vitjax, which it does not need for this. So it is installed
# without its dependencies, and the extra has the necessary ones.
INSTALL = 'pip install "vitjax[onnx]" && pip install --no-deps jax2onnx==0.17.1'
# The limit of protocol buffers in bytes.
_LARGEST = 2**31
# Rounding errors of float32, relative to the largest output.
_TOLERANCE = 1e-4


def write(
    variables: Mapping[str, Any], model: Model, path: Path, input_shape: Sequence[int]
) -> None:
    """Writes ``model`` in evaluation mode as an ONNX graph from ``images`` to ``outputs``.

    The graph takes images as the model does: (batch, height, width, channels), float32,
    normalised, for any batch size. Before it is written, its outputs are computed with onnxruntime
    and compared with the model's, because the converter may not support all forms of an operation.

    Args:
        variables: the model's.
        model: the module.
        path: of the file.
        input_shape: (height, width, channels) of an image.

    Raises:
        WeightsError: a package is missing, an operation of the model has no counterpart, or the
            outputs differ.
    """
    try:
        import onnxruntime
        from jax2onnx import to_onnx
    except ImportError as error:
        raise WeightsError(f"format 'onnx' needs {error.name or 'jax2onnx'}: {INSTALL}") from error
    size = sum(leaf.size for leaf in jax.tree.leaves(variables)) * 4
    if size >= _LARGEST:
        raise WeightsError(
            f"format 'onnx': the weights have {size / 2**30:.1f} GiB, but a file must be below 2"
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
    # Negated, so that NaN fails too.
    if found.shape != expected.shape or not np.abs(found - expected).max() <= _TOLERANCE * scale:
        raise WeightsError(
            "format 'onnx': the outputs of the converted graph differ from the model's; nothing is"
            " written"
        )
