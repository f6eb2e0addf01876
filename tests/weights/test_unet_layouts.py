"""U-Nets of milesial/Pytorch-UNet and segmentation_models_pytorch."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import (
    FIXTURES,
    check_activations,
    check_inference,
    check_round_trip,
    random_variables,
    read,
    written,
)

from vitjax import models, weights
from vitjax.core.errors import ConfigError
from vitjax.nn.inputs import ImageError
from vitjax.weights import WeightsError
from vitjax.weights.formats import files

NAMES = ("unet", "unet_biased", "smp")


@pytest.mark.parametrize("name", NAMES)
def test_activations_are_those_of_the_reference(name):
    check_activations(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_found_out_from_its_file(name):
    check_inference(name)


@pytest.mark.parametrize("name", ["unet", "smp"])
def test_written_again_a_file_has_the_same_arrays(name, tmp_path):
    check_round_trip(name, tmp_path)


def test_biases_before_a_normalisation_are_in_its_mean(tmp_path):
    reference = read("unet_biased")
    module = reference.module()
    variables = weights.load(reference.file, module)
    path = written(variables, module, tmp_path / "again", "pytorch-unet")
    before, after = files.read(reference.file), files.read(path)
    biases = {f"{name}.double_conv.{i}.bias" for name in ("inc", "up1.conv") for i in (0, 3)}
    assert biases < set(before) - set(after)
    mean = before["inc.double_conv.1.running_mean"].astype(np.float32)
    np.testing.assert_allclose(
        after["inc.double_conv.1.running_mean"], mean - before["inc.double_conv.0.bias"], rtol=1e-6
    )


@settings(max_examples=10)
@given(
    depth=st.integers(1, 3),
    filters=st.integers(1, 3),
    classes=st.sampled_from([None, 1, 2]),
    widths=st.booleans(),
)
def test_any_unet_that_is_written_is_read(tmp_path_factory, depth, filters, classes, widths):
    fields = {"depth": depth, "num_classes": classes, "norm": "batch", "uneven": "zeros"}
    if widths:
        fields["widths"] = tuple(filters + 1 + level for level in range(depth + 1))
        fields["filters"] = filters + 1
    else:
        fields["filters"] = filters
    module = models.UNet(**fields)
    variables = random_variables(module, (16, 16, 2))
    path = written(variables, module, tmp_path_factory.mktemp("file") / "file", "pytorch-unet")
    plain = path.with_name("plain.safetensors")
    files.write(plain, files.read(path))
    opened = weights.open_weights(plain)
    found = weights.module_of(opened)
    if found.widths is None:
        module = module.clone(widths=None)
    assert found == module
    jax.tree.map(np.testing.assert_array_equal, weights.fit(opened, found), variables)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("unet", {"up1.up.weight": None}, "aligned corners"),
        ("smp", {"decoder.blocks.0.attention1.cSE.weight": (2, 2)}, "scSE"),
        ("smp", {"decoder.center.0.0.weight": (2, 2, 3, 3)}, "between encoder and decoder"),
        ("smp", {"encoder.layer1.0.conv1.weight": None}, "no ResNet of torchvision's"),
        ("smp", {"decoder.blocks.x_0_0.conv1.0.weight": (2, 2, 3, 3)}, r"U-Net\+\+"),
    ],
)
def test_networks_that_are_not_here(tmp_path, name, change, words):
    arrays = files.read(read(name).file)
    for key, shape in change.items():
        if shape is None:
            del arrays[key]
        else:
            arrays[key] = np.ones(shape, np.float32)
    files.write(tmp_path / "file.safetensors", arrays)
    with pytest.raises(WeightsError, match=words):
        weights.open_weights(tmp_path / "file.safetensors")


@pytest.mark.parametrize(
    ("module", "format", "words"),
    [
        (models.UNet(norm="batch", attention=True), "pytorch-unet", "only attention=False"),
        (models.UNet(norm="batch", padding="valid"), "pytorch-unet", "only padding='same'"),
        (models.UNetResNet(), "smp", "only up='nearest'"),
        (models.UNetResNet(up="nearest"), "smp", "only head_kernel=3"),
    ],
)
def test_formats_that_do_not_hold_a_network(tmp_path, module, format, words):
    with pytest.raises(WeightsError, match=words):
        weights.save({"params": {}}, module, tmp_path / "file", format)


def uneven():
    with np.load(FIXTURES / "unet_uneven.npz") as file:
        return dict(file)


@pytest.mark.parametrize("size", [n[7:] for n in uneven() if n.startswith("logits/")])
def test_sides_that_pooling_cannot_halve_are_padded_as_in_the_project(size, tmp_path):
    arrays = {n[8:]: x for n, x in uneven().items() if n.startswith("weights/")}
    files.write(tmp_path / "unet.safetensors", arrays)
    opened = weights.open_weights(tmp_path / "unet.safetensors")
    images = uneven()[f"images/{size}"].astype(np.float64)
    answers = {}
    with jax.enable_x64(True):
        for kind in ("zeros", "reflect"):
            module = weights.module_of(opened, uneven=kind, dtype="float64", param_dtype="float64")
            variables = weights.fit(opened, module, say=str)
            answers[kind] = jax.jit(module.apply)(variables, images)
    expected = uneven()[f"logits/{size}"]
    np.testing.assert_allclose(answers["zeros"], expected, atol=1e-9)
    even = all(int(side) % 4 == 0 for side in size.split("x"))
    assert even == np.allclose(answers["reflect"], expected, atol=1e-6)


def test_a_model_that_mirrors_is_told_apart_from_the_project_s(tmp_path):
    said = []
    arrays = {n[8:]: x for n, x in uneven().items() if n.startswith("weights/")}
    files.write(tmp_path / "unet.safetensors", arrays)
    fields = {"filters": 2, "depth": 2, "num_classes": 3, "norm": "batch"}
    weights.load(tmp_path / "unet.safetensors", models.UNet(**fields), say=said.append)
    assert len(said) == 1
    assert "the file's network has uneven='zeros', the model 'reflect'" in said[0]


def test_images_without_a_pixel_at_the_bottom_are_refused():
    module = models.UNet(filters=2, depth=3, norm="batch", uneven="zeros")
    with pytest.raises(ImageError, match=r"7 x 9 pixels.*each side must be at least 8"):
        jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 7, 9, 3), np.float32))
    for fields in ({"attention": True}, {"padding": "valid"}):
        with pytest.raises(ConfigError, match=r"uneven='zeros' needs padding='same'"):
            models.UNet(uneven="zeros", **fields)
