"""What a task is: everything that depends on the kind of a run, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.metrics import Declaration

if TYPE_CHECKING:
    from vitjax.training.evaluation import Evaluator
    from vitjax.training.experiment import Experiment

Results = Mapping[str, Any]


class Task:
    """What a person does with one kind of run: classification, segmentation, few-shot learning.

    The objective names its task. The engine and the command line know the kind of a run only
    through this interface. `evaluate` and `describe` have defaults that report the objective's
    metrics, so that the smallest task has `predict` alone, or nothing.

    Attributes:
        experiment: the run.
    """

    def __init__(self, experiment: Experiment):
        self.experiment = experiment

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the model's outputs stand for."""
        return tuple(self.experiment.data.class_names)

    # Checks.

    @classmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        """Checks a config before its data is read.

        Args:
            config: all sections, as plain values.

        Raises:
            ConfigError: sections that do not go together.
        """

    def check_resume(self, described: Mapping[str, Any]) -> None:
        """Checks that a run resumes with the data that it began with.

        Args:
            described: what `vitjax.data.Dataset.describe` returned when it began.

        Raises:
            ConfigError: it would resume with other data.
        """

    def check_evaluation(self, described: Mapping[str, Any], split: str) -> None:
        """Checks that an evaluation of a run on ``split`` means something.

        Args:
            described: as in `check_resume`.
            split: one of the data's splits.

        Raises:
            ConfigError: it does not.
        """

    # Training.

    def prepare(
        self, variables: Mapping[str, Any], cache: Path, say: Callable[[str], None]
    ) -> Experiment:
        """The experiment as it is trained, once its variables are known: by default, unchanged.

        Args:
            variables: of the objective, one copy.
            cache: a folder of the run for what is computed once.
            say: receives progress messages.
        """
        del variables, cache, say
        return self.experiment

    # Evaluation.

    def evaluate(self, evaluator: Evaluator, variables: Any, split: str) -> dict[str, Any]:
        """The results on ``split``: JSON values by name.

        Args:
            evaluator: of the experiment.
            variables: placed on the devices.
            split: one of the data's splits.
        """
        return evaluator.final_metrics(variables, split)

    def ensemble(self, evaluator: Evaluator, members: Iterable[Any], split: str) -> dict[str, Any]:
        """The results of several checkpoints whose predictions are averaged.

        A task that has them overrides `check_ensemble` too.

        Args:
            evaluator: of the experiment.
            members: each one's variables, placed on the devices when it is asked for.
            split: one of the data's splits.
        """
        raise NotImplementedError

    def check_ensemble(self) -> None:
        """Checks, before anything is evaluated, that the task has an `ensemble`.

        Raises:
            ConfigError: it has none.
        """
        raise ConfigError(
            f"--ensemble: the objective {type(self.experiment.objective).__name__} has no"
            " probabilities of queries to average; few-shot classification by gradient steps has"
        )

    def describe(self, results: Results, *, full: bool = False) -> list[str]:
        """Results in words, a line each: ``["accuracy 98.33%, loss 0.0712 on 180 examples"]``.

        Args:
            results: what `evaluate` returned.
            full: all that `vitjax evaluate` prints, which begins with the lines of the summary;
                else these alone.
        """
        del full
        declared = {**self.experiment.declarations, **self.experiment.final_declarations}
        words, arrays = [], []
        for name, value in sorted(results.items()):
            declaration = declared.get(name, Declaration(None))
            if isinstance(value, float):
                words.append(f"{name} {declaration.text(value)}")
            elif name.endswith("_per_class"):
                each = zip(self.class_names, value, strict=True)
                text = ", ".join(f"{label} {declaration.text(x)}" for label, x in each)
                arrays.append(f"{name}: {text}")
        return [f"{', '.join(words)} on {results['examples']} examples", *arrays]

    # Prediction.

    def predict(
        self, variables: Any, files: Sequence[str | Path], output: str | Path | None
    ) -> list[dict[str, Any]]:
        """What the model predicts for files.

        A task may take further keywords, which `vitjax predict` passes on where they are given.

        Args:
            variables: one copy.
            files: their paths.
            output: the folder for what is written; None writes nothing.

        Returns:
            JSON values for each file, its path under ``"image"``.

        Raises:
            DataError: a file cannot be read; nothing is written then.
            ConfigError: the task predicts nothing.
        """
        del variables, files, output
        raise ConfigError(
            f"the objective {type(self.experiment.objective).__name__} predicts nothing for files"
        )

    def table(self, predictions: Sequence[Mapping[str, Any]]) -> list[str]:
        """What `predict` returned as lines of text."""
        width = max((len(str(each["image"])) for each in predictions), default=0)
        return [
            f"{each['image']:{width}}  "
            + "  ".join(f"{key} {value}" for key, value in each.items() if key != "image")
            for each in predictions
        ]

    # Figures.

    def report(
        self, evaluator: Evaluator, variables: Any, results: Mapping[str, Results], folder: Path
    ) -> None:
        """Draws the figures of a finished run; all hosts call it, and the first one draws.

        The numbers are on disk already: an error here ends no run.

        Args:
            evaluator: of the experiment.
            variables: placed on the devices.
            results: what `evaluate` returned for each split that was evaluated.
            folder: of the figures.
        """

    def inspect(self, output: str | Path, say: Callable[[str], None]) -> dict[str, Any]:
        """Counts the examples of each split, and draws what is trained on first.

        Args:
            output: the figure's file.
            say: receives the counts, line by line.

        Returns:
            The counts, as JSON values.
        """
        data = self.experiment.data
        counts = {split: data.num_examples(split) for split in data.splits}
        for split, count in counts.items():
            say(f"{split}: {count:,} examples")
        return counts


TASKS: Registry[type[Task]] = Registry("task", providers=("vitjax.tasks",))
TASKS.register("generic")(Task)
