"""Gradient descent that can itself be differentiated: the inner loop of MAML.

This module is independent of the rest of vitjax: it needs a loss, a pytree of parameters and an
optax transformation. Per-parameter and per-step learning rates are ordinary arrays that can be
differentiated, see `scale_by_rates`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


class History(NamedTuple):
    """The course of an inner loop.

    Attributes:
        loss: the loss before each step, (steps,).
        aux: the auxiliary outputs of ``loss_fn``, stacked (steps, ...); None without ``has_aux``.
        observed: the outputs of ``observe`` before the first step and after every step, stacked
            (steps + 1, ...); None without ``observe``.
    """

    loss: Float[Array, "steps"]
    aux: Any
    observed: Any


def adapt(
    loss_fn: Callable[..., Any],
    params: Any,
    batch: Any,
    *,
    steps: int,
    optimizer: optax.GradientTransformation,
    first_order: bool = False,
    remat: bool = False,
    unroll: int | bool = True,
    history: bool = False,
    has_aux: bool = False,
    per_step: Any = None,
    observe: Callable[[Any, Any], Any] | None = None,
    opt_state: Any = None,
) -> Any:
    """Returns ``params`` after ``steps`` updates that minimise ``loss_fn(params, batch)``.

    The result is a differentiable function of the initial parameters, and of every other array that
    the loss and the optimizer use: Finn et al. 2017 (MAML), arXiv:1703.03400, Eq. 1.

    Args:
        loss_fn: ``(params, batch) -> loss``; ``(params, batch, slice) -> loss`` with ``per_step``.
        params: any pytree of floating-point arrays; all leaves are adapted. Fixed parameters belong
            in the closure of ``loss_fn`` or in ``batch``.
        batch: passed to ``loss_fn`` at every step.
        steps: number of updates; with 0 the result is ``params``.
        optimizer: any optax transformation. Adam needs ``eps_root`` above 0 for second derivatives,
            since a square root of zero has none.
        first_order: treat the gradients as constants, so that the derivative of the result with
            respect to ``params`` is that of the identity (arXiv:1703.03400, Sec. 5.2).
        remat: store only the parameters of each step and recompute the rest in the backward pass,
            so that memory hardly grows with ``steps``. It needs a loop: ``unroll=True`` becomes 1.
        unroll: True unrolls all steps, which gives the fastest code and the longest compilation; a
            number is how many steps one iteration of a loop has.
        history: also return a `History`.
        has_aux: ``loss_fn`` returns ``(loss, aux)``.
        per_step: a pytree with a leading axis of ``steps``; each step receives its slice.
        observe: ``(params, number of steps taken) -> pytree``; implies ``history``.
        opt_state: the optimizer's initial state; None for ``optimizer.init(params)``. If it is
            given, the final state is returned as well.

    Returns:
        The adapted parameters, or a tuple of the adapted parameters, the `History` if requested,
        and the optimizer's state if ``opt_state`` is given.

    Raises:
        ValueError: ``steps`` is negative, or the leading axis of ``per_step`` is not ``steps``.
    """
    if steps < 0:
        raise ValueError(f"steps={steps}: the number of inner steps must be at least 0")
    for leaf in jax.tree.leaves(per_step):
        if leaf.shape[:1] != (steps,):
            raise ValueError(
                f"per_step has a leaf of shape {leaf.shape}; it should be ({steps}, ...)"
            )
    state = optimizer.init(params) if opt_state is None else opt_state

    def step(params: Any, state: Any, extra: Any) -> tuple[Any, Any, Any]:
        arguments = (batch,) if per_step is None else (batch, extra)
        value, gradients = jax.value_and_grad(loss_fn, has_aux=has_aux)(params, *arguments)
        if first_order:
            gradients = jax.lax.stop_gradient(gradients)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    if remat:
        step = jax.checkpoint(step)
        # In unrolled code XLA recomputes all steps early and keeps the results: nothing is saved.
        unroll = 1 if unroll is True else unroll

    def turn(carry: tuple[Any, Any], inputs: tuple[Any, Any]) -> tuple[tuple[Any, Any], Any]:
        index, extra = inputs
        seen = observe(carry[0], index) if observe else None
        params, state, value = step(*carry, extra)
        return (params, state), (value, seen)

    carry, indices = (params, state), jnp.arange(steps)
    if unroll is True or steps == 0:
        rows = []
        for i in range(steps):
            carry, row = turn(carry, (i, jax.tree.map(lambda leaf, i=i: leaf[i], per_step)))
            rows.append(row)
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows) if rows else None
    else:
        carry, stacked = jax.lax.scan(turn, carry, (indices, per_step), unroll=int(unroll))
    params, state = carry
    result: list[Any] = [params]
    if history or observe is not None:
        result.append(_history(stacked, params, steps, observe, has_aux))
    if opt_state is not None:
        result.append(state)
    return tuple(result) if len(result) > 1 else params


def _history(
    stacked: Any, params: Any, steps: int, observe: Callable[[Any, Any], Any] | None, has_aux: bool
) -> History:
    value, seen = stacked if stacked is not None else (None, None)
    loss, aux = value if has_aux and value is not None else (value, None)
    if loss is None:
        loss = jnp.zeros((0,))
    observed = None
    if observe is not None:
        last = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], observe(params, steps))
        observed = last if seen is None else jax.tree.map(_append, seen, last)
    return History(loss, aux, observed)


def _append(rows: Array, last: Array) -> Array:
    return jnp.concatenate([rows, last.astype(rows.dtype)])


class RatesState(NamedTuple):
    """The state of `scale_by_rates`: the number of updates."""

    updates: Array


def scale_by_rates(rates: Any, *, per_step: bool = False) -> optax.GradientTransformation:
    """Multiplies the update of each leaf by a rate of its own: learned learning rates.

    To be chained after ``optax.sgd(1.0)``, or any other optimizer with a learning rate of one. With
    a rate per scalar this is Meta-SGD (Li et al. 2017, arXiv:1707.09835, Eq. 2); with a rate per
    leaf and step, MAML++ (Antoniou et al. 2019, arXiv:1810.09502, Sec. 4).

    Args:
        rates: a pytree with the structure of the parameters, of arrays that broadcast against them.
        per_step: the rates have a leading axis of steps; steps beyond its end use the last rate.
    """

    def init(params: Any) -> RatesState:
        del params
        return RatesState(jnp.zeros((), jnp.int32))

    def update(updates: Any, state: RatesState, params: Any = None) -> tuple[Any, RatesState]:
        del params

        def scaled(update: Array, rate: Array) -> Array:
            if per_step:
                rate = rate[jnp.minimum(state.updates, rate.shape[0] - 1)]
            return update * rate

        return jax.tree.map(scaled, updates, rates), RatesState(state.updates + 1)

    return optax.GradientTransformation(init, update)
