r"""A ViT-S/16 pretrained on ImageNet, fine-tuned on your own images, one folder per class.

    vitjax train --config=configs/transfer/fine_tune.py --workdir=runs/fine_tuned \
        --config.data.path=photos
    vitjax train --config=configs/transfer/fine_tune.py:cifar10 --workdir=runs/cifar10_vit \
        --config.data.path=cifar10.npz

``photos`` holds ``<class>/*.jpg``, of which a tenth is held out for ``val`` and for ``test``; or
``train/<class>/*.jpg``, and ``val/`` and ``test/`` in the same way. Where there is no ``val``, it
is a tenth of ``train``.

The weights (Steiner et al. 2022, arXiv 2106.10270) are fetched once.
``--config.init.from_checkpoint`` names any other file or run, and ``--config.model.name`` its size.
Rates decrease from the head to the first layer as in BEiT and MAE (arXiv 2106.08254 and
2111.06377). Not run in full.
"""

from ml_collections import ConfigDict


def get_config(source: str = "folder") -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="vit_s16", drop_path=0.1)
    config.init = dict(from_checkpoint="hf:timm/vit_small_patch16_224.augreg_in1k")
    config.data = dict(
        **data(source),
        batch_size=64,
        eval_batch_size=64,
        train_transforms="random_resized_crop(224, scale=(0.3, 1.0)) | flip | trivial_augment",
        eval_transforms="resize(256) | center_crop(224)",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    config.objective = dict(name="classification", label_smoothing=0.1)
    config.optimizer = dict(
        name="adamw",
        learning_rate=5e-4,
        layer_decay=0.65,
        weight_decay=0.05,
        weight_decay_factors=((r"kernel$", 1.0), (r".", 0.0)),
        clip_norm=1.0,
    )
    config.schedule = dict(name="cosine", warmup_fraction=0.1)
    config.train = dict(epochs=20, log_every_steps=20, evaluate_every_epochs=1)
    config.checkpoint = dict(keep=1, best="val/accuracy")
    return config


def data(source: str) -> dict:
    """A folder of images, or ``cifar10.npz``, of which 1,000 training images are held out."""
    if source == "cifar10":
        return dict(source="npz", path="cifar10.npz", val_examples=1000)
    return dict(source="folder", path="photos", val_fraction=0.1, on_corrupt="skip")
