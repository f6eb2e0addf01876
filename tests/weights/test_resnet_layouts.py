"""Residual networks of torchvision, timm, Big Transfer and code for CIFAR."""

from __future__ import annotations

from typing import get_args

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import (
    check_activations,
    check_inference,
    check_round_trip,
    random_variables,
    written,
)

from vitjax import models, weights
from vitjax.models.resnet import Stem
from vitjax.weights import WeightsError
from vitjax.weights.formats import files

NAMES = (
    "torchvision_basic",
    "torchvision_wide",
    "timm_v2_basic",
    "timm_v2_bottleneck",
    "timm_bit",
    "npz_bit",
    "cifar_a",
    "cifar_b",
    "wide",
)


@pytest.mark.parametrize("name", NAMES)
def test_activations_are_those_of_the_reference(name):
    check_activations(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_found_out_from_its_file(name):
    # No array tells in how many groups channels are normalised.
    untold = {"norm_groups": 4} if name.endswith("bit") else {}
    check_inference(name, **untold)


@pytest.mark.parametrize("name", NAMES)
def test_written_again_a_file_has_the_same_arrays(name, tmp_path):
    check_round_trip(name, tmp_path)


# ------------------------------------------------------------------------------- any network's file

FORMATS = ("torchvision", "timm", "npz", "pytorch-cifar", "wideresnet-pytorch")


@st.composite
def networks(draw):
    """A format and a small network that it holds."""
    format = draw(st.sampled_from(FORMATS))
    fields = {
        "stage_sizes": tuple(draw(st.lists(st.integers(1, 2), min_size=2, max_size=3))),
        "block": draw(st.sampled_from(["basic", "bottleneck"])),
        "width": draw(st.sampled_from([4, 8])),
        "stem_width": draw(st.sampled_from([None, 12])),
        "num_classes": draw(st.sampled_from([None, 3])),
    }
    if fields["block"] == "bottleneck":
        fields["bottleneck_factor"] = draw(st.sampled_from([1, 2]))
    group = {"norm": "group", "norm_groups": 4}
    if format == "torchvision":
        fields |= draw(st.sampled_from([{}, group])) | {
            "stem": draw(st.sampled_from(get_args(Stem)))
        }
    elif format == "timm":
        bit = {**group, "zero_pool": True, "standardize_epsilon": 1e-8}
        fields |= {"preactivation": True} | draw(st.sampled_from([{}, bit]))
    elif format == "npz":
        fields |= {"preactivation": True, "block": "bottleneck", **group, "zero_pool": True}
        fields["standardize_epsilon"] = 1e-10
    elif format == "pytorch-cifar":
        # Padding only adds channels.
        pad = {"shortcut": "pad", "stem_width": None}
        fields |= draw(st.sampled_from([{}, pad])) | {"stem": "cifar"}
    else:
        fields |= {"stem": "cifar", "preactivation": True, "block": "basic", "bottleneck_factor": 1}
    return format, models.ResNet(**fields)


@settings(max_examples=12)
@given(networks(), st.integers(1, 4))
def test_what_is_written_is_read(tmp_path_factory, network, channels):
    format, module = network
    variables = random_variables(module, (32, 32, channels))
    path = written(variables, module, tmp_path_factory.mktemp("file") / "weights", format)
    # Without the note that the writer left.
    arrays = files.read(path)
    plain = path.with_name(f"plain{path.suffix}")
    files.write(plain, arrays)
    opened = weights.open_weights(plain)
    assert opened.format == format
    assert weights.module_of(opened, norm_groups=module.norm_groups) == module
    assert opened.description.input_shape[-1] == channels
    found = weights.load(plain, module)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


# ------------------------------------------------------------------------------- what does not fit


def small(**fields):
    """A network of torchvision's kind, its variables and its arrays there."""
    fields = {"stage_sizes": (1, 1), "block": "basic", "width": 4, "num_classes": 3} | fields
    module = models.ResNet(**fields)
    return module, random_variables(module, (32, 32, 3))


@pytest.fixture
def arrays(tmp_path):
    """The arrays of a small network in torchvision's names."""
    module, variables = small(block="bottleneck")
    return files.read(written(variables, module, tmp_path / "arrays", "torchvision"))


def file_of(folder, arrays):
    files.write(folder / "file.safetensors", arrays)
    return folder / "file.safetensors"


def test_all_that_does_not_fit_is_listed_at_once(arrays, tmp_path):
    arrays["layer2.0.conv1.weight"] = arrays["layer2.0.conv1.weight"][:, :2]
    arrays["layer2.0.bn1.weight"] = np.ones(5, np.float32)
    arrays["layer2.0.bn1.old"] = np.ones((4, 4), np.float32)
    del arrays["layer1.0.bn3.running_var"]
    path = file_of(tmp_path, arrays)
    module, _ = small(block="bottleneck")
    with pytest.raises(WeightsError) as error:
        weights.load(path, module)
    for words in (
        "does not fit ResNet",
        "params/stage2_block1/conv1/kernel is (1, 1, 2, 8) in the file and (1, 1, 16, 8) here",
        "params/stage2_block1/norm1/scale is (5,) in the file and (8,) here",
        "missing in the file: layer1.0.bn3.running_var (for batch_stats/stage1_block1/norm3/var)",
        "left over in the file: layer2.0.bn1.old (4, 4)",
    ):
        assert words in str(error.value)


def test_a_name_decides_its_network(tmp_path):
    module, variables = small(stage_sizes=(3, 4, 6, 3), block="bottleneck", bottleneck_factor=2)
    path = written(variables, module, tmp_path / "file", "torchvision")
    opened = weights.open_weights(file_of(tmp_path, files.read(path)))
    named = weights.module_of(opened, "resnet50")
    assert named == models.create("resnet50", num_classes=3)
    assert weights.module_of(opened, "wrn50_2", num_classes=7).num_classes == 7
    with pytest.raises(WeightsError, match="wrn50_2 with width=4, the model a resnet50:"):
        weights.load(path, "resnet50")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer1.0.se.fc1.weight": (1, 4, 1, 1)}, r"attention over channels \(SE-ResNet"),
        ({"conv1.0.weight": (4, 3, 3, 3)}, "several convolutions"),
        ({"layer2.0.downsample.2.weight": (32,)}, "average before they project"),
        ({"layer1.0.conv2.weight": (4, 2, 3, 3)}, "grouped"),
        ({"layer1.0.conv2.bias": (4,)}, "biases in its convolutions"),
    ],
)
def test_networks_that_are_not_here(arrays, tmp_path, change, words):
    arrays |= {name: np.ones(shape, np.float32) for name, shape in change.items()}
    with pytest.raises(WeightsError, match=rf"read as .*torchvision \(ResNet\).*: .*{words}"):
        weights.open_weights(file_of(tmp_path, arrays))


@pytest.mark.parametrize(
    ("format", "fields", "words"),
    [
        ("torchvision", {"preactivation": True}, "only preactivation=False"),
        ("torchvision", {"shortcut": "pad"}, "only shortcut='projection'"),
        ("torchvision", {"standardize_epsilon": 1e-5}, "only standardize_epsilon=None"),
        ("timm", {"preactivation": True, "stem": "cifar"}, "only stem='imagenet'"),
        ("timm", {"preactivation": True, "standardize_epsilon": 1e-8}, "or neither"),
        ("npz", {}, "only preactivation=True"),
        ("pytorch-cifar", {}, "only stem='cifar'"),
        (
            "pytorch-cifar",
            {"stem": "cifar", "shortcut": "none"},
            "has shortcuts in its residual networks; this ResNet has shortcut='none'",
        ),
        ("wideresnet-pytorch", {"stem": "cifar"}, "only preactivation=True"),
        ("smp", {}, "'smp' cannot store a ResNet; possible: safetensors, pytorch-cifar"),
        ("torchvison", {}, "did you mean 'torchvision'"),
    ],
)
def test_formats_that_do_not_hold_a_network(tmp_path, format, fields, words):
    module, variables = small(**fields)
    with pytest.raises(WeightsError, match=words):
        weights.save(variables, module, tmp_path / "file", format)
    assert not list(tmp_path.iterdir())


def test_files_of_residual_networks_do_not_fill_plain_ones(tmp_path):
    """Without projections the arrays are the same."""
    module, variables = small(stem="cifar", shortcut="pad")
    path = written(variables, module, tmp_path / "file", "pytorch-cifar")
    plain = module.clone(shortcut="none")
    with pytest.raises(WeightsError, match=r"has shortcuts in its .*; this ResNet has .*'none'"):
        weights.load(path, plain)
    shape = (32, 32, 3)
    path = weights.save(variables, plain, tmp_path / "plain", "safetensors", input_shape=shape)
    found = weights.load(path, plain)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    with pytest.raises(WeightsError, match="shortcut is 'none' in the file and 'pad' in the model"):
        weights.load(path, module)


BIT = {
    **{"block": "bottleneck", "preactivation": True, "zero_pool": True, "norm": "group"},
    **{"norm_groups": 4, "standardize_epsilon": 1e-5},
}


def test_what_no_array_shows_is_in_the_note(tmp_path):
    module, variables = small(**BIT)
    path = written(variables, module, tmp_path / "file", "timm")
    said = []
    other = module.clone(standardize_epsilon=1e-8, norm_groups=2)
    weights.load(path, other, image_size=32, say=said.append)
    assert "standardize_epsilon=1e-05, the model 1e-08" in said[0]
    assert "norm_groups=4, the model 2" in said[1]


# --------------------------------------------------------------------------------- what is changed


def test_a_head_of_other_classes_is_made_anew(arrays, tmp_path):
    said = []
    module, _ = small(block="bottleneck", num_classes=7)
    found = weights.load(file_of(tmp_path, arrays), module, say=said.append)
    assert "the file's has 3 outputs, the model's 7" in said[0]
    assert found["params"]["head"]["kernel"].shape == (32, 7)
    kernel = arrays["layer2.0.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found["params"]["stage2_block1"]["conv2"]["kernel"], kernel)


def test_self_supervised_networks_are_read_without_what_is_beside_them(arrays, tmp_path):
    head = {f"fc.{i}.weight": np.ones((4, 4), np.float32) for i in (0, 2)}
    body = {name: x for name, x in arrays.items() if not name.startswith("fc.")}
    moco = {f"encoder_{part}.{name}": x for part in "qk" for name, x in (body | head).items()}
    said, queue = [], {"queue": np.ones((4, 8), np.float32)}
    opened = weights.open_weights(file_of(tmp_path, moco | queue), say=said.append)
    assert len(said) == 1
    assert f"{len(body) + 5} arrays of other networks are skipped: encoder_" in said[0]
    module = weights.module_of(opened)
    assert module == models.ResNet(
        stage_sizes=(1, 1), block="bottleneck", width=4, num_classes=None
    )
    found = weights.fit(opened, module)
    expected = weights.load(file_of(tmp_path, body), module)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    classifier = {"classifier.weight": np.ones((3, 32), np.float32)}
    weights.load(file_of(tmp_path, moco | classifier), module, say=said.append)
    assert "is left out: classifier.weight (3, 32)" in said[-1]
    neck = {"neck.weight": np.ones((3, 32), np.float32)}
    with pytest.raises(WeightsError, match=r"left over in the file: neck\.weight"):
        weights.load(file_of(tmp_path, moco | neck), module, say=lambda line: None)


def test_a_network_of_classification_fills_the_encoder_of_a_unet(tmp_path):
    module, variables = small(stage_sizes=(1, 1), width=8)
    options = {"stage_sizes": (1, 1), "block": "basic", "width": 8}
    unet = models.UNetResNet(**options, decoder_widths=(6, 4, 2))
    said = []
    fresh = jax.jit(unet.init)(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    for format in ("torchvision", "safetensors"):
        path = tmp_path / "file.safetensors"
        if format == "safetensors":
            weights.save(variables, module, path, format, input_shape=(32, 32, 3))
        else:
            written(variables, module, path, format)
        found = weights.load(path, unet, say=said.append)
        assert set(found["params"]) == set(fresh["params"])
        body = {k: v for k, v in variables["params"].items() if k != "head"}
        jax.tree.map(np.testing.assert_array_equal, found["params"]["encoder"], body)
        statistics = found["batch_stats"]["encoder"]
        jax.tree.map(np.testing.assert_array_equal, statistics, variables["batch_stats"])
        decoder = {k: v for k, v in flatten_dict(found["params"]).items() if k[0] != "encoder"}
        for name, leaf in flatten_dict(fresh["params"]).items():
            if name[0] != "encoder":
                np.testing.assert_allclose(decoder[name], leaf, rtol=1e-6)
    assert len(said) == 2
    assert "fills the model's encoder; reinitialised: head, merge1" in said[0]
    with pytest.raises(WeightsError, match="of a ResNet, but the model is a Conv4"):
        weights.load(path, models.Conv4())


def test_a_named_unet_takes_nothing_but_weights_from_such_a_file(tmp_path):
    module, variables = small(stage_sizes=(2, 2, 2, 2), width=64)
    path = weights.save(variables, module, tmp_path / "file", "torchvision")
    opened = weights.open_weights(path)
    assert weights.module_of(opened, "unet_resnet18") == models.create("unet_resnet18")


# ------------------------------------------------------------------------------------ real weights


def test_published_weights_of_cifar(test_data):
    path = test_data / "weights" / "cifar10_resnet20.th"
    opened = weights.open_weights(path)
    assert opened.format == "pytorch-cifar"
    assert weights.module_of(opened) == models.create("resnet20")
    found = weights.load(path, "resnet20")
    assert sum(leaf.size for leaf in jax.tree.leaves(found["params"])) == 269_722
    # Trained statistics, not those of a network at its start.
    assert float(found["batch_stats"]["stage3_block3"]["norm2"]["var"].max()) < 1
