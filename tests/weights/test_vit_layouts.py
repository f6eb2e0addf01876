"""Vision Transformers of timm, torchvision, transformers and Google's research code.

The fixtures are written by scripts/parity/references.py, from the cases of vit_cases.py.
"""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import FIXTURES, random_variables, read, written

from vitjax import models, weights
from vitjax.nn.inputs import ImageError
from vitjax.weights import WeightsError
from vitjax.weights.formats import files

NAMES = tuple(sorted(path.stem for path in FIXTURES.glob("vit_*.npz") if path.suffixes == [".npz"]))
# What the files tell of the networks, beside sizes.
TOLD = {
    "vit_timm_token": {"pooling": "token", "class_position": True},
    "vit_timm_mean": {
        "pooling": "mean",
        "class_token": False,
        "registers": 3,
        "qk_norm": True,
        "num_heads": 2,
        "layer_scale": 1e-5,
        "representation_size": 6,
        "patch_size": (4, 2),
    },
    "vit_timm_map": {"pooling": "map", "class_token": False},
    "vit_timm_registers": {"registers": 2, "class_position": False},
    "vit_timm_registers_with_positions": {"registers": 2, "class_position": False},
    "vit_timm_fc_norm": {"pooling": "mean", "class_token": True, "fc_norm": True},
    "vit_deit3": {"class_position": False, "layer_scale": 1e-5},
    "vit_dinov2": {"layer_scale": 1e-5, "class_position": True},
    "vit_dinov2_registers": {"registers": 2, "layer_scale": 1e-5, "class_position": False},
    "vit_npz_token": {"gelu": "tanh", "num_heads": 2, "class_position": True},
    "vit_big_vision_map": {"gelu": "tanh", "num_heads": 2, "pooling": "map"},
    "vit_big_vision_token": {"gelu": "tanh", "num_heads": 2, "class_position": False},
    "vit_torchvision": {"class_position": True},
    "vit_torchvision_hidden": {"representation_size": 6},
    "vit_hf": {"norm_epsilon": 1e-12, "layer_scale": None},
    "vit_hf_5": {"norm_epsilon": 1e-12, "num_classes": 0},
    "vit_hf_deit": {"norm_epsilon": 1e-12, "registers": 1, "class_position": False},
    "vit_hf_mae": {"norm_epsilon": 1e-12, "num_classes": 0},
    "vit_hf_dinov2": {"norm_epsilon": 1e-6, "pooling": "token_and_mean", "layer_scale": 1e-5},
    "vit_hf_dinov2_registers": {"norm_epsilon": 1e-6, "registers": 2, "num_classes": 0},
}


def test_fixtures_are_there():
    assert set(NAMES) == set(TOLD)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_found_out_from_its_file_and_computes_what_the_reference_does(name):
    reference = read(name)
    opened = weights.open_weights(reference.file, grid=reference.spec["grid"])
    assert opened.format == reference.spec["format"]
    assert opened.description.input_shape == reference.images.shape[1:]
    assert TOLD[name].items() <= opened.description.fields.items()
    for dtype, tolerance in (("float32", 1e-4), ("float64", 1e-9)):
        with jax.enable_x64(dtype == "float64"):
            fields = {**reference.spec["fields"], "dtype": dtype, "param_dtype": dtype}
            if opened.format == "timm":  # of whose arrays none tells it
                fields["pooling"] = TOLD[name].get("pooling", "token")
            if opened.format == "huggingface":  # whose epsilon no array tells
                fields["norm_epsilon"] = TOLD[name]["norm_epsilon"]
            module = weights.module_of(opened, **fields, say=pytest.fail)
            variables = weights.fit(opened, module, say=pytest.fail)
            apply = jax.jit(lambda v, x, m=module: m.apply(v, x, mutable=["intermediates"]))
            answer, state = apply(variables, jnp.asarray(reference.images, dtype))
        found = flatten_dict(jax.device_get(state["intermediates"]), sep="/")
        np.testing.assert_allclose(answer, reference.seen["logits"], rtol=0, atol=tolerance)
        seen = {path: value for path, value in reference.seen.items() if path != "logits"}
        assert len(seen) >= 9
        for path, value in seen.items():
            np.testing.assert_allclose(
                found[path][0][: len(value)], value, rtol=0, atol=tolerance, err_msg=path
            )


@pytest.mark.parametrize("name", NAMES)
def test_loaded_saved_and_loaded_again_a_network_is_the_same(name, tmp_path):
    reference = read(name)
    opened = weights.open_weights(reference.file, grid=reference.spec["grid"])
    module = weights.module_of(opened, **reference.spec["fields"])
    variables = weights.fit(opened, module)
    assert jax.tree.leaves(variables)
    format = opened.format
    if format == "huggingface":  # which is only read
        with pytest.raises(WeightsError, match=r"'huggingface' is only read.*written: .*timm"):
            weights.save(variables, module, tmp_path / "again", format)
        format = "big_vision" if module.pooling == "map" else "timm"
    shape = opened.description.input_shape
    if format == "timm" and (module.representation_size or module.pooling == "token_and_mean"):
        with pytest.raises(WeightsError, match=r"'timm'.*(representation_size|token_and_mean)"):
            weights.save(variables, module, tmp_path / "again", format)
        return
    path = weights.save(variables, module, tmp_path / "again", format, input_shape=shape)
    again = weights.open_weights(path)
    assert again.format == format
    assert weights.module_of(again) == module
    jax.tree.map(np.testing.assert_array_equal, weights.fit(again, module), variables)
    if opened.format != "huggingface":
        # The file's own arrays are there again, but for those that say nothing and for biases that
        # it did without.
        arrays = files.read(path)
        for name, array in opened.arrays.items():
            if opened.layout.is_ignored(name):
                continue
            if "_registers" in reference.file.stem and name in ("cls_token", "pos_embed"):
                continue  # in which positions of other tokens have been added up
            if "_registers_with" in reference.file.stem and name == "reg_token":
                continue
            name = re.sub(r"\.gamma_(\d)$", r".ls\1.gamma", name)  # DeiT III's, written as timm's
            name = name.replace("register_tokens", "reg_token")  # DINOv2's, likewise
            np.testing.assert_array_equal(arrays[name], array, err_msg=name)


# ------------------------------------------------------------------------------- any network's file

FORMATS = ("timm", "torchvision", "npz", "big_vision")


@st.composite
def networks(draw):
    """A format, a small network that it holds, and its grid of patches."""
    format = draw(st.sampled_from(FORMATS))
    fields = {
        "width": 8,
        "depth": draw(st.integers(1, 2)),
        "num_heads": 2,
        "mlp_width": draw(st.sampled_from([None, 12])),
        "num_classes": draw(st.sampled_from([0, 3])),
        "patch_size": draw(st.sampled_from([2, 3])),
        "pooling": "token",
        "class_token": True,
    }
    flat = st.sampled_from([{"pooling": "mean", "class_token": False}, {}])
    grid = draw(st.sampled_from([(3, 3), (2, 5)]))
    if format == "timm":
        fields |= draw(flat)
        fields |= draw(st.sampled_from([{}, {"pooling": "mean", "fc_norm": True}]))
        fields |= draw(st.sampled_from([{}, {"pooling": "map"}]))
        if fields["pooling"] == "map":
            fields["fc_norm"] = False
        fields["registers"] = draw(st.integers(0, 2))
        fields["layer_scale"] = draw(st.sampled_from([None, 1e-5]))
        fields["qk_norm"] = draw(st.booleans())
        fields["qkv_bias"] = draw(st.booleans())
        fields["class_position"] = fields["registers"] == 0 and draw(st.booleans())
        fields["patch_size"] = draw(st.sampled_from([2, (3, 2)]))
    else:
        fields["representation_size"] = draw(st.sampled_from([None, 5]))
    if format in ("npz", "big_vision"):
        fields |= {**draw(flat), "gelu": "tanh"}
    if format == "big_vision":
        fields |= draw(st.sampled_from([{}, {"pooling": "map", "class_token": False}]))
        fields["class_position"] = False
    fields["class_position"] = fields["class_token"] and fields.get("class_position", True)
    return format, models.ViT(**fields), grid


@settings(max_examples=20)
@given(networks(), st.integers(1, 4))
def test_what_is_written_is_read(tmp_path_factory, network, channels):
    format, module, grid = network
    height, width = (
        n * p for n, p in zip(grid, np.broadcast_to(module.patch_size, 2), strict=True)
    )
    shape = (int(height), int(width), channels)
    variables = random_variables(module, shape)
    path = written(variables, module, tmp_path_factory.mktemp("file") / "weights", format)
    # Without the note that the writer left.
    plain = path.with_name(f"plain{path.suffix}")
    files.write(plain, files.read(path))
    opened = weights.open_weights(plain, image_size=shape[:2], say=lambda line: None)
    assert opened.format == format
    assert opened.description.input_shape == shape
    told = {"num_heads": 2}
    if format == "timm" and module.pooling == "map" and module.prefix_tokens:
        with pytest.raises(WeightsError, match=r"pool_include_prefix.*set pooling="):
            weights.module_of(opened, **told, say=str)
        told["pooling"] = "map"
    found = weights.module_of(opened, **told, say=str)
    assert found == module.clone(mlp_width=found.mlp_width)
    assert (found.mlp_width or 32) == (module.mlp_width or 32)
    jax.tree.map(np.testing.assert_array_equal, weights.fit(opened, module), variables)


@pytest.mark.parametrize(("format", "registers"), [("timm", 0), ("timm", 2), ("big_vision", 0)])
def test_positions_that_a_format_lacks_are_added_up(format, registers, tmp_path):
    module = models.ViT(
        width=8, depth=1, num_heads=2, patch_size=4, num_classes=3, registers=registers, gelu="tanh"
    )
    variables = random_variables(module, (12, 12, 3))
    path = weights.save(variables, module, tmp_path / "file.npz", format)
    files.write(tmp_path / "plain.npz", files.read(path))
    # Read for itself, the file is of a network whose class token has no position of its own.
    opened = weights.open_weights(tmp_path / "plain.npz")
    found = weights.module_of(opened, num_heads=2, gelu="tanh")
    assert found.class_position == (format == "timm" and not registers)
    images = np.random.default_rng(1).normal(size=(2, 12, 12, 3)).astype(np.float32)
    expected = jax.jit(module.apply)(variables, images)
    for other in (found, module):
        logits = jax.jit(other.apply)(weights.fit(opened, other), images)
        np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("format", FORMATS)
def test_scanned_layers_are_written_and_read(format, tmp_path):
    fields = {"width": 8, "depth": 3, "num_heads": 2, "patch_size": 4, "num_classes": 3}
    gelu = "tanh" if format in ("npz", "big_vision") else "exact"
    loop = models.ViT(**fields, class_position=format != "big_vision", gelu=gelu)
    scanned = loop.clone(scan_layers=True)
    variables = random_variables(scanned, (8, 8, 3))
    assert "blocks" in variables["params"]["encoder"]
    path = weights.save(variables, scanned, tmp_path / "file", format)
    jax.tree.map(np.testing.assert_array_equal, weights.load(path, scanned), variables)
    expected = models.unstack_layers(variables)
    jax.tree.map(np.testing.assert_array_equal, weights.load(path, loop), expected)
    assert "encoder/blocks" not in " ".join(files.read(path))


@pytest.mark.parametrize("format", ["timm", "torchvision", "npz"])
def test_computed_positions_are_kept_where_a_format_keeps_positions(format, tmp_path):
    fields = {"width": 8, "depth": 1, "num_heads": 2, "patch_size": 4, "num_classes": 3}
    gelu = "tanh" if format == "npz" else "exact"
    module = models.ViT(**fields, positions="sincos2d", gelu=gelu)
    shape = (12, 12, 3)
    variables = random_variables(module, shape)
    with pytest.raises(WeightsError, match=r"sincos2d.*input_shape"):
        weights.save(variables, module, tmp_path / "file", format)
    path = weights.save(variables, module, tmp_path / "file", format, input_shape=shape)
    jax.tree.map(np.testing.assert_array_equal, weights.load(path, module), variables)
    arrays = files.read(path)
    files.write(tmp_path / "plain.npz", arrays)
    opened = weights.open_weights(tmp_path / "plain.npz", image_size=12, say=lambda line: None)
    learned = weights.module_of(opened, num_heads=2)
    assert learned.positions == "learned"
    images = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    logits = jax.jit(learned.apply)(weights.fit(opened, learned), images)
    np.testing.assert_allclose(logits, jax.jit(module.apply)(variables, images), atol=1e-5)
    # Learned ones are not taken for computed ones.
    name = next(name for name in arrays if "pos" in name)
    files.write(tmp_path / "other.npz", {**arrays, name: arrays[name] + 0.01})
    with pytest.raises(WeightsError, match=r"not those that positions='sincos2d' computes"):
        weights.load(tmp_path / "other.npz", module, image_size=12)


def test_big_vision_computes_positions_too(tmp_path):
    fields = {"width": 8, "depth": 1, "num_heads": 2, "patch_size": 4, "num_classes": 3}
    module = models.ViT(**fields, pooling="mean", positions="sincos2d", gelu="tanh")
    variables = random_variables(module, (12, 8, 3))
    path = weights.save(variables, module, tmp_path / "file", "big_vision")
    assert not [name for name in files.read(path) if "pos" in name]
    files.write(tmp_path / "plain.npz", files.read(path))
    opened = weights.open_weights(tmp_path / "plain.npz")
    found = weights.module_of(opened)
    assert (found.positions, found.pooling, found.num_heads) == ("sincos2d", "mean", 2)
    jax.tree.map(np.testing.assert_array_equal, weights.fit(opened, found), variables)


# ----------------------------------------------------------------------------- what is refused


def arrays_of(name):
    return files.read(read(name).file)


def refused(folder, arrays, words):
    files.write(folder / "file.safetensors", arrays)
    with pytest.raises(WeightsError, match=words):
        weights.open_weights(folder / "file.safetensors")


ONES = np.ones((1, 1, 8), np.float32)


@pytest.mark.parametrize(
    ("name", "extra", "words"),
    [
        ("vit_timm_token", {"dist_token": ONES}, "distilled DeiT"),
        ("vit_timm_token", {"head_dist.weight": ONES[0]}, "distilled DeiT"),
        ("vit_hf_deit", {"distillation_classifier.weight": ONES[0]}, "distilled DeiT"),
        ("vit_dinov2", {"rope_embed.periods": ONES}, "rotary"),
        ("vit_dinov2", {"blocks.0.0.mlp.w12.weight": ONES[0]}, "SwiGLU"),
        ("vit_hf_dinov2", {"dinov2.encoder.layer.0.mlp.weights_in.weight": ONES[0]}, "SwiGLU"),
        ("vit_npz_token", {"conv_root/kernel": ONES}, "a ResNet before its patches"),
    ],
)
def test_networks_that_no_field_can_say_are_refused_in_words(name, extra, words, tmp_path):
    refused(tmp_path, {**arrays_of(name), **extra}, f"{words}.*which vitjax's ViT does not have: ")


@pytest.mark.parametrize(
    "name", ["vit_timm_mean", "vit_timm_map", "vit_npz_token", "vit_torchvision", "vit_hf_dinov2"]
)
def test_whatever_array_is_missing_or_flat_is_told(name, tmp_path):
    reference = read(name)
    opened = weights.open_weights(reference.file, grid=reference.spec["grid"])
    module = weights.module_of(opened, **reference.spec["fields"])
    example = jnp.zeros((1, *opened.description.input_shape))
    expected = jax.eval_shape(module.init, jax.random.key(0), example)
    arrays, grid = files.read(reference.file), reference.spec["grid"] or (4, 4)

    def read_with(changed, other):
        odd = {k: v for k, v in arrays.items() if k != changed}
        files.write(tmp_path / "odd.npz", odd if other is None else {**odd, changed: other})
        found = weights.open_weights(tmp_path / "odd.npz", grid=grid)
        weights.fill(found, module, expected, pytest.fail)

    # A file may do without a head, without biases of a kind, and without what says nothing.
    spared = r"heads?\b.*|classifier\..*|attn_pool\.kv\.bias|.*mask_token"
    for changed in arrays:
        if not re.fullmatch(spared, changed):
            for other in (None, arrays[changed].reshape(-1, 1, 1, 1, 1)):
                with pytest.raises(WeightsError):
                    read_with(changed, other)


def test_attention_without_biases_is_that_of_all_blocks_or_of_none(tmp_path):
    arrays = arrays_of("vit_timm_map")
    module = weights.module_of(weights.open_weights(read("vit_timm_map").file), num_heads=2)
    del arrays["blocks.1.attn.qkv.bias"]
    files.write(tmp_path / "odd.npz", arrays)
    with pytest.raises(WeightsError, match=r"missing in the file: blocks\.1\.attn\.qkv\.bias"):
        weights.load(tmp_path / "odd.npz", module)
    del arrays["blocks.0.attn.qkv.bias"]
    files.write(tmp_path / "none.npz", arrays)
    found = weights.load(tmp_path / "none.npz", module)
    for block in found["params"]["encoder"].values():
        assert not np.asarray(block["attention"]["key"]["bias"]).any()
    assert np.asarray(found["params"]["pool"]["attention"]["key"]["bias"]).any()


@pytest.mark.parametrize("name", ["vit_timm_map", "vit_hf"])
def test_a_file_without_biases_in_attention_is_of_a_network_without(name, tmp_path):
    reference = read(name)
    arrays = files.read(reference.file)
    biases = [
        key
        for key in arrays
        if re.search(r"blocks\.\d+\.attn\.qkv\.bias|(query|key|value|[qkv]_proj)\.bias", key)
    ]
    files.write(tmp_path / "none.npz", {k: v for k, v in arrays.items() if k not in biases})
    grid = reference.spec["grid"]
    opened = weights.open_weights(tmp_path / "none.npz", grid=grid, say=str)
    module = weights.module_of(opened, **reference.spec["fields"], say=str)
    assert not module.qkv_bias
    variables = weights.fit(opened, module, say=pytest.fail)
    params = variables["params"]
    for block in params["encoder"].values():
        assert "bias" in block["attention"]["out"]
        assert "bias" not in block["attention"]["query"]
    # The same network as that with biases of zero.
    biased = module.clone(qkv_bias=True)
    outputs = [
        jax.jit(m.apply)(weights.fit(opened, m, say=str), jnp.asarray(reference.images))
        for m in (module, biased)
    ]
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)
    # A network without biases cannot hold those of a file.
    with pytest.raises(WeightsError, match="qkv_bias is True in the file and False in the model"):
        weights.load(reference.file, module, grid=grid)


def test_swiglu_under_the_names_of_an_mlp_is_told_by_its_shapes(tmp_path):
    arrays = arrays_of("vit_timm_token")
    arrays["blocks.0.mlp.fc1.weight"] = np.ones((32, 8), np.float32)
    refused(tmp_path, arrays, "SwiGLU")


def test_patches_that_make_no_square_want_a_grid(tmp_path):
    arrays = arrays_of("vit_timm_token")  # 4 x 3 patches and a class token
    words = r"(?s)12 patches, which form no square.*grid=\(rows, columns\).*grid=3,4: .*grid=4,3: "
    refused(tmp_path, arrays, words)
    opened = weights.open_weights(read("vit_timm_token").file, image_size=(16, 12))
    assert opened.description.grid == (4, 3)
    with pytest.raises(WeightsError, match=r"12 patches; a grid of 3 x 5 has 15"):
        weights.open_weights(read("vit_timm_token").file, grid=(3, 5))


OBLONGS = [(rows, rows + 2) for rows in (2, 3, 6, 14)]


def numbered(grid, format, **fields):
    """A file of a ViT whose position embeddings are numbered, the class token's first."""
    module = models.ViT(
        width=8, depth=1, num_heads=2, patch_size=2, num_classes=3, gelu="tanh", **fields
    )
    variables = random_variables(module, (2 * grid[0], 2 * grid[1], 3))
    params = variables["params"]
    width = np.ones(8, np.float32)
    numbers = 1 + np.arange(grid[0] * grid[1], dtype=np.float32).reshape(1, *grid, 1)
    params["position_embedding"] = numbers * width
    if "class_position_embedding" in params:
        params["class_position_embedding"] = 0 * params["class_position_embedding"]
    return module, variables


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("grid", OBLONGS)
def test_an_oblong_whose_patches_and_token_make_a_square_is_not_read_as_one(grid, turned, tmp_path):
    """rows x (rows + 2) patches and a class token are a square of rows + 1."""
    grid = grid[::-1] if turned else grid
    module, variables = numbered(grid, "timm")
    files.write(
        tmp_path / "plain.npz", files.read(weights.save(variables, module, tmp_path / "f", "timm"))
    )
    refused(
        tmp_path,
        files.read(tmp_path / "plain.npz"),
        rf"(?s)several ways.*grid={grid[0]},{grid[1]}: ",
    )
    size, said = (2 * grid[0], 2 * grid[1]), []
    for keywords in ({"grid": grid}, {"image_size": size, "say": said.append}):
        opened = weights.open_weights(tmp_path / "plain.npz", **keywords)
        found = weights.module_of(opened, num_heads=2, gelu="tanh")
        assert found.class_position
        jax.tree.map(np.testing.assert_array_equal, weights.fit(opened, found), variables)
    assert f"{grid[0]} x {grid[1]} patches and 1 position of other tokens" in said[0]
    loaded = weights.load(tmp_path / "plain.npz", module, image_size=size, say=said.append)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


@pytest.mark.parametrize("format", ["torchvision", "npz"])
def test_a_project_whose_class_token_always_has_a_position_is_read_so(format, tmp_path):
    module, variables = numbered((2, 4), format)
    module = module.clone(gelu="exact") if format == "torchvision" else module
    path = written(variables, module, tmp_path / "file", format)
    files.write(tmp_path / "plain.npz", files.read(path))
    with pytest.raises(WeightsError, match=r"(?s)8 patches, which form no square.*grid=2,4"):
        weights.open_weights(tmp_path / "plain.npz")
    found = weights.load(tmp_path / "plain.npz", module, image_size=(4, 8), say=lambda line: None)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_images_of_the_size_of_a_grid_decide_between_a_square_and_an_oblong(tmp_path):
    module, variables = numbered((4, 9), "npz", pooling="mean")
    path = weights.save(variables, module, tmp_path / "file", "npz")
    files.write(tmp_path / "plain.npz", files.read(path))
    said = []
    assert weights.open_weights(tmp_path / "plain.npz", say=pytest.fail).description.grid == (6, 6)
    opened = weights.open_weights(tmp_path / "plain.npz", image_size=(8, 18), say=said.append)
    assert opened.description.grid == (4, 9)
    assert "read as 4 x 9 patches" in said[0]
    assert "by the size of the images, 8 x 18" in said[0]
    # A size that no reading has says nothing.
    opened = weights.open_weights(tmp_path / "plain.npz", image_size=64, say=pytest.fail)
    assert opened.description.grid == (6, 6)


def test_another_network_is_told_before_its_images_are(tmp_path):
    """As a network with patches of 14 for a model with patches of 16."""
    module = models.ViT(width=64, depth=1, num_heads=1, patch_size=7, layer_scale=1e-5)
    path = written(random_variables(module, (21, 21, 3)), module, tmp_path / "file", "timm")
    files.write(tmp_path / "plain.npz", files.read(path))
    other = module.clone(patch_size=8, layer_scale=None)
    with pytest.raises(WeightsError, match="is of another network than the model") as caught:
        weights.load(tmp_path / "plain.npz", other, say=str)
    for words in (
        "patch_size is 7 in the file and 8 in the model",
        "layer_scale is 1e-05 in the file and None in the model",
        "images of 21 x 21 pixels",
        "The file's network in a config:\n  config.model = dict(",
    ):
        assert words in str(caught.value)
    with pytest.raises(ImageError, match="images of 20 x 20 pixels"):
        weights.load(tmp_path / "plain.npz", module, image_size=20, say=str)


def test_heads_are_guessed_in_words_or_asked_for(tmp_path):
    opened = weights.open_weights(read("vit_timm_map").file)
    with pytest.raises(WeightsError, match=r"attention heads.*width of 8; set num_heads="):
        weights.module_of(opened)
    assert weights.module_of(opened, num_heads=4).num_heads == 4
    said = []
    module = models.ViT(width=128, depth=1, num_heads=2, patch_size=4, mlp_width=8, num_classes=0)
    path = weights.save(random_variables(module, (8, 8, 3)), module, tmp_path / "file", "timm")
    files.write(tmp_path / "plain.npz", files.read(path))
    opened = weights.open_weights(tmp_path / "plain.npz")
    assert weights.module_of(opened, say=said.append, pooling="token").num_heads == 2
    assert len(said) == 1
    assert "for a width of 128 it is taken to be 2" in said[0]
    assert "num_heads=... overrides it" in said[0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pooling": "token"}, "that of the class token (timm's global_pool='token')"),
        ({"pooling": "mean", "class_token": True}, "that of the class token"),
        ({"pooling": "mean"}, "the mean of the patches (timm's global_pool='avg')"),
        ({"pooling": "mean", "fc_norm": True}, "the mean of the patches"),
        ({"pooling": "map"}, None),
    ],
)
def test_a_pooling_that_no_array_shows_is_said_as_taken(fields, words, tmp_path):
    module = models.ViT(
        **{"width": 64, "depth": 1, "num_heads": 1, "patch_size": 4, "num_classes": 2, **fields}
    )
    path = written(random_variables(module, (8, 8, 3)), module, tmp_path / "file", "timm")
    files.write(tmp_path / "plain.npz", files.read(path))
    opened, said = weights.open_weights(tmp_path / "plain.npz"), []
    weights.module_of(opened, num_heads=1, say=said.append)
    if words is None:
        assert not said
        return
    assert len(said) == 1
    assert f"no array shows its pooling; taken to be {words}" in said[0]
    assert "pooling=... overrides it" in said[0]
    found = weights.module_of(opened, num_heads=1, pooling=module.pooling, say=pytest.fail)
    assert found.pooling == module.pooling
    # The writer's note says it.
    weights.module_of(weights.open_weights(path), say=pytest.fail)


def test_the_epsilon_of_hugging_face_is_said_as_taken():
    opened, said = weights.open_weights(read("vit_hf").file, grid=read("vit_hf").spec["grid"]), []
    assert weights.module_of(opened, "vit_ti16", say=said.append).norm_epsilon == 1e-12
    assert weights.module_of(opened, num_heads=2, say=said.append).norm_epsilon == 1e-12
    assert ["it is taken to be 1e-12; norm_epsilon=... overrides" in line for line in said] == [
        True
    ] * 2
    weights.module_of(opened, num_heads=2, norm_epsilon=1e-6, say=pytest.fail)


def test_heads_that_a_file_tells_are_those_of_the_model():
    module = models.ViT(width=8, depth=2, num_heads=4, patch_size=4, mlp_width=16, num_classes=5)
    reference = read("vit_npz_token")
    with pytest.raises(WeightsError, match="num_heads is 2 in the file and 4 in the model"):
        weights.load(reference.file, module, grid=(4, 3))


TANH = {"gelu": "tanh"}


@pytest.mark.parametrize(
    ("format", "fields", "words"),
    [
        ("torchvision", {"pooling": "mean"}, "only pooling='token'"),
        ("torchvision", {"gelu": "tanh"}, "only gelu='exact'"),
        ("torchvision", {"registers": 1}, "only registers=0"),
        ("torchvision", {"positions": "none"}, "only ViTs with positions and square patches"),
        ("npz", {}, "Google's code supports only gelu='tanh'"),
        ("npz", {**TANH, "norm_epsilon": 1e-5}, "only norm_epsilon=1e-06"),
        ("npz", {**TANH, "pooling": "map"}, "no pooling='map'"),
        ("npz", {**TANH, "layer_scale": 0.1}, "only layer_scale=None"),
        ("npz", {**TANH, "pooling": "mean", "class_token": True}, "class token only for pooling"),
        ("big_vision", {**TANH, "qk_norm": True}, "only qk_norm=False"),
        ("torchvision", {"qkv_bias": False}, "only qkv_bias=True"),
        ("npz", {**TANH, "qkv_bias": False}, "only qkv_bias=True"),
        ("big_vision", {**TANH, "positions": "none"}, "no networks without positions"),
    ],
)
def test_what_a_format_cannot_hold_is_not_written(format, fields, words, tmp_path):
    fields = {"width": 8, "depth": 1, "num_heads": 2, "patch_size": 4, "num_classes": 3} | fields
    module = models.ViT(**fields)
    variables = random_variables(module, (8, 8, 3))
    with pytest.raises(WeightsError, match=f"format '{format}'.*{words}"):
        weights.save(variables, module, tmp_path / "file", format)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------- prefixes, parts


def test_a_file_without_positions_may_have_rotary_ones(tmp_path):
    """As that of DINOv3, which is computed from nothing that is in it."""
    arrays = arrays_of("vit_timm_map")
    del arrays["pos_embed"]
    files.write(tmp_path / "rotary.npz", arrays)
    opened = weights.open_weights(tmp_path / "rotary.npz")
    with pytest.raises(WeightsError, match=r"no position embeddings.*rotary.*set positions="):
        weights.module_of(opened, num_heads=2)
    module = weights.module_of(opened, num_heads=2, positions="none")
    assert module.positions == "none"
    shape = opened.description.input_shape
    path = weights.save(weights.fit(opened, module), module, tmp_path / "own", "timm")
    again = weights.open_weights(path)
    assert weights.module_of(again, say=pytest.fail) == module
    assert again.description.input_shape == shape


def test_what_stands_beside_a_backbone_is_told_or_left_over(tmp_path):
    arrays = arrays_of("vit_timm_map")
    larger = {f"backbone.{name}": array for name, array in arrays.items()}
    larger |= {"dino_head.mlp.0.weight": ONES, "decoder_embed.weight": ONES}
    said = []
    files.write(tmp_path / "larger.npz", larger)
    opened = weights.open_weights(tmp_path / "larger.npz", say=said.append)
    assert len(said) == 1
    assert said[0].endswith(
        "2 arrays of other networks are skipped: dino_head.mlp.0.weight, decoder_embed.weight"
    )
    module = weights.module_of(opened, num_heads=2)
    assert jax.tree.leaves(weights.fit(opened, module, say=pytest.fail))
    files.write(tmp_path / "larger.npz", {**larger, "linear_head.weight": ONES})
    with pytest.raises(WeightsError, match=r"left over in the file: linear_head\.weight"):
        weights.load(tmp_path / "larger.npz", module)
    files.write(tmp_path / "larger.npz", {**larger, "norm.weight": ONES})
    with pytest.raises(WeightsError, match=r"norm\.weight both with and without .* 'backbone\.'"):
        weights.open_weights(tmp_path / "larger.npz")


@pytest.mark.parametrize("format", ["npz", "torchvision", "safetensors"])
def test_a_hidden_layer_before_the_head_goes_with_the_head(format, tmp_path):
    fields = {"width": 8, "depth": 1, "num_heads": 2, "patch_size": 4, "num_classes": 3}
    gelu = "exact" if format == "torchvision" else "tanh"
    # As wide as the tokens, so that the head would fit without it.
    module = models.ViT(**fields, representation_size=8, gelu=gelu)
    variables = random_variables(module, (8, 8, 3))
    path = weights.save(variables, module, tmp_path / "file", format, input_shape=(8, 8, 3))

    def filled(module, say):
        expected = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        zeros = {n: np.zeros(x.shape, x.dtype) for n, x in weights.loading.flat(expected).items()}
        opened = weights.open_weights(path)
        return weights.fill(opened, module, expected, lambda names: zeros, say=say)

    plain, said = module.clone(representation_size=None), []
    found = filled(plain, said.append)["params"]
    assert len(said) == 1
    assert "the head is reinitialised: the file's follows a hidden layer" in said[0]
    assert not np.asarray(found["head"]["kernel"]).any()
    np.testing.assert_array_equal(found["class_token"], variables["params"]["class_token"])
    said.clear()
    assert "head" not in filled(plain.clone(num_classes=0), said.append)["params"]
    assert "skipped: params/head/bias, params/head/kernel, params/pre_logits/bias" in said[0]
    # The other way round nothing is known of the layer.
    path = weights.save({"params": found}, plain, tmp_path / "plain", format, input_shape=(8, 8, 3))
    with pytest.raises(WeightsError, match="representation_size is None in the file and 8"):
        filled(module, pytest.fail)


@pytest.mark.parametrize("prefix", ["backbone.", "module.backbone.", "visual.trunk.", "module."])
def test_the_backbone_of_a_larger_file_is_taken(prefix, tmp_path):
    arrays = arrays_of("vit_timm_map")
    larger = {f"{prefix}{name}": array for name, array in arrays.items()}
    if prefix != "module.":
        outside = prefix.removesuffix("backbone.").removesuffix("visual.trunk.")
        larger[f"{outside}head.mlp.0.weight"] = ONES[0]
    files.write(tmp_path / "larger.npz", larger)
    found = weights.open_weights(tmp_path / "larger.npz")
    assert found.format == "timm"
    assert set(found.arrays) == set(arrays)


@pytest.mark.parametrize("prefix", ["opt/target/", "params/", "params/img/", "img/"])
def test_trees_of_flax_may_begin_anywhere(prefix, tmp_path):
    arrays = arrays_of("vit_npz_token")
    larger = {f"{prefix}{name}": array for name, array in arrays.items()}
    if prefix == "params/img/":
        larger["params/txt/embedding"] = ONES
    files.write(tmp_path / "larger.npz", larger)
    found = weights.open_weights(tmp_path / "larger.npz", grid=(4, 3))
    assert found.format == "npz"
    assert set(found.arrays) == set(arrays)


def test_what_says_nothing_of_the_outputs_is_passed_over(tmp_path):
    arrays = arrays_of("vit_timm_map")
    module = weights.module_of(weights.open_weights(read("vit_timm_map").file), num_heads=2)
    expected = weights.load(read("vit_timm_map").file, module)
    nothing = ("mask_token", "decoder_embed.weight", "decoder_blocks.0.norm1.bias")
    files.write(tmp_path / "more.npz", {**arrays, **dict.fromkeys(nothing, ONES)})
    found = weights.load(tmp_path / "more.npz", module)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
