"""Files of weights, opened: their layout, and the model that they are for."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitjax import models
from vitjax.core.names import matches
from vitjax.core.text import near_match, shortened
from vitjax.core.validation import check_keywords, keywords_of
from vitjax.models.protocol import Model
from vitjax.models.registry import MODELS
from vitjax.weights import adapting, claims, naming, notes, sizes
from vitjax.weights.errors import WeightsError
from vitjax.weights.fetch import fetching
from vitjax.weights.formats import damage, files
from vitjax.weights.layouts import (
    LAYOUTS,
    Arrays,
    Description,
    Known,
    Layout,
    card,
    elsewhere,
    prefixes,
)
from vitjax.weights.layouts.recognition import Candidate, is_beside, recognise

# The format of vitjax's own names, as in a tree of variables.
OWN = "safetensors"
_IMAGE_SIZE = "image_size, pixels on a side or (height, width),"
_OWN_NAMES = re.compile(r"(params|batch_stats)/")


@dataclasses.dataclass(frozen=True)
class Weights:
    """An open file of weights.

    Attributes:
        where: its name in errors.
        arrays: its content, in the form that the layout expects.
        layout: the project whose names these are; None for vitjax's own.
        description: what the file says of its model.
        path: the file on this machine; None if the weights are from no file.
        mean: of the training images, per channel, if a file beside it states it.
        std: their standard deviation, likewise.
        heads: the file's arrays of a head that has another form than the layout's, in words; they
            are not among ``arrays``.
    """

    where: str
    arrays: Arrays = dataclasses.field(repr=False)
    layout: Layout | None
    description: Description
    path: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    heads: tuple[str, ...] = ()

    @property
    def format(self) -> str:
        """The layout's name."""
        return OWN if self.layout is None else self.layout.name

    @property
    def sha256(self) -> str | None:
        """The file's digest, see `vitjax.weights.formats.files.sha256`."""
        return None if self.path is None else files.sha256(self.path)

    def shape_at(
        self, image_size: int | Sequence[int] | None, channels: int | None = None
    ) -> tuple[int, ...]:
        """(height, width, channels) of an example: the file's own, or of the given images.

        If the file's model takes vectors it is (features,).

        Raises:
            WeightsError: neither the file nor the arguments determine it, or they are invalid.
        """
        stated = self.description.input_shape
        if stated is not None and len(stated) == 1 and (image_size, channels) == (None, None):
            return stated
        height, width, own = (None, None, None) if stated is None or len(stated) == 1 else stated
        if image_size is not None:
            height, width = sizes.pair(image_size, _IMAGE_SIZE)
        if channels is not None:
            sizes.whole(channels, 1, "channels")
        else:
            channels = own or adapting.channels_of(self.description.model, self.arrays)
        if height is None or width is None or channels is None:
            raise WeightsError(
                f"{self.where}: does not state the size of its images; set image_size=..."
                + ("" if channels else " and channels=...")
            )
        sizes.image((height, width, channels), self.where)
        return height, width, channels


def open_weights(
    source: str | Path,
    *,
    format: str | None = None,
    grid: Sequence[int] | None = None,
    image_size: int | Sequence[int] | None = None,
    part: str | None = None,
    ignore: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> Weights:
    """Reads a file and recognises its layout.

    Args:
        source: a path, or a name such as ``"hf:..."``, see `vitjax.weights.fetch.fetching.local`.
        format: one of `read_formats`; None recognises it from the names and shapes in the file.
        grid: (rows, columns) of patches of the position embeddings; None if the file, or
            ``image_size``, shows it.
        image_size: pixels on a side, or (height, width), of the images that the model will see. If
            the position embeddings can be read in several ways, it decides.
        part: which of several sets of weights in one file, see `vitjax.weights.formats.files.read`.
        ignore: regular expressions of names in the file; their arrays are left out.
        say: receives messages about downloads, skipped arrays of other networks, a layout that
            fits nearly as well, and decisions that more than the arrays led to.

    Raises:
        WeightsError: the file does not exist, has no weights or no known layout, or ``grid`` is
            given for a network without such position embeddings.
    """
    if format is not None:
        check_format(format)
    path = files.located(fetching.local(str(source), say=say))
    where, arrays = str(source), _without(files.read(path, part=part), ignore, str(source))
    with damage.named(where):
        claims.check_empty(arrays)
    note = notes.read(files.metadata(path), arrays, where)
    own = format in (None, OWN) and all(_OWN_NAMES.match(name) for name in arrays)
    # Names of big_vision begin in the same way, but its files have no note.
    if own and (format == OWN or note):
        return _own(where, path, arrays, note, grid)
    beside = card.read(path, say)
    pair = None
    if grid is not None:
        rows, columns = sizes.whole(grid, 2, "grid=(rows, columns)")
        pair = (rows, columns)
    if note and pair is None:
        pair = sizes.grid_of(note.fields.get("patch_size"), note.input_shape)
    shown = None if image_size is None else sizes.pair(image_size, _IMAGE_SIZE)

    def describe(layout: Layout, prepared: Arrays) -> Description:
        reader = layout.card if layout.card is not None and layout.card.knows(beside) else None
        known = Known(pair, shown)
        if reader is not None and pair is None:
            own_size = reader.image_size(beside, prepared)
            known = Known(reader.grid(beside, prepared), own_size or shown)
        found = layout.describe(prepared, known)
        if note:
            # The writer knew more than the shapes show.
            if not issubclass(note.model, layout.modules):
                raise WeightsError(f"its note says that it is a {note.model.__name__}")
            claims.check_described(note.model(**note.fields), note.input_shape, found)
            shape = note.input_shape or found.input_shape
            return Description(note.model, note.fields, shape, found.grid)
        if reader is None:
            return found
        stated = reader.fields(beside, prepared)
        guessed = {k: words for k, words in found.guessed.items() if k not in stated}
        fields = {**found.fields, **stated}
        return dataclasses.replace(found, fields=fields, guessed=guessed, siblings="")

    layouts = [layout for layout in LAYOUTS if format in (None, layout.name)]
    try:
        found, skipped = _network_in(arrays, layouts, describe, where, say)
    except WeightsError as error:
        if own:
            return _own(where, path, arrays, note, grid)
        other = elsewhere.words(arrays)
        if str(error):
            raise WeightsError(f"{where}{error}{other}") from error
        some = shortened(sorted(arrays), 6)
        known = format or f"any known format ({', '.join(read_formats())})"
        raise WeightsError(
            f"{where}: its {len(arrays)} arrays ({some}) are not named as in {known}{other}"
        ) from error
    description = found.description
    assert description is not None
    if grid is not None and description.grid is None:
        raise _gridless(where, found.layout.name)
    for words in (*skipped, *description.notes):
        say(f"{where}: {words}")
    own_arrays = _without_companions(found, where, say)
    heads = tuple(f"{name} {found.arrays[name].shape}" for name in found.heads)
    if heads:
        say(
            f"{where}: its head has another form than that of the format and is left out:"
            f" {shortened(heads, 4)}"
        )
    mean, std = None, None
    if found.layout.card is not None and found.layout.card.knows(beside):
        mean, std = map(card.numbers, found.layout.card.normalization(beside))
    return Weights(where, own_arrays, found.layout, description, path, mean, std, heads)


def read_formats() -> tuple[str, ...]:
    """The names of all formats that `open_weights` reads, vitjax's own first."""
    return tuple(dict.fromkeys((OWN, *(layout.name for layout in LAYOUTS))))


def usual_size(
    model: str | None, image_size: int | Sequence[int] | None
) -> int | Sequence[int] | None:
    """``image_size``, or for None that of the named model's paper, if it has positions to read."""
    if image_size is not None or model not in models.names():
        return image_size
    positions = class_of(model)[0].position_embedding
    return None if positions is None else models.input_shape(model)[:2]


def check_format(format: str) -> None:
    """Raises WeightsError unless ``format`` is one of `read_formats`."""
    if format not in read_formats():
        raise WeightsError(
            f"unknown format {format!r}{near_match(format, read_formats())}"
            f" (known: {', '.join(read_formats())})"
        )


def module_of(
    weights: Weights,
    model: str | None = None,
    *,
    say: Callable[[str], None] = print,
    **fields: Any,
) -> Model:
    """The module that a file's weights are for.

    Args:
        weights: the file.
        model: one of `vitjax.models.names`; None for what the file's shapes say. For a named model
            the file only determines what the name leaves open: the number of classes and options;
            nothing if the file is of another class, which is a part of the model.
        say: receives the assumptions about fields that the shapes do not determine.
        **fields: fields of the module; they take precedence over the file's.

    Raises:
        ConfigError: the model, a field or its value is unknown.
        WeightsError: the file does not determine a required field, or the network.
    """
    return module_with(weights, model, fields, say)


def module_with(
    weights: Weights,
    model: str | None,
    fields: Mapping[str, Any],
    say: Callable[[str], None],
) -> Model:
    """As `module_of`, with fields whose names need not be valid keywords."""
    stated = dict(weights.description.fields)
    named = weights.description.model if model is None else model
    cls, fixed = class_of(named)
    if not isinstance(named, str):
        # Required fields are asked for below, in better words.
        given = functools.partial(cls, **dict.fromkeys(keywords_of(cls)))
        check_keywords(given, fields, where=cls.__name__)
    if model is None:
        if weights.description.siblings:
            raise _asked(weights, cls.__name__)
        for field, words in weights.description.guessed.items():
            if field in fields:
                continue
            if field not in stated:
                raise WeightsError(f"{weights.where}: {words}; set {field}=...")
            say(f"{weights.where}: {words}; {field}=... overrides it")
    else:
        if cls is not class_of(weights.description.model)[0]:
            stated = {}
        stated = {k: v for k, v in stated.items() if k not in fixed or k == "num_classes"}
        for field, words in weights.description.guessed.items():
            if field in stated and field not in fields:
                say(f"{weights.where}: {words}; {field}=... overrides it")
    if isinstance(named, str):
        return models.create(named, **{**stated, **fields})
    return named(**{**stated, **fields})


def _asked(weights: Weights, kind: str) -> WeightsError:
    """The error for a file whose arrays are those of several networks, with what to type."""
    likely = naming.of(weights.description)
    name = "..." if likely is None else likely.name
    lines = [f"if it is no such network, name its model: --model={name} (model={name!r})"]
    if weights.format != "timm":
        lines.append(
            f"if it is a file of {weights.format}: --read-as={weights.format}"
            f" (format={weights.format!r})"
        )
    if likely is not None:
        lines.append(f"in a config, which names the model: {likely.config}")
    lines.append("if it is timm's, keep the config.json of its repository beside it")
    shown = "".join(f"\n  {line}" for line in lines)
    return WeightsError(
        f"{weights.where}: its names and shapes are those of a {kind}, but also of"
        f" {weights.description.siblings}:{shown}"
    )


def class_of(model: str | type[Model]) -> tuple[Any, Mapping[str, Any]]:
    """The class of a named model, or a class itself, and the fields that the name sets."""
    constructor = MODELS[model] if isinstance(model, str) else model
    if isinstance(constructor, functools.partial):
        return constructor.func, constructor.keywords
    return constructor, {}


def _own(
    where: str,
    path: Path,
    arrays: Arrays,
    note: notes.Note | None,
    grid: Sequence[int] | None,
) -> Weights:
    """A file with vitjax's own names."""
    if note is None:
        raise WeightsError(f"{where}: has vitjax's names, but no note of its model")
    if grid is not None:
        raise _gridless(where, OWN)
    with damage.named(where):
        claims.check_own(note.model(**note.fields), note.input_shape, arrays)
    description = Description(note.model, note.fields, note.input_shape)
    return Weights(where, arrays, None, description, path)


def _gridless(where: str, format: str) -> WeightsError:
    return WeightsError(
        f"{where}, read as {format}: grid=(rows, columns) is for position embeddings that are"
        " stored as one sequence, which it does not have; remove it"
    )


def _network_in(
    arrays: Arrays,
    layouts: Sequence[Layout],
    describe: Callable[[Layout, Arrays], Description],
    where: str,
    say: Callable[[str], None],
) -> tuple[Candidate, list[str]]:
    """The network that a file is of, or the only one that is a part of it.

    Returns:
        The network, and what was skipped, in words.

    Raises:
        WeightsError: as `recognise`, with the parts that could be read.
    """
    try:
        whole = recognise(arrays, layouts, describe, lambda words: say(f"{where}: {words}"))
    except WeightsError as error:
        parts = prefixes.networks_in(
            arrays, layouts, lambda some: recognise(some, layouts, describe, lambda words: None)
        )
        prefix, candidate = next(iter(parts.items()), ("", None))
        others = [name for name in arrays if not name.startswith(prefix)]
        # A network that vitjax does not have may contain one that it has.
        alone = not str(error) or all(is_beside(name, arrays[name]) for name in others)
        if candidate is not None and len(parts) == 1 and alone:
            words = f"its arrays under {prefix!r} are read; the others ({len(others)}) are skipped"
            return candidate, [f"{words}: {shortened(others, 3)}"]
        if not parts:
            raise
        listed = "".join(
            f"\n  part={prefix[:-1]!r}: {_kind_of(candidate)}"
            for prefix, candidate in parts.items()
        )
        reason = str(error) or f": has {len(parts)} networks"
        raise WeightsError(
            f"{reason}; a part of it can be read (part=..., --part):{listed}"
        ) from error
    return whole, []


def _kind_of(candidate: Candidate) -> str:
    """A network in a few words."""
    description = candidate.description
    assert description is not None
    found = naming.of(description)
    return f"{'' if found is None else f'a {found}, '}read as {candidate.title}"


def _without(arrays: Arrays, ignore: Sequence[str], where: str) -> dict[str, np.ndarray]:
    """``arrays`` without those whose names match one of ``ignore``.

    Raises:
        WeightsError: a pattern matches none.
    """
    for pattern in ignore:
        if not any(matches(name, (pattern,)) for name in arrays):
            raise WeightsError(
                f"{where}: ignore: {pattern!r} matches no array of the file"
                f"{near_match(pattern, arrays)}"
            )
    return {name: array for name, array in arrays.items() if not matches(name, ignore)}


def _without_companions(
    found: Candidate, where: str, say: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """A network's arrays without those of other networks and of training, which are reported."""
    others = [name for name in found.arrays if found.layout.is_companion(name)]
    if others:
        say(f"{where}: {len(others)} arrays of other networks are skipped: {shortened(others, 3)}")
    if found.extras:
        say(
            f"{where}: {len(found.extras)} arrays of training are skipped:"
            f" {shortened(found.extras, 3)}"
        )
    left_out = {*others, *found.extras, *found.heads}
    return {name: array for name, array in found.arrays.items() if name not in left_out}
