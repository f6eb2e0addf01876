"""Pickles, read without executing any code in them.

A pickle is a program for a stack machine that can call any function of Python. The machine here
makes plain values and tensors, calls the functions of `pickled` alone, and refuses a pickle that
asks for any other.

The standard library's machine is not used: a few bytes of pickle make it compute hashes of tuples
in tuples without end, copy one list a million times, or allocate whatever is claimed.

Errors do not name the file: `files` adds its name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import IO, Any

from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import damage, limits
from vitjax.weights.formats.limits import Budget
from vitjax.weights.formats.pickled import (
    DTYPES,
    Count,
    Function,
    Inert,
    Storage,
    filled,
    named,
)

# Steps that a call of a function counts as.
_CALL = 4
# Bits of an integer; those of generators of random numbers have 128.
_MOST_BITS = 512
# Bytes of a line of the oldest protocol.
_LONGEST_LINE = 2**20
# Operations whose argument is the value.
_VALUES = (
    *("BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE"),
    *("BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)


def load(file: IO[bytes], size: int, budget: Budget) -> tuple[Any, dict[str, str]]:
    """The content of the pickle that begins at the position of ``file``.

    Args:
        file: is at the end of the pickle afterwards.
        size: of the file in bytes.
        budget: of all steps that may be taken for the file.

    Returns:
        A tree of dicts, lists, tuples, plain values, `Tensor`s and `Inert` objects, in which one
        value can be in many places; and the dtype of every storage that tensors refer to.

    Raises:
        WeightsError: the pickle is damaged, takes too many steps, or asks for anything else.
    """
    machine = _Machine(budget.steps)
    with damage.blamed("is cut short or damaged: its list of tensors cannot be read"):
        steps = machine.steps
        for code, argument, _ in pickletools.genops(_Bounded(file, size)):  # type: ignore[arg-type]
            machine.count(1)
            step = steps.get(code.name)
            if step is None:
                raise ValueError(f"the operation {code.name} is of no state dict")
            step(argument)
        tree = machine.stack[-1]
    return tree, machine.storages


class _Bounded:
    """A file that allocates no more for a read than it has bytes.

    It has no ``tell``, which pickletools would call at each step.
    """

    def __init__(self, file: IO[bytes], size: int):
        self.file = file
        self.size = size

    def read(self, count: int) -> bytes:
        if count > 2**16:
            count = min(count, self.size - self.file.tell())
        return self.file.read(count)

    def readline(self) -> bytes:
        return self.file.readline(_LONGEST_LINE)


class _Machine:
    """The machine of one pickle.

    A step is constant work, whatever values it has: each value is looked at once, where it is made.

    Attributes:
        stack: of values.
        marks: places in the stack.
        memo: values that the pickle refers to by number.
        storages: the dtype of every storage that tensors refer to.
        steps: what each operation of a pickle does; it is given the operation's argument.
    """

    def __init__(self, count: Count) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, str] = {}
        self.count = count
        push = self.stack.append
        self.steps: dict[str, Callable[[Any], Any]] = {
            **dict.fromkeys(_VALUES, push),
            **dict.fromkeys(("INT", "LONG", "LONG1", "LONG4"), lambda n: push(_integer(n))),
            **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda _: None),
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._put),
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda n: push(self.memo[n])),
            "MEMOIZE": lambda _: self._put(len(self.memo)),
            "NONE": lambda _: push(None),
            "NEWTRUE": lambda _: push(True),
            "NEWFALSE": lambda _: push(False),
            "EMPTY_DICT": lambda _: push({}),
            "EMPTY_LIST": lambda _: push([]),
            "EMPTY_TUPLE": lambda _: push(()),
            "EMPTY_SET": lambda _: push(Inert("set")),
            "MARK": lambda _: self.marks.append(len(self.stack)),
            "POP": lambda _: self._pop(),
            "POP_MARK": lambda _: self._marked(),
            "DUP": lambda _: push(self.stack[-1]),
            "TUPLE1": lambda _: push((self.stack.pop(),)),
            "TUPLE2": lambda _: push(self._last(2)),
            "TUPLE3": lambda _: push(self._last(3)),
            "TUPLE": lambda _: push(tuple(self._marked())),
            "LIST": lambda _: push(self._marked()),
            "DICT": lambda _: push(filled({}, self._marked())),
            "FROZENSET": lambda _: (self._marked(), push(Inert("frozenset"))),
            "APPEND": lambda _: self._append([self.stack.pop()]),
            "APPENDS": lambda _: self._append(self._marked()),
            "ADDITEMS": lambda _: self._marked(),
            "SETITEM": lambda _: self._set(self._last(2)),
            "SETITEMS": lambda _: self._set(self._marked()),
            "GLOBAL": lambda names: push(named(*names.split(" ", 1))),
            "STACK_GLOBAL": lambda _: push(named(*self._last(2))),
            "REDUCE": lambda _: push(self._called(*self._last(2))),
            "NEWOBJ": lambda _: push(self._called(*self._last(2))),
            "NEWOBJ_EX": lambda _: push(self._called(*self._last(3)[:2])),
            "INST": self._made,
            "OBJ": lambda _: self._made(None),
            # The state of an object: attributes, which nothing here has.
            "BUILD": lambda _: self._last(1),
            "PERSID": lambda name: push(self._storage(name)),
            "BINPERSID": lambda _: push(self._storage(self.stack.pop())),
        }

    def _put(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def _pop(self) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def _last(self, number: int) -> tuple[Any, ...]:
        """Takes the given number of values from the stack."""
        if len(self.stack) < number:
            raise ValueError("it takes more from its stack than there is")
        found = tuple(self.stack[-number:])
        del self.stack[-number:]
        return found

    def _marked(self) -> list[Any]:
        """Takes the values after the last mark from the stack."""
        place = self.marks.pop()
        found = self.stack[place:]
        del self.stack[place:]
        return found

    def _append(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("it appends to something other than a list")
        self.stack[-1].extend(values)

    def _set(self, items: list[Any] | tuple[Any, ...]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise ValueError("it sets an entry of something other than a dict")
        filled(self.stack[-1], items)

    def _made(self, names: str | None) -> None:
        values = self._marked()
        function = values.pop(0) if names is None else named(*names.split(" ", 1))
        self.stack.append(self._called(function, tuple(values)))

    def _called(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise ValueError("it calls something other than a function")
        self.count(_CALL)
        return function(self.count, arguments)

    def _storage(self, saved: Any) -> Storage:
        """A storage, from ``("storage", dtype, key, device, count, view?)``."""
        if not isinstance(saved, tuple) or len(saved) not in (5, 6) or saved[0] != "storage":
            raise WeightsError("is damaged: it refers to something other than a storage")
        _, dtype, key, _, count, *view = saved
        start, length = 0, count
        if view and isinstance(view[0], tuple) and len(view[0]) == 3:
            _, start, length = view[0]
        elif view and view[0] is not None:
            raise WeightsError("is damaged: it refers to an unknown part of a storage")
        if not (isinstance(dtype, str) and dtype in DTYPES and isinstance(key, str | int)):
            raise WeightsError("is damaged: it refers to a storage of an unknown dtype or name")
        if not all(isinstance(number, int) for number in (count, start, length)):
            raise WeightsError("is damaged: it refers to a storage whose size is no integer")
        key = str(key)
        if key not in self.storages:
            limits.check_name(key)
        self.storages[key] = dtype
        return Storage(key, dtype, length, start)


def _integer(number: int) -> int | Inert:
    """``number``, or an object without a value for one that takes long to compute with."""
    return number if number.bit_length() <= _MOST_BITS else Inert("huge integer")
