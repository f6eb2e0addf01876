"""U-Net++: a U-Net with further blocks on its skips, densely connected at each level."""

import functools
import re
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.models.limits import Halvings, StageWidths, Width
from vitjax.models.protocol import numbers_in
from vitjax.models.registry import MODELS
from vitjax.models.segmentation import SegmentationModel
from vitjax.models.unet import level_widths
from vitjax.nn.inputs import check_images
from vitjax.nn.norm import check_groups
from vitjax.nn.pooling import max_pool
from vitjax.nn.unet import DoubleConv, center_crop, reflect_to_multiple

_NODE = re.compile(r"(?:^|/)(?:up|node)(\d+)_(\d+)/")


class UNetPlusPlus(SegmentationModel):
    """Nodes x(i, j) that read all earlier nodes of their level and one of the level below.

    Zhou et al. 2018, arXiv:1807.10165, Sec. 3.1, Eq. 1: x(i, 0) is the encoder, and x(i, j) a block
    over x(i, 0), ..., x(i, j - 1) and x(i + 1, j - 1) doubled. With deep supervision (Sec. 3.2)
    each of x(0, 1), ..., x(0, depth) has a head. In training the model returns a tuple of their
    logits, the shallowest first; in evaluation it averages them (the paper's accurate mode), or
    computes the one that ``prune`` chooses (fast mode).

    Convolutions pad with zeros, and images may have any size: they are mirrored at their borders
    until 2^depth divides their sides, and the logits are cropped back.

    Sows ``logits`` and each block's ``output``.

    Attributes:
        filters: channels of the first level; each further level has twice as many.
        depth: number of times that the map is halved.
        widths: channels of each level, the finest first and the bottom last: depth + 1 numbers that
            replace ``filters``.
        deep_supervision: a head on every column instead of the last one only.
        prune: in evaluation, the only column whose head is read, 1 to depth; None to average all.
            Parameters that are not used remain. Needs deep supervision, without which only the last
            head is trained.

    The other attributes are those of `vitjax.models.segmentation.SegmentationModel`.

    Raises:
        ConfigError: at construction, for a value that cannot be used.
    """

    head_name: ClassVar[str | None] = r"head\d+"
    image_kernels: ClassVar[tuple[str, ...]] = ("node0_0/conv1/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)output$",)
    evaluation_fields: ClassVar[tuple[str, ...]] = ("prune",)

    filters: Width = 32
    depth: Halvings = 4
    widths: StageWidths | None = None
    deep_supervision: bool = True
    prune: Halvings | None = None

    def __post_init__(self):
        super().__post_init__()
        widths = level_widths(self.filters, self.depth, self.widths)
        check_groups(self.norm, self.norm_groups, widths)
        if self.prune is not None:
            if not self.deep_supervision:
                raise ConfigError(
                    f"prune={self.prune!r}: without deep_supervision only the last column has a"
                    " head; set deep_supervision=True, also in training, or leave prune out"
                )
            if self.prune > self.depth:
                raise ConfigError(
                    f"prune={self.prune!r}: the columns are 1 to {self.depth} (depth)"
                )

    def layer_key(self, name: str) -> tuple[int, ...]:
        """Each node x(i, j) in the order of computation, then the heads."""
        if node := numbers_in(_NODE, name):
            row, column = node
            return 1, row + column, column
        return (2,)

    @property
    def map_name(self) -> str | None:
        """As of `Model`: the coarsest map."""
        return f"node{self.depth if self.prune is None else self.prune}_0/output"

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch height width classes"] | tuple[Array, ...]:
        """Returns the logits of every pixel, or without a head the input of the last one.

        Args:
            images: floats, of any number of channels.
            train: normalise by the batch's statistics and update ``batch_stats``, which must then
                be mutable; with deep supervision, return the logits of every head.

        Returns:
            (batch, height, width, num_classes), float32 or wider; in training with deep supervision
            a tuple of ``depth`` of them.

        Raises:
            ImageError: images of the wrong rank or dtype, or without pixels.
        """
        check_images(images)
        height, width = images.shape[1:3]
        pruned = None if train or self.is_initializing() else self.prune
        columns = pruned or self.depth
        rows = self._rows(reflect_to_multiple(images, 2**self.depth), columns, train)

        if not (self.deep_supervision and self.num_classes):
            logits: Any = self._logits(rows[-1], f"head{columns}")
        else:
            read = (pruned,) if pruned else range(1, columns + 1)
            logits = tuple(self._logits(rows[column], f"head{column}") for column in read)
            if not train:
                logits = sum(logits) / len(logits)
        if isinstance(logits, tuple):
            logits = tuple(center_crop(x, height, width) for x in logits)
        else:
            logits = center_crop(logits, height, width)
        self.sow("intermediates", "logits", logits)
        return logits

    def _rows(self, x: Array, columns: int, train: bool) -> list[Array]:
        """The finest level's nodes x(0, 0), ..., x(0, columns)."""
        conv, norm = self._conv(), self._norm(train)
        widths = level_widths(self.filters, self.depth, self.widths)
        nodes: list[list[Array]] = []
        for level in range(columns + 1):
            x = max_pool(x, 2) if level else x
            x = DoubleConv(widths[level], conv, norm, name=f"node{level}_0")(x)
            nodes.append([x])
            # One diagonal per level: the nodes above that depend on the new level.
            for above in range(level - 1, -1, -1):
                place = f"{above}_{level - above}"
                below = self._up(widths[above], f"up{place}")(nodes[above + 1][-1])
                seen = jnp.concatenate([*nodes[above], below], axis=-1)
                block = DoubleConv(widths[above], conv, norm, name=f"node{place}")
                nodes[above].append(block(seen))
        return nodes[0]


# Table 1: the microscope's images of cell nuclei have 96 x 96 pixels.
MODELS.register(
    "unet_plus_plus",
    image_size=96,
    paper="Zhou et al. 2018 (U-Net++), arXiv:1807.10165",
    year=2018,
)(functools.partial(UNetPlusPlus, norm="batch"))
