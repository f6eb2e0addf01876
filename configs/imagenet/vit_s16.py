r"""ViT-S/16 on ImageNet in 90 epochs: Beyer et al. 2022, "Better plain ViT baselines".

    vitjax train --config=configs/imagenet/vit_s16.py --workdir=runs/imagenet_vit_s16 \
        --config.data.data_dir=/data/tensorflow_datasets

The paper (arXiv 2205.01580, Section 3 and Table 1): 76.5% top-1 after 90 epochs, 80.0% after 300
(--config.train.epochs=300), 6 to 7 hours for 90 epochs on a TPUv3-8. Batch 1024, AdamW at 1e-3,
10,000 steps of warm-up, decay 1e-4 (not multiplied by the rate there: 0.1 here), MixUp 0.2,
RandAugment(2, 10), gradient clipping at 1, mean pooling, fixed sine-cosine positions. Not run in
full yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(
        name="vit_s16", pooling="mean", positions="sincos2d", gelu="tanh", dtype="bfloat16"
    )
    config.data = dict(
        source="tfds",
        dataset="imagenet2012",
        # TFDS calls the official validation images, on which all papers report, "validation".
        splits=dict(train="train[:99%]", val="train[99%:]", test="validation"),
        batch_size=1024,
        train_transforms="random_resized_crop(224, scale=(0.05, 1.0)) | flip | rand_augment(2, 10)",
        eval_transforms="resize(256) | center_crop(224)",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        workers=16,
    )
    config.objective = dict(name="classification", mixup=0.2)
    config.optimizer = dict(
        name="adamw",
        learning_rate=1e-3,
        mu_dtype="bfloat16",
        weight_decay=0.1,
        weight_decay_factors=((r"kernel$", 1.0), (r".", 0.0)),
        clip_norm=1.0,
    )
    config.schedule = dict(name="cosine", warmup_steps=10_000)
    config.train = dict(epochs=90, log_every_steps=50, evaluate_every_epochs=1)
    config.checkpoint = dict(every_steps=1000, keep=2)
    return config
