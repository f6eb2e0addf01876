r"""From scratch, the head only, or a complete network: three ways to a classifier of few images.

    vitjax train --config=configs/transfer/comparison.py:scratch --workdir=runs/scratch \
        --config.data.path=few
    vitjax train --config=configs/transfer/comparison.py:head --workdir=runs/head \
        --config.data.path=few
    vitjax train --config=configs/transfer/comparison.py:fine_tune --workdir=runs/fine_tune \
        --config.data.path=few

``few`` holds ``train/<class>/*.jpg`` and ``test/<class>/*.jpg``. The last two start from the run in
``runs/pretrained`` (see ``pretrain.py``), or from ``--config.init.from_checkpoint``. Accuracies
and times are in docs/transfer.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs

EPOCHS = {"scratch": 40, "head": 60, "fine_tune": 20}


def get_config(how: str = "fine_tune") -> ConfigDict:
    if how not in EPOCHS:
        raise ValueError(f"{how!r} is none of {', '.join(EPOCHS)}")
    config = configs.load(Path(__file__).with_name("pretrain.py"))
    config.data.path = "few"
    config.data.batch_size = 32
    config.train.epochs = EPOCHS[how]
    config.train.evaluate_every_epochs = EPOCHS[how] // 4
    if how == "scratch":
        return config
    config.init = dict(from_checkpoint="runs/pretrained")
    if how == "head":
        # Features are computed once, so images are not augmented.
        config.objective.name = "head_only"
        config.data.train_transforms = config.data.eval_transforms
        config.optimizer.learning_rate = 0.3
        # A head memorises a few hundred images: the step is chosen on a quarter, held out.
        config.optimizer.weight_decay = 0.1
    else:
        config.objective.frozen_statistics = "."
        config.optimizer.learning_rate = 0.01
        config.optimizer.learning_rate_factors = ((r"^head/", 10.0),)
        config.optimizer.layer_decay = 0.8
    return config
