"""What a network computes, layer by layer: shapes, parameters, FLOPs and receptive fields."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import partial_eval

from vitjax import models
from vitjax.analysis import receptive_rules
from vitjax.analysis.receptive_field import Field
from vitjax.core import jaxpr
from vitjax.models.protocol import Model
from vitjax.training import flops

# Marks the scopes of modules among those of a traced function.
_MARK = "module:"
_POOLINGS = {
    "reduce_window_max": "max_pool",
    "reduce_window_min": "min_pool",
    "reduce_window_sum": "average_pool",
    "reduce_window": "pool",
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered model in a few numbers.

    Attributes:
        name: the registered name.
        family: the model's class.
        file: the module that registers it, without its package.
        parameters: trained scalars.
        flops: of the forward pass for one image of the default size; a multiply-add counts as two.
        year: of the paper.
        image_size: pixels of a side; None for other inputs.
        accuracy: see `vitjax.models.registry.Facts`.
        accuracy_source: likewise.
        paper: a short citation.
    """

    name: str
    family: str
    file: str
    parameters: int
    flops: int
    year: int | None
    image_size: int | None
    accuracy: float | None
    accuracy_source: str
    paper: str


@dataclasses.dataclass(frozen=True)
class Layer:
    """One call of a layer.

    Attributes:
        name: the path of the module; for an operation without parameters, its kind after the path.
        shape: of the output, without the axis of the batch; empty for a layer of training only.
        parameters: trained scalars that are read for the first time.
        flops: for one image; a multiply-add counts as two.
        size: of the receptive field in pixels, (height, width); None in a direction in which it is
            the whole image.
        stride: pixels between the fields of neighbouring outputs.
        offset: the centre of the first output's field, in pixels from the centre of the image's
            first pixel.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    flops: int
    size: tuple[int | None, int | None] | None
    stride: tuple[float | None, float | None] | None
    offset: tuple[float | None, float | None] | None


@dataclasses.dataclass(frozen=True)
class Summary:
    """The layers of a network.

    Attributes:
        layers: in the order of computation; those of training only come last.
    """

    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        """Trained scalars of all layers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def flops(self) -> int:
        """FLOPs of all layers for one image."""
        return sum(layer.flops for layer in self.layers)

    @property
    def activations(self) -> int:
        """Scalars of the outputs of all layers for one image: what training keeps."""
        return sum(math.prod(layer.shape) for layer in self.layers if layer.shape)


def family_of(name: str) -> tuple[str, str]:
    """The class of a registered model, and the last part of its module's name."""
    made = type(models.create(name))
    return made.__name__, made.__module__.rpartition(".")[2]


def entry(name: str) -> Entry:
    """A registered model's numbers, from one trace of its initialisation.

    Raises:
        ConfigError: an unknown name.
    """
    facts = models.facts(name)
    family, file = family_of(name)
    parameters, operations = _counts(models.create(name), models.input_shape(name))
    kept = ("year", "image_size", "accuracy", "accuracy_source", "paper")
    return Entry(name, family, file, parameters, operations, **{key: facts[key] for key in kept})


def summarise(model: Model, shape: Sequence[int]) -> Summary:
    """The layers of a model in evaluation, which is traced and not run.

    Args:
        model: the model.
        shape: of one example.
    """
    model = model.plain().unscanned()
    inputs = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables: Any = jax.eval_shape(model.init, jax.random.key(0), inputs)
    with nn.intercept_methods(_in_scope):
        closed = jax.make_jaxpr(model.apply)(variables, inputs)
    arguments: list[_Value] = []
    sizes: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
        collection, *rest = (entry.key for entry in path)
        name = "/".join(rest) if collection == "params" else None
        arguments.append(_Value(parameter=name))
        if name is not None:
            sizes[name] = leaf.size
    rows = _Rows(sizes)
    image = (Field(1), Field(2)) if len(shape) == 3 else (None, None)
    jaxpr.propagate(closed.jaxpr, [*arguments, _Value(True, image)], rows)
    return Summary((*rows.layers(), *rows.unused()))


@dataclasses.dataclass(frozen=True)
class _Value:
    """What is known of an array.

    Attributes:
        live: whether it depends on the inputs.
        fields: the receptive fields in the directions of rows and of columns.
        parameter: its name, of a parameter.
    """

    live: bool = False
    fields: tuple[Field | None, Field | None] = (None, None)
    parameter: str | None = None


class _Run:
    """Equations of one module that follow each other."""

    def __init__(self, path: str):
        self.path = path
        self.parameters: list[str] = []
        self.flops = 0
        self.kind = ""
        self.live = False
        self.shape: tuple[int, ...] = ()
        self.fields: tuple[Field | None, Field | None] = (None, None)


class _Rows:
    """Follows receptive fields, and collects equations by module: see `jaxpr.Rules`."""

    constant = _Value()

    def __init__(self, sizes: dict[str, int]):
        self._sizes = sizes
        self._seen: set[str] = set()
        self._runs: list[_Run] = []

    def unstacked(self, value: _Value) -> _Value:
        """As `jaxpr.Rules.unstacked`."""
        return self._shifted(value, -1)

    def stacked(self, value: _Value) -> _Value:
        """As `jaxpr.Rules.stacked`."""
        return self._shifted(value, 1)

    def outputs(
        self,
        equation: core.JaxprEqn,
        inputs: Sequence[_Value],
        within: tuple[core.JaxprEqn, ...],
    ) -> Sequence[_Value]:
        """As `jaxpr.Rules.outputs`."""
        path = _path((*within, equation))
        if not self._runs or self._runs[-1].path != path:
            self._runs.append(_Run(path))
        run = self._runs[-1]
        if all(flops.cost(outer) is None for outer in within):
            run.flops += jaxpr.total_of([equation], flops.cost, max)
        for value in inputs:
            if value.parameter is not None and value.parameter not in self._seen:
                self._seen.add(value.parameter)
                run.parameters.append(value.parameter)
        out: Any = equation.outvars[0].aval if equation.outvars else None
        if not any(value.live for value in inputs):
            if out is not None and not run.live:
                # Of a layer that reads constants, such as positions, and not the images.
                run.shape = tuple(out.shape[1:])
            return [_Value()] * len(equation.outvars)
        fields = _fields(equation, [value.fields for value in inputs])
        if equation.primitive.name in _POOLINGS:
            run.kind = run.kind or _POOLINGS[equation.primitive.name]
        elif any(receptive_rules.reduces(equation, [v.fields[i] for v in inputs]) for i in (0, 1)):
            means = {"reduce_sum": "mean", "reduce_max": "max", "reduce_min": "min"}
            run.kind = run.kind or means.get(equation.primitive.name, equation.primitive.name)
        run.live, run.shape, run.fields = True, tuple(out.shape[1:]), fields[0]
        return [_Value(True, both) for both in fields]

    def layers(self) -> list[Layer]:
        """The runs with parameters or FLOPs, and those that pool."""
        return [self._layer(run) for run in self._runs if run.parameters or run.flops or run.kind]

    def unused(self) -> list[Layer]:
        """The modules whose parameters have not been read."""
        sizes: dict[str, int] = {}
        for name in self._sizes.keys() - self._seen:
            module = name.rpartition("/")[0] or name
            sizes[module] = sizes.get(module, 0) + self._sizes[name]
        # The order of the variables, which is that of the names.
        return [Layer(name, (), sizes[name], 0, None, None, None) for name in sorted(sizes)]

    def _layer(self, run: _Run) -> Layer:
        own = [name for name in run.parameters if name.rpartition("/")[0] == run.path]
        kind = "" if own and run.path else ",".join(own) or run.kind
        known = [field for field in run.fields if field is not None]
        about: list[Any] = [None, None, None]
        if len(known) == 2:
            one, two = known
            about = [(one.size, two.size), (one.stride, two.stride), (one.offset, two.offset)]
        return Layer(
            "/".join(filter(None, (run.path, kind))) or "operations",
            run.shape,
            sum(self._sizes[name] for name in run.parameters),
            run.flops,
            *about,
        )

    @staticmethod
    def _shifted(value: _Value, by: int) -> _Value:
        def moved(field: Field | None) -> Field | None:
            if field is None or field.axis is None:
                return field
            return field.on(field.axis + by) if field.axis + by >= 0 else field.all()

        rows, columns = value.fields
        return dataclasses.replace(value, fields=(moved(rows), moved(columns)))


def _fields(
    equation: core.JaxprEqn, inputs: Sequence[tuple[Field | None, Field | None]]
) -> list[tuple[Field | None, Field | None]]:
    """The fields of an equation's outputs in both directions."""
    if equation.primitive.name == "reshape":
        return [receptive_rules.reshaped(equation, inputs[0])]
    both = (receptive_rules.outputs(equation, [each[i] for each in inputs]) for i in (0, 1))
    return list(zip(*both, strict=True))


def _in_scope(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
    """Marks the equations of a module's methods with its path."""
    if context.module.scope is None:
        return call(*arguments, **keywords)
    with jax.named_scope(_MARK + "/".join(context.module.path)):
        return call(*arguments, **keywords)


def _path(equations: Sequence[core.JaxprEqn]) -> str:
    """The path of the innermost module that an equation, the last of these, is in."""
    for equation in reversed(equations):
        for scope in reversed(equation.source_info.name_stack.stack):
            if scope.name.startswith(_MARK):
                return str(scope.name.removeprefix(_MARK))
    return ""


def _counts(model: Model, shape: Sequence[int]) -> tuple[int, int]:
    """Parameters, and FLOPs in evaluation for one example."""
    # A scan over equal blocks is traced once.
    model = model.plain().replaced(scan_layers=True)
    inputs = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    trace = jax.make_jaxpr(model.init_with_output, return_shape=True)
    closed, (outputs, variables) = trace(jax.random.key(0), inputs)
    # What the outputs do not need: fresh parameters of layers that only training has.
    needed = len(jax.tree.leaves(outputs))
    rest = len(closed.jaxpr.outvars) - needed
    used, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * needed + [False] * rest)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return parameters, jaxpr.total_of(used.eqns, flops.cost, max)
