"""What the tasks over images share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vitjax.core.text import printable, shortened
from vitjax.data import Dataset
from vitjax.objectives import ImageObjective
from vitjax.tasks.reading import check_heads
from vitjax.training.experiment import Experiment
from vitjax.training.task import Task

DataT = TypeVar("DataT", bound=Dataset)
ObjectiveT = TypeVar("ObjectiveT", bound=ImageObjective)


class ImageTask(Task[DataT, ObjectiveT]):
    """A task whose model has one output per class."""

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
