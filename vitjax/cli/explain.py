"""``vitjax explain``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitjax.cli import arguments, process
from vitjax.cli.command import Command
from vitjax.core.text import portable


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.workdir(parser)
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="an image file, a folder of them, a quoted wildcard, or @FILE, as of `vitjax predict`",
    )
    parser.add_argument(
        "--method", default="grad_cam", help="how: see docs/explain.md (default: grad_cam)"
    )
    parser.add_argument(
        "--compare",
        type=_names,
        metavar="METHOD,METHOD,...",
        help="several methods side by side; of a classification with the areas of deletion and"
        " insertion",
    )
    parser.add_argument(
        "--class",
        dest="target",
        default="top",
        metavar="NAME",
        help="the class to explain: a name, top (the most probable, the default) or true (the name"
        " of the image's folder)",
    )
    parser.add_argument(
        "--layer", help="the layer to explain by (default: the last map); of attention, its number"
    )
    parser.add_argument(
        "--option",
        type=arguments.assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of the method, such as steps=128 of integrated_gradients",
    )
    parser.add_argument(
        "--faithful", action="store_true", help="measure deletion and insertion of one method too"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for figures, maps and explanations.json"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files in --output that no earlier command wrote",
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    arguments.checkpoint(parser)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    process.start_devices()
    from vitjax.analysis import explaining

    methods = parsed.compare or (parsed.method,)
    found = explaining.explain(
        parsed.workdir,
        parsed.images,
        methods,
        parsed.output,
        overrides,
        target=parsed.target,
        layer=parsed.layer,
        faithful=parsed.faithful or None,
        checkpoint=parsed.checkpoint,
        overwrite=parsed.overwrite,
        say=lambda text: print(text, file=sys.stderr),
        **dict(parsed.option),
    )
    if parsed.json:
        for each in found:
            print(json.dumps(portable(each.summary())))
        return 0
    for each in found:
        print(f"{each.image}: {each.class_name} {each.probability:.1%}")
    if any(each.areas for each in found):
        print("\n".join(_table(found)))
    if parsed.output:
        print(f"Written: {parsed.output}")
    return 0


def _table(found: Sequence[Any]) -> list[str]:
    """The mean areas of each method, and the median of its seconds."""
    import statistics

    lines = [f"{'method':<24} {'deletion':>9} {'insertion':>9} {'seconds':>8}"]
    for name in found[0].areas:
        areas = [
            statistics.mean(each.areas[name][kind] for each in found)
            for kind in ("deletion", "insertion")
        ]
        times = [each.seconds[name] for each in found if name in each.seconds]
        seconds = f"{statistics.median(times):8.2f}" if times else ""
        lines.append(f"{name:<24} {areas[0]:9.3f} {areas[1]:9.3f} {seconds}".rstrip())
    return lines


COMMAND = Command(
    "explain",
    "show what a run's model looks at in image files",
    [
        "vitjax explain --workdir=runs/pets cat.jpg --output=explained",
        "vitjax explain --workdir=runs/pets photos --method=occlusion --option size=32",
        "vitjax explain --workdir=runs/pets photos --compare=grad_cam,lime --output=compared",
    ],
    _arguments,
    _run,
    several="images",
)
