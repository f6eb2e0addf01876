"""What another project's code must be called with to load a file that vitjax wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.models.protocol import Model
from vitjax.weights.errors import WeightsError

# How PyTorch reads each container: the import, and the state dict of a file PATH.
_STATE_DICTS = {
    ".safetensors": ("from safetensors.torch import load_file", "load_file(PATH)"),
    ".npz": (
        "import numpy as np",
        "{name: torch.from_numpy(array) for name, array in np.load(PATH).items()}",
    ),
}
_PICKLED = ("import torch", "torch.load(PATH, weights_only=True)")


class Code(str):
    """An expression that stands for itself among the arguments of a call."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclasses.dataclass(frozen=True)
class Written:
    """What is written, beyond the fields of the module.

    Attributes:
        height: of the model's images in pixels; None if unknown.
        width: likewise.
        channels: of the images.
        arrays: the variables under vitjax's names.
    """

    height: int | None
    width: int | None
    channels: int
    arrays: Mapping[str, np.ndarray]

    @property
    def sides(self) -> tuple[int, int] | None:
        """(height, width); None if unknown."""
        return None if self.height is None or self.width is None else (self.height, self.width)


@dataclasses.dataclass(frozen=True)
class Folded:
    """An equal network that another project's code can make.

    Attributes:
        module: the network.
        arrays: its variables under vitjax's names.
        remarks: what was changed, one sentence each.
    """

    module: Any
    arrays: dict[str, np.ndarray]
    remarks: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Construction:
    """A call of another project's code that makes the network of a file.

    Attributes:
        call: the function or class, such as ``"timm.create_model"``.
        positional: its positional arguments.
        arguments: its keyword arguments.
        imports: the statements that the expression needs.
        load: statements that load the file ``PATH``; empty for a PyTorch module.
        remarks: what the expression does not say, one sentence each.
    """

    call: str
    positional: Sequence[Any] = ()
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    imports: Sequence[str] = ()
    load: Sequence[str] = ()
    remarks: Sequence[str] = ()

    @property
    def expression(self) -> str:
        """The call as Python code."""
        keywords = [f"{name}={value!r}" for name, value in self.arguments.items()]
        return f"{self.call}({', '.join([*map(repr, self.positional), *keywords])})"

    def program(self, path: Path, project: str) -> str:
        """A Python program that makes the network and loads ``path``, which is beside it."""
        load = list(self.load)
        imports = ["from pathlib import Path", *self.imports]
        if not load:
            statement, state = _STATE_DICTS.get(path.suffix, _PICKLED)
            imports += [statement, *(["import torch"] if path.suffix == ".npz" else [])]
            load = [f"model.load_state_dict({state})", "model.eval()"]
        lines = [
            f'"""The network in {path.name}, which vitjax wrote for {project}."""',
            "",
            *dict.fromkeys(imports),
            "",
            f"PATH = Path(__file__).with_name({path.name!r})",
            *(f"# {line}" for line in self.remarks),
            f"model = {self.expression}",
            *load,
        ]
        return "\n".join(lines) + "\n"


def refuse(project: str, module: Model, wrong: Mapping[str, tuple[Any, Any]]) -> None:
    """Raises WeightsError for the entries of ``wrong`` whose two values differ.

    Args:
        project: whose constructor it is.
        module: the model.
        wrong: by what is compared, the model's value and the only one that the project has.
    """
    found = [
        f"{name}={right!r} (this {type(module).__name__} has {mine!r})"
        for name, (mine, right) in wrong.items()
        if mine != right
    ]
    if found:
        raise WeightsError(f"{project} has only {', '.join(found)}")


def check_fields(project: str, module: Model, fields: frozenset[str]) -> None:
    """Raises WeightsError for a field beyond ``fields`` that is not at its default.

    A field that a model gets later is so refused, until the project's constructor is known to have
    it.

    Args:
        project: whose constructor it is.
        module: the model.
        fields: those whose values are regarded, or do not change the outputs.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(module)}
    for name, value in module.described_fields().items():
        if name not in fields and value != defaults[name]:
            raise WeightsError(
                f"{project} supports only {name}={defaults[name]!r}; this {type(module).__name__}"
                f" has {name}={value!r}"
            )


def needs_head(project: str, module: Model) -> None:
    """Raises WeightsError for a model without a head."""
    if not module.num_outputs:
        raise WeightsError(
            f"{project} has no network without a head, and this {type(module).__name__} has none"
            " (num_classes=None)"
        )


def check_sides(
    project: str,
    model: str,
    written: Written,
    *,
    least: int | None = None,
    most: int | None = None,
    square: bool = False,
) -> None:
    """Raises WeightsError for images of sizes that the code pools in another way.

    Args:
        project: whose code it is.
        model: the class of the model.
        written: the images.
        least: pixels of a side, at least.
        most: pixels of a side, at most.
        square: only square images.
    """
    if written.sides is None:
        return
    height, width = written.sides
    if square and height != width:
        raise WeightsError(
            f"{project} takes square images, and this {model} takes {height} x {width}"
        )
    if (
        least is not None
        and most is not None
        and not least <= min(height, width) <= max(height, width) <= most
    ):
        raise WeightsError(
            f"{project} takes images of {least} to {most} pixels on a side, and this {model} takes"
            f" {height} x {width}"
        )
