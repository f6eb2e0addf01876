"""Looking at the data of a config before training on it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vitjax import figures
from vitjax.meta import evaluation
from vitjax.objectives.batches import cut
from vitjax.tasks import few_shot_figures as few_shot
from vitjax.training.experiment import Experiment
from vitjax.training.step import step_key

_SHOWN = 36
_TASKS = 3


def inspect(
    experiment: Experiment, picture: str | Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Counts the examples of each split and class, and draws what is trained on first.

    Args:
        experiment: its data is looked at.
        picture: where the picture goes; it shows images as the first step trains on them,
            augmented and mixed, or the first episode of few-shot data.
        say: is told the counts, line by line.

    Returns:
        ``{split: {class name: count}}``; of few-shot data `EpisodeData.counts`.
    """
    data = experiment.data
    if data.episodic:
        return _inspect_episodes(data, picture, say)
    counts = {}
    pixelwise = data.target == "mask"
    for split in data.splits:
        numbers = (
            data.class_pixels(split)
            if pixelwise
            else np.bincount(data.labels(split), minlength=data.num_classes)
        )
        counts[split] = dict(zip(data.class_names, map(int, numbers), strict=True))
    space = 16 if pixelwise else 10
    width = max(len("class"), *(len(name) for name in data.class_names))
    say(f"{'class':{width}}" + "".join(f"{split:>{space}}" for split in counts))
    for name in data.class_names:
        say(f"{name:{width}}" + "".join(f"{counts[split][name]:>{space}}" for split in counts))
    say(
        f"{'all':{width}}" + "".join(f"{sum(count.values()):>{space}}" for count in counts.values())
    )
    say(f"images: {' x '.join(map(str, data.image_shape))}; classes: {data.num_classes}")
    with contextlib.closing(data.train_batches()) as batches:
        batch = next(batches)
    images: Any
    if pixelwise:
        say("counted are the pixels of each class")
        pairs = zip(batch["image"], batch["label"], strict=True)
        images = [figures.overlay(image, label, data.num_classes) for image, label in pairs]
        titles = [""] * len(images)
    else:
        images, titles = _as_trained(experiment, batch)
    figures.image_grid(images[:_SHOWN], titles[:_SHOWN], picture)
    say(f"The first {min(_SHOWN, len(images))} images of the first batch: {picture}")
    return counts


def _inspect_episodes(data: Any, picture: str | Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Says how many classes and images each split has and what its episodes are; draws some."""
    counts: dict[str, Any] = data.counts()
    if counts:
        heads = ("classes", "images", "fewest images of a class")
        say(f"{'split':8}" + "".join(f"{head:>{len(head) + 4}}" for head in heads))
        for split, found in counts.items():
            numbers = zip(heads, found.values(), strict=True)
            say(f"{split:8}" + "".join(f"{n:>{len(head) + 4},}" for head, n in numbers))
        turned = data.num_train_classes // counts["train"]["classes"]
        if turned > 1:
            say(f"Turned by quarter turns, a class of these is {turned} classes.")
        say(f"images: {' x '.join(map(str, data.image_shape))}")
    for split in data.splits:
        protocol = dict(data.protocol(split))
        if split == "train":
            # Its episodes never end.
            del protocol["episodes"]
        say(f"{split}: {evaluation.protocol(protocol)}")
    with contextlib.closing(data.train_batches()) as batches:
        batch = jax.device_get(data.look_up(data.store, next(batches)))
    if data.target == "number":
        tasks = jax.tree.map(lambda x: x[:_TASKS], batch)
        few_shot.draw_functions(data, tasks, picture, queries=True)
        say(f"The first {len(tasks['mask'])} training tasks: {picture}")
        return counts
    task = jax.tree.map(lambda x: x[0], batch)
    few_shot.draw_task(data, task, "train", picture, "The first training episode")
    say(f"The first training episode: {picture}")
    return counts


def _as_trained(experiment: Experiment, batch: Any) -> tuple[np.ndarray, list[str]]:
    """Images in 0..1 as the first step, or its first micro-batch, sees them; labels in words."""
    objective: Any = experiment.objective
    names = experiment.data.class_names
    if not hasattr(objective, "prepare"):
        return _unit(batch["image"]), [names[label] for label in batch["label"]]
    # Mixing is linear, so it looks the same before normalisation, which has no picture.
    visible = dataclasses.replace(objective, normalize=_unit)
    key = step_key(jax.random.key_data(jax.random.key(experiment.seed)), 0)
    parts = experiment.settings.accumulation_steps
    if parts > 1:
        batch = jax.tree.map(lambda x: np.asarray(cut(x, parts))[0], dict(batch))
        key = jax.random.fold_in(key, 0)
    images, labels = jax.device_get(visible.prepare(batch, key))
    # What is spread over all classes by smoothing is no part of the mixture.
    shares = labels - labels.min(axis=-1, keepdims=True)
    shares = shares / np.maximum(shares.sum(axis=-1, keepdims=True), 1e-9)
    titles = [
        "\n".join(
            names[i] if row[i] > 0.995 else f"{names[i]} {row[i]:.0%}"
            for i in np.argsort(-row, kind="stable")[:2]
            if row[i] > 0.005
        )
        for row in shares
    ]
    return images, titles


def _unit(images: Any) -> Any:
    return images.astype("float32") / 255 if images.dtype == np.uint8 else images
