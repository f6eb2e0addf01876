"""Logits and intermediate activations against those that PyTorch computes.

The fixtures are written by scripts/parity/make_few_shot_fixtures.py and make_unet_fixture.py, of
networks for which no project has files. All others are compared in tests/weights/, with what their
references compute from such files.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from vitjax import models

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.npz"))


def test_fixtures_are_there():
    assert len(FIXTURES) == 11


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_activations(path):
    with np.load(path) as file:
        arrays = dict(file)
    spec = json.loads(str(arrays.pop("model")))
    images = arrays.pop("images")
    expected = {k: v for k, v in arrays.items() if k.startswith("intermediates/")}
    variables = unflatten_dict({k: v for k, v in arrays.items() if k not in expected}, sep="/")
    assert "intermediates/logits" in expected
    assert len(expected) > 3
    train = spec.get("train", False)
    mutable = ["intermediates", *(["batch_stats"] if train else [])]

    for dtype, tolerance in (("float32", 1e-4), ("float64", 1e-9)):
        with jax.enable_x64(dtype == "float64"):
            module = getattr(models, spec["name"])(**spec["fields"], dtype=dtype, param_dtype=dtype)
            weights = jax.tree.map(lambda x, dtype=dtype: jnp.asarray(x, dtype), variables)
            logits, state = jax.jit(
                lambda v, x, module=module: module.apply(v, x, train=train, mutable=mutable)
            )(weights, jnp.asarray(images, dtype))
            found = flatten_dict(jax.device_get(state), sep="/")
            assert logits.dtype == dtype
            for name, value in expected.items():
                # Some activations are hundreds, whose last bits are all that an absolute bound
                # of 1e-4 leaves in float32: which of them agree depends on the processor.
                bits = 4 * np.finfo(dtype).eps
                np.testing.assert_allclose(
                    found[name][0][: len(value)], value, rtol=bits, atol=tolerance, err_msg=name
                )
                assert found[name][0].dtype == dtype
