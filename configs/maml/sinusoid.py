"""MAML on sinusoids: Finn et al. 2017, arXiv 1703.03400, Sec. 5.1.

    vitjax train --config=configs/maml/sinusoid.py --workdir=runs/sinusoid
    vitjax train --config=configs/maml/sinusoid.py:5 --workdir=runs/sinusoid_5      # 5 shots

Mean squared error of 600 test episodes after 1, 5 and 10 steps, seed 0, about two minutes of
training on two cores of an AMD EPYC shared with other programs (2026-11-23, jax 0.10.2): 0.40, 0.18
and 0.13 for 10 shots; 0.68, 0.45 and 0.40 for 5, where the paper has 0.67, 0.38 and 0.35 (Table 2).
With 5 shots and one step in training, about one episode in a hundred diverges at the later steps of
a test, so the checkpoint of the lowest validation loss is used. ``sinusoid_mamlpp.py`` avoids this.
"""

from ml_collections import ConfigDict


def get_config(shots: str = "10") -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="mlp_sinusoid")
    config.data = dict(
        source="sinusoid",
        batch_size=25,
        eval_batch_size=100,
        episodes=dict(shots=int(shots), queries=100, train_queries=int(shots), test_episodes=600),
    )
    config.objective = dict(
        name="maml", inner_steps=1, inner_learning_rate=0.01, test_steps=10, episodes_at_once=25
    )
    config.optimizer = dict(name="adam", learning_rate=1e-3)
    config.train = dict(steps=70_000, log_every_steps=1000, evaluate_every_steps=10_000)
    config.checkpoint = dict(best="val/loss")
    return config
