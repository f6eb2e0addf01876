"""LeNet-5 as in the paper, and in the form that is trained today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vitjax.models.convnet import ConvNet
from vitjax.models.limits import Classes
from vitjax.models.protocol import Shapeless
from vitjax.models.registry import MODELS
from vitjax.nn.activations import Activation
from vitjax.nn.conv import Initializer
from vitjax.nn.conv_norm import Layers
from vitjax.nn.convolution import convolve
from vitjax.nn.dtypes import output_dtype
from vitjax.nn.initializers import pytorch_kernel
from vitjax.nn.window_pooling import average_pool, max_pool

# Channels of C1, C3 and C5, and outputs of F6.
C1, C3, C5, F6 = 6, 16, 120, 84
# Sides of all kernels and of all pooling windows.
KERNEL, POOL = 5, 2

# LeCun et al. 1998, Table I: the maps of S2 that each map of C3 reads.
CONNECTIONS: tuple[tuple[int, ...], ...] = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
# The digits 0 to 9 of Fig. 3, whose bitmaps have 7 x 12 pixels.
DIGITS = """
.#####. ...##.. .#####. ####### .#####. .#####. ..####. ####### .#####. .#####.
....... ..###.. ....... .....## ....... ....... .##.... .....## ##...## ##..###
..###.. .####.. .#####. ....##. ....... ####### ##..... .....## ##...## ##...##
.##.##. ...##.. ##...## ...##.. .##..## ##..... ##..... ....##. ##...## ##...##
##...## ...##.. #....## ..####. .##..## ##..... ######. ...##.. .#####. ##..###
##...## ...##.. ....##. .....## ###..## .####.. ###..## ...##.. ##...## .######
##...## ...##.. ..###.. .....## ##...## ..####. ##...## ..##... ##...## .....##
##...## ...##.. .##.... .....## ##...## .....## ##...## ..##... ##...## .....##
.##.##. ...##.. ##..... ##...## ##..### ##...## ###..## ..##... ##...## ....##.
..###.. .###### ####### .#####. .###### .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
"""


def squash(x: Array) -> Array:
    """``1.7159 tanh(2 x / 3)``: LeCun et al. 1998, Eq. 6 and App. A."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


def output_codes(num_classes: int) -> Float[np.ndarray, "classes 84"]:
    """The vectors of +1 and -1 that stand for the classes: LeCun et al. 1998, Sec. II-B.

    Ten classes have the bitmaps of the digits (Fig. 3), row by row. Any other number has random
    codes, +1 and -1 with equal probability, which the paper names as the alternative. They are
    always the same, and do not depend on the number of classes.
    """
    if num_classes == 10:
        rows = [row.split() for row in DIGITS.split("\n") if row]
        bitmaps = np.array([[list(digit) for digit in row] for row in rows])
        ink = (bitmaps == "#").transpose(1, 0, 2).reshape(num_classes, F6)
    else:
        # Raw bits, which no version of NumPy changes.
        words = np.random.PCG64(1998).random_raw((num_classes, 2))
        bits = (words[:, :, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
        ink = bits.reshape(num_classes, -1)[:, :F6] == 1
    return np.where(ink, 1.0, -1.0)


def _initial(inputs: int | np.ndarray) -> Initializer:
    """Uniform within 2.4 / inputs: LeCun et al. 1998, App. A.

    Args:
        inputs: of a unit; an array for units along the last axis that have different ones.
    """

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        limits = jnp.asarray(2.4 / inputs, dtype)
        return jax.random.uniform(key, shape, dtype, -1, 1) * limits

    return init


class Subsampling(nn.Module):
    """The sum of each 2 x 2 window, a coefficient and a bias of each map, and `squash`.

    LeCun et al. 1998, Sec. II-B, layers S2 and S4.

    Attributes:
        dtype: of the computation.
        param_dtype: of the parameters.
    """

    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width maps"]
    ) -> Float[Array, "batch new_height new_width maps"]:
        """Applies the layer."""
        init, shape = _initial(POOL**2), x.shape[-1:]
        scale = self.param("scale", init, shape, self.param_dtype).astype(self.dtype)
        bias = self.param("bias", init, shape, self.param_dtype).astype(self.dtype)
        sums = average_pool(x, POOL, POOL) * POOL**2
        return squash(sums * scale + bias)


class PartialConv(nn.Module):
    """A convolution without padding, each of whose maps reads some of the input's.

    LeCun et al. 1998, Sec. II-B and Table I. The kernel has one 5 x 5 matrix per connection, in the
    order of `CONNECTIONS`.

    Attributes:
        layers: what the network's layers share.
    """

    layers: Layers

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width 6"]
    ) -> Float[Array, "batch new_height new_width 16"]:
        """Convolves ``x``."""
        layers = self.layers
        maps = np.array([len(each) for each in CONNECTIONS])
        inputs = KERNEL**2 * maps
        init, shape = _initial(np.repeat(inputs, maps)), (KERNEL, KERNEL, sum(maps.tolist()))
        kernel = self.param("kernel", init, shape, layers.param_dtype)
        bias = self.param("bias", _initial(inputs), (len(CONNECTIONS),), layers.param_dtype)
        # The last matrix is that of maps without a connection.
        kernel = jnp.pad(kernel, [(0, 0), (0, 0), (0, 1)])
        full = kernel[:, :, _matrices()]
        x = convolve(x.astype(layers.dtype), full.astype(layers.dtype), impl=layers.conv_impl)
        return x + bias.astype(layers.dtype)


def _matrices() -> np.ndarray:
    """The number of the matrix for each input and output map (in, out); -1 for none."""
    found, number = np.full((C1, C3), -1), 0
    for output, maps in enumerate(CONNECTIONS):
        for each in maps:
            found[each, output] = number
            number += 1
    return found


class LeNet5(ConvNet):
    """Three convolutions without padding, two poolings, and two dense layers.

    LeCun et al. 1998, doi:10.1109/5.726791, in the form in which it is taught and trained today:
    every map of C3 reads all maps of S2, poolings have no parameters, and the output layer is
    dense. The defaults, tanh and average pooling, are nearest to the paper. PyTorch's tutorial
    "Neural Networks" has ``activation="relu"`` and ``pooling="max"``, with the same parameters and
    initialisation. `LeNet5Paper` is the network of the paper.

    Images have at least 32 x 32 pixels: pad those of MNIST, which have 28 x 28, by 2 on each side.
    The maps that C5 has for larger images are averaged. The maps of `features` are C1, C3 and S4.

    Attributes:
        activation: after each layer but the last.
        pooling: over windows of 2 x 2 pixels.

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stage1_conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stage\d+|last)$",)
    aligned_features: ClassVar[bool] = False
    shapeless_fields: ClassVar[Mapping[str, Shapeless]] = {
        "activation": Shapeless(),
        "pooling": Shapeless(),
    }

    num_classes: Classes | None = 10
    activation: Activation = "tanh"
    pooling: Literal["average", "max"] = "average"

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """C1, C3 and S4."""
        layers, pool = self._layers(train), max_pool if self.pooling == "max" else average_pool
        c1 = layers.conv(C1, KERNEL, use_bias=True, name="stage1_conv")(images)
        c1 = layers.activate(c1)
        c3 = layers.conv(C3, KERNEL, use_bias=True, name="stage2_conv")(pool(c1, POOL, POOL))
        c3 = layers.activate(c3)
        return {"stage1": c1, "stage2": c3, "last": pool(c3, POOL, POOL)}

    @nn.compact
    def classify(self, x: Array, train: bool) -> Float[Array, "batch outputs"]:
        """The layers ``c5``, ``f6`` and ``head``."""
        layers = self._layers(train)
        x = layers.activate(layers.conv(C5, KERNEL, use_bias=True, name="c5")(x))
        x = jnp.mean(x, axis=(1, 2), dtype=output_dtype(self.param_dtype))
        return self.classifier(layers.activate(self.dense(x, F6, "f6")), train)

    def _layers(self, train: bool) -> Layers:
        return self.layers(
            train,
            kernel_init=pytorch_kernel,
            bias_init="pytorch",
            activation=self.activation,
            padding=0,
        )


class LeNet5Paper(ConvNet):
    """LeNet-5 with sub-sampling that is trained, partial connections and fixed output codes.

    LeCun et al. 1998, doi:10.1109/5.726791, Sec. II-B and App. A: 60,000 parameters.

    - C1, C3, C5: convolutions without padding; each map of C3 reads those of S2 in `CONNECTIONS`;
    - S2, S4: `Subsampling`;
    - F6: a dense layer of 84 outputs, and `squash`, as after every layer before;
    - the output: the squared distance y of F6 to the code of each class (Eq. 7). These
      `output_codes` are fixed, so that the head has no parameters.

    Weights and biases are uniform within 2.4 / inputs. The paper's learning rates of single
    parameters (App. C) are left to the optimizer.

    The logits are -y. With these the loss of Eq. 8 is minus the logit of the right class. That of
    Eq. 9, ``y + log(exp(-j) + sum_i exp(-y_i))``, is the cross-entropy with one more class, for
    images of none, whose logit is always -j. Without that class, the limit of large j, it is the
    ordinary cross-entropy.

    Images have at least 32 x 32 pixels, and values in [-0.1, 1.175]. The maps that C5 has for
    larger images are averaged. The maps of `features` are C1, C3 and S4.

    The attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stage1_conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stage\d+|last)$",)
    aligned_features: ClassVar[bool] = False

    num_classes: Classes | None = 10

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """C1, C3 and S4."""
        layers = self._layers(train, KERNEL**2 * images.shape[-1])
        c1 = squash(layers.conv(C1, KERNEL, use_bias=True, name="stage1_conv")(images))
        s2 = Subsampling(**self.dtypes, name="stage1_pool")(c1)
        c3 = squash(PartialConv(layers, name="stage2_conv")(s2))
        s4 = Subsampling(**self.dtypes, name="stage2_pool")(c3)
        return {"stage1": c1, "stage2": c3, "last": s4}

    @nn.compact
    def classify(self, x: Array, train: bool) -> Float[Array, "batch outputs"]:
        """Minus the distances to the codes, or without a head what F6 gives."""
        layers = self._layers(train, KERNEL**2 * C3)
        x = squash(layers.conv(C5, KERNEL, use_bias=True, name="c5")(x))
        x = jnp.mean(x, axis=(1, 2), dtype=output_dtype(self.param_dtype))
        init = _initial(C5)
        x = squash(self.dense(x, F6, "f6", kernel_init=init, bias_init=init))
        self.sow("intermediates", "pooled", x)
        if not self.num_classes:
            return x
        codes = jnp.asarray(output_codes(self.num_classes), x.dtype)
        distances = jnp.square(self.drop(x, train)[:, None] - codes).sum(-1)
        self.sow("intermediates", "logits", -distances)
        return -distances

    def _layers(self, train: bool, inputs: int) -> Layers:
        """Constructors of convolutions whose outputs have ``inputs`` inputs."""
        init = _initial(inputs)
        return self.layers(train, kernel_init=init, bias_init=init, padding=0)


_PAPER: dict[str, Any] = {
    "paper": "LeCun et al. 1998, doi:10.1109/5.726791",
    "year": 1998,
    "image_size": 32,
    "input_shape": (32, 32, 1),
}
# The mean and the standard deviation of MNIST's training images.
MODELS.register("lenet5", **_PAPER, mean=(0.1307,), std=(0.3081,))(LeNet5)
# The paper has -0.1 for the background and 1.175 for ink (Sec. II-B), which are 0 and 1 in MNIST.
MODELS.register("lenet5_paper", **_PAPER, mean=(0.1 / 1.275,), std=(1 / 1.275,))(LeNet5Paper)
