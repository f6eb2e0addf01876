"""Layers in order: totals, shapes, and receptive fields against brute force."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import SMALL

from vitjax import models
from vitjax.analysis import summary
from vitjax.models import Model
from vitjax.nn import local_attention
from vitjax.nn.window_pooling import average_pool
from vitjax.training import flops


def conv(size, stride=1, padding="SAME", **options):
    return nn.Conv(3, size, stride, padding, kernel_init=nn.initializers.uniform(1.0), **options)


def depth_to_space(x):
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * h, 2 * w, c // 4)


def space_to_depth(x):
    n, h, w, c = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // 2, w // 2, 4 * c)


STRIDED = {
    "plain": lambda x: conv((3, 3))(conv((3, 3))(x)),
    "strided": lambda x: conv((5, 5), 2)(conv((3, 3), 2, ((2, 0), (1, 1)))(x)),
    "oblong": lambda x: conv((1, 7))(conv((3, 1))(x)),
    "dilated": lambda x: conv((3, 3), kernel_dilation=3)(conv((3, 3), 2)(x)),
    "valid": lambda x: conv((3, 3), 1, "VALID")(conv((2, 2), 2, "VALID")(x)),
    "pooled": lambda x: conv((3, 3))(average_pool(conv((3, 3))(x), 3, 2, 1)),
    "sliced": lambda x: conv((3, 3))(x[:, 3:-1:2, 1::2]),
    "padded": lambda x: conv((3, 3), 2, "VALID")(jnp.pad(x, ((0, 0), (2, 1), (3, 0), (0, 0)))),
    "space_to_depth": lambda x: conv((3, 3))(space_to_depth(conv((3, 3))(x))),
    "residual": lambda x: conv((1, 1))(conv((3, 3))(x) + conv((5, 5))(x)),
    "mirrored": lambda x: conv((3, 3), 2, "VALID")(
        jnp.pad(conv((3, 3), 2)(x), ((0, 0), (2, 2), (1, 3), (0, 0)), "reflect")
    ),
    "symmetric": lambda x: conv((3, 3), 1, "VALID")(
        jnp.pad(x, ((0, 0), (2, 1), (1, 2), (0, 0)), "symmetric")
    ),
    "footprint": lambda x: conv((3, 3), 2)(
        local_attention.footprint(conv((3, 3))(x), 5).sum((1, 3))
    ),
    "aggregate": lambda x: conv((3, 3))(
        local_attention.aggregate(conv((3, 3), 2)(x), jnp.ones((1, 5, 24, 5, 24, 3)))
    ),
    "turned_twice": lambda x: conv((3, 3), 2)(conv((5, 5))(x[:, ::-1])[:, ::-1]),
    "split": lambda x: conv((1, 1))(jnp.concatenate([conv((7, 7))(x), conv((1, 1))(x)], -1)),
}
PERIODIC = {
    "transposed": lambda x: conv((3, 3))(nn.ConvTranspose(3, (3, 3), (2, 2))(conv((3, 3), 2)(x))),
    "repeated": lambda x: conv((3, 3))(conv((3, 3), 2)(x).repeat(2, 1).repeat(2, 2)),
    "shuffled": lambda x: conv((3, 3))(
        depth_to_space(nn.Conv(12, (3, 3), kernel_init=nn.initializers.ones)(x))
    ),
}


class Net(Model):
    which: str = "plain"

    @nn.compact
    def __call__(self, x, train=False):
        return {**STRIDED, **PERIODIC}[self.which](x)


def brute_force(model, axis):
    """The first and the last pixel that each interior output depends on, by gradients."""
    image = jnp.zeros((1, 48, 48, 3))
    variables = jax.jit(model.init)(jax.random.key(0), image)

    def outputs(line):
        x = jnp.broadcast_to(jnp.expand_dims(line, (0, 3)), image.shape)
        out = model.apply(variables, x).sum(-1)[0]
        return out.sum(1 - axis)

    line = jnp.zeros((48, 1) if axis == 0 else (1, 48))
    found = np.asarray(jax.jacobian(outputs)(line)).reshape(-1, 48)
    pixels = [np.flatnonzero(row) for row in found]
    # Padding, of the image or of a map, cuts off the fields at the borders.
    return {
        i: (each[0], each[-1])
        for i, each in enumerate(pixels)
        if len(each) and {*each} <= {*range(8, 40)}
    }


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("which", STRIDED)
def test_a_field_is_that_of_the_gradient(which, axis):
    layer = summary.summarise(Net(which), (48, 48, 3)).layers[-1]
    size, stride, offset = (v[axis] for v in (layer.size, layer.stride, layer.offset))
    spans = brute_force(Net(which), axis)
    assert len(spans) > 4
    for i, (first, last) in spans.items():
        assert first == offset + stride * i - (size - 1) / 2
        assert last == offset + stride * i + (size - 1) / 2


@pytest.mark.parametrize("which", PERIODIC)
def test_a_field_after_upsampling_is_the_largest(which):
    layer = summary.summarise(Net(which), (48, 48, 3)).layers[-1]
    spans = brute_force(Net(which), 0)
    assert layer.size[0] == max(last - first + 1 for first, last in spans.values())


def by_name(name, **fields):
    found = summary.summarise(models.create(name, **fields), models.input_shape(name))
    return {layer.name: layer for layer in found.layers}


def test_known_fields():
    """As in Araujo et al. 2019, "Computing Receptive Fields of Convolutional Neural Networks"."""
    layers = by_name("resnet18")
    assert layers["stage4_block2/conv2"].size == (435, 435)
    assert layers["stage4_block2/conv2"].stride == (32, 32)
    assert layers["mean"].size == (None, None)
    assert layers["mean"].shape == (512,)
    assert by_name("vgg16")["max_pool"].size == (212, 212)
    layers = by_name("vit_ti16")
    assert layers["patch_embedding"].size == (16, 16)
    assert layers["encoder/block_0/norm1"].size == (16, 16)
    assert layers["encoder/block_0/attention"].size == (None, None)
    layers = by_name("san10_pairwise")
    assert layers["stage1_block1/conv"].size == (6, 6)
    # By stage 2, 3, 4 and 5 (footprints of 7): 10 + 2 + 24, + 4 + 96, + 8 + 384, + 16 + 192.
    assert layers["stage5_norm"].size == (736, 736)
    assert layers["stage5_norm"].stride == (32, 32)


def test_a_border_that_is_no_mirror_gives_the_whole_image():
    def turned(x):
        return jnp.concatenate([x[:, :2][:, ::-1], x, x[:, :2]], axis=1)

    class Wrapped(Model):
        @nn.compact
        def __call__(self, x, train=False):
            return conv((3, 3), 1, "VALID")(turned(x))

    assert summary.summarise(Wrapped(), (48, 48, 3)).layers[-1].size == (None, 3)


@pytest.mark.parametrize(
    ("name", "fields", "shape"),
    [
        ("resnet20", {}, (32, 32, 3)),
        ("bit_r50x1", {}, (64, 64, 3)),
        ("vit_ti16", {}, (224, 224, 3)),
        ("unet", {"depth": 2}, (64, 64, 1)),
        ("mlp_sinusoid", {}, (1,)),
        *((name, fields, shape) for name, (fields, shape) in SMALL.items()),
    ],
)
def test_totals_are_those_of_the_model(name, fields, shape):
    shape = shape[-3:]
    model = models.create(name, **fields)
    inputs = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    found = summary.summarise(model, shape)
    counted = flops.count(model.plain().apply, variables, inputs)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert (found.parameters, found.flops) == (parameters, counted)
    assert found.activations > 0
    if name not in SMALL:  # of blocks that are scanned, of images, of masks and of vectors
        assert summary._counts(model, shape) == (parameters, counted)


def test_an_entry_has_the_facts_of_its_name():
    found = summary.entry("resnet50")
    assert (found.family, found.file, found.year) == ("ResNet", "resnet", 2016)
    assert found.parameters == models.count_parameters("resnet50")
    assert (found.accuracy, found.accuracy_source) == (76.13, "torchvision IMAGENET1K_V1")
    assert summary.entry("resnet20").accuracy is None
