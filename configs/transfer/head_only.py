r"""A new head on a ViT-S/16 pretrained on ImageNet, whose weights stay fixed.

    vitjax train --config=configs/transfer/head_only.py --workdir=runs/head \
        --config.data.path=photos

Features are computed once, from images as they are evaluated, and kept in ``runs/head/features``:
a hundred epochs cost little more than one. Everything else is as in ``fine_tune.py``; 385
parameters per class are trained. ``vitjax probe --config=configs/transfer/head_only.py`` solves
nearly the same problem by L-BFGS. Not run in full.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(source: str = "folder") -> ConfigDict:
    config = configs.load(f"{Path(__file__).with_name('fine_tune.py')}:{source}")
    config.model = dict(name="vit_s16")
    config.objective = dict(name="head_only")
    config.data.train_transforms = config.data.eval_transforms
    config.data.batch_size = 256
    config.optimizer = dict(name="sgd", learning_rate=0.1, momentum=0.9)
    config.schedule = dict(name="cosine")
    config.train = dict(epochs=100, log_every_steps=100, evaluate_every_epochs=5)
    return config
