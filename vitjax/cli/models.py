"""``vitjax models``."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
from collections.abc import Iterable, Sequence
from typing import Any

from vitjax.cli import arguments
from vitjax.cli.command import Command
from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match

_SORTS = ("name", "parameters", "flops", "year", "accuracy")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pattern",
        nargs="?",
        default="",
        metavar="NAME",
        help="summarise this model layer by layer; or list the models whose names contain this"
        " text",
    )
    parser.add_argument(
        "--list", action="store_true", help="list models, also where NAME is a model's name"
    )
    parser.add_argument(
        "--family", metavar="CLASS", help="list one family: its class or file, such as ResNet"
    )
    parser.add_argument(
        "--max-parameters",
        type=_number,
        metavar="N",
        help="list only models with at most this number of parameters, such as 5e6",
    )
    parser.add_argument(
        "--sort",
        choices=_SORTS,
        help="order of the list (default: of registration); models without the value are last",
    )
    parser.add_argument(
        "--field",
        action="append",
        default=[],
        type=arguments.assignment,
        metavar="NAME=VALUE",
        help="summary: a field of the model, such as num_classes=10; may be repeated",
    )
    parser.add_argument(
        "--image-size",
        type=arguments.sides,
        metavar="SIDE",
        help="summary: size of the image, SIDE or HEIGHT,WIDTH (default: the paper's)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    from vitjax import models

    listing = (parsed.list, parsed.family, parsed.max_parameters, parsed.sort)
    lists = any(value not in (None, False) for value in listing)
    if parsed.pattern in models.names() and not lists:
        return _summarise(parsed)
    for option, value in {"--field": parsed.field, "--image-size": parsed.image_size}.items():
        if value and lists:
            raise ConfigError(f"{option} is for the summary of one model, not for a list")
        if value:
            raise ConfigError(
                f"{option} is for the summary of one model, and no model is called"
                f" {parsed.pattern!r}{near_match(parsed.pattern, models.names())}"
            )
    return _list(parsed)


def _summarise(parsed: argparse.Namespace) -> int:
    from vitjax import models
    from vitjax.analysis import summary

    name = parsed.pattern
    model = models.create(name, where=f"model {name!r}", **dict(parsed.field))
    shape: tuple[int, ...] = models.input_shape(name)
    if parsed.image_size is not None:
        size = parsed.image_size
        if len(shape) != 3:
            raise ConfigError(f"--image-size: {name} takes no images")
        shape = (*((size, size) if isinstance(size, int) else size), shape[-1])
    found = summary.summarise(model, shape)
    if parsed.json:
        totals = {key: getattr(found, key) for key in ("parameters", "flops", "activations")}
        layers = [dataclasses.asdict(layer) for layer in found.layers]
        print(json.dumps({"name": name, "input": shape, **totals, "layers": layers}, indent=2))
        return 0
    rows = [("layer", "output", "parameters", "FLOPs", "field", "stride", "offset")]
    rows.extend(
        (
            layer.name,
            _joined(layer.shape, "x") or "(training only)",
            f"{layer.parameters:,}" if layer.parameters else "",
            _short(layer.flops) if layer.flops else "",
            "" if layer.size is None else _pair(layer.size, "image"),
            "" if layer.stride is None else _pair(layer.stride, "-"),
            "" if layer.offset is None else _pair(layer.offset, "-"),
        )
        for layer in found.layers
    )
    print(f"{name} for {_joined(shape, 'x')}")
    _print_table(rows, "lrrrrrr")
    print(
        f"{found.parameters:,} parameters, {_short(found.flops)}FLOPs for one image (a multiply-add"
        f" counts as two), {found.activations:,} activations"
    )
    return 0


def _list(parsed: argparse.Namespace) -> int:
    from vitjax import models
    from vitjax.analysis import summary

    names = [name for name in models.names() if parsed.pattern in name]
    if not names:
        raise ConfigError(
            f"no model's name contains {parsed.pattern!r}"
            f"{near_match(parsed.pattern, models.names())}"
        )
    if parsed.family is not None:
        names = _of_family(parsed.family, names)
    # A trace makes many objects and no garbage: looking for it takes a third of the time.
    gc.disable()
    try:
        entries = [summary.entry(name) for name in names]
    finally:
        gc.enable()
    most = parsed.max_parameters
    if most is not None:
        entries = [entry for entry in entries if entry.parameters <= most]
        if not entries:
            raise ConfigError(f"--max-parameters: no such model has at most {most:,.0f}")
    if parsed.sort is not None:
        entries.sort(key=lambda entry: _sorting(getattr(entry, parsed.sort)))
    if parsed.json:
        print(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=2))
        return 0
    rows = [("name", "parameters", "input", "FLOPs", "year", "top-1", "family", "paper")]
    rows.extend(
        (
            entry.name,
            f"{entry.parameters:,}",
            str(entry.image_size or "-"),
            _short(entry.flops),
            str(entry.year or "-"),
            "-" if entry.accuracy is None else f"{entry.accuracy:.1f}%",
            entry.family,
            entry.paper,
        )
        for entry in entries
    )
    _print_table(rows, "lrrrrrll")
    return 0


def _of_family(family: str, names: Iterable[str]) -> list[str]:
    from vitjax import models
    from vitjax.analysis import summary

    known = {name: summary.family_of(name) for name in models.names()}
    wanted = family.lower()
    found = [n for n in names if wanted in (known[n][0].lower(), known[n][1].lower())]
    if not found:
        all_families = dict.fromkeys(word for pair in known.values() for word in pair)
        if wanted in map(str.lower, all_families):
            raise ConfigError(f"--family={family}: no model of this family has such a name")
        classes = ", ".join(dict.fromkeys(pair[0] for pair in known.values()))
        raise ConfigError(
            f"--family: unknown family {family!r}{near_match(family, all_families)}"
            f" (known: {classes})"
        )
    return found


def _sorting(value: Any) -> tuple[bool, Any]:
    return value is None, 0 if value is None else value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be a positive number, such as 5e6")
    return value


def _short(number: int) -> str:
    """A number of operations in three digits: ``"3.36 G"``."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:#.3g} {unit}".replace(". ", " ")
    return f"{number} "


def _joined(values: Iterable[Any], between: str) -> str:
    return between.join(map(str, values))


def _pair(values: tuple[float | None, float | None], missing: str) -> str:
    """A value in both directions; one number if they are equal."""
    words = [missing if value is None else f"{value:g}" for value in values]
    return words[0] if words[0] == words[1] else _joined(words, "x")


def _print_table(rows: Sequence[Sequence[str]], sides: str) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        ]
        print("  ".join(cells).rstrip())


COMMAND = Command(
    "models",
    "list the models, or summarise one layer by layer (a multiply-add counts as two FLOPs)",
    [
        "vitjax models --sort=flops --max-parameters=5e6",
        "vitjax models --family=ResNet",
        "vitjax models resnet18 --field=num_classes=10 --image-size=64",
    ],
    _arguments,
    _run,
    overrides=False,
)
