r"""ResNet-18 for 94% on CIFAR-10 within a minute on one data-centre GPU.

    vitjax train --config=configs/cifar10/fast.py --workdir=runs/cifar10_fast \
        --config.data.path=cifar10.npz
    vitjax train --config=configs/cifar10/fast.py:tfds --workdir=runs/cifar10_fast

One cycle of SGD with Nesterov momentum (Smith and Topin 2018, arXiv 1708.07120) in 18 epochs of
large batches, in bfloat16: 3e15 floating-point operations, or 15 s at a fifth of an H200's peak if
the loader keeps up with 60,000 images per second. The accuracy and the time are goals that have not
been verified: it has not been run in full.
"""

from typing import Any

from ml_collections import ConfigDict


def get_config(source: str = "npz") -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="resnet18", stem="cifar", dtype="bfloat16")
    config.data = dict(
        **cifar10(source),
        batch_size=512,
        eval_batch_size=1000,
        train_transforms="pad_and_crop(32, 4) | flip | random_erasing(0.25)",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    )
    config.objective = dict(name="classification", label_smoothing=0.1)
    config.optimizer = dict(
        name="sgd", learning_rate=0.4, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    config.schedule = dict(name="one_cycle", peak_fraction=0.2)
    config.train = dict(epochs=18, log_every_steps=50, evaluate_every_epochs=6)
    config.checkpoint = dict(keep=1)
    return config


def cifar10(source: str) -> dict[str, Any]:
    """The data set from ``cifar10.npz`` or from TFDS; 1,000 training images are held out."""
    if source == "tfds":
        splits = dict(train="train[:98%]", val="train[98%:]", test="test")
        return dict(source="tfds", dataset="cifar10", splits=splits)
    return dict(source="npz", path="cifar10.npz", val_examples=1000)
