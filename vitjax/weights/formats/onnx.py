"""Models as ONNX files, by jax2onnx, which is imported only to write one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
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
# Versions of ONNX's operators. Most runtimes in use read 17; jax2onnx writes 23 on its own.
OPSETS = range(13, 24)
OPSET = 17
INPUT, OUTPUT = "images", "outputs"

# The version from which the axes of a reduction are an input, and the reductions that changed then.
_AXES_ARE_INPUTS = 18
_REDUCTIONS = {
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax"),
    *("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare"),
}
# The limit of protocol buffers in bytes.
_LARGEST = 2**31
# Rounding errors of float32, relative to the largest output.
_TOLERANCE = 1e-4


def write(
    variables: Mapping[str, Any],
    model: Model,
    path: Path,
    input_shape: Sequence[int],
    *,
    opset: int = OPSET,
    any_size: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes ``model`` in evaluation mode as an ONNX graph from `INPUT` to `OUTPUT`.

    The graph takes images as the model does: (batch, height, width, channels), float32,
    normalised, for any batch size. Before it is written, its outputs are computed with onnxruntime
    and compared with the model's, because the converter may not support all forms of an operation.

    Args:
        variables: the model's.
        model: the module.
        path: of the file.
        input_shape: (height, width, channels) of an image.
        opset: the version of ONNX's operators, one of `OPSETS`. A runtime reads graphs of its own
            version and of older ones.
        any_size: whether images of any height and width are accepted.
        metadata: texts that are stored in the graph by name.

    Raises:
        WeightsError: a package is missing, an operation of the model has no counterpart in this
            version or for images of any size, or the outputs differ.
    """
    if opset not in OPSETS:
        raise WeightsError(
            f"format 'onnx': opset={opset}; it must be from {OPSETS[0]} to {OPSETS[-1]}"
        )
    try:
        import onnx
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

    sides = ("height", "width") if any_size else tuple(input_shape[:-1])

    def converted(outputs: Callable[[jax.Array], Any]) -> bytes:
        try:
            with _only_errors():
                graph = to_onnx(
                    outputs,
                    [("batch", *sides, input_shape[-1])],
                    model_name=type(model).__name__,
                    opset=opset,
                    input_names=[INPUT],
                    output_names=[OUTPUT],
                )
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            what = f"this {type(model).__name__}"
            if any_size:
                what += " for images of any size; leave that out, or choose one size"
            raise WeightsError(
                f"format 'onnx': jax2onnx cannot convert {what}: {reason[0]}"
            ) from error
        if opset < _AXES_ARE_INPUTS:
            _store_axes(graph, onnx)
        # Runtimes refuse containers that are newer than themselves, whatever the operators.
        graph.ir_version = onnx.helper.find_min_ir_version_for(graph.opset_import)
        onnx.helper.set_model_props(graph, dict(metadata or {}))
        found: bytes = graph.SerializeToString()
        return found

    shapes = [tuple(input_shape)]
    if any_size:
        height, width, channels = input_shape
        shapes.append((2 * height, width + height, channels))

    def checked(variables: Any) -> tuple[bytes, bool]:
        """The graph, and whether some outputs are not zero."""

        def outputs(images: jax.Array) -> Any:
            return model.apply(variables, images, train=False)

        content = converted(outputs)
        shown = [_check(content, outputs, shape, onnxruntime, opset) for shape in shapes]
        return content, all(shown)

    content, shown = checked(variables)
    if not shown:
        # Behind a new head, whose kernel is zero, any graph computes the same.
        checked(_without_zeros(variables))
    with new_file(path) as unfinished:
        unfinished.write_bytes(content)


@contextlib.contextmanager
def _only_errors() -> Iterator[None]:
    """Leaves out what the converter's packages log of their own operations."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(max(logger.level, logging.ERROR))
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _without_zeros(variables: Any) -> Any:
    """``variables`` with random numbers in the leaves that are zero."""
    rng = np.random.default_rng(1)

    def filled(leaf: jax.Array) -> jax.Array:
        noise = jnp.asarray(rng.uniform(0.1, 0.5, leaf.shape), leaf.dtype)
        return leaf if jnp.any(leaf) else noise

    return jax.tree.map(filled, variables)


def _store_axes(graph: Any, onnx: Any) -> None:
    """Gives reductions their axes as attributes, as before opset 18; jax2onnx gives an input.

    Raises:
        WeightsError: axes are computed in the graph.
    """
    nodes = graph.graph.node
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    for node in nodes:
        if node.op_type == "Constant":
            (name,) = node.output
            constants.update((name, each.t) for each in node.attribute if each.name == "value")
    for node in nodes:
        if node.op_type not in _REDUCTIONS or len(node.input) < 2:
            continue
        if node.input[1] not in constants:
            raise WeightsError(
                f"format 'onnx': {node.op_type} has computed axes, which need"
                f" opset={_AXES_ARE_INPUTS}"
            )
        axes = onnx.numpy_helper.to_array(constants[node.input[1]]).tolist()
        del node.input[1]
        node.attribute.append(onnx.helper.make_attribute("axes", axes))
    _remove_unused(graph.graph)


def _remove_unused(graph: Any) -> None:
    """Removes the constants that no node has as an input, of which runtimes warn."""
    used = _used(graph)
    for node in [each for each in graph.node if each.op_type == "Constant"]:
        if not used.intersection(node.output):
            graph.node.remove(node)
    for tensor in list(graph.initializer):
        if tensor.name not in used:
            graph.initializer.remove(tensor)


def _used(graph: Any) -> set[str]:
    """The names that the outputs and nodes of a graph read, also in the graphs of its nodes."""
    names = {output.name for output in graph.output}
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= _used(inner)
    return names


def _check(
    content: bytes, outputs: Any, input_shape: Sequence[int], onnxruntime: Any, opset: int
) -> bool:
    """Raises WeightsError unless the graph computes what the model does.

    Returns:
        Whether some of the outputs are not zero.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    images = np.random.default_rng(0).normal(size=(2, *input_shape)).astype(np.float32)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (found,) = session.run([OUTPUT], {INPUT: images})
    except Exception as error:
        higher = "" if opset == OPSETS[-1] else f"; try a higher opset, up to {OPSETS[-1]}"
        raise WeightsError(
            f"format 'onnx': onnxruntime cannot run the graph of opset {opset}{higher}: {error}"
        ) from error
    expected = np.asarray(jax.jit(outputs)(jnp.asarray(images)))
    scale = np.abs(expected).max()
    # Negated, so that NaN fails too.
    if found.shape != expected.shape or not np.abs(found - expected).max() <= _TOLERANCE * scale:
        raise WeightsError(
            "format 'onnx': the outputs of the converted graph differ from the model's; nothing is"
            " written"
        )
    return bool(scale)
