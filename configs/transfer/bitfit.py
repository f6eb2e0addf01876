"""BitFit: only the biases and the head (Ben Zaken et al. 2022, arXiv 2106.10199).

    vitjax train --config=configs/transfer/bitfit.py --workdir=runs/bitfit --config.data.path=photos

Everything else is as in ``fine_tune.py``; 0.3% of a ViT-S/16 is trained. Not run in full.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(source: str = "folder") -> ConfigDict:
    config = configs.load(f"{Path(__file__).with_name('fine_tune.py')}:{source}")
    config.optimizer.train_only = (r"bias$", r"^head/")
    config.optimizer.learning_rate = 2e-3
    del config.optimizer.layer_decay
    return config
