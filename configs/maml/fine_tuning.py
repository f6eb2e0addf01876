"""A network trained on all classes, whose new head is tuned: Chen et al. 2019, arXiv 1904.04232.

    vitjax train --config=configs/maml/fine_tuning.py --workdir=runs/fine_tuning

All but the method is that of ``omniglot_5w1s.py``, or of the config named behind a colon:
``fine_tuning.py:glyphs_5w1s``.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(base: str = "omniglot_5w1s") -> ConfigDict:
    config = configs.load(Path(__file__).with_name(f"{base}.py"))
    config.objective = dict(name="fine_tuning", test_steps=20, inner_learning_rate=0.1)
    return config
