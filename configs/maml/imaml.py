"""iMAML, with implicit gradients: Rajeswaran et al. 2019, arXiv 1909.04630.

    vitjax train --config=configs/maml/imaml.py --workdir=runs/imaml

All but the method is that of ``omniglot_5w1s.py``, or of the config named behind a colon:
``imaml.py:glyphs_5w1s``.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(base: str = "omniglot_5w1s") -> ConfigDict:
    config = configs.load(Path(__file__).with_name(f"{base}.py"))
    config.objective = dict(
        name="imaml",
        inner_steps=16,
        inner_learning_rate=0.5,
        test_steps=16,
        proximal=2.0,
        cg_steps=5,
    )
    return config
