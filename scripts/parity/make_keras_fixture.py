"""Write what a small ResNet of keras.applications computes.

    python -m scripts.parity.make_keras_fixture tests/weights/fixtures/resnet_keras.npz

Wants Keras (the fixture in the repository: 3.15.1 on TensorFlow 2.21.0). In the file, ``logits``
are the network's for ``images``, and ``weights/...`` its arrays, named as in its ``.h5`` file.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from keras.src.applications import resnet


def stages(x: Any) -> Any:
    """Two stages, of two blocks and one."""
    x = resnet.stack_residual_blocks_v1(x, 4, 2, stride1=1, name="conv2")
    return resnet.stack_residual_blocks_v1(x, 8, 1, name="conv3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    options = {"weights": None, "input_shape": (32, 32, 3), "classes": 3}
    model = resnet.ResNet(stages, False, True, classifier_activation=None, **options)
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    for variable in model.weights:
        value = rng.normal(size=variable.shape) / np.sqrt(np.prod(variable.shape[:-1]))
        if variable.path.endswith(("gamma", "variance")):
            value = rng.uniform(0.5, 1.5, size=variable.shape)
        value = value.astype(np.float16)
        variable.assign(value)
        found[f"weights/{variable.path}"] = value
    found["images"] = rng.normal(size=(2, 32, 32, 3)).astype(np.float16)
    found["logits"] = np.asarray(model(found["images"].astype(np.float32), training=False))
    np.savez_compressed(path, **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
