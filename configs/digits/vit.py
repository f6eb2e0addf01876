"""A small ViT on scikit-learn's 1,797 handwritten digits: the quickstart.

vitjax train --config=configs/digits/vit.py --workdir=runs/digits_vit
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(
        name="vit_ti16",
        patch_size=2,
        width=96,
        depth=6,
        num_heads=6,
        mlp_width=192,
        pooling="mean",
        drop_path=0.1,
    )
    config.data = dict(
        source="digits",
        batch_size=128,
        eval_batch_size=180,
        train_transforms="random_affine(degrees=15, translate=0.13, scale=(0.85, 1.15), shear=10)",
        eval_transforms="",
        mean=(0.3,),
        std=(0.37,),
    )
    config.objective = dict(name="classification", label_smoothing=0.1)
    config.optimizer = dict(
        name="adamw",
        learning_rate=2e-3,
        b2=0.99,
        weight_decay=0.05,
        weight_decay_factors=((r"kernel$", 1.0), (r".*", 0.0)),
        clip_norm=1.0,
    )
    config.schedule = dict(name="cosine", warmup_epochs=5)
    config.train = dict(epochs=100, ema_decay=0.99, evaluate_every_epochs=10)
    config.checkpoint = dict(keep=2)
    return config
