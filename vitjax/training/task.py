"""The interface of a task: everything that depends on the kind of a run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.core.text import Say, counted, printable
from vitjax.data.dataset import Dataset
from vitjax.metrics import Declaration
from vitjax.objectives.base import Objective
from vitjax.training import checks
from vitjax.training.page import Part, Score

if TYPE_CHECKING:
    from vitjax.training.evaluation import Evaluator
    from vitjax.training.experiment import Experiment

Results = Mapping[str, Any]
DataT = TypeVar("DataT", bound=Dataset)
ObjectiveT = TypeVar("ObjectiveT", bound=Objective)


class Table(NamedTuple):
    """Rows of an evaluation, for one CSV file.

    Attributes:
        columns: the name of each column.
        rows: the values of each row; None is an empty cell.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Details(NamedTuple):
    """An evaluation with its single examples.

    Attributes:
        results: what `Task.evaluate` returns.
        tables: by name, such as ``"predictions"`` and ``"per_class"``.
    """

    results: dict[str, Any]
    tables: dict[str, Table]


class Task(Generic[DataT, ObjectiveT]):
    """One kind of run: classification, segmentation, few-shot learning.

    A task evaluates the variables of a run, predicts for files, and draws figures. The objective
    names its task; the engine and the command line use runs only through this interface. All
    methods have defaults: `evaluate` and `describe` report the metrics of the objective, so the
    smallest task overrides `predict` alone, or nothing. A task names the interfaces that it needs
    of data and objective; a run without them is an error before training.

        @TASKS.register("regression")
        class RegressionTask(Task[Dataset, Regression]):
            needed_objective = Regression

            def predict(self, variables, files, output):
                images = [self.data.read_image(path) for path in files]
                outputs = self.objective.predict(variables, np.stack(images))
                return [
                    {"image": str(path), "value": float(value)}
                    for path, value in zip(files, outputs[:, 0], strict=True)
                ]

    Attributes:
        needed_data: the interface of the data that the task uses.
        needed_objective: the interface of the objective that the task uses.
        evaluation_keys: keys of the config's ``data`` section that only evaluations of this task
            read: a run may be resumed with other values.
        experiment: the run.
        data: the data of the run.
        objective: the objective of the run.
        say: receives what predictions report beside their results; nothing is shown by default.
    """

    say: Say = staticmethod(lambda text: None)

    needed_data: ClassVar[type[Any]] = Dataset
    needed_objective: ClassVar[type[Any]] = Objective
    evaluation_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, experiment: Experiment):
        """Checks that the run has what the task needs.

        Raises:
            ConfigError: its data or its objective lacks the interface.
        """
        what = f"the task {experiment.objective.task!r}"
        self.experiment = experiment
        self.data: DataT = checks.provides(experiment.data, self.needed_data, what)
        self.objective: ObjectiveT = checks.provides(
            experiment.objective, self.needed_objective, what
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the model's outputs."""
        return self.data.class_names

    # Checks.

    @classmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        """Checks a config before its data is read.

        Args:
            config: all sections, as plain values.

        Raises:
            ConfigError: the sections are not compatible.
        """

    def check_resume(self, described: Mapping[str, Any]) -> None:
        """Checks that a run resumes with the data that it started with.

        Args:
            described: what `vitjax.data.Dataset.describe` returned at its start.

        Raises:
            ConfigError: the data has changed.
        """

    def check_evaluation(self, described: Mapping[str, Any], split: str) -> None:
        """Checks that the results of a run on ``split`` are meaningful.

        Args:
            described: as in `check_resume`.
            split: one of the data's splits.

        Raises:
            ConfigError: they are not.
        """

    def explain_outputs(self, there: int, here: int) -> str:
        """Why a checkpoint's head has other outputs than the run's, and what can be done.

        Args:
            there: the number of outputs in the checkpoint.
            here: the number of outputs of this run's model.
        """
        if here == self.data.num_classes:
            return f"the data has {counted(here, 'class', 'es')}, the run {there}"
        return f"config.model.num_classes is {here}, and the run's model has {there} outputs"

    # Training.

    def prepare(
        self, variables: Mapping[str, Any], cache: Path, say: Callable[[str], None]
    ) -> Experiment:
        """The experiment to train, given its initial variables; by default it is unchanged.

        Args:
            variables: those of the objective, one copy.
            cache: a folder of the run for arrays that are computed once.
            say: receives progress messages.
        """
        del variables, cache, say
        return self.experiment

    # Evaluation.

    def evaluate(self, evaluator: Evaluator, variables: Any, split: str) -> dict[str, Any]:
        """The results on ``split``, as JSON values by name.

        Args:
            evaluator: the evaluator of the experiment.
            variables: placed on the devices.
            split: one of the data's splits.
        """
        return evaluator.final_metrics(variables, split)

    def evaluate_in_detail(self, evaluator: Evaluator, variables: Any, split: str) -> Details:
        """`evaluate`, and tables of classes and of single examples; by default no tables.

        All hosts call this.
        """
        return Details(self.evaluate(evaluator, variables, split), {})

    def ensemble(self, evaluator: Evaluator, members: Iterable[Any], split: str) -> dict[str, Any]:
        """The results of the averaged predictions of several checkpoints.

        A task that defines this overrides `check_ensemble` as well.

        Args:
            evaluator: the evaluator of the experiment.
            members: the variables of each checkpoint, loaded when they are iterated over.
            split: one of the data's splits.
        """
        raise NotImplementedError

    def check_ensemble(self) -> None:
        """Checks, before the evaluation, that the task has an `ensemble`.

        Raises:
            ConfigError: it does not.
        """
        raise ConfigError(
            f"ensemble: the objective {type(self.objective).__name__} has no"
            " probabilities of queries to average; few-shot classification by gradient steps has"
        )

    def describe(self, results: Results, *, full: bool = False) -> list[str]:
        """Results as lines of text, such as ``["accuracy 98.33%, loss 0.0712 on 180 examples"]``.

        Args:
            results: what `evaluate` returned.
            full: whether to add the details that `vitjax evaluate` prints after the summary.
        """
        del full
        declared = {**self.experiment.declarations, **self.experiment.final_declarations}
        words, arrays = [], []
        for name, value in sorted(results.items()):
            declaration = declared.get(name, Declaration(None))
            if isinstance(value, float):
                words.append(f"{name} {declaration.text(value)}")
            elif declaration.per_class and len(declaration.shape) == 1:
                each = zip(self.class_names, value, strict=True)
                text = ", ".join(
                    f"{printable(label)}"
                    f" {'does not occur' if math.isnan(x) else declaration.text(x)}"
                    for label, x in each
                )
                arrays.append(f"{name}: {text}")
            elif len(declaration.shape) == 1:
                arrays.append(f"{name}: {', '.join(map(declaration.text, value))}")
        if "examples" in results:
            words[-1:] = [
                f"{word} on {counted(results['examples'], 'example')}" for word in words[-1:]
            ]
        return [", ".join(words), *arrays]

    # Prediction.

    def check_prediction(self, files: Sequence[Any], options: Mapping[str, Any]) -> None:
        """Checks what is to be predicted before the model is loaded, as far as this is quick.

        Args:
            files: as in `predict`; each exists.
            options: the keywords of `predict` that were given.

        Raises:
            DataError: a file cannot be read.
            ConfigError: an option cannot be used.
        """

    def predict(
        self, variables: Any, files: Sequence[Any], output: str | os.PathLike[str] | None
    ) -> Iterable[dict[str, Any]]:
        """The predictions of the model for files.

        A task may have further keywords, which are options of `vitjax predict`. Those of vitjax's
        own tasks are generators, so that any number of files takes little memory. The results are
        written to ``predictions.jsonl`` and ``predictions.csv`` in ``output`` for every task.

        Args:
            variables: those of the objective, one copy.
            files: paths of the files; also Pillow images and arrays, if the task's data reads them.
            output: the folder for what else the task writes, such as figures; None writes nothing.

        Returns:
            JSON values for each file, with its path under ``"image"``; for one that cannot be read
            and is to be skipped (a keyword ``on_corrupt="skip"``), its ``"error"``.

        Raises:
            DataError: a file cannot be read.
            ConfigError: the task has no predictions.
        """
        del variables, files, output
        raise ConfigError(
            f"the objective {type(self.objective).__name__} predicts nothing for files"
        )

    def predict_images(self, variables: Any, images: Sequence[Any], **options: Any) -> list[Any]:
        """As `predict`, for `vitjax.load(...).predict`: results may also hold arrays."""
        return list(self.predict(variables, images, None, **options))

    def adapt(self, variables: Any, support: Any, *, transductive: bool = False) -> Any:
        """A classifier of new classes from a few images of each.

        Args:
            variables: those of the objective, one copy.
            support: the images of the classes.
            transductive: whether images are classified together.

        Raises:
            ConfigError: the run does not learn to do that.
        """
        del variables, support, transductive
        raise self.no_adaptation()

    def no_adaptation(self) -> ConfigError:
        """The error for a support set that is given to a task without `adapt`."""
        return ConfigError(
            f"the run's objective {type(self.objective).__name__} does not adapt to new classes;"
            " few-shot runs do (config.data.episodes and an objective such as maml or protonet)"
        )

    def row(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        """A prediction as a row of ``predictions.csv``: its numbers and texts by column."""
        return {
            name: value
            for name, value in prediction.items()
            if isinstance(value, str | int | float)
        }

    def table(self, predictions: Sequence[Mapping[str, Any]]) -> list[str]:
        """The predictions as lines of text."""
        titles = [printable(each["image"]) for each in predictions]
        width = max(map(len, titles), default=0)
        return [
            f"{title:{width}}  "
            + "  ".join(
                f"{printable(key)} {printable(value)}"
                for key, value in each.items()
                if key != "image"
            )
            for title, each in zip(titles, predictions, strict=True)
        ]

    # Figures.

    def report(
        self, evaluator: Evaluator, variables: Any, results: Mapping[str, Results], folder: Path
    ) -> None:
        """Draws the figures of a finished run; all hosts call this, the first host draws.

        The results are already on disk; an error becomes a warning. The evaluator's methods run on
        all hosts together, so all of them are called before the first host draws: an error in a
        figure would leave the other hosts waiting.

        Args:
            evaluator: the evaluator of the experiment.
            variables: placed on the devices.
            results: what `evaluate` returned for each split that was evaluated.
            folder: the folder of the figures.
        """

    # The page of a run, which ``vitjax report`` writes.

    def scores(self, results: Results) -> list[Score]:
        """The results of one split as numbers with their intervals, the most important first.

        Args:
            results: what `evaluate` returned, or JSON gave back: None stands for NaN.
        """
        declared = {**self.experiment.declarations, **self.experiment.final_declarations}
        found = [
            (declared.get(name, Declaration(None)), Score(name, float(value)))
            for name, value in results.items()
            if isinstance(value, int | float) and name != "examples"
        ]
        # Fractions that are better when higher are what people ask for first.
        found.sort(key=lambda pair: (not pair[0].higher_is_better, pair[0].unit != "fraction"))
        return [
            score._replace(
                fraction=about.unit == "fraction", higher_is_better=about.higher_is_better
            )
            for about, score in found
        ]

    def parts(
        self, evaluator: Evaluator, variables: Any, results: Mapping[str, Results]
    ) -> list[Part]:
        """The parts of the page of a run that are of its kind, the most important first.

        A page is written by a single process.

        Args:
            evaluator: the evaluator of the experiment.
            variables: placed on the devices.
            results: what `evaluate` returned for each split that was evaluated, or JSON gave back.
        """
        del evaluator, variables, results
        return []

    def inspect(self, output: str | Path, say: Callable[[str], None]) -> dict[str, Any]:
        """Counts the examples of each split, and draws the first training examples.

        Args:
            output: the file of the figure.
            say: receives the counts, line by line.

        Returns:
            The counts, as JSON values.
        """
        data = self.data
        counts = {split: data.num_examples(split) for split in data.splits}
        for split, count in counts.items():
            say(f"{split}: {counted(count, 'example')}")
        return counts


TASKS: Registry[type[Task[Any, Any]]] = Registry("task", providers=("vitjax.tasks",))
TASKS.register("generic")(Task)
