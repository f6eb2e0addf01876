"""What the arguments of optax's optimizers may be.

optax annotates most of them by one type for arrays, numbers and booleans alike, and checks few: a
wrong one is then found in the middle of a run, or not at all. Their names have the same meaning in
all optimizers, so the annotations here go by name.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from vitjax.core.validation import (
    Bounds,
    Fraction,
    Length,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Rate,
    Repetitions,
    Steps,
    keywords_of,
)
from vitjax.nn.dtypes import Dtype

# Beyond these, what an old gradient adds to a step grows with its age.
_Momentum = Annotated[float, Bounds(at_least=-1, at_most=1)]
# True or False for all parameters, or as a tree like them.
_Mask = bool | Mapping[str, Any]
_Rates = Annotated[Sequence[Rate], Length(2, 2)]

_BY_NAME: Mapping[str, Any] = {
    **dict.fromkeys(("b1", "b2", "b3", "beta3", "adam_b1", "adam_b2", "decay", "rho"), Rate),
    "betas": _Rates,
    "momentum": _Momentum,
    **dict.fromkeys(("eps", "eps_root", "adam_eps_root"), NonNegativeFloat),
    **dict.fromkeys(("weight_decay", "adam_weight_decay", "adam_learning_rate"), NonNegativeFloat),
    **dict.fromkeys(("decay_rate", "initial_accumulator_value", "initial_scale"), NonNegativeFloat),
    **dict.fromkeys(("gamma", "eta", "min_norm"), NonNegativeFloat),
    **dict.fromkeys(("trust_coefficient", "noise_multiplier"), NonNegativeFloat),
    **dict.fromkeys(("consistent_rms", "init_estim_sq_dist", "threshold"), NonNegativeFloat),
    **dict.fromkeys(("alpha", "beta", "optimism", "weight_lr_power"), float),
    **dict.fromkeys(("clip_threshold", "clipping_threshold", "l2_norm_clip"), PositiveFloat),
    **dict.fromkeys(("estim_lr0", "estim_lr_coef", "scale"), PositiveFloat),
    **dict.fromkeys(("min_step_size", "max_step_size"), PositiveFloat),
    "eta_minus": Annotated[float, Bounds(above=0, at_most=1)],
    "eta_plus": Annotated[float, Bounds(at_least=1)],
    **dict.fromkeys(("lower_bound", "weight_decay_rate"), float),
    **dict.fromkeys(("ns_steps", "memory_size"), Repetitions),
    **dict.fromkeys(("rank", "min_dim_size_to_factor"), PositiveInt),
    **dict.fromkeys(("update_interval", "update_proj_gap"), Steps),
    **dict.fromkeys(("decay_offset", "print_win_rate_every_n_steps"), NonNegativeInt),
    **dict.fromkeys(("seed", "key", "warmup_steps"), NonNegativeInt),
    "init_step": tuple[Literal["distance", "learning_rate", "heuristic"], PositiveFloat],
    "ns_coeffs": Annotated[Sequence[float | Sequence[float]], Length()],
    "preconditioning": Literal["frobenius", "spectral", "aol", "schatten"],
    **dict.fromkeys(("mu_dtype", "state_dtype", "accumulator_dtype", "dtype_momentum"), Dtype),
    **dict.fromkeys(("mask", "weight_decay_mask", "trust_ratio_mask"), _Mask),
}
# Whose meaning in one optimizer is another than elsewhere.
_BY_OPTIMIZER: Mapping[tuple[str, str], Any] = {
    **{(name, "beta"): Rate for name in ("momo", "muon", "signum")},
    ("sophia", "gamma"): PositiveFloat,
    ("adafactor", "momentum"): Rate,
    ("simplified_ademamix", "alpha"): NonNegativeFloat,
    ("cocob", "alpha"): PositiveFloat,
    ("noisy_sgd", "gamma"): Fraction,
}


def annotations_of(name: str, constructor: Callable[..., Any]) -> dict[str, Any]:
    """What each argument of an optimizer may be, for `vitjax.core.validation.check_keywords`.

    An argument that is not known by its name, such as one of a later optax, may be what its default
    is: True or False, a finite number or text. One whose default is an object of Python may only be
    left out: a config holds no functions.

    Args:
        name: of the optimizer.
        constructor: of `optax`.
    """
    return {
        key: _annotation(name, key, parameter)
        for key, parameter in keywords_of(constructor).items()
    }


def _annotation(optimizer: str, key: str, parameter: inspect.Parameter) -> Any:
    default = parameter.default
    known = _BY_OPTIMIZER.get((optimizer, key), _BY_NAME.get(key))
    if known is not None:
        optional = default is None or types.NoneType in typing.get_args(parameter.annotation)
        return known | None if optional else known
    if isinstance(default, bool):
        return bool
    if isinstance(default, int | float):
        return float
    return str if isinstance(default, str) else types.NoneType
