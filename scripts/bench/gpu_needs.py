"""What `scripts/bench/gpu.sh` needs: a line for each need, and the facts as JSON.

    python scripts/bench/gpu_needs.py --facts=needs.json --data=cifar10.npz

A line says what is there, in which version and which one is pinned, or what is missing and which
cells of the table will be null.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# In the Python of the peers; its answer is one line of JSON.
PEERS = """
import importlib.metadata, json, sys
found = {}
for name in ("torch", "timm"):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
if found["torch"]:
    import torch
    found["cuda"] = torch.cuda.is_available()
print(json.dumps(found))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--facts", required=True, metavar="FILE", help="receives the facts")
    parser.add_argument("--data", metavar="FILE", help="cifar10.npz")
    parser.add_argument("--dry-run", action="store_true", help="a CPU takes the GPU's place")
    arguments = parser.parse_args()
    pins = pinned()
    facts: dict[str, Any] = {"python": platform.python_version(), "missing": {}}
    missing: dict[str, str] = facts["missing"]
    driver = nvidia_smi()
    facts["driver"] = driver
    say("driver", driver or "missing (nvidia-smi): no GPU can be used")
    facts["versions"] = {
        name: version(name) for name in ("jax", "jaxlib", *plugins(), "flax", "optax", "numpy")
    }
    for name, found in facts["versions"].items():
        say(name, in_words(found, pins.get(name, pins["jax"] if "plugin" in name else None)))
    if not plugins():
        say("CUDA plugin of JAX", "missing: bash scripts/install.sh cuda")
    device, reason = jax_device(arguments.dry_run)
    facts["device"] = device
    say("device", device or f"missing: {reason}; everything is null")
    if device is None:
        missing["gpu"] = reason
    peers(facts, pins)
    if importlib.util.find_spec("pytest") is None:
        missing["pytest"] = "pytest is missing: bash scripts/install.sh dev"
    say("pytest", missing.get("pytest", "there") + null_of(missing, "pytest", "the tests"))
    if not arguments.dry_run:
        if arguments.data is None:
            missing["cifar10"] = "CIFAR-10 is not here: --data names no cifar10.npz"
        elif not Path(arguments.data).is_file():
            missing["cifar10"] = f"CIFAR-10 is not here: there is no file {arguments.data}"
        say("CIFAR-10", missing.get("cifar10", "there") + null_of(missing, "cifar10", "its row"))
    Path(arguments.facts).write_text(json.dumps(facts), encoding="utf-8")


def say(name: str, what: str) -> None:
    """Prints a line."""
    print(f"{name}: {what}", flush=True)


def null_of(missing: dict[str, str], need: str, cells: str) -> str:
    """What follows from a missing need."""
    return f"; {cells} will be null" if need in missing else ""


def pinned() -> dict[str, str]:
    """The pins of requirements.txt for this Python, and those of the peers."""
    pins = {}
    for file in (ROOT / "requirements.txt", HERE / "gpu_peers.txt"):
        for name, pin, sign, limit in re.findall(
            r'^([\w.-]+)==([\w.]+)(?:; python_version (<|>=) "([\d.]+)")?$',
            file.read_text(encoding="utf-8"),
            re.MULTILINE,
        ):
            at_least = sys.version_info[:2] >= tuple(map(int, (limit or "0.0").split(".")))
            if at_least == (sign != "<"):
                pins[name] = pin
    return pins


def version(name: str) -> str | None:
    """The installed version of a package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def in_words(found: str | None, pin: str | None) -> str:
    """A version beside its pin."""
    if found is None:
        return f"missing (pinned: {pin})"
    return found if pin in (None, found.partition("+")[0]) else f"{found} (pinned: {pin})"


def plugins() -> list[str]:
    """JAX's CUDA plugins that are installed."""
    names = ("jax-cuda12-plugin", "jax-cuda13-plugin")
    return [name for name in names if version(name) is not None]


def nvidia_smi() -> str | None:
    """The driver's version, and the devices that it knows."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = ["--query-gpu=driver_version,name,memory.total", "--format=csv,noheader"]
    ended = subprocess.run([program, *query], capture_output=True, text=True)
    return ended.stdout.strip() if ended.returncode == 0 else None


def jax_device(dry_run: bool) -> tuple[str | None, str]:
    """The device that JAX finds, or None and the reason."""
    try:
        import jax

        device = jax.devices()[0]
    except (ImportError, RuntimeError) as error:
        return None, f"JAX does not start ({' '.join(str(error).split())})"
    if device.platform == "gpu" or dry_run:
        return device.device_kind, ""
    return None, f"JAX finds no GPU, only {device.platform}"


def peers(facts: dict[str, Any], pins: dict[str, str]) -> None:
    """Adds the peers' versions, and reports them."""
    python = os.environ.get("VITJAX_TORCH_PYTHON") or sys.executable
    # What this process finds on its path is built for this Python.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    try:
        ended = subprocess.run(
            [python, "-c", PEERS], capture_output=True, text=True, env=environment
        )
        found = json.loads(ended.stdout.splitlines()[-1])
    except (OSError, IndexError, ValueError):
        found = {"torch": None, "timm": None}
    facts["peers"] = found
    say("torch", in_words(found["torch"], pins["torch"]) + nothing(found["torch"], "every peer"))
    say("timm", in_words(found["timm"], pins["timm"]) + nothing(found["timm"], "peers of training"))
    if found.get("cuda") is False:
        say("torch's CUDA", "missing; on a GPU every peer will be null")


def nothing(found: str | None, cells: str) -> str:
    """What follows from a missing package."""
    return "" if found else f"; {cells} will be null"


if __name__ == "__main__":
    main()
