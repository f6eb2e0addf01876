"""Which arrays of a file are which parameters of a model, and what does not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from vitjax.core.text import shortened
from vitjax.models.protocol import Model
from vitjax.weights import naming
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts import Arrays
from vitjax.weights.layouts.layout import inside
from vitjax.weights.opening import Weights, class_of

# How the words about an array begin that no entry of the layout takes.
LEFT_OVER = "left over in the file"


def part_for(weights: Weights, module: Model) -> tuple[str, Model] | None:
    """Name and module of the part of a model that a file is for; None for the complete model."""
    layout, described = weights.layout, class_of(weights.description.model)[0]
    classes = (described,) if layout is None else layout.modules
    if isinstance(module, classes):
        return None
    part = module.backbone
    if part is not None and isinstance(part[1], classes):
        return part
    held = " or ".join(cls.__name__ for cls in classes)
    file, model = naming.of(weights.description), naming.nearest(module)
    words = "" if file is None or model is None else f": this is a {file}, the model is a {model}"
    config = "" if file is None else f"\n  {file.config}"
    raise WeightsError(
        f"{weights.where} has the format {weights.format!r} of a {held}, but the model is a"
        f" {type(module).__name__}{words}{config}"
    )


def compare(weights: Weights, module: Model, say: Callable[[str], None]) -> list[str]:
    """Reports fields that differ between file and model, and that no shape shows.

    Returns:
        Differences with which the weights are of no use.
    """
    described, faults = weights.description, []
    ours = module.described_fields()
    for field, rule in module.shapeless_fields.items():
        if field not in described.fields or field in described.guessed:
            continue
        there, here = described.fields[field], ours[field]
        there = tuple(there) if isinstance(there, list) else there  # JSON has no tuples
        if there == here or (rule.shown is not None and rule.shown in (there, here)):
            continue
        if rule.needs is not None and ours[rule.needs[0]] != rule.needs[1]:
            continue
        if rule.exact:
            faults.append(f"{field} is {there!r} in the file and {here!r} in the model")
            continue
        say(
            f"{weights.where}: the file's network has {field}={there!r}, the model {here!r}, so it"
            f" computes something else; set {field}={there!r} (config.model.{field}) for the same"
        )
    return faults


@dataclasses.dataclass(frozen=True)
class Fault:
    """What of a file cannot be used.

    Attributes:
        words: what and why.
        ours: the model's parameters that it is for.
        damaged: whether it has a form that no network's arrays have.
    """

    words: str
    ours: tuple[str, ...] = ()
    damaged: bool = False

    def concerns(self, names: Set[str]) -> bool:
        """Whether it is about none but the parameters ``names``."""
        return bool(self.ours) and all(name in names for name in self.ours)


@dataclasses.dataclass(frozen=True)
class Found:
    """A file's arrays for a model.

    Attributes:
        leaves: under vitjax's names.
        faults: of the others.
        origins: the file's names of the arrays that each leaf is made of.
    """

    leaves: dict[str, np.ndarray]
    faults: list[Fault]
    origins: dict[str, tuple[str, ...]]


def found_in(weights: Weights, module: Model, part: tuple[str, Model] | None) -> Found:
    """A file's arrays for a model, or for its ``part``."""
    if part is not None:
        name, inner = part
        found = found_in(weights, inner, None)
        # A part has no head of its own.
        own = [key for key in found.leaves if not head_of(key, inner)]
        return Found(
            {inside(key, name): found.leaves[key] for key in own},
            [
                Fault(fault.words, tuple(inside(key, name) for key in fault.ours))
                for fault in found.faults
            ],
            {inside(key, name): found.origins.get(key, (key,)) for key in own},
        )
    if weights.layout is None:
        return Found(dict(weights.arrays), [], {})
    layout, left = weights.layout, dict(weights.arrays)
    leaves: dict[str, np.ndarray] = {}
    faults: list[Fault] = []
    origins: dict[str, tuple[str, ...]] = {}
    try:
        entries = layout.entries_at(module, weights.arrays, weights.description.grid)
    except WeightsError as error:
        raise WeightsError(f"{weights.where}, read as {layout.name}: {error}") from error
    for entry in entries:
        lacking = [name for name in entry.theirs if name not in weights.arrays]
        if lacking:
            if not (entry.optional and len(lacking) == len(entry.theirs)):
                words = f"missing in the file: {', '.join(lacking)} (for {', '.join(entry.ours)})"
                faults.append(Fault(words, entry.ours))
            continue
        given = [left.pop(name, weights.arrays[name]) for name in entry.theirs]
        try:
            leaves |= dict(zip(entry.ours, entry.read(*given), strict=True))
        except (ValueError, IndexError, TypeError) as error:
            faults.append(Fault(f"{', '.join(entry.theirs)}: {error}", entry.ours, True))
        else:
            origins |= dict.fromkeys(entry.ours, entry.theirs)
    faults += [
        Fault(f"{LEFT_OVER}: {name} {array.shape}")
        for name, array in left.items()
        if not layout.is_ignored(name)
    ]
    return Found(leaves, faults, origins)


def misfits_of(found: Arrays, shapes: Mapping[str, Any], initial: Sequence[str]) -> list[str]:
    """What differs between the leaves ``found`` and the ``shapes`` of a model, in words."""
    faults = []
    for name, leaf in shapes.items():
        if name not in found:
            faults.append(f"the model's {name} {tuple(leaf.shape)} is not in the file")
        elif found[name].shape != tuple(leaf.shape):
            faults.append(f"{name} is {found[name].shape} in the file and {tuple(leaf.shape)} here")
    extra = [name for name in found if name not in shapes and name not in initial]
    return faults + [f"the file's {name} {found[name].shape} is not in the model" for name in extra]


def initial_heads(
    found: Arrays, shapes: Mapping[str, Any], dropped: Sequence[str], module: Model
) -> list[str]:
    """The parameters of heads that the file lacks, or has for other classes.

    A head is taken or reinitialised as a unit, with a hidden layer before it: a bias that happens
    to fit is not kept without its kernel. If the file has only some fitting parameters of a head,
    the others are missing.
    """
    ours = [name for name in sorted(shapes) if head_of(name, module)]
    theirs = {head_of(name, module) for name in found}
    initial = {head_of(name, module) for name in dropped}
    for name in ours:
        here = tuple(shapes[name].shape)
        there = found[name].shape if name in found else here
        # With another number of axes it is damaged, not for other classes.
        if head_of(name, module) not in theirs or (len(there) == len(here) and there != here):
            initial.add(head_of(name, module))
    return [name for name in ours if head_of(name, module) in initial]


def head_of(name: str, module: Model) -> str | None:
    """The head that the variable ``name`` belongs to, if any."""
    return module.head_of(name.removeprefix("params/"))


def auxiliary(name: str, module: Model) -> bool:
    """Whether the variable ``name`` belongs to an auxiliary head."""
    return head_of(name, module) in module.auxiliary_heads


def about_head(
    weights: Weights,
    found: Arrays,
    shapes: Mapping[str, Any],
    initial: Sequence[str],
    dropped: Sequence[str],
    module: Model,
) -> str:
    """Why a head is reinitialised."""

    def hidden(name: str) -> bool:
        return module.hidden_in_head(name.removeprefix("params/"))

    kernels = [name for name in initial if name.endswith("kernel") and not hidden(name)]
    kernels.sort(key=lambda name: auxiliary(name, module))  # the main head first
    kernel = next(iter(kernels), initial[0])
    here = tuple(shapes[kernel].shape)
    if kernel not in found:
        own = "the file has none"
        if weights.heads:
            own = f"the file's has another form ({shortened(weights.heads, 3)})"
        return f"{own}, the model has {here[-1]} outputs"
    if any(hidden(name) and not auxiliary(name, module) for name in dropped):
        return "the file's follows a hidden layer (representation_size), the model's does not"
    there = found[kernel].shape
    if len(there) != len(here) or there[-1] == here[-1]:
        return f"the file's is {there}, the model's {here}"
    return f"the file's has {there[-1]} outputs, the model's {here[-1]}"
