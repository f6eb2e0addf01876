"""The multilayer perceptrons of few-shot regression and classification."""

import functools
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.validation import PositiveFloat
from vitjax.models.limits import Classes, Groups, LayerWidths, OptionalWidth
from vitjax.models.protocol import Model, Shapeless, numbers_in
from vitjax.models.registry import MODELS
from vitjax.nn.activations import ACTIVATIONS, Activation
from vitjax.nn.context import CONTEXT, context_parameters
from vitjax.nn.dtypes import Dtype, as_dtype, output_dtype
from vitjax.nn.initializers import uniform
from vitjax.nn.inputs import ImageError, check_width
from vitjax.nn.norm import Norm, check_groups, normalization

_LAYER = re.compile(r"(?:^|/)(?:dense|norm)(\d+)/")
_CONTEXT = re.compile(r"(^|/)context$")


class MLP(Model):
    """Dense layers with normalisation and activation, then a linear layer.

    Finn et al. 2017 (MAML), arXiv:1703.03400, Sec. 5.1 (sinusoids) and 5.2 (Omniglot without
    convolutions). Initialised as in cbfinn/maml: all kernels, also the last one, normal with
    standard deviation 0.01, truncated at two standard deviations, and all biases zero.

    Sows ``hidden1``, ``hidden2``, ... and ``logits``.

    Attributes:
        hidden: widths of the hidden layers.
        num_classes: number of outputs; 0 or None for no head: the model then returns the last
            hidden layer.
        activation: ``"relu"``, or the smooth ``"tanh"``, ``"softplus"`` or ``"gelu"``.
        norm: before each activation: ``"none"``, ``"batch"``, ``"group"`` or ``"layer"``.
        norm_groups: groups of group normalisation.
        norm_epsilon: added to the variance.
        weight_init: ``"truncated_normal"``, or ``"uniform"`` for kernels and biases within
            1 / sqrt(inputs), as in PyTorch's linear layers, and so in CAVIA and learn2learn.
        num_context: number of context parameters (Zintgraf et al. 2019, arXiv:1810.03642, Sec. 3),
            0 for none. The parameter ``context`` is appended to every input.
        axis_name: the mapped axis over which batch statistics are averaged; None for none.
        dtype: of the computation, as a dtype or its name.
        param_dtype: of the parameters, likewise.

    Raises:
        ConfigError: at construction, for a value that cannot be used.
    """

    context_name: ClassVar[str | None] = CONTEXT
    shapeless_fields: ClassVar[Mapping[str, Shapeless]] = {
        **dict.fromkeys(("norm_epsilon", "activation"), Shapeless()),
        "norm_groups": Shapeless(("norm", "group")),
    }
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)hidden\d+$",)
    input_ranks: ClassVar[tuple[int, ...]] = (1, 3)

    hidden: LayerWidths = (40, 40)
    num_classes: Classes | None = 1
    activation: Activation = "relu"
    norm: Norm = "none"
    norm_groups: Groups = 8
    norm_epsilon: PositiveFloat = 1e-3
    weight_init: Literal["truncated_normal", "uniform"] = "truncated_normal"
    num_context: OptionalWidth = 0
    axis_name: str | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        check_groups(self.norm, self.norm_groups, self.hidden)

    def layer_key(self, name: str) -> tuple[int, ...]:
        """The context with the first layer, then each layer, then the head."""
        if _CONTEXT.search(name):
            return 1, 1
        if layer := numbers_in(_LAYER, name):
            return 1, *layer
        return (2,)

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch *shape"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns the outputs, or without a head the last hidden layer.

        Args:
            inputs: floats; all axes but the first are flattened.
            train: normalise by the batch's statistics and update ``batch_stats``, which must then
                be mutable.

        Returns:
            (batch, num_classes), float32 or wider.

        Raises:
            ImageError: inputs without a batch axis, of the wrong dtype or of the wrong size.
        """
        if inputs.ndim < 2 or not jnp.issubdtype(inputs.dtype, jnp.floating):
            raise ImageError(
                f"inputs of shape {tuple(inputs.shape)} and dtype {inputs.dtype}: an MLP needs"
                " floats of (batch, ...), such as (batch, 1) for numbers"
            )
        dtype, out = as_dtype(self.dtype), output_dtype(self.param_dtype)
        norm = normalization(
            self.norm,
            train=train,
            epsilon=self.norm_epsilon,
            groups=self.norm_groups,
            axis_name=self.axis_name,
            dtype=dtype,
            param_dtype=self.param_dtype,
        )
        x = inputs.reshape(inputs.shape[0], -1).astype(dtype)
        if self.num_context:
            context = context_parameters(self, self.num_context, self.param_dtype)
            context = jnp.broadcast_to(context.astype(dtype), (x.shape[0], self.num_context))
            x = jnp.concatenate([x, context], axis=1)
        check_width(self, "dense1", x, "give inputs of the size they were initialised with")
        for i, width in enumerate(self.hidden, start=1):
            x = self._dense(width, x.shape[-1], dtype, f"dense{i}")(x)
            x = ACTIVATIONS[self.activation](norm(name=f"norm{i}")(x))
            self.sow("intermediates", f"hidden{i}", x)
        x = x.astype(out)
        if self.num_classes:
            x = self._dense(self.num_classes, x.shape[-1], out, "head")(x)
            self.sow("intermediates", "logits", x)
        return x

    def _dense(self, features: int, inputs: int, dtype: Any, name: str) -> nn.Dense:
        if self.weight_init == "uniform":
            kernel_init = bias_init = uniform(inputs**-0.5)
        else:
            kernel_init = nn.initializers.truncated_normal(0.01)
            bias_init = nn.initializers.zeros
        return nn.Dense(
            features,
            kernel_init=kernel_init,
            bias_init=bias_init,
            dtype=dtype,
            param_dtype=as_dtype(self.param_dtype),
            name=name,
        )


_MAML: dict[str, Any] = {"paper": "Finn et al. 2017 (MAML), arXiv:1703.03400", "year": 2017}

MODELS.register("mlp_sinusoid", image_size=None, input_shape=(1,), **_MAML)(MLP)
MODELS.register("mlp_omniglot", image_size=28, input_shape=(28, 28, 1), **_MAML)(
    functools.partial(MLP, hidden=(256, 128, 64, 64), num_classes=5, norm="batch")
)
