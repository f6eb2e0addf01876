"""The command line: each subcommand parses, calls one function of the package, and prints."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitjax import config as configs
from vitjax.errors import UserError
from vitjax.registry import ConfigError, near_match

# Commands that no config has a part in.
_WITHOUT_CONFIG = ("import", "models")
_CHECKPOINT_HELP = "best, last, or a step (default: the best where the run chooses one)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = _parser()
    parsed, rest = parser.parse_known_args(arguments)
    # A GPU's memory is JAX's alone; without one, JAX should not report what it looked for.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.unraisablehook = _tell_unless_loop_is_closed
    try:
        overrides = _overrides(parsed, rest)
        status: int = parsed.run(parsed, overrides)
        return status
    except UserError as error:
        print(f"vitjax: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vitjax: stopped from the keyboard", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough, as `head` has.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # The disk is full, a folder is not writable: the cause is outside the program.
        where = f" ({error.filename})" if error.filename else ""
        print(f"vitjax: {error.strerror or error}{where}", file=sys.stderr)
        return 2


def _train(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from vitjax.training import experiment, loop
    from vitjax.training.interruption import Interrupted

    config = configs.load(parsed.config)
    configs.override(config, overrides)
    if parsed.distributed:
        import jax

        jax.distributed.initialize()
    try:
        loop.train(experiment.build(config), parsed.workdir)
    except Interrupted as interrupted:
        print(f"vitjax: {interrupted}", file=sys.stderr)
        return 128 + interrupted.signal
    return 0


def _evaluate(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from vitjax.training import experiment, initialization, prediction, summary

    if (parsed.workdir is None) == (parsed.config is None):
        raise ConfigError(
            "vitjax evaluate takes --workdir=DIR, for a run, or --config=FILE, for what its"
            f" config.init loads; {'neither is' if parsed.config is None else 'both are'} given"
        )
    if parsed.config is None:
        values = prediction.evaluate(
            parsed.workdir,
            parsed.split,
            overrides,
            checkpoint=parsed.checkpoint,
            ensemble=parsed.ensemble,
        )
    else:
        for name in ("checkpoint", "ensemble"):
            if getattr(parsed, name) is not None:
                raise ConfigError(f"--{name} chooses among a run's checkpoints: give --workdir=DIR")
        config = configs.load(parsed.config)
        configs.override(config, overrides)
        values = initialization.evaluate(experiment.build(config), parsed.split)
    print("\n".join(summary.report(parsed.split, values)))
    return 0


def _predict(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from vitjax.training import prediction

    results = prediction.predict(
        parsed.workdir,
        parsed.images,
        parsed.output,
        overrides,
        checkpoint=parsed.checkpoint,
        say=lambda text: print(text, file=sys.stderr),
        tile=parsed.tile,
        tta=parsed.tta,
        keep_probabilities=parsed.probabilities,
    )
    if parsed.json:
        for result in results:
            print(json.dumps(result))
        return 0
    width = max(len(result["image"]) for result in results)
    for result in results:
        shown = result.get("shares") or {
            p["class"]: p["probability"] for p in result["predictions"]
        }
        cells = [f"{name} {share:.1%}" for name, share in shown.items()]
        print(f"{result['image']:{width}}  " + "  ".join(f"{cell:<14}" for cell in cells).rstrip())
    if parsed.output:
        print(f"Written: {parsed.output}")
    return 0


def _import(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from vitjax import weights

    done = weights.convert(
        parsed.source,
        parsed.output,
        model=parsed.model,
        format=parsed.format,
        read_as=parsed.read_as,
        grid=parsed.grid,
        part=parsed.part,
        image_size=parsed.image_size,
        position_interpolation=parsed.position_interpolation,
        **dict(parsed.field),
    )
    height, width, channels = done.input_shape
    print(
        f"Read as {done.read_as}: {type(done.module).__name__} of {done.parameters:,} parameters,"
        f" for images of {height} x {width} x {channels}"
    )
    print(f"Written: {done.path}")
    return 0


def _export(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from vitjax.training import exporting

    path = exporting.export(
        parsed.workdir, parsed.format, parsed.output, overrides, checkpoint=parsed.checkpoint
    )
    print(f"Written: {path}")
    return 0


def _probe(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from vitjax.training import probing

    probing.probe(
        parsed.workdir or (),
        parsed.config or (),
        overrides,
        method=parsed.method,
        layers=parsed.layers,
        pooling=parsed.pool,
        split=parsed.split,
        output=parsed.output,
        checkpoint=parsed.checkpoint,
        shots=parsed.shots,
        draws=parsed.draws,
        k=parsed.k,
        l2=parsed.l2,
        refit=parsed.refit,
    )
    return 0


def _models(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from vitjax import models

    names = [name for name in models.names() if parsed.pattern in name]
    if not names:
        raise ConfigError(
            f"no model's name contains {parsed.pattern!r}"
            f"{near_match(parsed.pattern, models.names())}"
        )
    width = max(len(name) for name in names)
    print(f"{'name':{width}}  {'parameters':>13}  input  paper")
    for name in names:
        facts = models.facts(name)
        count = models.count_parameters(name)
        print(f"{name:{width}}  {count:>13,}  {facts['image_size'] or '-':>5}  {facts['paper']}")
    return 0


def _data(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from vitjax.training import experiment, inspection

    config = configs.load(parsed.config)
    configs.override(config, overrides)
    inspection.inspect(experiment.build(config), parsed.output)
    return 0


def _tell_unless_loop_is_closed(unraisable: sys.UnraisableHookArgs) -> None:
    """Passes over what TensorStore's futures say after a read or write that failed already."""
    error = unraisable.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
        sys.__unraisablehook__(unraisable)


def _overrides(parsed: argparse.Namespace, rest: list[str]) -> list[str]:
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
        _train,
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
        _evaluate,
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
        _predict,
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
        _import,
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
        _export,
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
        _probe,
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

    models = _command(
        commands, "models", _models, "list the models that there are", "vitjax models resnet"
    )
    models.add_argument(
        "pattern", nargs="?", default="", help="list only names that contain this text"
    )

    data = _command(
        commands,
        "data",
        _data,
        "count a config's examples and draw its first training batch",
        "vitjax data --config=configs/folder/vit.py --config.data.path=photos",
    )
    _config(data)
    data.add_argument(
        "--output", type=Path, default=Path("batch.png"), help="the picture (default: batch.png)"
    )
    return parser


def _command(commands, name, run, help_, example):
    command = commands.add_parser(
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
    command.set_defaults(run=run, parser=command)
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
    return int(text) if re.fullmatch(r"[1-9]\d*", text) else _pair(text)


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
