"""A small ViT on scikit-learn's 1,797 handwritten digits: the quickstart.

    vitjax train --config=configs/digits/vit.py --workdir=runs/digits_vit

1,437 training images are few for a network without built-in locality. Weak augmentation, fixed
positions and Muon (Jordan et al. 2024) help; AdamW reaches less in the same number of steps.

Test accuracy 99.4%, mean of seeds 0, 1 and 2 (100.0, 98.9, 99.4), each in 84 to 89 s of training
on two cores of an AMD EPYC (2026-11-23, jax 0.10.2). One of the 180 test images is 0.6%.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(
        name="vit_ti16",
        patch_size=2,
        width=64,
        depth=4,
        num_heads=4,
        mlp_width=128,
        pooling="mean",
        positions="sincos2d",
        gelu="tanh",
    )
    config.data = dict(
        source="digits",
        batch_size=64,
        eval_batch_size=180,
        train_transforms="random_affine(degrees=10, translate=0.1, scale=(0.9, 1.1), shear=5)",
        mean=0.3,
        std=0.37,
    )
    config.objective = dict(name="classification", label_smoothing=0.1)
    config.optimizer = dict(
        name="muon",
        learning_rate=2e-3,
        consistent_rms=0.2,  # so that one rate suits Muon's matrices and Adam's vectors
        weight_decay=0.05,
        weight_decay_factors=((r"kernel$", 1.0), (r".", 0.0)),
        clip_norm=1.0,
    )
    config.schedule = dict(name="cosine", warmup_fraction=0.05)
    config.train = dict(epochs=100, ema_decay=0.99, evaluate_every_epochs=10)
    config.checkpoint = dict(every_epochs=20, keep=2)
    return config
