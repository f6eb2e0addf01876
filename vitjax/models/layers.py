"""What several families share: convolution, stochastic regularisers, checks of what is given."""

from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.errors import UserError
from vitjax.models.convolution import convolve
from vitjax.registry import ConfigError, near_match

Initializer = Callable[..., Any]


class ImageError(UserError):
    """Images of a shape or type that a model cannot take."""


def as_dtype(dtype: Any) -> jnp.dtype:
    """The floating dtype that ``dtype`` names, be it a dtype or text such as ``"bfloat16"``.

    Raises:
        ConfigError: no such dtype, or not a floating one.
    """
    known = ("bfloat16", "float16", "float32", "float64")
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if dtype is None or found is None or not jnp.issubdtype(found, jnp.floating):
        raise ConfigError(
            f"{dtype!r} is not a floating dtype{near_match(dtype, known)} (known: "
            f"{', '.join(known)})"
        )
    return found


def output_dtype(param_dtype: Any) -> jnp.dtype:
    """The dtype of logits: float32, or that of the parameters where that is wider.

    Logits in bfloat16 carry eight bits, too few for a loss to be compared between runs.
    """
    return jnp.promote_types(jnp.float32, as_dtype(param_dtype))


def check_choice(field: str, value: Any, choices: Iterable[str]) -> None:
    """Raises ConfigError unless the ``value`` of ``field`` is one of ``choices``."""
    choices = tuple(choices)
    if value not in choices:
        raise ConfigError(
            f"{field}={value!r}{near_match(str(value), choices)} (choices: {', '.join(choices)})"
        )


def check_rate(field: str, value: float) -> None:
    """Raises ConfigError unless ``value`` is a probability below one."""
    if not 0 <= value < 1:
        raise ConfigError(f"{field}={value!r}: a rate lies in [0, 1)")


def check_positive(field: str, *values: int) -> None:
    """Raises ConfigError unless ``field`` has values, and all of them are one or more."""
    if not values or any(isinstance(v, bool) or v < 1 for v in values):
        given = values[0] if len(values) == 1 else list(values)
        raise ConfigError(f"{field}={given!r}: it counts from one")


def check_images(images: Any) -> None:
    """Raises ImageError unless ``images`` are floats of shape (batch, height, width, channels)."""
    if images.ndim != 4:
        raise ImageError(
            f"images of shape {tuple(images.shape)}: a model takes (batch, height, width, channels)"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ImageError(
            f"images of dtype {images.dtype}: a model takes floats; scale and normalise them first"
        )


class Conv(nn.Module):
    """Two-dimensional convolution whose padding is explicit, as PyTorch's is.

    XLA's ``"SAME"`` pads a stride-2 convolution more at the end than at the beginning, so a network
    trained with symmetric padding gives other outputs under it.

    Attributes:
        features: output channels.
        kernel_size: height and width of the kernel, in pixels.
        strides: step in both directions, in pixels.
        padding: zeros on each side, or None for what keeps the size at stride 1: ``(k - 1) // 2``
            before and the rest of ``k - 1`` after.
        use_bias: whether a bias is added.
        standardize_epsilon: with a number, each output channel's kernel is brought to zero mean and
            unit variance before use, with this added to the variance (weight standardisation,
            arXiv:1903.10520, Eq. 3 to 5).
        kernel_init: initialiser of the (height, width, in, out) kernel.
        conv_impl: how it is computed: one of `vitjax.models.convolution.CONV_IMPLS`.
        dtype: of the computation.
        param_dtype: of the parameters.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: int | None = None
    use_bias: bool = False
    standardize_epsilon: float | None = None
    kernel_init: Initializer = nn.initializers.lecun_normal()
    conv_impl: str = "auto"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width in"], defer_bias: bool = False) -> Any:
        """Convolves ``x``.

        Args:
            x: floats.
            defer_bias: leave the bias to the next layer, and return it as well.

        Returns:
            (batch, new_height, new_width, features); with ``defer_bias`` a pair of that, without a
            bias, and the bias, (features,).
        """
        dtype, param_dtype = as_dtype(self.dtype), as_dtype(self.param_dtype)
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, param_dtype)
        if self.standardize_epsilon is not None:
            kernel = standardize(kernel, self.standardize_epsilon)
        if self.padding is None:
            padding = [((k - 1) // 2, k - 1 - (k - 1) // 2) for k in self.kernel_size]
        else:
            padding = [(self.padding, self.padding)] * 2
        x = convolve(x.astype(dtype), kernel.astype(dtype), self.strides, padding, self.conv_impl)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), param_dtype)
            if defer_bias:
                return x, bias
            x = x + bias.astype(dtype)
        return x


def standardize(
    kernel: Float[Array, "height width in out"], epsilon: float
) -> Float[Array, "height width in out"]:
    """Brings each output channel's kernel to zero mean and unit variance (arXiv:1903.10520)."""
    mean = jnp.mean(kernel, axis=(0, 1, 2), keepdims=True)
    variance = jnp.var(kernel, axis=(0, 1, 2), keepdims=True)
    return (kernel - mean) * jax.lax.rsqrt(variance + epsilon)


def dropout(
    x: Float[Array, "*shape"], rate: float, key: PRNGKeyArray | None
) -> Float[Array, "*shape"]:
    """Zeroes each element with probability ``rate`` and scales the rest by ``1 / (1 - rate)``.

    The key is an argument, where Linen's own dropout draws one by the path of the module, so that
    layers run by a scan and layers run one by one drop the same elements.

    Args:
        x: activations.
        rate: probability of zero.
        key: randomness, or None to return ``x`` as it is.
    """
    if key is None or rate == 0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


def drop_path(
    x: Float[Array, "batch *shape"], rate: float | Array, key: PRNGKeyArray | None
) -> Float[Array, "batch *shape"]:
    """Zeroes each example's whole ``x`` with probability ``rate`` and scales the rest to match.

    Stochastic depth: Huang et al. 2016, arXiv:1603.09382, Sec. 3.

    Args:
        x: output of a residual branch.
        rate: probability of zero; may be traced, because it differs from layer to layer.
        key: randomness, or None to return ``x`` as it is.
    """
    if key is None:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


class LayerScale(nn.Module):
    """Multiplies each channel by a learned number (Touvron et al. 2021, arXiv:2103.17239, Eq. 4).

    Attributes:
        initial: the number that every channel starts with.
        dtype: of the computation.
        param_dtype: of the parameters.
    """

    initial: float
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """Scales ``x``."""
        scale = self.param(
            "scale",
            nn.initializers.constant(self.initial),
            (x.shape[-1],),
            as_dtype(self.param_dtype),
        )
        return x * scale.astype(as_dtype(self.dtype))
