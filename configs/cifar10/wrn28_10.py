r"""Wide ResNet 28-10 on CIFAR-10, as Zagoruyko and Komodakis 2016 (arXiv 1605.07146) train it.

    vitjax train --config=configs/cifar10/wrn28_10.py --workdir=runs/cifar10_wrn28_10 \
        --config.data.path=cifar10.npz
    vitjax train --config=configs/cifar10/wrn28_10.py:tfds --workdir=runs/cifar10_wrn28_10

The paper (Section 3): 96.0% test accuracy after 200 epochs, the rate divided by 5 at 60, 120 and
160. Not run in full yet: 200 epochs of 36.5M parameters need a GPU.
"""

from typing import Any

from ml_collections import ConfigDict


def get_config(source: str = "npz") -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="wrn28_10")
    config.data = dict(
        **cifar10(source),
        batch_size=128,
        eval_batch_size=500,
        train_transforms="pad_and_crop(32, 4) | flip",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    )
    config.objective = dict(name="classification")
    config.optimizer = dict(
        name="sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    config.schedule = dict(name="step", boundaries_epochs=(60, 120, 160), factor=0.2)
    config.train = dict(epochs=200, log_every_steps=100, evaluate_every_epochs=5)
    config.checkpoint = dict(keep=1)
    return config


def cifar10(source: str) -> dict[str, Any]:
    """The data set from ``cifar10.npz`` or from TFDS; 1,000 training images are held out."""
    if source == "tfds":
        splits = dict(train="train[:98%]", val="train[98%:]", test="test")
        return dict(source="tfds", dataset="cifar10", splits=splits)
    return dict(source="npz", path="cifar10.npz", val_examples=1000)
