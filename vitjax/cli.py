"""The command line: each subcommand parses, calls one function of the package, and prints."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence

from vitjax import arguments as command_line
from vitjax import config as configs
from vitjax.core.errors import ConfigError, UserError
from vitjax.core.text import near_match


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parsed, rest = command_line.parse(arguments)
    # A GPU's memory is JAX's alone; without one, JAX should not report what it looked for.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.unraisablehook = _tell_unless_loop_is_closed
    try:
        return _COMMANDS[parsed.command](parsed, command_line.overrides(parsed, rest))
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
        fields=dict(parsed.field),
    )
    examples = "images of " if len(done.input_shape) == 3 else "vectors of "
    print(
        f"Read as {done.read_as}: {type(done.module).__name__} of {done.parameters:,} parameters,"
        f" for {examples}{' x '.join(map(str, done.input_shape))}"
    )
    print(f"Written: {done.path}")
    return 0


def _export(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from vitjax.tasks import exporting

    path = exporting.export(
        parsed.workdir, parsed.format, parsed.output, overrides, checkpoint=parsed.checkpoint
    )
    print(f"Written: {path}")
    return 0


def _probe(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from vitjax.analysis import probing

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


_COMMANDS: dict[str, Callable[[argparse.Namespace, list[str]], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "import": _import,
    "export": _export,
    "probe": _probe,
    "models": _models,
    "data": _data,
}
