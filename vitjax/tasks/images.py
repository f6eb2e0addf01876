"""What the tasks over images share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from vitjax.data import Dataset
from vitjax.objectives import ImageObjective
from vitjax.tasks.reading import check_heads
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

    def check_prediction(self, files: Sequence[Any], options: Mapping[str, Any]) -> None:
        """Reads the head of each image file, unless unreadable ones are to be skipped.

        Raises:
            DataError: some are not images; the message counts them and lists the first.
        """
        if options.get("on_corrupt") != "skip":
            check_heads(files)
