from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Writes one image of constant grey, its folder included."""

    def write(path: Path, grey: int = 100, size: tuple[int, int] = (12, 10)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = size
        Image.fromarray(np.full((height, width, 3), grey, np.uint8)).save(path)
        return path

    return write


@pytest.fixture
def image_folder(tmp_path: Path, write_image) -> Path:
    """Two classes with six PNG images each; the grey level tells them apart."""
    for index in range(6):
        write_image(tmp_path / "pictures" / "cat" / f"{index}.png", 10 + index)
        write_image(tmp_path / "pictures" / "dog" / f"{index}.png", 100 + index)
    return tmp_path / "pictures"
