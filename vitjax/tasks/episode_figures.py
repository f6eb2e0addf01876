"""Figures of single episodes, before and after adaptation: predicted classes, or curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax import figures
from vitjax.data import EpisodeData
from vitjax.data.episodes import Family
from vitjax.meta.episodic import MODES, Episodic
from vitjax.training.evaluation import Evaluator

_PARTS = ("support", "query")
_EPISODES = 3
_POINTS = 201
_STEPS = (0, 1, 10)


def draw_episode(
    evaluator: Evaluator,
    data: EpisodeData,
    objective: Episodic,
    variables: Any,
    split: str,
    folder: Path,
) -> None:
    """Draws the first episode of ``split`` with its predictions before and after adaptation.

    All hosts call this; the first host draws.
    """

    def answered(variables: Any, batch: Any) -> dict[str, Any]:
        outputs = objective.answer(variables, batch)[MODES[0]]
        parts = {part: batch[part] for part in _PARTS}
        return {**parts, "guesses": jnp.argmax(outputs, axis=-1)}

    found = evaluator.first(answered, variables, split, 1)
    if jax.process_index() > 0:
        return
    episode = jax.tree.map(lambda x: x[0], found)
    mask, target = episode["query"]["mask"], episode["query"]["target"]
    steps = len(episode["guesses"]) - 1
    guesses = {"before": episode["guesses"][0], "after": episode["guesses"][-1]}
    if steps == 0:
        del guesses["before"]
    right = {when: int(np.sum((guess == target)[mask])) for when, guess in guesses.items()}
    heading = f"The first episode of {split}: of {int(mask.sum())} queries"
    if steps:
        heading += (
            f" {right['before']} right before adaptation, {right['after']} after"
            f" {steps} step{'' if steps == 1 else 's'} ({MODES[0]})"
            "\nbelow each query: the predicted class before → after"
        )
    else:
        heading += f" {right['after']} right ({MODES[0]})\nbelow each: the predicted class"
    draw_images(
        data,
        episode,
        split,
        folder / "episode.png",
        heading=heading,
        **{when: guess[mask] for when, guess in guesses.items()},
    )


def draw_images(
    data: EpisodeData,
    episode: Mapping[str, Any],
    split: str,
    path: str | Path,
    heading: str,
    **guesses: Any,
) -> None:
    """Draws one episode of images.

    Args:
        data: the episodes' data.
        episode: its ``support`` and ``query``, without a leading axis.
        split: the split of the episode.
        path: the PNG to write.
        heading: the heading of the figure.
        **guesses: ``before`` and ``after`` of `figures.episode`.
    """
    parts = {
        name: {key: value[episode[name]["mask"]] for key, value in episode[name].items()}
        for name in _PARTS
    }
    support = parts["support"]
    names = data.classes(split)
    number = dict(zip(support["target"].tolist(), support["class"].tolist(), strict=True))
    figures.episode(
        (support["input"], support["target"]),
        (parts["query"]["input"], parts["query"]["target"]),
        [names[number[label]] for label in range(len(number))],
        path,
        heading=heading,
        **guesses,
    )


def draw_fits(
    evaluator: Evaluator,
    family: Family,
    objective: Episodic,
    variables: Any,
    split: str,
    folder: Path,
) -> None:
    """Draws the first regressions of ``split``, fitted with several numbers of steps.

    All hosts call this; the first host draws.
    """
    _, _, found = fitted_curves(evaluator, family, objective, variables, split)
    if jax.process_index() > 0:
        return
    steps = steps_to_show(found["fits"].shape[1] - 1)
    draw_functions(
        family,
        found,
        folder / "fits.png",
        predicted={step: found["fits"][:, step] for step in steps},
    )


def fitted_curves(
    evaluator: Evaluator, family: Family, objective: Episodic, variables: Any, split: str
) -> tuple[np.ndarray, np.ndarray, Any]:
    """The first regressions of ``split``, fitted with each number of steps; all hosts call this.

    Returns:
        Inputs (points,), their true outputs (episodes, points), and a batch of the episodes with
        ``fits``, (episodes, steps + 1, points).
    """
    x = _points(family)

    def fitted(variables: Any, batch: Any) -> dict[str, Any]:
        episodes = len(batch["mask"])
        places = jnp.broadcast_to(jnp.asarray(x)[None, :, None], (episodes, len(x), 1))
        query = {
            "input": places,
            "target": jnp.zeros_like(places),
            "class": jnp.zeros((episodes, len(x)), jnp.int32),
            "mask": jnp.ones((episodes, len(x)), bool),
        }
        # The points of a curve are predicted independently of each other.
        outputs = objective.answer(variables, {**batch, "query": query})[MODES[1]]
        return {**batch, "fits": outputs[..., 0]}

    found = evaluator.first(fitted, variables, split, _EPISODES)
    parameters = [np.asarray(found[name])[:, None] for name in family.parameters]
    return x, family(x[None], *parameters), found


def steps_to_show(last: int) -> list[int]:
    """Some numbers of inner steps, of which ``last`` is the largest."""
    return [step for step in _STEPS if step < last] + [last]


def _points(family: Family) -> np.ndarray:
    """Inputs spread over the range of a family of functions."""
    low, high = family.inputs
    return np.linspace(low, high, _POINTS, dtype=np.float32)


def draw_functions(
    family: Family,
    batch: Mapping[str, Any],
    path: str | Path,
    *,
    queries: bool = False,
    **fits: Any,
) -> None:
    """Draws the regression episodes of a batch.

    Args:
        family: the functions.
        batch: a batch of episodes; all of them are drawn.
        path: the PNG to write.
        queries: whether to draw the queries.
        **fits: ``predicted`` of `figures.fits`.
    """
    x = _points(family)
    parameters = {name: np.asarray(batch[name]) for name in family.parameters}
    truth = family(x[None], *(values[:, None] for values in parameters.values()))

    def points(part: str) -> tuple[np.ndarray, np.ndarray]:
        shown = batch[part]
        counted = shown["mask"]
        return tuple(  # type: ignore[return-value]
            np.where(counted, shown[key][..., 0], np.nan) for key in ("input", "target")
        )

    titles = [
        ", ".join(f"{name} {values[episode]:.2f}" for name, values in parameters.items())
        for episode in range(len(truth))
    ]
    figures.fits(
        points("support"),
        (x, truth),
        path,
        query=points("query") if queries else None,
        titles=titles,
        **fits,
    )
