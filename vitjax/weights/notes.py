"""The note in files that vitjax writes: what the arrays do not say of the model."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from vitjax import models
from vitjax.core.text import near_match
from vitjax.models.protocol import Model
from vitjax.models.registry import MODELS
from vitjax.weights import claims, sizes
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts import Arrays

# The note's key in the metadata of a file.
KEY = "vitjax"


@dataclasses.dataclass(frozen=True)
class Note:
    """A note.

    Attributes:
        model: the module's class.
        fields: its fields.
        input_shape: (height, width, channels) of an example, or (features,); None if the writer did
            not know it.
    """

    model: type[Model]
    fields: Mapping[str, Any]
    input_shape: tuple[int, ...] | None


def text(model: Model, input_shape: Sequence[int] | None) -> str:
    """The note of a model, to be stored under `KEY`."""
    note = {
        "model": type(model).__name__,
        "fields": model.described_fields(),
        "input_shape": input_shape,
    }
    return json.dumps(note)


def read(metadata: Mapping[str, str], arrays: Arrays, where: str) -> Note | None:
    """The note in the metadata of a file; None if it has none.

    Args:
        metadata: of the file.
        arrays: of the file, with which the note's numbers of blocks are compared.
        where: its name in errors.

    Raises:
        WeightsError: the note is damaged, of an unknown model or of another network.
    """
    if KEY not in metadata:
        return None
    try:
        found = json.loads(metadata[KEY])
        name, fields, shape = (found[key] for key in ("model", "fields", "input_shape"))
        stated = list(fields.items())
        if shape is not None and (
            [type(side) for side in shape] not in ([int], [int] * 3) or min(shape) < 1
        ):
            raise ValueError(f"input_shape {shape}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _unreadable(where, f"is damaged ({type(error).__name__}: {error})") from error
    known = _classes()
    if name not in known:
        words = f"is of an unknown model {name!r}{near_match(str(name), known)}"
        raise _unreadable(where, words)
    own = known[name].field_names()
    for field, _ in stated:
        if field not in own:
            words = f"has a field {field!r} that {name} does not have{near_match(field, own)}"
            raise _unreadable(where, words)
    claims.check_layers(known[name].counted_layers, fields, arrays, where)
    try:
        known[name](**fields)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise _unreadable(where, f"describes no valid {name}: {error}") from error
    if shape is not None:
        sizes.image(shape, f"{where}: the note of vitjax in it says input_shape = {shape}")
    return Note(known[name], dict(stated), None if shape is None else tuple(shape))


def _classes() -> dict[str, type[Model]]:
    """The classes of vitjax, and those of registered models, by name."""
    registered = (MODELS[name] for name in MODELS.names())
    constructors = [c.func if isinstance(c, functools.partial) else c for c in registered]
    return {
        value.__name__: value
        for value in (*constructors, *vars(models).values())
        if isinstance(value, type) and issubclass(value, Model)
    }


def _unreadable(where: str, words: str) -> WeightsError:
    return WeightsError(
        f"{where}: the note of vitjax in it {words}; was it written by another version of vitjax?"
    )
