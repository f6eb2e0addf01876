"""ResNeXt and SE-ResNet: bottlenecks with grouped convolutions, and with squeeze and excitation."""

import functools
from typing import Any, Literal

import flax.linen as nn
from jaxtyping import Array

from vitjax.models.bottleneck_net import EXPANSION, Bottleneck, BottleneckNet
from vitjax.models.limits import Groups, Width
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.nn.channels import round_channels
from vitjax.nn.conv_norm import Layers
from vitjax.nn.squeeze_excite import SqueezeExcite

# Channels of a block's output over those between the layers of its attention.
REDUCTION = 16


class SEBottleneck(Bottleneck):
    """A bottleneck whose branch ends with squeeze and excitation (arXiv:1709.01507, Fig. 3)."""

    @property
    def reduced(self) -> int:
        """Channels between the layers of its attention, rounded as timm does."""
        return round_channels(self.planes * EXPANSION / REDUCTION, fraction=0.0)

    def attend(self, x: Array) -> Array:
        """Squeeze and excitation ``attention``."""
        return SqueezeExcite(self.layers, self.reduced, name="attention")(x)


class ResNeXt(BottleneckNet):
    """A residual network with grouped convolutions or squeeze and excitation.

    Xie et al. 2017, arXiv:1611.05431, Sec. 3 and Table 1; Hu et al. 2018, arXiv:1709.01507, Sec. 3.

    Attributes:
        groups: of the middle convolutions, the paper's cardinality.
        base_width: channels of a group in a stage of 64 channels.
        attention: ``"se"`` for squeeze and excitation at the end of each branch.

    The other attributes are those of `BottleneckNet`.
    """

    groups: Groups = 1
    base_width: Width = 64
    attention: Literal["none", "se"] = "none"

    def block(self, name: str, layers: Layers, planes: int, strides: int) -> nn.Module:
        """A block, see `BottleneckNet.block`."""
        kind = SEBottleneck if self.attention == "se" else Bottleneck
        inner = planes * self.base_width // 64 * self.groups
        return kind(layers, planes, strides, self.zero_init_residual, inner, self.groups, name=name)


_RESNEXT: dict[str, Any] = {
    "paper": "Xie et al. 2017, arXiv:1611.05431",
    "year": 2017,
    "accuracy_source": "torchvision IMAGENET1K_V1",
}
_SE: dict[str, Any] = {
    "paper": "Hu et al. 2018 (squeeze and excitation), arXiv:1709.01507",
    "year": 2018,
}
for _name, _facts, _fields in (
    ("resnext50_32x4d", {**_RESNEXT, "accuracy": 77.618}, {"groups": 32, "base_width": 4}),
    (
        "resnext101_32x8d",
        {**_RESNEXT, "accuracy": 79.312},
        {"stage_sizes": (3, 4, 23, 3), "groups": 32, "base_width": 8},
    ),
    # timm, the reference, starts its branches at zero.
    ("seresnet50", _SE, {"attention": "se", "zero_init_residual": True}),
):
    MODELS.register(_name, image_size=224, **_facts, **IMAGENET)(
        functools.partial(ResNeXt, **_fields)
    )
