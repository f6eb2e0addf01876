"""Files of weights: what is read back, what is refused, and in which words."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import resource
import tarfile
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import files, limits

FORMATS = tuple(files.SUFFIXES)
DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")
ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b/kernel": np.float64([0.1, np.nan, -np.inf]),
    "c.d": np.arange(4).astype(ml_dtypes.bfloat16),
}


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


def refused(path: Path, *words: str, part: str | None = None) -> str:
    """The message with which ``path`` is refused; it names the path, and all ``words``."""
    with pytest.raises(WeightsError) as caught:
        files.read(path, part=part)
    message = str(caught.value)
    for word in (str(path), *words):
        assert word in message
    return message


# ------------------------------------------------------------------------------------ both ways


@st.composite
def many_arrays(draw):
    # What a terminal does not show as it is cannot be a name.
    letters = st.characters(exclude_categories=("C", "Zl", "Zp"))
    names = draw(st.lists(st.text(letters, min_size=1, max_size=12), max_size=5, unique=True))
    arrays = {}
    for name in ["w", *names]:  # "w" keeps prefixes from being all names'
        shape = draw(st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
        bits = draw(st_numpy.arrays(np.uint8, (*shape, 8)))
        dtype = np.dtype(getattr(ml_dtypes, draw(st.sampled_from(DTYPES)), None) or "float32")
        numbers = bits % 2 if dtype.kind == "b" else bits
        array = numbers.reshape(-1).view(dtype)[: int(np.prod(shape))].reshape(shape)
        arrays[name] = array.T if draw(st.booleans()) else array
    return arrays


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_is_read_to_the_bit(format, tmp_path_factory):
    path = tmp_path_factory.mktemp("both ways") / f"weights.{format}"

    @settings(max_examples=40)
    @given(many_arrays())
    def whatever(arrays):
        files.write(path, arrays)
        assert_same(files.read(path), arrays)

    whatever()


@pytest.mark.parametrize("format", FORMATS)
def test_every_dtype_is_kept(format, tmp_path):
    arrays = {name: np.array([0, 1, 1]).astype(getattr(ml_dtypes, name, name)) for name in DTYPES}
    files.write(tmp_path / "w", arrays, format)
    assert_same(files.read(tmp_path / "w"), arrays)


@pytest.mark.parametrize("format", FORMATS)
def test_big_endian_arrays_keep_their_numbers(format, tmp_path):
    files.write(tmp_path / "w", {"w": np.array([1, 2.5], ">f4")}, format)
    np.testing.assert_array_equal(files.read(tmp_path / "w")["w"], np.float32([1, 2.5]))


@pytest.mark.parametrize("format", FORMATS)
def test_metadata_are_kept_beside_the_arrays(format, tmp_path):
    path = tmp_path / "w"
    files.write(path, ARRAYS, format, metadata={"model": "vit", "ä": "\n"})
    assert files.metadata(path) == {"model": "vit", "ä": "\n"}
    assert_same(files.read(path), ARRAYS)
    files.write(path, ARRAYS, format)
    assert files.metadata(path) == {}


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_arrays_give_the_same_file(format, tmp_path):
    for name in ("first", "second"):
        files.write(tmp_path / name, ARRAYS, format)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_the_content_says_the_format_not_the_name(tmp_path):
    for format in FORMATS:
        for suffix in FORMATS:
            files.write(tmp_path / f"w.{suffix}", ARRAYS, format)
            assert_same(files.read(tmp_path / f"w.{suffix}"), ARRAYS)


def test_others_read_what_is_written(tmp_path):
    files.write(tmp_path / "w.npz", {"a/b": ARRAYS["a"]})
    with np.load(tmp_path / "w.npz") as archive:
        assert_same(archive, {"a/b": ARRAYS["a"]})
    files.write(tmp_path / "w.safetensors", {"a": ARRAYS["a"].T})
    assert_same(safetensors.numpy.load_file(tmp_path / "w.safetensors"), {"a": ARRAYS["a"].T})


def test_compressed_npz_and_bfloat16_in_npz_are_read(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", **ARRAYS)  # NumPy calls bfloat16 "|V2"
    assert_same(files.read(tmp_path / "w.npz"), ARRAYS)


def test_an_unknown_suffix_or_format_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"w\.npy: unknown suffix '\.npy'; did you"):
        files.write(tmp_path / "w.npy", ARRAYS)
    with pytest.raises(WeightsError, match="unknown format 'safetensor'; did you mean 'safet"):
        files.write(tmp_path / "w", ARRAYS, "safetensor")
    assert list(tmp_path.iterdir()) == []


def test_a_dtype_that_a_format_lacks_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"w\.pth: x is of dtype uint32"):
        files.write(tmp_path / "w.pth", {"x": np.zeros(2, np.uint32)})
    with pytest.raises(WeightsError, match=r"w\.safetensors: cannot be written.*complex128"):
        files.write(tmp_path / "w.safetensors", {"x": np.zeros(2, np.complex128)})
    with pytest.raises(WeightsError, match=r"w\.npz: x is of dtype object"):
        files.write(tmp_path / "w.npz", {"x": np.array([{}])})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(format, tmp_path):
    path = tmp_path / f"w.{format}"
    files.write(path, ARRAYS)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal, so that writing fails as on a disk that is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(WeightsError, match=r"w\.\w+: cannot be written: .*[Ff]ile too large"):
            files.write(path, {"w": np.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    assert_same(files.read(path), ARRAYS)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_is_readable_by_whom_the_umask_lets(format, tmp_path):
    old = os.umask(0o027)
    try:
        files.write(tmp_path / "deeper" / "w", ARRAYS, format)
    finally:
        os.umask(old)
    assert (tmp_path / "deeper" / "w").stat().st_mode & 0o777 == 0o640


# ----------------------------------------------------------------------------- damaged and not


@pytest.mark.parametrize("format", FORMATS)
def test_no_file_that_is_cut_short_is_read(format, tmp_path):
    path = tmp_path / "w"
    files.write(path, ARRAYS, format)
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 23), *range(len(whole) - 30, len(whole))}:
        path.write_bytes(whole[:length])
        refused(path)


@pytest.mark.parametrize("format", FORMATS)
def test_damage_is_refused_or_harmless_and_never_a_traceback(format, tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "w"
    files.write(path, ARRAYS, format)
    whole = path.read_bytes()

    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1))
    def whatever(changes):
        content = bytearray(whole)
        for place, byte in changes:
            content[place] = byte
        path.write_bytes(content)
        with contextlib.suppress(WeightsError):
            files.read(path)

    whatever()


def test_a_damaged_number_in_an_archive_is_noticed(tmp_path):
    for format in ("npz", "pth"):
        path = tmp_path / "w"
        files.write(path, {"w": np.full(100, 1.5)}, format)
        content = path.read_bytes()
        place = content.index(np.float64(1.5).tobytes() * 50)
        path.write_bytes(content[: place + 8] + b"\1" + content[place + 9 :])
        refused(path, "is damaged", "CRC")


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html><body>Log in</body></html>", "a web page"),
        (b"<html>Sign in</html>", "requires a login"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n",
            "git lfs pull",
        ),
        (gzip.compress(b"x", mtime=0), "gzip"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 20, "HDF5"),
        (b"\x93NUMPY\x01\0", "a single array"),
        (tar(), "tar archive"),
        (b"\x80\x04\x95\0\0", "a pickle of something other"),
        (b"just some text of no use", "b'just some text o'"),
        (b"{}", "no index of weights"),
        (b'{"weight_map": {"a": "../secret.npz"}}', "not beside it"),
        (b'{"weight_map": {"a": ["x"]}}', "no index of weights"),
        (b"\x10\0\0\0\0\0\0\0{not json}", "cut short or damaged"),
    ],
)
def test_what_is_no_file_of_weights_is_told_in_words(content, words, tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    refused(path, words)


def test_an_archive_of_something_else_tells_what_is_in_it(tmp_path):
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "x")
    refused(path, "not of weights", "readme.txt")


def test_pickled_objects_in_npz_are_refused(tmp_path):
    np.savez(tmp_path / "w.npz", fine=np.zeros(2), bad=np.array([{"a": 1}]))
    refused(tmp_path / "w.npz", "refused: bad.npy has pickled objects")


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "w.npz"
    np.savez_compressed(path, w=np.zeros(2**20, np.uint8))
    assert not files.read(path)["w"].any()  # small enough, however much it grows
    monkeypatch.setattr(limits, "_MOST_BYTES", 2**20)
    refused(path, "would unpack to 1,048,704")
    np.savez(path, w=np.zeros(2**20, np.uint8))
    assert not files.read(path)["w"].any()  # as large, and on the disk too


def test_an_array_larger_than_its_record_is_damaged(tmp_path):
    path = tmp_path / "w.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2**50,)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", header.getvalue() + bytes(100))
    refused(path, "is damaged: w.npy")


def test_a_missing_file_names_its_near_match(tmp_path):
    files.write(tmp_path / "vit_small.npz", ARRAYS)
    refused(tmp_path / "vit_smal.npz", "no such file; did you mean 'vit_small.npz'?")
    refused(tmp_path / "nowhere" / "w.npz", f"nor a folder {tmp_path / 'nowhere'}")


def test_a_file_without_arrays_is_refused(tmp_path):
    files.write(tmp_path / "w.safetensors", {})
    refused(tmp_path / "w.safetensors", "no arrays are in it")


# ------------------------------------------------------------------ folders, several files, names


def test_a_folder_stands_for_the_file_in_it(tmp_path):
    refused(tmp_path, "is a folder", "it contains nothing")
    files.write(tmp_path / "tf_model.npz", ARRAYS)
    refused(tmp_path, "is a folder", "pytorch_model.bin", "it contains tf_model.npz")
    files.write(tmp_path / "pytorch_model.bin", {"old": ARRAYS["a"]})
    assert set(files.read(tmp_path)) == {"old"}
    files.write(tmp_path / "model.safetensors", ARRAYS)
    assert_same(files.read(tmp_path), ARRAYS)


def sharded(folder: Path, format: str) -> Path:
    places = {}
    for number, (name, array) in enumerate(ARRAYS.items()):
        shard = f"model-{number}.{format}"
        files.write(folder / shard, {name: array})
        places[name] = shard
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("format", FORMATS)
def test_an_index_stands_for_all_its_files(format, tmp_path):
    index = sharded(tmp_path, format)
    assert_same(files.read(index), ARRAYS)
    assert_same(files.read(tmp_path), ARRAYS)


def test_all_that_an_index_lists_and_is_not_there_is_named(tmp_path):
    index = sharded(tmp_path, "npz")
    (tmp_path / "model-0.npz").unlink()
    (tmp_path / "model-2.npz").unlink()
    refused(index, "lists 3 files", "model-0.npz, model-2.npz")
    files.write(tmp_path / "model-0.npz", {"other": ARRAYS["a"]})
    files.write(tmp_path / "model-2.npz", {"c.d": ARRAYS["c.d"]})
    refused(index, "do not have: a")
    (tmp_path / "model-0.npz").write_text(index.read_text())
    refused(index, "lists model-0.npz, which is an index itself")


@pytest.mark.parametrize("format", FORMATS)
def test_prefixes_that_wrappers_leave_are_removed_where_all_names_have_them(format, tmp_path):
    path = tmp_path / "w"
    for prefixes in ("module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."):
        files.write(path, {f"{prefixes}{name}": array for name, array in ARRAYS.items()}, format)
        assert_same(files.read(path), ARRAYS)
    mixed = {"module.a": ARRAYS["a"], "b": ARRAYS["a"]}
    files.write(path, mixed, format)
    assert_same(files.read(path), mixed)


@pytest.mark.parametrize("format", ["npz", "safetensors"])
def test_a_part_is_what_its_name_begins(format, tmp_path):
    path = tmp_path / "w"
    arrays = {"params/a": ARRAYS["a"], "params/b/c": ARRAYS["a"], "opt/a": ARRAYS["c.d"]}
    files.write(path, arrays, format)
    assert_same(files.read(path, part="params"), {"a": ARRAYS["a"], "b/c": ARRAYS["a"]})
    message = refused(path, "no part 'param'; did you mean 'params'? (parts: ", part="param")
    assert "opt" in message
