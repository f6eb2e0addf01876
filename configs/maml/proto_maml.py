"""Proto-MAML, which starts at prototypes: Triantafillou et al. 2020, arXiv 1903.03096, Sec. 3.

    vitjax train --config=configs/maml/proto_maml.py --workdir=runs/proto_maml

All but the method is that of ``omniglot_5w1s.py``, or of the config named behind a colon:
``proto_maml.py:glyphs_5w1s``.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(base: str = "omniglot_5w1s") -> ConfigDict:
    config = configs.load(Path(__file__).with_name(f"{base}.py"))
    config.objective.head = "prototypes"
    config.objective.inner_learning_rate = 0.4
    config.objective.test_steps = 1
    return config
