"""Files of weights opened: whose they are, and what they tell of their model."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vitjax.core.text import near_match
from vitjax.weights import adapting, notes, sizes
from vitjax.weights.errors import WeightsError
from vitjax.weights.fetch import fetching
from vitjax.weights.formats import files
from vitjax.weights.layouts import LAYOUTS, Arrays, Description, Layout, card
from vitjax.weights.layouts.recognition import recognise

# The house's own names, as they stand in a tree of variables.
OWN = "safetensors"
_OWN_NAMES = re.compile(r"(params|batch_stats)/")


@dataclasses.dataclass(frozen=True)
class Weights:
    """A file of weights, read.

    Attributes:
        where: how errors call it.
        arrays: what is in it, brought to the layout's one form.
        layout: whose names these are; None for the house's own.
        description: what the file tells of its model.
        path: the file on this machine; None where it is none.
        mean: of the images that it was trained on, by channel, where something beside it tells.
        std: their standard deviation likewise.
    """

    where: str
    arrays: Arrays = dataclasses.field(repr=False)
    layout: Layout | None
    description: Description
    path: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

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
        """(height, width, channels) of an example: the file's own, or of images as given.

        Where the file's model takes vectors it is (features,).

        Raises:
            WeightsError: neither the file nor the arguments say it, or these are no sizes.
        """
        told = self.description.input_shape
        if told is not None and len(told) == 1 and (image_size, channels) == (None, None):
            return told
        height, width, own = (None, None, None) if told is None or len(told) == 1 else told
        if image_size is not None:
            what = "image_size, pixels on a side or (height, width),"
            height, width = sizes.pair(image_size, what)
        if channels is not None:
            sizes.whole(channels, 1, "channels")
        else:
            channels = own or adapting.channels_of(self.description.model, self.arrays)
        if height is None or width is None or channels is None:
            raise WeightsError(
                f"{self.where}: does not say for which images it was made; say image_size=..."
                + ("" if channels else " and channels=...")
            )
        return height, width, channels


def open_weights(
    source: str | Path,
    *,
    format: str | None = None,
    grid: Sequence[int] | None = None,
    part: str | None = None,
    say: Callable[[str], None] = print,
) -> Weights:
    """Reads a file and recognises its layout.

    Args:
        source: a path, or a name such as ``"hf:..."``, see `vitjax.weights.fetch.fetching.local`.
        format: one of `read_formats`; None recognises it from the names and shapes in the file.
        grid: (rows, columns) of patches of the position embeddings; None for a square.
        part: which of several sets of weights in one file, see `vitjax.weights.formats.files.read`.
        say: receives messages about downloads, skipped arrays of other networks and a layout that
            fits nearly as well.

    Raises:
        WeightsError: the file does not exist, has no weights or no known layout, or ``grid`` is
            given for a network without such position embeddings.
    """
    if format is not None:
        check_format(format)
    path = files.located(fetching.local(str(source), say=say))
    where, arrays = str(source), files.read(path, part=part)
    note = notes.read(files.metadata(path), where)
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

    def describe(layout: Layout, prepared: Arrays) -> Description:
        reader = layout.card if layout.card is not None and layout.card.knows(beside) else None
        known = reader.grid(beside, prepared) if reader is not None and pair is None else pair
        found = layout.describe(prepared, known)
        if note:
            # The writer knew more than the shapes show.
            if not issubclass(note.model, layout.modules):
                raise WeightsError(f"its note says that it is a {note.model.__name__}")
            shape = note.input_shape or found.input_shape
            return Description(note.model, note.fields, shape, found.grid)
        if reader is None:
            return found
        stated = reader.fields(beside)
        guessed = {k: words for k, words in found.guessed.items() if k not in stated}
        fields = {**found.fields, **stated}
        return dataclasses.replace(found, fields=fields, guessed=guessed, siblings="")

    layouts = [layout for layout in LAYOUTS if format in (None, layout.name)]
    try:
        found = recognise(arrays, layouts, describe, lambda words: say(f"{where}: {words}"))
    except WeightsError as error:
        if own:
            return _own(where, path, arrays, note, grid)
        if str(error):
            raise WeightsError(f"{where}{error}") from error
        some = ", ".join(sorted(arrays)[:6])
        known = format or f"any known format ({', '.join(read_formats())})"
        raise WeightsError(
            f"{where}: its {len(arrays)} arrays ({some}, ...) are not named as in {known}"
        ) from error
    description = found.description
    assert description is not None
    if grid is not None and description.grid is None:
        raise _gridless(where, found.layout.name)
    own_arrays = _without_companions(found.layout, found.arrays, where, say)
    mean, std = None, None
    if found.layout.card is not None and found.layout.card.knows(beside):
        mean, std = map(card.numbers, found.layout.card.normalization(beside))
    return Weights(where, own_arrays, found.layout, description, path, mean, std)


def read_formats() -> tuple[str, ...]:
    """The names of all formats, the house's own first."""
    return tuple(dict.fromkeys((OWN, *(layout.name for layout in LAYOUTS))))


def check_format(format: str) -> None:
    """Raises WeightsError unless there is such a format."""
    if format not in read_formats():
        raise WeightsError(
            f"unknown format {format!r}{near_match(format, read_formats())}"
            f" (known: {', '.join(read_formats())})"
        )


def _own(
    where: str,
    path: Path,
    arrays: Arrays,
    note: notes.Note | None,
    grid: Sequence[int] | None,
) -> Weights:
    """A file of the house's own names."""
    if note is None:
        raise WeightsError(f"{where}: has vitjax's names, and no note of the model that it is of")
    if grid is not None:
        raise _gridless(where, OWN)
    description = Description(note.model, note.fields, note.input_shape)
    return Weights(where, arrays, None, description, path)


def _gridless(where: str, format: str) -> WeightsError:
    return WeightsError(
        f"{where}, read as {format}: grid=(rows, columns) is of position embeddings that stand in a"
        " row, and it has none; take it away"
    )


def _without_companions(
    layout: Layout, arrays: Arrays, where: str, say: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """``arrays`` without those of other networks, of which is told."""
    others = [name for name in arrays if layout.is_companion(name)]
    if others:
        some = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        say(f"{where}: {len(others)} arrays beside the network are passed over: {some}")
    return {name: array for name, array in arrays.items() if name not in set(others)}
