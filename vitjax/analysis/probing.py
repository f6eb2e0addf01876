"""Probing networks: how well classes can be predicted from each of their layers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vitjax import figures
from vitjax.analysis.activations import Activations
from vitjax.analysis.networks import (
    Network,
    check_comparable,
    of_configs,
    of_runs,
    results_folder,
)
from vitjax.analysis.probes import PROBES, Examples, Numbers, Sets
from vitjax.core.atomic import write_json
from vitjax.core.errors import ConfigError
from vitjax.core.paths import listed
from vitjax.core.validation import check_keywords
from vitjax.data import LabelledDataset
from vitjax.training import checks
from vitjax.training.experiment import Experiment
from vitjax.training.features import Extractor
from vitjax.training.summary import environment

_FOLDER = "probes"


def probe(
    workdirs: Sequence[str | Path] = (),
    files: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    *,
    method: str = "linear",
    layers: str | None = None,
    pooling: str = "mean",
    split: str = "test",
    output: str | Path | None = None,
    checkpoint: str | int | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
    **how: Any,
) -> dict[str, Any]:
    """Trains probes on the features of one or several networks, and tests them on ``split``.

    Writes ``<method>.json`` and, for more than one layer, ``<method>.png``. Features are cached in
    a folder ``features``, of a run in its own folder, of a config in ``output``.

    Args:
        workdirs: folders of runs.
        files: config files; the weights that their ``init`` loads are probed.
        overrides: ``--config.`` arguments for the config of each network.
        method: one of `PROBES`.
        layers: the layers to probe; see `vitjax.analysis.activations.Activations.chosen`.
        pooling: see `vitjax.analysis.activations.Activations.vectors`.
        split: the split that probes are tested on. They learn from ``train``, and choose by ``val``
            if it exists and is not ``split``.
        output: the folder to write to; None for ``probes``, which for a single run is in its own
            folder.
        checkpoint: the checkpoint of each run, see `vitjax.training.runs.load`.
        overwrite: whether files in ``output`` that no earlier command wrote may be replaced.
        say: receives progress messages and each result.
        **how: the keywords of the method; None for its default.

    Returns:
        The contents of the JSON file.

    Raises:
        ConfigError: an unknown method, keyword, layer or split; no network; a network that is no
            image classifier; networks with different data; or a file in ``output`` that would be
            lost.
        WorkdirError, CheckpointError, WeightsError: a network cannot be loaded.
    """
    how = {name: value for name, value in how.items() if value is not None}
    check_keywords(PROBES[method], how, where=f"vitjax probe (--method={method})", given=("sets",))
    workdirs, files = listed(workdirs, "workdirs"), listed(files, "files")
    if not workdirs and not files:
        raise ConfigError(
            "a probe needs the folder of a run (--workdir=DIR), or a config (--config=FILE) for the"
            " weights that its config.init loads, or several of them"
        )
    if checkpoint is not None and not workdirs:
        raise ConfigError(
            "checkpoint chooses among a run's checkpoints; it needs the folder of a run"
            " (--workdir=DIR)"
        )
    folder = results_folder(workdirs, files, _FOLDER, output, overwrite=overwrite)
    folder.check([f"{method}.json", f"{method}.png"])
    check = functools.partial(_check_classifier, split=split)
    networks = [
        *of_runs(workdirs, overrides, check, checkpoint=checkpoint, say=say),
        *of_configs(files, overrides, check, folder.path, say),
    ]
    check_comparable(networks, split)
    found = []
    for network in networks:
        rows = _probed(network, method, how, layers, pooling, split, say)
        found.append({"name": network.name, **network.origin, "layers": rows})
    results = {
        "method": method,
        **how,
        "pooling": pooling,
        "split": split,
        "networks": found,
        **environment(),
    }
    with folder.writing(f"{method}.json") as path:
        write_json(path, results)
    say(f"Results: {path}")
    if max(len(network["layers"]) for network in found) > 1:
        data = networks[0].experiment.data
        name = f"{method}.png"
        with figures.optional(str(folder.path / name), say), folder.writing(name) as path:
            figures.probes(
                {network["name"]: _lines(network["layers"]) for network in found},
                path,
                chance=1 / data.num_classes,
                heading=f"{method.replace('_', '-')} probes on {split}, {data.num_classes} classes",
            )
            say(f"Figure: {path}")
    return results


def _probed(
    network: Network,
    method: str,
    how: Mapping[str, Any],
    pattern: str | None,
    pooling: str,
    split: str,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """The results of each layer of a network, in order of computation."""
    data = _labelled(network.experiment)
    images = data.example_batch(evaluated=True)["image"]
    activations = Activations(
        network.experiment.objective.model,
        network.variables,
        jax.eval_shape(data.normalize, images),
    )
    layers = activations.chosen(pattern)
    extractor = Extractor(
        network.experiment,
        network.variables,
        activations.vectors(layers, pooling),
        {"layers": [layer.name for layer in layers], "pooling": pooling},
        cache=network.cache,
        say=say,
    )
    names = {"train": "train", "test": split}
    if PROBES.facts(method).get("chooses") and "val" in data.splits and split != "val":
        names["held_out"] = "val"
    features = {role: extractor.of(name) for role, name in names.items()}
    say(f"{network.name}:")
    space = max(len(layer.name) for layer in layers)
    rows = []
    for layer in layers:
        parts = {
            role: Examples(found.layers[layer.name][found.mask], data.labels(name)[found.mask])
            for (role, name), found in zip(names.items(), features.values(), strict=True)
        }
        sets = Sets(
            train=parts["train"],
            test=parts["test"],
            held_out=parts.get("held_out"),
            class_names=data.class_names,
        )
        numbers = PROBES[method](sets, **how)
        width = sets.train.features.shape[1]
        say(f"  {layer.name:{space}}  {width:5} features  {_in_words(numbers)}")
        rows.append(
            {"layer": layer.name, "depth": layer.depth, "features": width, "probes": numbers}
        )
    return rows


def _in_words(numbers: Mapping[str, Numbers]) -> str:
    words = []
    for kind, values in numbers.items():
        text = f"{kind} {values['accuracy']:.2%}"
        if values.get("ci95") is not None:
            text += f" ± {values['ci95']:.2%}"
        if "l2" in values:
            text += f" (l2 {values['l2']:.3g})"
        if not values.get("converged", True):
            text += ", not converged"
        words.append(text)
    return "  ".join(words)


def _lines(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[figures.Point]]:
    """The points of each kind of probe of one network, for `figures.probes`."""
    lines: dict[str, list[figures.Point]] = {}
    for row in rows:
        for kind, values in row["probes"].items():
            point = row["depth"], values["accuracy"], values.get("ci95")
            lines.setdefault(kind, []).append(point)
    return lines


def _check_classifier(experiment: Experiment, where: str, split: str) -> None:
    """Raises ConfigError unless it classifies images and its data has the splits."""
    objective, data = experiment.objective, experiment.data
    if data.target != "class" or data.episodic:
        raise ConfigError(
            f"{where}: a probe learns the classes of images, but the objective"
            f" {type(objective).__name__} has none; use a config with the objective"
            " 'classification', whose config.init.from_checkpoint may be a run of any objective"
        )
    for name in ("train", split):
        checks.split(name, data.splits)


def _labelled(experiment: Experiment) -> LabelledDataset:
    data: LabelledDataset = checks.provides(experiment.data, LabelledDataset, "a probe")
    return data
