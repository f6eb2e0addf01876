"""The command line: each subcommand parses, calls one function of the package, and prints."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vitjax import config as configs
from vitjax.errors import UserError
from vitjax.registry import ConfigError, near_match

_CHECKPOINT_HELP = "best, last, or a step (default: the best where the run chooses one)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = _parser()
    parsed, rest = parser.parse_known_args(arguments)
    # A GPU's memory is JAX's alone; without one, JAX should not report what it looked for.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.unraisablehook = _tell_unless_loop_is_closed
    try:
        overrides = _overrides(parsed.command, rest)
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
    from vitjax.training import prediction, summary

    values = prediction.evaluate(
        parsed.workdir,
        parsed.split,
        overrides,
        checkpoint=parsed.checkpoint,
        ensemble=parsed.ensemble,
    )
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


def _overrides(command: str, rest: list[str]) -> list[str]:
    """The ``--config.`` arguments among ``rest``; anything else is an error with a near match."""
    if command == "models":
        allowed: tuple[str, ...] = ()
    else:
        allowed = (
            "--config",
            "--workdir",
            "--split",
            "--checkpoint",
            "--output",
            "--json",
            "--ensemble",
            "--tile",
            "--tta",
            "--probabilities",
        )
    for argument in rest:
        if command == "models" or not argument.startswith(configs.PREFIX):
            word = argument.partition("=")[0]
            raise ConfigError(
                f"vitjax {command} has no argument {argument!r}{near_match(word, allowed)}"
                f" (see vitjax {command} --help)"
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
        "evaluate a run's checkpoint on a split",
        "vitjax evaluate --workdir=runs/digits_vit --split=val",
    )
    _workdir(evaluate, "the run's folder")
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
        "classify image files with a run's model",
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
        if name != "models"
        else f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(run=run)
    return command


def _config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config",
        required=True,
        metavar="FILE",
        help="a Python file with get_config(); FILE:TEXT calls get_config('TEXT')",
    )


def _workdir(command: argparse.ArgumentParser, help_: str) -> None:
    command.add_argument("--workdir", required=True, type=Path, metavar="DIR", help=help_)
