"""First-order MAML: Finn et al. 2017, arXiv 1703.03400, Sec. 5.2.

    vitjax train --config=configs/maml/fomaml.py --workdir=runs/fomaml

All but the method is that of ``omniglot_5w1s.py``, or of the config named behind a colon:
``fomaml.py:glyphs_5w1s``.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(base: str = "omniglot_5w1s") -> ConfigDict:
    config = configs.load(Path(__file__).with_name(f"{base}.py"))
    config.objective.name = "fomaml"
    return config
