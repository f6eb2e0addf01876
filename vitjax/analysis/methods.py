"""The methods that explain an output by a map, by name."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from vitjax.analysis import attention, attribution, lime, shapley
from vitjax.analysis.attribution import Map
from vitjax.analysis.calls import GIVEN
from vitjax.core.errors import ConfigError
from vitjax.core.text import Say, near_match, quoted, say_nothing
from vitjax.core.validation import check_keywords, keywords_of
from vitjax.models.protocol import Model


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to explain an output.

    Attributes:
        function: called with a model, its variables, images and a class; returns maps.
        compiled: it is a function of arrays that JAX can compile.
        of_class: the map depends on the class.
        prepare: imports a package that the method needs; raises ConfigError if it is missing.
    """

    function: Callable[..., Map]
    compiled: bool = True
    of_class: bool = True
    prepare: Callable[[], object] | None = None

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.function.__name__

    def of(self, model: Model, say: Say = say_nothing, **options: Any) -> Callable[..., Map]:
        """A function of variables, images and a class, compiled where that is possible.

        Args:
            model: the model.
            say: receives the progress of a method that takes long.
            **options: keywords of the method.

        Raises:
            ConfigError: the method has no such option, or a package is missing.
        """
        check_keywords(self.function, options, where=self.name, given=GIVEN)
        if self.prepare is not None:
            self.prepare()
        if "say" in keywords_of(self.function):
            options["say"] = say
        function = functools.partial(self.function, model, **options)
        if not self.compiled:
            return function
        compiled: Callable[..., Map] = jax.jit(
            lambda v, images, target: function(v, images, target)
        )
        return compiled

    @property
    def options(self) -> list[str]:
        """The keywords that `of` takes."""
        return [name for name in keywords_of(self.function) if name not in GIVEN]


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(attribution.cam, compiled=False),
        *(
            Method(function)
            for function in (
                attribution.grad_cam,
                attribution.grad_cam_plus_plus,
                attribution.layer_cam,
            )
        ),
        Method(attribution.score_cam, compiled=False),
        *(
            Method(function)
            for function in (
                attribution.saliency,
                attribution.guided_backpropagation,
                attribution.integrated_gradients,
                attribution.smooth_grad,
                attribution.occlusion,
                attention.relevance,
            )
        ),
        Method(attention.attention, of_class=False),
        Method(attention.rollout, of_class=False),
        Method(lime.lime, compiled=False),
        Method(shapley.shap, compiled=False, prepare=shapley.package),
    )
}


def method(name: str) -> Method:
    """The method of a name.

    Raises:
        ConfigError: there is no such method; the message gives the near match and all names.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise ConfigError(
            f"unknown method {quoted(name)}{near_match(name, METHODS)} (known:"
            f" {', '.join(METHODS)})"
        )
    return METHODS[name]


def chosen(names: str | Sequence[str]) -> list[Method]:
    """The methods of one or several names.

    Raises:
        ConfigError: there is none, or see `method`.
    """
    found = [method(name) for name in ([names] if isinstance(names, str) else names)]
    if not found:
        raise ConfigError(f"explain: no method is named (known: {', '.join(METHODS)})")
    return found
