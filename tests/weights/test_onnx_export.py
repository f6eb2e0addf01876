"""ONNX files, run by onnxruntime."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax import models, weights
from vitjax.weights.formats import onnx

# jax2onnx comes beside its dependencies, see scripts/install.sh.
pytest.importorskip("jax2onnx")
onnxruntime = pytest.importorskip("onnxruntime")

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
