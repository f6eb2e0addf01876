"""LoRA: low-rank updates of queries and values, and the head (Hu et al. 2022, arXiv 2106.09685).

    vitjax train --config=configs/transfer/lora.py --workdir=runs/lora --config.data.path=photos

All else is that of ``fine_tune.py``. ``vitjax evaluate``, ``predict`` and ``export`` see the
network with its updates merged; a run that starts from this one does too. Not run in full by us.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(source: str = "folder") -> ConfigDict:
    config = configs.load(f"{Path(__file__).with_name('fine_tune.py')}:{source}")
    config.objective.lora = dict(rank=8, alpha=16)
    config.optimizer.learning_rate = 2e-3
    del config.optimizer.layer_decay
    return config
