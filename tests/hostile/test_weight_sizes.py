"""Files of weights whose headers claim more than there is, or that unpack to far more."""

import functools
import io
import json
import struct
import zipfile
import zlib

import h5py
import msgpack
import numpy as np
import pytest
from damaging import assert_answered, run
from reading import assert_told, read_in_a_process

from vitjax.weights import WeightsError
from vitjax.weights.formats import files, keras, limits, tensorflow

ZEROS = 2**27 + 2**20  # bytes of a bomb: a little more than the limit


def npy(shape, descr="<f4", data=b""):
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


def npy_header(text):
    text = text.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(path, *records, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression, compresslevel=1) as file:
        for name, content in records:
            file.writestr(name, content)


@functools.cache
def packed_zeros():
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    piece = bytes(2**20)
    return b"".join([*(packer.compress(piece) for _ in range(ZEROS >> 20)), packer.flush()])


def bomb(path, name):
    """An archive whose record ``name`` has `ZEROS` zeros, and is packed to a thousandth."""
    packed = packed_zeros()
    # The header of a record, its list of records, and their end, all of which have its sizes.
    sizes = struct.pack("<LLL", 0, len(packed), ZEROS)
    encoded = name.encode()
    local = struct.pack("<4sHHHHH", b"PK\3\4", 20, 0, 8, 0, 0) + sizes
    local += struct.pack("<HH", len(encoded), 0) + encoded + packed
    listed = struct.pack("<4sHHHHHH", b"PK\1\2", 20, 20, 0, 8, 0, 0) + sizes
    listed += struct.pack("<HHHHHLL", len(encoded), 0, 0, 0, 0, 0, 0) + encoded
    end = struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 1, 1, len(listed), len(local), 0)
    path.write_bytes(local + listed + end)


def safetensors(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def array_of_msgpack(shape, dtype="float32", numbers=b""):
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, numbers), use_bin_type=True))


def packed(path, tree):
    path.write_bytes(msgpack.packb(tree))


def nested_lists(path):
    """A thousand lists in lists, each of which claims a million entries."""
    path.write_bytes(b"\x81\xa1w" + (b"\xdd" + (10**6).to_bytes(4, "big")) * 1000 + bytes(10**6))


def hdf5(path, *arguments, **keywords):
    with h5py.File(path, "w") as file:
        file.create_dataset("fc/kernel:0", *arguments, **keywords)


def linked(path):
    """Two datasets with one name after their prefixes."""
    with h5py.File(path, "w") as file:
        file["model_weights/fc/kernel:0"] = np.zeros(2)
        file["fc/kernel:0"] = np.ones(2)


def in_keras(path):
    hdf5(path.with_suffix(".h5"), (2**27,), "f4")
    archive(path, (keras.WEIGHTS, path.with_suffix(".h5").read_bytes()))


def index(path, content):
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def doubled_records(path):
    archive(path, ("a.npy", npy((), data=bytes(4))), ("b.npy", npy((), data=bytes(4))))
    path.write_bytes(path.read_bytes().replace(b"b.npy", b"a.npy"))


def encrypted(path):
    archive(path, ("a.npy", npy((), data=bytes(4))), compression=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)


def renamed(path, name):
    """A record whose name is not a file's; zipfile itself writes no NUL."""
    archive(path, ("nn.npy", npy((), data=bytes(4))))
    path.write_bytes(path.read_bytes().replace(b"nn", name))


def full(path, number):
    """An archive whose list has many records, without their data."""
    listed = b"".join(
        struct.pack("<4sHHHHHH12xHHHHHLL", b"PK\1\2", *[0] * 6, 9, 0, 0, 0, 0, 0, 0)
        + b"%05d.npy" % place
        for place in range(number)
    )
    end = struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 65_535, 65_535, len(listed), 4, 0)
    path.write_bytes(b"PK\3\4" + listed + end)


def chunked(path, *shapes):
    """Arrays in chunks of one number each, of which none is in the file."""
    with h5py.File(path, "w") as file:
        for number, shape in enumerate(shapes):
            file.create_dataset(f"{number}", shape, "f4", chunks=(1,) * len(shape))


def shard(path, number, arrays):
    files.write(path.with_name(f"{path.stem}-{number}.safetensors"), arrays)
    return f"{path.stem}-{number}.safetensors"


def in_two_shards(path):
    """An index of two files that have one array."""
    one = shard(path, 1, {"a": np.zeros(2), "b": np.zeros(2)})
    other = shard(path, 2, {"a": np.ones(2), "c": np.ones(2)})
    index(path, {"weight_map": {"a": one, "b": one, "c": other}})


def in_another_shard(path):
    """An index that names another file than the one that has the array."""
    one, other = shard(path, 1, {"a": np.zeros(2)}), shard(path, 2, {"b": np.ones(2)})
    index(path, {"weight_map": {"a": other, "b": other, "c": one}})


def torch_bomb(path):
    bomb(path, "archive/data.pkl")


# How a file is written, and words of the refusal; "" if it may be read.
FILES = {
    "a bomb.npz": (lambda p: bomb(p, "w.npy"), "would unpack to 135,266,304"),
    "a bomb.pth": (torch_bomb, "would unpack to 135,266,304"),
    "a bomb.keras": (lambda p: bomb(p, keras.WEIGHTS), "would unpack to 135,266,304"),
    "too many sides.npz": (lambda p: archive(p, ("w.npy", npy((1,) * 70))), "w.npy"),
    "no such shape.npz": (lambda p: archive(p, ("w.npy", npy((2**62, 2**62, 0)))), "no array has"),
    "an overflow.npz": (lambda p: archive(p, ("w.npy", npy((2**63, 2, 0)))), "no array has"),
    "a claim.npz": (lambda p: archive(p, ("w.npy", npy((2**31,)))), "are not of shape"),
    "numbers of nothing.npz": (lambda p: archive(p, ("w.npy", npy((2**62,), "|V0"))), "unpack"),
    "texts of nothing.npz": (lambda p: archive(p, ("w.npy", npy((2**40,), "<U0"))), "unpack"),
    "negative.npz": (lambda p: archive(p, ("w.npy", npy((-1, 2)))), "w.npy"),
    "arrays of arrays.npz": (
        lambda p: archive(
            p, ("w.npy", npy_header("{'descr': ('<f4', (2**9,)), 'fortran_order': 0, 'shape': ()}"))
        ),
        "w.npy cannot be read",
    ),
    "brackets.npz": (lambda p: archive(p, ("w.npy", npy_header("(" * 9000))), "w.npy cannot be"),
    "minus.npz": (lambda p: archive(p, ("w.npy", npy_header("-" * 9000 + "1"))), "w.npy cannot be"),
    "version 3.npz": (lambda p: archive(p, ("w.npy", b"\x93NUMPY\x03\0" + bytes(100))), "version"),
    "LZMA.npz": (lambda p: archive(p, ("w.npy", npy(())), compression=zipfile.ZIP_LZMA), "(LZMA)"),
    "bzip2.pth": (
        lambda p: archive(p, ("archive/data.pkl", b"N."), compression=zipfile.ZIP_BZIP2),
        "(bzip2)",
    ),
    "encrypted.npz": (encrypted, "a.npy needs a password"),
    "doubled.npz": (doubled_records, "several records named a.npy"),
    "a line end.npz": (lambda p: renamed(p, b"n\n"), r"control characters: n\n"),
    "an escape.npz": (lambda p: renamed(p, b"\x1b["), r"control characters: \x1b["),
    "NUL.npz": (lambda p: renamed(p, b"n\0"), "not of weights"),
    "outside.npz": (lambda p: archive(p, ("../../w.npy", npy((), data=bytes(4)))), ""),
    "70,000 records.npz": (
        lambda p: full(p, 70_000),
        "70,000 records",
    ),
    "a claim.safetensors": (
        lambda p: p.write_bytes((2**62).to_bytes(8, "little") + b"{}"),
        "its header has",
    ),
    "a large header.safetensors": (
        lambda p: safetensors(p, b"{" + b" " * 2**24 + b"}"),
        "its header has 16,777,218 bytes",
    ),
    "a full header.safetensors": (
        lambda p: safetensors(
            p,
            b"{%s}"
            % b",".join(
                b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(70_000)
            ),
        ),
        "more than 65,536 arrays",
    ),
    "overlap.safetensors": (
        lambda p: safetensors(
            p,
            {n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "ab"},
            bytes(8),
        ),
        "announces",
    ),
    "no such shape.safetensors": (
        lambda p: safetensors(
            p, {"w": {"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]}}
        ),
        "",
    ),
    "70 sides.safetensors": (
        lambda p: safetensors(
            p, {"w": {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}}, bytes(4)
        ),
        "70 axes",
    ),
    "a line end.safetensors": (
        lambda p: safetensors(
            p, {"w\n": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)
        ),
        r"control characters: w\n",
    ),
    "an unknown dtype.safetensors": (
        lambda p: safetensors(
            p, {"w": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}, bytes(3)
        ),
        "",
    ),
    "deep.safetensors": (lambda p: safetensors(p, b'{"w":' + b"[" * 10**5), "announces"),
    "lists.msgpack": (nested_lists, "begins as a file of Flax"),
    "depth.msgpack": (lambda p: p.write_bytes(b"\x81\xa1w" * 10**5), "begins as a file of Flax"),
    "many sides.msgpack": (
        lambda p: packed(p, {"w": array_of_msgpack((1,) * 100)}),
        "begins as a file of Flax",
    ),
    "no such shape.msgpack": (
        lambda p: packed(p, {"w": array_of_msgpack((2**62, 0))}),
        "begins as a file of Flax",
    ),
    "negative.msgpack": (
        lambda p: packed(p, {"w": array_of_msgpack((-1,), numbers=bytes(4))}),
        "other things",
    ),
    "objects.msgpack": (
        lambda p: packed(p, {"w": array_of_msgpack((1,), "O", bytes(8))}),
        "array of objects",
    ),
    "nothing.msgpack": (lambda p: packed(p, {"w": array_of_msgpack((9,), "V0")}), "Flax"),
    "chunks.msgpack": (
        lambda p: packed(
            p, {"w": {"__msgpack_chunked_array__": True, "shape": {"0": 2**60}, "chunks": {}}}
        ),
        "cannot be joined",
    ),
    "doubled.msgpack": (
        lambda p: p.write_bytes(b"\x82" + 2 * (b"\xa1w" + msgpack.packb(array_of_msgpack((0,))))),
        "several times",
    ),
    "one path twice.msgpack": (
        lambda p: packed(p, {"a/b": array_of_msgpack((0,)), "a": {"b": array_of_msgpack((0,))}}),
        "several arrays named a/b",
    ),
    "a number and its text.msgpack": (
        lambda p: packed(p, {1: array_of_msgpack((0,)), "1": array_of_msgpack((0,))}),
        "",
    ),
    "a list as a key.msgpack": (
        lambda p: p.write_bytes(b"\x82\xa1w\x01\x91\x01\x01"),
        "begins as a file of Flax",
    ),
    "long names.msgpack": (
        lambda p: packed(
            p, {"w": {"n" * 1000: {f"{i}": array_of_msgpack((0,)) for i in range(20_000)}}}
        ),
        "characters",
    ),
    "a claim.h5": (lambda p: hdf5(p, (2**27,), "f4"), "would unpack to 536,870,912"),
    "a fill value.h5": (lambda p: hdf5(p, (2**27,), "f4", fillvalue=1.0), "would unpack"),
    "a bomb.h5": (
        lambda p: hdf5(p, (2**27,), "f4", chunks=(2**20,), compression="gzip", fillvalue=3.0),
        "would unpack",
    ),
    "a chunk.h5": (
        lambda p: hdf5(p, (1,), "f4", chunks=(2**27,), maxshape=(None,)),
        "would unpack",
    ),
    "chunks of one number.h5": (
        lambda p: chunked(p, (2_000, 2_000)),
        "has 4,000,000 chunks, of at most 131,072",
    ),
    "chunks of several arrays.h5": (
        lambda p: chunked(p, *[(100, 500)] * 3),
        "has 150,000 chunks, of at most 131,072",
    ),
    "long numbers.h5": (lambda p: hdf5(p, (2**62,), "f4", chunks=(8,)), "would unpack"),
    "doubled.h5": (linked, "several arrays named fc/kernel"),
    "a claim.keras": (in_keras, "would unpack to 536,870,912"),
    "two shards.json": (in_two_shards, "several arrays named a"),
    "another shard.json": (in_another_shard, "lists a in another shard-2.safetensors, but another"),
    "a large index.json": (
        lambda p: index(p, b'{"weight_map":' + b" " * 2**24 + b"{}}"),
        "the limit is 16,777,216",
    ),
    "a deep index.json": (lambda p: index(p, b'{"weight_map":' + b"[" * 10**5), "no index"),
    "a long number.json": (lambda p: index(p, b'{"weight_map":' + b"9" * 10**5 + b"}"), "no index"),
    "the passwords.json": (
        lambda p: index(p, {"weight_map": {"w": "../../../etc/passwd"}}),
        "not beside it",
    ),
    "an absolute path.json": (
        lambda p: index(p, {"weight_map": {"w": "/etc/passwd"}}),
        "not beside it",
    ),
    "the folder above.json": (lambda p: index(p, {"weight_map": {"w": ".."}}), "missing: .."),
    "itself.json": (lambda p: index(p, {"weight_map": {"w": "itself.json"}}), "an index itself"),
    "an escape.json": (lambda p: index(p, {"weight_map": {"w": "\x1b[31m"}}), "control characters"),
    "NUL.json": (lambda p: index(p, {"weight_map": {"w": "a\0b"}}), "control characters"),
    "5,000 missing.json": (
        lambda p: index(p, {"weight_map": {f"{i}": f"{i}.pth" for i in range(5_000)}}),
        "lists 5,000 files",
    ),
    "a table.index": (
        lambda p: p.write_bytes(bytes(2**24) + tensorflow.MAGIC),
        "the limit is 16,777,216",
    ),
    "zeros.index": (lambda p: p.write_bytes(bytes(2**20) + tensorflow.MAGIC), "without a header"),
    "compressed.index": (
        lambda p: p.write_bytes(
            bytes(4) + b"\1" + bytes(4) + b"\0\0\0\4".ljust(40, b"\0") + tensorflow.MAGIC
        ),
        "its blocks are compressed",
    ),
}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    paths = {name: folder / name for name in FILES}
    for name, path in paths.items():
        FILES[name][0](path)
    found = read_in_a_process(paths.values())
    return dict(zip(paths, zip(found, paths.values(), strict=True), strict=True))


@pytest.mark.parametrize("name", FILES)
def test_a_size_that_is_only_claimed_buys_nothing(name, read):
    found, path = read[name]
    words = FILES[name][1]
    assert "TRACEBACK" not in found.message
    if words:
        assert_told(found, path, words)
    else:
        assert_told(found._replace(message=found.message or str(path)), path)


def test_the_command_line_answers_in_one_line(tmp_path):
    path = tmp_path / "a bomb.npz"
    bomb(path, "w.npy")
    ended = run("-m", "vitjax", "import", path, f"--output={tmp_path / 'out.npz'}")
    assert_answered(ended, path, "would unpack to")
    assert not (tmp_path / "out.npz").exists()


def test_zeros_that_pack_well_are_read_once_the_limit_is_off(tmp_path, monkeypatch):
    """As a pruned network, most of whose numbers are zeros."""
    monkeypatch.setattr(limits, "_MOST_BYTES", 2**16)
    path = tmp_path / "pruned.npz"
    np.savez_compressed(path, w=np.zeros(2**17, np.float32))
    with pytest.raises(WeightsError, match=r"would unpack to .* \(VITJAX_MODEL_LIMITS=off"):
        files.read(path)
    monkeypatch.setenv("VITJAX_MODEL_LIMITS", "off")
    assert files.read(path)["w"].shape == (2**17,)


@pytest.mark.parametrize(
    ("limit", "write"),
    [
        ("_MOST_ARRAYS", lambda path: np.savez(path, a=np.zeros(1), b=np.zeros(1), c=np.zeros(1))),
        ("_MOST_CHARACTERS", lambda path: np.savez(path, abc=np.zeros(1))),
        ("_MOST_CHUNKS", lambda path: chunked(path, (2, 3))),
        ("_MOST_PARSED", lambda path: files.write(path, {"a": np.zeros(1)}, "safetensors")),
        ("_MOST_STEPS", lambda path: files.write(path, {"a": np.zeros(1)}, "pth")),
    ],
)
def test_every_limit_of_what_a_sound_file_may_have_can_be_removed(
    limit, write, tmp_path, monkeypatch
):
    path = tmp_path / "w.npz"
    write(path)
    monkeypatch.setattr(limits, limit, 2)
    monkeypatch.setattr(limits, "_BYTES_PER_STEP", 10**6)
    with pytest.raises(WeightsError, match=r"refused: .* \(VITJAX_MODEL_LIMITS=off"):
        files.read(path)
    monkeypatch.setenv("VITJAX_MODEL_LIMITS", "off")
    assert files.read(path)
