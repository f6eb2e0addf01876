"""Few-shot learning: results over fixed episodes, with intervals, and figures of adaptation."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from vitjax import figures
from vitjax.core.atomic import write_json
from vitjax.core.errors import ConfigError
from vitjax.core.text import portable, shortened
from vitjax.core.validation import PositiveInt
from vitjax.data import DataError, EpisodeData
from vitjax.data.any_image import AnyImage
from vitjax.data.image_files import measure
from vitjax.meta import evaluation
from vitjax.meta.episodic import MODES, Episodic
from vitjax.tasks.adapted import (
    READABLE,
    AdaptedClassifier,
    Support,
    check_classes,
    support_images,
)
from vitjax.tasks.episode_figures import draw_episode, draw_fits, draw_functions, draw_images
from vitjax.tasks.few_shot_page import FewShotPage
from vitjax.tasks.inspecting import say_stored
from vitjax.tasks.output import FIGURE, OutputFolder, figure
from vitjax.tasks.reading import (
    BATCH,
    SKIP,
    Answer,
    OnCorrupt,
    check_heads,
    check_shape,
    read_ahead,
)
from vitjax.tasks.tables import TOP, aligned_ranks, ranked_row
from vitjax.training.evaluation import Evaluator
from vitjax.training.page import Part, Score
from vitjax.training.task import TASKS, Details, Results, Table, Task

_SHOWN = 3
SUPPORT = "support.json"
_ANSWERS = 6  # images of a class in the figure of predictions


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

    def check_prediction(self, files: Sequence[Any], options: Mapping[str, Any]) -> None:
        """Checks the support set, and reads the head of each image file that must be readable.

        Raises:
            ConfigError: there is no support set, or the method cannot take its classes.
            DataError: some files are not images; the message counts them and lists the first.
        """
        support = support_images(self._support(options.get("support")))
        self.objective.for_ways(len(support))
        pictures = [picture for images in support.values() for picture in images]
        limit = self.data.max_pixels
        check_heads(pictures, limit, hint=READABLE, what="support images")
        if options.get("on_corrupt") != "skip":
            check_heads(files, limit)
        for images in (pictures, files):
            check_shape(self.data.read_image, images)
        fitting = self.data.fitting
        if fitting is not None and self._other_sizes([*pictures, *files]):
            height, width, _ = self.data.image_shape
            self.say(
                f"Images of other sizes than {height}x{width} are made ready by {fitting.text!r};"
                " --config.data.eval_transforms=... names other transforms"
            )

    def _other_sizes(self, images: Sequence[AnyImage]) -> bool:
        """Whether a file has another size than the model takes."""
        files = [image for image in images if isinstance(image, str | os.PathLike)]
        limit = self.data.max_pixels
        heads = read_ahead(lambda file: measure(file, limit), files, "skip")
        with contextlib.closing(heads) as found:
            own = self.data.image_shape[:2]
            return any(head.size != own for head in found if not isinstance(head, DataError))

    def _support(self, support: Any) -> Any:
        """``support``; raises ConfigError if there is none, or the run has no classes."""
        check_classes(self.data)
        if support is None:
            raise ConfigError(
                f"the objective {type(self.objective).__name__} predicts nothing for single"
                " files: in few-shot learning the classes are those of a support set; give"
                " --support=DIR (support=), with a folder of images for each class"
            )
        return support

    def adapt(
        self, variables: Any, support: Support, *, transductive: bool = False
    ) -> AdaptedClassifier:
        """A classifier of the classes of a support set, see `AdaptedClassifier`."""
        return AdaptedClassifier(
            self.objective, self.data, variables, support, transductive=transductive
        )

    def predict(
        self,
        variables: Any,
        files: Sequence[AnyImage],
        output: str | os.PathLike[str] | None,
        *,
        support: Any = None,
        transductive: bool = False,
        top: PositiveInt = TOP,
        batch_size: PositiveInt = BATCH,
        on_corrupt: OnCorrupt = "error",
    ) -> Iterator[dict[str, Any]]:
        """Yields the classes of images, which are those of a support set.

        ``output`` receives ``support.json``, with the method, the mode and the number of support
        images of each class, and ``predictions.png``, with the support images of each class and the
        first images that are classified as it.

        Args:
            variables: those of the objective, one copy.
            files: paths, Pillow images or arrays.
            output: the folder for these; None writes nothing.
            support: see `vitjax.tasks.adapted.Support`.
            transductive: see `AdaptedClassifier`.
            top: the number of classes of a result.
            batch_size: the number of images that pass through the model at once.
            on_corrupt: "skip" to yield an error for an image that cannot be read; support images
                must all be readable.

        Yields:
            As of a classification.

        Raises:
            ConfigError: there is no support set, or the method cannot take its classes.
            DataError: an image cannot be read.
        """
        support = self._support(support)
        folder = OutputFolder.of(output)
        if folder is not None:
            folder.check([FIGURE, SUPPORT])
        classifier = self.adapt(variables, support, transductive=transductive)
        heading = _adaptation(classifier, self.objective)
        self.say(heading)
        shown: list[tuple[int, Answer]] = []
        counts = np.zeros(len(classifier.class_names), int)
        found = classifier.answers(files, batch_size=batch_size, on_corrupt=on_corrupt, hint=SKIP)
        for answer in found:
            if answer.values is None:
                yield answer.failure
                continue
            chosen = int(answer.values.argmax())
            if folder is not None and counts[chosen] < _ANSWERS:
                shown.append((chosen, answer))
            counts[chosen] += 1
            yield classifier.result(answer, top)
        if folder is not None:
            with folder.writing(SUPPORT) as path:
                write_json(path, portable(classifier.described))
        if folder is not None and shown:
            with figure(folder, FIGURE) as path:
                _draw_answers(classifier, shown, f"{heading}\n{_first(shown, counts)}", path)

    def row(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        """The classes and their probabilities in order."""
        return ranked_row(prediction)

    def table(self, predictions: Sequence[Mapping[str, Any]]) -> list[str]:
        """A line per image: its classes and their probabilities."""
        return aligned_ranks(predictions)

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

    def scores(self, results: Results) -> list[Score]:
        """The headline of each mode with the interval of its mean over episodes."""
        found = []
        for mode in MODES:
            values = results[mode]
            fraction = "accuracy" in values
            value = values["accuracy" if fraction else "loss"]
            half = values["ci95"]
            what = "accuracy" if fraction else "mean squared error"
            score = Score(
                f"{mode} {what}",
                _number(value),
                fraction=fraction,
                higher_is_better=fraction,
            )
            if half is not None and np.isfinite(half):
                ends = _number(value) - half, _number(value) + half
                score = score._replace(low=ends[0], high=ends[1], interval="mean over episodes")
            found.append(score)
        return found

    def parts(
        self, evaluator: Evaluator, variables: Any, results: Mapping[str, Results]
    ) -> list[Part]:
        """Adaptation, episodes, classes, and an episode of training."""
        if not results:
            return []
        split, values = next(iter(results.items()))
        page = FewShotPage(self.data, self.objective, evaluator, variables, split, values)
        return page.parts()

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
            say_stored(data, say)
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


def _number(value: float | None) -> float:
    """``value``; None, which stands for NaN in JSON, is NaN."""
    return float("nan") if value is None else float(value)


def _adaptation(classifier: AdaptedClassifier, objective: Episodic) -> str:
    """What was adapted, to how many images, and how images are classified."""
    shots = sorted(set(classifier.shots.values()))
    each = f"{shots[0]}" if len(shots) == 1 else f"{shots[0]} to {shots[-1]}"
    mode = "transductive: all together" if classifier.transductive else "inductive: each alone"
    return (
        f"{type(objective).__name__}, {len(classifier.class_names)} classes with {each}"
        f" image{'' if shots == [1] else 's'} each; {mode}"
    )


def _first(shown: Sequence[Any], counts: np.ndarray) -> str:
    total = int(counts.sum())
    number = f"{total:,}" if len(shown) == total else f"{len(shown)} of {total:,}"
    return f"right: the images classified as this class ({number}), with their probability"


def _draw_answers(
    classifier: AdaptedClassifier, shown: Sequence[tuple[int, Answer]], heading: str, path: Path
) -> None:
    figures.episode(
        classifier.support,
        ([answer.image for _, answer in shown], np.array([chosen for chosen, _ in shown])),
        classifier.class_names,
        path,
        captions=[f"{answer.values.max():.0%}" for _, answer in shown if answer.values is not None],
        titles=("support", "classified as this class"),
        heading=heading,
    )


def _classes(description: Mapping[str, Any]) -> dict[str, set[str]]:
    """The names of the classes of each split; empty for regression."""
    names = description.get("class_names") or []
    return {
        split: {names[int(number)] for number in numbers}
        for split, numbers in (description.get("classes") or {}).items()
    }


def _counted(names: Sequence[str]) -> str:
    """The number of names, and the first of them."""
    plural = "" if len(names) == 1 else "es"
    return f"{len(names)} class{plural} ({shortened([repr(name) for name in names])})"
