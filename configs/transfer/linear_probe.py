r"""Linear, nearest-neighbour and few-shot probes of a ViT that comes from a file in timm's format.

    vitjax train --config=configs/digits/vit.py --workdir=runs/digits_vit
    vitjax export --workdir=runs/digits_vit --format=timm --output=digits_vit.safetensors
    vitjax probe --config=configs/transfer/linear_probe.py --output=probes
    vitjax probe --config=configs/transfer/linear_probe.py --output=probes --method=knn
    vitjax probe --config=configs/transfer/linear_probe.py --output=probes --method=few_shot \
        --layers=all

A probe needs a network and data with classes. The sections ``optimizer`` and ``train`` are required
in every config, and have no effect here.

Test accuracy, seed 0: linear 100.0%, 20 nearest neighbours 100.0%, 1, 5 and 10 shots 99.7, 100.0
and 100.0%, in 5 to 8 s each on one core of an AMD EPYC shared with other programs (2026-11-25, jax
0.10.2). One of the 180 test images is 0.6%. Other layers are in docs/transfer.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config() -> ConfigDict:
    config = configs.load(Path(__file__).parents[1] / "digits/vit.py")
    config.init = dict(from_checkpoint="digits_vit.safetensors")
    return config
