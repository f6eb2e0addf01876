"""Weights of a classification network in the encoder of a U-Net, whatever its family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_variables import variables_of

from vitjax import models, weights

VIT = {"width": 8, "depth": 2, "num_heads": 2, "patch_size": 4}


@pytest.fixture(scope="module")
def vit():
    model = models.create("vit_ti16", **VIT, num_classes=3)
    return model, variables_of(model, jnp.zeros((1, 16, 16, 3)))


def test_a_vit_fills_an_encoder_for_images_of_another_size_and_channels(vit, tmp_path):
    model, variables = vit
    path = weights.save(variables, model, tmp_path / "vit", input_shape=(16, 16, 3))
    unet = models.create("unet_encoder", encoder={"name": "vit_ti16", **VIT})
    said = []
    loaded = weights.load(path, unet, image_size=24, channels=1, say=said.append)
    told = "\n".join(said)
    assert "from 3 to 1 channels" in told
    assert "position embeddings resized from 4 x 4 to 6 x 6" in told
    assert "fills the model's encoder" in told
    ours, theirs = loaded["params"]["encoder"], variables["params"]
    assert "head" not in ours
    jax.tree.map(np.testing.assert_array_equal, ours["encoder"], theirs["encoder"])
    kernel = theirs["patch_embedding"]["kernel"].sum(2, keepdims=True)
    np.testing.assert_allclose(ours["patch_embedding"]["kernel"], kernel, rtol=1e-5)
    assert ours["position_embedding"].shape == (1, 6, 6, 8)


def test_a_u_net_on_a_vit_is_written_with_all_that_is_needed_to_read_it(tmp_path):
    unet = models.create("unet_encoder", encoder={"name": "vit_ti16", **VIT}, num_classes=2)
    variables = variables_of(unet, jnp.zeros((1, 8, 8, 3)))
    path = weights.save(variables, unet, tmp_path / "unet", input_shape=(8, 8, 3))
    opened = weights.open_weights(path)
    assert opened.description.model is models.EncoderUNet
    assert models.EncoderUNet(**opened.description.fields) == unet
    loaded = weights.load(path, unet, say=lambda text: None)
    jax.tree.map(np.testing.assert_array_equal, loaded, dict(variables))
