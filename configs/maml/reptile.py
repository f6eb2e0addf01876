"""Reptile: Nichol et al. 2018, arXiv 1803.02999, App. A.

    vitjax train --config=configs/maml/reptile.py --workdir=runs/reptile

All but the method is that of ``omniglot_5w1s.py``, or of the config named behind a colon:
``reptile.py:glyphs_5w1s``.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(base: str = "omniglot_5w1s") -> ConfigDict:
    config = configs.load(Path(__file__).with_name(f"{base}.py"))
    config.objective = dict(
        name="reptile",
        inner_steps=5,
        inner_batch_size=10,
        inner_learning_rate=1e-3,
        test_steps=50,
        test_batch_size=5,
    )
    config.data.batch_size = 5
    config.data.episodes.train_shots = 10
    config.data.episodes.train_queries = 1
    config.optimizer = dict(name="sgd", learning_rate=1.0)
    config.schedule = dict(name="linear")
    config.train.steps = 100_000
    return config
