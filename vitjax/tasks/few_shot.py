"""Few-shot learning: results over fixed episodes, with intervals, and figures of adaptation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from vitjax import figures
from vitjax.core.errors import ConfigError
from vitjax.core.text import shortened
from vitjax.data import EpisodeData
from vitjax.meta import evaluation
from vitjax.meta.episodic import MODES, Episodic
from vitjax.tasks.episode_figures import draw_episode, draw_fits, draw_functions, draw_images
from vitjax.training.evaluation import Evaluator
from vitjax.training.task import TASKS, Details, Results, Table, Task

_SHOWN = 3


@TASKS.register("few_shot")
class FewShot(Task[EpisodeData, Episodic]):
    """Few-shot classification or regression."""

    needed_data = EpisodeData
    needed_objective = Episodic

    evaluation_keys: ClassVar[tuple[str, ...]] = (
        "episodes.val_episodes",
        "episodes.test_episodes",
        "episodes.in_memory",
    )

    def check_resume(self, described: Mapping[str, Any]) -> None:
        """Checks that a run resumes with the classes that it was trained and validated on."""
        before, now = _classes(described), _classes(self.data.describe())
        for split in ("train", "val"):
            old, new = before.get(split, set()), now.get(split, set())
            if before and now and old != new:
                changes = [
                    f"{_counted(sorted(names))} {what}"
                    for what, names in (("new", new - old), ("gone", old - new))
                    if names
                ]
                raise ConfigError(
                    f"config.data: the classes of split {split!r} are not those that the run"
                    f" started with: {' and '.join(changes)}. Nothing was overwritten; choose"
                    " another --workdir, or the original data and config.data.episodes.class_split"
                )

    def check_evaluation(self, described: Mapping[str, Any], split: str) -> None:
        """Checks that training saw no class of ``split``; ``train`` is always allowed."""
        trained, evaluated = _classes(described), _classes(self.data.describe())
        if split == "train" or "train" not in trained or split not in evaluated:
            return
        seen = sorted(trained["train"] & evaluated[split])
        if seen:
            raise ConfigError(
                f"config.data: split {split!r} has {_counted(seen)} that the run was trained on, of"
                f" {len(evaluated[split])}; its results would not be for new classes."
                " config.data.episodes.class_split must be the one of the training, or one whose"
                f" {split!r} shares no class with it"
            )

    def explain_outputs(self, there: int, here: int) -> str:
        """The ways that the head was trained for, and the ways of the episodes."""
        if self.data.target == "number":
            return super().explain_outputs(there, here)
        name = self.experiment.config.get("objective", {}).get("name")
        text = f"the head of {name} fixes the ways: {there}; the data's episodes have up to {here}"
        if here < there:
            return (
                f"{text}. With config.data.episodes.train_ways={there}, the {there} outputs are"
                f" kept, and episodes of {here} ways use the first {here}"
            )
        return (
            f"{text}. Episodes of more ways need a run that is trained with config.data"
            f".episodes.train_ways={here}, or a method without such a head, such as 'protonet'"
        )

    def evaluate(self, evaluator: Evaluator, variables: Any, split: str) -> dict[str, Any]:
        """Means over the episodes of ``split``, and their confidence intervals.

        See `vitjax.meta.evaluation.results`.
        """
        measured, _ = evaluator.gather(self.objective.measure, variables, split)
        return evaluation.results(measured, self.data.protocol(split))

    def evaluate_in_detail(self, evaluator: Evaluator, variables: Any, split: str) -> Details:
        """`evaluate`, and a table of all episodes, modes and steps."""
        measured, index = evaluator.gather(self.objective.measure, variables, split)
        results = evaluation.results(measured, self.data.protocol(split))
        names = list(measured[MODES[0]])
        rows = []
        for place, number in enumerate(index.tolist()):
            for mode in MODES:
                steps = zip(*(measured[mode][name][place].tolist() for name in names), strict=True)
                rows += [(number, mode, step, *values) for step, values in enumerate(steps)]
        return Details(results, {"episodes": Table(("episode", "mode", "step", *names), rows)})

    def ensemble(self, evaluator: Evaluator, members: Iterable[Any], split: str) -> dict[str, Any]:
        """The results of averaged probabilities, see `vitjax.meta.evaluation.of_ensemble`."""

        def answers(variables: Any, batch: Any) -> dict[str, Any]:
            return {
                "probabilities": self.objective.query_probabilities(variables, batch),
                "target": batch["query"]["target"],
                "mask": batch["query"]["mask"],
            }

        total: Any = None
        count = 0
        for variables in members:
            found, _ = evaluator.gather(answers, variables, split)
            each = found["probabilities"]
            total = each if total is None else jax.tree.map(np.add, total, each)
            count += 1
        mean = {mode: summed / count for mode, summed in total.items()}
        return evaluation.of_ensemble(mean, found["target"], found["mask"])

    def check_ensemble(self) -> None:
        """Checks that there are probabilities to average: those of classes."""
        if self.data.target == "number":
            super().check_ensemble()

    def describe(self, results: Results, *, full: bool = False) -> list[str]:
        """A line per mode; with ``full`` also a table over steps, and the meaning of modes."""
        lines = evaluation.describe(results)
        if not full:
            return lines
        steps = evaluation.table(results) if results["test_steps"] else []
        return [*lines, *steps, *(f"({line})" for line in evaluation.MEANING)]

    def predict(
        self, variables: Any, files: Sequence[str | Path], output: str | Path | None
    ) -> list[dict[str, Any]]:
        """Raises ConfigError: without a support set, files have no classes."""
        raise ConfigError(
            f"the objective {type(self.objective).__name__} predicts nothing for single"
            " files: in few-shot learning the classes are those of a support set; use `vitjax"
            " evaluate`"
        )

    def report(
        self, evaluator: Evaluator, variables: Any, results: Mapping[str, Results], folder: Path
    ) -> None:
        """Draws curves over the inner steps, and episodes before and after adaptation."""
        if not results:
            return
        split, values = next(iter(results.items()))
        classes = self.data.target == "class"
        ways = values.get("ways")
        data, objective = self.data, self.objective
        with figures.optional("the first episodes", evaluator.say):
            if classes:
                draw_episode(evaluator, data, objective, variables, split, folder)
            elif data.family is not None:
                draw_fits(evaluator, data.family, objective, variables, split, folder)
        if jax.process_index() == 0 and values["test_steps"]:
            figures.adaptation(
                {mode: (values[mode]["per_step"], values[mode]["per_step_ci95"]) for mode in MODES},
                folder / "adaptation.png",
                what="accuracy" if classes else "mean squared error",
                fraction=classes,
                chance=1 / ways if classes and isinstance(ways, int) else None,
                heading=f"{split}: {evaluation.protocol(values)}",
            )

    def inspect(self, output: str | Path, say: Callable[[str], None]) -> dict[str, Any]:
        """Counts the classes and images of each split, and draws the first training episode."""
        data = self.data
        counts: dict[str, Any] = data.counts()
        if counts:
            heads = ("classes", "images", "fewest images of a class")
            say(f"{'split':8}" + "".join(f"{head:>{len(head) + 4}}" for head in heads))
            for split, found in counts.items():
                numbers = zip(heads, found.values(), strict=True)
                say(f"{split:8}" + "".join(f"{n:>{len(head) + 4},}" for head, n in numbers))
            turned = data.num_train_classes // counts["train"]["classes"]
            if turned > 1:
                say(f"With rotations by quarter turns, each of these classes is {turned} classes.")
            say(f"images: {' x '.join(map(str, data.image_shape))}")
        for split in data.splits:
            protocol = dict(data.protocol(split))
            if split == "train":
                del protocol["episodes"]  # training episodes do not end
            say(f"{split}: {evaluation.protocol(protocol)}")
        with contextlib.closing(data.train_batches()) as batches:
            batch = jax.device_get(data.look_up(data.store, next(batches)))
        if data.target == "class":
            episode = jax.tree.map(lambda x: x[0], batch)
            with figures.optional(str(output), say):
                draw_images(data, episode, "train", output, "The first training episode")
                say(f"The first training episode: {output}")
        elif data.family is not None:
            episodes = jax.tree.map(lambda x: x[:_SHOWN], batch)
            with figures.optional(str(output), say):
                draw_functions(data.family, episodes, output, queries=True)
                say(f"The first {len(episodes['mask'])} training episodes: {output}")
        return counts


def _classes(description: Mapping[str, Any]) -> dict[str, set[str]]:
    """The names of the classes of each split; empty for regression."""
    names = description.get("class_names", [])
    return {
        split: {names[int(number)] for number in numbers}
        for split, numbers in description.get("classes", {}).items()
    }


def _counted(names: Sequence[str]) -> str:
    """The number of names, and the first of them."""
    plural = "" if len(names) == 1 else "es"
    return f"{len(names)} class{plural} ({shortened([repr(name) for name in names])})"
