"""What the page of a few-shot run shows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.core.text import counted
from vitjax.data import EpisodeData
from vitjax.meta import evaluation
from vitjax.meta.episodic import MODES, Episodic
from vitjax.metrics import wilson
from vitjax.tasks.episode_figures import fitted_curves, steps_to_show
from vitjax.training.evaluation import Evaluator
from vitjax.training.page import (
    Block,
    Chart,
    Charts,
    Grid,
    Line,
    Part,
    Picture,
    Pictures,
    Words,
)

_EPISODES, _SUPPORT, _QUERIES = 2, 5, 6


class FewShotPage:
    """The parts of the page of a few-shot run.

    Args:
        data: the episodes.
        objective: that of the run.
        evaluator: the evaluator of the experiment.
        variables: placed on the devices.
        split: the split that is shown.
        results: of that split.
    """

    def __init__(
        self,
        data: EpisodeData,
        objective: Episodic,
        evaluator: Evaluator,
        variables: Any,
        split: str,
        results: Mapping[str, Any],
    ):
        self._data, self._objective, self._evaluator = data, objective, evaluator
        self._variables, self._split, self._results = variables, split, results

    def parts(self) -> list[Part]:
        """All parts."""
        found = [Part("Adaptation", self._adaptation)]
        if self._data.target == "class":
            return [
                *found,
                Part("Example episodes", self._episodes, True),
                Part("Classes", self._classes, True),
                Part("An episode as trained on", self._trained),
            ]
        if self._data.family is not None:
            found.append(Part("Example episodes", self._fits, True))
        return found

    def _adaptation(self) -> Iterator[Block]:
        values = self._results
        fraction = self._data.target == "class"
        what = "accuracy" if fraction else "mean squared error"
        yield Words(f"{self._split}: {evaluation.protocol(values)}.")
        if not values["test_steps"]:
            yield Words("The method does not adapt in steps.")
            return
        lines = [
            Line(
                mode,
                range(values["test_steps"] + 1),
                _numbers(values[mode]["per_step"]),
                _numbers(values[mode]["per_step_ci95"]),
            )
            for mode in MODES
        ]
        yield Charts([Chart(f"{what} after inner steps", lines, "inner step", fraction)])
        yield Words("Bands are 95% intervals of the mean over episodes.")

    def _answered(self, variables: Any, batch: Any) -> dict[str, Any]:
        outputs = self._objective.answer(variables, batch)[MODES[0]]
        return {**batch, "guesses": jnp.argmax(outputs, axis=-1)}

    def _right(self, variables: Any, batch: Any) -> dict[str, Any]:
        """Whether each query is right after the last step, and its class."""
        outputs = self._objective.answer(variables, batch)[MODES[0]][:, -1]
        query = batch["query"]
        return {
            "right": jnp.argmax(outputs, axis=-1) == query["target"],
            "class": query["class"],
            "counts": query["mask"],
        }

    def _episodes(self) -> Iterator[Block]:
        found = self._evaluator.first(self._answered, self._variables, self._split, _EPISODES)
        yield Words(
            f"The first episodes of {self._split}, {MODES[0]}. Below each query: whether it is"
            " right after adaptation, and the class that was predicted before it, where that"
            " differs."
        )
        for place in range(len(found["guesses"])):
            episode = jax.tree.map(lambda x, i=place: x[i], found)
            yield from self._episode(episode, f"episode {place + 1}", self._split)

    def _episode(self, episode: Mapping[str, Any], title: str, split: str) -> Iterator[Block]:
        """A row for each class of an episode; ``guesses`` of the queries are optional."""
        support, query = episode["support"], episode["query"]
        names = self._data.classes(split)
        known = support["mask"]
        numbers = dict(
            zip(support["target"][known].tolist(), support["class"][known].tolist(), strict=True)
        )
        title_of = {label: names[number] for label, number in numbers.items()}
        for label, name in sorted(title_of.items()):
            own = np.flatnonzero(known & (support["target"] == label))[:_SUPPORT]
            pictures = [
                Picture(support["input"][i], "support", f"support image of class {name}")
                for i in own
            ]
            asked = np.flatnonzero(query["mask"] & (query["target"] == label))[:_QUERIES]
            for i in asked:
                caption = "query"
                if "guesses" in episode:
                    said = episode["guesses"][:, i]
                    words = [title_of.get(int(g), "none") for g in (said[0], said[-1])]
                    caption = "✓" if int(said[-1]) == label else f"✗ {words[1]}"
                    if words[0] != words[1]:
                        caption += f" (before: {words[0]})"
                pictures.append(Picture(query["input"][i], caption, f"query of class {name}"))
            yield Pictures(pictures, f"{title}, class {name}")

    def _classes(self) -> Iterator[Block]:
        found, _ = self._evaluator.gather(self._right, self._variables, self._split)
        counts = found["counts"]
        classes, right = found["class"][counts], found["right"][counts]
        names = self._data.classes(self._split)
        totals = np.bincount(classes, minlength=len(names))
        hits = np.bincount(classes[right], minlength=len(names))
        rows = []
        for name, total, hit in zip(names, totals.tolist(), hits.tolist(), strict=True):
            if total:
                rows.append((name, hit / total, *wilson(hit, total), total))
        yield Words(
            f"Queries of all episodes, {MODES[0]}. The Wilson intervals take queries as"
            " independent, which those of one episode are not quite."
        )
        columns = ("class", "accuracy", "95% low", "95% high", "queries")
        yield Grid(columns, rows, columns[1:4])

    def _trained(self) -> Iterator[Block]:
        with contextlib.closing(self._data.train_batches()) as batches:
            batch = jax.device_get(self._data.look_up(self._data.store, next(batches)))
        episode = jax.tree.map(lambda x: x[0], dict(batch))
        yield from self._episode(episode, "training", "train")

    def _fits(self) -> Iterator[Block]:
        family = self._data.family
        assert family is not None
        x, truth, found = fitted_curves(
            self._evaluator, family, self._objective, self._variables, self._split
        )
        steps = steps_to_show(found["fits"].shape[1] - 1)
        charts = []
        for place, true in enumerate(truth):
            lines = [Line("truth", x, true)]
            lines += [Line(counted(step, "step"), x, found["fits"][place, step]) for step in steps]
            support = {key: value[place] for key, value in found["support"].items()}
            known = support["mask"]
            points = Line("support", support["input"][known, 0], support["target"][known, 0])
            charts.append(
                Chart(
                    f"episode {place + 1}", lines, "input", points=[points], y="output", ends=False
                )
            )
        yield Charts(charts)


def _numbers(values: Any) -> np.ndarray:
    """Numbers of results; None, which stands for NaN in JSON, is NaN."""
    return np.array([np.nan if value is None else value for value in values], np.float64)
