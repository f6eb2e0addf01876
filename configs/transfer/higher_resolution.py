r"""A fine-tuned ViT, fine-tuned again at 384 pixels: its position embeddings are resized.

    vitjax train --config=configs/transfer/higher_resolution.py --workdir=runs/fine_tuned_384 \
        --config.init.from_checkpoint=runs/fine_tuned --config.data.path=photos

As Dosovitskiy et al. 2021 (arXiv 2010.11929, Section 3.2) and Touvron et al. 2019 (FixRes, arXiv
1906.06423) do: a few epochs of weak augmentation, at a small rate. Not run in full.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def get_config(source: str = "folder") -> ConfigDict:
    config = configs.load(f"{Path(__file__).with_name('fine_tune.py')}:{source}")
    config.init.from_checkpoint = "runs/fine_tuned"
    config.data.train_transforms = "random_resized_crop(384, scale=(0.6, 1.0)) | flip"
    config.data.eval_transforms = "resize(384) | center_crop(384)"
    config.data.batch_size = 16
    config.optimizer.learning_rate = 2e-5
    config.train.epochs = 3
    return config
