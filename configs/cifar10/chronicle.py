r"""A network of each family on CIFAR-10, narrow enough for minutes on a CPU: docs/chronicle.md.

    vitjax train --config=configs/cifar10/chronicle.py:googlenet --workdir=runs/googlenet \
        --config.data.path=cifar10.npz

The argument is a name of NETWORKS. Those of ImageNet read images that are enlarged to 80 pixels,
which the Inception networks need; their widths are reduced until the forward pass of one image
takes 40 to 85 million FLOPs (AlexNet, whose widths are no fields: 106; SAN: 22 and 25).
`scripts/sweep.py` trains all of them for the same time, and writes the table and the figure of the
page.
"""

from typing import Any

from ml_collections import ConfigDict

from vitjax import config as configs
from vitjax import models

# A sixteenth of BL-net's widths.
_RECURRENT = (6, 8, 12, 16, 32, 64, 128)
# The last map has 2 pixels a side, which a footprint of 7 would not fit.
_SAN: dict[str, Any] = dict(widths=(32, 64, 96, 160, 256), kernel_sizes=(3, 7, 7, 7, 3))
# Side of the images in pixels, and the model.
NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {
    "alexnet": (80, dict(name="alexnet", hidden=256)),
    "vgg11": (80, dict(name="vgg11", width=12, hidden=256)),
    "vgg11_bn": (80, dict(name="vgg11_bn", width=12, hidden=256)),
    "googlenet": (80, dict(name="googlenet", width_factor=0.375)),
    "googlenet_alone": (80, dict(name="googlenet", width_factor=0.375, auxiliary=False)),
    "inception_v2": (80, dict(name="inception_v2", width_factor=0.375)),
    "inception_v3": (80, dict(name="inception_v3", width_factor=0.375, auxiliary=False)),
    "inception_v4": (80, dict(name="inception_v4", width_factor=0.25)),
    "inception_resnet_v2": (
        80,
        dict(name="inception_resnet_v2", width_factor=0.375, stage_sizes=(2, 4, 2)),
    ),
    "xception": (80, dict(name="xception", width_factor=0.2)),
    "resnet50": (80, dict(name="resnet50", width=16)),
    "resnext50": (80, dict(name="resnext50_32x4d", width=16, groups=8, base_width=14)),
    "seresnet50": (80, dict(name="seresnet50", width=16)),
    "skresnet50": (80, dict(name="skresnet50", width=16)),
    "resnest50d": (80, dict(name="resnest50d", width=16)),
    "densenet": (80, dict(name="densenet121", growth_rate=12, stage_sizes=(4, 8, 12, 8))),
    "squeezenet1_1": (80, dict(name="squeezenet1_1")),
    "mobilenet_v1": (80, dict(name="mobilenet_v1", width_factor=0.6)),
    "mobilenet_v2": (80, dict(name="mobilenet_v2", width_factor=0.75)),
    "efficientnet_b0": (80, dict(name="efficientnet_b0", width_factor=0.75)),
    "nasnet": (80, dict(name="nasnet_mobile", stage_sizes=(1, 1, 1), width=40, stem_width=16)),
    "pnasnet": (80, dict(name="pnasnet5_large", stage_sizes=(1, 1, 1), width=48, stem_width=16)),
    "san10_pairwise": (80, dict(name="san10_pairwise", **_SAN)),
    "lenet5": (32, dict(name="lenet5")),
    "nin": (32, dict(name="nin_cifar10", widths=(64, 48, 32, 64, 64, 64, 64, 64))),
    "pyramidnet": (32, dict(name="pyramidnet110_a48", stage_sizes=(3, 3, 3), alpha=32)),
    "resnet20_narrow": (32, dict(name="resnet20", width=8)),
    "resnet56_narrow": (32, dict(name="resnet56", width=8)),
    "plain20_narrow": (32, dict(name="plain20", width=8)),
    "plain56_narrow": (32, dict(name="plain56", width=8)),
    "bl_net": (64, dict(name="bl_net", widths=_RECURRENT)),
    "b_net": (64, dict(name="b_net", widths=_RECURRENT)),
    "b_k_net": (64, dict(name="b_k_net", widths=_RECURRENT)),
    "b_f_net": (64, dict(name="b_f_net", widths=(10, 14, 21, 27, 55, 110, 220))),
    "b_d_net": (64, dict(name="b_d_net", widths=_RECURRENT)),
}
# Dropout and drop path are for many epochs.
_REGULARISERS = ("dropout", "auxiliary_dropout", "drop_path")


def get_config(network: str = "resnet50") -> ConfigDict:
    size, model = configs.variant(network, NETWORKS)
    fields = models.create(model["name"]).field_names()
    config = ConfigDict()
    config.seed = 0
    config.model = {**model, **{key: 0.0 for key in _REGULARISERS if key in fields}}
    config.data = dict(
        source="npz",
        path="cifar10.npz",
        val_examples=1000,
        batch_size=64,
        eval_batch_size=250,
        train_transforms="flip" if size == 32 else f"flip | resize({size})",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    )
    if size != 32:
        config.data.eval_transforms = f"resize({size})"
    config.objective = dict(name="classification")
    if model["name"] == "bl_net":
        config.objective.measures = ("accuracy_over_time",)
    config.optimizer = dict(name="adamw", learning_rate=2e-3, weight_decay=0.05, clip_norm=1.0)
    config.schedule = dict(name="one_cycle", peak_fraction=0.3)
    config.train = dict(steps=100, log_every_steps=25)
    config.checkpoint = dict(keep=1)
    return config
