"""BL-net, whose layers have lateral connections over time, and its feed-forward controls."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.constraints import Bounds, Length
from vitjax.core.errors import ConfigError
from vitjax.models.convnet import ConvNet
from vitjax.models.limits import Depth, Limit, Pixels, StageWidths
from vitjax.models.protocol import Model
from vitjax.models.registry import MODELS, SYMMETRIC
from vitjax.nn.conv_norm import ConvNorm, Layers
from vitjax.nn.dtypes import output_dtype
from vitjax.nn.inputs import check_images
from vitjax.nn.window_pooling import max_pool

_GLOROT = nn.initializers.glorot_uniform()

WIDTHS = (96, 128, 192, 256, 512, 1024, 2048)
KERNELS = (7, 5, 3, 3, 3, 3, 1)

KernelSizes = Annotated[Sequence[Pixels], Length(), Limit(12)]
# Each has normalisations of its own; the paper unrolls 8.
TimeSteps = Annotated[int, Bounds(at_least=1), Limit(1_000)]


class SpoererNet(ConvNet):
    """What BL-net and its controls share: stages between max poolings, and a linear readout.

    Spoerer et al. 2020, doi:10.1371/journal.pcbi.1008215, Methods, with the initialisation, epsilon
    and momentum of the authors' code (TensorFlow's defaults). The paper also adds 1e-6 times the
    squares of all kernels to the loss, which is the part of an optimizer here.

    Attributes:
        widths: features of each stage; images are halved between two stages, not before the first.
        kernel_sizes: side of the kernels of each stage.

    The other attributes are those of `ConvNet`.

    Raises:
        ConfigError: the lengths of ``widths`` and ``kernel_sizes`` differ.
    """

    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)stage\d+$",)

    widths: StageWidths = WIDTHS
    kernel_sizes: KernelSizes = KERNELS

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) != len(self.kernel_sizes):
            raise ConfigError(
                f"kernel_sizes has {len(self.kernel_sizes)} entries for {len(self.widths)} widths;"
                " each stage needs one of both"
            )

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """The side of which the last stage has one pixel."""
        return int(2 ** (len(self.widths) - 1))

    def spoerer_layers(self, train: bool) -> Layers:
        """`layers` with what the authors' code leaves to TensorFlow's defaults."""
        return self.layers(train, epsilon=1e-3, momentum=0.99, kernel_init=_GLOROT)

    def stages(self) -> list[tuple[str, int, int]]:
        """The name, the features and the side of the kernels of each stage."""
        sizes = zip(self.widths, self.kernel_sizes, strict=True)
        return [(f"stage{i}", *each) for i, each in enumerate(sizes, start=1)]


class BNet(SpoererNet):
    """A feed-forward control of BL-net: convolution, batch normalisation and ReLU.

    Spoerer et al. 2020, doi:10.1371/journal.pcbi.1008215, Methods. B-net is BL-net without lateral
    connections. Three others replace these by other parameters: B-K by larger kernels, B-F by
    twice the features, and B-D by twice the layers, which are as many as BL-net's convolutions.

    Attributes:
        repeats: convolutions of each stage.

    The other attributes are those of `SpoererNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stage1_block1/conv/kernel",)

    repeats: Depth = 1

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of each stage."""
        layers, x = self.spoerer_layers(train), images
        found: dict[str, Array] = {}
        for name, width, kernel in self.stages():
            x = max_pool(x, 2, 2) if found else x
            for i in range(1, self.repeats + 1):
                x = ConvNorm(layers, width, kernel, name=f"{name}_block{i}")(x)
            found[name] = x
        return found

    def classifier(
        self, x: Float[Array, "batch width"], train: bool, **initialisers: Any
    ) -> Float[Array, "batch outputs"]:
        """As of `ConvNet`, with the initialisation of the authors' code."""
        initial = {"kernel_init": _GLOROT, "bias_init": nn.initializers.zeros}
        return super().classifier(x, train, **{**initial, **initialisers})


class RecurrentLayer(nn.Module):
    """A convolutional layer with lateral connections from its own state of the step before.

    ``h_t = relu(norm_t(bottom_up + lateral * h_{t-1}))``: Spoerer et al. 2020,
    doi:10.1371/journal.pcbi.1008215, Methods. The convolutions have no bias and are the same at
    each step; the normalisation ``norm1``, ``norm2``, ... is one of its own per step.

    Sows ``step1``, ``step2``, ..., the states.

    Attributes:
        layers: what the network's layers share.
        features: output channels.
        kernel_size: side of both kernels.
    """

    layers: Layers
    features: int
    kernel_size: int

    @nn.compact
    def bottom_up(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch height width features"]:
        """The convolution of what the layer below gives."""
        return self.layers.conv(self.features, self.kernel_size, name="bottom_up_conv")(x)

    @nn.compact
    def __call__(
        self,
        bottom_up: Float[Array, "batch height width features"],
        before: Float[Array, "batch height width features"] | None,
        step: int,
    ) -> Float[Array, "batch height width features"]:
        """The state at ``step``, counted from 1; ``before`` is that of the step before, if any."""
        x = bottom_up
        if before is not None:
            x = x + self.layers.conv(self.features, self.kernel_size, name="lateral_conv")(before)
        x = jax.nn.relu(self.layers.norm(name=f"norm{step}")(x))
        self.sow("intermediates", f"step{step}", x)
        return x


class BLNet(SpoererNet):
    """Convolutional layers with lateral connections, unrolled over time, and a readout per step.

    Spoerer et al. 2020, doi:10.1371/journal.pcbi.1008215, Methods. At each time step the image
    enters again, and passes through all layers. The readout, global average pooling and a dense
    layer, has the same weights at each step.

    In training the logits are those of the last step, and `auxiliary_logits` has those of the
    others: the paper adds up the losses of all steps, each of the readout at that step alone. The
    maps of `features` are those of the last step.

    Attributes:
        time_steps: how often the image passes through the layers.
        readout: of evaluation: ``"instantaneous"`` for the logits of a step alone, which the paper
            trains, or ``"cumulative"`` for the sum of the logits of all steps up to it.

    The other attributes are those of `SpoererNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stage1_block1/bottom_up_conv/kernel",)
    evaluation_fields: ClassVar[tuple[str, ...]] = ("readout",)

    time_steps: TimeSteps = 8
    readout: Literal["instantaneous", "cumulative"] = "instantaneous"

    @property
    def auxiliary_logits(self) -> Mapping[str, float]:
        """The logits of all steps but the last, with equal weights."""
        if not self.num_classes:
            return {}
        return {f"step{step}": 1.0 for step in range(1, self.time_steps)}

    @nn.compact
    def maps_over_time(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> list[dict[str, Array]]:
        """The map of each stage, at each time step."""
        shared = self.spoerer_layers(train)
        layers = {
            name: RecurrentLayer(shared, width, kernel, name=f"{name}_block1")
            for name, width, kernel in self.stages()
        }
        steps: list[dict[str, Array]] = []
        first, *_ = layers
        # The same at each step.
        of_image = layers[first].bottom_up(images)
        for step in range(1, self.time_steps + 1):
            before, found = steps[-1] if steps else {}, {}
            x = of_image
            for name, layer in layers.items():
                x = of_image if name == first else layer.bottom_up(max_pool(x, 2, 2))
                x = found[name] = layer(x, before.get(name), step)
            steps.append(found)
        return steps

    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of each stage at the last time step."""
        return self.maps_over_time(images, train)[-1]

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns the logits of the last step, or without a head its input.

        Args:
            images: floats.
            train: as of `ConvNet`; also computes the `auxiliary_logits`.

        Returns:
            (batch, num_classes), float32 or wider.

        Raises:
            ImageError: images of the wrong rank, dtype or size.
        """
        *earlier, logits = self._read(images, train)
        if self.needs_auxiliary(train):
            for name, each in zip(self.auxiliary_logits, earlier, strict=True):
                self.sow_auxiliary(name, each)
        return logits

    def logits_over_time(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "time batch classes"]:
        """The logits of each time step in evaluation, by the `readout`."""
        return self._read(images, train=False)

    def only_head(self, head: Mapping[str, Any]) -> Model:
        """As of `Model`.

        Raises:
            ConfigError: also for the cumulative readout, which reads all time steps.
        """
        if self.readout == "cumulative":
            raise ConfigError(
                "the head alone reads the last time step: set config.model.readout to"
                " 'instantaneous'"
            )
        return super().only_head(head)

    @nn.compact
    def _read(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "time batch outputs"]:
        check_images(images, self.smallest_image)
        steps = self.maps_over_time(images, train)
        for name, value in steps[-1].items():
            self.sow("intermediates", name, value)
        last = [list(found.values())[-1] for found in steps]
        pooled = jnp.stack(
            [jnp.mean(x, axis=(1, 2), dtype=output_dtype(self.param_dtype)) for x in last]
        )
        self.sow("intermediates", "pooled", pooled[-1])
        if not self.num_classes:
            return pooled
        logits = self.dense(
            self.drop(pooled, train),
            self.num_classes,
            "head",
            kernel_init=_GLOROT,
            bias_init=nn.initializers.zeros,
        )
        if self.readout == "cumulative" and not train:
            logits = jnp.cumsum(logits, axis=0)
        self.sow("intermediates", "logits", logits[-1])
        return logits


_MEMBERS: dict[str, Callable[..., Model]] = {
    "bl_net": BLNet,
    "b_net": BNet,
    "b_k_net": functools.partial(BNet, kernel_sizes=(11, 7, 5, 5, 5, 5, 3)),
    "b_f_net": functools.partial(BNet, widths=tuple(2 * width for width in WIDTHS)),
    "b_d_net": functools.partial(BNet, repeats=2),
}
for _name, _model in _MEMBERS.items():
    MODELS.register(
        _name,
        image_size=128,
        paper="Spoerer et al. 2020, doi:10.1371/journal.pcbi.1008215",
        year=2020,
        **SYMMETRIC,
    )(_model)
