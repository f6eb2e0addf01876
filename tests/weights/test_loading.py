"""What of a file fits a model, what is reinitialised, and how a misfit is reported."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import flax.linen as nn
import jax
import numpy as np
import pytest
from reference_files import FIXTURES, random_variables

from vitjax import models, weights
from vitjax.core.errors import ConfigError
from vitjax.models.registry import MODELS
from vitjax.weights import WeightsError, notes, opening
from vitjax.weights.formats import files
from vitjax.weights.layouts import LAYOUTS, Description

FIELDS = {"width": 8, "depth": 1, "num_heads": 2, "mlp_width": 16, "patch_size": 4}
SHAPE = (8, 8, 3)


def vit(**fields):
    return models.ViT(**{**FIELDS, "num_classes": 3, **fields})


@pytest.fixture
def arrays(tmp_path):
    """The arrays of a small ViT in timm's names."""
    path = weights.save(random_variables(vit(), SHAPE), vit(), tmp_path / "arrays", "timm")
    return files.read(path)


@pytest.fixture
def file(tmp_path, arrays):
    """Such a file, without the note that vitjax would have left in it."""
    files.write(tmp_path / "file.safetensors", arrays)
    return tmp_path / "file.safetensors"


def leaves(variables):
    return weights.loading.flat(variables)


# ------------------------------------------------------------------------------- what does not fit


def test_all_that_does_not_fit_is_listed_at_once_with_both_shapes(arrays, tmp_path):
    del arrays["blocks.0.norm2.weight"], arrays["pos_embed"]
    arrays["blocks.0.mlp.fc1.bias"] = np.ones(17, np.float32)
    arrays["blocks.0.attn.proj.weight"] = np.ones((8, 9), np.float32)
    arrays["blocks.1.norm1.weight"] = np.ones(8, np.float32)
    arrays["blocks.0.attn.relative.table"] = np.ones((3, 4), np.float32)
    files.write(tmp_path / "odd.npz", arrays)
    with pytest.raises(WeightsError) as error:
        weights.load(tmp_path / "odd.npz", vit(), image_size=8)
    first, *lines, last = str(error.value).splitlines()
    assert first.endswith("odd.npz (read as timm) does not fit ViT:")
    assert "ignore=(PATTERN,)" in last
    assert sorted(line.strip() for line in lines) == [
        "left over in the file: blocks.0.attn.relative.table (3, 4)",
        "left over in the file: blocks.1.norm1.weight (8,)",
        "missing in the file: blocks.0.norm2.weight (for params/encoder/block_0/norm2/scale)",
        "missing in the file: pos_embed (for params/class_position_embedding,"
        " params/position_embedding)",
        "params/encoder/block_0/attention/out/kernel is (9, 8) in the file and (8, 8) here",
        "params/encoder/block_0/mlp/dense1/bias is (17,) in the file and (16,) here",
    ]


def test_what_the_model_has_and_the_file_has_not_is_named(file):
    with pytest.raises(WeightsError) as error:
        weights.load(file, vit(depth=2, registers=1, layer_scale=0.1))
    first, *lines = str(error.value).splitlines()
    size = "mlp_width=16, patch_size=4, width=8"
    assert f"this is a vit_ti16 with depth=1, {size}, the model a vit_ti16" in first
    assert [line.strip() for line in lines] == [
        "depth is 1 in the file and 2 in the model",
        "registers is 0 in the file and 1 in the model",
        "layer_scale is None in the file and 0.1 in the model",
        "The file's network in a config:",
        f"config.model = dict(name='vit_ti16', depth=1, mlp_width=16, num_classes=3, {size[14:]})",
    ]


def test_a_registered_model_of_another_size(file):
    with pytest.raises(WeightsError) as error:
        weights.load(file, "vit_ti16", image_size=16, say=lambda line: None)
    text = str(error.value)
    assert "the model a vit_ti16:" in text
    for words in (
        "width is 8 in the file and 192",
        "depth is 1 in the file and 12",
        "patch_size is 4",
    ):
        assert words in text
    assert len(text.splitlines()) == 7


def test_a_model_of_another_architecture(file):
    with pytest.raises(WeightsError, match=r"'timm' of a ViT, but the model is a ResNet"):
        weights.load(file, "resnet18")


def test_a_file_of_nobody_that_is_known(tmp_path):
    files.write(tmp_path / "odd.npz", {"alpha": np.ones(3), "beta.weight": np.ones((2, 2))})
    with pytest.raises(WeightsError) as error:
        weights.load(tmp_path / "odd.npz", vit())
    assert "its 2 arrays (alpha, beta.weight) are not named as in any known format" in str(
        error.value
    )
    assert "timm" in str(error.value)


def test_a_file_that_is_not_of_the_format_that_was_said(file):
    with pytest.raises(WeightsError, match="not named as in torchvision"):
        weights.open_weights(file, format="torchvision")
    with pytest.raises(WeightsError, match="not named as in safetensors"):
        weights.open_weights(file, format="safetensors")
    with pytest.raises(WeightsError, match=r"unknown format 'tim'; did you mean 'timm'"):
        weights.open_weights(file, format="tim")
    assert weights.open_weights(file, format="timm").format == "timm"


def test_there_is_no_such_file(file):
    with pytest.raises(WeightsError, match=r"no such file; did you mean 'file.safetensors'"):
        weights.load(file.with_name("fil.safetensors"), vit())


def test_an_array_of_another_rank_is_told_and_not_turned(arrays, tmp_path):
    arrays["patch_embed.proj.weight"] = arrays["patch_embed.proj.weight"].reshape(8, -1)
    arrays["blocks.0.mlp.fc2.weight"] = arrays["blocks.0.mlp.fc2.weight"][..., None]
    arrays["blocks.0.attn.qkv.bias"] = np.ones(25, np.float32)
    module = vit()
    layouts = {(each.name, each.modules): each for each in LAYOUTS}
    layout = layouts["timm", (models.ViT,)]
    opened = weights.Weights("odd", arrays, layout, Description(models.ViT, {}, SHAPE, (2, 2)))
    with pytest.raises(WeightsError) as error:
        weights.fit(opened, module)
    text = str(error.value)
    assert (
        "patch_embed.proj.weight: has shape (8, 48), but an array with 4 axes is expected" in text
    )
    assert "blocks.0.mlp.fc2.weight: has shape (8, 16, 1), but an array with 2 axes" in text
    assert "blocks.0.attn.qkv.bias: has shape (25,), which cannot be split into 3" in text
    assert len(text.splitlines()) == 4


def test_fields_are_those_of_the_model(file):
    with pytest.raises(ConfigError, match=r"unknown key 'widht'; did you mean 'width'"):
        weights.load(file, vit(), widht=3)
    with pytest.raises(ConfigError, match=r"unknown key 'widht'"):
        weights.load(file, "vit_ti16", widht=3)
    # Variables with them would be for another module than the one that is there.
    with pytest.raises(ConfigError, match=r"pass model\.clone\(num_classes=7\) instead"):
        weights.load(file, vit(), num_classes=7)


def test_numbers_that_are_no_weights_are_told(arrays, tmp_path):
    arrays |= {name: (x * 100).astype(np.int8) for name, x in arrays.items() if "norm" in name}
    files.write(tmp_path / "int8.safetensors", arrays)
    with pytest.raises(WeightsError) as error:
        weights.load(tmp_path / "int8.safetensors", vit())
    lines = str(error.value).splitlines()[1:]
    assert len(lines) == 6
    assert "params/encoder_norm/scale is of dtype int8 in the file, not floating" in "".join(lines)


def test_a_file_of_a_registered_model_is_named_with_the_line_of_its_config(tmp_path):
    """A ResNet-32 for a ResNet-20, and DINOv2's ViT-S for a ViT-S/16."""
    paths = {}
    for name, fields, format in (
        ("resnet32", {"num_classes": 10}, "pytorch-cifar"),
        ("vit_s16", {"patch_size": 14, "layer_scale": 1e-5, "num_classes": 0}, "timm"),
    ):
        module = models.create(name, **fields)
        example = np.zeros((1, 28, 28, 3), np.float32)
        shapes = jax.eval_shape(module.init, jax.random.key(0), example)
        ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float16), shapes)
        path = weights.save(ones, module, tmp_path / name, format, say=lambda line: None)
        files.write(tmp_path / f"{name}.npz", files.read(path))
        paths[name] = tmp_path / f"{name}.npz"
    with pytest.raises(WeightsError) as caught:
        weights.load(paths["resnet32"], "resnet20")
    first, *lines = str(caught.value).splitlines()
    assert first.endswith("this is a resnet32, the model a resnet20:")
    assert [line.strip() for line in lines] == [
        "stage_sizes is (5, 5, 5) in the file and (3, 3, 3) in the model",
        "The file's network in a config:",
        "config.model = dict(name='resnet32')",
    ]
    with pytest.raises(WeightsError) as caught:
        weights.load(paths["vit_s16"], models.create("vit_s16"), image_size=224)
    text = str(caught.value)
    assert "this is a vit_s16 with layer_scale=1e-05, patch_size=14, the model a vit_s16:" in text
    assert "config.model = dict(name='vit_s16', layer_scale=1e-05, patch_size=14)" in text
    with pytest.raises(WeightsError, match=r"is a vit_s16 with layer_scale=1e-05.*is a resnet18"):
        weights.load(paths["vit_s16"], "resnet18")


def test_of_many_arrays_that_do_not_fit_the_first_are_listed(arrays, tmp_path):
    arrays |= {f"blocks.0.attn.table{i}": np.ones(3, np.float32) for i in range(18)}
    files.write(tmp_path / "odd.npz", arrays)
    with pytest.raises(WeightsError) as caught:
        weights.load(tmp_path / "odd.npz", vit())
    lines = str(caught.value).splitlines()
    assert len(lines) == 15
    assert lines[-2].strip() == "and 6 more"


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "own.safetensors"])
@pytest.mark.parametrize("name", ["blocks.0.mlp.fc1.weight", "pos_embed", "blocks.0.attn.qkv.bias"])
def test_weights_that_are_not_finite_are_refused_unless_allowed(arrays, tmp_path, name, suffix):
    clean = tmp_path / "clean.npz"
    files.write(clean, arrays)
    arrays[name] = arrays[name].copy()
    arrays[name].flat[3], arrays[name].flat[:2] = np.inf, np.nan
    path = tmp_path / f"file.{suffix}"
    files.write(path, arrays)
    size = arrays[name].size
    if suffix.startswith("own"):
        variables = weights.load(path, vit(), allow_nonfinite=True)
        path = weights.save(variables, vit(), path, input_shape=SHAPE)
        name, size = r"params/\S+", r"\d+"
    words = rf"{name}: (1|2) NaN( and 1 infinite)? of {size} numbers"
    with pytest.raises(WeightsError, match=rf"(?s)not finite:.*{words}.*allow_nonfinite=True"):
        weights.load(path, vit(), image_size=12, say=lambda line: None)
    found = leaves(weights.load(path, vit(), allow_nonfinite=True))
    expected = leaves(weights.load(clean, vit()))
    wrong = {n for n in found if not np.isfinite(found[n]).all()}
    assert wrong
    for key in set(found) - wrong:
        np.testing.assert_array_equal(found[key], expected[key])


def test_weights_that_are_too_large_for_the_model_are_refused(arrays, tmp_path):
    arrays["norm.weight"] = np.full(8, 1e5, np.float32)
    files.write(tmp_path / "large.npz", arrays)
    assert weights.load(tmp_path / "large.npz", vit())
    with pytest.raises(
        WeightsError, match="encoder_norm/scale: 8 of 8 numbers are too large for f"
    ):
        weights.load(tmp_path / "large.npz", vit(param_dtype="float16"))


def test_a_head_that_is_made_anew_may_have_been_anything(arrays, tmp_path):
    """NaN, or a part of it missing, in a head that is not used."""
    arrays["head.weight"] = np.full((3, 8), np.nan, np.float32)
    files.write(tmp_path / "head.npz", arrays)
    quiet = {"say": lambda line: None}
    with pytest.raises(WeightsError, match=r"head\.weight: 24 NaN of 24 numbers"):
        weights.load(tmp_path / "head.npz", vit())
    assert weights.load(tmp_path / "head.npz", vit(num_classes=7), **quiet)
    assert weights.load(tmp_path / "head.npz", vit(num_classes=0), **quiet)
    opened = weights.open_weights(tmp_path / "head.npz")
    expected = jax.eval_shape(vit().init, jax.random.key(0), np.zeros((1, *SHAPE), np.float32))
    zeros = leaves(jax.tree.map(lambda leaf: np.zeros(leaf.shape), expected))
    for change in ({}, {"head.weight": None}, {"head.weight": np.ones((3, 8, 1), np.float32)}):
        odd = {name: array for name, array in {**arrays, **change}.items() if array is not None}
        opened = dataclasses.replace(opened, arrays=odd)
        found = leaves(
            weights.fill(
                opened,
                vit(),
                expected,
                lambda names: {name: zeros[name] for name in names},
                exclude=("^head/",),
            )
        )
        np.testing.assert_array_equal(found["params/encoder_norm/scale"], arrays["norm.weight"])


@pytest.mark.parametrize("lost", ["head.weight", "head.bias"])
def test_a_part_of_a_head_is_not_thrown_away(arrays, tmp_path, lost):
    own = {"head.weight": "params/head/kernel", "head.bias": "params/head/bias"}[lost]
    del arrays[lost]
    files.write(tmp_path / "odd.npz", arrays)
    mine = weights.save(random_variables(vit(), SHAPE), vit(), tmp_path / "m", input_shape=SHAPE)
    kept = {name: array for name, array in files.read(mine).items() if name != own}
    files.write(tmp_path / "mine.npz", kept, metadata=files.metadata(mine))
    for name in ("odd.npz", "mine.npz"):
        with pytest.raises(WeightsError, match=f"the model's {own} .* is not in the file"):
            weights.load(tmp_path / name, vit())
        assert weights.load(tmp_path / name, vit(num_classes=0), say=lambda line: None)


def test_layers_that_are_counted_beyond_the_file_are_told(arrays, tmp_path):
    arrays["blocks.999999999.norm1.weight"] = np.ones(8, np.float32)
    files.write(tmp_path / "deep.npz", arrays)
    with pytest.raises(WeightsError, match="numbered up to 999999999, but it has only 21 arrays"):
        weights.open_weights(tmp_path / "deep.npz")


@pytest.mark.parametrize(
    "name",
    [
        *("npz_bit.weights.npz", "timm_bit.safetensors", "torchvision_basic.pth"),
        *("cifar_a.safetensors", "wide.safetensors", "smp.safetensors", "unet.safetensors"),
        *("learn2learn_pooled.safetensors", "maml_pooled.weights.npz", "resnet12_flat.safetensors"),
        *("vit_big_vision_map.weights.npz", "vit_deit3.safetensors", "vit_hf.safetensors"),
    ],
)
def test_damaged_files_are_told_in_words(monkeypatch, name):
    path = FIXTURES / name
    arrays = files.read(path)
    fields = {"norm_groups": 4} if "bit" in name else {}
    fields |= {"num_heads": 2} if "vit" in name else {}
    quiet = {"say": lambda line: None}
    whole = weights.open_weights(path, **quiet)
    module = weights.module_of(whole, **fields, **quiet)
    example = np.zeros((1, *whole.description.input_shape), np.float32)
    expected = jax.eval_shape(module.init, jax.random.key(0), example)
    zeros = leaves(jax.tree.map(lambda leaf: np.zeros(leaf.shape), expected))
    rng = np.random.default_rng(0)
    for lost in rng.choice(sorted(arrays), 12):
        array = arrays[lost]
        for other in (None, np.float32(1), array.ravel(), array[None, None, None]):
            odd = {n: x for n, x in arrays.items() if n != lost}
            odd |= {} if other is None else {lost: np.asarray(other)}
            monkeypatch.setattr(opening.files, "read", lambda path, part=None, odd=odd: odd)
            with contextlib.suppress(WeightsError):
                found = weights.open_weights(path, **quiet)
                weights.fill(found, module, expected, lambda names: zeros, **quiet)


# --------------------------------------------------------------------------------- what is changed


def test_a_head_of_other_classes_is_made_anew_and_told(file):
    said = []
    module = vit(num_classes=7)
    found = leaves(weights.load(file, module, rng=jax.random.key(3), say=said.append))
    assert said == [f"{file}: the head is reinitialised: the file's has 3 outputs, the model's 7"]
    assert found["params/head/kernel"].shape == (8, 7)
    expected = leaves(weights.load(file, vit()))
    for name, leaf in expected.items():
        if "head" not in name:
            np.testing.assert_array_equal(found[name], leaf)
    fresh = leaves(jax.jit(module.init)(jax.random.key(3), np.zeros((1, *SHAPE), np.float32)))
    for leaf in ("kernel", "bias"):
        np.testing.assert_array_equal(found[f"params/head/{leaf}"], fresh[f"params/head/{leaf}"])


def test_a_bias_that_happens_to_fit_is_made_anew_with_its_kernel(file, arrays, tmp_path):
    # Three classes, of a representation of another width.
    arrays["head.weight"] = np.ones((3, 5), np.float32)
    files.write(tmp_path / "odd.npz", arrays)
    found = leaves(weights.load(tmp_path / "odd.npz", vit(), say=lambda line: None))
    assert arrays["head.bias"].any()
    assert not np.asarray(found["params/head/bias"]).any()


def test_a_file_without_a_head_and_a_model_without_one(file, arrays, tmp_path):
    said = []
    headless = vit(num_classes=0)
    found = weights.load(file, headless, say=said.append)
    assert said == [f"{file}: the model has no head; skipped: params/head/bias, params/head/kernel"]
    assert "head" not in found["params"]
    body = {name: array for name, array in arrays.items() if not name.startswith("head.")}
    files.write(tmp_path / "body.npz", body)
    opened = weights.open_weights(tmp_path / "body.npz")
    assert weights.module_of(opened, num_heads=2).num_classes == 0
    said.clear()
    weights.load(tmp_path / "body.npz", vit(), say=said.append)
    assert said[0].endswith("the head is reinitialised: the file has none, the model has 3 outputs")


def test_a_name_leaves_its_options_to_the_file(tmp_path):
    module = models.create(
        "vit_ti16", depth=12, num_classes=4, pooling="mean", registers=2, layer_scale=0.1
    )
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 32, 48, 3), np.float32))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float16), shapes)
    path = weights.save(zeros, module, tmp_path / "file", "timm")
    files.write(tmp_path / "plain.npz", files.read(path))
    opened = weights.open_weights(tmp_path / "plain.npz", grid=(2, 3))
    found = weights.module_of(opened, "vit_ti16")
    expected = models.create("vit_ti16", num_classes=4, pooling="mean", registers=2)
    assert found == expected.clone(layer_scale=1e-5, class_token=False, class_position=False)
    assert weights.module_of(opened, "vit_ti16", num_classes=9).num_classes == 9
    # What a name says of sizes, a file does not change.
    assert weights.module_of(opened, "vit_s16").width == 384


def test_images_of_another_size_and_dtype(file):
    said = []
    module = vit(param_dtype="bfloat16")
    found = weights.load(file, module, image_size=(8, 12), say=said.append)
    assert said == ["position embeddings resized from 2 x 2 to 2 x 3 patches (bicubic)"]
    assert found["params"]["position_embedding"].shape == (1, 2, 3, 8)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found)} == {"bfloat16"}


# ------------------------------------------------------------------------- the house's own names


@pytest.mark.parametrize("suffix", ["", ".npz", ".pth"])
def test_a_file_of_the_house_tells_all_of_its_model(suffix, tmp_path):
    module = vit(patch_size=(4, 2), norm_epsilon=1e-12, pooling="map", gelu="tanh", dropout=0.1)
    variables = random_variables(module, SHAPE)
    path = weights.save(variables, module, tmp_path / f"file{suffix}", input_shape=SHAPE)
    assert path.suffix == (suffix or ".safetensors")
    opened = weights.open_weights(path)
    assert opened.format == "safetensors"
    assert opened.description.input_shape == SHAPE
    found = weights.module_of(opened)
    # How a model is trained is no matter of its weights.
    assert found == module.clone(dropout=0.0)
    jax.tree.map(np.testing.assert_array_equal, weights.fit(opened, found), variables)
    images = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    logits = jax.jit(found.apply)(weights.load(path, found), images)
    np.testing.assert_array_equal(logits, jax.jit(module.apply)(variables, images))


def test_a_file_of_the_house_is_adapted_like_any(tmp_path):
    said = []
    path = weights.save(random_variables(vit(), SHAPE), vit(), tmp_path / "file", input_shape=SHAPE)
    module = vit(num_classes=5, scan_layers=True)
    found = weights.load(path, module, image_size=12, channels=1, say=said.append)
    assert len(said) == 3
    assert found["params"]["position_embedding"].shape == (1, 3, 3, 8)
    assert found["params"]["patch_embedding"]["kernel"].shape == (4, 4, 1, 8)
    assert found["params"]["encoder"]["blocks"]["norm1"]["scale"].shape == (1, 8)
    with pytest.raises(
        WeightsError, match="pooling is 'token' in the file and 'mean' in the model"
    ):
        weights.load(path, vit(pooling="mean"))


def test_names_of_the_house_without_its_note(tmp_path):
    variables = leaves(random_variables(vit(), SHAPE))
    files.write(tmp_path / "plain.npz", variables)
    with pytest.raises(WeightsError, match="no note of its model"):
        weights.open_weights(tmp_path / "plain.npz")


def test_a_file_that_does_not_say_for_which_images_wants_to_hear_it(tmp_path):
    variables = random_variables(vit(), SHAPE)
    path = weights.save(variables, vit(), tmp_path / "file")
    opened = weights.open_weights(path)
    with pytest.raises(
        WeightsError, match=r"not state the size of its images; set image_size=\.\.\.$"
    ):
        weights.load(path, vit())
    for found in (
        weights.load(path, vit(), image_size=8),  # channels are those of the first kernel
        weights.fill(opened, vit(), jax.eval_shape(lambda: variables), pytest.fail),
    ):
        jax.tree.map(np.testing.assert_array_equal, found, variables)
    grey = weights.load(path, vit(), image_size=8, channels=1, say=lambda line: None)
    assert grey["params"]["patch_embedding"]["kernel"].shape == (4, 4, 1, 8)


def test_a_note_tells_what_shapes_do_not(tmp_path):
    module = vit(width=12, num_heads=3, gelu="tanh", norm_epsilon=1e-5)
    shape = (4, 20, 3)
    variables = random_variables(module, shape)
    path = weights.save(variables, module, tmp_path / "file", "timm", input_shape=shape)
    opened = weights.open_weights(path)
    assert (opened.format, opened.description.input_shape) == ("timm", shape)
    assert weights.module_of(opened, say=pytest.fail) == module
    jax.tree.map(np.testing.assert_array_equal, weights.fit(opened, module), variables)


def test_what_no_shape_shows_is_told_where_the_model_is_given(tmp_path):
    module = vit(gelu="tanh")
    variables = random_variables(module, SHAPE)
    for format in ("safetensors", "timm", "npz"):
        said = []
        path = weights.save(variables, module, tmp_path / format, format, input_shape=SHAPE)
        weights.load(path, module, say=said.append)
        assert not said
        weights.load(path, vit(norm_epsilon=1e-3), say=said.append)
        assert len(said) == 2
        assert "the file's network has gelu='tanh', the model 'exact'" in said[0]
        assert "config.model.gelu" in said[0]
        assert "norm_epsilon=1e-06, the model 0.001" in said[1]
        with pytest.raises(WeightsError, match="num_heads is 2 in the file and 4 in the model"):
            weights.load(path, vit(num_heads=4))
    # Shapes alone tell nothing of it in timm's file, and Google's files all have it.
    for name, told in (("timm.safetensors", []), ("npz.npz", ["gelu"])):
        said = []
        files.write(tmp_path / "plain.npz", files.read(tmp_path / name))
        opened = weights.open_weights(tmp_path / "plain.npz", say=said.append)
        weights.fit(opened, vit(), say=said.append)
        assert [words for words in told if words in "".join(said)] == told == ["gelu"] * len(said)


NOTE = {"model": "ViT", "fields": FIELDS, "input_shape": SHAPE}


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ("{", "is damaged"),
        ("{}", r"is damaged \(KeyError: 'model'\)"),
        ("3", "is damaged"),
        ("[" * 100_000, "is damaged"),
        (json.dumps(NOTE | {"fields": 3}), "is damaged"),
        (json.dumps(NOTE | {"input_shape": [8, 8]}), r"is damaged .*input_shape \[8, 8\]"),
        (json.dumps(NOTE | {"model": "ViTs"}), "unknown model 'ViTs'; did you mean 'ViT'"),
        (json.dumps(NOTE | {"model": "create"}), "unknown model 'create'"),
        (json.dumps(NOTE | {"fields": {"widht": 3}}), "'widht' that ViT does not have; .*'width'"),
        (json.dumps(NOTE | {"fields": {"gelu": "erf"}}), "describes no valid ViT: .*gelu"),
    ],
)
def test_a_note_that_cannot_be_read_is_told(tmp_path, arrays, note, words):
    for names in (arrays, {f"params/{name}": array for name, array in arrays.items()}):
        files.write(tmp_path / "file.safetensors", names, metadata={notes.KEY: note})
        with pytest.raises(WeightsError, match=f"the note .*{words}.*another version of vitjax"):
            weights.open_weights(tmp_path / "file.safetensors")


def test_a_grid_is_for_files_that_have_use_for_one(tmp_path):
    with pytest.raises(
        WeightsError, match=r"read as torchvision: grid=.* does not have; remove it"
    ):
        weights.open_weights(FIXTURES / "torchvision_basic.pth", grid=(2, 2))
    path = weights.save(random_variables(vit(), SHAPE), vit(), tmp_path / "file", input_shape=SHAPE)
    with pytest.raises(WeightsError, match=r"read as safetensors: grid="):
        weights.open_weights(path, grid=(2, 2))


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"image_size": "32"}, "image_size, pixels on a side or (height, width), is '32'"),
        ({"image_size": (8, 8, 3)}, "should be 2 whole numbers above 0"),
        ({"image_size": -8}, "whole numbers above 0"),
        ({"image_size": 8.0}, "whole numbers above 0"),
        ({"channels": 0}, "channels is 0; it should be a whole number above 0"),
        ({"channels": "3"}, "channels is '3'"),
        ({"grid": 2}, "grid=(rows, columns) is 2"),
        ({"grid": "22"}, "grid=(rows, columns) is '22'"),
        ({"grid": (2, 2, 1)}, "grid=(rows, columns) is (2, 2, 1)"),
        ({"grid": (2.5, 2)}, "grid=(rows, columns) is (2.5, 2)"),
    ],
)
def test_sizes_that_are_none_are_told(file, keywords, words):
    with pytest.raises(WeightsError) as caught:
        weights.load(file, vit(), **keywords)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("path", "shape"), [("", None), (".", None), ("a", (8,)), ("a", "888"), ("a", 8.0)]
)
def test_what_names_no_file_or_no_shape_is_not_written(tmp_path, monkeypatch, path, shape):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"is no name of a file|it should be 3 whole numbers"):
        weights.save(random_variables(vit(), SHAPE), vit(), path, input_shape=shape)
    assert not list(tmp_path.iterdir())


class OwnModel(models.Model):
    """A model of a user's own."""

    num_classes: int | None = 3

    @nn.compact
    def __call__(self, inputs, train=False):
        return nn.Dense(self.num_classes, name="head")(inputs.reshape(len(inputs), -1))


@pytest.mark.usefixtures("forgotten_after_the_test")
def test_a_registered_model_of_a_user_is_read_from_its_file(tmp_path):
    module = OwnModel(num_classes=5)
    variables = random_variables(module, SHAPE)
    path = weights.save(variables, module, tmp_path / "own", input_shape=SHAPE)
    with pytest.raises(WeightsError, match="unknown model 'OwnModel'"):
        weights.open_weights(path)
    MODELS.register("own_model")(OwnModel)
    assert weights.module_of(weights.open_weights(path)) == module
    found = weights.load(path, "own_model", num_classes=5)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_what_takes_vectors_is_kept_too(tmp_path):
    module = models.create("mlp_sinusoid")
    variables = random_variables(module, (1,))
    path = weights.save(variables, module, tmp_path / "mlp", input_shape=(1,))
    opened = weights.open_weights(path)
    assert (weights.module_of(opened), opened.description.input_shape) == (module, (1,))
    done = weights.convert(path, tmp_path / "again", say=pytest.fail)
    assert done.input_shape == (1,)
    for loaded in (weights.load(path, module), weights.load(done.path, "mlp_sinusoid")):
        jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    with pytest.raises(WeightsError, match="does not state the size of its images"):
        weights.load(path, module, channels=3)
