"""``vitjax plan``."""

from __future__ import annotations

import argparse
import functools
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitjax.cli import arguments, process
from vitjax.cli.command import Command
from vitjax.core.errors import ConfigError

_SIZES = ("image", "classes", "examples")


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.config(parser)
    parser.add_argument(
        "--mesh",
        type=_mesh,
        metavar="AXIS=N,...",
        help="the axes of the mesh, such as data=64,fsdp=8: sets config.parallel.mesh, and uses as"
        " many devices",
    )
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="what the devices are, such as h100 or v5e (default: the devices that are here)",
    )
    parser.add_argument(
        "--mfu",
        type=_fraction,
        default=0.4,
        metavar="FRACTION",
        help="of the devices' bfloat16 peak, which the run is assumed to reach (default: 0.4)",
    )
    parser.add_argument(
        "--image",
        type=_shape,
        metavar="HEIGHT,WIDTH,CHANNELS",
        help="of a stored image, with --classes and --examples, for data that is not here",
    )
    parser.add_argument("--classes", type=_count, metavar="N", help="the classes of such data")
    parser.add_argument("--examples", type=_count, metavar="N", help="its training examples")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="also write the plan to FILE as JSON; without FILE, print JSON and nothing else",
    )


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    sizes = _sizes(parsed)
    # Before the devices start, as the config may say how many they are.
    config = arguments.load_config(parsed.config, overrides)
    count = _devices(config, parsed)
    if count is not None or parsed.device is not None:
        process.simulate_devices(count or 1, only=parsed.device is not None)
    process.start_devices(cache=False)
    from vitjax.core.atomic import write_json
    from vitjax.parallel import accelerators
    from vitjax.training import planning

    accelerator = None
    if parsed.device not in (None, "cpu"):
        accelerator = accelerators.named(parsed.device, "--device")
    say = functools.partial(print, file=sys.stderr, flush=True)
    absent = None if sizes is None else planning.Sizes(*sizes)
    found = planning.make(config, accelerator, mfu=parsed.mfu, sizes=absent, say=say)
    if parsed.json == "-":
        print(json.dumps(found.to_json(), indent=2))
        return 0
    for line in found.lines():
        print(line)
    if parsed.json is not None:
        write_json(Path(parsed.json), found.to_json())
    return 0


def _devices(config: Any, parsed: argparse.Namespace) -> int | None:
    """The number of devices of the plan, entered in the config; None for those that are here."""
    section = dict(config.get("parallel") or {})
    if parsed.mesh is not None:
        section |= {"mesh": parsed.mesh, "devices": math.prod(parsed.mesh.values())}
    elif parsed.device is not None and section.get("devices") is None:
        mesh = section.get("mesh") or {}
        sizes = [size for size in dict(mesh).values() if isinstance(size, int)]
        section["devices"] = math.prod(sizes)
    config.parallel = section
    count = section.get("devices")
    return count if isinstance(count, int) else None


def _sizes(parsed: argparse.Namespace) -> tuple[Any, ...] | None:
    """The values of the arguments for data that is not here; None without them."""
    given = [name for name in _SIZES if getattr(parsed, name) is not None]
    if not given:
        return None
    missing = [f"--{name}" for name in _SIZES if name not in given]
    if missing:
        raise ConfigError(
            f"--{given[0]} describes data that is not here, and {' and '.join(missing)}"
            f" {'is' if len(missing) == 1 else 'are'} missing"
        )
    return tuple(getattr(parsed, name) for name in _SIZES)


def _mesh(text: str) -> dict[str, int]:
    """``"data=64,fsdp=8"`` as sizes by axis."""
    axes: dict[str, int] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\w+)=([1-9]\d{0,5})\s*", part)
        if not found:
            raise argparse.ArgumentTypeError(
                f"{part!r} in {text!r} must read AXIS=N, such as data=64,fsdp=8"
            )
        if found[1] in axes:
            raise argparse.ArgumentTypeError(f"{text!r} has the axis {found[1]!r} twice")
        axes[found[1]] = int(found[2])
    return axes


def _fraction(text: str) -> float:
    """A number in (0, 1]."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0, at most 1")
    return value


def _count(text: str) -> int:
    """A positive integer."""
    if not re.fullmatch(r"[1-9]\d{0,11}", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a positive integer")
    return int(text)


def _shape(text: str) -> tuple[int, ...]:
    """``"224,224,3"`` as three numbers."""
    if not re.fullmatch(r"[1-9]\d{0,4}(,[1-9]\d{0,4}){2}", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be three integers, such as 224,224,3")
    return tuple(map(int, text.split(",")))


COMMAND = Command(
    "plan",
    "find what a run needs without running it: memory per device, time, largest batch",
    ["vitjax plan --config=configs/digits/vit.py"],
    _arguments,
    _run,
)
