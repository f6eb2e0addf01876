"""LoRA: low-rank updates of queries and values, and the head (Hu et al. 2022, arXiv 2106.09685).

    vitjax train --config=configs/transfer/lora.py --workdir=runs/lora --config.data.path=photos

Everything else is as in ``fine_tune.py``. ``vitjax evaluate``, ``predict`` and ``export`` use the
network with its updates merged, and so does a run that starts from this one. Not run in full.
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
