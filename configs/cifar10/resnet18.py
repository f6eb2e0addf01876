r"""ResNet-18 with a 3 x 3 stem on CIFAR-10: the usual strong baseline.

    vitjax train --config=configs/cifar10/resnet18.py --workdir=runs/cifar10_resnet18 \
        --config.data.path=cifar10.npz
    vitjax train --config=configs/cifar10/resnet18.py:tfds --workdir=runs/cifar10_resnet18

One cycle of SGD with Nesterov momentum (Smith and Topin 2018, arXiv 1708.07120). Not run in full
yet: 60 epochs need a GPU.

    vitjax train --config=configs/cifar10/resnet18.py:fast --workdir=runs/cifar10_fast \
        --config.data.path=cifar10.npz

``fast`` (or ``fast_tfds``) takes 18 epochs of large batches in bfloat16, meant for 94% within a
minute on one data-centre GPU: 3e15 floating-point operations. Neither its accuracy nor its time has
been verified.
"""

from typing import Any

from ml_collections import ConfigDict


def get_config(variant: str = "npz") -> ConfigDict:
    source = variant.removeprefix("fast_").replace("fast", "npz")
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="resnet18", stem="cifar")
    config.data = dict(
        **cifar10(source),
        batch_size=128,
        eval_batch_size=500,
        train_transforms="pad_and_crop(32, 4) | flip | random_erasing(0.25)",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    )
    config.objective = dict(name="classification", label_smoothing=0.1)
    config.optimizer = dict(
        name="sgd", learning_rate=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    config.schedule = dict(name="one_cycle", peak_fraction=0.2)
    config.train = dict(epochs=60, ema_decay=0.999, log_every_steps=100, evaluate_every_epochs=2)
    config.checkpoint = dict(keep=1)
    if variant.startswith("fast"):
        config.model.dtype = "bfloat16"
        config.data.update(batch_size=512, eval_batch_size=1000)
        config.optimizer.learning_rate = 0.4
        config.train = dict(epochs=18, log_every_steps=50, evaluate_every_epochs=6)
    return config


def cifar10(source: str) -> dict[str, Any]:
    """The data set from ``cifar10.npz`` or from TFDS; 1,000 training images are held out."""
    if source == "tfds":
        splits = dict(train="train[:98%]", val="train[98%:]", test="test")
        return dict(source="tfds", dataset="cifar10", splits=splits)
    return dict(source="npz", path="cifar10.npz", val_examples=1000)
