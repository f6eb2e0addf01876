"""Compares the layers of networks on the images of a data set: CKA of any two layers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from jaxtyping import Array

from vitjax import figures
from vitjax.analysis import similarity
from vitjax.analysis.activations import ALL
from vitjax.analysis.networks import (
    Network,
    check_comparable,
    image_batches,
    of_configs,
    of_runs,
    results_folder,
    spaced,
)
from vitjax.analysis.similarity import FEWEST, Kernel
from vitjax.core.atomic import write_json
from vitjax.core.errors import ConfigError
from vitjax.core.paths import given_twice, listed
from vitjax.core.text import Say, counted
from vitjax.core.validation import Bounds, check_value
from vitjax.training import checks
from vitjax.training.experiment import Experiment
from vitjax.training.summary import environment

_FOLDER = "layers"
RESULTS, FIGURE = "cka.json", "cka.png"
Enough = Annotated[int, Bounds(at_least=FEWEST)]


def compare_layers(
    workdirs: Sequence[str | Path] = (),
    files: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    *,
    layers: str = ALL,
    kernel: Kernel = "linear",
    split: str = "test",
    examples: int = 1024,
    batch_size: int = 128,
    output: str | Path | None = None,
    checkpoint: str | int | None = None,
    with_checkpoint: str | int | None = None,
    overwrite: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Compares all layers of one network with each other, or of two networks, by CKA.

    Writes `RESULTS` and `FIGURE`.

    Args:
        workdirs: folders of runs.
        files: config files; the weights that their ``init`` loads are compared.
        overrides: ``--config.`` arguments for the config of each network.
        layers: which, see `vitjax.analysis.activations.Activations.chosen`.
        kernel: see `vitjax.analysis.similarity.gram`.
        split: whose images are used, as each network's own data prepares them.
        examples: how many images, at most, evenly spaced in the split.
        batch_size: images of which the kernel of any two is computed; of a last batch of fewer than
            `FEWEST` the images are left out.
        output: the folder to write to; None for ``layers``, which for a single run is in its own
            folder.
        checkpoint: the checkpoint of each run, see `vitjax.training.runs.load`.
        with_checkpoint: of a single run, another checkpoint to compare with.
        overwrite: whether files in ``output`` that no earlier command wrote may be replaced.
        say: receives progress messages.

    Returns:
        The contents of the JSON file.

    Raises:
        ConfigError: not one or two networks, networks with different data, a layer or a split that
            does not exist, too few images, or a file in ``output`` that would be lost.
        WorkdirError, CheckpointError, WeightsError: a network cannot be loaded.
    """
    check_value(kernel, Kernel, "--kernel")
    check_value(examples, Enough, "--examples")
    check_value(batch_size, Enough, "--batch-size")
    check_value(layers, str, "--layers")
    workdirs, files = listed(workdirs, "workdirs"), listed(files, "files")
    if not 1 <= len(workdirs) + len(files) <= 2:
        raise ConfigError(
            "layers are compared of one or two networks: give --workdir=DIR of a run, or"
            " --config=FILE for the weights that its config.init loads, once or twice;"
            f" {len(workdirs) + len(files)} are given"
        )
    if with_checkpoint is not None and (len(workdirs) != 1 or files):
        raise ConfigError(
            f"--with-checkpoint={with_checkpoint}: two checkpoints are compared of one run: give"
            " one --workdir and no --config"
        )
    if (twice := given_twice([*workdirs, *files])) is not None:
        raise ConfigError(
            f"{twice} is given twice; give it once to compare its layers with each other"
        )
    folder = results_folder(workdirs, files, _FOLDER, output, overwrite=overwrite)
    folder.check([RESULTS, FIGURE])
    check = functools.partial(_check_split, split=split)
    networks = [
        *of_runs(workdirs, overrides, check, checkpoint=checkpoint, say=say),
        *of_configs(files, overrides, check, folder.path, say),
    ]
    if with_checkpoint is not None:
        networks += of_runs(workdirs, overrides, check, checkpoint=with_checkpoint, say=say)
        networks = [
            dataclasses.replace(each, name=f"{each.name}, step {each.origin['step']:,}")
            for each in networks
        ]
        if networks[0].name == networks[1].name:
            raise ConfigError(
                f"--with-checkpoint={with_checkpoint}: both checkpoints are that of step"
                f" {networks[0].origin['step']:,}; without it, layers are compared with themselves"
            )
    check_comparable(networks, split)
    first, second = networks[0], networks[-1]
    one, two = (
        similarity.Network(each.experiment.objective.model, each.variables, layers)
        for each in (first, second)
    )
    number = len(spaced(first.experiment.data.num_examples(split), examples))
    if number < FEWEST:
        raise ConfigError(f"layers are compared on at least {FEWEST} images; {split} has {number}")
    found = similarity.compare(
        one, two, _batches(first, second, split, examples, batch_size), kernel
    )
    if found.left_out:
        say(
            f"{counted(found.left_out, 'image')} of {number:,} left out: the last batch needs at"
            f" least {FEWEST}"
        )
    results = {
        "kernel": kernel,
        "split": split,
        "examples": found.examples,
        "networks": [
            {"name": x.name, **x.origin, "layers": list(names)}
            for x, names in zip((first, second), (found.first, found.second), strict=True)
        ],
        "cka": [[float(x) for x in row] for row in found.cka],
        **environment(),
    }
    with folder.writing(RESULTS) as path:
        write_json(path, results)
    say(f"Results: {path}")
    with figures.optional(str(folder.path / FIGURE), say), folder.writing(FIGURE) as path:
        figures.layer_similarities(
            found.cka,
            (first.name, second.name),
            (found.first, found.second),
            path,
            heading=f"{kernel} CKA on {found.examples:,} images of {split}",
        )
        say(f"Figure: {path}")
    return results


def _check_split(experiment: Experiment, where: str, split: str) -> None:
    if experiment.data.episodic:
        raise ConfigError(f"{where}: layers are compared on images, and the data has episodes")
    checks.split(split, experiment.data.splits)


def _batches(
    first: Network, second: Network, split: str, most: int, batch_size: int
) -> Iterator[tuple[Array, Array]]:
    """At most ``most`` images in batches of one size, as inputs of both networks."""
    datas = [network.experiment.data for network in (first, second)]
    for images in image_batches(datas, split, most, batch_size):
        one, two = (data.normalize(x) for data, x in zip(datas, images, strict=True))
        yield one, two
