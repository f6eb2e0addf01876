"""What lies beside weights in a repository of Hugging Face goes before what shapes suggest."""

import json
import re
import shutil

import numpy as np
import pytest
from reference_files import FIXTURES, random_variables, written

from vitjax import models, weights
from vitjax.weights import WeightsError
from vitjax.weights.formats import files

CONFIG = {
    "model_type": "vit",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 4,
}


@pytest.fixture
def repository(tmp_path):
    """Makes a folder of a fixture's weights with JSON files beside them."""

    def make(fixture, config, **more):
        arrays = files.read(next(FIXTURES.glob(f"{fixture}.*[hs]")))
        files.write(tmp_path / "model.safetensors", arrays)
        for name, content in {"config": config, **more}.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / f"{name}.json").write_text(text)
        return tmp_path

    return make


def opened(folder, **fields):
    said = []
    found = weights.open_weights(folder, say=said.append)
    return found, weights.module_of(found, say=said.append, **fields), "\n".join(said)


@pytest.mark.parametrize("named", ["", "model.safetensors"])
def test_what_transformers_notes_is_taken_and_nothing_is_guessed(repository, named):
    found, module, said = opened(repository("vit_hf", CONFIG) / named)
    assert (module.num_heads, module.norm_epsilon, module.gelu) == (4, 1e-5, "exact")
    assert not said
    assert not found.description.guessed


@pytest.mark.parametrize("name", ["gelu_new", "gelu_pytorch_tanh"])
def test_the_other_gelu_is_taken(repository, name):
    assert opened(repository("vit_hf", {**CONFIG, "hidden_act": name}))[1].gelu == "tanh"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("hidden_act", "silu", 'hidden_act is "silu"; it should be a GELU'),
        ("layer_norm_eps", "small", 'layer_norm_eps is "small"'),
        ("layer_norm_eps", float("nan"), "layer_norm_eps is NaN"),
        ("layer_norm_eps", 10**400, "should be a number between 0 and 1"),
        ("hidden_act", ["gelu"], 'hidden_act is ["gelu"]'),
        ("patch_size", "8", "patch_size is '8'"),
        ("patch_size", 0, "patch_size is 0; it should be 2 whole numbers above 0"),
        ("patch_size", [8, 8, 8], "patch_size is [8, 8, 8]"),
        ("image_size", {"height": 8}, "image_size is {'height': 8}"),
        ("image_size", -32, "image_size is -32"),
        (
            "num_attention_heads",
            -1,
            "is -1; it should be a whole number above 0",
        ),
    ],
)
def test_what_is_not_here_or_makes_no_sense_is_refused(repository, key, value, words):
    folder = repository("vit_hf", {**CONFIG, key: value})
    with pytest.raises(WeightsError, match="beside it: ") as caught:
        weights.open_weights(folder)
    assert words in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_field_that_is_said_goes_before_the_card(repository):
    found = weights.open_weights(repository("vit_hf", CONFIG))
    assert weights.module_of(found, norm_epsilon=1e-3).norm_epsilon == 1e-3


def test_a_model_with_other_heads_than_the_card_is_refused(repository):
    folder = repository("vit_hf", CONFIG)
    _, module, _ = opened(folder)
    with pytest.raises(WeightsError, match="num_heads is 4 in the file and 2 in the model"):
        weights.load(folder, module.clone(num_heads=2))


def test_images_that_are_no_square_are_told(repository, tmp_path):
    arrays = files.read(FIXTURES / "vit_hf.safetensors")
    name = next(name for name in arrays if name.endswith("position_embeddings"))
    patch = next(x for n, x in arrays.items() if n.endswith("projection.weight")).shape[-1]
    width = arrays[name].shape[-1]
    arrays[name] = np.zeros((1, 1 + 2 * 5, width), np.float32)
    (tmp_path / "other").mkdir()
    files.write(tmp_path / "other" / "model.safetensors", arrays)
    config = {**CONFIG, "image_size": [2 * patch, 5 * patch], "patch_size": patch}
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    assert weights.open_weights(tmp_path / "other").description.grid == (2, 5)


@pytest.mark.parametrize(
    ("architecture", "gelu"),
    [
        ("vit_base_patch16_siglip_224", "exact"),
        ("vit_base_patch32_siglip_256", "tanh"),
        ("vit_large_patch16_siglip_384", "exact"),
        ("vit_large_patch16_siglip_gap_512", "tanh"),
        ("vit_so400m_patch14_siglip_378", "exact"),
        ("vit_so400m_patch16_siglip_384", "tanh"),
        ("vit_giantopt_patch16_siglip_gap_256", "tanh"),
        ("vit_small_patch16_224", "exact"),
    ],
)
def test_timms_names_tell_the_gelu(repository, architecture, gelu):
    """As timm 1.0.31 builds them."""
    folder = repository("vit_deit3", {"architecture": architecture})
    assert opened(folder, num_heads=2)[1].gelu == gelu


@pytest.mark.parametrize(
    ("fixture", "architecture", "words"),
    [
        ("torchvision_basic", "resnetblur18", "blurs"),
        ("torchvision_wide", "resnetaa50", "anti-aliasing"),
        ("vit_deit3", "vit_base_patch16_rpn_224", "normalises after"),
        ("vit_deit3", "vit_small_patch16_rope_ape_224", "rotary"),
        ("vit_timm_map", "vit_pe_core_tiny_patch16_384", "rotary"),
    ],
)
def test_siblings_in_timm_that_compute_otherwise_are_refused(
    repository, fixture, architecture, words
):
    folder = repository(fixture, {"architecture": architecture})
    with pytest.raises(WeightsError, match=f"timm's '{architecture}', which .*{words}"):
        weights.open_weights(folder)


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("act_layer", "gelu_tanh", "gelu", "tanh"),
        ("num_heads", 4, "num_heads", 4),
        ("global_pool", "avg", "pooling", "mean"),
        ("drop_path_rate", 0.2, "pooling", "token"),
        ("norm_layer", "layernorm", "norm_epsilon", 1e-6),
    ],
)
def test_arguments_of_a_model_of_timm_are_taken(repository, key, value, field, expected):
    arguments = {"num_heads": 2, key: value}
    config = {"architecture": "vit_tiny_patch16_224", "global_pool": "token"}
    folder = repository("vit_deit3", {**config, "model_args": arguments})
    assert getattr(opened(folder)[1], field) == expected


@pytest.mark.parametrize(
    ("fixture", "key", "value"),
    [
        ("vit_deit3", "act_layer", "silu"),
        ("vit_deit3", "global_pool", "max"),
        ("torchvision_basic", "pool_include_prefix", True),
        ("vit_deit3", "norm_layer", "rmsnorm"),
        ("vit_deit3", "num_heads", "four"),
        ("torchvision_basic", "act_layer", "silu"),
        ("torchvision_basic", "output_stride", 16),
        ("torchvision_basic", "global_pool", "max"),
        ("torchvision_basic", "aa_layer", "blurpool"),
    ],
)
def test_arguments_with_which_timm_computes_otherwise_are_refused(repository, fixture, key, value):
    config = {"architecture": "resnet18", "model_args": {key: value}}
    with pytest.raises(
        WeightsError, match=rf"{key} is ({json.dumps(value)}|{value!r}); it should be"
    ):
        weights.open_weights(repository(fixture, config))


@pytest.mark.parametrize(
    ("pooling", "tokens", "included", "right"),
    [
        ("map", True, True, True),
        ("map", True, False, False),
        ("map", True, None, False),
        ("map", False, True, True),
        ("map", False, None, True),
        ("avg", True, False, True),
        ("avg", True, None, True),
        ("avg", True, True, False),
        ("avg", False, True, True),
        ("token", True, True, True),
    ],
)
@pytest.mark.parametrize("stated", [True, False])
def test_the_tokens_that_are_pooled_are_those_that_timm_pools(
    stated, pooling, tokens, included, right, tmp_path
):
    """As timm 1.0.31's VisionTransformer.pool: the default leaves class token and registers out."""
    fields = {"width": 64, "depth": 1, "num_heads": 1, "patch_size": 4, "num_classes": 2}
    own = "mean" if pooling == "avg" else pooling
    module = models.ViT(
        **fields,
        pooling=own,
        class_token=tokens,
        registers=2 * tokens,
        class_position=tokens,
        fc_norm=pooling == "avg",
    )
    path = written(random_variables(module, (8, 8, 3)), module, tmp_path / "file", "timm")
    files.write(tmp_path / "model.safetensors", files.read(path))
    arguments = {} if included is None else {"pool_include_prefix": included}
    config = {"architecture": "vit_base_patch16_224", "model_args": arguments}
    if stated or pooling != "map":  # which the arrays show
        config["global_pool"] = pooling
    (tmp_path / "config.json").write_text(json.dumps(config))
    if right:
        assert opened(tmp_path)[1].pooling == own
        return
    with pytest.raises(
        WeightsError, match=r"pool_include_prefix is \w+; it should be \w+: vitjax's"
    ):
        opened(tmp_path)


def test_registered_names_of_timm_tell_which_tokens_are_pooled(tmp_path):
    module = models.ViT(
        **{"width": 64, "depth": 1, "num_heads": 1, "patch_size": 4, "num_classes": 2},
        **{"pooling": "map", "class_token": False, "registers": 1, "class_position": False},
    )
    path = written(random_variables(module, (8, 8, 3)), module, tmp_path / "file", "timm")
    files.write(tmp_path / "model.safetensors", files.read(path))
    config = tmp_path / "config.json"
    images = {"pretrained_cfg": {"input_size": [3, 8, 8]}}
    config.write_text(json.dumps({"architecture": "test_vit3", "global_pool": "map", **images}))
    assert opened(tmp_path, num_heads=1)[1].pooling == "map"
    config.write_text(json.dumps({"architecture": "vit_so150m_patch16_reg4_map_256", **images}))
    with pytest.raises(WeightsError, match="pool_include_prefix is false; it should be true"):
        opened(tmp_path)


def test_the_perception_encoder_under_a_vit_s_names_is_to_be_named(tmp_path):
    """timm's vit_pe_core_* have rotary positions without an array."""
    module = models.ViT(
        **{"width": 64, "depth": 1, "num_heads": 1, "patch_size": 4, "num_classes": 2},
        **{"pooling": "map", "pre_norm": True, "class_token": True, "norm_epsilon": 1e-5},
    )
    path = written(random_variables(module, (8, 8, 3)), module, tmp_path / "file", "timm")
    files.write(tmp_path / "plain.safetensors", files.read(path))
    found = weights.open_weights(tmp_path / "plain.safetensors")
    with pytest.raises(WeightsError, match="but also of timm's vit_pe_core networks"):
        weights.module_of(found, num_heads=1, gelu="exact")


def test_timm_s_images_that_are_no_square_are_told(repository):
    """36 patches: 6 x 6 by their number, 4 x 9 by the card."""
    arrays = files.read(FIXTURES / "vit_deit3.safetensors")
    patch = arrays["patch_embed.proj.weight"].shape[-1]
    config = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": {"img_size": [4 * patch, 9 * patch]},
        "pretrained_cfg": {"input_size": [3, 224, 224]},
    }
    folder = repository("vit_deit3", config)
    arrays["pos_embed"] = np.zeros((1, 36, arrays["pos_embed"].shape[-1]), np.float32)
    files.write(folder / "model.safetensors", arrays)
    assert weights.open_weights(folder).description.grid == (4, 9)


def test_the_images_of_training_are_told(repository):
    cfg = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 0.5], "input_size": [3, 224, 224]}
    config = {"architecture": "vit_small_patch16_224", "pretrained_cfg": cfg}
    found = weights.open_weights(repository("vit_deit3", config))
    assert (found.mean, found.std) == ((0.5,) * 3, (0.25, 0.5, 0.5))
    images = {"do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 2]}
    folder = repository("vit_hf", CONFIG, preprocessor_config=images)
    found = weights.open_weights(folder)
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (1, 1, 2))
    (folder / "preprocessor_config.json").write_text(json.dumps({**images, "do_normalize": False}))
    assert weights.open_weights(folder).mean is None


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 100_000, " " * 2**24 + "{}"])
def test_a_damaged_card_is_told_and_passed_over(repository, text):
    _, module, said = opened(repository("vit_hf", text), num_heads=2)
    assert re.search("config.json: (cannot be read|refused: a card has 16,777,218 bytes)", said)
    assert "using shapes alone" in said
    assert module.norm_epsilon == 1e-12


def test_a_config_beside_a_file_of_another_name_is_of_something_else(repository):
    folder = repository("vit_hf", CONFIG)
    shutil.move(folder / "model.safetensors", folder / "mine.safetensors")
    assert opened(folder / "mine.safetensors", num_heads=2)[1].norm_epsilon == 1e-12
    shutil.move(folder / "mine.safetensors", folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model": {"name": "vit_s16"}}))
    assert opened(folder, num_heads=2)[1].norm_epsilon == 1e-12
