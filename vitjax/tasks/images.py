"""What the tasks over images share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vitjax.core.text import printable, shortened
from vitjax.data import Dataset
from vitjax.objectives import ImageObjective
from vitjax.tasks.reading import check_heads
from vitjax.training.evaluation import Evaluator
from vitjax.training.experiment import Experiment
from vitjax.training.task import Task

DataT = TypeVar("DataT", bound=Dataset)
ObjectiveT = TypeVar("ObjectiveT", bound=ImageObjective)


class ImageTask(Task[DataT, ObjectiveT]):
    """A task whose model has one output per class."""

    # The last result of `gathered`, after the variables and the split that it is of.
    _kept: tuple[Any, str, Any] | None = None

    def gathered(
        self, evaluator: Evaluator, function: Callable[[Any, Any], Any], variables: Any, split: str
    ) -> Any:
        """`Evaluator.gather`, whose last result is kept: figures and the page need the same.

        A task calls it with one function.
        """
        if not self.has_gathered(variables, split):
            self._kept = variables, split, evaluator.gather(function, variables, split)
        assert self._kept is not None
        return self._kept[2]

    def has_gathered(self, variables: Any, split: str) -> bool:
        """Whether `gathered` has kept the result of these variables and this split."""
        kept = self._kept
        return kept is not None and kept[0] is variables and kept[1] == split

    @property
    def class_names(self) -> tuple[str, ...]:
        """The data's classes, and numbers for further outputs of the head."""
        names = self.data.class_names
        more = range(len(names), self.objective.num_classes)
        return (*names, *(f"class {number}" for number in more))

    def prepare(
        self, variables: Mapping[str, Any], cache: Path, say: Callable[[str], None]
    ) -> Experiment:
        """The experiment; reports the class weights of its loss."""
        del variables, cache
        weights = self.objective.weights_of_classes
        if weights is not None:
            pairs = zip(self.class_names, weights, strict=True)
            each = [f"{printable(name)} {weight:.4g}" for name, weight in pairs]
            say(f"Class weights of the training loss: {shortened(each, 20)}")
        return self.experiment

    def check_prediction(self, files: Sequence[Any], options: Mapping[str, Any]) -> None:
        """Reads the head of each image file, unless unreadable ones are to be skipped.

        Raises:
            DataError: some are not images; the message counts them and lists the first.
        """
        if options.get("on_corrupt") != "skip":
            check_heads(files, self.data.max_pixels)
