r"""ResNet-20 on CIFAR-10, as He et al. 2016 (arXiv 1512.03385, Section 4.2) train it.

    vitjax train --config=configs/cifar10/resnet20.py --workdir=runs/cifar10_resnet20 \
        --config.data.path=cifar10.npz
    vitjax train --config=configs/cifar10/resnet20.py:tfds --workdir=runs/cifar10_resnet20

The paper: 91.25% test accuracy after 64,000 steps of 128 images. Not run in full yet. A short
run with one cycle of the rate gave 75.5% test accuracy (seed 0) in 13 minutes on two cores of an
AMD EPYC (2026-11-23, jax 0.10.2, 179 images/s):

    vitjax train --config=configs/cifar10/resnet20.py --workdir=runs/cifar10_short \
        --config.data.batch_size=64 --config.train.steps=None --config.train.epochs=2.8 \
        --config.train.evaluate_every_epochs=0.5 --config.schedule.name=one_cycle \
        --config.schedule.boundaries_fraction=None --config.schedule.factor=None \
        --config.optimizer.nesterov=True --config.optimizer.weight_decay=5e-4
"""

from typing import Any

from ml_collections import ConfigDict


def get_config(source: str = "npz") -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="resnet20")
    config.data = dict(
        **cifar10(source),
        batch_size=128,
        eval_batch_size=500,
        train_transforms="pad_and_crop(32, 4, mode='constant') | flip",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    )
    config.objective = dict(name="classification")
    config.optimizer = dict(
        name="sgd", learning_rate=0.1, momentum=0.9, nesterov=False, weight_decay=1e-4
    )
    config.schedule = dict(name="step", boundaries_fraction=(0.5, 0.75), factor=0.1)
    config.train = dict(steps=64_000, log_every_steps=100, evaluate_every_epochs=2)
    config.checkpoint = dict(keep=2)
    return config


def cifar10(source: str) -> dict[str, Any]:
    """The data set from ``cifar10.npz`` or from TFDS; 1,000 training images are held out."""
    if source == "tfds":
        splits = dict(train="train[:98%]", val="train[98%:]", test="test")
        return dict(source="tfds", dataset="cifar10", splits=splits)
    return dict(source="npz", path="cifar10.npz", val_examples=1000)
