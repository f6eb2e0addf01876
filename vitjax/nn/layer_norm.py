"""Layer normalisation over the channels of each token."""

from typing import Any

import flax.linen as nn

from vitjax.nn.dtypes import as_dtype

# Of google-research/vision_transformer and of timm.
LAYER_NORM_EPSILON = 1e-6


def layer_norm(
    name: str, dtype: Any, param_dtype: Any, epsilon: float = LAYER_NORM_EPSILON
) -> nn.LayerNorm:
    """Layer normalisation (Ba et al. 2016, arXiv:1607.06450, Sec. 3.1), as the ViT family uses it.

    The variance is computed around the mean: E[x^2] - E[x]^2 has no correct digits in the channels
    of very large mean that trained ViTs have.
    """
    return nn.LayerNorm(
        epsilon=epsilon,
        use_fast_variance=False,
        dtype=as_dtype(dtype),
        param_dtype=as_dtype(param_dtype),
        name=name,
    )
