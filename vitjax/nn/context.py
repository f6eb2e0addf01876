"""Context parameters, which CAVIA adapts to each episode."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from vitjax.nn.dtypes import as_dtype

# The entry of a model's parameters.
CONTEXT = "context"


def context_parameters(module: nn.Module, count: int, param_dtype: Any) -> Float[Array, "context"]:
    """The parameter ``context`` of ``module``: ``count`` numbers, initially zeros.

    Zintgraf et al. 2019 (CAVIA), arXiv:1810.03642, Sec. 3: the parameters that adapt to an episode.
    """
    return module.param(CONTEXT, nn.initializers.zeros, (count,), as_dtype(param_dtype))
