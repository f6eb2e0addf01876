"""``vitjax probe``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vitjax.cli import arguments, process
from vitjax.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.workdir(
        parser, "a run's folder; may be given several times", required=False, action="append"
    )
    arguments.config(parser, required=False, action="append")
    parser.add_argument(
        "--method",
        default="linear",
        help="linear (logistic regression by L-BFGS, the default), knn, or few_shot",
    )
    parser.add_argument(
        "--layers",
        metavar="all|REGEX",
        help="all: the input of the first block and the output of each block; or the layers in"
        " whose names REGEX is found (default: the input of the head)",
    )
    parser.add_argument(
        "--pool",
        default="mean",
        help="tokens: mean over the image's patches (the default), or token, the class token",
    )
    parser.add_argument("--split", default="test", help="the split to classify (default: test)")
    parser.add_argument(
        "--shots", type=arguments.integers, help="few_shot: examples per class (1,5,10)"
    )
    parser.add_argument("--draws", type=int, help="few_shot: number of random draws (5)")
    parser.add_argument(
        "--k", type=arguments.integers, help="knn: numbers of neighbours (10,20,100,200)"
    )
    parser.add_argument(
        "--l2", type=float, help="linear (default: chosen on val), few_shot (default: 1024)"
    )
    parser.add_argument(
        "--refit",
        action="store_const",
        const=True,
        help="linear: fit again on train and val once the L2 is chosen",
    )
    arguments.checkpoint(parser)
    arguments.results(
        parser, "numbers and figure (default: probes, in a single run's folder)", required=False
    )


def _run(parsed: argparse.Namespace, overrides: Sequence[str]) -> int:
    process.start_devices()
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
        overwrite=parsed.overwrite,
        shots=parsed.shots,
        draws=parsed.draws,
        k=parsed.k,
        l2=parsed.l2,
        refit=parsed.refit,
    )
    return 0


COMMAND = Command(
    "probe",
    "measure what the features of a network's layers predict: linear, k-NN and few-shot probes",
    [
        "vitjax probe --workdir=runs/vit --workdir=runs/resnet --layers=all --method=few_shot"
        " --output=probes",
        "vitjax probe --config=configs/transfer/linear_probe.py"
        " --config.init.from_checkpoint=vit.safetensors",
    ],
    _arguments,
    _run,
)
