"""Activation functions by name."""

from collections.abc import Callable, Mapping
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vitjax.core.validation import OneOf

# All but ReLU and ReLU6 have derivatives of every order, which finite differences of a
# meta-gradient need.
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "relu6": jax.nn.relu6,
    "silu": jax.nn.silu,
}
Activation = Annotated[str, OneOf(ACTIVATIONS)]
