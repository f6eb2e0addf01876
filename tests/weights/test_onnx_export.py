"""ONNX files, run by onnxruntime."""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax import models, weights
from vitjax.data.normalization import Normalization
from vitjax.data.preparation import Preparation
from vitjax.data.transforms import parse
from vitjax.weights.formats import onnx
from vitjax.weights.preprocessing import Preprocessing

# jax2onnx comes beside its dependencies, see scripts/install.sh.
pytest.importorskip("jax2onnx")
onnxruntime = pytest.importorskip("onnxruntime")
onnx_package = pytest.importorskip("onnx")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

VIT = {"width": 16, "depth": 1, "num_heads": 2, "patch_size": 8, "num_classes": 3}
CASES = {
    "vit": (
        models.ViT(**VIT, pooling="map", registers=2, qk_norm=True, layer_scale=0.5),
        (16, 24, 3),
    ),
    "resnet": (models.ResNet((1, 1), width=4, num_classes=3), (32, 32, 3)),
    "bit": (
        models.ResNet(
            (1,),
            width=8,
            num_classes=3,
            preactivation=True,
            norm="group",
            norm_groups=4,
            standardize_epsilon=1e-10,
            zero_pool=True,
        ),
        (32, 32, 3),
    ),
    "conv4": (models.Conv4(filters=8, num_classes=3), (28, 28, 1)),
    "unet_vit": (
        models.EncoderUNet(
            encoder={"name": "vit_ti16", "width": 8, "depth": 2, "num_heads": 2, "patch_size": 4},
            decoder_widths=(4, 4),
        ),
        (8, 8, 3),
    ),
    "unet_attention": (
        models.UNet(depth=2, filters=4, norm="batch", attention=True, up="resize"),
        (16, 24, 1),
    ),
    # Average poolings and connections between single maps.
    "lenet5_paper": (models.create("lenet5_paper", num_classes=3), (32, 32, 1)),
    # Both poolings, whose last windows reach over the end, and a convolution as the head.
    "nin": (models.create("nin_cifar10", widths=(3,) * 8, num_classes=3), (8, 10, 3)),
}


@functools.cache
def made(name):
    """A model with parameters and statistics of no special values."""
    model, shape = CASES[name]
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
    rng = np.random.default_rng(0)

    def values(leaf):
        if len(leaf.shape) > 1:
            return rng.normal(0.1, 0.3, leaf.shape).astype(np.float32)
        return rng.uniform(0.05, 1.3, leaf.shape).astype(np.float32)

    return model, shape, jax.tree.map(values, shapes)


@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_computes_the_same(name, tmp_path):
    model, shape, variables = made(name)
    path = weights.save(variables, model, tmp_path / "model", "onnx", input_shape=shape)
    assert path == tmp_path / "model.onnx"
    # Any number of images, not only as many as were tried when it was written.
    images = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path))
    (found,) = session.run(["outputs"], {"images": images})
    expected = np.asarray(jax.jit(model.apply)(variables, images))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def opset_of(path):
    graph = onnx_package.load(str(path))
    return graph.opset_import[0].version, graph.ir_version


# What runtimes of the last years read, the oldest that has all that a ViT needs, and the newest.
@pytest.mark.parametrize(
    ("name", "opset", "ir"),
    [("resnet", None, 8), ("bit", 17, 8), ("vit", 13, 7), ("resnet", 18, 8), ("vit", 23, 11)],
)
def test_the_opset_is_chosen(name, opset, ir, tmp_path):
    model, shape, variables = made(name)
    path = weights.save(
        variables, model, tmp_path / "model", "onnx", input_shape=shape, opset=opset
    )
    assert opset_of(path) == (opset or 17, ir)
    graph = onnx_package.load(str(path)).graph
    used = {name for node in graph.node for name in node.input}
    used |= {output.name for output in graph.output}
    constants = {x for node in graph.node if node.op_type == "Constant" for x in node.output}
    assert (constants | {tensor.name for tensor in graph.initializer}) <= used


@pytest.mark.parametrize(
    ("format", "opset", "words"),
    [
        ("onnx", 12, "opset=12; it must be from 13 to 23"),
        ("onnx", 24, "opset=24; it must be from 13 to 23"),
        ("timm", 17, "are options of format 'onnx', not 'timm'"),
    ],
)
def test_other_opsets_are_refused(format, opset, words, tmp_path):
    model, shape, variables = made("vit")
    with pytest.raises(weights.WeightsError, match=words):
        weights.save(variables, model, tmp_path / "m", format, input_shape=shape, opset=opset)
    assert not list(tmp_path.iterdir())


def test_an_operator_that_a_version_lacks_is_refused(tmp_path):
    model = models.UNet(depth=1, filters=4, norm="batch")
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    with pytest.raises(weights.WeightsError, match="graph of opset 13; try a higher opset"):
        weights.save(variables, model, tmp_path / "m", "onnx", input_shape=(8, 8, 1), opset=13)
    assert not list(tmp_path.iterdir())


def test_images_of_any_size(tmp_path):
    model, shape, variables = made("resnet")
    path = weights.save(
        variables, model, tmp_path / "model", "onnx", input_shape=shape, any_size=True
    )
    session = onnxruntime.InferenceSession(str(path))
    images = np.random.default_rng(1).normal(size=(2, 40, 33, 3)).astype(np.float32)
    (found,) = session.run(["outputs"], {"images": images})
    expected = np.asarray(jax.jit(model.apply)(variables, images))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    model, shape, variables = made("vit")
    with pytest.raises(weights.WeightsError, match="this ViT for images of any size; leave that"):
        weights.save(variables, model, tmp_path / "vit", "onnx", input_shape=shape, any_size=True)
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


def test_a_graph_describes_itself(tmp_path):
    model, shape, variables = made("resnet")
    normalization = Normalization.of((0.1, 0.2, 0.3), 0.5, 3)
    pipeline = parse("resize(36) | center_crop(32)")
    preprocessing = Preprocessing.of(
        Preparation(pipeline, normalization, shape, 3), ["a", "b", "ß"]
    )
    path = weights.save(
        variables, model, tmp_path / "model", "onnx", preprocessing=preprocessing, say=print
    )
    found = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    facts = {name: json.loads(text) for name, text in found.items()}
    assert facts["class_names"] == ["a", "b", "ß"]
    assert (facts["mean"], facts["std"]) == ([0.1, 0.2, 0.3], [0.5, 0.5, 0.5])
    assert (facts["resize"], facts["crop"], facts["interpolation"]) == (36, 32, "bicubic")
    expected = {"dtype": "float32", "shape": ["batch", 32, 32, 3], "layout": "NHWC"}
    assert facts["input"] == {"name": "images", **expected}
    assert facts["output"]["shape"] == ["batch", 3]
    assert facts["vitjax"]["model"] == "ResNet"
    beside = json.loads((tmp_path / "preprocess.json").read_text())
    entry = beside.pop("files")["model.onnx"]
    assert {name: facts[name] for name in beside} == beside
    assert (entry["input"], entry["output"]) == (facts["input"], facts["output"])


def test_a_graph_of_other_numbers_is_not_written(tmp_path, monkeypatch):
    model, shape, variables = made("vit")
    real = onnxruntime.InferenceSession

    class Wrong(real):
        def run(self, *arguments):
            return [1.001 * output for output in super().run(*arguments)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Wrong)
    with pytest.raises(weights.WeightsError, match="outputs of the converted graph differ"):
        weights.save(variables, model, tmp_path / "model", "onnx", input_shape=shape)
    assert not list(tmp_path.iterdir())


def test_a_graph_behind_a_head_of_zeros_is_compared_too(tmp_path, monkeypatch):
    """A new head answers zero, whatever the graph before it computes."""
    model, shape, variables = made("resnet")
    head = jax.tree.map(np.zeros_like, variables["params"]["head"])
    variables = {**variables, "params": {**variables["params"], "head": head}}
    path = weights.save(variables, model, tmp_path / "good", "onnx", input_shape=shape)
    images = np.ones((1, *shape), np.float32)
    (found,) = onnxruntime.InferenceSession(str(path)).run(None, {"images": images})
    assert not found.any()
    real = onnxruntime.InferenceSession

    class Wrong(real):
        def run(self, names, given):
            return super().run(names, {name: x[:, ::-1] for name, x in given.items()})

    monkeypatch.setattr(onnxruntime, "InferenceSession", Wrong)
    with pytest.raises(weights.WeightsError, match="outputs of the converted graph differ"):
        weights.save(variables, model, tmp_path / "model", "onnx", input_shape=shape)
    assert [each.name for each in tmp_path.iterdir()] == ["good.onnx"]


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    model, shape, variables = made("vit")
    with pytest.raises(weights.WeightsError, match="input_shape"):
        weights.save(variables, model, tmp_path / "model", "onnx")
    monkeypatch.setattr(onnx, "_LARGEST", 1000)
    with pytest.raises(weights.WeightsError, match="GiB"):
        weights.save(variables, model, tmp_path / "model", "onnx", input_shape=shape)
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(weights.WeightsError, match="pip install --no-deps jax2onnx"):
        weights.save(variables, model, tmp_path / "model", "onnx", input_shape=shape)
