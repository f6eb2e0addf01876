"""Sources that hold all their images in memory: digits, npz and synthetic."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Annotated, BinaryIO

import numpy as np

from vitjax.core.errors import in_one_line
from vitjax.core.machine import check_memory
from vitjax.core.regular_files import open_regular
from vitjax.core.text import near_match, printable
from vitjax.core.validation import Bounds, Examples, NonNegativeInt, Side
from vitjax.data.errors import DataError
from vitjax.data.sources.base import ArraySplit, HeldOut, Source, hold_out, register, take

# The split of `digits` is part of the data set, so it does not depend on a config's seed.
DIGITS_SEED = 1797
DIGITS_HELD_OUT = 180
# Of an archive: arrays may have as many bytes, or as many times those of the file.
_MOST_BYTES = 1 << 28
_MOST_GROWTH = 100


@register("digits")
def digits() -> Source:
    """The 1,797 handwritten digits inside scikit-learn: 8x8, grey, ten classes, no download.

    Images are uint8 of shape (8, 8, 1), the 17 grey levels spread over 0 to 255. The split is
    fixed and stratified: 1,437 train, 180 val, 180 test.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = np.round(raw.images * (255 / 16)).astype(np.uint8)[..., None]
    everything = ArraySplit(images, raw.target.astype(np.int32), "digits")
    rest, test = hold_out(everything.labels, DIGITS_HELD_OUT, DIGITS_SEED)
    train, val = hold_out(everything.labels[rest], DIGITS_HELD_OUT, DIGITS_SEED)
    splits = {"train": rest[train], "val": rest[val], "test": test}
    return Source(
        {name: take(everything, indices) for name, indices in splits.items()},
        tuple(str(d) for d in range(10)),
    )


@register("synthetic")
def synthetic(
    image_size: Side = 32,
    channels: Annotated[int, Bounds(at_least=1, at_most=4096)] = 3,
    num_classes: Annotated[int, Bounds(at_least=1, at_most=10**6)] = 10,
    examples: Examples = 1024,
    val_examples: Examples = 256,
) -> Source:
    """Random images with a faint pattern for each class: for benchmarks and smoke tests.

    Always the same for the same keywords. Half of a pixel's value is its class's pattern, a coarse
    random one, and half is noise, so that training has something to learn.

    Args:
        image_size: height and width in pixels.
        channels: of the images.
        num_classes: classes, as even in number as ``examples`` allows.
        examples: images in split ``train``.
        val_examples: images in split ``val``.
    """
    check_memory(
        (examples + val_examples + num_classes) * image_size**2 * channels,
        f"config.data.source = 'synthetic': examples = {examples} with image_size = {image_size}",
        "it keeps all images in memory, so fewer or smaller ones are needed",
    )
    generator = np.random.default_rng(0)
    cells = min(4, image_size)
    coarse = generator.integers(0, 128, (num_classes, cells, cells, channels), dtype=np.uint8)
    where = np.arange(image_size) * cells // image_size
    patterns = coarse[:, where][:, :, where]

    def split(name: str, count: int) -> ArraySplit:
        labels = generator.permutation(np.arange(count, dtype=np.int32) % num_classes)
        shape = (count, image_size, image_size, channels)
        images = generator.integers(0, 128, shape, dtype=np.uint8)
        images += patterns[labels]
        return ArraySplit(images, labels, f"synthetic {name}")

    return Source(
        {"train": split("train", examples), "val": split("val", val_examples)},
        tuple(f"class {c}" for c in range(num_classes)),
    )


@register("npz")
def npz(
    path: str,
    val_fraction: HeldOut | None = None,
    val_examples: NonNegativeInt | None = None,
    split_seed: NonNegativeInt = 0,
) -> Source:
    """Arrays in one ``.npz`` file.

    The file holds ``x_train``, ``y_train`` and optionally ``x_val``, ``y_val``, ``x_test``,
    ``y_test``: images of shape (examples, height, width, channels), or (examples, height, width)
    for grey ones, uint8 or floats (kept as float32), and labels, integers from 0, of shape
    (examples,) or (examples, 1). An array ``class_names`` names the classes; by default their names
    are their indices.

    Args:
        path: the file.
        val_fraction: fraction of ``train`` to hold out as ``val``, if there is no ``x_val``.
        val_examples: the same as a number of examples; give one of the two.
        split_seed: selects the examples that are held out.

    Raises:
        DataError: the file does not exist, an array is missing or has a wrong shape or type, or
            the examples to hold out are too many.
    """
    arrays = _load(path)
    splits = {}
    for name in ("train", "val", "test"):
        if name == "train" or f"x_{name}" in arrays or f"y_{name}" in arrays:
            splits[name] = _array_split(arrays, name, path)
    if val_fraction is not None or val_examples is not None:
        if val_fraction is not None and val_examples is not None:
            raise DataError("npz: give val_fraction or val_examples, not both")
        if "val" in splits:
            raise DataError(f"{path} has x_val already: leave out val_fraction and val_examples")
        train = splits["train"]
        if val_examples is None:
            assert val_fraction is not None
            val_examples = round(val_fraction * len(train))
        kept, held = hold_out(train.labels, val_examples, split_seed)
        splits |= {"train": take(train, kept), "val": take(train, held)}
    return Source(splits, _class_names(arrays, splits, path))


def _load(path: str) -> dict[str, np.ndarray]:
    if not os.path.exists(path):
        folder = Path(path).parent
        siblings = [str(p) for p in sorted(folder.glob("*.npz"))] if folder.is_dir() else []
        raise DataError(f"no file {str(path)!r}{near_match(str(path), siblings)}")
    try:
        with open_regular(path) as opened:
            _check_archive(opened)
            with np.load(opened, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
    except Exception as error:  # of any type that zipfile, zlib and NumPy raise of damage
        raise DataError(
            f"{printable(path)} cannot be read as an .npz file ({_reason(error)}); write it with"
            " numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"
        ) from error


def _check_archive(file: BinaryIO) -> None:
    """Raises ValueError if a zip archive unpacks to far more bytes than it has."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
    unpacked = sum(record.file_size for record in records)
    if unpacked > max(_MOST_BYTES, _MOST_GROWTH * size):
        raise ValueError(
            f"its {size:,} bytes would unpack to {unpacked:,}, and at most {_MOST_GROWTH} times as"
            " many are read; numpy.savez without compression writes arrays that are read"
        )
    for record in records:
        if record.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{record.filename} is compressed by another method than deflate")
    file.seek(0)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(in_one_line(error, 200))


def _array_split(arrays: dict[str, np.ndarray], name: str, path: str) -> ArraySplit:
    for key in (f"x_{name}", f"y_{name}"):
        if key not in arrays:
            raise DataError(
                f"{path} lacks the array {key!r}{near_match(key, arrays)}"
                f" (it has: {', '.join(arrays) or 'none'})"
            )
    images, labels = arrays[f"x_{name}"], arrays[f"y_{name}"]
    found = f"{path}: x_{name} is {images.dtype} of shape {images.shape}"
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise DataError(
            f"{found}; images are (examples, height, width, channels) or, grey, without channels"
        )
    if images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise DataError(
            f"{found}, which looks like channels first; put them last with x.transpose(0, 2, 3, 1)"
        )
    if 0 in images.shape:
        raise DataError(f"{found}: it has no images")
    if np.issubdtype(images.dtype, np.floating):
        images = images.astype(np.float32)
        if not np.isfinite(images).all():
            raise DataError(f"{found} and holds NaN or infinity")
    elif images.dtype != np.uint8:
        raise DataError(
            f"{found}; images are uint8 (0 to 255) or floats: try x.astype(numpy.uint8)"
        )
    found = f"{path}: y_{name} is {labels.dtype} of shape {labels.shape}"
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{found}; labels are integers of shape (examples,)")
    if len(labels) != len(images):
        raise DataError(f"{found}, but x_{name} has {len(images)} images")
    if labels.min() < 0:
        raise DataError(f"{found} and holds {labels.min()}; class indices start at 0")
    return ArraySplit(images, labels.astype(np.int32), f"{path}: x_{name}")


def _class_names(
    arrays: dict[str, np.ndarray], splits: dict[str, ArraySplit], path: str
) -> tuple[str, ...]:
    if "class_names" in arrays:
        names = tuple(str(n) for n in arrays["class_names"])
        source = "class_names"
    else:
        names = tuple(str(c) for c in range(int(splits["train"].labels.max()) + 1))
        source = "y_train"
    for name, split in splits.items():
        if (top := int(split.labels.max(initial=0))) >= len(names):
            raise DataError(
                f"{path}: y_{name} holds class {top}, but {source} knows only 0 to {len(names) - 1}"
            )
    return names
