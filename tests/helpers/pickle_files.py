"""Pickles of tensors, put together from the operations of pickles."""

import pickle
import zipfile

import numpy as np

from vitjax.weights.formats import pytorch

NUMBERS = np.arange(6, dtype="<f4")


def plain(value):
    """The operations that put a value on the stack."""
    return pickle.dumps(value, 2)[2:-1]


def text(word):
    return b"X" + len(word.encode()).to_bytes(4, "little") + word.encode()


def tensor(key="0", count=6, offset=0, size=(2, 3), strides=(3, 1), storage="FloatStorage"):
    reference = b"(" + plain("storage") + f"ctorch\n{storage}\n".encode()
    reference += plain(key) + plain("cpu") + plain(count) + b"tQ"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference
    return rebuilt + plain(offset) + plain(size) + plain(strides) + plain(False) + b"}tR"


def entry(key, value):
    """Operations that add an entry to the dict on the stack."""
    return key + value + b"s"


def pickled(*entries, tensors=None):
    """A pickle of a dict with a tensor, and more."""
    return b"\x80\x02}" + entry(text("w"), tensors or tensor()) + b"".join(entries) + b"."


def doubled(levels, start=b")"):
    """A tuple of two times the same tuple, of two times ..."""
    return start + (b"2\x86") * levels


def doubled_lists(levels):
    """A list of two times the same list, of two times ..."""
    return b"]" + (b"q\x010](h\x01h\x01e") * levels


def doubled_dicts(levels):
    return b"}" + (b"q\x010}(" + text("a") + b"h\x01" + text("b") + b"h\x01u") * levels


def long_names(levels, leaves):
    """Dicts in dicts under long names, with many tensors in the innermost."""
    inner = b"}(" + b"".join(text(f"{i}") + b"h\x00" for i in range(leaves)) + b"u"
    # Each dict is put into the one around it, from the inside.
    for _ in range(levels):
        inner = b"}" + text("n" * 1000) + inner + b"s"
    return inner


def copies(function, argument, times):
    """A list of many calls of a function with one and the same argument."""
    call = f"c{function}\n".encode() + b"h\x05\x85R"
    return argument + b"q\x050](" + call * times + b"e"


def colliding(number):
    """A dict of integers that have one hash."""
    keys = (plain(k * (2**61 - 1)) for k in range(1, number))
    return b"}(" + b"".join(key + b"N" for key in keys) + b"u"


def as_zip(path, content, order=b"little"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", order)
        archive.writestr("archive/data/0", NUMBERS.tobytes())


def as_old(path, content):
    system = {"protocol_version": 1001, "little_endian": True}
    head = pytorch.MAGICS[2] + pickle.dumps(1001, 2) + pickle.dumps(system, 2)
    numbers = (6).to_bytes(8, "little") + NUMBERS.tobytes()
    path.write_bytes(head + content + pickle.dumps(["0"], 2) + numbers)
