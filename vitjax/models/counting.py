"""How large a model is, counted from shapes: it takes less than a second at any depth."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax

from vitjax.core import machine
from vitjax.core.machine import Memory
from vitjax.models.protocol import Model

# Tracing takes time in proportion to the blocks, about 10 ms for each: more are not traced.
_MOST_TRACED = 64
# From this number on, each further block of a kind adds the same arrays.
_ALIKE = 4


class Size(NamedTuple):
    """The size of a tree of arrays.

    Attributes:
        arrays: the number of arrays.
        numbers: the number of scalars in all arrays.
        bytes: the memory they need.
    """

    arrays: int
    numbers: int
    bytes: int

    @classmethod
    def of(cls, tree: Any) -> Size:
        """The size of arrays, or of their shapes."""
        leaves = jax.tree.leaves(tree)
        numbers = [leaf.size for leaf in leaves]
        sizes = [leaf.size * leaf.dtype.itemsize for leaf in leaves]
        return cls(len(leaves), sum(numbers), sum(sizes))

    def plus(self, other: Size, times: int) -> Size:
        """This size and ``times`` the ``other`` one."""
        return Size(*(a + times * b for a, b in zip(self, other, strict=True)))


def is_deep(model: Model) -> bool:
    """Whether ``model`` has so many blocks that its size should be known before it is traced."""
    counts = model.layer_counts().values()
    return sum(sum(n) if isinstance(n, tuple) else n for n in counts) > _MOST_TRACED


def named_layers(pattern: re.Pattern[str], names: Iterable[str]) -> tuple[int, ...]:
    """The blocks that names of parameters show: per stage, if ``pattern`` has two groups.

    Args:
        pattern: one of `Model.counted_layers`.
        names: of parameters.
    """
    numbers = {found.groups() for name in names if (found := pattern.search(name))}
    if pattern.groups == 1:
        return (len(numbers),) if numbers else ()
    stages = [stage for stage, _ in numbers]
    # Numbers in names of a file may have any number of digits.
    order = sorted(set(stages), key=lambda stage: (len(stage), stage))
    return tuple(stages.count(stage) for stage in order)


def size_of(model: Model, inputs: Any) -> Size:
    """The size of a model's variables, counted for ``scan_layers=False``.

    Blocks of one kind have equal parameters, so a deep model is counted from shallow ones.

    Args:
        model: the model.
        inputs: an example batch, or its shape and dtype.
    """
    if not is_deep(model):
        return _traced(model, inputs)
    counts = model.layer_counts()
    shallow: dict[str, Any] = {}
    for field, number in counts.items():
        some = tuple(min(n, _ALIKE) for n in number) if isinstance(number, tuple) else None
        shallow[field] = min(number, _ALIKE) if some is None else some
    least = total = _traced(model.replaced(**shallow), inputs)
    for field, number in counts.items():
        for stage, blocks in enumerate(number if isinstance(number, tuple) else (number,)):
            if blocks > _ALIKE:
                longer: Any = _ALIKE + 1
                if isinstance(number, tuple):
                    before = shallow[field]
                    longer = (*before[:stage], longer, *before[stage + 1 :])
                more = _traced(model.replaced(**{**shallow, field: longer}), inputs)
                total = total.plus(more.plus(least, -1), blocks - _ALIKE)
    return total


def check_memory(size: Size, where: str) -> None:
    """Checks that a model's variables fit into the memory of all devices of the run together.

    Args:
        size: of the variables.
        where: what the error calls the model.

    Raises:
        ConfigError: they do not.
    """
    devices = jax.devices()
    one = machine.device_memory(devices[0])
    parts = jax.process_count() if devices[0].platform == "cpu" else len(devices)
    machine.check_memory(
        size.bytes,
        f"{where}: this model of {size.numbers:,} parameters",
        "make it smaller",
        one if parts == 1 or one.size is None else Memory(one.size * parts, "all devices"),
    )


def _traced(model: Model, inputs: Any) -> Size:
    shapes: Any = jax.eval_shape(model.unscanned().init, jax.random.key(0), inputs)
    return Size.of(shapes)
