"""How MobileNetV2 is initialised: no fixture shows it."""

import jax
import jax.numpy as jnp
import numpy as np

from vitjax import models


def test_kernels_and_head_are_initialised_as_in_torchvision():
    model = models.create("mobilenet_v2", width_factor=0.25, num_classes=50)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    np.testing.assert_allclose(np.std(params["head"]["kernel"]), 0.01, rtol=0.05)
    assert not np.any(params["head"]["bias"])
    for layer in ("expand", "depthwise", "project"):
        kernel = params["stage6_block2"][layer]["conv"]["kernel"]
        expected = (2 / (kernel.shape[0] * kernel.shape[1] * kernel.shape[3])) ** 0.5
        np.testing.assert_allclose(np.std(kernel), expected, rtol=0.1)
