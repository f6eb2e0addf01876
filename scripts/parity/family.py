"""Write what references say of a family of convolutional networks, for tests/families.

    python -m scripts.parity.family vgg mobilenet_v2

Wants PyTorch, torchvision and timm (2.13.0, 0.29.1, 1.0.31), and nothing of JAX. For each member
the numbers of parameters and the names and shapes of arrays go into tests/families/FAMILY.json, by
networks without numbers. For each case the logits and activations that the reference computes in
float64, with weights from a seed, go into tests/families/fixtures/CASE.npz.
"""

import dataclasses
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from scripts.parity.write import watch

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path.insert(0, str(TESTS / "helpers"))

import seeded  # type: ignore[import-not-found]  # noqa: E402


@dataclasses.dataclass
class Member:
    """A registered model of vitjax and the network of a project that it is.

    Attributes:
        ours: its name.
        format: ``"timm"`` or ``"torchvision"``; "" for other code, whose files are not read.
        build: makes the network.
        fields: of vitjax's model, where it is not the registered one.
    """

    ours: str
    format: str
    build: Callable[[], nn.Module]
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Case:
    """A network that is small enough to be computed in tests.

    Attributes:
        ours: the name of vitjax's model.
        format: whose names its weights have; "" for vitjax's, with points for slashes.
        build: makes the reference.
        fields: of vitjax's model, where it is not the registered one.
        shape: of the images, as PyTorch has it.
        watched: patterns of names of modules, and names of vitjax's activations.
        train: in training, by the batch's statistics and without dropout.
        outputs: names of vitjax's outputs of a reference that returns several: "logits" and those
            of the auxiliary heads.
    """

    ours: str
    format: str
    build: Callable[[], nn.Module]
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    shape: tuple[int, ...] = (2, 3, 64, 64)
    watched: dict[str, Any] = dataclasses.field(default_factory=dict)
    train: bool = False
    outputs: tuple[str, ...] = ("logits",)


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The names and shapes of what a file of the model holds, without counters of batches."""
    return {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def described(member: Member) -> dict[str, Any]:
    """The entry of a member."""
    with torch.device("meta"):
        model = member.build()
    shapes = shapes_of(model)
    return {
        "model": member.ours,
        "fields": member.fields,
        "format": member.format,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "arrays": len(shapes),
        "digest": seeded.digest(shapes),
    }


def write(path: Path, case: Case) -> None:
    """Writes the fixture of a case."""
    model = case.build()
    shapes = shapes_of(model)
    state = {name: torch.from_numpy(array) for name, array in seeded.weights(shapes).items()}
    model.double().load_state_dict(state, strict=False)
    model.train(case.train)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    batch, channels, *sides = case.shape
    images = seeded.images((batch, *sides, channels))
    seen = watch(model, case.watched)
    with torch.no_grad():
        outputs = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    arrays: dict[str, Any] = {
        name: output.numpy() for name, output in zip(case.outputs, outputs, strict=True)
    }
    kept = {f"seen/{name}": x.reshape(-1)[seeded.places(x.shape)] for name, x in seen.items()}
    sizes = {name: list(x.shape) for name, x in seen.items()}
    for name, array in {**arrays, **kept}.items():
        largest = np.abs(array).max()
        assert 1e-6 < largest < 1e9, f"{path.stem}: {name} is {largest:.1e}: no good for comparing"
    spec = {
        "model": case.ours,
        "fields": case.fields,
        "format": case.format,
        "train": case.train,
        "images": list(images.shape),
        "arrays": shapes,
        "shapes": sizes,
    }
    np.savez_compressed(
        path,
        spec=np.array(json.dumps(spec)),
        **{f"outputs/{name}": array for name, array in arrays.items()},
        **kept,
    )
    count = sum(parameter.numel() for parameter in model.parameters())
    size = path.stat().st_size
    print(f"{path.stem}: {count:,} parameters, {len(seen)} activations, {size:,} bytes")


def main() -> None:
    """Writes the families whose names are given."""
    for name in sys.argv[1:]:
        family = importlib.import_module(f"scripts.parity.families.{name}")
        path = TESTS / "families" / f"{name}.json"
        found = json.loads(path.read_text()) if path.exists() else {"small": {}}
        found["members"] = [described(member) for member in family.MEMBERS]
        path.write_text(json.dumps(found, indent=1) + "\n")
        for case_name, case in family.CASES.items():
            write(TESTS / "families" / "fixtures" / f"{case_name}.npz", case)


if __name__ == "__main__":
    main()
