"""HMAX: Gabor filters and prototypes, each followed by a maximum over positions and scales."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.core.constraints import Length
from vitjax.core.errors import ConfigError
from vitjax.core.validation import PositiveFloat
from vitjax.models.convnet import ConvNet
from vitjax.models.limits import Limit, Pixels, Width
from vitjax.models.registry import MODELS
from vitjax.nn.convolution import convolve
from vitjax.nn.dtypes import as_dtype, output_dtype
from vitjax.nn.inputs import ImageError, check_images
from vitjax.nn.window_pooling import max_pool


class Band(NamedTuple):
    """A row of Table 1 of Serre et al. 2007: two scales of S1 that C1 pools together.

    Attributes:
        sizes: sides of the two filters in pixels.
        sigmas: widths of their Gaussians in pixels.
        wavelengths: of their cosines, in pixels.
        step: of the grid of C1, whose windows have twice that side.
    """

    sizes: tuple[int, int]
    sigmas: tuple[float, float]
    wavelengths: tuple[float, float]
    step: int


BANDS = (
    Band((7, 9), (2.8, 3.6), (3.5, 4.6), 4),
    Band((11, 13), (4.5, 5.4), (5.6, 6.8), 5),
    Band((15, 17), (6.3, 7.3), (7.9, 9.1), 6),
    Band((19, 21), (8.2, 9.2), (10.3, 11.5), 7),
    Band((23, 25), (10.2, 11.3), (12.7, 14.1), 8),
    Band((27, 29), (12.3, 13.4), (15.4, 16.8), 9),
    Band((31, 33), (14.6, 15.8), (18.2, 19.7), 10),
    Band((35, 37), (17.0, 18.2), (21.2, 22.8), 11),
)
ORIENTATIONS = (0.0, math.pi / 4, math.pi / 2, 3 * math.pi / 4)
# Of the Gaussian, across over along the orientation.
_ASPECT = 0.3
_PROTOTYPES = re.compile(r"(^|/)prototypes\d+$")
# Red, green and blue in the luminance of ITU-R BT.601.
_LUMINANCE = (0.299, 0.587, 0.114)

PatchSizes = Annotated[Sequence[Pixels], Length(), Limit(64)]


def gabor_filters(
    size: int, sigma: float, wavelength: float
) -> Float[np.ndarray, "size size 1 orientations"]:
    """The filters of one scale: Serre et al. 2007, Sec. 2 and Table 1.

    As in the authors' code they are zero outside of a circle, and have mean 0 and norm 1.
    """
    rows, columns = np.mgrid[:size, :size] - size // 2
    filters = []
    for angle in ORIENTATIONS:
        along = columns * np.cos(angle) + rows * np.sin(angle)
        across = -columns * np.sin(angle) + rows * np.cos(angle)
        gaussian = np.exp(-(along**2 + _ASPECT**2 * across**2) / (2 * sigma**2))
        wave = gaussian * np.cos(2 * np.pi * along / wavelength)
        wave[np.hypot(rows, columns) > size / 2] = 0
        wave -= wave.mean()
        filters.append(wave / np.linalg.norm(wave))
    return np.stack(filters, axis=-1)[:, :, None]


class HMax(ConvNet):
    """Four layers of the ventral stream, of which a dense layer reads the last.

    Riesenhuber and Poggio 1999, doi:10.1038/14819, in the form of Serre et al. 2007,
    doi:10.1109/TPAMI.2007.56, Sec. 2:

    - S1: Gabor filters of 16 scales and 4 orientations. A response is its magnitude over the norm
      of the pixels below the filter, as in the authors' code, and 0 where the filter would reach
      over the border;
    - C1: the largest response of the two scales of a band, in windows that overlap by half;
    - S2: ``exp(-b |X - P|^2)`` for each patch X of C1 and each prototype P, in each band. The paper
      leaves b open; here it falls with the area of the patch, ``sharpness * (4 / n)^2`` for n x n,
      as in Mutch and Lowe 2006, doi:10.1109/CVPR.2006.200, Sec. 2.4;
    - C2: the largest S2 response of each prototype, over all positions and bands.

    The paper's prototypes are patches of C1 of training images, and only a classifier on C2 is
    trained: `sample_prototypes` fills them in, and the objective ``head_only`` trains the head.
    Fresh prototypes are uniform in [0, 1), the range of C1, and an optimizer can train them.

    Images are values in [0, 1]. Those of three channels become gray by the luminance 0.299 R +
    0.587 G + 0.114 B, those of any other number by their mean. The maps of `features` are C1 of the
    bands whose grids have a step of 4 and of 8 pixels.

    Attributes:
        num_prototypes: in all, the same number of each size.
        patch_sizes: sides of the prototypes, in positions of C1.
        sharpness: of S2.

    The other attributes are those of `ConvNet`; nothing here depends on ``axis_name``.

    Raises:
        ConfigError: ``num_prototypes`` is no multiple of the number of ``patch_sizes``, or two of
            these are equal.
    """

    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)c1_band\d+$",)

    num_prototypes: Width = 1000
    patch_sizes: PatchSizes = (4, 8, 12, 16)
    sharpness: PositiveFloat = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_prototypes % len(self.patch_sizes):
            raise ConfigError(
                f"num_prototypes={self.num_prototypes} cannot be split over"
                f" {len(self.patch_sizes)} patch_sizes"
            )
        if len(set(self.patch_sizes)) < len(self.patch_sizes):
            raise ConfigError(f"patch_sizes has a size twice: {self.patch_sizes}")

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """The side of which the finest band has room for the largest prototype."""
        return max(BANDS[0].sizes[1], BANDS[0].step * max(self.patch_sizes))

    def layer_key(self, name: str) -> tuple[int, ...]:
        """The prototypes, then the head."""
        return (0,) if _PROTOTYPES.search(name) else (1,)

    def c1(
        self, images: Float[Array, "batch height width channels"]
    ) -> list[Float[Array, "batch rows columns orientations"]]:
        """The C1 responses of each of the `BANDS`, in [0, 1].

        Raises:
            ImageError: images of the wrong rank, dtype or size.
        """
        check_images(images, self.smallest_image)
        gray = _gray(images.astype(as_dtype(self.dtype)))
        return [self._pooled(gray, band) for band in BANDS]

    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """C1 of the bands whose steps are powers of two."""
        del train
        bands = zip(BANDS, self.c1(images), strict=True)
        found = {f"c1_band{i}": (band, x) for i, (band, x) in enumerate(bands, start=1)}
        return {name: x for name, (band, x) in found.items() if band.step.bit_count() == 1}

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """As of `ConvNet`."""
        bands = self.c1(images)
        for number, responses in enumerate(bands, start=1):
            self.sow("intermediates", f"c1_band{number}", responses)
        return self.classify(bands, train)

    @nn.compact
    def classify(self, x: Any, train: bool) -> Float[Array, "batch outputs"]:
        """The logits for C1 of all bands, or without a head C2."""
        return self.classifier(jnp.concatenate(self._c2(x), axis=-1), train)

    def _c2(self, bands: Sequence[Array]) -> list[Float[Array, "batch prototypes"]]:
        """The largest response of the prototypes of each size."""
        found, squares = [], [jnp.square(x).sum(-1, keepdims=True) for x in bands]
        for size in self.patch_sizes:
            shape = (size, size, len(ORIENTATIONS), self.num_prototypes // len(self.patch_sizes))
            param_dtype = as_dtype(self.param_dtype)
            prototypes = self.param(
                f"prototypes{size}", nn.initializers.uniform(1.0), shape, param_dtype
            ).astype(bands[0].dtype)
            norms = jnp.square(prototypes).sum((0, 1, 2))
            ones = jnp.ones((size, size, 1, 1), prototypes.dtype)
            sharpness = self.sharpness * (4 / size) ** 2
            nearest: list[Array] = []
            for number, (x, square) in enumerate(zip(bands, squares, strict=True), start=1):
                if min(x.shape[1:3]) < size:
                    continue
                products = self._convolved(x, prototypes)
                distances = self._convolved(square, ones) - 2 * products + norms
                # Rounding can leave less than 0.
                distances = jnp.maximum(distances, 0)
                name = f"s2_band{number}_patch{size}"
                self.sow("intermediates", name, jnp.exp(-sharpness * distances))
                nearest.append(distances.min((1, 2)))
            least = jnp.stack(nearest).min(0).astype(output_dtype(self.param_dtype))
            # The largest response is that at the smallest distance.
            found.append(jnp.exp(-sharpness * least))
        return found

    def _pooled(
        self, gray: Float[Array, "batch height width 1"], band: Band
    ) -> Float[Array, "batch rows columns orientations"]:
        scales = zip(band.sizes, band.sigmas, band.wavelengths, strict=True)
        first, second = (self._responses(gray, *scale) for scale in scales)
        x = jnp.maximum(first, second)
        # Windows begin at every step, and the last ones end with the image. No response is below 0.
        ends = [(-(-n // band.step) + 1) * band.step - n for n in x.shape[1:3]]
        x = jnp.pad(x, [(0, 0), *((0, end) for end in ends), (0, 0)])
        return max_pool(x, 2 * band.step, band.step)

    def _responses(
        self, gray: Float[Array, "batch height width 1"], size: int, sigma: float, wave: float
    ) -> Float[Array, "batch height width orientations"]:
        """S1 of one scale."""
        if min(gray.shape[1:3]) < size:
            return jnp.zeros((*gray.shape[:3], len(ORIENTATIONS)), gray.dtype)
        filters = jnp.asarray(gabor_filters(size, sigma, wave), gray.dtype)
        x = jnp.abs(self._convolved(gray, filters))
        squares = self._convolved(jnp.square(gray), jnp.ones((size, size, 1, 1), gray.dtype))
        # Where all pixels are 0, the response is 0 too.
        x = x / jnp.sqrt(jnp.where(squares > 0, squares, 1))
        border = (size // 2, size // 2)
        x = jnp.pad(x, [(0, 0), border, border, (0, 0)])
        self.sow("intermediates", f"s1_size{size}", x)
        return x

    def _convolved(self, x: Array, kernel: Array) -> Array:
        return convolve(x, kernel, (1, 1), [(0, 0), (0, 0)], self.conv_impl, 1)


def _gray(images: Float[Array, "batch height width channels"]) -> Array:
    """One channel: the luminance of three channels, or the mean of any other number."""
    if images.shape[-1] != len(_LUMINANCE):
        return images.mean(-1, keepdims=True)
    return (images * jnp.asarray(_LUMINANCE, images.dtype)).sum(-1, keepdims=True)


def sample_prototypes(
    model: HMax,
    variables: Mapping[str, Any],
    images: Float[Array, "batch height width channels"],
    key: PRNGKeyArray,
    band: int = 2,
) -> dict[str, Any]:
    """``variables`` with random patches of C1 as prototypes: Serre et al. 2007, Sec. 2.

    Args:
        model: the network.
        variables: its variables.
        images: training images, as of the model.
        key: decides the image and the position of each patch.
        band: the number of the band of C1, counted from 1; the authors' code takes the second.

    Raises:
        ConfigError: ``band`` is not one of the `BANDS`.
        ImageError: the images are smaller than the largest patch of that band.
    """
    if not 1 <= band <= len(BANDS):
        raise ConfigError(f"band is {band}; it must be in 1 to {len(BANDS)}")
    maps: Any = model.apply(variables, images, method="c1")
    source = maps[band - 1]
    count, *sides, _ = source.shape
    params = dict(variables["params"])
    for size in model.patch_sizes:
        if min(sides) < size:
            raise ImageError(
                f"images of {images.shape[1]} x {images.shape[2]} pixels have {sides[0]} x"
                f" {sides[1]} positions in band {band} of C1, and prototypes of {size} x {size};"
                " give larger images or a band with a finer grid"
            )
        name = f"prototypes{size}"
        kernel = params[name]
        limits = (count, *(side - size + 1 for side in sides))
        keys = jax.random.split(jax.random.fold_in(key, size), 3)
        places = [
            jax.random.randint(each, (kernel.shape[-1],), 0, limit)
            for each, limit in zip(keys, limits, strict=True)
        ]
        shape = (1, size, size, source.shape[-1])
        patches = jax.vmap(lambda i, r, c, s=shape: jax.lax.dynamic_slice(source, (i, r, c, 0), s))(
            *places
        )
        params[name] = jnp.moveaxis(patches[:, 0], 0, -1).astype(kernel.dtype)
    return {**variables, "params": params}


MODELS.register(
    "hmax",
    image_size=140,
    paper="Serre et al. 2007, doi:10.1109/TPAMI.2007.56",
    year=2007,
)(HMax)
