"""What a file says of its network, compared with its arrays before a model is built from it.

A note costs its writer some bytes, whatever size it states: a depth, a number of classes, the size
of images. Each of them is compared with an array that shows it.

Errors do not name the file: `damage.named` adds its name.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vitjax.core.text import shortened
from vitjax.models.counting import named_layers
from vitjax.models.protocol import Model
from vitjax.weights import naming
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts import Arrays, Description

# The longest side of an array without numbers, which states sizes for nothing.
_LONGEST_EMPTY = 2**16


def check_empty(arrays: Arrays) -> None:
    """Checks that no array without numbers states a large size.

    Raises:
        WeightsError: an array does.
    """
    for name, array in arrays.items():
        if array.size == 0 and max(array.shape) > _LONGEST_EMPTY:
            raise WeightsError(f"{name} of shape {array.shape} holds no numbers")


def check_layers(
    patterns: Mapping[str, re.Pattern[str]],
    fields: Mapping[str, Any],
    names: Iterable[str],
) -> None:
    """Compares the numbers of blocks that a note states with the names of arrays.

    Args:
        patterns: `Model.counted_layers`.
        fields: of the model, as the note states them.
        names: of the file's arrays; the check is skipped unless some match.

    Raises:
        WeightsError: they differ.
    """
    for field, pattern in patterns.items():
        counts = named_layers(pattern, names)
        if field not in fields or not counts:
            continue
        claimed = fields[field]
        if pattern.groups == 1:
            if claimed != counts[0]:
                raise _other(field, claimed, f"its arrays have {counts[0]} blocks")
        elif not isinstance(claimed, Sequence) or tuple(claimed) != counts:
            shown = shortened(counts, 16)
            raise _other(field, claimed, f"the stages of its arrays have {shown} blocks")


def check_own(module: Model, input_shape: Sequence[int] | None, arrays: Arrays) -> None:
    """Compares a note with arrays under vitjax's names.

    These are the sizes for which arrays of a file would be resized or reinitialised. Others are
    compared when the arrays are placed.

    Args:
        module: the network of the note.
        input_shape: of its examples, likewise; None if unknown.
        arrays: of the file.

    Raises:
        WeightsError: they differ.
    """
    parts = [("params/", module)]
    if module.backbone is not None:
        entry, inner = module.backbone
        parts.append((f"params/{entry}/", inner))
    for prefix, part in parts:
        check_layers(part.counted_layers, part.layer_counts(), arrays)
        _check_images(prefix, part, input_shape, arrays)
    heads = {
        name: array
        for name, array in arrays.items()
        if array.ndim and module.head_of(name.removeprefix("params/")) is not None
    }
    outputs = {
        name: array.shape
        for name, array in heads.items()
        if not module.hidden_in_head(name.removeprefix("params/"))
    }
    number = module.num_outputs
    if number and all(shape[-1] != number for shape in outputs.values()):
        words = "its arrays have no head"
        if outputs:
            name, shape = next(iter(outputs.items()))
            words = f"its {name} has shape {shape}"
        raise _other("num_classes", number, words)


def _check_images(
    prefix: str, part: Model, input_shape: Sequence[int] | None, arrays: Arrays
) -> None:
    """Compares patches, channels and the grid of positions of ``part``."""
    patches = arrays.get(f"{prefix}{part.patch_kernel}")
    stated = part.described_fields().get("patch_size")
    if patches is not None and patches.ndim == 4 and stated is not None:
        sides = patches.shape[:2]
        if sides != tuple(np.broadcast_to(stated, 2)):
            words = f"its patches have {sides[0]} x {sides[1]} pixels"
            raise _other("patch_size", stated, words)
    if input_shape is None or len(input_shape) != 3:
        return
    for name in part.image_kernels:
        kernel = arrays.get(prefix + name)
        if kernel is not None and kernel.ndim == 4 and kernel.shape[2] != input_shape[2]:
            words = f"its {prefix}{name} has {kernel.shape[2]} channels"
            raise _other("input_shape", input_shape, words)
    positions = arrays.get(f"{prefix}{part.position_embedding}")
    grid = part.patch_grid(input_shape)
    if positions is not None and positions.ndim == 4 and positions.shape[1:3] != grid:
        shown = " x ".join(map(str, positions.shape[1:3]))
        raise _other("input_shape", input_shape, f"its positions are of {shown} patches")


def check_described(module: Model, input_shape: Sequence[int] | None, found: Description) -> None:
    """Compares the sizes in a note with those that another project's layout found in the arrays.

    Raises:
        WeightsError: they differ.
    """
    differences = naming.differences(found, module)
    # The writer knew more than the arrays show; sizes they do show.
    apart = {k: two for k, two in differences.items() if not any(map(_is_option, two))}
    classes = found.fields.get("num_classes") or 0
    if "num_classes" in found.fields and classes != module.num_outputs:
        apart["num_classes"] = (classes, module.num_outputs)
    for field, (here, claimed) in apart.items():
        raise WeightsError(
            f"its note says that {field} = {reprlib.repr(claimed)}, but its arrays have {here!r}"
        )
    channels = None if found.input_shape is None else found.input_shape[-1]
    if input_shape is not None and channels not in (None, input_shape[-1]):
        raise WeightsError(
            f"its note says that input_shape = {input_shape}, but its arrays are for {channels}"
            " channels"
        )


def check_flat_head(
    module: Model, shapes: Mapping[str, Any], arrays: Arrays, input_shape: Sequence[int]
) -> None:
    """Checks that a head reads as many numbers as a network for the note's examples has.

    Args:
        module: the network of the note.
        shapes: of its variables.
        arrays: of the file, under vitjax's names.
        input_shape: of the examples in the note.

    Raises:
        WeightsError: the network of the note reads another number.
    """
    for name, leaf in shapes.items():
        there, here = arrays.get(name), tuple(leaf.shape)
        if there is None or there.ndim != len(here) or there.shape == here:
            continue
        if there.shape[-1] == here[-1] and module.head_of(name.removeprefix("params/")):
            words = f"its {name} has shape {there.shape}, and would have {here}"
            raise _other("input_shape", tuple(input_shape), words)


def _is_option(value: Any) -> bool:
    return isinstance(value, bool | str | float)


def _other(field: str, claimed: Any, words: str) -> WeightsError:
    return WeightsError(f"its note says that {field} = {reprlib.repr(claimed)}, but {words}")
