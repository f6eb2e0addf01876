"""The files beside an exported one, which say how to load it and how to prepare images for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vitjax.core.atomic import write_json, write_text
from vitjax.models.protocol import Model
from vitjax.weights import preprocessing as prepared
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import files, onnx
from vitjax.weights.layouts import Layout
from vitjax.weights.layouts.target import Construction
from vitjax.weights.preprocessing import Preprocessing

_CONFIG = files.BESIDE[0]


def entry(
    variables: Mapping[str, Any],
    model: Model,
    shape: Sequence[int],
    format: str,
    *,
    layout: Layout | None = None,
    any_size: bool = False,
) -> dict[str, Any]:
    """Inputs and outputs of a file, for ``preprocess.json``.

    Args:
        variables: the model's.
        model: the module.
        shape: of an example.
        format: of the file.
        layout: of the file; None for vitjax's own format and for a graph.
        any_size: whether images of any height and width are accepted.
    """
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    outputs: Any = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, example)
    first = layout is not None and layout.channels_first
    sides = {1: "height", 2: "width"} if any_size else {}

    def described(name: str, found: Sequence[int]) -> dict[str, Any]:
        axes = ["batch", *found[1:]]
        if len(axes) == 4:
            axes = [sides.get(axis, length) for axis, length in enumerate(axes)]
            axes = [axes[0], axes[3], *axes[1:3]] if first else axes
        about: dict[str, Any] = {"name": name} if format == "onnx" else {}
        if len(axes) == 4:
            about["layout"] = "NCHW" if first else "NHWC"
        return {**about, "dtype": "float32", "shape": axes}

    return {
        "format": format,
        "input": described(onnx.INPUT, example.shape),
        "output": {**described(onnx.OUTPUT, outputs.shape), "values": "logits"},
    }


def graph_metadata(preprocessing: Preprocessing | None, about: Mapping[str, Any]) -> dict[str, str]:
    """What an ONNX graph says of itself: each value as JSON."""
    facts: dict[str, Any] = {"input": about["input"], "output": about["output"]}
    if preprocessing is not None:
        facts |= preprocessing.as_json()
    return {name: json.dumps(value) for name, value in facts.items()}


def check(
    path: Path, preprocessing: Preprocessing | None, config: Mapping[str, Any] | None = None
) -> None:
    """Checks, before anything is written, that no file of another model would be replaced.

    Raises:
        WeightsError: one would be.
    """
    if preprocessing is None:
        return
    others = prepared.check(path, preprocessing)
    if config is None or not (beside := path.with_name(_CONFIG)).is_file():
        return
    again = f"choose a folder of its own: --output={path.parent / path.stem / path.name}"
    try:
        known = "architecture" in json.loads(beside.read_bytes())
    except (ValueError, TypeError, OSError):
        known = False
    if not known:
        raise WeightsError(f"{beside} is another file than timm's, which would replace it; {again}")
    same = [name for name, other in others.items() if other.get("format") == "timm"]
    if same:
        raise WeightsError(f"{beside} is that of {', '.join(same)}; {again}")


def write(
    path: Path,
    preprocessing: Preprocessing | None,
    about: Mapping[str, Any],
    say: Callable[[str], None],
    config: Mapping[str, Any] | None = None,
) -> None:
    """Writes ``preprocess.json`` and, for timm, ``config.json`` beside ``path``.

    Args:
        path: of the exported file.
        preprocessing: of its model; None writes nothing.
        about: the result of `entry`.
        say: receives the names of the files.
        config: the content of ``config.json``; None for none.
    """
    if preprocessing is None:
        return
    beside = prepared.write(path, preprocessing, about)
    say(f"{beside}: how images become inputs, and the names of the outputs")
    if config is not None:
        write_json(path.with_name(_CONFIG), config)
        folder = path.parent
        say(f'{folder / _CONFIG}: for timm.create_model("local-dir:{folder}", pretrained=True)')


def write_program(
    path: Path, construction: Construction, project: str, say: Callable[[str], None]
) -> None:
    """Writes the program that loads ``path``, beside it."""
    # Files whose names differ have programs whose names differ.
    program = path.with_name(f"load_{path.stem}_{path.suffix.removeprefix('.')}.py")
    write_text(program, construction.program(path, project))
    say(f"{program}: makes this network and loads the file")
