"""PyTorch's checkpoint files, read without PyTorch and without executing any code in them.

A checkpoint is a pickle: a program for a stack machine that can call any function of Python. The
machine here knows only the functions that a tensor needs, each replaced by a harmless one of the
same name, and refuses a file that asks for any other. The tensors' numbers are stored beside the
pickle: in records of a zip archive since PyTorch 1.6, one after the other in the file before.

Errors do not name the file: `files` adds its name.
"""

from __future__ import annotations

import collections
import contextlib
import io
import os
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
from vitjax.weights.formats import archives, foreign

# The number at the start of a file of the old format, as a pickle.
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
# PyTorch's name of a storage: its dtype.
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

# Stored in checkpoints beside the weights; read as empty objects.
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
    """Where the numbers of tensors are: elements ``start`` to ``start + length`` of ``key``."""

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
    """Replaces an object that is no tensor; accepts any arguments and stores nothing."""

    def __init__(self, *arguments: Any, **keywords: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# Reads the numbers of a tensor; the second argument is its name, for errors.
ReadTensor = Callable[[Tensor, str], np.ndarray]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Any, ReadTensor]]:
    """The content of the file at ``path``, and a function that reads a tensor of it.

    Yields:
        A tree of dicts, lists, tuples, numbers, strings, `Tensor`s and `Inert` objects; and the
        function, which can be called while the file is open. Arrays that share a storage share
        memory, and all are read-only.

    Raises:
        WeightsError: the file is damaged, or asks for anything but tensors and plain values; the
            function raises it if a tensor's numbers are missing.
    """
    with open(path, "rb") as file:
        zipped = file.read(2) == b"PK"
        file.seek(0)
        if not zipped:
            tree, read = _read_old(file)
            yield tree, read
            return
    with archives.opened(path) as archive:
        yield _read_zipped(archive)


def pickle_record(archive: zipfile.ZipFile) -> str | None:
    """The name of the record of ``archive`` with the pickle; None if it has none."""
    names = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
    return names[0] if names else None


def _read_zipped(archive: zipfile.ZipFile) -> tuple[Any, ReadTensor]:
    name = pickle_record(archive)
    assert name is not None, "files looks for it"
    root = name.removesuffix("data.pkl")
    if f"{root}constants.pkl" in archive.namelist():
        raise WeightsError(foreign.TORCHSCRIPT)

    def content(key: str) -> bytes:
        with archives.reading(root + key):
            try:
                return archive.read(root + key)
            except KeyError:
                raise WeightsError(f"is incomplete: it has no record {root + key}") from None

    order = sys.byteorder.encode()
    if f"{root}byteorder" in archive.namelist():
        order = content("byteorder")
    tree = _Unpickler(io.BytesIO(content("data.pkl"))).load_tree()
    return tree, _reader(lambda key: content(f"data/{key}"), order != sys.byteorder.encode())


def _read_old(file: IO[bytes]) -> tuple[Any, ReadTensor]:
    """Five pickles, then the number of elements and the elements of each storage."""
    magic, version, system = (_Unpickler(file).load_tree() for _ in range(3))
    if magic != pickle.loads(MAGIC) or version != _VERSION or not isinstance(system, dict):
        raise WeightsError(f"is no known checkpoint of PyTorch (version {version})")
    unpickler = _Unpickler(file)
    tree = unpickler.load_tree()
    keys = _Unpickler(file).load_tree()
    little = system.get("little_endian", True)
    places = {}
    size = os.fstat(file.fileno()).st_size
    for key in keys if isinstance(keys, list) else []:
        if key not in unpickler.storages:
            raise WeightsError(f"is damaged: it has numbers of no tensor ({key!r})")
        count = int.from_bytes(file.read(8), "little" if little else "big")
        length = count * DTYPES[unpickler.storages[key]].itemsize
        places[key] = (file.tell(), length)
        if file.tell() + length > size:
            raise WeightsError(
                f"is cut short: it has {size:,} bytes, but the numbers of its tensors end at byte"
                f" {file.tell() + length:,} or later"
            )
        file.seek(length, 1)

    def content(key: str) -> bytes:
        if key not in places:
            raise WeightsError(f"is damaged: the numbers of {key!r} are not in it")
        begin, length = places[key]
        file.seek(begin)
        return file.read(length)

    return tree, _reader(content, little != (sys.byteorder == "little"))


def _reader(content: Callable[[str], bytes], swapped: bool) -> ReadTensor:
    """A function that makes arrays of tensors; ``content`` returns the bytes of a storage."""
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
                raise ValueError("invalid strides")
            if not 0 <= begin <= end <= len(numbers) or tensor.offset < 0:
                raise ValueError("outside its storage")
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
                f"is damaged: {name} of shape {tensor.shape} and strides {tensor.strides} does not"
                f" fit into {len(numbers):,} bytes ({error})"
            ) from error
        return array.byteswap() if swapped else array

    return read


class _Unpickler(pickle.Unpickler):
    """Reads one pickle, from which only tensors, plain values and `Inert` objects are made.

    Attributes:
        storages: the dtype of every storage that tensors refer to.
    """

    def __init__(self, file: IO[bytes]):
        # latin1 decodes any string of Python 2; names are ASCII.
        super().__init__(file, encoding="latin1")
        self.file = file
        self.storages: dict[str, str] = {}
        self.known = _known()

    def load_tree(self) -> Any:
        """The content of the pickle; the file is then at its end."""
        try:
            begin = self.file.tell()
            for code, argument, _ in pickletools.genops(self.file):
                # The machine allocates all places of its memo up to the given one.
                if code.name in ("PUT", "LONG_BINPUT") and (argument or 0) > _MOST_MEMO:
                    raise ValueError(f"a memo of {argument:,} entries")
            self.file.seek(begin)
            return self.load()
        except WeightsError:
            raise
        except Exception as error:
            # A damaged pickle can raise any exception.
            raise WeightsError(
                "is cut short or damaged: its list of tensors cannot be read"
                f" ({type(error).__name__}: {error})"
            ) from error

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if wanted in _UNREADABLE:
            raise WeightsError(f"has {_UNREADABLE[wanted]}, which are not supported")
        if wanted not in self.known:
            raise WeightsError(
                f"refused: it asks for {wanted!r}; only tensors and plain values are read. If it is"
                " a complete pickled model from a source that you trust, load it with PyTorch and"
                " save its state_dict()"
            )
        return self.known[wanted]

    def persistent_load(self, saved: Any) -> Storage:
        """A storage, from ``("storage", dtype, key, device, count, view?)``."""
        if not isinstance(saved, tuple) or len(saved) not in (5, 6) or saved[0] != "storage":
            raise WeightsError(f"is damaged: it refers to {saved!r}")
        _, dtype, key, _, count, *view = saved
        if not (isinstance(dtype, str) and dtype in DTYPES and isinstance(count, int)):
            raise WeightsError(f"is damaged: it refers to {saved!r}")
        self.storages[str(key)] = dtype
        if view and view[0] is not None:
            _, start, length = view[0]
            return Storage(str(key), dtype, int(length), int(start))
        return Storage(str(key), dtype, count)


def _known() -> dict[str, Any]:
    """Everything that a pickle may name.

    It is created for each pickle, since a pickle can set attributes of these objects.
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
