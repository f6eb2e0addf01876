"""The parts of `scripts/bench/gpu.sh`: their commands, and which cells of the table they fill.

Needs the standard library alone, so that a table of nulls can be written where nothing else works.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Cells = dict[str, Any]  # by column
Rows = dict[str, Cells]  # by the row's name
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# Columns of each table; the first column, the row's name, is not listed.
COLUMNS: dict[str, tuple[str, ...]] = {
    "training": (
        *("images/s", "MFU", "timm eager, images/s", "ratio to eager"),
        *("timm compiled, images/s", "ratio to compiled", "goal"),
    ),
    "maml": ("ms", "PyTorch loop, ms", "torch.func, ms", "ratio to the loop", "goal"),
    "choices": ("ms", "time / auto's", "auto takes it", "wins"),
    "cifar10": ("test accuracy, %", "seconds of training", "images/s", "goal"),
    "tests": ("passed", "failed", "skipped", "goal"),
}
LOOP, FUNC = "torch autograd", "torch.func"


class NoResult(Exception):
    """A part ended without the result that it should have; the message says why."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One program that is run, and the rows that it fills.

    Attributes:
        name: of the part, for ``--parts``.
        table: a key of `COLUMNS`.
        rows: the names of its rows, with the cells that are known before it runs.
        arguments: of Python; ``{json}`` and ``{folder}`` are a file and a folder for its results.
        expected: seconds that it takes on one H100, by estimate; it is not started with less left.
        read: makes the rows from the folder that has ``part.jsonl``.
        needs: what it cannot do without: names of `scripts/bench/gpu_needs.py`.
        patience: how many times that long it may take.
        alone: whether it needs a process of its own; others share one.
    """

    name: str
    table: str
    rows: Mapping[str, Cells]
    arguments: tuple[str, ...]
    expected: float
    read: Callable[[Path], Rows]
    needs: tuple[str, ...] = ("gpu",)
    patience: float = 2.0
    alone: bool = False

    @property
    def limit(self) -> float:
        """Seconds after which it is ended."""
        return self.patience * self.expected

    def empty(self) -> Rows:
        """Its rows before it has run: null in every column that is not known."""
        nulls = dict.fromkeys(COLUMNS[self.table])
        return {name: {**nulls, **known} for name, known in self.rows.items()}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a run and a dry run have different.

    Attributes:
        models: the networks that take the place of others.
        training: options of ``training.py``.
        vit: further ones for ViTs.
        maml: options of ``maml.py``.
        choices: options of ``gpu_choices.py``.
        chunk: episodes of the mapping between ``vmap`` and ``scan``.
        cifar10: overrides of the config.
        expected: seconds of each part; 0 for its own.
        patience: as of `Part`.
    """

    models: Mapping[str, str]
    training: tuple[str, ...]
    vit: tuple[str, ...]
    maml: tuple[str, ...]
    choices: tuple[str, ...]
    chunk: int
    cifar10: tuple[str, ...]
    expected: float = 0.0
    patience: float = 2.0


REAL = Sizes(
    models={},
    training=(
        *("--image-size=224", "--batch-size=128", "--dtype=bfloat16"),
        *("--rounds=3", "--steps=10"),
    ),
    vit=(),
    maml=("--case=omniglot", "--episodes=32", "--rounds=2"),
    choices=("--case=omniglot", "--episodes=32", "--rounds=3"),
    chunk=8,
    cifar10=(),
)
TINY_EPISODES = ("--filters=4", "--episodes=2", "--inner-steps=1")
TINY = Sizes(
    models={"vit_s16": "vit_ti16", "vit_b16": "vit_ti16", "resnet50": "resnet18"},
    training=(
        *("--image-size=8", "--batch-size=2", "--num-classes=10", "--dtype=bfloat16"),
        *("--rounds=1", "--steps=1"),
    ),
    vit=("--patch-size=8", "--depth=1"),
    maml=("--case=omniglot", *TINY_EPISODES, "--rounds=1"),
    choices=("--case=omniglot", *TINY_EPISODES, "--rounds=1"),
    chunk=2,
    cifar10=(
        "--config.data.source=synthetic",
        "--config.data.path=None",
        "--config.data.examples=64",
        "--config.data.val_examples=16",
        "--config.data.batch_size=16",
        "--config.data.eval_batch_size=16",
        "--config.model.name=resnet20",
        "--config.model.stem=None",
        "--config.train.epochs=None",
        "--config.train.steps=1",
    ),
    expected=10.0,
    patience=30.0,
)


def create(sizes: Sizes, data: str | None) -> list[Part]:
    """All parts, the most important first.

    Args:
        sizes: `REAL` or `TINY`.
        data: the path of ``cifar10.npz``.
    """

    def training(model: str, title: str, *forms: str, expected: float, **goals: str) -> Part:
        named = {"plain": "plain", "fused": "cuDNN attention", "remat": "remat"}
        rows = {f"{title}, {named[form]}": {"goal": goals.get(form)} for form in forms}
        command = (
            str(HERE / "training.py"),
            *("--models", sizes.models.get(model, model), *sizes.training),
            *(sizes.vit if model.startswith("vit") else ()),
            *("--forms", *forms, "--torch", "eager", "compile", "--json", "{json}"),
        )
        return Part(model, "training", rows, command, expected, read_training(*rows))

    def maml(name: str, *options: str, expected: float, goal: str | None = None) -> Part:
        row = f"Omniglot, second order, {name}"
        command = (
            *(str(HERE / "maml.py"), *sizes.maml, *options),
            *("--peers", LOOP, FUNC, "--json", "{json}"),
        )
        return Part(
            f"maml_{name.lower()}", "maml", {row: {"goal": goal}}, command, expected, read_maml(row)
        )

    mappings = {"vmap": "vmap", "scan": "scan", "chunks": f"chunks of {sizes.chunk}"}
    cifar10_row = "configs/cifar10/resnet18.py:fast"
    cifar10 = Part(
        "cifar10",
        "cifar10",
        {cifar10_row: {"goal": "94%"}},
        (
            *("-m", "vitjax", "train", f"--config={ROOT / cifar10_row}"),
            *("--workdir={folder}/run", f"--config.data.path={data}", *sizes.cifar10),
        ),
        60,
        read_cifar10(cifar10_row),
        needs=("gpu", "cifar10"),
    )
    choices = Part(
        "maml_choices",
        "choices",
        {
            f"{title}, {conv_impl}": {}
            for title in mappings.values()
            for conv_impl in ("matmul", "lax")
        },
        (
            *(str(HERE / "gpu_choices.py"), *sizes.choices),
            *(f"--chunk={sizes.chunk}", "--json", "{json}"),
        ),
        45,
        read_choices(mappings),
    )
    tests = Part(
        "tests",
        "tests",
        {"pytest -m gpu": {"goal": "all pass"}},
        ("-m", "pytest", "-m", "gpu", "-n", "0", "-q", *gpu_tests()),
        50,
        read_tests,
        needs=("gpu", "pytest"),
        alone=True,
    )
    vit_forms = ("plain", "fused", "remat")
    # What the goals are about comes first.
    parts = [
        training("vit_b16", "ViT-B/16", *vit_forms, expected=90, fused="MFU 50%, ratio 1.2"),
        maml("float32", "--precision", "float32", expected=30, goal="ratio 10"),
        tests,
        training("resnet50", "ResNet-50", "plain", expected=60, plain="ratio 1.2"),
        choices,
        training("vit_s16", "ViT-S/16", *vit_forms, expected=70, fused="ratio 1.2"),
        cifar10,
        maml("TF32", "--precision", "tf32", expected=25, goal="ratio 10"),
        maml("bfloat16", "--dtype", "bfloat16", expected=25, goal="ratio 10"),
    ]
    return [
        dataclasses.replace(part, expected=sizes.expected or part.expected, patience=sizes.patience)
        for part in parts
    ]


def gpu_tests() -> list[str]:
    """The files that have tests marked gpu; to collect all files takes half a minute."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path) for path in files if "pytest.mark.gpu" in path.read_text(encoding="utf-8")]


def lines(folder: Path) -> list[dict[str, Any]]:
    """The rows that a benchmark appended to its file of JSON lines."""
    path = folder / "part.jsonl"
    if not path.exists():
        raise NoResult("it wrote no result")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_training(*rows: str) -> Callable[[Path], Rows]:
    """Reads rows of ``training.py``, one for each form."""

    def cells(found: dict[str, Any]) -> Cells:
        values, ratios = found["values"], found["ratios"]
        filled = {"images/s": values["vitjax"], "MFU": found["notes"]["mfu"]}
        for name, how in (("timm", "eager"), ("timm, torch.compile", "compiled")):
            filled[f"timm {how}, images/s"] = values[name]
            filled[f"ratio to {how}"] = ratios[name] and ratios[name][0]
        return filled

    return lambda folder: dict(zip(rows, map(cells, lines(folder)), strict=True))


def read_maml(row: str) -> Callable[[Path], Rows]:
    """Reads a row of ``maml.py``."""

    def read(folder: Path) -> Rows:
        (found,) = lines(folder)
        ratio = found["ratios"][LOOP]
        return {
            row: {
                "ms": found["values"]["vitjax"],
                "PyTorch loop, ms": found["values"][LOOP],
                "torch.func, ms": found["values"][FUNC],
                "ratio to the loop": ratio and ratio[0],
            }
        }

    return read


def read_choices(mappings: Mapping[str, str]) -> Callable[[Path], Rows]:
    """Reads what ``gpu_choices.py`` found; a form that failed stays null."""

    def read(folder: Path) -> Rows:
        (found,) = lines(folder)
        auto = tuple(found["auto"])
        times = {(c["mapping"], c["conv_impl"]): c["ms"] for c in found["choices"]}
        measured = {key: ms for key, ms in times.items() if ms is not None}
        if not measured:
            raise NoResult("no form could be measured")
        best = min(measured, key=lambda key: measured[key])
        return {
            f"{mappings[mapping]}, {conv_impl}": {
                "ms": ms,
                "time / auto's": ms / measured[auto] if ms and auto in measured else None,
                "auto takes it": (mapping, conv_impl) == auto,
                "wins": (mapping, conv_impl) == best if ms else None,
            }
            for (mapping, conv_impl), ms in times.items()
        }

    return read


def read_cifar10(row: str) -> Callable[[Path], Rows]:
    """Reads the summary of a run."""

    def read(folder: Path) -> Rows:
        path = folder / "run" / "summary.json"
        if not path.exists():
            raise NoResult("the run wrote no summary")
        summary = json.loads(path.read_text(encoding="utf-8"))
        split = summary.get("test") or summary["val"]  # a dry run's data has no test split
        return {
            row: {
                "test accuracy, %": 100 * split["accuracy"],
                "seconds of training": summary["seconds"],
                "images/s": summary["examples_per_second"],
            }
        }

    return read


def read_tests(folder: Path) -> Rows:
    """Reads the last line of pytest's output."""
    output = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")
    counts = {
        word: int(number)
        for number, word in re.findall(
            r"(\d+) (passed|failed|skipped|error)", output.rpartition(" in ")[0].rpartition("\n")[2]
        )
    }
    if not counts:
        raise NoResult("pytest reported no counts")
    return {
        "pytest -m gpu": {
            "passed": counts.get("passed", 0),
            "failed": counts.get("failed", 0) + counts.get("error", 0),
            "skipped": counts.get("skipped", 0),
        }
    }
