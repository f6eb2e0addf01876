"""PyTorch's checkpoint files, read without PyTorch and without running anything that they ask for.

A checkpoint is a pickle: a program for a small machine that may call any function of Python. The
machine here knows the handful that a tensor needs, each under its own name and by a harmless twin,
and refuses a file that asks for any other. The tensors' numbers lie beside the pickle, in records
of a zip archive (since PyTorch 1.6) or one after the other in the file (before).
"""

from __future__ import annotations

import collections
import contextlib
import io
import pickle
import pickletools
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import archives

# The number that a file of the old format begins with, as a pickle.
MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
_VERSION = 1001
_MOST_MEMO = 2**24

# PyTorch's name of a dtype: NumPy's dtype.
DTYPES: dict[str, np.dtype] = {
    name: np.dtype(getattr(ml_dtypes, name, name))
    for name in (
        *("float64", "float32", "float16", "bfloat16", "complex128", "complex64", "bool"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    )
}
# PyTorch's name of a tensor's storage: of the dtype in it.
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
}

# Kept in checkpoints beside the weights, and nothing to them: read as empty objects.
_INERT = frozenset(
    {
        "argparse.Namespace",
        "types.SimpleNamespace",
        "numpy.dtype",
        "numpy.ndarray",
        *(f"pathlib.{kind}Path" for kind in ("", "Posix", "PurePosix", "PureWindows", "Windows")),
        *(f"numpy.{core}.multiarray.{what}" for core in ("core", "_core") for what in ("scalar",)),
        *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")),
        "torch.device",
        "torch.Tensor",
        "torch.nn.parameter.Parameter",
        "torch.nn.parameter.Buffer",
    }
)
_UNREADABLE = {
    "torch._utils._rebuild_sparse_tensor": "sparse tensors",
    "torch._utils._rebuild_qtensor": "quantised tensors",
    "torch._utils._rebuild_nested_tensor": "nested tensors",
    "torch._utils._rebuild_meta_tensor_no_storage": "tensors without numbers (device 'meta')",
    "torch._utils._rebuild_wrapper_subclass": "tensors of a class of their own",
}


class Storage(NamedTuple):
    """Where the numbers of tensors lie: elements ``start`` to ``start + length`` of ``key``."""

    key: str
    dtype: str
    length: int
    start: int = 0


class Tensor(NamedTuple):
    """A tensor whose numbers have not been read; ``offset`` and ``strides`` are in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


class Inert:
    """Stands for an object that is no tensor; takes whatever it is given, and keeps nothing."""

    def __init__(self, *arguments: Any, **keywords: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# Reads the numbers of a tensor, which the second argument names for errors.
ReadTensor = Callable[[Tensor, str], np.ndarray]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Any, ReadTensor]]:
    """What the file at ``path`` holds, and a function that reads a tensor of it.

    Yields:
        A tree of dicts, lists, tuples, numbers, strings, `Tensor`s and `Inert` objects; and the
        function, to be called while the file is open. Arrays that share a storage share memory,
        and none can be written to.

    Raises:
        WeightsError: the file is damaged, or asks for anything but tensors and plain values; the
            function raises it where a tensor's numbers are not there.
    """
    with open(path, "rb") as file:
        zipped = file.read(2) == b"PK"
        file.seek(0)
        if not zipped:
            tree, read = _read_old(path, file)
            yield tree, read
            return
    with archives.opened(path) as archive:
        yield _read_zipped(path, archive)


def pickle_record(archive: zipfile.ZipFile) -> str | None:
    """The name of the record of ``archive`` that holds the pickle; None where it has none."""
    names = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
    return names[0] if names else None


def _read_zipped(path: Path, archive: zipfile.ZipFile) -> tuple[Any, ReadTensor]:
    name = pickle_record(archive)
    assert name is not None, "files.read looks for it"
    root = name.removesuffix("data.pkl")
    if f"{root}constants.pkl" in archive.namelist():
        raise WeightsError(
            f"{path}: is a program (TorchScript), not a state dict: save the model's state_dict()"
            " with PyTorch"
        )

    def content(key: str) -> bytes:
        try:
            return archive.read(root + key)
        except KeyError:
            raise WeightsError(f"{path}: is incomplete: it has no record {root + key}") from None
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError) as error:
            raise archives.damaged(path, root + key, error) from error

    order = sys.byteorder.encode()
    if f"{root}byteorder" in archive.namelist():
        order = content("byteorder")
    tree = _Unpickler(io.BytesIO(content("data.pkl")), path).load_tree()
    return tree, _reader(path, lambda key: content(f"data/{key}"), order != sys.byteorder.encode())


def _read_old(path: Path, file: IO[bytes]) -> tuple[Any, ReadTensor]:
    """Five pickles, then for each storage its number of elements and the elements."""
    magic, version, system = (_Unpickler(file, path).load_tree() for _ in range(3))
    if magic != pickle.loads(MAGIC) or version != _VERSION or not isinstance(system, dict):
        raise WeightsError(f"{path}: is no checkpoint of PyTorch that is known (version {version})")
    unpickler = _Unpickler(file, path)
    tree = unpickler.load_tree()
    keys = _Unpickler(file, path).load_tree()
    little = system.get("little_endian", True)
    places = {}
    size = path.stat().st_size
    for key in keys if isinstance(keys, list) else []:
        if key not in unpickler.storages:
            raise WeightsError(f"{path}: is damaged: it has numbers of no tensor ({key!r})")
        count = int.from_bytes(file.read(8), "little" if little else "big")
        length = count * DTYPES[unpickler.storages[key]].itemsize
        places[key] = (file.tell(), length)
        if file.tell() + length > size:
            raise WeightsError(
                f"{path}: is cut short: {size:,} bytes are there, and the numbers of its tensors"
                f" go on to byte {file.tell() + length:,} at least"
            )
        file.seek(length, 1)

    def content(key: str) -> bytes:
        if key not in places:
            raise WeightsError(f"{path}: is damaged: the numbers of {key!r} are not in it")
        begin, length = places[key]
        with open(path, "rb") as again:
            again.seek(begin)
            return again.read(length)

    return tree, _reader(path, content, little != (sys.byteorder == "little"))


def _reader(path: Path, content: Callable[[str], bytes], swapped: bool) -> ReadTensor:
    """A function that makes arrays of tensors, where ``content`` gives the bytes of a storage."""
    kept: dict[str, bytes] = {}

    def read(tensor: Tensor, name: str) -> np.ndarray:
        storage, dtype = tensor.storage, DTYPES[tensor.dtype]
        if storage.key not in kept:
            kept[storage.key] = content(storage.key)
        numbers = kept[storage.key]
        begin = storage.start * DTYPES[storage.dtype].itemsize
        end = begin + storage.length * DTYPES[storage.dtype].itemsize
        try:
            if len(tensor.shape) != len(tensor.strides) or min(tensor.strides, default=0) < 0:
                raise ValueError("strides that are none")
            if not 0 <= begin <= end <= len(numbers) or tensor.offset < 0:
                raise ValueError("more numbers than are there")
            if 0 in tensor.shape:
                return np.zeros(tensor.shape, dtype)
            array: np.ndarray = np.ndarray(
                tensor.shape,
                dtype,
                memoryview(numbers)[begin:end],
                tensor.offset * dtype.itemsize,
                tuple(stride * dtype.itemsize for stride in tensor.strides),
            )
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            raise WeightsError(
                f"{path}: is damaged: {name} of shape {tensor.shape} and strides {tensor.strides}"
                f" cannot be made of {len(numbers):,} bytes ({error})"
            ) from error
        return array.byteswap() if swapped else array

    return read


class _Unpickler(pickle.Unpickler):
    """Reads one pickle, of which nothing becomes anything but a tensor, a plain value or `Inert`.

    Attributes:
        storages: of every storage that tensors are made of, its dtype.
    """

    def __init__(self, file: IO[bytes], path: Path):
        # latin1: whatever a string of Python 2 holds, it can be read; names are ASCII all the same.
        super().__init__(file, encoding="latin1")
        self.file, self.path = file, path
        self.storages: dict[str, str] = {}
        self.known = _known()

    def load_tree(self) -> Any:
        """What the pickle holds; the file then stands behind it."""
        try:
            begin = self.file.tell()
            for code, argument, _ in pickletools.genops(self.file):
                # Places to remember things in, which the machine makes up to the one it is told.
                if code.name in ("PUT", "LONG_BINPUT") and (argument or 0) > _MOST_MEMO:
                    raise ValueError(f"it wants to remember {argument:,} things")
            self.file.seek(begin)
            return self.load()
        except WeightsError:
            raise
        except Exception as error:
            # A pickle that is not whole makes the machine stumble in any way there is.
            raise WeightsError(
                f"{self.path}: is cut short or damaged: its list of tensors cannot be read"
                f" ({type(error).__name__}: {error})"
            ) from error

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if wanted in _UNREADABLE:
            raise WeightsError(f"{self.path}: holds {_UNREADABLE[wanted]}, which are not read")
        if wanted not in self.known:
            raise WeightsError(
                f"{self.path}: refused: it asks for {wanted!r}, and from a file nothing is made but"
                " tensors and plain values. If it is a whole model that somebody pickled, and you"
                " trust them: load it with PyTorch and save its state_dict()"
            )
        return self.known[wanted]

    def persistent_load(self, saved: Any) -> Storage:
        """A storage, from ``("storage", dtype, key, device, count, view?)``."""
        if not isinstance(saved, tuple) or len(saved) not in (5, 6) or saved[0] != "storage":
            raise WeightsError(f"{self.path}: is damaged: it refers to {saved!r}")
        _, dtype, key, _, count, *view = saved
        if not (isinstance(dtype, str) and dtype in DTYPES and isinstance(count, int)):
            raise WeightsError(f"{self.path}: is damaged: it refers to {saved!r}")
        self.storages[str(key)] = dtype
        if view and view[0] is not None:
            _, start, length = view[0]
            return Storage(str(key), dtype, int(length), int(start))
        return Storage(str(key), dtype, count)


def _known() -> dict[str, Any]:
    """All that a pickle may name.

    Made anew for each pickle, since a pickle may set attributes of what it is given.
    """

    def rebuild(storage: Any, offset: Any, size: Any, strides: Any, *_: Any) -> Tensor:
        return rebuild_as(storage.dtype, storage, offset, size, strides)

    def rebuild_typed(*arguments: Any) -> Tensor:
        return rebuild_as(arguments[6], *arguments[:4])

    def rebuild_as(dtype: Any, storage: Any, offset: Any, size: Any, strides: Any) -> Tensor:
        if not isinstance(storage, Storage) or dtype not in DTYPES:
            raise ValueError(f"a tensor of {storage!r}")
        shape, strides = (tuple(int(n) for n in numbers) for numbers in (size, strides))
        return Tensor(storage, int(offset), shape, strides, dtype)

    def rebuild_subclass(function: Any, _type: Any, arguments: Any, _state: Any) -> Any:
        return function(*arguments)

    def default_dict(*_: Any) -> dict[Any, Any]:
        return {}

    def encode(text: str, _encoding: str = "") -> bytes:
        return text.encode("latin1")

    def parameter(data: Any, *_: Any) -> Any:
        return data

    return {
        "collections.OrderedDict": collections.OrderedDict,
        "collections.defaultdict": default_dict,
        "collections.Counter": default_dict,
        "builtins.dict": dict,
        "builtins.list": list,
        "builtins.set": set,
        "builtins.complex": complex,
        "torch.Size": tuple,
        "_codecs.encode": encode,
        "torch._utils._rebuild_tensor": rebuild,
        "torch._utils._rebuild_tensor_v2": rebuild,
        "torch._utils._rebuild_tensor_v3": rebuild_typed,
        "torch._utils._rebuild_parameter": parameter,
        "torch._utils._rebuild_parameter_with_state": parameter,
        "torch._tensor._rebuild_from_type_v2": rebuild_subclass,
        "torch.storage.UntypedStorage": "uint8",
        "torch.UntypedStorage": "uint8",
        **{f"torch.{storage}": dtype for storage, dtype in STORAGES.items()},
        **{f"torch.{dtype}": dtype for dtype in DTYPES},
        **{name: type(name, (Inert,), {}) for name in _INERT},
    }
