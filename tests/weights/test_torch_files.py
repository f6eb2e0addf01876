"""PyTorch's files, as PyTorch 2.13 wrote them and as someone who means harm would."""

from __future__ import annotations

import builtins
import codecs
import collections
import contextlib
import copyreg
import functools
import importlib
import io
import operator
import os
import pickle
import re
import struct
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import files, limits, pickles, pytorch
from vitjax.weights.formats import pickled as pickled_values
from vitjax.weights.formats.limits import Budget

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def expected():
    with np.load(FIXTURES / "torch_expected.npz") as archive:
        arrays = dict(archive)
    arrays["bfloat16"] = arrays["bfloat16"].astype(ml_dtypes.bfloat16)
    return arrays


@pytest.fixture(params=["zip", "old"])
def which(request):
    return request.param


def refused(path: Path, *words: str, part: str | None = None) -> None:
    with pytest.raises(WeightsError) as caught:
        files.read(path, part=part)
    for word in (str(path), *words):
        assert word in str(caught.value)


# ---------------------------------------------------------------------------- what PyTorch wrote


def test_every_kind_of_tensor_is_read(which, expected):
    found = files.read(FIXTURES / f"torch_{which}.pth")
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name, strict=True)
        assert not found[name].flags.writeable or not array.size
    assert np.shares_memory(found["shared.whole"], found["shared.end"])


def test_a_training_scripts_file_gives_the_weights(which):
    found = files.read(FIXTURES / f"torch_{which}_training.pth")
    steps = {"zip": 1, "old": 2}[which]  # of Adam, whose first ones are of 0.001 each
    assert set(found) == {"weight", "bias"}
    weight, bias = (np.arange(1, 5).reshape(2, 2), np.arange(5, 7))
    np.testing.assert_allclose(found["weight"], weight - 0.001 * steps, atol=1e-5)
    np.testing.assert_allclose(found["bias"], bias - 0.001 * steps, atol=1e-5)


def test_new_dtypes_are_read():
    found = files.read(FIXTURES / "torch_typed.pth")
    np.testing.assert_array_equal(found["uint16"], np.uint16([1, 65535]), strict=True)
    assert found["float8"].dtype == ml_dtypes.float8_e4m3fn
    np.testing.assert_array_equal(found["float8"].astype(np.float32), [0.5, -448])


def test_of_several_sets_of_weights_one_must_be_named():
    path = FIXTURES / "torch_parts.pth"
    refused(path, "several sets of weights: student, teacher", "--part", "part='student'")
    refused(path, "no part 'teachers'; did you mean 'teacher'?", part="teachers")
    student, teacher = (files.read(path, part=part) for part in ("student", "teacher"))
    assert set(student) == {"weight", "bias"}
    np.testing.assert_array_equal(student["weight"], 2 * teacher["weight"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sparse.pth", "has sparse tensors"),
        ("quantised.pth", "has quantised tensors"),
        ("script.pt", "is a program (TorchScript)"),
        ("module.pth", "asks for 'torch.nn.modules.linear.Linear'"),
    ],
)
def test_what_is_no_state_dict_of_plain_tensors_is_refused_in_words(name, words):
    refused(FIXTURES / f"torch_{name}", words)


def test_the_file_of_the_cifar_resnet_is_read(test_data):
    path = test_data / "weights" / "cifar10_resnet20.th"
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = files.read(path)
    assert found["conv1.weight"].shape == (16, 3, 3, 3)
    trained = [a for name, a in found.items() if not re.search("running|num_batches", name)]
    # 0.27M in 1512.03385, table 6.
    assert sum(array.size for array in trained) == 269_722
    assert all(np.isfinite(array).all() for array in found.values())
    assert found["bn1.running_var"].min() > 0


# ------------------------------------------------------------------------------ what is written


def test_the_file_is_the_one_that_pytorch_was_seen_to_read(expected, tmp_path):
    """`written.pth` was read by ``torch.load``; see scripts/parity/make_torch_files.py."""
    files.write(tmp_path / "w.pth", expected, metadata={"writer": "vitjax"})
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as found,
        zipfile.ZipFile(FIXTURES / "written.pth") as seen,
    ):
        assert found.namelist() == seen.namelist()
        for name in seen.namelist():
            assert found.read(name) == seen.read(name), name
        assert found.comment == seen.comment
        for record in found.infolist():
            assert record.compress_type == zipfile.ZIP_STORED
            name_length, extra_length = struct.unpack_from(
                "<HH", (tmp_path / "w.pth").read_bytes(), record.header_offset + 26
            )
            assert (record.header_offset + 30 + name_length + extra_length) % 64 == 0


@pytest.mark.parametrize("protocol", range(1, 6))
def test_an_old_file_of_any_protocol_is_read(protocol, tmp_path, monkeypatch):
    """``torch.save(..., pickle_protocol=, _use_new_zipfile_serialization=False)``."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    exec("def _rebuild_tensor_v2(*arguments): pass", vars(utils))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    storage = torch.FloatStorage()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "7", "cpu", 6) if value is storage else None

    class Stored:
        def __reduce__(self):
            rest = ((2, 3), (3, 1), False, collections.OrderedDict())
            return utils._rebuild_tensor_v2, (storage, 0, *rest)

    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    content = {"epoch": 3, "best": True, "w": Stored()}
    with open(tmp_path / "w.pth", "wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, system, content, ["7"]):
            Pickler(file, protocol).dump(value)
        file.write((6).to_bytes(8, "little") + NUMBERS.tobytes())
    assert files.read(tmp_path / "w.pth")["w"].tolist() == NUMBERS.reshape(2, 3).tolist()


# --------------------------------------------------------------------------- those who mean harm


class Call:
    """Pickled, a call of a function, which itself may be what another call gives."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call

    def __call__(self):
        raise AssertionError("called, not pickled")


def as_zip(path: Path, pickled: bytes, order: bytes = b"little", data: dict | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", order)
        for key, content in (data or {}).items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def as_old(path: Path, pickled: bytes, keys: bytes = pickle.dumps([], 2)) -> Path:
    system = {"protocol_version": 1001, "little_endian": True}
    head = pytorch.MAGICS[2] + pickle.dumps(1001, 2) + pickle.dumps(system, 2)
    path.write_bytes(head + pickled + keys)
    return path


def attacks(marker: Path) -> dict[str, object]:
    """What pickles ask for, as a pattern, and objects that ask for it to make ``marker``."""
    shell, code = f"touch {marker}", f"open({str(marker)!r}, 'w').close()"
    mapped = Call(map, os.system, [shell])
    return {
        f"{os.name}.system": Call(os.system, shell),
        "builtins.eval": Call(eval, code),
        "builtins.exec": {"state_dict": Call(exec, code)},
        "builtins.getattr": Call(Call(getattr, os, "system"), shell),
        "importlib.import_module": Call(importlib.import_module, "this"),
        "(builtins.map|itertools.imap)": [collections.OrderedDict(a=({"b": mapped},))],
        "(subprocess|commands).Popen": Call(subprocess.Popen, ["touch", marker]),
        "functools.partial": Call(functools.partial, os.system, shell),
        "operator.attrgetter": Call(operator.attrgetter, "system"),
        "numpy.load": Call(np.load, str(marker), "r", True),
        "codecs.open": Call(codecs.open, str(marker), "w"),
    }


@pytest.fixture
def modules_as_pickles(monkeypatch):
    """Lets modules be pickled, as someone could who writes a pickle by hand."""
    copyreg.pickle(type(os), lambda module: (importlib.import_module, (module.__name__,)))
    yield
    copyreg.dispatch_table.pop(type(os))


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("attack", list(attacks(Path("x"))))
@pytest.mark.parametrize("pack", [as_zip, as_old])
def test_nothing_that_a_pickle_asks_for_is_called(
    pack, attack, protocol, tmp_path, modules_as_pickles
):
    marker = tmp_path / "marker"
    pickled = pickle.dumps(attacks(marker)[attack], protocol)
    path = pack(tmp_path / "w.pth", pickled)
    with pytest.raises(WeightsError, match=rf"w\.pth: refused: it asks for '{attack}'"):
        files.read(path)
    assert not marker.exists()
    if attack in ("builtins.eval", f"{os.name}.system"):
        pickle.loads(pickled)  # the attack is a real one
        assert marker.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"(S'touch {}'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch {}'\no.",  # OBJ
        b"cos\nsystem\n(S'touch {}'\ntR.",  # GLOBAL and REDUCE
        b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"\x80\x04\x8c\x05torch\x8c\x0aos.system\x93\x8c\x04true\x85R.",  # through a module known
        b"\x80\x04\x8c\x0bcollections\x8c\x17OrderedDict.__class__\x93.",  # through a class known
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        b"\x80\x02Q(cos\nsystem\nt.",  # as the name of a storage
    ],
)
@pytest.mark.parametrize("pack", [as_zip, as_old])
def test_no_way_to_name_a_function_leads_to_it(pack, pickled, tmp_path):
    marker = tmp_path / "marker"
    path = pack(tmp_path / "w.pth", pickled.replace(b"{}", str(marker).encode()))
    with pytest.raises(WeightsError, match=r"refused|damaged"):
        files.read(path)
    assert not marker.exists()


def test_a_pickle_sets_no_attribute_of_what_it_names():
    name = b"ctorch._utils\n_rebuild_tensor_v2\n"
    state = pickle.dumps((None, {"__defaults__": (1,), "evil": 1, "call": 1}), 2)[2:-1]
    pickled = b"\x80\x02" + name + state + b"b."
    tree, _ = pickles.load(io.BytesIO(pickled), len(pickled), Budget(1000))
    assert isinstance(tree, pickled_values.Function)
    assert not hasattr(tree, "evil")
    assert tree.call is pickled_values._rebuild


def test_inert_objects_are_of_no_real_class(which):
    path = FIXTURES / f"torch_{which}_training.pth"
    with pytorch.opened(path, Budget(path.stat().st_size)) as (tree, _):
        arguments = tree["args"]
    assert isinstance(arguments, pickled_values.Inert)
    assert arguments.kind == "argparse.Namespace"
    assert not hasattr(arguments, "__dict__")


def test_nothing_of_the_pickle_machine_reaches_builtins():
    known = pickled_values._KNOWN.values()
    own = {id(value) for value in vars(builtins).values()}
    functions = [value for value in known if not isinstance(value, str)]
    assert all(isinstance(function, pickled_values.Function) for function in functions)
    calls = [function.call for function in functions if function.call is not None]
    assert not own & set(map(id, calls))
    modules = {call.__module__ for call in calls}
    assert modules == {pickled_values.__name__}


# ---------------------------------------------------------------------- those that are not whole


def test_no_file_that_is_cut_short_is_read(which, tmp_path):
    whole = (FIXTURES / f"torch_{which}.pth").read_bytes()
    path = tmp_path / "w.pth"
    for length in range(0, len(whole), 29):
        path.write_bytes(whole[:length])
        refused(path)
    path.write_bytes(whole[:-1])
    refused(path, "cut short")


def test_damage_is_refused_or_harmless_and_never_a_traceback(which, tmp_path_factory):
    whole = (FIXTURES / f"torch_{which}.pth").read_bytes()
    path = tmp_path_factory.mktemp("damage") / "w.pth"

    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1))
    def whatever(changes):
        content = bytearray(whole)
        for place, byte in changes:
            content[place] = byte
        path.write_bytes(content)
        with contextlib.suppress(WeightsError):
            files.read(path)

    whatever()


def tensor(
    key="0", count=6, offset=0, size=(2, 3), strides=(3, 1), storage="FloatStorage"
) -> bytes:
    """A pickle of ``{"w": tensor}``."""

    def plain(value):
        return pickle.dumps(value, 2)[2:-1]

    reference = b"(" + plain("storage") + f"ctorch\n{storage}\n".encode()
    reference += plain(key) + plain("cpu") + plain(count) + b"tQ"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference
    rebuilt += plain(offset) + plain(size) + plain(strides) + plain(False) + b"}tR"
    return b"\x80\x02}" + plain("w") + rebuilt + b"s."


NUMBERS = np.arange(6, dtype="<f4")


def test_a_file_of_a_big_endian_machine_is_read(tmp_path):
    data = {"0": NUMBERS.astype(">f4").tobytes()}
    path = as_zip(tmp_path / "w.pth", tensor(), order=b"big", data=data)
    np.testing.assert_array_equal(files.read(path)["w"], NUMBERS.reshape(2, 3), strict=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (2, 4)},
        {"offset": 1},
        {"offset": -1},
        {"count": 7},
        {"count": 5},
        {"strides": (3, -1)},
        {"strides": (2**61, 1)},
        {"strides": (1,)},
        {"size": (2**40, 2**40), "strides": (0, 0)},
        {"key": "1"},
        {"key": "../data.pkl"},
        {"storage": "DoubleStorage"},
    ],
)
def test_a_tensor_outside_its_numbers_is_refused(wrong, tmp_path):
    path = as_zip(tmp_path / "w.pth", tensor(), data={"0": NUMBERS.tobytes()})
    np.testing.assert_array_equal(files.read(path)["w"], NUMBERS.reshape(2, 3), strict=True)
    path = as_zip(tmp_path / "w.pth", tensor(**wrong), data={"0": NUMBERS.tobytes()})
    with pytest.raises(WeightsError, match=r"w\.pth: (is damaged|is incomplete|refused)"):
        files.read(path)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({}, "only an empty dict"),
        ([1, 2], "only a list"),
        ({"epoch": 3, "name": "x"}, "only 'epoch' (int), 'name' (str)"),
        ({"a": np.zeros(3)}, "'a' (numpy"),
    ],
)
def test_a_file_without_tensors_tells_what_it_holds(tree, words, tmp_path):
    refused(as_zip(tmp_path / "w.pth", pickle.dumps(tree, 2)), "no tensors are in it", words)


def test_arrays_of_numpy_among_tensors_are_named_not_lost(tmp_path):
    array = pickle.dumps(np.zeros(3), 2)[2:-1]
    mixed = tensor()[:-2] + b"s" + pickle.dumps("mean", 2)[2:-1] + array + b"s."
    path = as_zip(tmp_path / "w.pth", mixed, data={"0": NUMBERS.tobytes()})
    refused(path, "mean is a pickled NumPy array")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_trainings_store_beside_tensors_is_left_out(protocol, tmp_path):
    """Sets, keys of any type, arrays, states of generators, in every protocol of pickles."""
    beside = {
        "set": {1, "a"},
        "frozen": frozenset((1, 2)),
        "bytes": [b"xyz", bytearray(b"ab")],
        "numbers": [2**200, -1, 1.5, 1 + 2j, True, None],
        "counter": collections.Counter("abca"),
        "lists": collections.defaultdict(list, {1: [2], (1, ("a", 2)): [3]}),
        "ordered": collections.OrderedDict(a=1, b=[(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]),
        1.5: "a float",
        ("a", 1): "a tuple",
        "scalar": np.float64(0.5),
    }
    for more in ({}, {"array": [np.arange(3)]}):
        pickled = pickle.dumps({**beside, **more}, protocol)[:-1] + tensor()[3:]
        path = as_zip(tmp_path / "w.pth", pickled, data={"0": NUMBERS.tobytes()})
        if more:
            refused(path, "array.0 is a pickled NumPy array")
        else:
            assert set(files.read(path)) == {"w"}


def nested(depth: int, width: int) -> bytes:
    """A pickle of a few bytes: a dict in a dict ..., or each in the next ``width`` times."""
    content = tensor()[2:-1] + b"q\x00"
    for _ in range(depth):
        again = b"".join(b"X\x01\x00\x00\x00" + bytes([97 + i]) + b"h\x00" for i in range(width))
        content += b"}(" + again + b"uq\x00"
    return b"\x80\x02" + content + b"."


@pytest.mark.parametrize(
    "pickled",
    [
        nested(5000, 1),
        b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",  # a dict in itself
        b"\x80\x02}r\xff\xff\xff\xff.",  # remembered as the four billionth thing
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes without end
    ],
)
def test_a_pickle_that_would_go_on_forever_is_refused(pickled, tmp_path):
    path = as_zip(tmp_path / "w.pth", pickled, data={"0": NUMBERS.tobytes()})
    with pytest.raises(WeightsError, match=r"refused|damaged|no tensors"):
        files.read(path)


def test_a_dict_in_many_others_is_found_once(tmp_path):
    path = as_zip(tmp_path / "w.pth", nested(60, 2), data={"0": NUMBERS.tobytes()})
    assert set(files.read(path)) == {"w"}


def test_lists_in_lists_that_double_at_each_level_are_given_up(tmp_path, monkeypatch):
    tree = []
    for _ in range(40):
        tree = [tree, tree]
    monkeypatch.setattr(limits, "_MOST_STEPS", 1000)
    lists = b"X\x01\x00\x00\x00l" + pickle.dumps(tree, 2)[2:-1] + b"s."
    path = as_zip(tmp_path / "w.pth", tensor()[:-1] + lists, data={"0": NUMBERS.tobytes()})
    refused(path, "more than 1,000 steps", "VITJAX_MODEL_LIMITS=off")


def test_a_dict_whose_attributes_hide_its_methods_is_read_all_the_same(tmp_path):
    hidden = pickle.dumps({"items": 1, "get": 1, "values": 1}, 2)[2:-1]
    made = b"\x80\x02ccollections\nOrderedDict\n)R" + hidden + b"b"
    pickled = made + pickle.dumps("epoch", 2)[2:-1] + b"K\x03s."
    assert pickle.loads(pickled) == {"epoch": 3}
    refused(as_zip(tmp_path / "w.pth", pickled), "no tensors are in it, only 'epoch' (int)")


def test_what_wrappers_put_before_all_names_is_removed_or_named(tmp_path):
    arrays = {"model.a": np.zeros(2, np.float32), "model.b": np.ones(2, np.float32)}
    files.write(tmp_path / "lightning.pth", arrays)
    assert set(files.read(tmp_path / "lightning.pth")) == {"a", "b"}
    two = {"net.a": arrays["model.a"], "other.a": arrays["model.b"]}
    for name in ("two.pth", "two.safetensors"):
        files.write(tmp_path / name, two)
        assert files.read(tmp_path / name, part="other")["a"].tolist() == [1, 1]
        refused(tmp_path / name, "has no part 'othr'; did you mean 'other'?", part="othr")
