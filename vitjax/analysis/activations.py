"""The layers of a network by name, in order of computation, as one vector per image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.names import check_expressions, check_patterns, matches
from vitjax.core.validation import check_value
from vitjax.models.protocol import Model

# The input of the head, whatever its name in the model.
REPRESENTATION = "representation"
ALL = "all"
Pooling = Literal["mean", "token"]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One of a network's layers.

    Attributes:
        name: the path under which it is sown, or `REPRESENTATION`.
        depth: its position among all layers: 0 is the first, 1 the last.
    """

    name: str
    depth: float


class Activations:
    """The layers of one network, in evaluation.

    Attributes:
        layers: all layers, in order of computation. A value that is sown under two names is one
            layer.
    """

    def __init__(self, model: Model, variables: Mapping[str, Any], inputs: Any):
        """Traces the network; computes nothing.

        Args:
            model: a classifier.
            variables: its variables, or their shapes.
            inputs: an input batch, or its shape.

        Raises:
            ConfigError: the model has no form without a head.
        """
        self._stacked = model
        # A scan or a recomputed block returns its sown values together, sorted by name.
        self._model = model.headless().unscanned().replaced(remat="none")
        names = _in_order(self._sown, variables, inputs)
        last = max(len(names) - 1, 1)
        self.layers = tuple(Layer(name, place / last) for place, name in enumerate(names))

    def chosen(self, pattern: str | None, where: str = "--layers") -> tuple[Layer, ...]:
        """The layers that match a pattern, in order of computation.

        Args:
            pattern: None for the representation; `ALL` for the input of the first block, the
                outputs of all blocks and the representation (all layers, if the blocks of the
                network are not known); else a regular expression that is searched for in the names.
            where: the option of the pattern, for errors.

        Raises:
            ConfigError: the pattern is not a regular expression, or matches no layer.
        """
        names = [layer.name for layer in self.layers]
        if pattern == "":
            raise ConfigError(f"{where} is empty; {ALL!r} is all layers")
        patterns: Sequence[str] = (rf"^{REPRESENTATION}$" if pattern is None else pattern,)
        if pattern == ALL:
            patterns = (*self._model.block_outputs, rf"^{REPRESENTATION}$")
            if [name for name in names if matches(name, patterns)] == [REPRESENTATION]:
                patterns = (".",)
        else:
            check_expressions(patterns, where)
            check_patterns(patterns, names, where, "layer")
        return tuple(layer for layer in self.layers if matches(layer.name, patterns))

    def vectors(
        self, layers: Sequence[Layer], pooling: str
    ) -> Callable[[Mapping[str, Any], Array], dict[str, Float[Array, "batch width"]]]:
        """Returns a pure function ``(variables, inputs) -> {layer: vectors}``.

        Feature maps are averaged over their pixels. Tokens are averaged over the patches of the
        image with ``pooling="mean"``; ``"token"`` selects the class token. The representation is
        the unchanged input of the head.

        Raises:
            ConfigError: an unknown pooling, or the network has no class token.
        """
        check_value(pooling, Pooling, "--pool")
        if pooling == "token" and not self._model.has_class_token:
            raise ConfigError(
                f"--pool=token: this {type(self._model).__name__} has no class token; use"
                " --pool=mean"
            )
        first = self._model.prefix_tokens

        def pooled(name: str, x: Array) -> Array:
            if matches(name, (self._model.split_heads,)):
                x = x.reshape(*x.shape[:2], -1)
            wide = jnp.promote_types(x.dtype, jnp.float32)
            if x.ndim == 4:
                return jnp.mean(x, axis=(1, 2), dtype=wide)
            if x.ndim == 3:
                # The single query of attention pooling is not a token of the image.
                start = first if x.shape[1] > first else 0
                tokens = x[:, 0] if pooling == "token" else jnp.mean(x[:, start:], 1, dtype=wide)
                return tokens.astype(wide)
            return x.astype(wide)

        names = [layer.name for layer in layers]

        def vectors(variables: Mapping[str, Any], inputs: Array) -> dict[str, Array]:
            sown = self._sown(variables, inputs)
            return {name: pooled(name, sown[name]) for name in names}

        return vectors

    def flattened(
        self, layers: Sequence[Layer]
    ) -> Callable[[Mapping[str, Any], Array], dict[str, Float[Array, "batch size"]]]:
        """Returns a pure function ``(variables, inputs) -> {layer: all its numbers}``."""
        names = [layer.name for layer in layers]

        def flattened(variables: Mapping[str, Any], inputs: Array) -> dict[str, Array]:
            sown = self._sown(variables, inputs)
            return {name: sown[name].reshape(len(inputs), -1) for name in names}

        return flattened

    def _sown(self, variables: Mapping[str, Any], inputs: Array) -> dict[str, Array]:
        """All layers by name."""
        variables = self._stacked.unstack(variables)
        outputs, state = self._model.apply(
            variables, inputs, train=False, mutable=["intermediates"]
        )
        sown = flatten_dict(dict(state.get("intermediates", {})), sep="/")
        none = (self._model.no_channels,)
        found = {name: value[-1] for name, value in sown.items() if not matches(name, none)}
        return {**found, REPRESENTATION: outputs}


def _in_order(function: Callable[..., dict[str, Any]], *arguments: Any) -> list[str]:
    """The keys of the dict that ``function`` returns, in the order in which values are computed.

    The order of sown values does not show it, since a module may sow at any time. Of two keys with
    the same value, the representation's name is kept, else the first.
    """
    jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    made = {
        variable: (number, place)
        for number, equation in enumerate(jaxpr.jaxpr.eqns)
        for place, variable in enumerate(equation.outvars)
    }
    named = zip(sorted(shapes), jaxpr.jaxpr.outvars, strict=True)
    order: dict[tuple[int, int], str] = {}
    for name, value in sorted(named, key=lambda pair: pair[0] != REPRESENTATION):
        # Inputs that are passed through unchanged come before all computed values.
        order.setdefault(made.get(value, (-1, 0)), name)
    return [order[key] for key in sorted(order)]
