"""What pickles of tensors are made of: plain values, `Tensor`s, and the functions that they name.

The functions are harmless ones in place of PyTorch's and Python's; `pickles` calls no others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import limits

# The hash of a larger integer is that of another one; any number of them can have the same.
_LARGEST_KEY = 2**60
# PyTorch's functions take up to eight.
_MOST_ARGUMENTS = 16
# Counts entries that a function copies.
Count = Callable[[int], None]

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
    """Replaces an object that is no tensor; stores nothing but the name of its kind."""

    __slots__ = ("kind",)

    def __init__(self, kind: str):
        self.kind = kind

    @property
    def is_array(self) -> bool:
        """Whether it was an array of NumPy."""
        return self.kind.endswith((".multiarray._reconstruct", ".numeric._frombuffer"))


class Function:
    """What a pickle may name and call.

    Attributes:
        name: with its module.
        call: makes the value that the function returns. Its first argument receives the number of
            entries that it copies. None for an `Inert` object, whatever the arguments are.
    """

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[..., Any] | None):
        self.name = name
        self.call = call

    def __call__(self, count: Count, arguments: Any) -> Any:
        """The value that the function returns for ``arguments``.

        Raises:
            ValueError: it is given something else than a few arguments; a call copies them.
        """
        if self.call is None:
            return Inert(self.name)
        if not isinstance(arguments, tuple) or len(arguments) > _MOST_ARGUMENTS:
            raise ValueError(f"it calls {self.name} without a tuple of few arguments")
        return self.call(count, *arguments)


def filled(target: dict[Any, Any], items: list[Any] | tuple[Any, ...]) -> dict[Any, Any]:
    """``target`` with alternating keys and values."""
    if len(items) % 2:
        raise ValueError("it has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_key(key)] = value
    return target


def _key(key: Any) -> Any:
    """``key``, or an object equal to no other for a key that is no part of a name.

    A tuple in a tuple, many times over, takes forever to compare or to hash.
    """
    if isinstance(key, str) and len(key) <= limits.LONGEST_NAME:
        return key
    if isinstance(key, str):
        return Inert(f"key of {len(key):,} characters")
    if key is None or (isinstance(key, int) and abs(key) < _LARGEST_KEY):
        return key
    return Inert(key.kind if isinstance(key, Inert) else f"key of type {type(key).__name__}")


def named(module: Any, name: Any) -> Any:
    """The function or value that a pickle names."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("it names a function by something other than texts")
    wanted = f"{module}.{name}".replace("__builtin__.", "builtins.")
    if wanted in _UNREADABLE:
        raise WeightsError(f"has {_UNREADABLE[wanted]}, which are not supported")
    if wanted not in _KNOWN:
        raise WeightsError(
            f"refused: it asks for {wanted[:200]!r}; only tensors and plain values are read. If it"
            " is a complete pickled model from a source that you trust, load it with PyTorch and"
            " save its state_dict()"
        )
    return _KNOWN[wanted]


def _rebuild(count: Count, storage: Any, offset: Any, size: Any, strides: Any, *__: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    return _tensor(count, storage.dtype, storage, offset, size, strides)


def _rebuild_typed(count: Count, *arguments: Any) -> Tensor:
    storage, offset, size, strides, *_others = arguments
    return _tensor(count, arguments[6], storage, offset, size, strides)


def _tensor(count: Count, dtype: Any, storage: Any, offset: Any, size: Any, strides: Any) -> Tensor:
    if not (isinstance(storage, Storage) and isinstance(dtype, str) and dtype in DTYPES):
        raise ValueError("a tensor without a storage or of an unknown dtype")
    for sides in (size, strides):
        if not isinstance(sides, list | tuple) or len(sides) > limits.MOST_AXES:
            raise ValueError(f"a tensor with more than {limits.MOST_AXES} axes")
        count(len(sides))
    if any(type(number) is not int for number in (offset, *size, *strides)):
        raise ValueError("a tensor whose place is no integer")
    return Tensor(storage, offset, tuple(size), tuple(strides), dtype)


def _rebuild_as_type(count: Count, function: Any, _: Any, arguments: Any, __: Any) -> Tensor:
    """A tensor of a subclass."""
    if not isinstance(function, Function) or function.name not in _REBUILDERS:
        raise ValueError("a tensor that is made by an unknown function")
    return function(count, arguments)


def _same(_: Count, value: Any, *__: Any) -> Any:
    return value


def _dict(count: Count, content: Any = (), *_: Any) -> dict[Any, Any]:
    """A dict of another one or of pairs."""
    count(len(content))
    if isinstance(content, dict):
        return dict(content)
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in content):
        raise ValueError("a dict of something other than pairs")
    return filled({}, [value for pair in content for value in pair])


def _empty_dict(_: Count, *__: Any) -> dict[Any, Any]:
    return {}


def _list(count: Count, content: Any = (), *_: Any) -> list[Any]:
    count(len(content))
    return list(content)


def _tuple(count: Count, content: Any = (), *_: Any) -> tuple[Any, ...]:
    count(len(content))
    return tuple(content)


_REBUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_tensor_v3": _rebuild_typed,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **_REBUILDERS,
    "torch._utils._rebuild_parameter": _same,
    "torch._utils._rebuild_parameter_with_state": _same,
    "torch._tensor._rebuild_from_type_v2": _rebuild_as_type,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _empty_dict,
    "collections.Counter": _empty_dict,
    "builtins.dict": _dict,
    "builtins.list": _list,
    "torch.Size": _tuple,
}
# Stored in checkpoints beside the weights; read as empty objects.
_INERT = (
    *("argparse.Namespace", "types.SimpleNamespace", "numpy.dtype", "numpy.ndarray"),
    *(f"pathlib.{kind}Path" for kind in ("", "Posix", "PurePosix", "PureWindows", "Windows")),
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    *("torch.device", "torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"),
    *("builtins.set", "builtins.frozenset", "builtins.complex", "builtins.bytearray"),
    "_codecs.encode",
)
_UNREADABLE = {
    "torch._utils._rebuild_sparse_tensor": "sparse tensors",
    "torch._utils._rebuild_qtensor": "quantised tensors",
    "torch._utils._rebuild_nested_tensor": "nested tensors",
    "torch._utils._rebuild_meta_tensor_no_storage": "tensors without numbers (device 'meta')",
    "torch._utils._rebuild_wrapper_subclass": "tensors of a class of their own",
}
# Everything that a pickle may name. No operation changes any of it.
_KNOWN: dict[str, Any] = {
    **{name: Function(name, call) for name, call in _FUNCTIONS.items()},
    **{name: Function(name, None) for name in _INERT},
    "torch.storage.UntypedStorage": "uint8",
    "torch.UntypedStorage": "uint8",
    **{f"torch.{storage}": dtype for storage, dtype in STORAGES.items()},
    **{f"torch.{dtype}": dtype for dtype in DTYPES},
}
