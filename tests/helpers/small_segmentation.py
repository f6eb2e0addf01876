"""Small segmentation models and batches."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitjax.models.protocol import Model
from vitjax.objectives import Segmentation

CLASSES = 3


class Padded(Model):
    """Two convolutions; any size in, the same size out."""

    num_classes: int = CLASSES
    features: int = 4
    deep: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, train=False):
        options = {"dtype": self.dtype, "param_dtype": self.dtype}
        x = nn.tanh(nn.Conv(self.features, (3, 3), **options)(images.astype(self.dtype)))
        first = nn.Conv(self.num_classes, (1, 1), **options)(x)
        last = nn.Conv(self.num_classes, (3, 3), **options)(x)
        return (first, last) if self.deep and train else last

    @property
    def margin(self):
        return 0

    def valid_size(self, size):
        return size


class Unpadded(Model):
    """A U-Net of one level without padding: sizes in are even, 12 pixels are lost."""

    num_classes: int = CLASSES
    features: int = 4

    @nn.compact
    def __call__(self, images, train=False):
        if images.shape[1] % 2 or images.shape[2] % 2:
            raise ValueError("sizes must be even")
        x = nn.relu(nn.Conv(self.features, (3, 3), padding="VALID")(images))
        y = nn.max_pool(x, (2, 2), strides=(2, 2))
        y = nn.relu(nn.Conv(self.features, (3, 3), padding="VALID")(y))
        y = nn.ConvTranspose(self.features, (2, 2), strides=(2, 2))(y)
        cut = [(a - b) // 2 for a, b in zip(x.shape[1:3], y.shape[1:3], strict=True)]
        x = x[:, cut[0] : cut[0] + y.shape[1], cut[1] : cut[1] + y.shape[2]]
        x = nn.relu(nn.Conv(self.features, (5, 5), padding="VALID")(jnp.concatenate([x, y], -1)))
        x = nn.Conv(self.features, (3, 3), padding="VALID")(x)
        return nn.Conv(self.num_classes, (1, 1))(x)

    @property
    def margin(self):
        return 12

    def valid_size(self, size):
        return max(size + size % 2, 14)


def batch(size=4, side=8, seed=0, masked=0, ignored=0.1, weights=False, width=None):
    generator = np.random.default_rng(seed)
    shape = (size, side, width or side)
    label = generator.integers(0, CLASSES, shape)
    label[generator.random(shape) < ignored] = -1
    made = {
        "image": generator.normal(size=(*shape, 2)).astype(np.float32),
        "label": label.astype(np.int32),
        "mask": np.arange(size) < size - masked,
    }
    if weights:
        made["weight"] = generator.uniform(0.5, 3, shape).astype(np.float32)
    return made


def objective(model=None, **arguments):
    arguments.setdefault("num_classes", CLASSES)
    return Segmentation(model=model or Padded(), **arguments)
