"""Layouts of families whose names in a file are vitjax's, translated layer by layer.

The network of a file is the registered one that has exactly the file's names and shapes, apart from
the head and the channels of images. So a family declares no more than how its layers are called.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vitjax import models
from vitjax.models.convnet import ConvNet, variable_shapes
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts import timm_config
from vitjax.weights.layouts.card import CardReader
from vitjax.weights.layouts.layout import (
    Arrays,
    Description,
    Entry,
    Known,
    Layout,
    convolution,
    dense,
    same,
)
from vitjax.weights.layouts.target import Construction, Written, check_fields, needs_head, refuse
from vitjax.weights.layouts.timm_card import TimmConvNetCard

# The leaves of a layer other than a kernel.
_LEAVES = {
    "bias": "bias",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
# The project's name of a layer of a module, from vitjax's, such as "stage1_conv1".
Translate = Callable[[Any, str], str]
# The entries of a layer that is stored in another form, from vitjax's and the project's name.
Special = Callable[[str, str], list[Entry]]


@dataclasses.dataclass(frozen=True, eq=False)  # by identity, for the cache
class Family:
    """How one project stores one family of models.

    Attributes:
        project: ``"timm"``, ``"torchvision"``, or another one with ``call``.
        model: the class of the family.
        source: the project and module that define the names.
        names: the registered models that the project has, each with the project's name of it.
        translate: the project's name of a layer, see `renamed`.
        required: see `Layout`.
        forbidden: see `Layout`.
        special: entries of single layers that are stored in another form, by vitjax's name.
        variants: fields with which each model is compared as well, such as those without auxiliary
            heads.
        guessed: see `Description`.
        siblings: other networks of the project with the same names and shapes, in words, by
            registered model.
        construct: changes the call that makes a model, given the module.
        ignored: see `Layout`.
        prepare: see `Layout`.
        plausible: whether a file may be of a module, by little work: the others are not compared.
        card: reads timm's cards, if they state fields of the family.
        call: makes the call of a project other than timm and torchvision, from the project's name
            of a model. Its ``num_classes`` are added.
    """

    project: str
    model: type[ConvNet]
    source: str
    names: Mapping[str, str]
    translate: Translate
    required: tuple[str, ...]
    forbidden: Mapping[str, str] = dataclasses.field(default_factory=dict)
    special: Mapping[str, Special] = dataclasses.field(default_factory=dict)
    variants: Sequence[Mapping[str, Any]] = ({},)
    guessed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    siblings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    construct: Callable[[Construction, Any], Construction] = lambda made, module: made
    ignored: tuple[str, ...] = (r".*num_batches_tracked$",)
    prepare: Callable[[Arrays], dict[str, np.ndarray]] = dict
    plausible: Callable[[Any, Arrays], bool] = lambda module, arrays: True
    card: CardReader | None = None
    call: Callable[[str, Written], Construction] | None = None

    def layout(self) -> Layout:
        """The layout, for a module's ``LAYOUTS``."""
        timm = self.project == "timm"
        return Layout(
            name=self.project,
            modules=(self.model,),
            source=self.source,
            required=self.required,
            forbidden=self.forbidden,
            describe=self._describe,
            entries=lambda module, arrays: self._entries(module),
            prepare=self.prepare,
            ignored=self.ignored,
            target=self._target,
            config=self._config if timm else None,
            card=self.card or TimmConvNetCard(),
            suffix=".safetensors" if timm else ".pth",
        )

    def _entries(self, module: ConvNet) -> list[Entry]:
        found = []
        for path, leaves in _layers(module).items():
            theirs = self.translate(module, path)
            own = self.special[path](path, theirs) if path in self.special else None
            entries = _layer_entries(path, theirs, leaves) if own is None else own
            optional = module.head_of(path) is not None
            found += [dataclasses.replace(entry, optional=optional) for entry in entries]
        return found

    def _shapes(self, module: ConvNet) -> dict[str, tuple[int, ...]]:
        """The names and shapes of the arrays of a module in a file."""
        return _file_shapes(self, module)

    def _describe(self, arrays: Arrays, known: Known) -> Description:
        del known
        best: tuple[int, str, ConvNet, str] | None = None
        for name, module in self._modules():
            if not self.plausible(module, arrays):
                continue
            wrong, example = self._compared(module, arrays)
            if best is None or wrong < best[0]:
                best = wrong, name, module, example
            if not wrong:
                break
        if best is None:
            raise WeightsError(f"is none of {', '.join(self.names.values())}")
        wrong, name, module, example = best
        if wrong:
            raise WeightsError(
                f"is none of {', '.join(self.names.values())}: the nearest is {self.names[name]},"
                f" from which {wrong} arrays differ, such as {example}"
            )
        module = module.with_head(self._classes(module, arrays))
        side, *_ = models.input_shape(name)
        return Description(
            self.model,
            module.described_fields(),
            (side, side, self._channels(module, arrays)),
            guessed=self.guessed,
            siblings=self.siblings.get(name, ""),
        )

    def _modules(self) -> Iterator[tuple[str, ConvNet]]:
        for name in self.names:
            for fields in self.variants:
                module = models.create(name, **fields)
                assert isinstance(module, ConvNet)
                yield name, module

    def _compared(self, module: ConvNet, arrays: Arrays) -> tuple[int, str]:
        """How many arrays differ from those of a module, and one of them."""
        wanted = self._shapes(module)
        free = self._free(module)
        ignored = Layout.is_ignored
        layout = self.layout()
        names = {n for n in arrays if not ignored(layout, n)}
        wrong = sorted(
            name
            for name in names | set(wanted)
            if name not in free
            and (name not in wanted or name not in arrays or arrays[name].shape != wanted[name])
        )
        return len(wrong), wrong[0] if wrong else ""

    def _free(self, module: ConvNet) -> set[str]:
        """The arrays whose shapes depend on classes or on channels of images."""
        kernels = {f"params/{kernel}" for kernel in module.image_kernels}
        return {
            theirs
            for entry in self._entries(module)
            for theirs in entry.theirs
            if entry.optional or not kernels.isdisjoint(entry.ours)
        }

    def _classes(self, module: ConvNet, arrays: Arrays) -> int | None:
        for entry in self._entries(module):
            ours = entry.ours[0].removeprefix("params/")
            head = entry.optional and not module.hidden_in_head(ours)
            if head and ours.endswith("kernel"):
                for name in entry.theirs:
                    if name in arrays:
                        return entry.read(arrays[name])[0].shape[-1]
        return None

    def _channels(self, module: ConvNet, arrays: Arrays) -> int:
        kernel = f"params/{module.image_kernels[0]}"
        (entry,) = (entry for entry in self._entries(module) if kernel in entry.ours)
        channels: int = entry.read(*(arrays[name] for name in entry.theirs))[0].shape[2]
        return channels

    def _target(self, module: ConvNet, written: Written) -> Construction:
        # A field that the family gets later is refused, until it is known what the project has.
        check_fields(self.project, module, frozenset(self.model.field_names()))
        own = module.effective_fields()
        differences: dict[str, list[str]] = {}
        for name, other in self._modules():
            theirs = other.effective_fields()
            wrong = [k for k in theirs if k != "num_classes" and own[k] != theirs[k]]
            if not wrong:
                return self._construction(name, module, written)
            differences[name] = [f"{k}={theirs[k]!r}" for k in wrong]
        name = min(differences, key=lambda each: len(differences[each]))
        words = ", ".join(differences[name])
        raise WeightsError(
            f"{self.project} supports only {words} with its {self.names[name]}; this"
            f" {type(module).__name__} has "
            + ", ".join(f"{k}={own[k]!r}" for k in (w.partition("=")[0] for w in differences[name]))
        )

    def _construction(self, name: str, module: ConvNet, written: Written) -> Construction:
        theirs = self.names[name]
        if self.project == "timm":
            arguments = {"num_classes": module.num_outputs, "in_chans": written.channels}
            made = Construction("timm.create_model", (theirs,), arguments, ["import timm"])
        elif self.call is not None:
            needs_head(self.project, module)
            made = self.call(theirs, written)
            classes = {"num_classes": module.num_outputs}
            made = dataclasses.replace(made, arguments={**classes, **made.arguments})
        else:
            needs_head(self.project, module)
            refuse(self.project, module, {"channels of images": (written.channels, 3)})
            arguments = {"num_classes": module.num_outputs}
            call = f"torchvision.models.{theirs}"
            made = Construction(call, (), arguments, ["import torchvision"])
        return self.construct(made, module)

    def _config(self, construction: Construction, model: Any, images: Any) -> Any:
        first, head = (
            self.translate(model, path)
            for path in (model.image_kernels[0].rpartition("/")[0], str(model.head_name))
        )
        return timm_config.config(construction, model, images, parts=(first, head))


def renamed(*pairs: tuple[str, str | Callable[[Any], str]]) -> Translate:
    """Translates by the first pattern that matches a whole name, whatever the module.

    Args:
        *pairs: patterns, and what names become: a template as of `re.Match.expand`, or a function
            of the match.

    Raises:
        KeyError: in the result, for a name that no pattern matches.
    """

    def translate(module: Any, name: str) -> str:
        del module
        for pattern, replacement in pairs:
            if (found := re.fullmatch(pattern, name)) is not None:
                return replacement(found) if callable(replacement) else found.expand(replacement)
        raise KeyError(name)

    return translate


def pointwise(ours: str, theirs: str, *, bias: bool = True) -> list[Entry]:
    """PyTorch's 1 x 1 ``Conv2d`` as our dense layer."""
    kernel = Entry(
        (f"params/{ours}/kernel",),
        (f"{theirs}.weight",),
        lambda x: (x.reshape(x.shape[:2]).T,),
        lambda x: (x.T[:, :, None, None],),
    )
    return [kernel, *(same(f"params/{ours}/bias", f"{theirs}.bias") if bias else [])]


def flattened(ours: str, theirs: str, side: int, *, spatial: bool = False) -> list[Entry]:
    """A dense layer that reads a flattened map, whose channels PyTorch has before the pixels.

    Args:
        ours: vitjax's name.
        theirs: the project's name.
        side: of the map in pixels.
        spatial: the project has a convolution over the whole map in place of a dense layer.
    """

    def read(x: np.ndarray) -> tuple[np.ndarray, ...]:
        x = x.reshape(len(x), -1, side, side)
        return (x.transpose(2, 3, 1, 0).reshape(-1, len(x)),)

    def write(x: np.ndarray) -> tuple[np.ndarray, ...]:
        x = x.reshape(side, side, -1, x.shape[-1]).transpose(3, 2, 0, 1)
        return (x if spatial else x.reshape(len(x), -1),)

    kernel = Entry((f"params/{ours}/kernel",), (f"{theirs}.weight",), read, write)
    return [kernel, *same(f"params/{ours}/bias", f"{theirs}.bias")]


def _layer_entries(
    path: str, theirs: str, leaves: Mapping[str, tuple[str, tuple[int, ...]]]
) -> list[Entry]:
    found: list[Entry] = []
    for leaf, (collection, shape) in leaves.items():
        if leaf == "kernel":
            form = convolution if len(shape) == 4 else functools.partial(dense, bias=False)
            found += form(path, theirs)
        else:
            found += same(f"{collection}/{path}/{leaf}", f"{theirs}.{_LEAVES[leaf]}")
    return found


@functools.cache
def _layers(module: ConvNet) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """The layers of a module, in its order: each leaf's collection and shape."""
    found: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {}
    for collection in ("params", "batch_stats"):
        for name, shape in variable_shapes(module).items():
            path, _, last = name.rpartition("/")
            if path.startswith(f"{collection}/"):
                found.setdefault(path.removeprefix(f"{collection}/"), {})[last] = collection, shape
    return found


@functools.cache
def _file_shapes(family: Family, module: ConvNet) -> dict[str, tuple[int, ...]]:
    shapes = {
        f"{collection}/{path}/{leaf}": shape
        for path, leaves in _layers(module).items()
        for leaf, (collection, shape) in leaves.items()
    }
    found: dict[str, tuple[int, ...]] = {}
    for entry in family._entries(module):
        # Views of one number, which take neither memory nor, as a trace would, time.
        ours = (np.broadcast_to(np.float32(0), shapes[name]) for name in entry.ours)
        written = entry.write(*ours)
        found |= {n: x.shape for n, x in zip(entry.theirs, written, strict=True)}
    return found
