"""Files of weights whose notes, cards, names and shapes state sizes that no array has."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

from vitjax import models
from vitjax.weights import notes
from vitjax.weights.formats import files
from vitjax.weights.loading import flat

VIT = {"width": 16, "depth": 2, "num_heads": 2, "patch_size": 4, "num_classes": 3}
# A small model per family with the shape of its examples.
HONEST = {
    "plain vit": ("vit_ti16", VIT, (8, 8, 3)),
    "vit": ("vit_ti16", {**VIT, "registers": 1, "representation_size": 8}, (8, 8, 3)),
    "resnet": ("resnet18", {"stage_sizes": (1, 2), "width": 4, "num_classes": 3}, (16, 16, 3)),
    "conv4": ("conv4", {"filters": 4, "depth": 2, "num_classes": 3}, (8, 8, 3)),
    "mlp": ("mlp_sinusoid", {"hidden": (6, 5)}, (1,)),
    "unet": ("unet", {"filters": 2, "depth": 1}, (8, 8, 1)),
    "encoder": ("unet_encoder", {"encoder": {"name": "vit_ti16", **VIT}}, (8, 8, 3)),
}
HUGE = 10**9
# Changes of a note's fields, or of its input_shape, and words of the answer.
CLAIMS = [
    ("vit", {"depth": HUGE}, "note says that depth = 1000000000, but its arrays have 2 blocks"),
    ("vit", {"depth": 9_999}, "note says that depth = 9999, but its arrays have 2 blocks"),
    ("vit", {"depth": 1}, "note says that depth = 1, but its arrays have 2 blocks"),
    ("vit", {"depth": -HUGE}, "depth = -1000000000, but its arrays have 2 blocks"),
    ("vit", {"depth": "12"}, "depth = '12', but its arrays have 2 blocks"),
    ("vit", {"num_classes": HUGE}, "num_classes is 1000000000; it must be at most 100,000,000"),
    ("vit", {"num_classes": 10**8}, "num_classes = 100000000, but its params/head/"),
    ("vit", {"patch_size": HUGE}, "patch_size is 1000000000; it must be at most 1,024"),
    ("vit", {"patch_size": 1_024}, "patch_size = 1024, but its patches have 4 x 4 pixels"),
    ("vit", {"registers": 10_000}, "register_tokens is (1, 1, 16) in the file"),
    ("vit", {"registers": -2}, "registers is -2; it must be at least 0"),
    ("vit", {"width": 2**20}, "this model of"),
    ("vit", {"mlp_width": 2**20}, "does not fit ViT"),
    ("vit", {"representation_size": 2**20}, "params/head/kernel has shape (8, 3)"),
    ("vit", {"num_heads": HUGE}, "num_heads is 1000000000; it must be at most 4,096"),
    ("vit", {"input_shape": [16_384, 16_384, 3]}, "images of 16384 x 16384 pixels"),
    ("vit", {"input_shape": [4_096, 4_096, 3]}, "but its positions are of 2 x 2 patches"),
    ("vit", {"input_shape": [8, 8, HUGE]}, "with 1000000000 channels"),
    ("vit", {"input_shape": [8, 8, 10_000]}, "but its params/patch_embedding/kernel has 3"),
    ("vit", {"input_shape": [0, 8, 3]}, "input_shape [0, 8, 3]"),
    ("resnet", {"stage_sizes": [1, HUGE]}, "but the stages of its arrays have 1, 2 blocks"),
    ("resnet", {"stage_sizes": [1, 2, 1]}, "but the stages of its arrays have 1, 2 blocks"),
    ("resnet", {"stage_sizes": [1] * 10**5}, "but the stages of its arrays have 1, 2 blocks"),
    ("resnet", {"num_classes": 10**8}, "num_classes = 100000000, but its params/head/"),
    ("resnet", {"input_shape": [HUGE, HUGE, 3]}, "they should have at most 67,108,864 pixels"),
    ("resnet", {"bottleneck_factor": HUGE}, "bottleneck_factor is 1000000000"),
    ("resnet", {"width": 2**20}, "this model of"),
    ("conv4", {"depth": HUGE}, "depth = 1000000000, but its arrays have 2 blocks"),
    ("conv4", {"input_shape": [8_192, 8_192, 3]}, "but its params/head/kernel has shape"),
    ("conv4", {"filters": 2**20}, "this model of"),
    ("mlp", {"hidden": [2**20] * 100}, "and this machine has"),
    ("mlp", {"hidden": [4] * 10**5}, "a list of at most 1,000 items"),
    ("mlp", {"input_shape": [10**12]}, "this model of"),
    ("unet", {"depth": HUGE}, "depth is 1000000000; it must be at most 12"),
    ("unet", {"filters": 2**20, "depth": 8}, "this model of"),
    ("unet", {"widths": [2**20, 2**20]}, "this model of"),
    ("encoder", {"encoder": {"name": "vit_ti16", **VIT, "depth": HUGE}}, "depth is 1000000000"),
    ("encoder", {"encoder": {"name": "vit_ti16", **VIT, "depth": 9_999}}, "depth = 9999, but"),
    ("encoder", {"encoder": {"name": "vit_ti16", **VIT, "width": 2**20}}, "this model of"),
    ("encoder", {"decoder_widths": [2**20] * 2}, "this model of"),
]


@functools.cache
def honest(kind):
    """A small model, its variables (zeros) and the shape of its examples."""
    name, fields, shape = HONEST[kind]
    module = models.create(name, **fields)
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), example)
    return module, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes), shape


def claiming(path, kind, changes):
    """Writes a small file of the model ``kind`` whose note has ``changes``."""
    module, variables, shape = honest(kind)
    note = json.loads(notes.text(module, shape))
    changes = dict(changes)
    if "input_shape" in changes:
        note["input_shape"] = changes.pop("input_shape")
    note["fields"] |= changes
    files.write(path, flat(variables), metadata={notes.KEY: json.dumps(note)})
    return path
