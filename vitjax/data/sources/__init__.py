"""Sources: where samples come from. A config names one as ``config.data.source``."""

from vitjax.data.image_files import decode_image
from vitjax.data.sample import Sample
from vitjax.data.sources import (
    arrays,
    cells,
    cue_folders,
    folder,
    glyphs,
    manifest,
    masks,
    shape_texture,
    tfds,
    tfds_masks,
)
from vitjax.data.sources.base import (
    SOURCES,
    ArraySplit,
    LabelledSplit,
    SizedSplit,
    Source,
    Split,
    Stored,
    hold_out,
    register,
)

__all__ = [
    "SOURCES",
    "ArraySplit",
    "LabelledSplit",
    "Sample",
    "SizedSplit",
    "Source",
    "Split",
    "Stored",
    "arrays",
    "cells",
    "cue_folders",
    "decode_image",
    "folder",
    "glyphs",
    "hold_out",
    "manifest",
    "masks",
    "register",
    "shape_texture",
    "tfds",
    "tfds_masks",
]
