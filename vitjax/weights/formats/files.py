"""Files of weights as flat dicts of arrays: ``.npz``, ``.safetensors`` and PyTorch's.

What a file is, its content says; its name is believed only when one is written.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from vitjax.core.atomic import new_file
from vitjax.core.text import near_match
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import archives, torch_files, torch_writing, unwrapping

# Format: the suffixes that say it, the usual one first.
SUFFIXES = {
    "npz": (".npz",),
    "safetensors": (".safetensors",),
    "pth": (".pth", ".pt", ".th", ".bin"),
}
# In a folder as Hugging Face has it, what is read, the best first.
IN_FOLDERS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# What such a folder may hold beside them.
BESIDE = ("config.json", "preprocessor_config.json")

# How files begin that people take for weights.
_OTHERS = (
    (b"\x89HDF", "an HDF5 file (Keras?); convert it to .npz or .safetensors"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"\x93NUMPY", "a single array (.npy); weights are several, with names (.npz)"),
    (b"GGUF", "a GGUF file, a format for language models"),
    (b"7z\xbc\xaf", "compressed with 7-Zip; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first"),
)


def read(path: str | Path, *, part: str | None = None) -> dict[str, np.ndarray]:
    """Reads all arrays of a file of weights, by their names in it.

    A state dict of PyTorch is taken out of the dicts that training scripts wrap it in; prefixes of
    all names that wrappers of a model leave (``module.``, ``_orig_mod.``) are removed. Of a
    bfloat16 tensor, the array has ml_dtypes' bfloat16.

    Args:
        path: of a file, of the index of several (``model.safetensors.index.json``), or of a folder
            with either under the names that Hugging Face gives them.
        part: where one file holds several sets of weights (``"teacher"`` and ``"student"``), which;
            the names begin after it.

    Raises:
        WeightsError: there is no such file, it is of no format that is known, damaged, asks for
            more than tensors, or holds several sets of weights and ``part`` names none of them.
    """
    path = located(Path(path))
    try:
        arrays = _KINDS[kind(path)](path, part)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except RecursionError:
        raise WeightsError(f"{path}: refused: dicts lie in dicts without end") from None
    if not arrays:
        raise WeightsError(f"{path}: no arrays are in it")
    return unwrapping.without_prefix(arrays)


def metadata(path: str | Path) -> dict[str, str]:
    """What the writer of the file noted in it: of `write`, or in the header of a .safetensors.

    Raises:
        WeightsError: as `read` does.
    """
    path = located(Path(path))
    try:
        found = kind(path)
        if found in ("npz", "pth"):
            with archives.opened(path) as archive:
                return archives.metadata(archive)
        if found == "safetensors":
            with _safetensors(path) as file:
                return dict(file.metadata() or {})
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    return {}


def write(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    format: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes ``arrays`` to ``path``, whole or not at all.

    Args:
        path: of the file; its folder is made if need be.
        arrays: by name.
        format: "npz", "safetensors" or "pth" (which ``torch.load`` reads with
            ``weights_only=True``); None takes what the suffix says.
        metadata: texts to be noted in the file, for `metadata`.

    Raises:
        WeightsError: no format is meant, an array is of a dtype that the format lacks, or the file
            cannot be written: then what was there before still is.
    """
    path = Path(path)
    if format is None:
        format = next((key for key, known in SUFFIXES.items() if path.suffix in known), None)
        if format is None:
            suffixes = [suffix for known in SUFFIXES.values() for suffix in known]
            raise WeightsError(
                f"{path}: the suffix {path.suffix!r} says no format"
                f"{near_match(path.suffix, suffixes)} (known: {', '.join(suffixes)})"
            )
    if format not in SUFFIXES:
        raise WeightsError(
            f"unknown format {format!r}{near_match(format, SUFFIXES)}"
            f" (known: {', '.join(SUFFIXES)})"
        )
    # In one piece and this machine's order of bytes: two of the formats take the bytes as they lie.
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    plain = {name: a.astype(a.dtype.newbyteorder("="), copy=False) for name, a in plain.items()}
    for name, array in plain.items():
        if array.dtype.kind in "OSUmM" or array.dtype.names:
            raise WeightsError(f"{path}: {name} is of dtype {array.dtype}, not of numbers")
    writers = {"npz": _write_npz, "safetensors": _write_safetensors, "pth": torch_writing.write}
    try:
        with new_file(path) as unfinished:
            writers[format](unfinished, plain, metadata)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{path}: cannot be written: {reason}") from error


def sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal; of an index, that of the digests of it and all its files."""
    if kind(path) != "index":
        return _digest(path)
    parts = [path, *(path.parent / shard for shard in listed(path)[1])]
    return hashlib.sha256("".join(map(_digest, parts)).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kind(path: Path) -> str:
    """What the file at ``path`` is by its content: a key of `_KINDS`.

    Raises:
        WeightsError: it is nothing that is read here; the message says what it seems to be.
    """
    size = path.stat().st_size
    if not size:
        raise WeightsError(f"{path}: is empty")
    with open(path, "rb") as file:
        begin = file.read(512)
    if begin.startswith(b"PK"):
        return _kind_of_archive(path)
    if begin.startswith(torch_files.MAGIC):
        return "old pth"
    if size > 8 and begin[8:9] == b"{":
        return "safetensors"
    text = begin.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith(b"{"):
        return "index"
    raise WeightsError(f"{path}: is no file of weights, but {_seems(begin, text, size)}")


def _seems(begin: bytes, text: bytes, size: int) -> str:
    """In words, what a file with these first bytes may be."""
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page: the address leads to a page about the file, or wants a login first"
    if begin.startswith(b"version https://git-lfs"):
        return "the pointer that Git LFS puts in a file's place: run 'git lfs pull' in its folder"
    for magic, words in _OTHERS:
        if begin.startswith(magic):
            return words
    if begin[257:262] == b"ustar":
        return "a tar archive, such as PyTorch wrote before 0.1.10 or as data come in: unpack it"
    if begin.startswith(b"\x80"):
        return "a pickle of something else than PyTorch's tensors, which is never unpickled"
    return f"something else of {size:,} bytes, which begin with {begin[:16]!r}"


def _kind_of_archive(path: Path) -> str:
    with archives.opened(path) as archive:
        names = archive.namelist()
        if torch_files.pickle_record(archive):
            return "pth"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    raise WeightsError(f"{path}: is a zip archive, but not of weights; in it: {some or 'nothing'}")


def located(path: Path) -> Path:
    """The file of weights that ``path`` means: itself, or the one in a folder.

    Raises:
        WeightsError: there is no such file, or no file of weights in the folder.
    """
    if path.is_dir():
        for name in IN_FOLDERS:
            if (path / name).is_file():
                return path / name
        names = sorted(item.name for item in path.iterdir())
        if "checkpoints" in names:
            raise WeightsError(
                f"{path}: is a run's folder; vitjax export --workdir={path} makes a file of it"
            )
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise WeightsError(
            f"{path}: is a folder, with none of {', '.join(IN_FOLDERS)} in it; give the path of a"
            f" file (there: {shown or 'nothing'})"
        )
    if not path.exists():
        folder = path.parent
        names = [item.name for item in folder.iterdir()] if folder.is_dir() else []
        missing = "" if folder.is_dir() else f" (nor a folder {folder})"
        raise WeightsError(f"{path}: there is no such file{missing}{near_match(path.name, names)}")
    return path


def _read_torch(path: Path, part: str | None) -> dict[str, np.ndarray]:
    with torch_files.opened(path) as (tree, read_tensor):
        return unwrapping.state_dict(tree, read_tensor, path, part)


def _read_npz(path: Path, part: str | None) -> dict[str, np.ndarray]:
    arrays = {}
    with archives.opened(path) as archive:
        for name in archive.namelist():
            try:
                with archive.open(name) as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
            except (zipfile.BadZipFile, EOFError, MemoryError, NotImplementedError) as error:
                raise archives.damaged(path, name, error) from error
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise archives.damaged(path, name, error) from error
                raise WeightsError(
                    f"{path}: refused: {name} holds pickled objects, not numbers"
                ) from error
            # NumPy's format has no name for bfloat16, only its size.
            if array.dtype == np.dtype("V2"):
                array = array.view(ml_dtypes.bfloat16)
            arrays[name.removesuffix(".npy")] = array
    return unwrapping.of_part(arrays, path, part)


def _safetensors(path: Path) -> safetensors.safe_open:
    try:
        return safetensors.safe_open(path, framework="np")
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"{path}: is cut short or damaged: its {path.stat().st_size:,} bytes are not those that"
            f" its header, as of a .safetensors, announces ({error})"
        ) from error


def _read_safetensors(path: Path, part: str | None) -> dict[str, np.ndarray]:
    arrays = {}
    with _safetensors(path) as file:
        for name in file.keys():  # noqa: SIM118 - it is no dict
            try:
                arrays[name] = file.get_tensor(name)
            except (safetensors.SafetensorError, AttributeError, TypeError) as error:
                raise WeightsError(
                    f"{path}: {name} cannot be read; its dtype may be one that NumPy lacks"
                    f" ({error})"
                ) from error
    return unwrapping.of_part(arrays, path, part)


def listed(path: Path) -> tuple[dict[str, str], list[str]]:
    """Where an index says that each array is, and all these files, which lie beside it.

    Raises:
        WeightsError: it is no such index, or lists files elsewhere.
    """
    try:
        places = json.loads(path.read_bytes())["weight_map"]
        shards = sorted(set(places.values()))
        beside = all(shard and Path(shard).name == shard for shard in shards)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WeightsError(
            f"{path}: is a JSON file, but no index of weights (it has no 'weight_map')"
        ) from None
    if not beside:
        raise WeightsError(f"{path}: refused: it lists files that are not beside it")
    return places, shards


def _read_index(path: Path, part: str | None) -> dict[str, np.ndarray]:
    """The arrays of all files that an index lists."""
    places, shards = listed(path)
    missing = [shard for shard in shards if not (path.parent / shard).is_file()]
    if missing:
        raise WeightsError(
            f"{path}: lists {len(shards)} files, of which these are missing: {', '.join(missing)}"
        )
    arrays: dict[str, np.ndarray] = {}
    for shard in shards:
        found = kind(path.parent / shard)
        if found == "index":
            raise WeightsError(f"{path}: lists {shard}, which is an index itself")
        arrays |= _KINDS[found](path.parent / shard, None)
    lost = sorted(set(places) - set(arrays))
    if lost:
        raise WeightsError(f"{path}: lists arrays that its files do not hold: {', '.join(lost)}")
    return unwrapping.of_part(arrays, path, part)


_KINDS: dict[str, Callable[[Path, str | None], dict[str, np.ndarray]]] = {
    "npz": _read_npz,
    "safetensors": _read_safetensors,
    "pth": _read_torch,
    "old pth": _read_torch,
    "index": _read_index,
}


def _write_npz(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None
) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = archives.comment(metadata)
        for name, array in arrays.items():
            with archive.open(archives.record(archive, f"{name}.npy"), "w", force_zip64=True) as f:
                np.lib.format.write_array(f, array, allow_pickle=False)


def _write_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None
) -> None:
    path.touch()
    mode = path.stat().st_mode
    safetensors.numpy.save_file(dict(arrays), path, dict(metadata) if metadata else None)
    path.chmod(mode)  # the library would have it read by its owner alone
