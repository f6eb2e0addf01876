"""``vitjax explain``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from vitjax.cli import arguments, process
from vitjax.cli.command import Command
from vitjax.core.errors import ConfigError
from vitjax.core.text import portable
from vitjax.core.validation import keywords_of


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.workdir(parser, required=False)
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="an image file, a folder of them, a quoted wildcard, or @FILE, as of `vitjax predict`",
    )
    arguments.model(parser)
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="of --model: a text file with the name of a class per line (default: numbers)",
    )
    parser.add_argument(
        "--support",
        type=arguments.path,
        metavar="DIR",
        help="few-shot: a folder with a folder of images for each new class; maps before and after"
        " adaptation",
    )
    parser.add_argument(
        "--method", metavar="METHOD", help="how: see docs/explain.md (default: grad_cam)"
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
        "--randomise",
        action="store_true",
        help="also draw the maps as layer after layer becomes random, with their rank correlation",
    )
    parser.add_argument(
        "--masks",
        type=arguments.path,
        metavar="DIR",
        help="a mask of the object of each image, under the image's name: does the largest number"
        " lie in it (pointing game)?",
    )
    arguments.results(parser, "figures, maps and explanations.json", required=False)
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    arguments.checkpoint(parser, or_file=True)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if len(names) < 2:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be at least two methods, such as grad_cam,lime"
        )
    return names


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    process.start_devices()
    from vitjax.analysis import explaining

    if parsed.method is not None and parsed.compare is not None:
        raise ConfigError(
            f"--method={parsed.method} and --compare are both given: add {parsed.method} to the"
            " methods of --compare"
        )
    methods = parsed.compare or ("grad_cam" if parsed.method is None else parsed.method)
    own = keywords_of(explaining.explain)
    for name, value in parsed.option:
        if name in own:
            raise ConfigError(
                f"--option {name}={value}: {name} is no argument of a method; vitjax explain --help"
                " lists the arguments of the command"
            )
    found = explaining.explain(
        parsed.workdir,
        parsed.images,
        methods,
        parsed.output,
        overrides,
        model=parsed.model,
        classes=parsed.classes,
        support=parsed.support,
        randomise=parsed.randomise,
        masks=parsed.masks,
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
        before = each.initial_probability
        change = "" if before is None else f" (before adaptation {before:.1%})"
        print(f"{each.image}: {each.class_name} {each.probability:.1%}{change}")
    if parsed.compare or any(each.areas or each.pointing for each in found):
        print("\n".join(_table(found)))
    if parsed.output:
        print(f"Written: {parsed.output}")
    return 0


def _table(found: Sequence[Any]) -> list[str]:
    """The means of the measures of each map, and the median of its seconds."""
    import statistics

    first = found[0]
    columns = [*(("deletion", "insertion") if first.areas else ())]
    columns += ["pointing"] if first.pointing else []
    lines = ["".join([f"{'map':<32}", *(f"{name:>10}" for name in columns), f"{'seconds':>9}"])]
    for name in first.areas or first.pointing or first.maps:
        means = [
            statistics.mean(
                each.pointing[name] if kind == "pointing" else each.areas[name][kind]
                for each in found
            )
            for kind in columns
        ]
        times = [each.seconds[name] for each in found if name in each.seconds]
        seconds = f"{statistics.median(times):9.2f}" if times else ""
        lines.append(f"{name:<32}" + "".join(f"{mean:10.3f}" for mean in means) + seconds)
    return lines


COMMAND = Command(
    "explain",
    "show what a model looks at in image files",
    [
        "vitjax explain --workdir=runs/pets cat.jpg --output=explained",
        "vitjax explain --workdir=runs/pets photos --method=occlusion --option size=32",
        "vitjax explain --workdir=runs/pets photos --compare=grad_cam,lime --output=compared",
        "vitjax explain --model=resnet50 --checkpoint=resnet50.safetensors cat.jpg --output=cat",
        "vitjax explain --workdir=runs/maml --support=support photos --output=adapted",
    ],
    _arguments,
    _run,
    several="images",
)
