r"""MAML on miniImageNet: Finn et al. 2017, arXiv 1703.03400, App. A.1.

    vitjax train --config=configs/maml/miniimagenet.py \
        --workdir=runs/miniimagenet_5w1s --config.data.path=miniimagenet
    vitjax train --config=configs/maml/miniimagenet.py:5w5s \
        --workdir=runs/miniimagenet_5w5s --config.data.path=miniimagenet

The argument gives ways and shots: 5w1s (the default) or 5w5s. ``miniimagenet`` holds
``train/<wnid>/*.jpg``, ``val/`` and ``test/``: the 64, 16 and 20 classes of Ravi and Larochelle.

The paper reports 48.70 +- 1.84% (1 shot) and 63.11 +- 0.92% (5 shots) on test classes,
transductive; these runs have not been reproduced here.
"""

from ml_collections import ConfigDict

from vitjax import config as configs

VARIANTS = {"5w1s": dict(shots=1, batch_size=4), "5w5s": dict(shots=5, batch_size=2)}


def get_config(variant: str = "5w1s") -> ConfigDict:
    size = configs.variant(variant, VARIANTS)
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="conv4")
    config.data = dict(
        source="folder",
        path="miniimagenet",
        classes="all",
        eval_transforms="resize((84, 84), interpolation='area')",
        mean=0.5,
        std=0.5,
        batch_size=size["batch_size"],
        eval_batch_size=10,
        episodes=dict(ways=5, shots=size["shots"], queries=15, class_split="miniimagenet_ravi"),
    )
    # The paper's rate is 0.01, on a sum over 5 ways of means over shots.
    config.objective = dict(name="maml", inner_steps=5, inner_learning_rate=0.05, test_steps=10)
    config.optimizer = dict(name="adam", learning_rate=1e-3, clip_value=10.0)
    config.train = dict(steps=60_000, evaluate_every_steps=1_000, log_every_steps=100)
    config.checkpoint = dict(best="val/accuracy", keep_best=5)
    return config
