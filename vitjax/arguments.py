"""What the command line takes: subcommands, their options, and words for what is mistyped."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitjax import config as configs
from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match

# Commands that no config has a part in.
_WITHOUT_CONFIG = ("import", "models")
_CHECKPOINT_HELP = "best, last, or a step (default: the best where the run chooses one)"


def parse(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The options of a command, whose name is ``command``, and what is left over.

    Exits with a usage message where there is no such command or an option has no such value.
    """
    return _parser().parse_known_args(arguments)


def overrides(parsed: argparse.Namespace, rest: list[str]) -> list[str]:
    """The ``--config.`` arguments among ``rest``; anything else is an error with a near match."""
    options = re.findall(r"--[\w-]+", parsed.parser.format_usage())
    for argument in rest:
        if parsed.command in _WITHOUT_CONFIG or not argument.startswith(configs.PREFIX):
            word = argument.partition("=")[0]
            raise ConfigError(
                f"vitjax {parsed.command} has no argument {argument!r}{near_match(word, options)}"
                f" (see vitjax {parsed.command} --help)"
            )
    return rest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vitjax", description="Vision research in JAX and Flax.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = _command(
        commands,
        "train",
        "train what a config describes, or go on with it",
        "vitjax train --config=configs/digits/vit.py --workdir=runs/digits_vit"
        " --config.optimizer.learning_rate=1e-3",
    )
    _config(train)
    _workdir(train, "the run's folder; with checkpoints in it, training goes on from the newest")
    train.add_argument(
        "--distributed",
        action="store_true",
        help="start as one of several hosts (Slurm, Open MPI and TPU pods are found by JAX)",
    )

    evaluate = _command(
        commands,
        "evaluate",
        "evaluate a run's checkpoint, or weights that a config loads, on a split",
        "vitjax evaluate --workdir=runs/digits_vit --split=val\n"
        "  vitjax evaluate --config=configs/cifar10/resnet20.py"
        " --config.init.from_checkpoint=weights.th",
    )
    _workdir(evaluate, "the run's folder", required=False)
    _config(evaluate, required=False)
    evaluate.add_argument("--split", default="test", help="train, val or test (default: test)")
    evaluate.add_argument("--checkpoint", help=_CHECKPOINT_HELP)
    evaluate.add_argument(
        "--ensemble",
        type=int,
        metavar="K",
        help="of a few-shot run also the mean of the K best checkpoints, reported apart",
    )

    predict = _command(
        commands,
        "predict",
        "classify or segment image files with a run's model",
        "vitjax predict --workdir=runs/pets cat.jpg dog.png --output=predicted",
    )
    _workdir(predict, "the run's folder")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="an image file")
    predict.add_argument(
        "--output", type=Path, help="folder for predictions.jsonl and predictions.png, or the masks"
    )
    predict.add_argument(
        "--tile",
        type=int,
        metavar="SIDE",
        help="of a segmentation: predict in tiles of so many pixels",
    )
    predict.add_argument(
        "--tta", action="store_true", help="of a segmentation: average over 8 flips and turns"
    )
    predict.add_argument(
        "--probabilities", action="store_true", help="of a segmentation: write them too, as .npz"
    )
    predict.add_argument("--json", action="store_true", help="print JSON lines, not a table")
    predict.add_argument("--checkpoint", help=_CHECKPOINT_HELP)

    import_ = _command(
        commands,
        "import",
        "read another project's weights and write them as vitjax's, or as a third project's",
        "vitjax import vit_small.safetensors --model=vit_s16 --output=vit_s16.safetensors\n"
        "  vitjax import hf:timm/vit_small_patch16_224.augreg_in1k --format=npz --output=s16.npz",
    )
    import_.add_argument(
        "source", metavar="FILE", help="a file, hf:OWNER/NAME, augreg:NAME, or an https:// address"
    )
    import_.add_argument("--model", help="a name of `vitjax models` (default: what the file tells)")
    import_.add_argument("--output", required=True, type=Path, help="the file to write")
    import_.add_argument(
        "--format", default="safetensors", help="what is written (default: vitjax's own)"
    )
    import_.add_argument("--read-as", help="the format of FILE, where its names do not tell")
    import_.add_argument(
        "--image-size",
        type=_sides,
        metavar="SIDE",
        help="of images to come, for which positions are resized: SIDE or HEIGHT,WIDTH",
    )
    import_.add_argument(
        "--grid", type=_pair, metavar="ROWS,COLUMNS", help="of patches that make no square"
    )
    import_.add_argument(
        "--position-interpolation",
        default="bicubic",
        metavar="HOW",
        help="how positions are resized: bicubic (as timm) or bilinear (as ViT's published code)",
    )
    import_.add_argument(
        "--field",
        type=_field,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a field of the model that the file does not tell: num_heads=6, say",
    )
    import_.add_argument("--part", help="which of several sets of weights in FILE: teacher, say")

    export = _command(
        commands,
        "export",
        "write a run's model for other projects' tools",
        "vitjax export --workdir=runs/digits_vit --format=timm --output=vit.safetensors",
    )
    _workdir(export, "the run's folder")
    export.add_argument(
        "--format",
        required=True,
        help="timm, torchvision, npz, safetensors (vitjax's own names), onnx, ...",
    )
    export.add_argument(
        "--output", type=Path, help="the file to write (default: weights_FORMAT in the folder)"
    )
    export.add_argument("--checkpoint", help=_CHECKPOINT_HELP)

    probe = _command(
        commands,
        "probe",
        "measure what can be read off a network's layers: linear, k-NN and few-shot probes",
        "vitjax probe --workdir=runs/vit --workdir=runs/resnet --layers=all --method=few_shot"
        " --output=probes\n"
        "  vitjax probe --config=configs/transfer/linear_probe.py"
        " --config.init.from_checkpoint=vit.safetensors",
    )
    _workdir(probe, "a run's folder; may be given several times", required=False, action="append")
    _config(probe, required=False, action="append")
    probe.add_argument(
        "--method",
        default="linear",
        help="linear (logistic regression by L-BFGS, the default), knn, or few_shot",
    )
    probe.add_argument(
        "--layers",
        metavar="all|REGEX",
        help="all: what enters the first block and leaves each; or those in whose names REGEX is"
        " found (default: what the head is given)",
    )
    probe.add_argument(
        "--pool",
        default="mean",
        help="of tokens: mean over the image's patches (the default), or token, the class token",
    )
    probe.add_argument("--split", default="test", help="what is classified (default: test)")
    probe.add_argument("--shots", type=_several, help="of few_shot: examples a class (1,5,10)")
    probe.add_argument("--draws", type=int, help="of few_shot: how often others are drawn (5)")
    probe.add_argument("--k", type=_several, help="of knn: how many neighbours (10,20,100,200)")
    probe.add_argument(
        "--l2", type=float, help="of linear (default: chosen on val), few_shot (default: 1024)"
    )
    probe.add_argument(
        "--refit",
        action="store_const",
        const=True,
        help="of linear: learn from val too, once the L2 is chosen",
    )
    probe.add_argument("--checkpoint", help=_CHECKPOINT_HELP)
    probe.add_argument(
        "--output",
        type=Path,
        help="folder for the numbers and the picture (default: probes, in a single run's folder)",
    )

    models = _command(commands, "models", "list the models that there are", "vitjax models resnet")
    models.add_argument(
        "pattern", nargs="?", default="", help="list only names that contain this text"
    )

    data = _command(
        commands,
        "data",
        "count a config's examples and draw its first training batch",
        "vitjax data --config=configs/folder/vit.py --config.data.path=photos",
    )
    _config(data)
    data.add_argument(
        "--output", type=Path, default=Path("batch.png"), help="the picture (default: batch.png)"
    )
    return parser


def _command(commands: Any, name: str, help_: str, example: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_,
        description=help_[0].upper() + help_[1:] + ".",
        epilog=f"example:\n  {example}\n\nAny value of the config can be set:"
        " --config.section.key=value"
        if name not in _WITHOUT_CONFIG
        else f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(parser=command)
    return command


def _pair(text: str) -> tuple[int, int]:
    """``"16,8"`` as two numbers."""
    found = re.fullmatch(r"([1-9]\d*),([1-9]\d*)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} should be two whole numbers, such as 16,8")
    return int(found[1]), int(found[2])


def _several(text: str) -> tuple[int, ...]:
    """``"1,5,10"`` as numbers."""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} should be whole numbers, such as 5 or 1,5,10")
    return tuple(map(int, text.split(",")))


def _sides(text: str) -> int | tuple[int, int]:
    """``"224"`` as a number, ``"224,192"`` as two."""
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} should be pixels, such as 224 or 224,192")
    return int(text) if text.isdecimal() else _pair(text)


def _field(text: str) -> tuple[str, Any]:
    """``"num_heads=6"`` as a name and a value."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} should read NAME=VALUE")
    return name, configs.parse_value(value)


def _config(command: argparse.ArgumentParser, required: bool = True, **options: Any) -> None:
    command.add_argument(
        "--config",
        required=required,
        metavar="FILE",
        help="a Python file with get_config(); FILE:TEXT calls get_config('TEXT')",
        **options,
    )


def _workdir(
    command: argparse.ArgumentParser, help_: str, required: bool = True, **options: Any
) -> None:
    command.add_argument(
        "--workdir", required=required, type=Path, metavar="DIR", help=help_, **options
    )
