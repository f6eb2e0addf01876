r"""A small ResNet for photographs of 64 pixels: a network for `comparison.py` to start from.

    vitjax train --config=configs/transfer/pretrain.py --workdir=runs/pretrained \
        --config.data.path=photos

``photos`` holds ``<class>/*.jpg``, of which a tenth is held out for ``val`` and for ``test``; or
``train/<class>/*.jpg``, and ``val/`` and ``test/`` in the same way.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="resnet18", width=32)
    config.data = dict(
        source="folder",
        path="photos",
        batch_size=64,
        eval_batch_size=64,
        train_transforms="random_resized_crop(64, scale=(0.35, 1.0)) | flip",
        eval_transforms="resize(72) | center_crop(64)",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        on_corrupt="skip",
    )
    config.objective = dict(name="classification", label_smoothing=0.1)
    config.optimizer = dict(
        name="sgd",
        learning_rate=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        weight_decay_factors=((r"kernel$", 1.0), (r".", 0.0)),
    )
    config.schedule = dict(name="one_cycle")
    config.train = dict(epochs=40, ema_decay=0.99, log_every_steps=20, evaluate_every_epochs=4)
    config.checkpoint = dict(keep=1)
    return config
