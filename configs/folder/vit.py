"""A ViT on your own images, one folder per class.

    vitjax data --config=configs/folder/vit.py --config.data.path=photos
    vitjax train --config=configs/folder/vit.py --workdir=runs/photos --config.data.path=photos

``photos`` holds ``<class>/*.jpg``, of which a tenth is held out for ``val`` and for ``test``; or
``train/<class>/*.jpg``, and ``val/`` and ``test/`` in the same way or by other usual names. Where
there is no ``val``, it is a tenth of ``train``. A table of files and classes is read with

    --config.data.source=manifest --config.data.path=photos.csv
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="vit_ti16", patch_size=8, pooling="mean", drop_path=0.1)
    config.data = dict(
        source="folder",
        path="photos",
        val_fraction=0.1,  # where there is no ``val``
        batch_size=64,
        train_transforms="random_resized_crop(96, scale=(0.3, 1.0)) | flip | trivial_augment",
        eval_transforms="resize(110) | center_crop(96)",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        on_corrupt="skip",
    )
    config.objective = dict(
        name="classification", label_smoothing=0.1, mixup=0.2, cutmix=1.0, mix_probability=0.5
    )
    config.optimizer = dict(
        name="adamw",
        learning_rate=5e-4,
        weight_decay=0.05,
        weight_decay_factors=((r"kernel$", 1.0), (r".", 0.0)),
        clip_norm=1.0,
    )
    config.schedule = dict(name="cosine", warmup_fraction=0.05)
    config.train = dict(epochs=100, log_every_steps=20, evaluate_every_epochs=5)
    config.checkpoint = dict(keep=1, best="val/accuracy")
    return config
