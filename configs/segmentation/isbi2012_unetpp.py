r"""U-Net++ with deep supervision on ISBI 2012: arXiv 1807.10165, Sec. 3.

    vitjax train --config=configs/segmentation/isbi2012_unetpp.py --workdir=runs/isbi2012_unetpp \
        --config.data.path=DIR

Everything but the model is as in ``isbi2012.py``. Not run in full.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config() -> ConfigDict:
    config = configs.load(Path(__file__).with_name("isbi2012.py"))
    config.model = dict(name="unet_plus_plus", filters=16, depth=4, norm="batch")
    return config
