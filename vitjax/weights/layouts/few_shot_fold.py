"""Conv4 as an equal network with the normalisation that other projects' code has."""

from __future__ import annotations

from typing import Any

import numpy as np

from vitjax.models.conv4 import Conv4
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.target import Folded

# Epsilons of normalisation that the projects' code has no option for.
MAML_EPSILONS = {"batch": 1e-3, "layer": 1e-12}
LEARN2LEARN_EPSILON = 1e-5

_GRADIENTS = (
    "the network computes the same, but its gradients differ, and so does what inner steps with the"
    " same learning rate make of it"
)
_RESCALED = f"the convolutions are scaled, because this code has another epsilon: {_GRADIENTS}"
_FOLDED = (
    "the scales of the normalisation are multiplied into the layers that follow, because this code"
    f" has none: {_GRADIENTS}"
)


def maml(module: Conv4, arrays: dict[str, np.ndarray]) -> Folded:
    """For cbfinn/maml, whose batch normalisation has no scale, and whose epsilons are fixed."""
    if module.norm not in MAML_EPSILONS or module.activation != "relu" or module.num_context:
        return Folded(module, arrays)  # which its code cannot make anyway
    found = _rescaled(module, arrays, MAML_EPSILONS[module.norm])
    if module.norm == "layer":
        return found
    arrays = dict(found.arrays)
    scales = [f"params/norm{i}/scale" for i in range(1, module.depth + 1)]
    if all((arrays[name] == 1).all() for name in scales if name in arrays):
        return found
    for i, name in enumerate(scales, start=1):
        scale = arrays[name]
        following = f"params/{'head' if i == module.depth else f'conv{i + 1}'}/kernel"
        if (scale <= 0).any() or following not in arrays:
            # relu(s x) = s relu(x), also after max pooling, for positive s only.
            why = (
                f"{(scale <= 0).sum()} of {scale.size} are not above 0"
                if following in arrays
                else "no layer follows it"
            )
            raise WeightsError(
                "cbfinn/maml's batch normalisation has no scale. One that is above 0 can be"
                f" multiplied into the layer that follows, but of {name} {why}"
            )
        kernel = arrays[following]
        if i < module.depth:
            kernel = kernel * scale[:, None]
        else:
            pixels = kernel.reshape(-1, module.filters, kernel.shape[-1])
            kernel = (pixels * scale[:, None]).reshape(kernel.shape)
        shift = f"params/norm{i}/bias"
        arrays |= {
            following: kernel,
            shift: arrays[shift] / scale,
            name: np.ones_like(scale),
        }
    return Folded(found.module, arrays, (*found.remarks, _FOLDED))


def learn2learn(module: Conv4, arrays: dict[str, np.ndarray]) -> Folded:
    """For learn2learn, whose batch normalisation has PyTorch's epsilon."""
    if module.norm != "batch":
        return Folded(module, arrays)
    return _rescaled(module, arrays, LEARN2LEARN_EPSILON)


def _rescaled(module: Conv4, arrays: dict[str, np.ndarray], epsilon: float) -> Folded:
    """The network with another epsilon and scaled convolutions.

    c x normalised with c^2 e equals x normalised with e, by the statistics of a batch and by
    running ones that are scaled likewise.
    """
    if module.norm_epsilon == epsilon:
        return Folded(module, arrays)
    factor = (epsilon / module.norm_epsilon) ** 0.5
    factors: dict[str, float] = {}
    for i in range(1, module.depth + 1):
        factors |= {f"params/conv{i}/{leaf}": factor for leaf in ("kernel", "bias")}
        factors |= {f"batch_stats/norm{i}/mean": factor, f"batch_stats/norm{i}/var": factor**2}
    scaled = {name: _times(array, factors.get(name)) for name, array in arrays.items()}
    return Folded(module.clone(norm_epsilon=epsilon), scaled, (_RESCALED,))


def _times(array: np.ndarray, factor: float | None) -> np.ndarray:
    if factor is None:
        return array
    wide: Any = array.astype(np.float64) * factor
    scaled: np.ndarray = wide.astype(array.dtype)
    return scaled
