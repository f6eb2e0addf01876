"""A layout: under which names, and in which form, another project keeps a model's parameters.

It is written down once, as a list of correspondences, and read in both directions: loading and
saving cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vitjax.models.protocol import Model
from vitjax.weights.errors import WeightsError

Arrays = Mapping[str, np.ndarray]
Forms = Callable[..., tuple[np.ndarray, ...]]


def _same(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return arrays


@dataclasses.dataclass(frozen=True)
class Entry:
    """Arrays of ours and arrays of theirs that hold the same numbers.

    Attributes:
        ours: names such as ``"params/head/kernel"``.
        theirs: names in the file.
        read: their arrays, in order -> ours, in order.
        write: the inverse of ``read``.
        optional: the file may lack ``theirs``, with all else of the head that they are a part of;
            ours are then for somebody else to fill in.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Forms = _same
    write: Forms = _same
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class Description:
    """What the shapes in a file tell of its model.

    Attributes:
        model: a name in `vitjax.models.names`, where a file is of one that is registered and shapes
            alone do not tell all; or the class of the module.
        fields: fields of the module. Those of a registered model go before its own.
        input_shape: (height, width, channels) of an example that the parameters are made for; None
            where nothing tells it.
        grid: (rows, columns) of patches that the file's positions are for, where they stand in a
            row.
        guessed: fields that the shapes do not tell, and in words what is taken for them and why;
            one that is not among ``fields`` has to be said by the person.
    """

    model: str | type[Model]
    fields: Mapping[str, Any]
    input_shape: tuple[int, ...] | None
    grid: tuple[int, int] | None = None
    guessed: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Layout:
    """One project's way to keep one family of models.

    Attributes:
        name: what ``format`` of `vitjax.weights.save` and of the command line says.
        modules: the classes of ours that it holds.
        source: where it is from, as a person would look it up.
        recognise: whether a file with such arrays is of this layout; looks at names above all.
        describe: what the shapes tell; `grid`, where positions stand in a row, is (rows, columns)
            of patches or None for a square.
        entries: the correspondences for a module; the second argument has what the file's arrays
            are, by name, or is None where a file is to be written. Where the description has a
            grid, it is given as ``grid``.
        prepare: brings a file's arrays to the one form that ``entries`` speaks of: removes a prefix
            that only some files have, say.
        ignored: patterns, matched from the start of a name, of arrays that say nothing of the
            model's outputs.
        companions: likewise, of other networks that files keep beside this one: a text tower, a
            decoder, the head of self-supervised learning. That they are passed over is told.
        differs: in sentences, what a module has otherwise than the project's networks of such
            arrays have it unless they are told, or have it at all.
        suffix: of the file that the project's own tools would look for.
        writes: whether files of it can be written; else it is only read.
    """

    name: str
    modules: tuple[type[Model], ...]
    source: str
    recognise: Callable[[Arrays], bool]
    describe: Callable[[Arrays, tuple[int, int] | None], Description]
    entries: Callable[..., list[Entry]]
    prepare: Callable[[Arrays], dict[str, np.ndarray]] = dict
    ignored: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    differs: Callable[[Any], list[str]] = lambda module: []
    suffix: str = ".safetensors"
    writes: bool = True

    def is_ignored(self, name: str) -> bool:
        """Whether an array of this name says nothing."""
        return any(re.match(pattern, name) for pattern in self.ignored)

    def is_companion(self, name: str) -> bool:
        """Whether an array of this name is of another network."""
        return any(re.match(pattern, name) for pattern in self.companions)


# The forms of single arrays. PyTorch keeps kernels as (out, in, height, width) and (out, in), the
# house and TensorFlow as (height, width, in, out) and (in, out).


def convolution(
    ours: str, theirs: str, *, bias: bool = False, optional: bool = False
) -> list[Entry]:
    """PyTorch's ``Conv2d`` under ``theirs`` as our ``Conv`` under ``ours``."""
    entries = [
        Entry(
            (f"params/{ours}/kernel",),
            (f"{theirs}.weight",),
            lambda x: (_of_rank(x, 4).transpose(2, 3, 1, 0),),
            lambda x: (x.transpose(3, 2, 0, 1),),
            optional,
        )
    ]
    return entries + (_bias(ours, theirs, optional) if bias else [])


def dense(ours: str, theirs: str, *, bias: bool = True, optional: bool = False) -> list[Entry]:
    """PyTorch's ``Linear`` under ``theirs`` as our ``Dense`` under ``ours``."""
    turn = lambda x: (_of_rank(x, 2).T,)  # noqa: E731
    weight = Entry((f"params/{ours}/kernel",), (f"{theirs}.weight",), turn, turn, optional)
    return [weight] + (_bias(ours, theirs, optional) if bias else [])


def norm(ours: str, theirs: str, *, optional: bool = False) -> list[Entry]:
    """PyTorch's ``LayerNorm`` or ``GroupNorm`` under ``theirs`` as ours under ``ours``."""
    scale = Entry((f"params/{ours}/scale",), (f"{theirs}.weight",), optional=optional)
    return [scale, *_bias(ours, theirs, optional)]


def batch_norm(ours: str, theirs: str) -> list[Entry]:
    """PyTorch's ``BatchNorm2d`` under ``theirs``, with its running statistics."""
    return [
        *norm(ours, theirs),
        Entry((f"batch_stats/{ours}/mean",), (f"{theirs}.running_mean",)),
        Entry((f"batch_stats/{ours}/var",), (f"{theirs}.running_var",)),
    ]


def same(ours: str, theirs: str, *, optional: bool = False) -> list[Entry]:
    """One array of the same form here and there; ``ours`` is its whole name."""
    return [Entry((ours,), (theirs,), optional=optional)]


def within(entries: Iterable[Entry], ours: str, theirs: str) -> list[Entry]:
    """The correspondences of a model that is a part of another one.

    Args:
        entries: the model's own.
        ours: the part's name in the whole.
        theirs: what stands before its names in a file.
    """
    return [
        dataclasses.replace(
            entry,
            ours=tuple(inside(name, ours) for name in entry.ours),
            theirs=tuple(f"{theirs}{name}" for name in entry.theirs),
        )
        for entry in entries
    ]


def inside(name: str, part: str) -> str:
    """The name that a leaf of a model has where that model is the part ``part`` of another."""
    collection, _, rest = name.partition("/")
    return f"{collection}/{part}/{rest}"


def _bias(ours: str, theirs: str, optional: bool) -> list[Entry]:
    return [Entry((f"params/{ours}/bias",), (f"{theirs}.bias",), optional=optional)]


def _of_rank(array: np.ndarray, rank: int) -> np.ndarray:
    if array.ndim != rank:
        raise WeightsError(
            f"an array of shape {array.shape} stands where one of {rank} axes should"
        )
    return array


def has(arrays: Iterable[str], *patterns: str) -> bool:
    """Whether every one of ``patterns`` matches the whole of some name."""
    names = list(arrays)
    return all(any(re.fullmatch(pattern, name) for name in names) for pattern in patterns)


def count(arrays: Iterable[str], pattern: str) -> int:
    """One more than the largest number that the group of ``pattern`` matches at names' starts.

    Raises:
        WeightsError: there are not even so many names, so that most of what is counted is missing.
    """
    names = list(arrays)
    found = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    if max(found, default=0) > len(names):
        raise WeightsError(f"it is numbered up to {max(found)}, and has {len(names)} arrays")
    return max(found, default=-1) + 1


def bared(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """``arrays`` without a prefix that some of the names have; the others stay as they are.

    Raises:
        WeightsError: two would then have one name.
    """
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if (bare := name.removeprefix(prefix)) in found:
            raise WeightsError(f"has {bare} both as it is and behind {prefix!r}")
        found[bare] = array
    return found


def made_with(project: str, options: Sequence[str]) -> list[str]:
    """What `Layout.differs` says where a project's options make its network the same."""
    if not options:
        return []
    return [f"{project} computes the same where its network is made with {', '.join(options)}"]


def require(module: Model, project: str, **fields: Any) -> None:
    """Raises WeightsError unless ``module`` has these values of fields, as ``project`` wants."""
    for field, value in fields.items():
        if (found := getattr(module, field)) != value:
            raise WeightsError(
                f"{project} has models of {field}={value!r} alone, and this {type(module).__name__}"
                f" has {field}={found!r}"
            )


def square(tokens: int, grid: Sequence[int] | None, where: str) -> tuple[int, int]:
    """(rows, columns) of so many patches: ``grid``, or the sides of a square.

    Raises:
        WeightsError: ``grid`` has another number of patches, or there is no such square.
    """
    if grid is not None:
        rows, columns = grid
        if rows * columns != tokens:
            raise WeightsError(
                f"{where} has {tokens} patches, and a grid of {rows} x {columns} not"
            )
        return rows, columns
    side = round(tokens**0.5)
    if side * side != tokens:
        raise WeightsError(
            f"{where} has {tokens} patches, which make no square; say which grid they make:"
            " grid=(rows, columns)"
        )
    return side, side
