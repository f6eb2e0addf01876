"""MAML++: Antoniou et al. 2019, arXiv 1810.09502.

    vitjax train --config=configs/maml/mamlpp.py --workdir=runs/mamlpp

All but the method is that of ``omniglot_5w1s.py``, or of the config named behind a colon:
``mamlpp.py:glyphs_5w1s``.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(base: str = "omniglot_5w1s") -> ConfigDict:
    config = configs.load(Path(__file__).with_name(f"{base}.py"))
    config.objective.name = "mamlpp"
    config.objective.inner_steps = config.objective.test_steps = 5
    config.objective.inner_learning_rate = 0.5
    config.schedule = dict(name="cosine")
    return config
