"""A ResNet on your own images, one folder per class.

    vitjax data --config=configs/folder/resnet.py --config.data.path=photos
    vitjax train --config=configs/folder/resnet.py --workdir=runs/photos --config.data.path=photos

``photos`` holds ``<class>/*.jpg``, of which a tenth is held out for ``val`` and for ``test``; or
``train/<class>/*.jpg``, and ``val/`` and ``test/`` in the same way. Where there is no ``val``, it
is a tenth of ``train``. Classes of very different sizes are balanced by

    --config.objective.class_weights=inverse
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="resnet18")
    config.data = dict(
        source="folder",
        path="photos",
        val_fraction=0.1,  # where there is no ``val``
        batch_size=64,
        train_transforms="random_resized_crop(128, scale=(0.3, 1.0)) | flip | trivial_augment",
        eval_transforms="resize(146) | center_crop(128)",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        on_corrupt="skip",
    )
    config.objective = dict(name="classification", label_smoothing=0.1)
    config.optimizer = dict(
        name="sgd",
        learning_rate=0.05,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        weight_decay_factors=((r"kernel$", 1.0), (r".", 0.0)),
    )
    config.schedule = dict(name="cosine", warmup_fraction=0.05)
    config.train = dict(epochs=100, log_every_steps=20, evaluate_every_epochs=5)
    config.checkpoint = dict(keep=1, best="val/accuracy")
    return config
