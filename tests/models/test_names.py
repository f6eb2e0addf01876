"""Names, facts, parameter counts, and what is said of a wrong name, field or image."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import COUNTED
from families import COUNTS as FAMILY_COUNTS
from own_models import own_models

from vitjax import models
from vitjax.core.errors import ConfigError, UserError

# torchvision and timm count the same, where they have the model; resnet20 to resnet110 as the
# PyTorch code of the paper in scripts/parity.
COUNTS = {
    "vit_ti16": 5_717_416,
    "vit_s16": 22_050_664,
    "vit_s32": 22_878_952,
    "vit_b8": 86_576_872,
    "vit_b16": 86_567_656,
    "vit_b32": 88_224_232,
    "vit_l16": 304_326_632,
    "vit_l32": 306_535_400,
    "vit_h14": 632_045_800,
    "vit_g14": 1_012_611_432,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet200": 64_673_832,
    "resnet18_v2": 11_687_720,
    "resnet34_v2": 21_795_880,
    "resnet50_v2": 25_549_352,
    "resnet101_v2": 44_541_480,
    "resnet152_v2": 60_185_128,
    "resnet200_v2": 64_666_152,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "plain18": 11_515_688,
    "plain34": 21_623_848,
    "plain20": 269_722,
    "plain56": 853_018,
    "plain110": 1_727_962,
    "wrn28_10": 36_479_194,
    "wrn16_8": 10_961_370,
    "wrn40_2": 2_243_546,
    "wrn50_2": 68_883_240,
    "wrn101_2": 126_886_696,
    "bit_r50x1": 25_549_352,
    "bit_r50x3": 217_319_080,
    "bit_r101x1": 44_541_480,
    "bit_r101x3": 387_934_888,
    "bit_r152x2": 236_335_208,
    "bit_r152x4": 936_533_224,
    "conv4": 32_901,
    "conv4_omniglot": 112_261,
    "conv4_omniglot_pooled": 112_261,
    "mlp_sinusoid": 1_761,
    "mlp_omniglot": 247_621,
    "resnet12": 12_427_525,
    "unet": 31_036_546,
    "unet_valid": 31_030_658,
    "unet_attention": 32_069_637,
    "unet_plus_plus": 9_046_056,
    "unet_resnet18": 14_241_298,
    "unet_resnet34": 24_349_458,
    "unet_resnet50": 30_468_114,
    "unet_encoder": 14_241_298,
    **FAMILY_COUNTS,
}


IMAGE_SIZES = (28, 32, 84, 96, 128, 140, 160, 224, 227, 240, 260, 280, 299, 300, 331, 380, 456)
IMAGE_SIZES += (512, 528, 572, 600, None)
PAPER = re.compile("arXiv:|doi:")


def shapes(name, **overrides):
    images = jnp.zeros((1, *models.input_shape(name)))
    model = models.create(name, **overrides).plain()
    return jax.eval_shape(model.init, jax.random.key(0), images)


def test_every_model_of_the_registry_is_counted():
    assert set(own_models()) == set(COUNTS)


# Tracing a large network takes seconds: tests/families counts those whose files it describes.
@pytest.mark.parametrize("name", [name for name in COUNTS if name not in COUNTED])
def test_parameter_count(name):
    params = shapes(name, **({"scan_layers": True} if name.startswith("vit") else {}))["params"]
    assert sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(params)) == COUNTS[name]


def test_every_name_has_facts():
    for name in own_models():
        facts = models.facts(name)
        assert facts["image_size"] in IMAGE_SIZES
        assert PAPER.search(facts["paper"])


def test_shapes_of_examples():
    assert models.input_shape("resnet20") == (32, 32, 3)
    assert models.input_shape("conv4_omniglot") == (28, 28, 1)
    assert models.input_shape("mlp_sinusoid") == (1,)
    assert models.input_shape("unet_valid") == (572, 572, 1)


def test_only_parameters_and_batch_statistics_are_made():
    assert set(shapes("vit_ti16", depth=1)) == {"params"}
    assert set(shapes("resnet20")) == {"params", "batch_stats"}
    assert set(shapes("bit_r50x1", stage_sizes=[1])) == {"params"}
    assert set(shapes("conv4")) == {"params", "batch_stats"}
    assert set(shapes("mlp_sinusoid")) == {"params"}
    assert set(shapes("unet_valid")) == {"params"}
    assert set(shapes("unet_plus_plus")) == {"params", "batch_stats"}


def test_fields_survive_json():
    fields = {"patch_size": [4, 8], "dtype": "bfloat16", "num_classes": None}
    module = models.create("vit_ti16", **json.loads(json.dumps(fields)))
    assert hash(module) == hash(module.clone())
    for name, fields in (
        ("resnet18", {"stage_sizes": [1, 1], "norm": "group"}),
        ("mlp_sinusoid", {"hidden": [3, 4]}),
        ("resnet12", {"widths": [3, 4]}),
    ):
        module = models.create(name, **fields)
        assert hash(module) == hash(module.clone())


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("vit_b61", {}, "did you mean 'vit_b16'"),
        ("resnet_50", {}, "did you mean 'resnet50'"),
        ("vit_b16", {"poolin": "mean"}, "did you mean 'pooling'"),
        ("vit_b16", {"pooling": "tokn"}, "did you mean 'token'"),
        ("vit_b16", {"positions": "sincos"}, "did you mean 'sincos2d'"),
        ("vit_b16", {"gelu": "erf"}, "'exact', 'tanh' or 'quick'"),
        ("vit_b16", {"attention_impl": "flash"}, "'plain' or 'fused'"),
        ("vit_b16", {"num_heads": 7}, "width=768 cannot be split over 7"),
        ("vit_b16", {"dropout": 1.0}, r"dropout is 1.0; it must be in \[0, 1\)"),
        ("vit_b16", {"drop_path": -0.1}, "drop_path is -0.1"),
        ("vit_b16", {"patch_size": [4, 4, 4]}, "a list of 2 integers at least 1"),
        ("vit_b16", {"dtype": "bfloat61"}, "did you mean 'bfloat16'"),
        ("resnet18", {"dtype": "int32"}, "must be a floating dtype"),
        ("resnet18", {"norm": "layer"}, "'batch' or 'group'"),
        ("resnet18", {"stem": "imagnet"}, "did you mean 'imagenet'"),
        ("resnet18", {"shortcut": "identity"}, "'projection', 'pad' or 'none'"),
        ("plain18", {"zero_init_residual": True}, "with shortcut='none' every output would be"),
        ("resnet20", {"norm": "group"}, "16 channels do not split into norm_groups=32"),
        ("bit_r50x1", {"zero_init_residual": True}, "weight standardisation"),
    ],
)
def test_wrong_names_and_fields(name, fields, words):
    with pytest.raises(ConfigError, match=words):
        models.create(name, **fields)


@pytest.mark.parametrize(
    "name", ["vit_ti16", "resnet20", "conv4", "resnet12", "unet", "unet_plus_plus", "unet_resnet18"]
)
def test_wrong_images(name):
    module = models.create(name)
    with pytest.raises(UserError, match=r"shape \(32, 32, 3\).*\(batch, height, width, channels\)"):
        module.apply({}, jnp.zeros((32, 32, 3)))
    with pytest.raises(models.ImageError, match="dtype uint8: a model needs floats"):
        module.apply({}, jnp.zeros((1, 32, 32, 3), jnp.uint8))
