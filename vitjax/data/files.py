"""Single image files, such as those to be predicted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vitjax.data.errors import DataError
from vitjax.data.sources.decoding import decode_image
from vitjax.data.transforms.pipeline import Pipeline


def read_image(
    path: str | os.PathLike[str], pipeline: Pipeline, shape: tuple[int, int, int]
) -> np.ndarray:
    """An image file after ``pipeline``: (height, width, channels), which are to be ``shape``.

    Raises:
        DataError: it cannot be read, or the transforms do not bring it to ``shape``.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    image = decode_image(content, shape[-1], str(path))
    image = pipeline(image, np.random.default_rng(0))
    if image.shape != shape:
        raise DataError(
            f"{path}: is of shape {image.shape} after eval_transforms; the model was trained on"
            f" {shape}"
        )
    return image
