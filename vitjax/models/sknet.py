"""SK-ResNet: bottlenecks whose middle selects between kernel sizes."""

import functools
from typing import Any

import flax.linen as nn
from jaxtyping import Array

from vitjax.models.bottleneck_net import Bottleneck, BottleneckNet
from vitjax.models.limits import Groups, Width
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.nn.channels import round_channels
from vitjax.nn.conv_norm import Layers
from vitjax.nn.selective_kernel import SelectiveKernel

# Channels of the middle over those that its weights are computed from (arXiv:1903.06586, Sec. 3.2).
REDUCTION = 16


class SKBottleneck(Bottleneck):
    """A bottleneck with a selective kernel convolution in its middle.

    Attributes:
        divisor: of the channels that its weights are computed from.
        split: see `SelectiveKernel`.
    """

    divisor: int = 8
    split: bool = True

    def middle(self, x: Array) -> Array:
        """The selective kernel convolution."""
        reduced = round_channels(self.width / REDUCTION, self.divisor)
        return SelectiveKernel(
            self.layers, self.width, self.strides, self.groups, reduced, self.split, name="conv2"
        )(x)


class SKNet(BottleneckNet):
    """A residual network of selective kernels.

    Li et al. 2019, arXiv:1903.06586, Sec. 3.2 and Table 1, in the form of timm: ``split`` gives
    each branch half of the channels, by which ``skresnet50`` is as large as ResNet-50.

    Attributes:
        groups: of the middle convolutions.
        base_width: channels of a group in a stage of 64 channels.
        divisor: of the channels that the weights of kernels are computed from.
        split: see `vitjax.nn.selective_kernel.SelectiveKernel`.

    The other attributes are those of `BottleneckNet`.
    """

    groups: Groups = 1
    base_width: Width = 64
    divisor: Width = 8
    split: bool = True

    def block(self, name: str, layers: Layers, planes: int, strides: int) -> nn.Module:
        """A block, see `BottleneckNet.block`."""
        inner = planes * self.base_width // 64 * self.groups
        zero, groups = self.zero_init_residual, self.groups
        own = (layers, planes, strides, zero, inner, groups, self.divisor, self.split)
        return SKBottleneck(*own, name=name)


_NEXT: dict[str, Any] = {"groups": 32, "base_width": 4, "divisor": 32, "split": False}
for _name, _fields in {"skresnet50": {}, "skresnext50_32x4d": _NEXT}.items():
    MODELS.register(
        _name,
        image_size=224,
        paper="Li et al. 2019, arXiv:1903.06586",
        year=2019,
        **IMAGENET,
    )(functools.partial(SKNet, **_fields))
