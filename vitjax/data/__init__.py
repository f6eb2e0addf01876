"""Where batches come from: sources of labelled images, transforms, and the loader over both.

>>> import vitjax.data
>>> data = vitjax.data.create(seed=0, source="digits", batch_size=64)
>>> batches = data.train_batches()
>>> next(batches)["image"].shape
(64, 8, 8, 1)
>>> batches.close()
"""

from vitjax.data import episodes, segmentation, sources, transforms
from vitjax.data.creation import create, recall
from vitjax.data.dataset import Dataset
from vitjax.data.episodes import EpisodeData, look_up
from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.iterator import BatchIterator
from vitjax.data.loader import Data
from vitjax.data.segmentation import SegmentationData

__all__ = [
    "BatchIterator",
    "CorruptImage",
    "Data",
    "DataError",
    "Dataset",
    "EpisodeData",
    "SegmentationData",
    "create",
    "episodes",
    "look_up",
    "recall",
    "segmentation",
    "sources",
    "transforms",
]
