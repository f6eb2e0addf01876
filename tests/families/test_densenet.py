"""DenseNet: the names that torchvision's published files have."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from vitjax import models, weights
from vitjax.weights import writing
from vitjax.weights.formats import files


def test_names_of_old_versions_of_torchvision_are_read(tmp_path, monkeypatch):
    model = models.create("densenet121")
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(model.plain().init, jax.random.key(0), images)
    variables = flatten_dict(shapes, sep="/")
    arrays = {}
    for entry in writing.layout_for(model, "torchvision").entries_at(model, None, None):
        written = jax.eval_shape(entry.write, *(variables[name] for name in entry.ours))
        for name, x in zip(entry.theirs, written, strict=True):
            for layer in ("norm1", "conv1", "norm2", "conv2"):
                name = name.replace(f".{layer}.", f".{layer[:-1]}.{layer[-1]}.")
            arrays[name] = np.broadcast_to(np.float32(0), x.shape)
    assert "features.denseblock1.denselayer1.norm.1.running_mean" in arrays
    path = tmp_path / "densenet121.pth"
    path.write_bytes(b"")
    monkeypatch.setattr(files, "read", lambda *_, **__: arrays)
    monkeypatch.setattr(files, "metadata", lambda path: {})
    for format in (None, "torchvision"):
        opened = weights.open_weights(path, format=format, say=lambda words: None)
        found = opened.description.model(**opened.description.fields)
        assert found.effective_fields() == model.effective_fields()
