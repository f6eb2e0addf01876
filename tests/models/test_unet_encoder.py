"""U-Nets on the feature maps of any model: a ViT, a ResNet, a CNN that is registered here."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import unfreeze
from model_variables import variables_of

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.models.protocol import FeatureInfo, Model

VIT = {"name": "vit_ti16", "width": 8, "depth": 4, "num_heads": 2, "patch_size": 4}
RESNET = {"stage_sizes": (1, 1), "block": "basic", "width": 4, "stem": "cifar"}


class Toy(Model):
    """Three convolutions, each at half of the size of the one before; the second has no skip."""

    num_classes: int | None = 3
    width: int = 4

    def feature_info(self):
        return tuple(FeatureInfo(f"map{i}", 2**i, self.width + i) for i in (1, 3))

    @nn.compact
    def features(self, images, train=False):
        x, maps = images, {}
        for i in (1, 2, 3):
            x = nn.relu(nn.Conv(self.width + i, (3, 3), (2, 2), name=f"conv{i}")(x))
            maps[f"map{i}"] = x
        return maps


@pytest.fixture
def registered(forgotten_after_the_test):
    """A name for `Toy` that other tests do not see."""
    models.MODELS.register("toy")(Toy)
    return "toy"


def unet(encoder, **fields):
    return models.create("unet_encoder", num_classes=3, encoder=encoder, **fields)


def traced(model, *shape):
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    return logits.shape, variables["params"]


def test_a_vit_gives_skips_from_several_depths():
    model = unet(VIT)
    logits, params = traced(model, 2, 10, 9, 3)
    assert logits == (2, 10, 9, 3)
    name, fields = VIT["name"], {key: value for key, value in VIT.items() if key != "name"}
    assert model.backbone == ("encoder", models.create(name, num_classes=None, **fields))
    # The maps of blocks 3 and 2 are raised to strides 2 and 1; that of block 4 is the bottom.
    assert {name for name in params if name.startswith("skip")} == {
        *("skip1_up1", "skip2_up1", "skip2_up2")
    }
    assert params["up1"]["kernel"].shape == (2, 2, 8, 32)
    assert params["merge1"]["conv1"]["kernel"].shape == (3, 3, 64, 32)
    assert params["merge2"]["conv1"]["kernel"].shape == (3, 3, 32, 16)


def test_every_parameter_of_a_vit_encoder_matters():
    model = unet({**VIT, "positions": "sincos2d"})
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
    variables = variables_of(model, images)
    logits = functools.partial(model.apply, train=True, mutable=["batch_stats"])

    def loss(params):
        return jnp.sum(jnp.sin(logits({**variables, "params": params}, images)[0]))

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        # A bias of all keys alike changes no softmax.
        assert "['key']['bias']" in jax.tree_util.keystr(path) or np.abs(leaf).max() > 0, path


def test_a_resnet_gives_the_same_network_as_the_family_of_its_own():
    own = models.create("unet_resnet18", num_classes=3, **RESNET, decoder_widths=(8,))
    other = unet({"name": "resnet18", **RESNET}, decoder_widths=(8,))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 6, 3)), jnp.float32)
    variables = variables_of(own, images)
    assert jax.tree.structure(variables) == jax.tree.structure(variables_of(other, images))
    both = jax.jit(lambda v: (own.apply(v, images), other.apply(v, images)))(variables)
    np.testing.assert_array_equal(*both)


def test_a_cnn_of_the_user_needs_only_its_feature_maps(registered):
    logits, params = traced(unet({"name": registered, "width": 2}), 1, 16, 12, 3)
    assert logits == (1, 16, 12, 3)
    assert set(params["encoder"]) == {"conv1", "conv2", "conv3"}
    # The second map is not declared, so the first step has no skip, and the last one never has.
    channels = {f"merge{i}": params[f"merge{i}"]["conv1"]["kernel"].shape[2] for i in (1, 2, 3)}
    assert channels == {"merge1": 64, "merge2": 32 + 3, "merge3": 16}


def test_fields_reach_the_encoder():
    model = unet({**VIT, "dropout": 0.5}, dtype="bfloat16")
    encoder = model.backbone[1]
    assert (encoder.dtype, encoder.dropout, encoder.num_classes) == ("bfloat16", 0.5, None)
    assert model.without_regularisers().backbone[1].dropout == 0
    assert model.replaced(scan_layers=True).scanned
    assert model.plain().backbone[1].attention_impl == "plain"
    # As JSON brings them, and back.
    again = unet(unfreeze(model.described_fields()["encoder"]), dtype="bfloat16")
    assert hash(again) == hash(model)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"encoder": {"name": "vit_ti61"}}, "did you mean 'vit_ti16'"),
        ({"encoder": {"width": 3}}, "encoder: the key 'name' is missing"),
        ({"encoder": {**VIT, "widht": 3}}, "encoder: unknown key 'widht'; did you mean 'width'"),
        ({"encoder": {**VIT, "width": 0}}, "encoder.width is 0; it must be at least 1"),
        ({"encoder": {"name": "mlp_sinusoid"}}, "a MLP has no feature maps"),
        ({"encoder": {"name": "vit_h14"}}, "stride of 14 pixels.*must be powers of 2"),
        ({"encoder": {**VIT, "patch_size": [4, 8]}}, "feature maps need square patches"),
        ({"encoder": VIT, "decoder_widths": [8]}, "the image 2 times, and these are 1 steps"),
        ({"encoder": "resnet18"}, "encoder is 'resnet18'; it must be a section"),
    ],
)
def test_encoders_that_cannot_be(fields, words):
    with pytest.raises(ConfigError, match=words):
        models.create("unet_encoder", **fields)
