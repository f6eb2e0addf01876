"""The vision towers of CLIP and SigLIP.

The fixture is written by scripts/parity/make_contrastive_fixture.py, from transformers.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from vitjax import models, weights
from vitjax.weights import WeightsError
from vitjax.weights.formats import files

FIXTURE = Path(__file__).parent / "fixtures" / "contrastive.npz"


def stored():
    with np.load(FIXTURE) as file:
        return dict(file)


def arrays_of(name):
    return {key[len(name) + 1 :]: x for key, x in stored().items() if key.startswith(f"{name}/")}


def check_computes(path, expected, **options):
    """The network of a file gives the reference's outputs in float64."""
    with jax.enable_x64(True):
        opened = weights.open_weights(path, say=str)
        fields = {"num_heads": 2, "dtype": "float64", "param_dtype": "float64", **options}
        module = weights.module_of(opened, say=str, **fields)
        variables = weights.fit(opened, module, say=pytest.fail)
        found = jax.jit(module.apply)(variables, stored()["images"].astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    return module


@pytest.mark.parametrize("name", ["clip", "siglip"])
@pytest.mark.parametrize("prefix", ["", "vision_tower."])
def test_the_tower_of_transformers_computes_what_transformers_does(name, prefix, tmp_path):
    path, said = tmp_path / "model.safetensors", []
    named = {f"{prefix}{key}": x for key, x in arrays_of(name).items()}
    files.write(path, named)
    opened = weights.open_weights(path, say=said.append)
    assert opened.format == "huggingface"
    assert "other networks are skipped: logit_" in " ".join(said)
    module = check_computes(path, stored()[name])
    assert (module.pre_norm, module.pooling) == {
        "clip": (True, "token"),
        "siglip": (False, "map"),
    }[name]
    assert weights.open_weights(path, say=str).description.interpolation == "bicubic_plain"


def test_the_gelu_of_clip_is_said_and_taken_from_a_card(tmp_path):
    path, said = tmp_path / "model.safetensors", []
    files.write(path, arrays_of("clip"))
    opened = weights.open_weights(path, say=str)
    assert weights.module_of(opened, num_heads=2, say=said.append).gelu == "quick"
    assert "LAION's CLIP has gelu='exact'; gelu=... overrides it" in said[0]
    card = {"model_type": "clip", "vision_config": {"hidden_act": "gelu", "num_attention_heads": 4}}
    (tmp_path / "config.json").write_text(json.dumps(card))
    module = weights.module_of(weights.open_weights(path, say=str), say=pytest.fail)
    assert (module.gelu, module.num_heads) == ("exact", 4)


def test_a_tower_without_a_projection_gives_its_class_token(tmp_path):
    path = tmp_path / "file.npz"
    arrays = {k: x for k, x in arrays_of("clip").items() if k.startswith("vision_model.")}
    files.write(path, arrays)
    expected = arrays_of("clip")["visual_projection.weight"].astype(np.float64)
    with jax.enable_x64(True):
        opened = weights.open_weights(path, say=pytest.fail)
        fields = {"num_heads": 2, "dtype": "float64", "param_dtype": "float64"}
        module = weights.module_of(opened, say=str, **fields)
        variables = weights.fit(opened, module)
        token = jax.jit(module.apply)(variables, stored()["images"].astype(np.float64))
    assert not module.num_classes
    np.testing.assert_allclose(np.asarray(token) @ expected.T, stored()["clip"], atol=1e-9)


def openai():
    """The tower of CLIP with the names of OpenAI's files, beside a text tower."""
    theirs = arrays_of("clip")
    layer, block = r"vision_model\.encoder\.layers\.(\d)\.", r"visual.transformer.resblocks.\1."
    names = {
        r"vision_model\.embeddings\.patch_embedding\.": "visual.conv1.",
        r"vision_model\.embeddings\.class_embedding": "visual.class_embedding",
        r"vision_model\.embeddings\.position_embedding\.weight": "visual.positional_embedding",
        r"vision_model\.pre_layrnorm\.": "visual.ln_pre.",
        r"vision_model\.post_layernorm\.": "visual.ln_post.",
        rf"{layer}layer_norm(\d)\.": rf"{block}ln_\2.",
        rf"{layer}mlp\.fc1\.": rf"{block}mlp.c_fc.",
        rf"{layer}mlp\.fc2\.": rf"{block}mlp.c_proj.",
        rf"{layer}self_attn\.out_proj\.": rf"{block}attn.out_proj.",
    }
    found = {"visual.proj": theirs["visual_projection.weight"].T}
    for pattern, name in names.items():
        found |= {re.sub(pattern, name, k): x for k, x in theirs.items() if re.match(pattern, k)}
    for layer in range(2):
        for leaf in ("weight", "bias"):
            parts = (
                f"vision_model.encoder.layers.{layer}.self_attn.{x}_proj.{leaf}" for x in "qkv"
            )
            name = f"visual.transformer.resblocks.{layer}.attn.in_proj_{leaf}"
            found[name] = np.concatenate([theirs[part] for part in parts])
    text = {"positional_embedding": np.ones((3, 4), np.float32), "logit_scale": np.float32(1)}
    text |= {"transformer.resblocks.0.attn.in_proj_weight": np.ones((12, 4), np.float32)}
    return found | {name: np.asarray(array) for name, array in text.items()}


@pytest.mark.parametrize("whole", [True, False])
def test_the_tower_with_openai_s_names_computes_the_same(whole, tmp_path):
    path = tmp_path / "file.npz"
    arrays = openai()
    if not whole:
        arrays = {k.removeprefix("visual."): x for k, x in arrays.items() if "visual." in k}
    files.write(path, arrays)
    said = []
    opened = weights.open_weights(path, say=said.append)
    assert opened.format == "open_clip"
    # The same names are those of networks with another GELU.
    assert any("no array shows its GELU: gelu='quick' for OpenAI's" in line for line in said)
    with pytest.raises(WeightsError, match=r"no array shows its GELU.*set gelu="):
        weights.module_of(opened, num_heads=2)
    check_computes(path, stored()["clip"], gelu="quick")
    # In the archives of OpenAI are numbers that say it.
    numbers = {"input_resolution": np.int64(16), "vocab_size": np.int64(5)}
    files.write(path, {**arrays, **numbers})
    check_computes(path, stored()["clip"])


@pytest.mark.parametrize("architecture", [None, "vit_x_clip_quickgelu_224"])
def test_the_tower_with_timm_s_names_computes_the_same(architecture, tmp_path):
    path = tmp_path / "model.safetensors"
    arrays = {}
    for name, array in openai().items():
        if not name.startswith("visual."):
            continue
        for old, new in (
            ("visual.", ""),
            ("conv1.", "patch_embed.proj."),
            ("class_embedding", "cls_token"),
            ("positional_embedding", "pos_embed"),
            ("ln_pre.", "norm_pre."),
            ("ln_post.", "norm."),
            ("transformer.resblocks.", "blocks."),
            (".ln_", ".norm"),
            (".attn.in_proj_", ".attn.qkv."),
            (".out_proj.", ".proj."),
            (".c_fc.", ".fc1."),
            (".c_proj.", ".fc2."),
        ):
            name = name.replace(old, new)
        arrays[name] = array
    arrays |= {"head.weight": arrays.pop("proj").T, "head.bias": np.zeros(6, np.float32)}
    arrays["cls_token"] = arrays["cls_token"].reshape(1, 1, 8)
    arrays["pos_embed"] = arrays["pos_embed"][None]
    files.write(path, arrays)
    if architecture is not None:
        (tmp_path / "config.json").write_text(json.dumps({"architecture": architecture}))
        check_computes(path, stored()["clip"])
        return
    with pytest.raises(
        WeightsError, match=r"tower of CLIP, and no array shows its GELU.*set gelu="
    ):
        weights.module_of(weights.open_weights(path), num_heads=2)
    check_computes(path, stored()["clip"], gelu="quick")


def test_another_number_of_outputs_makes_a_new_head(tmp_path):
    path, said = tmp_path / "file.npz", []
    files.write(path, openai())
    module = models.ViT(
        width=8,
        depth=2,
        num_heads=2,
        mlp_width=12,
        patch_size=4,
        num_classes=3,
        gelu="quick",
        pre_norm=True,
        norm_epsilon=1e-5,
    )
    found = weights.load(path, module, image_size=24, say=said.append)
    assert found["params"]["head"]["kernel"].shape == (8, 3)
    assert "the head is reinitialised: the file's has 6 outputs, the model's 3" in said[-1]
    assert "from 4 x 4 to 6 x 6 patches (bicubic)" in said[-2]
