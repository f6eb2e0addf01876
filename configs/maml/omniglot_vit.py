"""MAML on Omniglot with a small ViT in place of the convolutions.

    vitjax train --config=configs/maml/omniglot_vit.py --workdir=runs/omniglot_vit

All but the model and the inner loop is that of ``omniglot_5w1s.py``, or of the config named behind
a colon: ``omniglot_vit.py:glyphs_5w1s``.

Slow to start: after 250 steps of 8 tasks it is at chance still, after 1,000 it had 61.2 +- 1.0% on
600 test episodes (seed 0, about 20 minutes on one core of an AMD EPYC, 2026-11-25; the settings
beside the 14,000 steps in ``omniglot_5w1s.py``, with the rate 1e-3). The convolutions have 94%
after 1,500. It was not trained to its end.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(base: str = "omniglot_5w1s") -> ConfigDict:
    config = configs.load(Path(__file__).with_name(f"{base}.py"))
    config.model = dict(
        name="vit_ti16",
        patch_size=4,
        width=64,
        depth=4,
        num_heads=4,
        mlp_width=128,
        pooling="mean",
        positions="sincos2d",
    )
    config.objective.inner_steps = config.objective.test_steps = 5
    config.objective.inner_learning_rate = 0.1
    return config
