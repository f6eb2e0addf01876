r"""A U-Net for your own folder of images and masks.

    vitjax train --config=configs/segmentation/masks.py --workdir=runs/masks \
        --config.data.path=DIR

``DIR`` has ``images/`` and ``masks/`` (or ``labels/``) with equal file names, or ``train/``,
``val/`` and ``test/`` with these inside; ``docs/masks.md`` describes other layouts. The classes are
the values that the masks have; name them with ``--config.data.class_names``. Not run: it needs a
folder of your own.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="unet", filters=32, depth=4, norm="batch")
    config.data = dict(
        source="masks",
        path="masks",
        channels=3,
        batch_size=8,
        eval_batch_size=1,
        train_transforms="scale((0.8, 1.25)) | crop(256) | dihedral | brightness | contrast",
        mean=0.5,
        std=0.25,
    )
    config.objective = dict(name="segmentation", losses={"cross_entropy": 1.0, "dice": 1.0})
    config.optimizer = dict(name="adamw", learning_rate=1e-3, weight_decay=1e-4)
    config.schedule = dict(name="cosine", warmup_fraction=0.05)
    config.train = dict(epochs=100, evaluate_every_epochs=10)
    config.checkpoint = dict(best="val/iou")
    return config
