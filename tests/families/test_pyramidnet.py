"""What no fixture shows of PyramidNet: widths, initialisation and the authors' call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from vitjax import models
from vitjax.weights import WeightsError, writing
from vitjax.weights.layouts.target import Written


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        # The last are those of the authors' tables, of a bottleneck's output divided by 4.
        ("pyramidnet110_a48", 17, 64),
        ("pyramidnet110_a270", 21, 286),
        ("pyramidnet272_a200", 18, 864 // 4),
        ("pyramidnet101_a360", 75, 64 + 360),
        ("pyramidnet200_a300", 69, 1456 // 4),
    ],
)
def test_widths_grow_by_equal_steps(name, first, last):
    model = models.create(name)
    planes = model.planes()
    assert (planes[0], planes[-1]) == (first, last)
    assert len(planes) == sum(model.stage_sizes)
    steps = np.diff([model.width, *planes])
    assert steps.max() - steps.min() <= 1
    # A width between two is rounded to the even one, as Python does.
    assert models.create(name, stage_sizes=(2,), alpha=1, width=16).planes() == [16, 17]


def test_kernels_are_normal_by_their_outputs():
    fields = {"stage_sizes": (1, 1), "alpha": 64, "width": 32, "num_classes": 100}
    model = models.create("pyramidnet110_a48", **fields)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    found = flatten_dict(jax.device_get(variables["params"]), sep="/")
    for name in ("stem_conv", "stage1_block1/conv1", "stage2_block1/conv2"):
        kernel = found[f"{name}/kernel"]
        expected = (2 / (9 * kernel.shape[-1])) ** 0.5
        np.testing.assert_allclose(kernel.std(), expected, rtol=0.1)
        assert np.abs(kernel).max() > 2.2 * expected  # neither uniform nor truncated
    limit = found["head/kernel"].shape[0] ** -0.5
    for leaf in ("kernel", "bias"):
        assert 0.9 * limit < np.abs(found[f"head/{leaf}"]).max() <= limit


@pytest.mark.parametrize(
    ("name", "classes", "arguments"),
    [
        ("pyramidnet110_a48", 10, "dataset='cifar10', depth=110, alpha=48, bottleneck=False"),
        ("pyramidnet272_a200", 10, "dataset='cifar10', depth=272, alpha=200, bottleneck=True"),
        ("pyramidnet101_a360", 1000, "dataset='imagenet', depth=101, alpha=360, bottleneck=True"),
        ("pyramidnet200_a300", 1000, "dataset='imagenet', depth=200, alpha=300, bottleneck=True"),
    ],
)
def test_the_authors_call_is_written(name, classes, arguments):
    model = models.create(name)
    target = writing.layout_for(model, "pyramidnet-pytorch").target
    side = 32 if "cifar10" in arguments else 224
    call = target(model, Written(side, side, 3, {})).expression
    assert call == f"PyramidNet(num_classes={classes}, {arguments})"
    with pytest.raises(WeightsError, match="only images of 3 channels, not of 1"):
        target(model, Written(side, side, 1, {}))
    # The authors' code averages over a fixed number of pixels.
    with pytest.raises(
        WeightsError, match=f"{side} pixels on a side, and this PyramidNet takes 64"
    ):
        target(model, Written(64, side, 3, {}))
