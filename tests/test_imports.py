"""Who may import whom: read from the source, imports inside functions included."""

from __future__ import annotations

import ast
import builtins
import dis
import re
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from rooms import ROOMS

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "vitjax"

# Never at run time: TensorFlow fights JAX for the GPU's memory, the others are for comparisons.
BANNED = {"tensorflow", "torch", "torchvision", "timm", "keras", "clu", "tensorboard"}

# Third-party packages that belong to one room.
HOMES = {
    "matplotlib": {"figures"},
    "grain": {"data"},
    "tensorflow_datasets": {"data"},
    "sklearn": {"data", "analysis"},
    "cv2": {"data"},
    "PIL": {"data"},
    "pyarrow": {"data"},
    "orbax": {"training"},
    "tensorboardX": {"training"},
    "tqdm": {"training", "weights"},
    "safetensors": {"weights"},
    "huggingface_hub": {"weights"},
    "jax2onnx": {"weights"},
    "onnxruntime": {"weights"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
}

FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path, root: Path = REPOSITORY) -> Iterator[tuple[int, str]]:
    """The line and the full dotted name of everything that the file at ``path`` imports."""
    parts = path.relative_to(root).with_suffix("").parts
    package = parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def faults(path: Path, room: str, root: Path = REPOSITORY) -> list[str]:
    """What the file at ``path``, which belongs to ``room``, imports and should not."""
    found = []
    for line, name in imports(path, root):
        top, *inner = name.split(".")
        where = f"{path.relative_to(root)}:{line} imports {name}"
        if top in BANNED:
            found.append(f"{where}: no part of vitjax may need {top}")
        elif room not in HOMES.get(top, {room}):
            found.append(f"{where}: {top} belongs to {' and '.join(HOMES[top])}")
        elif top == "vitjax" and set(inner[:1]) & set(ROOMS[ROOMS.index(room) + 1 :]):
            above = ", ".join(ROOMS[: ROOMS.index(room)]) or "nothing"
            found.append(f"{where}: of vitjax, {room} may import {above}")
    return found


def test_every_room_is_in_the_table():
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms <= set(ROOMS), "say in tests/helpers/rooms.py what the new room may import"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_its_room_may(path):
    room = room_of(path)
    if room == "__init__":
        inner = [name for _, name in imports(path) if name.startswith("vitjax.")]
        assert all(name.startswith(("vitjax.tasks", "vitjax.report")) for name in inner)
        return
    assert not faults(path, room)


def undefined(code: types.CodeType, known: frozenset[str]) -> Iterator[str]:
    """The names that ``code``, of a file or inside it, reads from the file and that it lacks."""
    own = frozenset(each.argval for each in dis.get_instructions(code) if each.opname in STORES)
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_NAME", "LOAD_GLOBAL") and each.argval not in known | own:
            yield f"{code.co_filename}:{code.co_firstlineno} reads {each.argval}"
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from undefined(inner, known | own if code.co_name == "<module>" else known)


STORES = ("STORE_NAME", "STORE_GLOBAL")
BUILTIN = frozenset(
    [*dir(builtins), "__annotations__", "__file__", "__name__", "__path__", "__qualname__"]
)


def undefined_names(source: str, file: str) -> list[str]:
    """The names that a file reads and lacks, those of annotations included."""
    tree = ast.parse(source, file)
    # Annotations are not compiled here: each becomes a statement at the end. Strings in them are
    # the shapes of arrays.
    annotations = [
        found
        for node in ast.walk(tree)
        for found in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if isinstance(found, ast.expr)
    ]
    tree.body += [ast.copy_location(ast.Expr(found), found) for found in annotations]
    code = compile(tree, file, "exec", dont_inherit=True)
    return list(undefined(code, BUILTIN))


def test_every_name_is_defined():
    """Linters take the shapes of annotations for names, and cannot look for undefined ones."""
    for path in FILES:
        assert not undefined_names(path.read_text(), str(path.relative_to(REPOSITORY)))


def test_an_undefined_name_is_found():
    source = "from os import path\ndef f(x: no) -> int:\n    return [path, len, none]\n"
    source = f"from __future__ import annotations\n{source}"
    assert undefined_names(source, "a.py") == ["a.py:1 reads no", "a.py:3 reads none"]


@pytest.mark.parametrize(
    ("room", "source", "fault"),
    [
        ("models", "from vitjax.core.registry import Registry", None),
        ("models", "from vitjax.models import vit", None),
        ("models", "from vitjax import core", None),
        ("models", "from . import vit", None),
        ("models", "import vitjax.data", "models may import core, config, figures, nn"),
        ("models", "from vitjax import data", "models may import core, config, figures, nn"),
        ("models", "from ..data import loader", "imports vitjax.data.loader"),
        ("models", "def f():\n    from vitjax.training import loop", "models/x.py:2 imports"),
        ("data", "if TYPE_CHECKING:\n    from vitjax.training import loop", "data may import"),
        ("config", "from vitjax.models import vit", "config may import core"),
        ("core", "from vitjax import config", "core may import nothing"),
        ("training", "from vitjax import cli", "training may import"),
        ("data", "import tensorflow as tf", "no part of vitjax may need tensorflow"),
        ("training", "def f():\n    import torch.nn", "no part of vitjax may need torch"),
        ("training", "import matplotlib.pyplot as plt", "matplotlib belongs to figures"),
        ("figures", "from matplotlib.figure import Figure", None),
        ("data", "import tensorflow_datasets as tfds", None),
    ],
)
def test_the_reader_of_imports_sees(tmp_path, room, source, fault):
    path = tmp_path / "vitjax" / room / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    found = faults(path, room, tmp_path)
    assert len(found) == (fault is not None)
    assert fault is None or fault in found[0]


def test_the_package_imports_nothing_until_it_is_used():
    code = (
        "import sys, vitjax\n"
        "print(sorted({n.partition('.')[0] for n in sys.modules} & {'jax', 'flax', 'numpy'}))\n"
        "print(sorted({'build', 'evaluate', 'load', 'predict', 'train'} - set(dir(vitjax))))\n"
        "print(vitjax.load.__module__, hasattr(vitjax, 'lode'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\nvitjax.tasks.runs False\n"


# --------------------------------------------------------------------------------------- packaging


def canonical(requirement: str) -> str:
    """The name of a requirement such as ``tensorboardX>=2.6; python_version < "3.12"``."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match.group()).lower()


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def extra(project, name: str) -> list[str]:
    """What an extra brings, with the other extras that it names."""
    found = []
    for requirement in project["optional-dependencies"][name]:
        others = re.fullmatch(r"vitjax\[(.*)\]", requirement)
        inner = others[1].split(",") if others else []
        found += [each for other in inner for each in extra(project, other)] or [requirement]
    return found


def test_every_import_is_a_declared_dependency(project):
    # What an extra brings, the code does without where it is missing.
    extras = ("explain", "hub", "keras", "onnx", "parquet")
    named = [*project["dependencies"], *(each for name in extras for each in extra(project, name))]
    # It comes without its dependencies, which no extra can say: scripts/install.sh.
    declared = {canonical(requirement) for requirement in named} | {"jax2onnx"}
    distributions = metadata.packages_distributions()
    missing = {}
    for path in FILES:
        for line, name in imports(path):
            top = name.split(".")[0]
            if top == "vitjax" or top in sys.stdlib_module_names:
                continue
            owners = {canonical(owner) for owner in distributions.get(top, [top])}
            if not owners & declared:
                missing[top] = f"{path.relative_to(REPOSITORY)}:{line}"
    assert not missing


def test_every_dependency_has_an_exact_pin(project):
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [
        pin for pin in pins if not re.match(r"[\w.-]+==[\w.]+(; python_version .+)?$", pin)
    ] == []
    named = [*project["dependencies"], *extra(project, "dev")]
    assert {canonical(requirement) for requirement in named} <= {canonical(pin) for pin in pins}
