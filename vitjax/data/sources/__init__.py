"""Sources: where labelled images come from. A config names one as ``config.data.source``."""

from vitjax.data.sources import arrays, folder, glyphs, tfds
from vitjax.data.sources.base import (
    SOURCES,
    ArraySplit,
    Source,
    Split,
    hold_out,
    register,
)
from vitjax.data.sources.decoding import decode_image

__all__ = [
    "SOURCES",
    "ArraySplit",
    "Source",
    "Split",
    "arrays",
    "decode_image",
    "folder",
    "glyphs",
    "hold_out",
    "register",
    "tfds",
]
