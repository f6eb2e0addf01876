"""How all tests run: on the CPU as eight devices, with compiled code kept between runs.

``-m gpu`` runs those of a GPU, on the first one that JAX finds.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from registering import forgotten

REPOSITORY = Path(__file__).resolve().parents[1]

GIVEN_FLAGS = os.environ.get("XLA_FLAGS", "")
# Read by JAX when it is imported, and by the programs that end-to-end tests start.
os.environ["JAX_PLATFORMS"] = "cpu"
# The tests compile much and compute little.
QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
os.environ["XLA_FLAGS"] = " ".join(
    [
        GIVEN_FLAGS,
        QUICK_TO_COMPILE,
        "--xla_force_host_platform_device_count=8",
    ]
).strip()
CACHE = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".jax_cache"))
# An entry is written in place, and could be read half written: each of several processes has a
# folder of its own, and so have the programs that it starts.
WORKER = os.environ.get("PYTEST_XDIST_WORKER")
if WORKER is not None:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(CACHE) / WORKER)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

# The first example of a property compiles, and takes a hundred times as long as the others.
hypothesis.settings.register_profile(
    "vitjax",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("vitjax")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--slow`` and ``--fuzz``."""
    parser.addoption(
        "--slow", action="store_true", help="also run the tests marked slow, as before a release"
    )
    parser.addoption(
        "--fuzz",
        type=int,
        default=1,
        metavar="N",
        help="tests of damaged and random files try N times as many of them",
    )


def pytest_configure(config: pytest.Config) -> None:
    """With ``-m gpu`` lets JAX, which is imported after this, use GPUs beside the CPU."""
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    if wants_gpu(config) and any(importlib.util.find_spec(name) for name in plugins):
        os.environ["JAX_PLATFORMS"] = "cuda,cpu"
        # Several processes share the GPU's memory; its code is compiled as users have it, with the
        # kernels that give the same bits each time.
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        os.environ["XLA_FLAGS"] = f"{GIVEN_FLAGS} --xla_gpu_deterministic_ops=true".strip()


def wants_gpu(config: pytest.Config) -> bool:
    """Whether ``-m`` chooses the tests marked gpu."""
    return bool(re.search(r"(?<!not )\bgpu\b", config.getoption("markexpr")))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips what was not asked for, and starts with the files that take longest.

    Of several processes that share the files, one would otherwise run a long file alone at the end.
    """
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="slow: runs with --slow")
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(skip)
    if not wants_gpu(config):
        skip = pytest.mark.skip(reason="gpu: runs with -m gpu")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)
    if WORKER is not None:
        items.sort(key=lambda item: item.path.parent.name not in ("end_to_end", "training"))


def pytest_collection_finish() -> None:
    """Keeps Python from looking for garbage among what was imported and collected.

    That is a million objects, and tracing makes many more: the search took a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="module", autouse=True)
def forgotten_after_the_file() -> Iterator[None]:
    """Forgets what a file of tests has registered: those of another walk whole registries."""
    with forgotten():
        yield


@pytest.fixture
def forgotten_after_the_test() -> Iterator[None]:
    """Forgets what one test has registered."""
    with forgotten():
        yield


@pytest.fixture(scope="session")
def fuzz(pytestconfig: pytest.Config) -> int:
    """How many times as many damaged files are tried, from ``--fuzz``."""
    return pytestconfig.getoption("--fuzz")


@pytest.fixture(scope="session")
def gpu() -> Any:
    """The first GPU that JAX finds; tests are skipped where there is none."""
    import jax

    try:
        return jax.devices("gpu")[0]
    except RuntimeError as error:
        pytest.skip(f"no GPU: {' '.join(str(error).split())}")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data sets, from VITJAX_TEST_DATA; tests are skipped where it is not."""
    default = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("VITJAX_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; VITJAX_TEST_DATA says where it is")
    return folder
