"""A network trained on all classes, and nearest centroids: Wang et al. 2019, arXiv 1911.04623.

    vitjax train --config=configs/maml/nearest_centroid.py --workdir=runs/nearest_centroid

All but the method is that of ``omniglot_5w1s.py``, or of the config named behind a colon:
``nearest_centroid.py:glyphs_5w1s``.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(base: str = "omniglot_5w1s") -> ConfigDict:
    config = configs.load(Path(__file__).with_name(f"{base}.py"))
    config.objective = dict(name="nearest_centroid")
    return config
