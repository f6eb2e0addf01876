"""A layout: the names and shapes under which another project stores a model's parameters.

A layout is declared once, as a list of correspondences, and is read in both directions: loading
and saving cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from vitjax.models.protocol import Model
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.card import CardReader
from vitjax.weights.layouts.target import Construction, Folded, Written
from vitjax.weights.preprocessing import Preprocessing

Arrays = Mapping[str, np.ndarray]
WriteConfig = Callable[[Construction, Any, Preprocessing], tuple[dict[str, Any] | None, list[str]]]
Forms = Callable[..., tuple[np.ndarray, ...]]


def _same(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return arrays


@dataclasses.dataclass(frozen=True)
class Entry:
    """vitjax's arrays and a project's arrays that hold the same numbers.

    Attributes:
        ours: vitjax's names, such as ``"params/head/kernel"``.
        theirs: the names in the file.
        read: converts their arrays, in order, to ours, in order.
        write: the inverse of ``read``.
        optional: the file may lack ``theirs`` together with the rest of the head; the caller then
            fills in ours.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Forms = _same
    write: Forms = _same
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of the images of a file's network, beside the arrays.

    Attributes:
        grid: (rows, columns) of patches of position embeddings that are stored as one sequence.
        image_size: (height, width) in pixels that the network is probably for. It decides between
            several readings of the positions, and is of no use if none of them has this size.
    """

    grid: tuple[int, int] | None = None
    image_size: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Description:
    """What the shapes in a file say about its model.

    Attributes:
        model: the class of the module.
        fields: fields of the module.
        input_shape: (height, width, channels) of an example that the parameters are made for; None
            if unknown.
        grid: (rows, columns) of patches of the file's position embeddings, if they are stored as
            one sequence.
        guessed: fields that the shapes do not determine, with an explanation of the assumed value.
            A field that is not in ``fields`` must be given by the caller.
        placeholders: valid values of fields that the shapes do not determine. They are used only
            to list the names that the layout explains, which do not depend on them.
        siblings: published networks of the project that have exactly these names and shapes but
            compute something else, with how they differ.
        interpolation: how the project resizes position embeddings, see
            `vitjax.weights.adapting.resize_positions`.
        notes: decisions that more than the arrays led to, in words; they are reported.
    """

    model: type[Model]
    fields: Mapping[str, Any]
    input_shape: tuple[int, ...] | None
    grid: tuple[int, int] | None = None
    guessed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    placeholders: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    siblings: str = ""
    interpolation: str = "bicubic"
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one project stores one family of models.

    A file is of the layout if every pattern of ``required`` matches a name and no pattern of
    ``forbidden`` does; see `vitjax.weights.layouts.recognition`.

    Attributes:
        name: the ``format`` of `vitjax.weights.save` and of the command line.
        modules: the classes of vitjax that it stores.
        source: the project and module that define the names.
        required: patterns; each must match one complete name of a file.
        describe: what the shapes say, given what else is known.
        entries: the correspondences for a module; the second argument has the file's arrays by
            name, or is None for writing. If the description has a grid, it is passed as ``grid``.
        forbidden: patterns, searched for in every name, of arrays that only other networks have,
            and what they are.
        prepare: brings a file's arrays to the form that the other functions expect, for example
            removes a prefix that only some files have.
        ignored: patterns, matched at the start of a name, of arrays without influence on the
            model's outputs.
        companions: patterns, likewise, of other networks that files store beside this one: a text
            tower, a decoder, the head of self-supervised training. Skipping them is reported.
        fold: brings a network that is to be written to an equal one with other parameters, where
            the project's code has no other form of it; it raises WeightsError if it cannot.
        target: the call of the project's code that makes the network of a module, which is to be
            written; it raises WeightsError for a network that the code cannot make. None if files
            are only read.
        config: the content of the project's ``config.json`` for a file, None if it cannot state the
            network, with remarks; None for a project without such files.
        channels_first: whether the project's images are (batch, channels, height, width).
        card: reads ``config.json`` of the project's repositories on Hugging Face.
        suffix: of the files that the project's own tools expect.
    """

    name: str
    modules: tuple[type[Model], ...]
    source: str
    required: tuple[str, ...]
    describe: Callable[[Arrays, Known], Description]
    entries: Callable[..., list[Entry]]
    forbidden: Mapping[str, str] = dataclasses.field(default_factory=dict)
    prepare: Callable[[Arrays], dict[str, np.ndarray]] = dict
    ignored: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    fold: Callable[[Any, dict[str, np.ndarray]], Folded] = Folded
    target: Callable[[Any, Written], Construction] | None = None
    config: WriteConfig | None = None
    channels_first: bool = True
    card: CardReader | None = None
    suffix: str = ".safetensors"

    @property
    def writes(self) -> bool:
        """Whether files can be written; otherwise they are only read."""
        return self.target is not None

    def is_ignored(self, name: str) -> bool:
        """Whether an array of this name has no influence on the outputs."""
        return any(re.match(pattern, name) for pattern in self.ignored)

    def is_companion(self, name: str) -> bool:
        """Whether an array of this name belongs to another network."""
        return any(re.match(pattern, name) for pattern in self.companions)

    def entries_at(
        self, module: Model, arrays: Arrays | None, grid: tuple[int, int] | None
    ) -> list[Entry]:
        """The ``entries``, given the grid only if the layout has one."""
        return self.entries(module, arrays, **({} if grid is None else {"grid": grid}))


# Conversions of single layers. PyTorch stores kernels as (out, in, height, width) and (out, in),
# vitjax and TensorFlow as (height, width, in, out) and (in, out).


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


def absent_bias(ours: str, width: int) -> Entry:
    """The bias of a layer that has none in the file: zeros."""
    return Entry((f"params/{ours}/bias",), (), lambda: (np.zeros(width, np.float32),))


def same(ours: str, theirs: str, *, optional: bool = False) -> list[Entry]:
    """One array of the same shape in both; ``ours`` is its complete name."""
    return [Entry((ours,), (theirs,), optional=optional)]


def within(entries: Iterable[Entry], ours: str, theirs: str) -> list[Entry]:
    """The correspondences of a model that is a submodule of another one.

    Args:
        entries: of the model alone.
        ours: the submodule's name.
        theirs: the prefix of its names in a file.
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
    """The name of a leaf of a model that is the submodule ``part`` of another model."""
    collection, _, rest = name.partition("/")
    return f"{collection}/{part}/{rest}"


def _bias(ours: str, theirs: str, optional: bool) -> list[Entry]:
    return [Entry((f"params/{ours}/bias",), (f"{theirs}.bias",), optional=optional)]


def _of_rank(array: np.ndarray, rank: int) -> np.ndarray:
    if array.ndim != rank:
        raise WeightsError(f"has shape {array.shape}, but an array with {rank} axes is expected")
    return array


def count(arrays: Iterable[str], pattern: str) -> int:
    """One more than the largest number that the group of ``pattern`` matches at names' starts.

    Raises:
        WeightsError: the number exceeds the number of arrays, so most of the layers are missing.
    """
    names = list(arrays)
    found = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    if max(found, default=0) > len(names):
        raise WeightsError(
            f"its layers are numbered up to {max(found)}, but it has only {len(names)} arrays"
        )
    return max(found, default=-1) + 1


def bared(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """``arrays`` with ``prefix`` removed from the names that have it.

    Raises:
        WeightsError: two arrays would have the same name.
    """
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if (bare := name.removeprefix(prefix)) in found:
            raise WeightsError(f"has {bare} both with and without the prefix {prefix!r}")
        found[bare] = array
    return found


def require(module: Model, project: str, **fields: Any) -> None:
    """Raises WeightsError unless ``module`` has the values of fields that ``project`` supports."""
    for field, value in fields.items():
        if (found := getattr(module, field)) != value:
            raise WeightsError(
                f"{project} supports only {field}={value!r}; this {type(module).__name__} has"
                f" {field}={found!r}"
            )
