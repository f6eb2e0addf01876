r"""A ViT and a ResNet on drawn shapes with drawn textures that agree: docs/shape_and_robustness.md.

    vitjax train --config=configs/cues/shape_texture.py:vit --workdir=runs/cues_vit_0
    vitjax train --config=configs/cues/shape_texture.py:resnet --workdir=runs/cues_resnet_0
    vitjax shape-bias --workdir=runs/cues_vit_0 --workdir=runs/cues_resnet_0 --output=bias

Either cue tells the class. Which one a network has learned shows where they contradict each other.
Both networks see the same images for the same number of epochs.

Over seeds 0 to 2 (2026-11-30, an AMD EPYC, 844 steps), the mean accuracy on agreeing images is
95.1% for the ViT and 99.5% for the ResNet, and the shape bias 1.5% and 0.5%: both go by texture.
"""

from typing import Any

from ml_collections import ConfigDict

from vitjax import config as configs

_VIT: dict[str, Any] = dict(
    name="vit_ti16",
    patch_size=4,
    width=64,
    depth=4,
    num_heads=4,
    mlp_width=128,
    pooling="mean",
    positions="sincos2d",
    gelu="tanh",
)
NETWORKS: dict[str, dict[str, Any]] = {
    "vit": _VIT,
    "resnet": dict(name="resnet20", stage_sizes=(1, 1, 1), width=16, shortcut="projection"),
}


def get_config(network: str = "vit") -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = configs.variant(network, NETWORKS)
    config.data = dict(
        source="shape_texture",
        image_size=32,
        batch_size=64,
        eval_batch_size=360,
        train_transforms="shift(2) | flip",
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
    )
    config.objective = dict(name="classification")
    config.optimizer = dict(
        name="adamw",
        learning_rate=2e-3,
        weight_decay=0.05,
        weight_decay_factors=((r"kernel$", 1.0), (r".", 0.0)),
        clip_norm=1.0,
    )
    config.schedule = dict(name="cosine", warmup_fraction=0.1)
    config.train = dict(epochs=15, log_every_steps=100, evaluate_every_epochs=5)
    config.checkpoint = dict(keep=1)
    return config
