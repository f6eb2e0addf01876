r"""ViT with 4 x 4 patches on CIFAR-10 from scratch, with strong augmentation.

    vitjax train --config=configs/cifar10/vit.py --workdir=runs/cifar10_vit \
        --config.data.path=cifar10.npz
    vitjax train --config=configs/cifar10/vit.py:tfds --workdir=runs/cifar10_vit

Heavy augmentation, MixUp and CutMix, stochastic depth and AdamW after DeiT (Touvron et al. 2021,
arXiv 2012.12877, Table 9), for a network of 6.3M parameters. Not run in full yet: 200 epochs need
a GPU.
"""

from typing import Any

from ml_collections import ConfigDict


def get_config(source: str = "npz") -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(
        name="vit_ti16",
        patch_size=4,
        width=384,
        depth=7,
        num_heads=12,
        mlp_width=384,
        drop_path=0.1,
    )
    config.data = dict(
        **cifar10(source),
        batch_size=128,
        eval_batch_size=500,
        train_transforms="pad_and_crop(32, 4) | flip | trivial_augment | random_erasing(0.25)",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    )
    config.objective = dict(
        name="classification", label_smoothing=0.1, mixup=0.8, cutmix=1.0, mix_probability=0.5
    )
    config.optimizer = dict(
        name="adamw",
        learning_rate=1e-3,
        weight_decay=0.05,
        weight_decay_factors=((r"kernel$", 1.0), (r".", 0.0)),
        clip_norm=1.0,
    )
    config.schedule = dict(name="cosine", warmup_epochs=5)
    config.train = dict(epochs=200, log_every_steps=100, evaluate_every_epochs=5)
    config.checkpoint = dict(keep=1, best="val/accuracy")
    return config


def cifar10(source: str) -> dict[str, Any]:
    """The data set from ``cifar10.npz`` or from TFDS; 1,000 training images are held out."""
    if source == "tfds":
        splits = dict(train="train[:98%]", val="train[98%:]", test="test")
        return dict(source="tfds", dataset="cifar10", splits=splits)
    return dict(source="npz", path="cifar10.npz", val_examples=1000)
