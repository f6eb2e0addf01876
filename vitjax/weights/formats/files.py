"""Files of weights as flat dicts of arrays: ``.npz``, ``.safetensors``, PyTorch's and others'.

The content of a file determines its format; its suffix only matters for writing.

Functions that read a file raise WeightsError without its name; `damage.named` adds it.
"""

from __future__ import annotations

import glob
import hashlib
import json
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vitjax.core.atomic import new_file
from vitjax.core.text import near_match, shortened
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import (
    archives,
    damage,
    flax_msgpack,
    foreign,
    keras,
    limits,
    plain,
    pytorch,
    pytorch_write,
    tensorflow,
    unwrapping,
)
from vitjax.weights.formats.limits import Budget

# Format: its suffixes, the usual one first.
SUFFIXES = {
    "npz": (".npz",),
    "safetensors": (".safetensors",),
    "pth": (".pth", ".pt", ".th", ".bin"),
}
# The file that is read in a folder of Hugging Face, the preferred one first.
IN_FOLDERS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# What such a folder may have beside it.
BESIDE = ("config.json", "preprocessor_config.json")


def read(path: str | Path, *, part: str | None = None) -> dict[str, np.ndarray]:
    """Reads all arrays of a file of weights, by their names in it.

    A state dict of PyTorch is extracted from the dicts that training scripts wrap it in. Prefixes
    that wrappers of a model add to all names (``module.``, ``_orig_mod.``) are removed. A bfloat16
    tensor becomes an array of ml_dtypes' bfloat16.

    Args:
        path: of a file, of one of several or their index (``model.safetensors.index.json``), of a
            folder with either under the names of Hugging Face, or what the names of a checkpoint of
            TensorFlow begin with.
        part: which of several sets of weights in one file (``"teacher"`` or ``"student"``); the
            names begin after it.

    Raises:
        WeightsError: the file does not exist, has no known format, is damaged, asks for more than
            tensors, or has several sets of weights of which ``part`` names none.
    """
    path = located(path)
    with damage.named(path):
        kind = _kind(path)
        arrays = _KINDS[kind](path, part, Budget(_size(path, kind)))
        if not arrays:
            raise WeightsError("no arrays are in it")
        for name in arrays:
            limits.check_name(name)
    return unwrapping.without_prefix(arrays)


def metadata(path: str | Path) -> dict[str, str]:
    """The texts that the writer of the file noted in it, such as the metadata of `write`.

    Raises:
        WeightsError: as `read`.
    """
    path = located(path)
    with damage.named(path):
        found = _kind(path)
        if found in ("npz", "pth"):
            with archives.opened(path) as archive:
                return archives.metadata(archive)
        if found == "safetensors":
            with plain.opened_safetensors(path) as file:
                return dict(file.metadata() or {})
    return {}


def write(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    format: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes ``arrays`` to ``path``, completely or not at all.

    Args:
        path: of the file; its folder is created if necessary.
        arrays: by name.
        format: "npz", "safetensors" or "pth" (which ``torch.load`` reads with
            ``weights_only=True``); None takes it from the suffix.
        metadata: texts to store in the file, for `metadata`.

    Raises:
        WeightsError: the format is unknown, lacks the dtype of an array, or the file cannot be
            written; an existing file is then unchanged.
    """
    path = Path(path)
    if format is None:
        format = next((key for key, known in SUFFIXES.items() if path.suffix in known), None)
        if format is None:
            suffixes = [suffix for known in SUFFIXES.values() for suffix in known]
            raise WeightsError(
                f"{path}: unknown suffix {path.suffix!r}{near_match(path.suffix, suffixes)}"
                f" (known: {', '.join(suffixes)})"
            )
    if format not in SUFFIXES:
        raise WeightsError(
            f"unknown format {format!r}{near_match(format, SUFFIXES)}"
            f" (known: {', '.join(SUFFIXES)})"
        )
    # Contiguous and in native byte order: two of the formats store the bytes as they are.
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    contiguous = {
        name: a.astype(a.dtype.newbyteorder("="), copy=False) for name, a in contiguous.items()
    }
    writers = {
        "npz": plain.write_npz,
        "safetensors": plain.write_safetensors,
        "pth": pytorch_write.write,
    }
    with damage.written(path):
        for name, array in contiguous.items():
            limits.check_name(name)
            if array.dtype.kind in "OSUmM" or array.dtype.names:
                raise WeightsError(f"{name} is of dtype {array.dtype}, not of numbers")
        with new_file(path) as unfinished:
            writers[format](unfinished, contiguous, metadata)


def sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal; for one of several, of the digests of all of them."""
    with damage.named(path):
        parts = _files(path, _kind(path))
        digests = [_digest(part) for part in parts]
    if len(parts) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _files(path: Path, kind: str) -> list[Path]:
    """The file at ``path`` and those that belong to it."""
    if kind == "tensorflow":
        prefix = path.name.removesuffix(".index")
        return [path, *sorted(path.parent.glob(f"{glob.escape(prefix)}.data-*-of-*"))]
    if kind == "index":
        return [path, *(path.parent / shard for shard in _listed(path)[1])]
    return [path]


def _size(path: Path, kind: str) -> int:
    """The bytes of a file, and of those that belong to it."""
    return sum(part.stat().st_size for part in _files(path, kind) if part.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kind(path: Path) -> str:
    """The format of the file at ``path`` by its content: a key of `_KINDS`.

    Raises:
        WeightsError: the file has no known format; the message says what it seems to be.
    """
    found = path.stat()
    # To open a pipe waits for its writer, and a device may have no end.
    if not stat.S_ISREG(found.st_mode):
        raise WeightsError("is a pipe, a device or a folder, not a file")
    if not found.st_size:
        raise WeightsError("is empty")
    size = found.st_size
    with open(path, "rb") as file:
        begin = file.read(512)
    if begin.startswith(b"PK"):
        return _kind_of_archive(path)
    if begin.startswith(pytorch.MAGICS):
        return "old pth"
    if size > 8 and begin[8:9] == b"{":
        return "safetensors"
    if begin.startswith(keras.MAGIC):
        return "keras"
    if begin.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{"):
        return "index"
    if _end(path) == tensorflow.MAGIC:
        return "tensorflow"
    if flax_msgpack.begins(begin):
        return "msgpack"
    raise WeightsError(f"is no file of weights, but {foreign.seems(begin, size)}")


def _end(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - len(tensorflow.MAGIC), 0))
        return file.read()


def _kind_of_archive(path: Path) -> str:
    with archives.opened(path) as archive:
        names = archive.namelist()
        if pytorch.pickle_record(archive):
            return "pth"
    if keras.WEIGHTS in names:
        return "keras"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    some = shortened(names) or "nothing"
    raise WeightsError(f"is a zip archive, but not of weights; it contains {some}")


def located(path: str | Path) -> Path:
    """The file of weights at ``path``: itself, the one in a folder, or the index of several.

    Raises:
        WeightsError: no such file exists, or the folder has no file of weights.
    """
    with damage.named(path):
        return _located(Path(path))


def _located(path: Path) -> Path:
    if (table := tensorflow.index_of(path)) is not None:
        return table
    if path.is_dir():
        for name in IN_FOLDERS:
            if (path / name).is_file():
                return path / name
        if (words := foreign.folder(path)) is not None:
            raise WeightsError(f"is {words}")
        names = sorted(item.name for item in path.iterdir())
        if tables := [name for name in names if name.endswith(".index")]:
            some = ", ".join(str(path / name.removesuffix(".index")) for name in tables[-3:])
            raise WeightsError(f"has checkpoints of TensorFlow; give one of them: {some}")
        raise WeightsError(
            f"is a folder without any of {', '.join(IN_FOLDERS)}; give the path of a file"
            f" (it contains {shortened(names, 10) or 'nothing'})"
        )
    if path.is_symlink() and not path.exists():
        raise WeightsError(f"is a link to {path.readlink()}, where no file is")
    if not path.exists():
        folder = path.parent
        names = [item.name for item in folder.iterdir()] if folder.is_dir() else []
        missing = "" if folder.is_dir() else f" (nor a folder {folder})"
        raise WeightsError(f"no such file{missing}{near_match(path.name, names)}")
    return foreign.index_of_shard(path) or path


def shards(path: Path) -> list[str]:
    """The files that the index at ``path`` lists, all of them beside it.

    Raises:
        WeightsError: it is no such index, or lists files in other folders.
    """
    with damage.named(path):
        return _listed(path)[1]


def _read_torch(path: Path, part: str | None, budget: Budget) -> dict[str, np.ndarray]:
    with pytorch.opened(path, budget) as (tree, read_tensor):
        return unwrapping.state_dict(tree, read_tensor, part, budget)


def _listed(path: Path) -> tuple[dict[str, str], list[str]]:
    """The file of each array in an index, and all these files."""
    limits.check_parsed(path.stat().st_size, "an index of weights")
    try:
        places = json.loads(path.read_bytes())["weight_map"]
        found = sorted(set(places.values()))
        beside = all(shard and Path(shard).name == shard for shard in found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise WeightsError("is a JSON file, but no index of weights (no 'weight_map')") from None
    if not beside:
        raise WeightsError("refused: it lists files that are not beside it")
    for name in (*places, *found):
        limits.check_name(name)
    return places, found


def _read_index(path: Path, part: str | None, budget: Budget) -> dict[str, np.ndarray]:
    """The arrays of all files that an index lists."""
    places, found = _listed(path)
    missing = [shard for shard in found if not (path.parent / shard).is_file()]
    if missing:
        raise WeightsError(f"lists {len(found):,} files; missing: {shortened(missing, 10)}")
    arrays: dict[str, np.ndarray] = {}
    for shard in found:
        with damage.named(path.parent / shard):
            kind = _kind(path.parent / shard)
            read = {} if kind == "index" else _KINDS[kind](path.parent / shard, None, budget)
        if kind == "index":
            raise WeightsError(f"lists {shard}, which is an index itself")
        for name in read:
            if places.get(name, shard) != shard:
                raise WeightsError(f"lists {name} in {places[name]}, but {shard} has it")
        arrays |= read
    lost = sorted(set(places) - set(arrays))
    if lost:
        raise WeightsError(f"lists arrays that its files do not have: {shortened(lost, 10)}")
    return unwrapping.of_part(arrays, part)


# Reads the arrays of a file: all, or those of a part.
_Read = Callable[[Path, str | None, Budget], dict[str, np.ndarray]]


def _read_by(reader: Callable[[Path, Budget], dict[str, np.ndarray]]) -> _Read:
    return lambda path, part, budget: unwrapping.of_part(reader(path, budget), part)


_KINDS: dict[str, _Read] = {
    "npz": _read_by(plain.read_npz),
    "safetensors": _read_by(plain.read_safetensors),
    "pth": _read_torch,
    "old pth": _read_torch,
    "index": _read_index,
    "tensorflow": _read_by(tensorflow.read),
    "keras": _read_by(keras.read),
    "msgpack": _read_by(flax_msgpack.read),
}
