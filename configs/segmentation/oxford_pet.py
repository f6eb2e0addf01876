r"""A U-Net on a residual network: pets, background and outline of Oxford-IIIT Pet.

    vitjax train --config=configs/segmentation/oxford_pet.py --workdir=runs/oxford_pet \
        --config.data.data_dir=DIR

``DIR`` has the data set as ``tfds build oxford_iiit_pet --file_format=array_record`` prepares it; a
tenth of its training images is held out. Masks that ``vitjax predict`` writes have the size of
their photograph. Not run: the data set was not available. Tests read synthetic images that are
prepared in the same way.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="unet_resnet34")
    config.data = dict(
        source="tfds_masks",
        dataset="oxford_iiit_pet",
        splits={"train": "train[:90%]", "val": "train[90%:]", "test": "test"},
        batch_size=32,
        train_transforms=(
            "resize((256, 256), 'bilinear') | flip | scale((0.8, 1.25)) | color_jitter(0.2, 0.2)"
        ),
        eval_transforms="resize((256, 256), 'bilinear')",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    config.objective = dict(name="segmentation", losses={"cross_entropy": 1.0, "dice": 1.0})
    config.optimizer = dict(name="adamw", learning_rate=1e-3, weight_decay=1e-4)
    config.schedule = dict(name="cosine", warmup_fraction=0.05)
    config.train = dict(epochs=60, evaluate_every_epochs=5)
    config.checkpoint = dict(best="val/iou")
    return config
