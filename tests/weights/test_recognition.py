"""Which layout a file has: by required and forbidden names, and by how much of it is explained.

timm's names and shapes are written by scripts/parity/make_timm_names.py.
"""

from __future__ import annotations

import functools
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from reference_files import FIXTURES

from vitjax import models, weights
from vitjax.weights import WeightsError, opening
from vitjax.weights.layouts import elsewhere


@functools.cache
def timm() -> dict[str, dict[str, list[int]]]:
    return json.loads(gzip.decompress((FIXTURES / "timm_names.json.gz").read_bytes()))


@pytest.fixture
def opened(monkeypatch):
    """Opens a file that has arrays of the given names and shapes, all of them zero."""

    def open_(shapes, **keywords):
        arrays = {n: np.broadcast_to(np.float32(0), shape) for n, shape in shapes.items()}
        monkeypatch.setattr(opening.files, "located", Path)
        monkeypatch.setattr(opening.files, "metadata", lambda path: {})
        monkeypatch.setattr(opening.files, "read", lambda path, part=None: arrays)
        return weights.open_weights("file", **keywords)

    return open_


def refused(opened, shapes, **keywords) -> str:
    with pytest.raises(WeightsError) as caught:
        opened(shapes, **keywords)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("resnet34", "resnet34"),
        ("wide_resnet50_2", "wrn50_2"),
        ("resnetv2_18", "resnet18_v2"),
        ("vit_tiny_patch16_224", "vit_ti16"),
    ],
)
def test_timms_networks_are_the_registered_ones(opened, name, model):
    found = weights.module_of(opened(timm()[name]), say=lambda words: None)
    if isinstance(found, models.ViT):
        found = found.clone(mlp_width=None, class_token=None)
    assert found == models.create(model)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("resnet50_gn", "norm", "group"),
        ("resnetv2_50x1_bit", "standardize_epsilon", 1e-8),
        ("vit_base_patch16_siglip_gap_224", "pooling", "mean"),
    ],
)
def test_timms_networks_are_told_by_their_shapes(opened, name, field, value):
    said = []
    found = opened(timm()[name], say=said.append)
    assert getattr(weights.module_of(found, say=said.append), field) == value
    known = ("number of attention heads", "number of groups", "shows its pooling")
    assert not [line for line in said if not any(words in line for words in known)]


def test_the_size_of_images_tells_deit_iii_from_an_oblong_network(opened):
    """196 positions: 14 x 14 patches, or 13 x 15 and a class token."""
    shapes, said = timm()["deit3_small_patch16_224"], []
    message = refused(opened, shapes)
    assert "196 positions can be read in several ways" in message
    for words in (
        "grid=14,14: 14 x 14 patches without a position of the class token, for images of 224 x",
        "grid=13,15: 13 x 15 patches and 1 position of other tokens, for images of 208 x 240",
        "grid=15,13: ",
    ):
        assert words in message
    found = weights.module_of(opened(shapes, image_size=224, say=said.append), say=said.append)
    assert (found.layer_scale, found.class_position) == (1e-5, False)
    assert "read as 14 x 14 patches without a position of the class token" in said[0]
    assert opened(shapes, grid=(14, 14)).description.grid == (14, 14)
    oblong = opened(shapes, image_size=(208, 240), say=said.append)
    assert (oblong.description.grid, oblong.description.fields["class_position"]) == (
        (13, 15),
        True,
    )
    refused(opened, shapes, image_size=384)
    # DeiT III's own names are of it alone.
    own = {re.sub(r"ls(\d)\.gamma", r"gamma_\1", name): shape for name, shape in shapes.items()}
    assert opened(own, say=pytest.fail).description.grid == (14, 14)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnext101_32x4d", "its convolutions are grouped (ResNeXt)"),
        ("seresnet18", "attention over channels (SE-ResNet, ECA-ResNet)"),
        ("seresnext50_32x4d", "attention over channels (SE-ResNet, ECA-ResNet)"),
        ("legacy_seresnet18", "layer1.0.se_module.fc1.weight"),
        ("legacy_seresnext26_32x4d", "layer1.0.se_module.fc1.weight"),
        ("seresnet101", "attention over channels (SE-ResNet, ECA-ResNet)"),
        ("senet154", "layer1.0.se.fc1.weight"),
        ("ecaresnetlight", "layer1.0.se.conv.weight"),
        ("skresnet18", "selective kernels (SK-ResNet)"),
        ("skresnet50d", "selective kernels (SK-ResNet)"),
        ("resnest26d", "split attention (ResNeSt)"),
        ("resnest14d", "split attention (ResNeSt)"),
        ("res2net50_48w_2s", "several scales (Res2Net)"),
        ("resnetaa50d", "several convolutions in its stem"),
        ("resnet18d", "several convolutions in its stem"),
        ("resnet26t", "several convolutions in its stem"),
        ("resnetv2_18d", "several convolutions in its stem"),
        ("gernet_s", "has no array named bn1.weight or stages.0.blocks.0.norm1.weight"),
        ("beit_base_patch16_224", "relative positions (BEiT, SAM)"),
        ("samvit_base_patch16", "relative positions (BEiT, SAM)"),
        ("cait_xxs24_224", "talking heads (CaiT)"),
        ("vit_small_r26_s32_224", "a convolutional network before its patches"),
        ("eva_giant_patch14_224", "biases of queries and values only"),
        ("deit_tiny_distilled_patch16_224", "a distillation token"),
    ],
)
def test_relatives_are_refused_with_the_reason(opened, name, words):
    message = refused(opened, timm()[name])
    assert words in message
    assert "read as " in message
    # Nor does a person make them plain by a format.
    for format in {"torchvision", "timm"}:
        assert words in refused(
            opened, timm()[name], format=format
        ) or "not named as in" in refused(opened, timm()[name], format=format)


# Relatives that vitjax has, by timm's names, and why each is no ResNet.
RELATIVES = {
    "resnext50_32x4d": ("resnext50_32x4d", "its convolutions are grouped (ResNeXt)"),
    "resnext101_32x8d": ("resnext101_32x8d", "its convolutions are grouped (ResNeXt)"),
    "seresnet50": ("seresnet50", "attention over channels (SE-ResNet, ECA-ResNet)"),
    "legacy_senet154": ("senet154", "attention over channels (SE-ResNet, ECA-ResNet)"),
    "skresnet50": ("skresnet50", "selective kernels (SK-ResNet)"),
    "skresnext50_32x4d": ("skresnext50_32x4d", "selective kernels (SK-ResNet)"),
    "resnest50d": ("resnest50d", "split attention (ResNeSt)"),
}


@pytest.mark.parametrize("name", RELATIVES)
def test_relatives_that_are_here_are_read_as_what_they_are(opened, name):
    model = models.create(RELATIVES[name][0])
    found = weights.module_of(opened(timm()[name], say=pytest.fail), say=pytest.fail)
    assert type(found) is type(model)
    assert found.effective_fields() == model.effective_fields()
    # An array less, and it is neither this network nor a ResNet.
    shapes = dict(timm()[name])
    del shapes[next(each for each in shapes if re.match(r"layer2\.1\.conv3.*weight", each))]
    assert f"the nearest is {name}" in refused(opened, shapes)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnext101_32x4d", "resnext50_32x4d"),
        ("seresnet101", "seresnet50"),
        ("resnest26d", "resnest50d"),
    ],
)
def test_of_relatives_of_other_sizes_the_nearest_is_named(opened, name, nearest):
    assert f"the nearest is {nearest}" in refused(opened, timm()[name])


@pytest.mark.parametrize("name", RELATIVES)
def test_relatives_are_never_taken_for_a_resnet(opened, monkeypatch, name):
    """Even if nothing else is known."""
    resnets = tuple(each for each in opening.LAYOUTS if models.ResNet in each.modules)
    monkeypatch.setattr(opening, "LAYOUTS", resnets)
    message = refused(opened, timm()[name])
    assert RELATIVES[name][1] in message


def test_what_no_array_of_a_resnet_shows_is_said(opened):
    """The groups of a normalisation, and what follows a first convolution of 3 x 3."""
    said = []
    found = opened(timm()["resnet50_gn"], format="torchvision", say=said.append)
    assert not said
    assert weights.module_of(found, say=said.append).norm_groups == 32
    assert "taken to be 32; norm_groups=... overrides it" in said[0]
    shapes, said = {**timm()["resnet34"], "conv1.weight": [64, 3, 3, 3]}, []
    assert opened(shapes, say=said.append).description.fields["stem"] == "cifar"
    assert len(said) == 1
    assert "a torchvision ResNet of which only conv1 was replaced" in said[0]
    opened(timm()["resnet34"], say=pytest.fail)


def test_anti_aliasing_with_filters_is_refused(opened):
    """As in adobe/antialiased-cnns, whose filters are arrays."""
    shapes = {**timm()["resnet18"], "layer2.0.downsample.0.filt": [64, 1, 3, 3]}
    assert "filters of anti-aliasing" in refused(opened, shapes)


@pytest.mark.parametrize(
    ("name", "own", "other"),
    [
        ("resnet18", "resnet18", "timm's resnetblur18"),
        ("resnetblur18", "resnet18", "timm's resnetblur18"),
        ("resnet50", "resnet50", "timm's resnetaa50 and resnetblur50"),
        ("resnetaa50", "resnet50", "timm's resnetaa50 and resnetblur50"),
        ("resnetblur50", "resnet50", "timm's resnetaa50 and resnetblur50"),
        ("vit_base_patch16_rpn_224", "vit_b16", "timm's vit_base_patch16_rpn_224"),
        ("vit_small_patch16_rope_ape_224", "vit_s16", "timm's vit_small_patch16_rope_ape_224"),
    ],
)
def test_what_arrays_alone_do_not_say_is_to_be_said(opened, name, own, other):
    found = opened(timm()[name], say=lambda words: None)
    with pytest.raises(WeightsError) as caught:
        weights.module_of(found)
    for words in (other, f"--model={own} (model='{own}')", f"dict(name='{own}'", "config.json"):
        assert words in str(caught.value)
    named = weights.module_of(found, own, say=lambda words: None)
    assert type(named) is found.description.model
    # timm has both, and other projects only the plain network.
    assert ("--read-as=torchvision" in str(caught.value)) == other.startswith("timm's resnet")
    if other.startswith("timm's resnet"):
        assert weights.module_of(opened(timm()[name], format="torchvision")) == models.create(own)
    with pytest.raises(WeightsError, match=r"config\.json"):
        weights.module_of(opened(timm()[name], format="timm"))


@pytest.mark.parametrize("prefix", ["", "backbone.", "encoder_q.", "encoder.", "net."])
def test_siblings_are_asked_for_whatever_the_names_begin_with(prefix, opened):
    shapes = {f"{prefix}{name}": shape for name, shape in timm()["resnet18"].items()}
    found = opened(shapes, say=str)
    with pytest.raises(WeightsError) as caught:
        weights.module_of(found)
    message = str(caught.value)
    assert "but also of timm's resnetblur18" in message
    assert "--model=resnet18 (model='resnet18')" in message
    assert "--read-as=torchvision (format='torchvision')" in message
    assert "config.model = dict(name='resnet18')" in message
    read = opened(shapes, say=str, format="torchvision")
    assert weights.module_of(read) == models.create("resnet18")


def test_a_config_beside_a_file_says_which_it_is(opened, monkeypatch):
    card = opening.card.Card({"architecture": "resnet50"})
    monkeypatch.setattr(opening.card, "read", lambda path, say: card)
    found = weights.module_of(opened(timm()["resnet50"]))
    assert found == models.create("resnet50")
    card.config["architecture"] = "resnetaa50"
    with pytest.raises(WeightsError, match="timm's 'resnetaa50', which averages"):
        opened(timm()["resnetaa50"])


@pytest.mark.parametrize(
    "name", ["aux_classifier.0.weight", "classifier.0.convs.0.0.weight", "classifier.0.convs.1.0.w"]
)
def test_the_backbone_of_a_decoder_is_refused_with_the_reason(name, opened):
    """Its last stages are dilated, as no array shows; a part of a file is what a person names."""
    shapes = {f"backbone.{key}": shape for key, shape in timm()["resnet50"].items()}
    message = refused(opened, {**shapes, name: [4, 4, 3, 3]})
    assert "has dilated convolutions (DeepLab, FCN)" in message
    assert "Res2Net" not in message


@pytest.mark.parametrize("name", RELATIVES)
def test_relatives_below_a_decoder_are_refused_with_the_reason(name, opened):
    message = refused(opened, {**timm()[name], "aux_classifier.0.weight": [4, 4, 3, 3]})
    assert "has dilated convolutions (DeepLab, FCN)" in message


def test_resnets_whose_stages_do_not_double_are_refused_with_the_widths(opened):
    """As timm's test_resnet, of 32, 48, 48 and 96 channels."""
    widths = {64: 32, 128: 48, 256: 48, 512: 96}
    shapes = {
        name: [widths.get(side, side) for side in shape]
        for name, shape in timm()["resnet18"].items()
        if not name.startswith("fc.")
    }
    assert "its stages have 32, 48, 48, 96 channels" in refused(opened, shapes)


def test_resnets_of_other_widths_have_no_sibling(opened):
    """As those of self-supervised learning and of vitjax: no such network was published."""
    shapes = {n: [4 * s if s >= 64 else s for s in x] for n, x in timm()["resnet18"].items()}
    assert not opened(shapes).description.siblings


def test_a_file_of_no_layout_is_told_with_all_formats(opened):
    message = refused(opened, {"alpha": [3], "beta.weight": [2, 2]})
    assert "its 2 arrays (alpha, beta.weight) are not named as in any known format" in message
    assert all(format in message for format in weights.read_formats())


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("swin_tiny_patch4_window7_224", "Swin Transformer"),
        ("swinv2_tiny_window8_256", "Swin Transformer V2"),
        ("convnext_tiny", "ConvNeXt"),
        ("convnextv2_tiny", "ConvNeXt V2"),
        ("eva02_tiny_patch14_224", "EVA"),
        ("eva_giant_patch14_224", "EVA"),
        ("beit_base_patch16_224", "BEiT"),
        ("maxvit_tiny_tf_224", "MaxViT"),
        ("coatnet_0_rw_224", "CoAtNet"),
        ("cait_xxs24_224", "CaiT"),
        ("regnetx_002", "RegNet"),
        ("regnety_002", "RegNet"),
        ("mobilenetv3_small_050", "MobileNetV3"),
        ("tf_efficientnetv2_s", "EfficientNetV2"),
        ("mixer_s16_224", "MLP-Mixer"),
        ("ghostnet_050", "GhostNet"),
        ("mobilevit_xxs", "MobileViT"),
        ("repvgg_a0", "RepVGG"),
        ("hrnet_w18_small", "HRNet"),
        ("edgenext_xx_small", "EdgeNeXt"),
    ],
)
def test_an_unknown_architecture_is_named_with_the_nearest(opened, name, architecture):
    message = refused(opened, timm()[name])
    assert f"these are the names of {architecture}, which vitjax does not have" in message
    nearest = re.search(r"the nearest network that it has is (\w+)$", message)[1]
    assert nearest in models.names()


@pytest.mark.parametrize(
    ("names", "architecture"),
    [
        ("transformer.decoder.layers.0.norm1.bias query_embed.weight class_embed.weight", "DETR"),
        (
            "text_model.embeddings.token_embedding.weight text_model.final_layer_norm.weight",
            "the text encoder of CLIP",
        ),
    ],
)
def test_networks_of_other_tasks_are_named(opened, names, architecture):
    message = refused(opened, {name: [4, 4] for name in names.split()})
    assert f"these are the names of {architecture}" in message


def test_networks_that_are_read_are_no_other_architecture():
    known = ("resnet", "vit_tiny", "resnext", "seresnet", "wide_resnet", "skresnet", "deit")
    for name, shapes in timm().items():
        if name.startswith(known):
            assert elsewhere.named(shapes) is None, name


def test_a_file_that_has_some_names_is_told_what_is_missing(opened):
    shapes = {n: s for n, s in timm()["vit_tiny_patch16_224"].items() if "qkv" not in n}
    message = refused(opened, shapes)
    assert "read as timm (ViT): has no array named blocks.0.attn.qkv.weight" in message


def test_a_network_among_many_other_arrays_is_not_taken(opened):
    """As a backbone in a detector, whose other parts nobody reads."""
    others = {f"roi_heads.{i}.weight": [4, 4] for i in range(200)}
    message = refused(opened, {**timm()["resnet18"], **others})
    assert "explains 38% of the arrays; unknown are roi_heads.0.weight" in message


def test_a_part_of_a_refused_network_is_not_taken(opened):
    """An encoder is a residual network too, and its decoder with attention none of vitjax's."""
    shapes = {f"encoder.{name}": shape for name, shape in timm()["resnet34"].items()}
    for block in range(5):
        for conv in (1, 2):
            begin = f"decoder.blocks.{block}.conv{conv}"
            shapes[f"{begin}.0.weight"] = [4, 4, 3, 3]
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{begin}.1.{leaf}"] = [4]
    shapes["segmentation_head.0.weight"] = [2, 4, 3, 3]
    assert opened(shapes).format == "smp"
    shapes["decoder.blocks.0.attention1.cSE.weight"] = [4]
    assert "read as smp (UNetResNet): has attention in its decoder" in refused(opened, shapes)


def test_a_layout_that_explains_nearly_as_much_is_reported(opened):
    """A head under names of either project, and no shortcut, in a network of one stage."""
    stage = {n: s for n, s in timm()["resnet18"].items() if not n.startswith(("layer", "fc"))}
    stage["conv1.weight"] = [64, 3, 3, 3]
    stage |= {n: s for n, s in timm()["resnet18"].items() if n.startswith("layer1")}
    said = []
    found = opened({**stage, "fc.bias": [5], "linear.weight": [7, 64]}, say=said.append)
    assert found.format == "pytorch-cifar"
    assert found.description.fields["num_classes"] == 7
    assert len(said) == 2
    assert "its head has another form than that of the format" in said[1]
    assert said[0].startswith("file: read as pytorch-cifar (ResNet), which explains ")
    assert "torchvision (ResNet) explains " in said[0]
    assert "format='torchvision' reads it so" in said[0]
