"""Prototypical networks: Snell et al. 2017, arXiv 1703.05175.

    vitjax train --config=configs/maml/protonet.py --workdir=runs/protonet

All but the method is that of ``omniglot_5w1s.py``, or of the config named behind a colon:
``protonet.py:glyphs_5w1s``.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(base: str = "omniglot_5w1s") -> ConfigDict:
    config = configs.load(Path(__file__).with_name(f"{base}.py"))
    config.objective = dict(name="protonet")
    config.data.episodes.train_ways = 20
    config.data.batch_size = 4
    return config
