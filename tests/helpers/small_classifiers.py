"""Small networks, batches and sources for the trainer's tests."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitjax.models.protocol import Model
from vitjax.objectives import Classification

CLASSES = 7


class Dense(Model):
    """Two dense layers: no batch statistics, smooth."""

    num_classes: int = CLASSES
    dropout: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, train=False):
        x = images.reshape(len(images), -1).astype(self.dtype)
        x = nn.tanh(nn.Dense(16, dtype=self.dtype, param_dtype=self.dtype)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, dtype=self.dtype, param_dtype=self.dtype)(x)


def batch(size=16, seed=0, masked=0):
    generator = np.random.default_rng(seed)
    return {
        "image": generator.normal(size=(size, 4, 4, 3)).astype(np.float32),
        "label": generator.integers(0, CLASSES, size).astype(np.int32),
        "mask": np.arange(size) < size - masked,
    }


def objective(dtype="float32", dropout=0.0, **arguments):
    model = Dense(dtype=dtype, dropout=dropout)
    return Classification(
        model=model,
        num_classes=CLASSES,
        normalize=lambda images: jnp.asarray(images, dtype),
        **arguments,
    )
