"""The note in files that vitjax writes: what the arrays do not say of the model."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from vitjax import models
from vitjax.core.text import near_match, quoted
from vitjax.models.protocol import Model
from vitjax.models.registry import MODELS
from vitjax.weights import claims, sizes
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import damage
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
    with damage.named(where):
        return _parsed(metadata[KEY], arrays)


def _parsed(written: str, arrays: Arrays) -> Note:
    try:
        found = json.loads(written)
        name, fields, shape = (found[key] for key in ("model", "fields", "input_shape"))
        stated = list(fields.items())
        if not isinstance(name, str):
            raise TypeError(f"model {quoted(name)}")
        if shape is not None and (
            [type(side) for side in shape] not in ([int], [int] * 3) or min(shape) < 1
        ):
            raise ValueError(f"input_shape {quoted(shape)}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _unreadable(f"is damaged ({type(error).__name__}: {error})") from error
    known = _classes()
    if name not in known:
        raise _unreadable(f"is of an unknown model {quoted(name)}{near_match(name, known)}")
    own = known[name].field_names()
    for field, _ in stated:
        if field not in own:
            words = f"has a field {quoted(field)} that {name} does not have"
            raise _unreadable(f"{words}{near_match(field, own)}")
    claims.check_layers(known[name].counted_layers, fields, arrays)
    try:
        known[name](**fields)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise _unreadable(f"describes no valid {name}: {error}") from error
    if shape is not None:
        sizes.image(shape, f"the note of vitjax in it says input_shape = {shape}")
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


def _unreadable(words: str) -> WeightsError:
    return WeightsError(
        f"the note of vitjax in it {words}; was it written by another version of vitjax?"
    )
