"""NASNet: what the code of the two projects can hold."""

import pytest

from vitjax import models
from vitjax.weights import WeightsError, writing
from vitjax.weights.layouts.target import Written


def target(name, format, channels=3, side=224, **fields):
    model = models.create(name, **fields)
    return writing.layout_for(model, format).target(model, Written(side, side, channels, {}))


def test_the_call_that_makes_the_mobile_network():
    made = target("nasnet_mobile", "pretrainedmodels", num_classes=7)
    assert made.expression == "NASNetAMobile(num_classes=7)"
    with pytest.raises(WeightsError, match="3 channels, not 1"):
        target("nasnet_mobile", "pretrainedmodels", channels=1)
    with pytest.raises(WeightsError, match="takes images of 193 to 224 pixels on a side"):
        target("nasnet_mobile", "pretrainedmodels", side=256)


@pytest.mark.parametrize(
    ("name", "format", "fields", "words"),
    [
        ("nasnet_large", "timm", {"count_padding": False}, "count_padding=True"),
        ("nasnet_large", "timm", {"skip_reduction_input": False}, "skip_reduction_input=True"),
        ("nasnet_mobile", "pretrainedmodels", {"count_padding": True}, "count_padding=False"),
        ("nasnet_large", "pretrainedmodels", {}, "only stage_sizes=.4, 4, 4."),
        ("nasnet_mobile", "timm", {}, "only stage_sizes=.6, 6, 6."),
    ],
)
def test_networks_that_no_array_tells_apart_are_refused(name, format, fields, words):
    with pytest.raises(WeightsError, match=words):
        target(name, format, **fields)
