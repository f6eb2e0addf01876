"""Images with a class for every pixel: sources, transforms of both, weight maps, batches."""

from vitjax.data.segmentation import cells, geometry, grey, masks, tfds_masks
from vitjax.data.segmentation.loader import SegmentationData
from vitjax.data.segmentation.pairs import IGNORE, Classes, Pair, PairSource, PairSplit
from vitjax.data.segmentation.pictures import (
    probability_file,
    read_mask,
    write_mask,
    write_picture,
)
from vitjax.data.segmentation.transforms import PAIR_TRANSFORMS, PairTransform, parse_pairs
from vitjax.data.segmentation.weights import class_weights, weight_map

__all__ = [
    "IGNORE",
    "PAIR_TRANSFORMS",
    "Classes",
    "Pair",
    "PairSource",
    "PairSplit",
    "PairTransform",
    "SegmentationData",
    "cells",
    "class_weights",
    "geometry",
    "grey",
    "masks",
    "parse_pairs",
    "probability_file",
    "read_mask",
    "tfds_masks",
    "weight_map",
    "write_mask",
    "write_picture",
]
