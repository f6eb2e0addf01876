"""What a block costs does not depend on the blocks before it."""

import jax
import jax.numpy as jnp
import pytest

from vitjax import models

IMAGES = (4, 32, 32, 3)
# A small network of a given depth, for every family whose depth is a number of equal blocks.
FAMILIES = {
    "resnet18": lambda n: resnet("resnet18", n),
    "resnet18_v2": lambda n: resnet("resnet18_v2", n),
    "resnet50": lambda n: resnet("resnet50", n),
    "resnet50_v2": lambda n: resnet("resnet50_v2", n),
    "bit_r50x1": lambda n: resnet("bit_r50x1", n, width=32),
    "vit_ti16": lambda n: vit(n),
    "resnext50_32x4d": lambda n: resnet("resnext50_32x4d", n, groups=2, base_width=32),
    "seresnet50": lambda n: resnet("seresnet50", n),
    "senet154": lambda n: resnet("senet154", n, groups=2, dropout=0.0),
    "skresnet50": lambda n: resnet("skresnet50", n),
    "resnest50d": lambda n: resnet("resnest50d", n),
    "vit_ti16 with layer scale": lambda n: vit(n, layer_scale=0.1),
}


def resnet(name, blocks, width=8, **fields):
    return models.create(name, stage_sizes=(blocks,), width=width, num_classes=3, **fields)


def vit(depth, **fields):
    small = {"patch_size": 4, "width": 24, "num_heads": 3, "mlp_width": 48, "num_classes": 3}
    return models.create("vit_ti16", depth=depth, **small, **fields)


def traffic(model):
    """The bytes that the compiled loops of the gradient read and write."""
    images = jax.ShapeDtypeStruct(IMAGES, jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    params = variables.pop("params")

    def loss(params, state, images):
        logits, _ = model.apply(
            {"params": params, **state}, images, train=True, mutable=list(state)
        )
        return jnp.sum(jax.nn.log_softmax(logits)[:, 0])

    compiled = jax.jit(jax.grad(loss)).lower(params, variables, images).compile()
    return compiled.cost_analysis()["bytes accessed"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_cost_of_a_block_does_not_grow_with_depth(name):
    """XLA on CPUs computes sums of residual branches again wherever it may."""
    one, two, three = (traffic(FAMILIES[name](blocks)) for blocks in (1, 2, 3))
    assert three - two == pytest.approx(two - one, rel=1e-3)


def test_the_families_here_are_all_that_count_equal_blocks():
    """Blocks of Conv4 halve the image, and a U-Net's encoder is a ResNet."""
    counted = {cls for cls in map(type, map(models.create, models.names())) if cls.counted_layers}
    here = {type(make(2)) for make in FAMILIES.values()}
    assert counted - {models.Conv4, models.UNetResNet} == here
