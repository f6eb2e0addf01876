"""Schedules: the factor on the optimizer's peak learning rate at each step.

Every schedule may begin with a linear warm-up and end with a linear cool-down to zero. In a config,
lengths have a unit: ``warmup_epochs=5``, ``cooldown_fraction=0.2``,
``boundaries_steps=[32000, 48000]``.

optax has the same curves, with other roundings: its cosine differs in the last bit in a fifth of
the steps. These are kept so that runs repeat to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import optax

from vitjax.config import lengths
from vitjax.config.lengths import Run, spellings
from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.core.validation import (
    NonNegativeFloat,
    NonNegativeInt,
    Steps,
    call,
    check_keywords,
    check_value,
)

# (steps since the warm-up, length without warm-up and cool-down) -> factor.
Body = Callable[[Any, int], Any]
schedules: Registry[Callable[..., Body]] = Registry("schedule")


@schedules.register("constant")
def constant() -> Body:
    """1 at every step."""
    return lambda step, length: jnp.ones_like(step)


@schedules.register("cosine")
def cosine(*, final: NonNegativeFloat = 0.0) -> Body:
    """Half a cosine from 1 to ``final`` (Loshchilov and Hutter 2017, arXiv 1608.03983, Eq. 5)."""
    return lambda step, length: (
        final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(step / length, 0, 1)))
    )


@schedules.register("linear")
def linear(*, final: NonNegativeFloat = 0.0) -> Body:
    """A straight line from 1 to ``final``."""
    return lambda step, length: 1 - (1 - final) * jnp.clip(step / length, 0, 1)


@schedules.register("step", lengths=("boundaries",), lists=("boundaries",))
def step(*, boundaries: Sequence[NonNegativeInt], factor: float = 0.1) -> Body:
    """Multiplied by ``factor`` at each boundary, counted from the start of the run.

    He et al. 2016 (arXiv 1512.03385, Section 3.4) divide by 10.
    """
    return _Staircase(boundaries, factor)


@schedules.register("one_cycle", lengths=("peak",))
def one_cycle(
    *,
    peak: NonNegativeInt | None = None,
    initial: NonNegativeFloat = 0.04,
    final: NonNegativeFloat = 1e-4,
) -> Body:
    """Half a cosine from ``initial`` up to 1 at ``peak``, then one down to ``final``.

    Smith and Topin 2018 (arXiv 1708.07120, Section 3). ``peak`` counts from the end of the warm-up;
    the default is 30% of the cycle.
    """

    def body(step: Any, length: int) -> Any:
        top = max(1, round(0.3 * length) if peak is None else peak)
        up = 0.5 - 0.5 * jnp.cos(jnp.pi * jnp.clip(step / top, 0, 1))
        down = 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.clip((step - top) / max(1, length - top), 0, 1))
        return jnp.where(step < top, initial + (1 - initial) * up, final + (1 - final) * down)

    return body


@schedules.register("reciprocal_sqrt", lengths=("timescale",))
def reciprocal_sqrt(*, timescale: Steps = 10_000) -> Body:
    """``sqrt(timescale / (timescale + step))``, without an end and so meant with a cool-down.

    Zhai et al. 2022 (arXiv 2106.04560, Section 3.5).
    """
    return lambda step, length: jnp.sqrt(timescale / (timescale + step))


class _Staircase:
    """A body that counts from the start of the run instead of the end of the warm-up."""

    def __init__(self, boundaries: Sequence[int], factor: float):
        self.boundaries, self.factor = sorted(boundaries), factor

    def __call__(self, step: Any, length: int) -> Any:
        passed = sum((step >= boundary) * 1 for boundary in self.boundaries)
        return jnp.power(self.factor, jnp.asarray(passed, jnp.float32))


def check(section: Mapping[str, Any], where: str = "config.schedule") -> None:
    """Checks a config's ``schedule`` section as far as that is possible without the run.

    Raises:
        ConfigError: an unknown name or key, or a value that cannot be used.
    """
    name = section.get("name", "constant")
    constructor = schedules.lookup(name, f"{where}.name")
    own, lists = _lengths_of(name)
    check_keywords(
        constructor,
        {key: value for key, value in section.items() if key != "name"},
        where=where,
        given=own,
        also=["name", "warmup_from", *spellings(own)],
        name=name,
    )
    lengths.check(section, own, where=where, lists=lists)
    check_value(section.get("warmup_from", 0.0), NonNegativeFloat, f"{where}.warmup_from")


def _lengths_of(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lengths that the section of a schedule may have, and which of them are lists."""
    facts = schedules.facts(name)
    return ("warmup", "cooldown", *facts.get("lengths", ())), facts.get("lists", ())


def create(
    section: Mapping[str, Any], run: Run, learning_rate: float, where: str = "config.schedule"
) -> optax.Schedule:
    """The learning rate as a function of the step.

    Args:
        section: the config's ``schedule`` section: ``name`` (``"constant"`` without it), ``warmup``
            and ``cooldown`` lengths, ``warmup_from`` (the factor at step 0, default 0), and the
            arguments of the named schedule.
        run: turns lengths into steps.
        learning_rate: the peak.
        where: where the section is in the config, for errors.

    Returns:
        step -> learning rate, for steps as integers or traced arrays.

    Raises:
        ConfigError: an unknown name or key, or a length in two units.
    """
    check(section, where)
    name = section.get("name", "constant")
    own, lists = _lengths_of(name)
    resolved = run.resolve(section, own, where=where, lists=lists)
    resolved.pop("name", None)
    warmup, cooldown = resolved.pop("warmup", 0), resolved.pop("cooldown", 0)
    warmup_from = resolved.pop("warmup_from", 0.0)
    if warmup + cooldown > run.steps:
        raise ConfigError(
            f"{where}: warm-up ({warmup} steps) and cool-down ({cooldown}) are longer than the run"
            f" ({run.steps} steps)"
        )
    if "boundaries" in own and "boundaries" not in resolved:
        raise ConfigError(f"{where}: a step schedule needs {spellings(['boundaries'])}")
    body = call(schedules[name], resolved, where=where)
    length = max(1, run.steps - warmup - cooldown)

    def schedule(step: Any) -> Any:
        step = jnp.asarray(step, jnp.float32)
        from_start = isinstance(body, _Staircase)
        since = step if from_start else jnp.clip(step - warmup, 0, length)
        factor = body(since, length)
        if warmup:
            factor *= warmup_from + (1 - warmup_from) * jnp.clip(step / warmup, 0, 1)
        if cooldown:
            factor *= jnp.clip((run.steps - step) / cooldown, 0, 1)
        return learning_rate * factor

    return schedule
