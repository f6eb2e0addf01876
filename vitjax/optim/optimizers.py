"""Any optax optimizer by name, with decay, freezing and rates chosen by parameter name.

A parameter's name is its path, joined by slashes: ``block_0/attention/query/kernel``. The patterns
of a config are regular expressions, searched for in it; the first that matches counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax

from vitjax.core.errors import ConfigError
from vitjax.core.names import listed
from vitjax.core.text import near_match
from vitjax.core.trees import parameter_names
from vitjax.core.validation import check_keywords, keywords_of
from vitjax.optim.lookup import find_optimizer

Patterns = Sequence[tuple[str, float]] | Sequence[Sequence[Any]]
_FROZEN = "frozen"
WHERE = "config.optimizer"

# Of the families that `layer_decay` knows: what comes before the blocks, and the blocks' numbers.
_EMBEDDING = re.compile(
    r"(^|/)(patch_embedding|position_embedding|class_token|class_position_embedding"
    r"|register_tokens|stem_\w+)(/|$)"
)

_BLOCK = re.compile(r"(^|/)(?:block_(\d+)|stage(\d+)_block(\d+))/")
_STACKED = re.compile(r"(^|/)encoder/blocks/")


def check(section: Mapping[str, Any], where: str = WHERE) -> None:
    """Checks a config's ``optimizer`` section as far as that goes without the parameters.

    Args:
        section: the keys of one optimizer.
        where: where they stand, for errors.

    Raises:
        ConfigError: an unknown optimizer or argument, or a learning rate that is none.
    """
    for key in ("name", "learning_rate"):
        if key not in section:
            raise ConfigError(f"{where}: the key {key!r} is missing")
    for key, least in (("learning_rate", 0), ("clip_norm", 1e-30), ("clip_value", 1e-30)):
        value = section.get(key, 1)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and value >= least) and (value is not None or key == "learning_rate"):
            bound = "at least 0" if least == 0 else "above 0"
            raise ConfigError(f"{where}.{key} is {value!r}; it should be a number {bound}")
    decay = section.get("layer_decay")
    if decay is not None and not (isinstance(decay, int | float) and 0 < decay <= 1):
        raise ConfigError(f"{where}.layer_decay is {decay!r}; it should be above 0, and 1 at most")
    if "weight_decay_rate" in section:
        raise ConfigError(f"{where}.weight_decay_rate: here it is called 'weight_decay'")
    constructor = find_optimizer(section["name"], f"{where}.name")
    check_keywords(
        constructor,
        [key for key in section if key != "weight_decay_rate"],
        where=where,
        also=[
            "name",
            *(key for key in keywords_of(_create) if key not in ("params", "rate", "where")),
        ],
    )


def create(
    params: Any, learning_rate: optax.Schedule, section: Mapping[str, Any], where: str = WHERE
) -> optax.GradientTransformationExtraArgs:
    """Builds the optimizer of a config's ``optimizer`` section.

    Args:
        params: the parameters, or their shapes: patterns are checked against their names.
        learning_rate: step -> rate.
        section: ``name``: an optimizer of `optax` or `optax.contrib`; its own arguments; and

            - ``weight_decay``: an optimizer that has a decoupled decay of its own (adamw, lamb,
              lion, muon, ...) is given it, or keeps optax's default where there is none; for the
              others ``weight_decay * parameter`` is added to the gradient, as in He et al. 2016 and
              PyTorch's SGD.
            - ``weight_decay_factors``: (pattern, factor) pairs on it: 0 spares a parameter.
            - ``learning_rate_factors``: (pattern, factor) pairs on the learning rate.
            - ``layer_decay``: a further factor on the learning rate, to the power of how many
              layers a parameter is away from the head, see `layer_numbers`.
            - ``train_only``: one pattern or several; parameters that none matches stay as they are.
            - ``freeze``: one pattern or several, of parameters that stay as they are.
            - ``clip_norm``: largest global norm of the gradient, over what is not frozen.
            - ``clip_value``: largest absolute value of a gradient's entry.

        where: where the section stands, for errors.

    Raises:
        ConfigError: an unknown optimizer or argument, or a pattern that matches no parameter.
    """
    check(section, where)
    arguments = {key: value for key, value in section.items() if key != "learning_rate"}
    return _create(params, learning_rate, where, **arguments)


def _create(
    params: Any,
    rate: optax.Schedule,
    where: str,
    *,
    name: str,
    weight_decay: float | None = None,
    weight_decay_factors: Patterns = (),
    learning_rate_factors: Patterns = (),
    layer_decay: float | None = None,
    train_only: str | Sequence[str] | None = None,
    freeze: str | Sequence[str] = (),
    clip_norm: float | None = None,
    clip_value: float | None = None,
    **arguments: Any,
) -> optax.GradientTransformationExtraArgs:
    constructor = find_optimizer(name, f"{where}.name")
    accepted = keywords_of(constructor)
    decay_key = next((k for k in ("weight_decay", "weight_decay_rate") if k in accepted), None)
    if weight_decay is None:
        weight_decay = accepted[decay_key].default if decay_key else 0.0
        weight_decay = weight_decay or 0.0
    names = parameter_names(params)
    frozen = [not each for each in _trained(names, train_only, freeze, where)]
    rates = _match(learning_rate_factors, names, 1.0, f"{where}.learning_rate_factors")
    if layer_decay is not None:
        layers = layer_numbers(names, where)
        rates = [
            rate * layer_decay ** (max(layers) - layer)
            for rate, layer in zip(rates, layers, strict=True)
        ]
    decays = _match(weight_decay_factors, names, 1.0, f"{where}.weight_decay_factors")

    def one(rate_factor: float, decay_factor: float) -> optax.GradientTransformation:
        decay = weight_decay * decay_factor
        own = {**arguments, "learning_rate": _scaled(rate, rate_factor)}
        if decay_key:
            own[decay_key] = decay
        if name == "muon":
            # Muon hands vectors to an inner Adam, which has a decay of its own.
            own.setdefault("adam_weight_decay", decay)
        optimizer = constructor(**own)
        if decay and not decay_key:
            optimizer = optax.chain(optax.add_decayed_weights(decay), optimizer)
        return optimizer

    try:
        return _assemble(params, one, frozen, rates, decays, clip_norm, clip_value, where)
    except ConfigError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(
            f"{where}: {name} refuses its arguments {arguments or ''}: {reason[0]}"
        ) from error


def trained(params: Any, section: Mapping[str, Any], where: str = WHERE) -> Any:
    """A tree like ``params`` of booleans: which of them the optimizer of ``section`` changes.

    Raises:
        ConfigError: a pattern matches no parameter.
    """
    chosen = _trained(
        parameter_names(params), section.get("train_only"), section.get("freeze") or (), where
    )
    return jax.tree.unflatten(jax.tree.structure(params), chosen)


def _trained(
    names: list[str],
    train_only: str | Sequence[str] | None,
    freeze: str | Sequence[str],
    where: str,
) -> list[bool]:
    """Of each of ``names`` whether it is trained."""
    chosen = [True] * len(names)
    if train_only is not None:
        chosen = _match(
            [(p, True) for p in listed(train_only)], names, False, f"{where}.train_only"
        )
    frozen = _match([(p, True) for p in listed(freeze)], names, False, f"{where}.freeze")
    return [wanted and not stuck for wanted, stuck in zip(chosen, frozen, strict=True)]


def layer_numbers(names: Sequence[str], where: str = WHERE) -> list[int]:
    """The layer of each parameter of a ViT or ResNet, as layer-wise decay counts them.

    0 for embeddings, further tokens and the stem; 1, 2, ... for the blocks, through all stages; one
    more for what comes behind them, the head above all. So Bao et al. 2022 (BEiT, arXiv:2106.08254,
    appendix) and He et al. 2022 (MAE, arXiv:2111.06377, App. A.1) fine-tune ViTs.

    Raises:
        ConfigError: there are no numbered blocks, or ``scan_layers`` has put them into one array.
    """
    if any(_STACKED.search(name) for name in names):
        raise ConfigError(
            f"{where}.layer_decay: under model.scan_layers all blocks lie in one array,"
            " which has one rate; set config.model.scan_layers = False (weights of one form can be"
            " loaded into the other)"
        )
    found = [_BLOCK.search(name) for name in names]
    blocks = {tuple(int(n) for n in m.groups()[1:] if n is not None) for m in found if m}
    if not blocks:
        raise ConfigError(
            f"{where}.layer_decay is for ViTs and ResNets, whose blocks are numbered; here"
            f" parameters are called {', '.join(names[:5])}, ...; learning_rate_factors serves any"
            " model"
        )
    numbers = {block: number for number, block in enumerate(sorted(blocks), start=1)}
    layers = []
    for name, match in zip(names, found, strict=True):
        if match:
            layers.append(numbers[tuple(int(n) for n in match.groups()[1:] if n is not None)])
        else:
            layers.append(0 if _EMBEDDING.search(name) else len(numbers) + 1)
    return layers


def _assemble(
    params: Any,
    one: Callable[[float, float], optax.GradientTransformation],
    frozen: list[bool],
    rates: list[float],
    decays: list[float],
    clip_norm: float | None,
    clip_value: float | None,
    where: str,
) -> optax.GradientTransformationExtraArgs:
    """One optimizer out of one per group of parameters that share rate and decay."""
    labels = [
        _FROZEN if stuck else f"rate x{rate:g}, decay x{decay:g}"
        for stuck, rate, decay in zip(frozen, rates, decays, strict=True)
    ]
    groups = {
        label: optax.set_to_zero() if label == _FROZEN else one(rate, decay)
        for label, rate, decay in zip(labels, rates, decays, strict=True)
    }
    if set(groups) == {_FROZEN}:
        raise ConfigError(
            f"{where}: every parameter is frozen by freeze or train_only; nothing would train"
        )
    if len(groups) == 1:
        optimizer: optax.GradientTransformation = next(iter(groups.values()))
    else:
        tree = jax.tree.unflatten(jax.tree.structure(params), labels)
        optimizer = optax.partition(groups, tree)
    chain = [optimizer]
    if clip_value is not None:
        chain.insert(0, optax.clip(clip_value))
    if clip_norm is not None:
        chain.insert(0, optax.clip_by_global_norm(clip_norm))
    if _FROZEN in groups and len(chain) > 1:
        # A frozen parameter's gradient must not use up the norm that the others may have.
        mask = jax.tree.unflatten(jax.tree.structure(params), frozen)
        chain.insert(0, optax.masked(optax.set_to_zero(), mask))
    whole = optax.with_extra_args_support(optax.chain(*chain))
    # Many wrong values are told only by a first update; nothing is computed here.
    jax.eval_shape(lambda p: whole.update(p, whole.init(p), p, value=0.0), params)
    return whole


def _scaled(schedule: optax.Schedule, factor: float) -> optax.Schedule:
    return schedule if factor == 1 else lambda step: factor * schedule(step)


def _match(patterns: Patterns, names: list[str], default: Any, where: str) -> list[Any]:
    """For each name the value of the first pattern found in it."""
    try:
        compiled = [(re.compile(pattern), value) for pattern, value in patterns]
    except (re.error, TypeError, ValueError) as error:
        pairs = (
            "(regular expression, factor) pairs" if "factors" in where else "regular expressions"
        )
        raise ConfigError(f"{where}: {patterns!r} is no list of {pairs} ({error})") from error
    for pattern, _ in compiled:
        if not any(pattern.search(name) for name in names):
            parts = {part for name in names for part in name.split("/")}
            raise ConfigError(
                f"{where}: {pattern.pattern!r} matches no parameter"
                f"{near_match(pattern.pattern, parts)} (the first ones: {', '.join(names[:5])})"
            )
    return [
        next((value for pattern, value in compiled if pattern.search(name)), default)
        for name in names
    ]
