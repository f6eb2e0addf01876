"""Files of TensorFlow, Keras and Flax, one of several files, and what is only recognised.

The checkpoint of TensorFlow is written by scripts/parity/make_tensorflow_fixture.py.
"""

from __future__ import annotations

import json
import shutil
import zipfile

import flax.serialization
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import FIXTURES

from vitjax import models, weights
from vitjax.weights import WeightsError
from vitjax.weights.formats import files, keras, tensorflow
from vitjax.weights.formats.limits import Budget

DATA = "tf_maml.data-00000-of-00001"


@pytest.fixture(scope="module")
def values():
    with np.load(FIXTURES / "tf_maml.values.npz") as file:
        return dict(file)


# ------------------------------------------------------------------------------------ TensorFlow


@pytest.mark.parametrize("name", ["tf_maml", "tf_maml.index", DATA])
def test_a_checkpoint_of_tensorflow_is_read_by_any_of_its_names(name, values):
    found = files.read(FIXTURES / name)
    assert set(found) == set(values)
    for key, array in values.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array, err_msg=key)


def test_maml_s_checkpoint_is_a_conv4(values):
    opened = weights.open_weights(FIXTURES / "tf_maml", say=pytest.fail)
    assert opened.format == "maml"
    module = weights.module_of(opened, say=str)
    assert (type(module), module.filters, module.num_classes) == (models.Conv4, 4, 5)
    params = weights.fit(opened, module, say=pytest.fail)["params"]
    np.testing.assert_array_equal(params["conv3"]["kernel"], values["model/conv3"])
    np.testing.assert_array_equal(params["conv2"]["bias"], values["model/Variable_1"])
    np.testing.assert_array_equal(params["head"]["bias"], values["model/Variable_4"])
    assert opened.sha256 == weights.open_weights(FIXTURES / DATA, say=str).sha256


def test_missing_or_short_numbers_of_a_checkpoint_are_told(tmp_path):
    shutil.copy(FIXTURES / "tf_maml.index", tmp_path)
    with pytest.raises(WeightsError, match=f"its numbers are missing: {DATA}"):
        files.read(tmp_path / "tf_maml")
    (tmp_path / DATA).write_bytes((FIXTURES / DATA).read_bytes()[:-100])
    with pytest.raises(WeightsError, match=rf"is incomplete: {DATA} has [\d,]+ bytes, but model/"):
        files.read(tmp_path / "tf_maml")
    with pytest.raises(WeightsError, match=r"has checkpoints of TensorFlow; give one .*/tf_maml$"):
        files.read(tmp_path)


@settings(max_examples=60)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
def test_damage_of_a_table_is_refused_or_harmless(tmp_path_factory, place, value, cut):
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copy(FIXTURES / DATA, folder)
    table = bytearray((FIXTURES / "tf_maml.index").read_bytes())
    table[place % len(table)] = value
    if cut:
        del table[: place % len(table)]
    (folder / "tf_maml.index").write_bytes(table)
    try:
        found = tensorflow.read(folder / "tf_maml.index", Budget(1000))
    except WeightsError:
        return
    assert sum(array.nbytes for array in found.values()) <= 2 * (FIXTURES / DATA).stat().st_size


def varint(number):
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def block(entries, shares=lambda i: 0):
    """A block of keys (without the bytes that each shares with the one before it) and values."""
    found = b"".join(
        varint(shares(i)) + varint(len(key)) + varint(len(value)) + key + value
        for i, (key, value) in enumerate(entries)
    )
    return found + (0).to_bytes(4, "little")


def write_table(path, blocks):
    """A table of blocks; a number is one more reference to the block of that place."""
    content, handles = b"", []
    for each in blocks:
        if isinstance(each, int):
            handles.append(handles[each])
            continue
        handles.append(varint(len(content)) + varint(len(each)))
        content += each + bytes(5)
    index = block([(b"k", handle) for handle in handles])
    place = varint(len(content)) + varint(len(index))
    footer = (varint(0) + varint(0) + place).ljust(40, b"\0") + tensorflow.MAGIC
    path.write_bytes(content + index + bytes(5) + footer)


def entry(shape, size, offset=0):
    """An entry of float32 of a table, as a message of protocol buffers."""
    dims = b"".join(
        b"\x12" + varint(len(varint(side)) + 1) + b"\x08" + varint(side) for side in shape
    )
    shaped = b"\x12" + varint(len(dims)) + dims
    return b"\x08\x01" + shaped + b"\x20" + varint(offset) + b"\x28" + varint(size)


def checkpoint(folder, entries, numbers=b"", **keywords):
    write_table(folder / "m.index", [block([(b"", b"\x08\x01"), *entries], **keywords)])
    (folder / "m.data-00000-of-00001").write_bytes(numbers)
    return folder / "m"


def test_a_table_as_the_tests_write_it_is_read(tmp_path):
    numbers = np.arange(8, dtype="<f4").tobytes()
    entries = [(b"a", entry((2, 3), 24)), (b"b", entry((2,), 8, 24)), (b"c", entry((0, 3), 0))]
    found = files.read(checkpoint(tmp_path, entries, numbers))
    np.testing.assert_array_equal(found["a"], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(found["b"], [6, 7])
    assert found["c"].shape == (0, 3)


@pytest.mark.parametrize(
    "shape", [(2**62, 0), (2**69, 0), (0, *[1] * 69), (0, *[2**60] * 20)], ids=str
)
def test_a_shape_that_no_array_has_is_damage(shape, tmp_path):
    with pytest.raises(WeightsError, match="is damaged: a has "):
        files.read(checkpoint(tmp_path, [(b"a", entry(shape, 0))]))


def test_arrays_that_share_their_bytes_are_refused(tmp_path):
    """Entries of a few bytes each would fill the memory."""
    numbers = np.zeros(1000, "<f4").tobytes()
    entries = [(f"{i:03d}".encode(), entry((1000,), 4000)) for i in range(200)]
    with pytest.raises(
        WeightsError, match=r"several arrays have the same bytes of m\.data-.*: 001"
    ):
        files.read(checkpoint(tmp_path, entries, numbers))


def test_names_that_are_far_longer_than_their_table_are_refused(tmp_path):
    entries = [(b"a" * 4000, b""), *[(b"b", b"")] * 2000]
    with pytest.raises(WeightsError, match="its names are far longer than it is"):
        files.read(checkpoint(tmp_path, entries, shares=lambda i: 0 if i < 2 else 4000 + i - 2))


def test_blocks_that_are_read_many_times_are_refused(tmp_path):
    write_table(tmp_path / "m.index", [block([(b"", b"\x08\x01")] * 100), *[0] * 200])
    with pytest.raises(WeightsError, match="its blocks overlap"):
        files.read(tmp_path / "m")


def test_a_saved_model_is_read_from_its_variables(tmp_path, values):
    (tmp_path / "variables").mkdir()
    for suffix in ("index", "data-00000-of-00001"):
        shutil.copy(FIXTURES / f"tf_maml.{suffix}", tmp_path / "variables" / f"variables.{suffix}")
    assert set(files.read(tmp_path)) == set(values)


# ------------------------------------------------------------------------------------ Flax, Keras


def test_a_file_of_flax_is_read(tmp_path):
    module = models.ViT(width=8, depth=1, num_heads=2, patch_size=4, num_classes=3, gelu="tanh")
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("f"), shapes)
    path = weights.save(variables, module, tmp_path / "file.npz", "npz", say=str)
    tree: dict = {}
    for name, array in files.read(path).items():
        *folders, leaf = name.split("/")
        inner = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[leaf] = array
    packed = tmp_path / "model.msgpack"
    packed.write_bytes(flax.serialization.to_bytes({"params": tree, "step": 3}))
    found = weights.load(packed, module, say=str)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    packed.write_bytes(packed.read_bytes()[:-40])
    with pytest.raises(WeightsError, match=r"cut short or damaged: it begins as a file of Flax"):
        files.read(packed)


def test_an_array_in_parts_of_flax_is_joined(tmp_path, monkeypatch):
    """Flax divides arrays of more than a gigabyte."""
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 16)
    array = np.arange(30, dtype=np.float32).reshape(5, 6)
    content = flax.serialization.to_bytes({"params": {"w": array}, "z": 1j, "n": np.float32(2)})
    assert content.count(b"chunks") == 1
    (tmp_path / "w.msgpack").write_bytes(content)
    found = files.read(tmp_path / "w.msgpack")
    assert list(found) == ["params/w"]
    np.testing.assert_array_equal(found["params/w"], array, strict=True)


@pytest.mark.parametrize("form", ["keras 2", "keras 3", "archive"])
def test_arrays_of_keras_have_the_names_of_their_layers(form, tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "weights.h5"
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    name = "model_weights/fc/fc/kernel:0" if form == "keras 2" else "layers/dense/vars/0"
    with h5py.File(path, "w") as file:
        file[name] = kernel
        file["optimizer/vars/0"] = kernel
        file["names"] = "text"
    if form == "archive":
        archive = tmp_path / "model.keras"
        with zipfile.ZipFile(archive, "w") as packed:
            packed.write(path, keras.WEIGHTS)
            packed.writestr("config.json", "{}")
        path = archive
    if form != "keras 2":
        with pytest.raises(WeightsError, match=r"(?s)no names of layers.*\.save\(\"model\.h5\"\)"):
            files.read(path)
        return
    found = files.read(path)
    assert list(found) == ["fc/kernel"]
    np.testing.assert_array_equal(found["fc/kernel"], kernel)


def test_a_resnet_of_keras_computes_what_keras_does(tmp_path):
    """With biases, another epsilon, and strides in the first convolution of a block."""
    with np.load(FIXTURES / "resnet_keras.npz") as file:
        stored = dict(file)
    arrays = {name[8:]: array for name, array in stored.items() if name.startswith("weights/")}
    files.write(tmp_path / "resnet.npz", arrays)
    said = []
    with jax.enable_x64(True):
        opened = weights.open_weights(tmp_path / "resnet.npz", say=said.append)
        module = weights.module_of(opened, dtype="float64", param_dtype="float64")
        variables = weights.fit(opened, module)
        found = jax.jit(module.apply)(variables, stored["images"].astype(np.float64))
    assert (opened.format, module.strided, module.stage_sizes) == ("keras", "1x1", (2, 1))
    np.testing.assert_allclose(found, stored["logits"], atol=1e-4)
    assert "in the order blue, green, red" in said[0]
    with pytest.raises(WeightsError, match="torchvision supports only strided='3x3'"):
        weights.save(variables, module, tmp_path / "resnet.pth", "torchvision")


def test_a_file_of_keras_that_would_fill_the_memory_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.create_dataset("fc/kernel:0", (2**20, 2**14), "f4", chunks=(64, 64))
    with pytest.raises(WeightsError, match=r"refused: its [\d,]+ bytes would unpack to 68,719,476"):
        files.read(tmp_path / "weights.h5")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["external", "virtual", "virtual of itself"])
def test_numbers_in_other_files_are_not_read(form, packed, tmp_path):
    """A file could name any file of the person who reads it."""
    h5py = pytest.importorskip("h5py")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(64)))
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["fc/bias:0"] = np.ones(3, np.float32)
        if form == "external":
            file.create_dataset("fc/kernel:0", (64,), "u1", external=[(str(secret), 0, 64)])
        else:
            with h5py.File(tmp_path / "other.h5", "w") as other:
                other["x"] = np.ones(3, np.float32)
            layout = h5py.VirtualLayout((3,), "f4")
            source = (tmp_path / "other.h5", "x") if form == "virtual" else (".", "fc/bias:0")
            layout[:] = h5py.VirtualSource(*source, shape=(3,))
            file.create_virtual_dataset("fc/kernel:0", layout)
        file["linked"] = h5py.ExternalLink(tmp_path / "other.h5", "x")
    if packed:
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.write(path, keras.WEIGHTS)
        path = tmp_path / "model.keras"
    with pytest.raises(
        WeightsError, match="refused: the numbers of fc/kernel:0 are in other files"
    ):
        files.read(path)


def test_links_of_keras_to_other_files_are_not_followed(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones(3, np.float32)
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["fc/bias:0"] = np.ones(3, np.float32)
        file["linked"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
    assert set(files.read(tmp_path / "weights.h5")) == {"fc/bias"}


def test_odd_datasets_of_keras_are_read_or_refused_in_words(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file[":0"] = np.ones(2, np.float32)
        file["big/kernel:0"] = np.arange(3, dtype=">f4")
        file["empty/kernel:0"] = h5py.Empty("f4")
        file["none/kernel:0"] = np.zeros((0, 4), np.float32)
    found = files.read(path)
    assert set(found) == {"", "big/kernel", "none/kernel"}
    assert found["big/kernel"].dtype == np.float32
    assert found["big/kernel"].dtype.isnative
    np.testing.assert_array_equal(found["big/kernel"], [0, 1, 2])
    with h5py.File(path, "a") as file:
        file.create_dataset("huge/kernel:0", (2**40, 2**40), "f4", chunks=(8, 8))
    with pytest.raises(WeightsError, match=r"refused: its .* bytes would unpack to"):
        files.read(path)


def test_groups_in_groups_without_end_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        group = file
        for _ in range(400):
            group = group.create_group("a")
        group["kernel:0"] = np.ones(2, np.float32)
    with pytest.raises(WeightsError, match="refused: it has groups in groups, more than 64 deep"):
        files.read(tmp_path / "weights.h5")


def test_a_damaged_file_of_keras_is_told(tmp_path):
    pytest.importorskip("h5py")
    (tmp_path / "weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(30))
    with pytest.raises(WeightsError, match="cut short or damaged: h5py cannot read it"):
        files.read(tmp_path / "weights.h5")


# ----------------------------------------------------------------------------- one of several files


@pytest.mark.parametrize("stem", ["model", "pytorch_model"])
def test_one_of_several_files_stands_for_all(stem, tmp_path):
    arrays = {f"layer{i}.weight": np.full((2, 2), i, np.float32) for i in range(3)}
    places = {}
    for i, (name, array) in enumerate(arrays.items(), start=1):
        shard = f"{stem}-{i:05d}-of-00003.safetensors"
        files.write(tmp_path / shard, {name: array})
        places[name] = shard
    with pytest.raises(WeightsError, match=rf"is part 2 of 3 .* {stem}\.safetensors\.index\.json"):
        files.read(tmp_path / places["layer1.weight"])
    index = tmp_path / f"{stem}.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    found = files.read(tmp_path / places["layer1.weight"])
    assert set(found) == set(arrays)
    (tmp_path / places["layer2.weight"]).unlink()
    with pytest.raises(WeightsError, match=r"lists 3 files; missing: .*-00003-of-00003"):
        files.read(tmp_path / places["layer1.weight"])


def test_the_only_part_of_a_model_is_read(tmp_path):
    path = tmp_path / "model-00001-of-00001.safetensors"
    files.write(path, {"a": np.ones(2, np.float32)})
    assert set(files.read(path)) == {"a"}


@pytest.mark.parametrize("name", ["fold-1-of-5", "step-000100-of-000900", "seed-01-of-10"])
def test_a_file_with_numbers_in_its_name_is_one_of_its_own(name, tmp_path):
    path = tmp_path / f"{name}.safetensors"
    files.write(path, {"a": np.ones(2, np.float32)})
    assert set(files.read(path)) == {"a"}


# --------------------------------------------------------------------------- recognised, not read


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (b"\x08\x0a\x12\x07pytorch", r"an ONNX graph; .*onnx\.load"),
        (b"\x08\x0b:\x8a\x01\n\x03", r"an ONNX graph; .*onnx\.load"),
        (b"\x1c\0\0\0TFL3\0\0", "a TFLite file"),
    ],
)
def test_a_compiled_graph_is_told_with_the_way_out(begin, words, tmp_path):
    (tmp_path / "model.bin").write_bytes(begin + bytes(100))
    with pytest.raises(WeightsError, match=f"(?s){words}"):
        files.read(tmp_path / "model.bin")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ((".metadata", "__0_0.distcp"), r"distributed checkpoint of PyTorch.*dcp_to_torch \S+ "),
        (("_METADATA", "manifest.ocdbt"), r"checkpoint of Orbax.*StandardCheckpointer"),
        (("_CHECKPOINT_METADATA", "d"), r"checkpoint of Orbax.*flatten_dict"),
        (("checkpoints",), "is the folder of a run; vitjax export"),
    ],
)
def test_a_folder_of_another_tool_is_told_with_the_way_out(content, words, tmp_path):
    for name in content:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(WeightsError, match=f"(?s){words}"):
        files.read(tmp_path)
