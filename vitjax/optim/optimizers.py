"""Any optax optimizer by name, with decay, freezing and rates chosen by parameter name.

A parameter's name is its path, joined by slashes: ``block_0/attention/query/kernel``. The patterns
of a config are regular expressions, searched for in it; the first that matches counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import jax
import optax

from vitjax.core.errors import ConfigError
from vitjax.core.names import check_expressions, listed, parameter_names
from vitjax.core.registry import named
from vitjax.core.validation import (
    Bounds,
    NonNegativeFloat,
    PositiveFloat,
    call,
    check_keywords,
    keywords_of,
)
from vitjax.optim.arguments import annotations_of
from vitjax.optim.lookup import find_optimizer
from vitjax.optim.patterns import factors, is_trained

WHERE = "config.optimizer"
_FROZEN = "frozen"
# What optax's constructors call a decoupled weight decay.
_DECAYS = ("weight_decay", "weight_decay_rate")

LayerGroups = Callable[[Sequence[str]], list[int]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The keys of an ``optimizer`` section beside ``name`` and the optimizer's own arguments.

    Attributes:
        learning_rate: the peak, which the schedule multiplies.
        weight_decay: an optimizer with a decoupled decay (adamw, lamb, lion, muon, ...) receives
            it, or keeps optax's default for None; for the others ``weight_decay * parameter`` is
            added to the gradient, as in He et al. 2016 and PyTorch's SGD.
        weight_decay_factors: (pattern, factor) pairs that multiply it: 0 for no decay.
        learning_rate_factors: (pattern, factor) pairs that multiply the learning rate.
        layer_decay: a further factor on the learning rate, to the power of the number of layers
            between a parameter and the last layer; see `vitjax.models.Model.layer_groups`.
        train_only: patterns; parameters that match none of them are frozen.
        freeze: patterns of frozen parameters.
        clip_norm: largest global norm of the gradient of all parameters that are not frozen.
        clip_value: largest absolute value of an entry of the gradient.
    """

    learning_rate: NonNegativeFloat
    weight_decay: NonNegativeFloat | None = None
    weight_decay_factors: Sequence[tuple[str, NonNegativeFloat]] = ()
    learning_rate_factors: Sequence[tuple[str, NonNegativeFloat]] = ()
    layer_decay: Annotated[float, Bounds(above=0, at_most=1)] | None = None
    train_only: str | Sequence[str] | None = None
    freeze: str | Sequence[str] = ()
    clip_norm: PositiveFloat | None = None
    clip_value: PositiveFloat | None = None


def check(section: Mapping[str, Any], where: str = WHERE) -> None:
    """Checks an ``optimizer`` section as far as that is possible without the parameters.

    Args:
        section: ``name``, an optimizer of `optax` or `optax.contrib`; the keys of `Settings`; and
            the optimizer's own arguments.
        where: where they are in the config, for errors.

    Raises:
        ConfigError: an unknown optimizer or key, or a value that cannot be used.
    """
    settings, _, _ = _split(section, where)
    for key in ("train_only", "freeze"):
        check_expressions(listed(getattr(settings, key) or ()), f"{where}.{key}")
    for key in ("weight_decay_factors", "learning_rate_factors"):
        check_expressions([p for p, _ in getattr(settings, key)], f"{where}.{key}")


def create(
    params: Any,
    learning_rate: optax.Schedule,
    section: Mapping[str, Any],
    where: str = WHERE,
    layer_groups: LayerGroups | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Builds one optimizer of a tree of parameters, which may be a part of all parameters.

    Args:
        params: the parameters, or their shapes; patterns are compared with their names.
        learning_rate: step -> rate.
        section: as in `check`.
        where: as in `check`.
        layer_groups: the layer of each of a list of names, for ``layer_decay``.

    Raises:
        ConfigError: as in `check`; a pattern that matches no parameter; arguments that the
            optimizer refuses; or ``layer_decay`` for a model whose layers have no order.
    """
    settings, constructor, arguments = _split(section, where)
    accepted = keywords_of(constructor)
    decay_key = next((key for key in _DECAYS if key in accepted), None)
    weight_decay = settings.weight_decay
    if weight_decay is None:
        weight_decay = (accepted[decay_key].default if decay_key else 0.0) or 0.0
    names = parameter_names(params)
    trained = is_trained(names, settings.train_only, settings.freeze, where)
    rates = factors(settings.learning_rate_factors, names, f"{where}.learning_rate_factors")
    if settings.layer_decay is not None:
        decays = _layer_decays(names, settings.layer_decay, layer_groups, f"{where}.layer_decay")
        rates = [rate * decay for rate, decay in zip(rates, decays, strict=True)]
    decays = factors(settings.weight_decay_factors, names, f"{where}.weight_decay_factors")

    def one(rate: float, factor: float) -> optax.GradientTransformation:
        decay = weight_decay * factor
        own = {**arguments, "learning_rate": _scaled(learning_rate, rate)}
        if decay_key:
            own[decay_key] = decay
        if section["name"] == "muon":
            # Muon passes vectors to an inner Adam, which has a decay of its own.
            own.setdefault("adam_weight_decay", decay)
        optimizer = constructor(**own)
        if decay and not decay_key:
            optimizer = optax.chain(optax.add_decayed_weights(decay), optimizer)
        return optimizer

    if not any(trained):
        raise ConfigError(
            f"{where}: every parameter is frozen by freeze or train_only; nothing would train"
        )
    try:
        labels = [
            f"rate x{rate:g}, decay x{decay:g}" if moves else _FROZEN
            for moves, rate, decay in zip(trained, rates, decays, strict=True)
        ]
        groups = {
            label: optax.set_to_zero() if label == _FROZEN else one(rate, decay)
            for label, rate, decay in zip(labels, rates, decays, strict=True)
        }
        chain = _chain(groups, labels, settings, jax.tree.structure(params))
        optimizer = optax.with_extra_args_support(optax.chain(*chain))
        # optax finds many wrong arguments only in an update; tracing one computes nothing.
        jax.eval_shape(lambda p: optimizer.update(p, optimizer.init(p), p, value=0.0), params)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(
            f"{where}: {section['name']} refuses its arguments {arguments or ''}: {reason[0]}"
        ) from error
    return optimizer


def trained(params: Any, section: Mapping[str, Any], where: str = WHERE) -> Any:
    """A tree like ``params`` of booleans: which of them the optimizer of ``section`` changes.

    Raises:
        ConfigError: a pattern matches no parameter.
    """
    chosen = is_trained(
        parameter_names(params), section.get("train_only"), section.get("freeze") or (), where
    )
    return jax.tree.unflatten(jax.tree.structure(params), chosen)


def _split(section: Mapping[str, Any], where: str) -> tuple[Settings, Any, dict[str, Any]]:
    """The checked `Settings`, the optimizer's constructor and its own arguments."""
    name, arguments = named(section, where)
    constructor = find_optimizer(name, f"{where}.name")
    known = keywords_of(Settings)
    own = {key: arguments.pop(key) for key in known if key in arguments}
    settings: Settings = call(Settings, own, where=where)
    if "weight_decay_rate" in arguments:
        raise ConfigError(f"{where}.weight_decay_rate is called 'weight_decay' here")
    given = ("learning_rate", "weight_decay_rate")
    check_keywords(
        constructor,
        arguments,
        where=where,
        given=given,
        also=["name", *known],
        name=name,
        annotations=annotations_of(name, constructor),
    )
    return settings, constructor, arguments


def _layer_decays(
    names: Sequence[str], decay: float, layer_groups: LayerGroups | None, where: str
) -> list[float]:
    """The factor of each parameter's layer on the learning rate."""
    if layer_groups is None:
        raise ConfigError(f"{where}: the layers of these parameters have no order")
    try:
        layers = layer_groups(names)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}; learning_rate_factors works for any model") from error
    return [decay ** (max(layers) - layer) for layer in layers]


def _chain(
    groups: Mapping[str, optax.GradientTransformation],
    labels: Sequence[str],
    settings: Settings,
    structure: Any,
) -> list[optax.GradientTransformation]:
    """Clipping, and the optimizers of groups of parameters that share rate and decay."""
    chain = []
    if settings.clip_norm is not None:
        chain.append(optax.clip_by_global_norm(settings.clip_norm))
    if settings.clip_value is not None:
        chain.append(optax.clip(settings.clip_value))
    if chain and _FROZEN in groups:
        # The gradient of a frozen parameter does not count in the global norm.
        frozen = jax.tree.unflatten(structure, [label == _FROZEN for label in labels])
        chain.insert(0, optax.transforms.freeze(frozen))
    if len(groups) == 1:
        return [*chain, *groups.values()]
    return [*chain, optax.partition(groups, jax.tree.unflatten(structure, labels))]


def _scaled(schedule: optax.Schedule, factor: float) -> optax.Schedule:
    return schedule if factor == 1 else lambda step: factor * schedule(step)
