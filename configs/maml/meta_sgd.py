"""Meta-SGD, with a learned rate for each scalar: Li et al. 2017, arXiv 1707.09835.

    vitjax train --config=configs/maml/meta_sgd.py --workdir=runs/meta_sgd

All but the method is that of ``omniglot_5w1s.py``, or of the config named behind a colon:
``meta_sgd.py:glyphs_5w1s``.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(base: str = "omniglot_5w1s") -> ConfigDict:
    config = configs.load(Path(__file__).with_name(f"{base}.py"))
    config.objective.name = "meta_sgd"
    return config
