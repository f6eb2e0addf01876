"""A network whose inner values are read, changed and differentiated by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax.traverse_util import flatten_dict
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun
from jaxtyping import Array

from vitjax.core.errors import ConfigError
from vitjax.core.names import matches
from vitjax.core.text import near_match, quoted
from vitjax.models.protocol import Model

# What replaces an equation: its outputs for its inputs, or None to leave it as it is.
Rule = Callable[[JaxprEqn, list[Any]], list[Any] | None]
# The operations that call a function, and the parameter that holds it.
_FUNCTIONS = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


class Opened:
    """A model in evaluation, as a function of its inputs and of changes of what it sows.

    The model itself is not changed for this: its operations are traced, and computed one after the
    other. So a derivative by any sown value is the derivative by what is added to it.

    >>> opened = Opened(model)
    >>> outputs, values = opened(variables, images)
    >>> change = {"stage4": jnp.zeros_like(values["stage4"])}
    >>> gradient = jax.grad(lambda c: opened(variables, images, c)[0][0, 3])(change)

    Attributes:
        model: the model, with a value of its own for each block.
    """

    def __init__(self, model: Model):
        """Takes a model; ``scan_layers`` and ``remat`` are turned off."""
        self._stacked = model
        self.model = model.unscanned().replaced(remat="none", attention_impl="plain")

    def __call__(
        self,
        variables: Mapping[str, Any],
        images: Array,
        added: Mapping[str, Array] | None = None,
        rule: Rule | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """The outputs of the model, and all sown values by name.

        It can be compiled and differentiated.

        Args:
            variables: those of the model.
            images: a batch of inputs.
            added: what is added to sown values, by name, before they are used.
            rule: computes operations in another way, those within others too.

        Raises:
            ConfigError: ``added`` names a value that the model does not sow.
        """
        variables = self._stacked.unstack(variables)
        if not added and rule is None:
            return self._apply(variables, images)
        closed, shapes = jax.make_jaxpr(self._apply, return_shape=True)(variables, images)
        by_name = dict(zip(sorted(shapes[1]), closed.jaxpr.outvars[1:], strict=True))
        changes: dict[Var, Array] = {}
        for name, change in (added or {}).items():
            self.check(name, by_name)
            variable = by_name[name]
            assert isinstance(variable, Var)
            changes[variable] = change
        flat = jax.tree.leaves((variables, images))
        outputs, *values = _computed(closed, flat, changes, rule)
        return outputs, dict(zip(sorted(shapes[1]), values, strict=True))

    def shapes(self, variables: Mapping[str, Any], images: Any) -> dict[str, tuple[int, ...]]:
        """The shapes of all sown values, by tracing.

        Args:
            variables: those of the model, or their shapes.
            images: a batch, or its shape.
        """
        _, found = jax.eval_shape(self.__call__, variables, images)
        return {name: x.shape for name, x in found.items()}

    def default_layer(self) -> str:
        """The last sown value with positions that the outputs depend on; see `Model.map_name`.

        Raises:
            ConfigError: the model has no such value.
        """
        if (name := self.model.map_name) is None:
            raise ConfigError(
                f"a {type(self.model).__name__} declares no map to explain its outputs by: name a"
                " layer"
            )
        return name

    def as_map(self, name: str, value: Array, image_shape: tuple[int, ...]) -> Array:
        """A sown value as a map (batch, rows, columns, channels); of tokens, those of patches.

        Args:
            name: of the value.
            value: as it was sown.
            image_shape: (height, width, channels) of the images.

        Raises:
            ConfigError: the value has no positions in the image.
        """
        if value.ndim == 4 and not matches(name, (self.model.no_channels, self.model.split_heads)):
            return value
        grid = self.model.patch_grid(image_shape)
        first = self.model.prefix_tokens
        if value.ndim == 3 and grid is not None and value.shape[1] == first + grid[0] * grid[1]:
            return value[:, first:].reshape(len(value), *grid, value.shape[-1])
        raise ConfigError(
            f"layer {quoted(name)} has the shape {value.shape[1:]} for one image, which is no map"
            " over its pixels: name a layer with rows and columns, or with a token for each patch"
        )

    def check(self, name: str, names: Mapping[str, Any]) -> None:
        """Checks that a value is sown.

        Raises:
            ConfigError: it is not among ``names``; the message gives the near match.
        """
        if name not in names:
            raise ConfigError(
                f"a {type(self.model).__name__} has no layer {quoted(name)}"
                f"{near_match(name, names)} (known: {', '.join(names)})"
            )

    def _apply(self, variables: Any, images: Any) -> tuple[Any, dict[str, Any]]:
        outputs, state = self.model.apply(variables, images, train=False, mutable=["intermediates"])
        sown = flatten_dict(dict(state.get("intermediates", {})), sep="/")
        return outputs, {name: value[-1] for name, value in sown.items()}


def _computed(
    closed: ClosedJaxpr, arguments: list[Any], changes: Mapping[Var, Array], rule: Rule | None
) -> list[Any]:
    """The outputs of a traced function, one operation after the other."""
    jaxpr = closed.jaxpr
    values: dict[Var, Any] = {}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    def write(variables: Any, found: Any) -> None:
        for variable, value in zip(variables, found, strict=True):
            values[variable] = value + changes[variable] if variable in changes else value

    write(jaxpr.constvars, closed.consts)
    write(jaxpr.invars, arguments)
    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        found = None if rule is None else _by_rule(equation, inputs, rule)
        if found is None:
            found = _as_function(closed, equation)(*inputs)
        write(equation.outvars, found)
    return [read(atom) for atom in jaxpr.outvars]


def _as_function(closed: ClosedJaxpr, equation: JaxprEqn) -> Callable[..., list[Any]]:
    """An operation as a function: how one is called by itself differs between versions of JAX."""
    inputs: list[Any] = [Var(atom.aval) for atom in equation.invars]
    outputs = [Var(variable.aval) for variable in equation.outvars]
    alone = equation.replace(invars=inputs, outvars=outputs)
    jaxpr = closed.jaxpr.replace(constvars=[], invars=inputs, outvars=outputs, eqns=[alone])
    return jaxpr_as_fun(ClosedJaxpr(jaxpr, []))


def _by_rule(equation: JaxprEqn, inputs: list[Any], rule: Rule) -> list[Any] | None:
    """The outputs by a rule, which is applied within functions too; None if it does not apply."""
    if (found := rule(equation, inputs)) is not None:
        return found
    inner = equation.params.get(_FUNCTIONS.get(equation.primitive.name, ""))
    return None if inner is None else _computed(inner, inputs, {}, rule)
