"""Where batches come from: sources of samples, transforms, samplers, and the loader over them.

>>> import vitjax.data
>>> data = vitjax.data.create(seed=0, source="digits", batch_size=64)
>>> batches = data.train_batches()
>>> next(batches)["image"].shape
(64, 8, 8, 1)
>>> batches.close()
"""

from vitjax.data import episodes, samplers, sources, transforms
from vitjax.data.creation import check, create, recall
from vitjax.data.dataset import Dataset, ImageDataset, LabelledDataset, MaskDataset
from vitjax.data.episodes import EpisodeData, look_up
from vitjax.data.errors import CorruptImage, DataError, ImageShapeError
from vitjax.data.images import KINDS, BoxData, Data, NumberData, UnlabelledData
from vitjax.data.iterator import BatchIterator
from vitjax.data.sample import IGNORE, Sample
from vitjax.data.segmentation import SegmentationData

__all__ = [
    "IGNORE",
    "KINDS",
    "BatchIterator",
    "BoxData",
    "CorruptImage",
    "Data",
    "DataError",
    "Dataset",
    "EpisodeData",
    "ImageDataset",
    "ImageShapeError",
    "LabelledDataset",
    "MaskDataset",
    "NumberData",
    "Sample",
    "SegmentationData",
    "UnlabelledData",
    "check",
    "create",
    "episodes",
    "look_up",
    "recall",
    "samplers",
    "sources",
    "transforms",
]
