"""The baseline of MAML's sinusoids: one network for all episodes, fine-tuned to each test episode.

    vitjax train --config=configs/maml/sinusoid_pretrained.py:5 --workdir=runs/pretrained

Finn et al. 2017, arXiv 1703.03400, Table 2. Everything but the method is as in ``sinusoid.py``.

Mean squared error of 600 test episodes after 1, 5 and 10 steps with 5 shots, seed 0, after 20,000
of the 70,000 steps (``--config.train.steps=20000``, a minute): 2.45, 2.24 and 2.23. The paper has
2.41, 2.23 and 2.19.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(shots: str = "10") -> ConfigDict:
    config = configs.load(f"{Path(__file__).with_name('sinusoid.py')}:{shots}")
    config.objective = dict(name="fine_tuning", inner_learning_rate=0.01, test_steps=10)
    return config
