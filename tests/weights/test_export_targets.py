"""What exported files are made and loaded by: other projects' constructors, or words.

Real timm has run on the cases of `export_cases`; the constructors of the other projects are those
of `target_networks`.
"""

from __future__ import annotations

import json
import re

import export_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import target_networks
from flax.traverse_util import flatten_dict
from reference_files import FIXTURES, random_variables

from vitjax import models, weights
from vitjax.data.normalization import Normalization
from vitjax.data.preparation import Preparation
from vitjax.data.transforms import parse
from vitjax.models.protocol import Model
from vitjax.weights import WeightsError, writing
from vitjax.weights.formats import files
from vitjax.weights.layouts import LAYOUTS
from vitjax.weights.preprocessing import Preprocessing

TIMM = json.loads((FIXTURES / "exports_timm.json").read_text())


def test_all_cases_were_made_by_timm():
    assert TIMM.keys() == export_cases.CASES.keys()


@pytest.mark.parametrize("name", export_cases.CASES)
def test_timm_makes_it_and_computes_the_same(name, tmp_path):
    module, shape, variables, images = export_cases.made(name)
    said = []
    path = weights.save(
        variables, module, tmp_path / "model", "timm", input_shape=shape, say=said.append
    )
    noted = TIMM[name]
    assert said[0] == f"{path}: made by {noted['made_by']}"
    program = (tmp_path / "load_model_safetensors.py").read_text()
    assert f"model = {noted['made_by']}\n" in program
    compile(program, "load", "exec")
    shapes = {name: list(array.shape) for name, array in files.read(path).items()}
    assert shapes == noted["arrays"]
    logits = jax.jit(module.apply)(variables, images)
    largest = np.abs(noted["logits"]).max()
    np.testing.assert_allclose(logits, noted["logits"], atol=2e-5 * largest)


@pytest.mark.parametrize("name", ["vit_mean", "vit_wide", "resnet_32_groups", "v2_basic"])
def test_its_config_json_alone_describes_the_network(name, tmp_path):
    """As in a folder that timm's users saved again, which has no note of vitjax."""
    module, shape, variables, images = export_cases.made(name)
    normalization = Normalization.of(0.5, 0.2, shape[-1])
    preparation = Preparation(parse(f"resize({shape[:2]})"), normalization, shape, shape[-1])
    images_of = Preprocessing.of(preparation, ("a", "b", "c"))
    path = tmp_path / "model.safetensors"
    weights.save(variables, module, path, "timm", preprocessing=images_of, say=str)
    files.write(path, files.read(path))
    opened = weights.open_weights(tmp_path)
    assert opened.mean == (0.5,) * shape[-1]
    again = weights.module_of(opened, say=print)
    found = jax.jit(again.apply)(weights.fit(opened, again, say=print), images)
    expected = TIMM[name]["logits"]
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def shapes_of(module, shape, format):
    """The expression for a network of this size without memory, and its file's names and shapes."""
    example = jnp.zeros((1, *shape))
    wanted = jax.eval_shape(module.init, jax.random.key(0), example)
    one = np.ones((), np.float32)
    ours = {n: np.broadcast_to(one, x.shape) for n, x in flatten_dict(wanted, sep="/").items()}
    layout = writing.layout_for(module, format)
    folded, construction = writing.made_by(layout, module, ours, shape)
    arrays = writing.renamed(folded.arrays, folded.module, layout, shape)
    return construction.expression, {name: array.shape for name, array in arrays.items()}


RGB, CIFAR, GREY = (64, 64, 3), (32, 32, 3), (28, 28, 1)
VIT = {"width": 8, "depth": 2, "num_heads": 2, "patch_size": 4, "num_classes": 3}
MADE = [
    ("torchvision", models.create("resnet18", num_classes=10), RGB),
    ("torchvision", models.ResNet((1, 1, 2, 1), "basic", num_classes=3), RGB),
    ("torchvision", models.ResNet((1, 1, 1, 1), bottleneck_factor=3, num_classes=3), RGB),
    ("torchvision", models.create("wrn50_2", num_classes=3, norm="group"), RGB),
    ("torchvision", models.ViT(**VIT), (12, 12, 3)),
    (
        "torchvision",
        models.ViT(**VIT, mlp_width=12, representation_size=5, norm_epsilon=1e-5),
        (8, 8, 3),
    ),
    ("pytorch-cifar", models.create("resnet20", num_classes=7), CIFAR),
    ("pytorch-cifar", models.create("resnet18", num_classes=10, stem="cifar"), CIFAR),
    ("pytorch-cifar", models.ResNet((1, 1, 1, 1), stem="cifar", num_classes=3), CIFAR),
    ("wideresnet-pytorch", models.create("wrn16_8", num_classes=3), CIFAR),
    (
        "wideresnet-pytorch",
        models.create("wrn16_8", stage_sizes=(1, 1, 1), width=16, num_classes=100),
        CIFAR,
    ),
    ("learn2learn", models.create("conv4"), (84, 84, 3)),
    ("learn2learn", models.Conv4(depth=3, filters=8), (32, 32, 2)),
    ("learn2learn", models.create("conv4_omniglot", stride_padding="pytorch"), GREY),
    ("learn2learn", models.create("conv4_omniglot_pooled"), GREY),
    (
        "learn2learn",
        models.Conv4(downsample="stride", stride_padding="pytorch", filters=4),
        (20, 20, 1),
    ),
    ("metaoptnet", models.create("resnet12"), (84, 84, 3)),
    ("metaoptnet", models.create("resnet12", num_classes=None, pooling="flatten"), (84, 84, 3)),
    ("pytorch-unet", models.create("unet", num_classes=3), (64, 64, 1)),
    (
        "smp",
        models.create("unet_resnet18", up="nearest", head_kernel=3, num_classes=4),
        (64, 64, 2),
    ),
]


@pytest.mark.parametrize(("format", "module", "shape"), MADE)
def test_the_constructor_makes_exactly_the_arrays_of_the_file(format, module, shape):
    expression, shapes = shapes_of(module, shape, format)
    assert shapes == target_networks.made(expression)


@pytest.mark.parametrize(
    ("format", "module", "shape", "words"),
    [
        ("torchvision", models.ResNet((1, 1, 1, 1), stem="cifar"), RGB, "only stem='imagenet'"),
        ("torchvision", models.ResNet((1, 1)), RGB, r"only stages=4 \(this ResNet has 2\)"),
        ("torchvision", models.ResNet((1, 1, 1, 1), width=32), RGB, "only width=64"),
        ("torchvision", models.ResNet((1, 1, 1, 1), stem_width=32), RGB, "only stem_width=64"),
        ("torchvision", models.ResNet((1, 1, 1, 1)), (64, 64, 1), "only channels of images=3"),
        ("torchvision", models.ResNet((1, 1, 1, 1), num_classes=0), RGB, "without a head"),
        ("torchvision", models.ViT(**VIT), (8, 12, 3), "square images"),
        ("torchvision", models.ViT(**{**VIT, "num_classes": 0}), (8, 8, 3), "without a head"),
        ("timm", models.ResNet((1, 1, 1, 1), stem="cifar"), RGB, "only stem='imagenet'"),
        ("timm", models.ResNet((1, 1)), RGB, "have 4 stages"),
        ("timm", models.ResNet((1, 1, 1, 1), width=32), RGB, "only stem_width=64"),
        ("timm", models.ResNet((1,) * 5, preactivation=True, width=8), RGB, "have 4 stages"),
        ("timm", models.ResNet((1,), preactivation=True, width=12), RGB, "multiples of 8"),
        (
            "timm",
            models.ResNet((1,), preactivation=True, width=8, stem_width=32),
            RGB,
            "a projection in every stage",
        ),
        ("timm", models.ViT(**VIT, representation_size=4), (8, 8, 3), "representation_size=None"),
        ("pytorch-cifar", models.ResNet((1, 1), stem="cifar"), CIFAR, "only stages=4"),
        (
            "pytorch-cifar",
            models.ResNet((1, 1, 1), "basic", stem="cifar", shortcut="pad"),
            CIFAR,
            "only width=16",
        ),
        (
            "pytorch-cifar",
            models.ResNet((1, 1, 1, 1), stem="cifar"),
            (64, 64, 3),
            "images of 25 to 32 pixels",
        ),
        ("pytorch-cifar", models.create("resnet20"), (32, 28, 3), "square images"),
        ("pytorch-cifar", models.create("resnet20"), (32, 32, 1), "only channels of images=3"),
        ("wideresnet-pytorch", models.create("wrn16_8", width=24), CIFAR, r"width / 16=0"),
        (
            "wideresnet-pytorch",
            models.create("wrn16_8", stage_sizes=(1, 2, 1)),
            CIFAR,
            "only stage_sizes",
        ),
        ("wideresnet-pytorch", models.create("wrn16_8"), (64, 64, 3), "images of 29 to 32"),
        (
            "npz",
            models.create("bit_r50x1", stage_sizes=(1, 1, 1, 1), norm_groups=16),
            RGB,
            "only norm_groups=32",
        ),
        ("npz", models.create("bit_r50x1", stage_sizes=(1, 1)), RGB, "only stages=4"),
        (
            "npz",
            models.create("bit_r50x1", stage_sizes=(1,) * 4, standardize_epsilon=1e-8),
            RGB,
            "epsilon=1e-10",
        ),
        ("maml", models.Conv4(), (28, 28, 3), "flattens maps of 5 x 5 pixels"),
        ("maml", models.Conv4(), (84, 84, 1), "only channels of images=3"),
        ("maml", models.Conv4(depth=3), (84, 84, 3), "only depth=4"),
        ("learn2learn", models.Conv4(depth=2), (32, 32, 3), "in each of 3 or 4 layers"),
        ("learn2learn", models.Conv4(pooling="mean"), (84, 84, 3), "flattens its last map"),
        ("learn2learn", models.create("conv4_omniglot"), GREY, "only stride_padding='pytorch'"),
        ("metaoptnet", models.ResNet12(widths=(8, 8, 8, 8)), (32, 32, 3), "only widths="),
        ("metaoptnet", models.ResNet12(pooling="flatten"), (32, 32, 3), "only pooling='mean'"),
        ("pytorch-unet", models.UNet(norm="batch", depth=3), (64, 64, 3), "only depth=4"),
        ("pytorch-unet", models.UNet(norm="batch", filters=32), (64, 64, 3), "only widths="),
        (
            "smp",
            models.UNetResNet(stage_sizes=(1, 1, 1, 1), up="nearest", head_kernel=3),
            (64, 64, 3),
            "encoders resnet18 to resnet152",
        ),
    ],
)
def test_what_no_constructor_makes_is_refused(format, module, shape, words):
    with pytest.raises(WeightsError, match=f"format '{format}': .*{words}") as error:
        shapes_of(module, shape, format)
    listed = re.search(r"formats that can hold this \w+: (.*)$", str(error.value))[1].split(", ")
    assert (listed[0], listed[-1]) == ("safetensors", "onnx")
    assert format not in listed
    for other in listed[1:-1]:  # which keep the promise
        shapes_of(module, shape, other)


SMALL = [
    (models.ViT(**VIT, registers=2, class_token=True, pooling="mean", layer_scale=0.1), (8, 12, 3)),
    (models.ViT(**VIT, pooling="token_and_mean", representation_size=3), (8, 8, 1)),
    (models.ViT(**VIT, pooling="map", positions="none", gelu="tanh"), (8, 8, 3)),
    (models.ResNet((1, 1), "basic", width=8, stem="cifar", num_classes=3), (8, 8, 1)),
    (models.ResNet((1,), width=8, preactivation=True, num_classes=None), (32, 32, 4)),
    (models.ResNet12(3, (4, 4)), (8, 8, 1)),
    (models.Conv4(filters=4, activation="gelu", norm="group", norm_groups=2), (16, 16, 3)),
    (models.MLP(), (1,)),
    (models.UNet(filters=4, depth=2, norm="group", norm_groups=2), (16, 16, 3)),
    (models.UNetPlusPlus(filters=4, depth=2), (16, 16, 3)),
    (models.UNetResNet(stage_sizes=(1, 1), width=8, decoder_widths=(8, 8, 8)), (32, 32, 1)),
    (
        models.EncoderUNet(
            encoder={"name": "conv4", "filters": 4, "depth": 2}, decoder_widths=(4, 4)
        ),
        (16, 16, 3),
    ),
]


def test_every_class_of_models_is_tried():
    classes = {x for x in vars(models).values() if isinstance(x, type) and issubclass(x, Model)}
    assert {type(module) for module, _ in SMALL} == classes - {Model}


@pytest.mark.parametrize(("module", "shape"), SMALL)
def test_every_format_makes_the_network_or_says_which_can_hold_it(module, shape, tmp_path):
    variables = random_variables(module, shape)
    for format in weights.written_formats():
        if format == "onnx":
            continue
        folder = tmp_path / format
        refused = ""
        try:
            path = weights.save(variables, module, folder / "model", format, input_shape=shape)
        except WeightsError as error:
            refused = str(error)
        if refused:
            assert "safetensors" in refused
            assert not folder.exists()
            continue
        if format != "safetensors":
            assert [p.name for p in folder.glob("load_*.py")]
        again = weights.open_weights(path)
        found = weights.fit(again, weights.module_of(again))
        jax.tree.map(np.testing.assert_array_equal, found, variables)


class Newer(models.ViT):
    """A family with a field that no target knows."""

    rotary: bool = False


def test_files_side_by_side_have_programs_of_their_own(tmp_path):
    module = models.ViT(width=8, depth=1, num_heads=2, patch_size=4, num_classes=0)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    names = ["a-b.pth", "a_b.pth", "a.b.pth", "a b.pth", "a_b.safetensors"]
    for name in names:
        weights.save(variables, module, tmp_path / name, "timm", input_shape=(8, 8, 3), say=str)
    programs = [path.read_text() for path in tmp_path.glob("load_*.py")]
    assert len(programs) == len(names)
    assert all(any(repr(name) in program for program in programs) for name in names)


@pytest.mark.parametrize("format", ["timm", "torchvision", "npz", "big_vision"])
def test_a_field_that_a_target_does_not_know_is_refused(format):
    gelu = "tanh" if format in ("npz", "big_vision") else "exact"
    shapes_of(Newer(**VIT, gelu=gelu), (8, 8, 3), format)
    with pytest.raises(WeightsError, match="supports only rotary=False"):
        shapes_of(Newer(**VIT, gelu=gelu, rotary=True), (8, 8, 3), format)


@pytest.mark.parametrize("layout", [x for x in LAYOUTS if x.writes], ids=lambda x: x.source)
def test_every_target_checks_the_fields_that_it_does_not_know(layout):
    for base in layout.modules:
        newer = type("Newer", (base,), {"__annotations__": {"rotary": bool}, "rotary": False})
        needed = {"stage_sizes": (1,)} if base is models.ResNet else {}
        with pytest.raises(WeightsError, match="supports only rotary=False"):
            layout.target(newer(**needed, rotary=True), writing.Written(32, 32, 3, {}))


def test_images_that_a_project_treats_otherwise_are_remarked(tmp_path):
    module = models.create("unet", num_classes=2)
    layout = writing.layout_for(module, "pytorch-unet")
    for shape, uneven, told in (
        ((64, 64, 1), "reflect", False),
        ((64, 60, 1), "reflect", True),
        ((64, 60, 1), "zeros", False),
    ):
        made = layout.target(module.clone(uneven=uneven), writing.Written(*shape, {}))
        assert any("16 does not divide" in line for line in made.remarks) == told
