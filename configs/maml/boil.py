"""BOIL, of which all but the head is adapted: Oh et al. 2021, arXiv 2008.08882.

    vitjax train --config=configs/maml/boil.py --workdir=runs/boil

All but the method is that of ``omniglot_5w1s.py``, or of the config named behind a colon:
``boil.py:glyphs_5w1s``.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(base: str = "omniglot_5w1s") -> ConfigDict:
    config = configs.load(Path(__file__).with_name(f"{base}.py"))
    config.objective.name = "boil"
    return config
