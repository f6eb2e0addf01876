"""ANIL, of which only the head is adapted: Raghu et al. 2020, arXiv 1909.09157.

    vitjax train --config=configs/maml/anil.py --workdir=runs/anil

All but the method is that of ``omniglot_5w1s.py``, or of the config named behind a colon:
``anil.py:glyphs_5w1s``.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(base: str = "omniglot_5w1s") -> ConfigDict:
    config = configs.load(Path(__file__).with_name(f"{base}.py"))
    config.objective.name = "anil"
    config.objective.inner_steps = 5
    config.objective.inner_learning_rate = 0.5
    config.objective.test_steps = 5
    return config
