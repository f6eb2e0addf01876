"""MAML and the variants that only change which parameters are adapted, and at which rates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import jax.numpy as jnp

from vitjax.core.errors import ConfigError
from vitjax.core.names import matches
from vitjax.meta import parameters
from vitjax.meta.gradient_based import GradientBased
from vitjax.meta.parameters import Leaves
from vitjax.objectives.base import Params, objectives

Self = TypeVar("Self", bound="MetaSgd")


@objectives.register("maml")
@dataclasses.dataclass(frozen=True)
class Maml(GradientBased):
    """Model-agnostic meta-learning: Finn et al. 2017, arXiv:1703.03400, Algorithms 1 to 3.

    The loss is the query loss after a few gradient steps on the support set, differentiated through
    these steps.
    """


@objectives.register("fomaml")
@dataclasses.dataclass(frozen=True)
class FirstOrderMaml(GradientBased):
    """First-order MAML, without second derivatives: arXiv:1703.03400, Sec. 5.2."""

    first_order: bool = dataclasses.field(default=True, init=False)


@objectives.register("anil")
@dataclasses.dataclass(frozen=True)
class Anil(GradientBased):
    """Almost no inner loop: adapts the head only. Raghu et al. 2020, arXiv:1909.09157, Sec. 4.

    Attributes:
        adapted: as for any gradient-based method; if empty, the head.
    """

    adapted: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.adapted:
            object.__setattr__(self, "adapted", (self.model.head_pattern,))
        super().__post_init__()


@objectives.register("boil")
@dataclasses.dataclass(frozen=True)
class Boil(GradientBased):
    """Body-only updates: adapts all but the head. Oh et al. 2021, arXiv:2008.08882, Sec. 3.

    Attributes:
        fixed: as for any gradient-based method; if empty, the head.
    """

    fixed: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.fixed:
            object.__setattr__(self, "fixed", (self.model.head_pattern,))
        super().__post_init__()


@objectives.register("meta_sgd")
@dataclasses.dataclass(frozen=True)
class MetaSgd(GradientBased):
    """A learned inner learning rate per scalar: Li et al. 2017, arXiv:1707.09835, Eq. 2.

    The rates are the entry ``rates`` of the parameters, with the initial value
    ``inner_learning_rate``; the paper draws them from 0.005 to 0.1. A rate may become negative. The
    outer optimizer's ``weight_decay`` applies to them, unless the config sets
    ``optimizer.weight_decay_factors=((r"^rates/", 0.0),)``.
    """

    def meta_parameters(self, model_params: Params) -> dict[str, Any]:
        """A learning rate for each scalar that is adapted."""
        leaves = parameters.flatten(model_params)
        moving, _ = parameters.partition(leaves, self.adapted, self.fixed)
        start, _ = super().rates({}, moving)
        rates = {name: jnp.full_like(leaf, start[name]) for name, leaf in moving.items()}
        return {"rates": parameters.unflatten(rates)}

    def for_ways(self: Self, ways: int) -> Self:
        """As of `Episodic`: further outputs of the head would have no learned rates."""
        if ways > self.num_classes:
            raise ConfigError(
                f"there are {ways} classes, and meta_sgd learned a rate for each weight of a head"
                f" for {self.num_classes}; give at most {self.num_classes} classes"
            )
        return self

    def rates(self, params: Params, leaves: Leaves) -> tuple[Leaves, bool]:
        """The learned rates."""
        del leaves
        return parameters.flatten(params["rates"]), False


@objectives.register("cavia")
@dataclasses.dataclass(frozen=True)
class Cavia(GradientBased):
    """Fast context adaptation: Zintgraf et al. 2019, arXiv:1810.03642, Sec. 3.

    Adapts the model's ``context`` only, starting from zeros in each episode. A model has a context
    if its ``num_context`` is above 0.

    Attributes:
        adapted: as for any gradient-based method; if empty, the context.
    """

    adapted: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.adapted:
            object.__setattr__(self, "adapted", (self._context,))
        super().__post_init__()

    def check_model(self, model_params: Params) -> None:
        """Raises ConfigError for a model without a context, or a pattern without a match."""
        names = parameters.flatten(model_params)
        if self._context in self.adapted and not any(matches(n, (self._context,)) for n in names):
            raise ConfigError(
                "config.objective.adapted: the model has no context to adapt; config.model."
                "num_context should be above 0"
            )
        super().check_model(model_params)

    def start(self, name: str, leaf: Any) -> Any:
        """Zeros for the context, the leaf itself otherwise."""
        return jnp.zeros_like(leaf) if matches(name, self.adapted) else leaf

    @property
    def _context(self) -> str:
        """The pattern of the context; it matches nothing for a model that cannot have one."""
        name = self.model.context_name
        return "(?!)" if name is None else rf"(^|/){name}$"
