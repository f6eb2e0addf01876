"""Position embeddings, patch embeddings and first kernels brought to other sizes.

timm's numbers are written by scripts/parity/make_adapting_fixture.py.
"""

import functools
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import read

from vitjax import models, weights
from vitjax.core.errors import ConfigError
from vitjax.weights import adapting
from vitjax.weights.formats import files

FIXTURE = Path(__file__).parent / "fixtures" / "adapting.npz"
SIDES = st.integers(1, 17)


@functools.cache
def stored():
    with np.load(FIXTURE) as file:
        return dict(file)


def changed(kind):
    """(old array, new sides, what timm made of it) of one kind."""
    names = [name.split("/") for name in stored() if name.startswith(f"{kind}/")]
    return [
        pytest.param("/".join(name[:2]), name[2], id="-".join(name[1:]))
        for name in names
        if len(name) == 3
    ]


def sides(text):
    return tuple(int(side) for side in text.split("x"))


@pytest.mark.parametrize(("old", "new"), changed("positions"))
def test_positions_are_resized_as_timm_does(old, new):
    rows, columns = sides(old.split("/")[1])
    tokens = stored()[old]
    prefix = tokens.shape[1] - rows * columns
    assert prefix > 0
    grid = tokens[:, prefix:].reshape(1, rows, columns, -1)
    found = adapting.resize_positions(grid, sides(new))
    expected = stored()[f"{old}/{new}"]
    np.testing.assert_array_equal(expected[:, :prefix], tokens[:, :prefix])
    flat = found.reshape(1, -1, grid.shape[-1])
    np.testing.assert_allclose(flat, expected[:, prefix:], atol=1e-5)


@pytest.mark.parametrize(("old", "new"), changed("patches"))
def test_patches_are_resized_as_timm_does(old, new):
    kernel = stored()[old].transpose(2, 3, 1, 0)
    found = adapting.resize_patches(kernel, sides(new))
    expected = stored()[f"{old}/{new}"].transpose(2, 3, 1, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_channels_are_changed_as_timm_does(channels):
    found = adapting.change_channels(stored()["channels/3"].transpose(2, 3, 1, 0), channels)
    expected = stored()[f"channels/{channels}"].transpose(2, 3, 1, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("old", "new"), [(7, 16), (16, 7), (1, 5)])
@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_the_matrix_of_a_resizing_is_that_of_jax(old, new, kind):
    found = adapting._resizing(old, new, kind)
    expected = jax.image.resize(jnp.eye(old), (new, old), kind)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 99))
@settings(max_examples=30)
def test_products_with_larger_patches_are_those_with_the_old_ones(rows, columns, more, wider, seed):
    rng = np.random.default_rng(seed)
    patch, kernel = rng.normal(size=(rows, columns)), rng.normal(size=(rows, columns, 1, 2))
    size = (rows + more, columns + wider)
    larger = adapting._resizing(rows, size[0], "linear") @ patch
    larger = larger @ adapting._resizing(columns, size[1], "linear").T
    found = np.einsum("rc,rcif->f", larger, adapting.resize_patches(kernel, size))
    np.testing.assert_allclose(found, np.einsum("rc,rcif->f", patch, kernel), atol=1e-8)


def test_bilinear_positions_keep_corners_and_straight_lines():
    row, column = np.mgrid[:3, :5].astype(float)
    grid = np.stack([row / 2, column / 4, row * 0 + 1], axis=-1)[None]
    found = adapting.resize_positions(grid, (7, 6), "bilinear")
    assert found.shape == (1, 7, 6, 3)
    row, column = np.mgrid[:7, :6].astype(float)
    np.testing.assert_allclose(found[0, ..., 0], row / 6, atol=1e-12)
    np.testing.assert_allclose(found[0, ..., 1], column / 5, atol=1e-12)
    np.testing.assert_allclose(found[0, ..., 2], 1, atol=1e-12)


def pytorch():
    with np.load(FIXTURE.with_name("interpolations.npz")) as file:
        return dict(file)


@pytest.mark.parametrize("name", [name for name in pytorch() if name.startswith("bicubic")])
def test_positions_are_resized_as_in_each_project(name):
    """By PyTorch, in float64; see scripts/parity/make_interpolations_fixture.py."""
    kind, old, new = name.split("/")
    found = adapting.resize_positions(pytorch()[f"grid/{old}"], sides(new), kind)
    np.testing.assert_allclose(found, pytorch()[name], atol=1e-6)


@pytest.mark.parametrize("name", ["dinov2", "vit"])
def test_a_network_of_transformers_computes_the_same_for_other_images(name, tmp_path):
    """Positions are resized as transformers does it, without being asked for it."""
    arrays = {k[len(name) + 1 :]: x for k, x in pytorch().items() if k.startswith(f"{name}/")}
    files.write(tmp_path / "file.safetensors", arrays)
    opened, said = weights.open_weights(tmp_path / "file.safetensors"), []
    module = weights.module_of(opened, num_heads=2, pooling="token", say=said.append)
    images = pytorch()["images"].astype(np.float32)
    answers = {}
    for how in (None, "bicubic"):
        variables = weights.fit(
            opened, module, image_size=(24, 12), position_interpolation=how, say=said.append
        )
        answers[how] = jax.jit(module.apply)(variables, images)
    assert said[-2] == "position embeddings resized from 4 x 4 to 6 x 3 patches (bicubic_plain)"
    np.testing.assert_allclose(answers[None], pytorch()[name], atol=2e-5)
    assert np.abs(answers["bicubic"] - pytorch()[name]).max() > 2e-4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_timm_token", "bicubic"),
        ("vit_dinov2", "bicubic_offset"),
        ("vit_dinov2_registers", "bicubic"),
        ("vit_torchvision", "bicubic_corners"),
        ("vit_npz_token", "bilinear"),
        ("vit_big_vision_token", "bilinear"),
        ("vit_hf_mae", "bicubic_plain"),
        ("vit_hf_dinov2_registers", "bicubic"),
    ],
)
def test_the_way_of_a_project_is_known_from_its_file(name, expected):
    reference = read(name)
    opened = weights.open_weights(reference.file, grid=reference.spec["grid"])
    assert opened.description.interpolation == expected


def test_dino_s_way_is_known_where_its_head_is(tmp_path):
    reference = read("vit_timm_token")
    arrays = {f"backbone.{name}": array for name, array in files.read(reference.file).items()}
    arrays["head.mlp.0.weight"] = np.ones((8, 8), np.float32)
    files.write(tmp_path / "dino.npz", arrays)
    opened = weights.open_weights(tmp_path / "dino.npz", grid=reference.spec["grid"], say=str)
    assert opened.description.interpolation == "bicubic_offset"


def test_a_constant_stays_one():
    grid = np.full((1, 5, 3, 2), 0.7)
    for interpolation in get_args(adapting.Interpolation):
        found = adapting.resize_positions(grid, (4, 8), interpolation)
        np.testing.assert_allclose(found, 0.7, rtol=1e-12)


@pytest.fixture
def small(tmp_path):
    """The file of a ViT for 16 x 16 pixels in patches of 4, as timm would have written it."""
    arrays = {
        name.removeprefix("weights/"): array
        for name, array in stored().items()
        if name.startswith("weights/")
    }
    files.write(tmp_path / "small.safetensors", arrays)
    return tmp_path / "small.safetensors"


def test_a_network_for_other_images_gives_the_logits_of_timm(small):
    said = []
    module = weights.module_of(weights.open_weights(small), num_heads=2)
    variables = weights.load(small, module, image_size=(24, 40), say=said.append)
    assert said == ["position embeddings resized from 4 x 4 to 6 x 10 patches (bicubic)"]
    logits = jax.jit(module.apply)(variables, stored()["images"].astype(np.float32))
    np.testing.assert_allclose(logits, stored()["logits"], atol=2e-5)


def test_interpolation_is_a_choice(small):
    module = weights.module_of(weights.open_weights(small), num_heads=2)
    found, said = {}, []
    for way in ("bicubic", "bilinear"):
        options = {"image_size": 28, "position_interpolation": way, "say": said.append}
        found[way] = weights.load(small, module, **options)["params"]["position_embedding"]
    assert [line[-10:-1] for line in said] == [" (bicubic", "(bilinear"]
    assert np.abs(found["bicubic"] - found["bilinear"]).max() > 0.01
    with pytest.raises(ConfigError, match=r"position_interpolation is 'bicubi'.*did you mean"):
        weights.load(small, module, image_size=28, position_interpolation="bicubi")


def test_patches_and_channels_of_a_file_become_the_models(small):
    said = []
    fields = {"num_heads": 2, "patch_size": 8}
    opened = weights.open_weights(small)
    old, new = (weights.module_of(opened, **{**fields, "patch_size": p}) for p in (4, 8))
    variables = weights.load(small, old)
    larger = weights.load(small, new, image_size=32, channels=1, say=said.append)
    assert said == [
        "params/patch_embedding/kernel: from 3 to 1 channels of images (summed)",
        "params/patch_embedding/kernel: patches of 4 x 4 resized to 8 x 8 pixels"
        " (pseudo-inverse of bilinear resizing, FlexiViT)",
    ]
    # Grey images whose patches are resized one by one lead to the same tokens.
    grey = np.random.default_rng(0).normal(size=(2, 4, 4, 4, 4))
    matrix = adapting._resizing(4, 8, "linear")
    resized = np.einsum("ip,jq,bhpwq->bhiwj", matrix, matrix, grey)
    images = np.repeat(grey.reshape(2, 16, 16, 1), 3, axis=-1).astype(np.float32)
    logits = jax.jit(old.apply)(variables, images)
    found = jax.jit(new.apply)(larger, resized.reshape(2, 32, 32, 1).astype(np.float32))
    np.testing.assert_allclose(found, logits, atol=1e-4)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (models.ResNet(stage_sizes=(1, 1), num_classes=2), ["params/stem_conv/kernel"]),
        (models.Conv4(filters=4, num_classes=2), ["params/conv1/kernel"]),
        (models.UNet(filters=4, depth=2, num_classes=2), ["params/down1/conv1/kernel"]),
        (models.UNetPlusPlus(filters=4, depth=2, num_classes=2), ["params/node0_0/conv1/kernel"]),
        (models.create("unet_resnet18"), ["params/encoder/stem_conv/kernel"]),
        (
            models.ResNet12(widths=(2, 2, 2, 2), num_classes=2),
            ["params/stage1_block1/conv1/kernel", "params/stage1_block1/shortcut_conv/kernel"],
        ),
        (
            models.ViT(width=8, depth=1, num_heads=2, patch_size=8),
            ["params/patch_embedding/kernel"],
        ),
    ],
    ids=lambda value: "" if isinstance(value, list) else type(value).__name__,
)
def test_the_first_kernels_of_every_family_are_known(module, names):
    def shapes(channels):
        images = jnp.zeros((1, 64, 64, channels))
        tree = jax.eval_shape(module.init, jax.random.key(0), images)
        return {name: leaf.shape for name, leaf in weights.loading.flat(tree).items()}

    rgb, wanted = shapes(3), shapes(5)
    assert sorted(name for name in rgb if rgb[name] != wanted[name]) == names
    found = {name: np.ones(shape, np.float32) for name, shape in rgb.items()}
    adapted = adapting.adapt(found, wanted, module, say=lambda line: None)
    assert {name: array.shape for name, array in adapted.items()} == wanted
    for name in names:
        np.testing.assert_allclose(adapted[name], 3 / 5)


def test_what_is_no_matter_of_images_is_left_alone():
    module = models.ResNet(stage_sizes=(1, 1), num_classes=2)
    name = "params/stem_conv/kernel"
    for shape in ((3, 3, 3, 64), (7, 7, 3, 32)):  # another stem, another width
        found = {name: np.ones((7, 7, 3, 64))}
        assert adapting.adapt(found, {name: shape}, module, say=pytest.fail)[name].shape == (
            7,
            7,
            3,
            64,
        )
