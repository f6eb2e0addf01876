"""A network's layers by name, in the order of computation, each as one vector an image."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.names import check_patterns, matches
from vitjax.core.text import near_match
from vitjax.models.protocol import Model

# What the head is given, whatever the model calls it.
REPRESENTATION = "representation"
ALL = "all"
POOLINGS = ("mean", "token")


@dataclasses.dataclass(frozen=True)
class Layer:
    """One of a network's layers.

    Attributes:
        name: the path by which it is sown, or `REPRESENTATION`.
        depth: its place among all layers that can be probed: 0 the first, 1 the last.
    """

    name: str
    depth: float


class Activations:
    """The layers of one network, in evaluation.

    Attributes:
        layers: all of them, in the order in which they are computed. What a network sows twice
            under two names is one layer.
    """

    def __init__(self, model: Model, variables: Mapping[str, Any], inputs: Any):
        """Traces the network; nothing is computed.

        Args:
            model: a classifier.
            variables: of it, or their shapes.
            inputs: a batch as the model is fed, or its shape.

        Raises:
            ConfigError: the model cannot do without a head.
        """
        self._stacked = model
        # A scan or a recomputed block returns all sown values at once, sorted by name.
        self._model = model.headless().unscanned().replaced(remat=False)
        names = _in_order(self._sown, variables, inputs)
        last = max(len(names) - 1, 1)
        self.layers = tuple(Layer(name, place / last) for place, name in enumerate(names))

    def chosen(self, pattern: str | None, where: str = "--layers") -> tuple[Layer, ...]:
        """The layers that a person asks for, in order.

        Args:
            pattern: None for the representation alone, `ALL` for what enters the first block, what
                leaves each, and the representation (of a network whose blocks are not known,
                everything); else a regular expression that is searched for in the names.
            where: where the person wrote it.

        Raises:
            ConfigError: it is no regular expression, or is found in no name.
        """
        names = [layer.name for layer in self.layers]
        patterns: Sequence[str] = (pattern or rf"^{REPRESENTATION}$",)
        if pattern == ALL:
            patterns = (*self._model.block_outputs, rf"^{REPRESENTATION}$")
            if [name for name in names if matches(name, patterns)] == [REPRESENTATION]:
                patterns = (".",)
        else:
            try:
                re.compile(patterns[0])
            except re.error as error:
                raise ConfigError(f"{where}={pattern}: no regular expression: {error}") from None
            check_patterns(patterns, names, where, "layer")
        return tuple(layer for layer in self.layers if matches(layer.name, patterns))

    def vectors(
        self, layers: Sequence[Layer], pooling: str
    ) -> Callable[[Mapping[str, Any], Array], dict[str, Float[Array, "batch width"]]]:
        """A pure function of variables and inputs: each layer's name to its vectors.

        Feature maps are averaged over their pixels. So are tokens with ``pooling="mean"``, those of
        the image's patches alone; ``"token"`` takes the class token. The representation is taken as
        the head is given it.

        Raises:
            ConfigError: an unknown pooling, or the network has no class token.
        """
        if pooling not in POOLINGS:
            raise ConfigError(
                f"--pool={pooling}: can be {' or '.join(POOLINGS)}{near_match(pooling, POOLINGS)}"
            )
        if pooling == "token" and not self._model.has_class_token:
            raise ConfigError(
                f"--pool=token: this {type(self._model).__name__} has no class token; take"
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
                # The one query of attention pooling is no token of the image.
                start = first if x.shape[1] > first else 0
                tokens = x[:, 0] if pooling == "token" else jnp.mean(x[:, start:], 1, dtype=wide)
                return tokens.astype(wide)
            return x.astype(wide)

        names = [layer.name for layer in layers]

        def vectors(variables: Mapping[str, Any], inputs: Array) -> dict[str, Array]:
            sown = self._sown(variables, inputs)
            return {name: pooled(name, sown[name]) for name in names}

        return vectors

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
    """The keys of what ``function`` returns, by which value is computed first.

    Dicts of sown values do not tell: a module sows when it likes. Of two keys with one value, the
    representation's name is kept, else the first.
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
        # What is handed through unchanged comes before all that is computed.
        order.setdefault(made.get(value, (-1, 0)), name)
    return [order[key] for key in sorted(order)]
