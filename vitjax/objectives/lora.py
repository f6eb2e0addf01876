"""LoRA: low-rank updates of frozen kernels (Hu et al. 2022, arXiv:2106.09685)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.names import Patterns, check_expressions, check_patterns, layers, listed, matches
from vitjax.core.validation import PositiveFloat, PositiveInt, validate_fields
from vitjax.models.protocol import Model
from vitjax.objectives.state import FROZEN

WHERE = "config.objective.lora"
# The entry of ``params`` that holds the updates.
UPDATES = "lora"
# A child of the initial key that the parameters of the model do not use.
_UPDATES = 0x10A


@dataclasses.dataclass(frozen=True)
class LoRA:
    """Kernels become W0 + (alpha / rank) A B; only A and B are trained (Section 4.1).

    The paper's B A x for column vectors x is x A B for the row vectors of vitjax: A is (in, rank)
    and B (rank, out). A starts uniform within 1 / sqrt(in), as in the authors' code
    (Kaiming-uniform), and B at zero, so that training starts from W0. The kernel of a convolution
    is a matrix from height x width x in to out. Kernels stacked by ``scan_layers`` have an A and a
    B each.

    The product is added to the kernel instead of being computed beside it: this works for every
    layer and costs nothing once merged. A training step costs as much as one that trains the
    kernels; the optimizer and the moving average need less memory.

    Attributes:
        rank: the rank of an update.
        alpha: the scale of an update, times the rank; None for the rank, a scale of 1.
        kernels: patterns of kernels that are updated; None for the model's ``low_rank_kernels``:
            in a ViT those of queries and values, as in the paper.
        trained: patterns of parameters that are trained themselves; None for the head.
    """

    rank: PositiveInt = 8
    alpha: PositiveFloat | None = None
    kernels: Patterns | None = None
    trained: Patterns | None = None

    def __post_init__(self) -> None:
        validate_fields(self, WHERE)
        for name in ("kernels", "trained"):
            check_expressions(listed(getattr(self, name) or ()), f"{WHERE}.{name}")

    def split(
        self, rng: PRNGKeyArray, model: Model, variables: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Divides the variables of a model into what is trained and what is frozen.

        Args:
            rng: the key of the initial updates.
            model: has the default patterns.
            variables: ``{"params": ..., ...}``.

        Returns:
            ``{"params": {"lora": ..., "head": ...}, "frozen": ..., ...}``, where ``lora`` holds
            ``a`` and ``b`` under the name of each kernel.

        Raises:
            ConfigError: a pattern matches no parameter, or one that is not a kernel; or no
                ``kernels`` are given and the model has no default.
        """
        leaves = flatten_dict(dict(variables["params"]), sep="/")
        patterns = {
            "kernels": model.low_rank_kernels if self.kernels is None else listed(self.kernels),
            "trained": (model.head_pattern,) if self.trained is None else listed(self.trained),
        }
        if not patterns["kernels"]:
            raise ConfigError(
                f"{WHERE}.kernels is missing: a {type(model).__name__} has no default; it must be"
                f" regular expressions of kernels (parameters: {', '.join(leaves)})"
            )
        for name, given in patterns.items():
            check_patterns(given, list(leaves), f"{WHERE}.{name}")
        trained = {n: leaf for n, leaf in leaves.items() if matches(n, patterns["trained"])}
        updates: dict[str, Any] = {}
        key = jax.random.fold_in(rng, _UPDATES)
        names = [n for n in leaves if matches(n, patterns["kernels"]) and n not in trained]
        for number, name in enumerate(sorted(names)):
            stack, rows, columns = _matrix(name, leaves[name])
            dtype = leaves[name].dtype
            bound = 1 / math.sqrt(rows)
            updates[f"{UPDATES}/{name}/a"] = jax.random.uniform(
                jax.random.fold_in(key, number), (*stack, rows, self.rank), dtype, -bound, bound
            )
            updates[f"{UPDATES}/{name}/b"] = jnp.zeros((*stack, self.rank, columns), dtype)
        if not updates:
            raise ConfigError(f"{WHERE}: 'trained' already matches all of the kernels")
        rest = {name: leaf for name, leaf in leaves.items() if name not in trained}
        state = {name: tree for name, tree in variables.items() if name != "params"}
        params = unflatten_dict({**trained, **updates}, sep="/")
        return {"params": params, **state, FROZEN: unflatten_dict(rest, sep="/")}

    def merge(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The variables of the model, from those of `split`: updates are added to their kernels."""
        trained = dict(variables["params"])
        updates = flatten_dict(trained.pop(UPDATES), sep="/")
        leaves = flatten_dict({**variables[FROZEN]}, sep="/") | flatten_dict(trained, sep="/")
        for name in layers(updates):
            update = self._update(updates[f"{name}/a"], updates[f"{name}/b"])
            leaves[name] = leaves[name] + update.reshape(leaves[name].shape)
        state = {n: tree for n, tree in variables.items() if n not in ("params", FROZEN)}
        return {"params": unflatten_dict(leaves, sep="/"), **state}

    def _update(
        self, a: Float[Array, "*stack in rank"], b: Float[Array, "*stack rank out"]
    ) -> Float[Array, "*stack in out"]:
        scale = (self.alpha or self.rank) / self.rank
        return scale * jnp.matmul(a, b, precision="highest")


def _matrix(name: str, kernel: Any) -> tuple[tuple[int, ...], int, int]:
    """The shape of a kernel as a matrix: the axes of a stack, rows and columns."""
    shape = tuple(kernel.shape)
    if not 2 <= len(shape) <= 5:
        raise ConfigError(
            f"{WHERE}.kernels: {name} has the shape {shape}; only dense kernels (in, out) and"
            " convolution kernels (height, width, in, out) can be updated"
        )
    # An additional first axis stacks the kernels of all layers.
    stack, rest = shape[: len(shape) % 2], shape[len(shape) % 2 :]
    return stack, math.prod(rest[:-1]), rest[-1]
