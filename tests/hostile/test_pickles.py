"""Pickles of a few bytes that would take forever, fill the memory or end the process."""

import pickle
import time
import zipfile

import numpy as np
import pytest
from reading import assert_told, read_in_a_process

from vitjax.core.errors import UserError
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import files, limits, pickles, pytorch
from vitjax.weights.formats import pickled as pickled_values

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


# The state dict is read, whatever is beside it.
READ = {
    "tuples in tuples as a key": pickled(entry(doubled(60), b"N")),
    "a key 100,000 tuples deep": pickled(entry(b")" + b"\x85" * 100_000, b"N")),
    "a frozen set of tuples in tuples": pickled(
        entry(text("x"), b"(" + doubled(60) + b"\x91"), entry(b"(" + doubled(60) + b"\x91", b"N")
    ),
    "a set of tuples in tuples": pickled(entry(text("x"), b"\x8f(" + doubled(60) + b"\x90")),
    "a set by its name": pickled(
        entry(text("x"), b"c__builtin__\nset\n](" + doubled(60) + b"e\x85R")
    ),
    "an ordered dict of tuples in tuples": pickled(
        entry(text("x"), b"ccollections\nOrderedDict\n](" + doubled(60) + b"N\x86e\x85R")
    ),
    "integers of one hash": pickled(entry(text("optimizer"), colliding(20_000))),
    "a list as a key": pickled(entry(b"]", b"N"), entry(b"}", b"N")),
    "a tensor as a key": pickled(entry(tensor(), b"N")),
    "arguments of what is not read": pickled(
        entry(
            text("x"),
            b"("
            + b"N" * 100_000
            + b"tq\x050]("
            + b"ctypes\nSimpleNamespace\nh\x05R" * 50_000
            + b"e",
        ),
    ),
    "long arguments of objects": pickled(
        entry(
            text("x"),
            b"("
            + b"N" * 100_000
            + b"tq\x050]("
            + b"ctypes\nSimpleNamespace\nh\x05\x81" * 50_000
            + b"e",
        ),
    ),
    "huge negative integers as keys": pickled(
        entry(text("x"), plain(-(1 << 80_000_000)) + b"q\x050}(" + b"h\x05N" * 100_000 + b"u")
    ),
    "one storage of an odd name": pickled(
        entry(
            text("x"),
            b"("
            + plain("storage")
            + b"ctorch\nFloatStorage\n"
            + text("\u3000" * 1000)
            + plain("cpu")
            + plain(6)
            + b"tq\x050]("
            + b"h\x05Q" * 100_000
            + b"e",
        )
    ),
    "keys that are no names": b"\x80\x02}"
    + entry(text("model"), b"}" + entry(text("w"), tensor()))
    + entry(text("log"), b"}" + entry(text("k" * 2000), plain(1)) + entry(text("a\nb"), b"}" * 1))
    + entry(text("a\nb"), b"}" + entry(text("c"), b"}"))
    + b".",
    "dicts under an odd key": b"\x80\x02}"
    + entry(text("model"), b"}" + entry(text("w"), tensor()))
    + entry(text("\u3000" * 1000), b"}(" + b"".join(plain(i) + b"}" for i in range(100_000)) + b"u")
    + b".",
    "a memo of four billion": pickled(entry(text("x"), b")r\xff\xff\xff\xff")),
    "texts by the million": pickled(
        entry(text("x"), copies("_codecs\nencode", text("x" * 2**20), 10_000))
    ),
    "a broadcast of a few numbers": pickled(tensors=tensor(size=(1000, 1000), strides=(0, 0))),
}
# Refused, with these words.
REFUSED = {
    "a value 100,000 tuples deep": (
        pickled(entry(text("x"), b")" + b"\x85" * 100_000)),
        "a name in it has",
    ),
    "lists that double": (pickled(entry(text("x"), doubled_lists(60))), "characters"),
    "dicts that double": (pickled(entry(text("x"), doubled_dicts(60))), "characters"),
    "tuples that double": (pickled(entry(text("x"), doubled(60))), "characters"),
    "dicts without end": (
        pickled(
            entry(
                text("x"),
                b"}" * 1 + b"".join(text("a") + b"}" for _ in range(100_000)) + b"s" * 100_000,
            )
        ),
        "without end",
    ),
    "a list copied a million times": (
        pickled(
            entry(
                text("x"),
                copies("__builtin__\nlist", b"](" + b"N" * 100_000 + b"e", 100_000),
            )
        ),
        "steps",
    ),
    "a dict copied a million times": (
        pickled(
            entry(
                text("x"),
                copies(
                    "__builtin__\ndict",
                    b"}(" + b"".join(plain(i) + b"N" for i in range(60_000)) + b"u",
                    100_000,
                ),
            )
        ),
        "steps",
    ),
    "long names of many tensors": (
        b"\x80\x02"
        + tensor()
        + b"q\x000}"
        + entry(text("x"), tensor())
        + entry(text("y"), long_names(2, 100))
        + b".",
        "a name in it has",
    ),
    "many long names": (
        b"\x80\x02"
        + tensor()
        + b"q\x000}"
        + entry(text("x"), tensor())
        + entry(
            text("n" * 1000), b"}(" + b"".join(plain(i) + b"h\x00" for i in range(70_000)) + b"u"
        )
        + b".",
        "characters",
    ),
    "a reference to tuples in tuples": (pickled(entry(text("x"), doubled(60) + b"Q")), "refers to"),
    "a storage of a huge name": (pickled(tensors=tensor(key="k" * 10_000_000)), "a name in it has"),
    "an integer of a million digits": (
        pickled(entry(text("x"), b"L" + b"9" * 10**6 + b"L\n")),
        "damaged",
    ),
    "a side of a million digits": (
        pickled(tensors=tensor(size=(1 << 8_000_000, 1), strides=(1, 1))),
        "whose place is no integer",
    ),
    "a storage of a million digits": (
        pickled(tensors=tensor(count=1 << 8_000_000)),
        "whose size is no integer",
    ),
    "arguments by the million": (
        pickled(
            entry(
                text("x"),
                copies("__builtin__\nlist", b"(" + b"N" * 100_000 + b"tq\x060h\x06", 1)
                + b"0c__builtin__\ndict\nh\x06R",
            )
        ),
        "without a tuple of few arguments",
    ),
    "one name twice": (
        pickled(entry(text("a.b"), tensor()), entry(text("a"), b"}" + entry(text("b"), tensor()))),
        "several arrays named a.b",
    ),
    "a number and its text": (
        pickled(entry(plain(1), tensor()), entry(text("1"), tensor())),
        "several arrays named 1",
    ),
    "a long key of a tensor": (
        pickled(entry(text("k" * 2000), tensor())),
        "under a key of 2,000 characters in its state dict; names are numbers, or texts of at most",
    ),
    "a state dict under an odd key": (
        b"\x80\x02}" + entry(text("a\nb"), b"}" + entry(text("w"), tensor())) + b".",
        r"control characters: a\nb",
    ),
    "100,000 sides": (
        pickled(tensors=tensor(size=(1,) * 10**5, strides=(1,) * 10**5)),
        "more than 64 axes",
    ),
    "a shape of texts": (pickled(tensors=tensor(size=("2", "3"))), "damaged"),
    "a shape that is a number": (pickled(tensors=tensor(size=6)), "damaged"),
    "bytes without end": (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "damaged"),
    "a text without end": (b"\x80\x04\x8d\xff\xff\xff\xff\xff\x00\x00\x00.", "damaged"),
    "a line without end": (b"I" + b"1" * 2**21, "damaged"),
    "a stack that is empty": (b"\x80\x02s.", "damaged"),
    "a mark that is missing": (b"\x80\x02u.", "damaged"),
    "a memory that is missing": (b"\x80\x02h\x05.", "damaged"),
    "no end": (b"\x80\x02}", "damaged"),
    "nothing": (b"", "damaged"),
    "an entry of a list": (b"\x80\x02]NNs.", "damaged"),
    "an element of a dict": (b"\x80\x02}Na.", "damaged"),
    "a key without a value": (b"\x80\x02}(Nu.", "damaged"),
    "an extension": (b"\x80\x02\x82\x01.", "damaged"),
    "a call of a text": (b"\x80\x02" + text("x") + b")R.", "damaged"),
    "a function that rebuilds itself": (
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\nq\x00(h\x00N(h\x00N)NtNtR.",
        "damaged",
    ),
    "steps without end": (b"\x80\x02" + b"N0" * 2**22 + b".", "steps"),
    # These pass NumPy's own check, which overflows; the first number read ends the process.
    "strides that overflow to nothing in bytes": (
        pickled(tensors=tensor(size=(5,), strides=(2**60,))),
        "does not fit",
    ),
    "strides that overflow to nothing in two axes": (
        pickled(tensors=tensor(size=(2, 9), strides=(1, 2**59))),
        "does not fit",
    ),
    "strides that overflow to nothing": (
        pickled(tensors=tensor(size=(6, 2), strides=(1, 2**62))),
        "does not fit",
    ),
    "strides that overflow and add up": (
        pickled(tensors=tensor(size=(2, 2), strides=(2**61, 2**61))),
        "does not fit",
    ),
    "an offset that overflows": (pickled(tensors=tensor(offset=2**62)), "does not fit"),
    "an offset and strides that overflow": (
        pickled(tensors=tensor(offset=2**62 - 1, size=(2,), strides=(2**62 + 1,))),
        "does not fit",
    ),
    "a product of sides that overflows": (
        pickled(tensors=tensor(size=(2**32, 2**32), strides=(0, 0))),
        "unpack",
    ),
    "a storage that overflows": (pickled(tensors=tensor(count=2**62 + 6)), "does not fit"),
    "a storage of negative size": (pickled(tensors=tensor(count=-1)), "does not fit"),
    "a billion numbers of one": (
        pickled(tensors=tensor(size=(10**9,), strides=(0,))),
        "would unpack to 4,000,000,000",
    ),
    "30 million numbers of one": (
        pickled(tensors=tensor(size=(3 * 10**7,), strides=(0,))),
        "repeats the numbers",
    ),
    "a window that repeats numbers": (
        pickled(tensors=tensor(count=6, size=(5000, 5000), strides=(0, 0))),
        "repeats the numbers",
    ),
    "65 sides": (pickled(tensors=tensor(size=(1,) * 65, strides=(0,) * 65)), "axes"),
    "an empty shape that overflows": (
        pickled(tensors=tensor(size=(2**62, 2**62, 0), strides=(0, 0, 0))),
        "no array has",
    ),
    "200 broadcasts": (
        b"\x80\x02"
        + tensor(size=(2000, 2000), strides=(0, 0))
        + b"q\x000}("
        + b"".join(text(f"w{i}") + b"h\x00" for i in range(200))
        + b"u.",
        "would unpack to",
    ),
    "a tensor under a tuple": (pickled(entry(b")", tensor())), "names are numbers, or texts"),
}


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


FORMS = {"zip": as_zip, "old": as_old}
CONTENTS = {**READ, **{name: content for name, (content, _) in REFUSED.items()}}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """What reading each of the files in each form gave, and the path."""
    folder = tmp_path_factory.mktemp("pickles")
    paths = {}
    for form, write in FORMS.items():
        for number, (name, content) in enumerate(CONTENTS.items()):
            paths[form, name] = folder / f"{form}{number}.pth"
            write(paths[form, name], content)
    found = read_in_a_process(paths.values())
    return dict(zip(paths, zip(found, paths.values(), strict=True), strict=True))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", READ)
def test_what_is_beside_a_state_dict_costs_nothing(name, form, read):
    found, path = read[form, name]
    assert found.names == ["w"], found
    assert_told(found._replace(message=str(path)), path)
    assert found.seconds < 2, found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", REFUSED)
def test_a_pickle_that_asks_for_too_much_is_refused_in_a_line(name, form, read):
    found, path = read[form, name]
    assert_told(found, path, REFUSED[name][1])


# --------------------------------------------------------------------- each step is constant work


def large_operands():
    """Values that a pickle can refer to at each step, as large as fits into a small file."""
    number = 2**18
    storage = ("storage", "float32", "\u3000" * 1000, "cpu", 6)
    sides = (1,) * 64
    nested = ()
    for _ in range(60):
        nested = (nested, nested)
    return {
        "tuple": (None,) * number,
        "tuple of one": ((None,) * number,),
        "list": [None] * number,
        "pairs": ([(key, None) for key in range(number)],),
        "dict": dict.fromkeys(range(number)),
        "dict of dicts": (dict.fromkeys(range(number)),),
        "nested": nested,
        "huge integer": pickles._integer(-(1 << 2**26)),
        "integer": -(1 << 500),
        "odd text": "\u3000" * 1000,
        "long text": "x" * 10**7,
        "bytes": bytes(10**7),
        "storage": storage,
        "storage of a long name": (*storage[:2], "x" * 10**7, *storage[3:]),
        "tensor": (pickled_values.Storage("0", "float32", 6), 0, sides, sides, None, sides),
        "endless tensor": (pickled_values.Storage("0", "float32", 6), 0, *[(1,) * number] * 2),
        "tensor of a class": (
            pickled_values._KNOWN["torch._utils._rebuild_tensor_v2"],
            None,
            (None,) * number,
            None,
        ),
    }


# Arguments of operations that have one.
ARGUMENTS = {
    **dict.fromkeys(("GLOBAL", "INST"), "collections OrderedDict"),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"), 0),
}


def cost(operation, below, above, argument):
    """(seconds, steps) of 500 times the same operation, or of fewer if it fails."""
    steps = [0]
    machine = pickles._Machine(lambda number: steps.append(steps.pop() + number))
    machine.memo[0] = above
    step = machine.steps[operation]
    stack, marks = [below, above], [0]
    if operation in ("SETITEM", "SETITEMS", "DICT"):
        stack, marks = [below, above, above], [1]
    started = time.process_time()
    for _ in range(500):
        machine.stack[:], machine.marks[:] = stack, marks
        machine.count(1)
        try:
            step(argument)
        except (UserError, ValueError, TypeError, IndexError, AttributeError):
            break  # the file is refused
        if steps[0] > 10**6:
            break
    return time.process_time() - started, steps[0]


OPERANDS = large_operands()
# One of each kind.
FUNCTIONS = {
    value.call: value for value in pickled_values._KNOWN.values() if not isinstance(value, str)
}
OPERATIONS = sorted(pickles._Machine(lambda number: None).steps)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_step_takes_no_longer_for_large_operands(operation):
    belows = FUNCTIONS.values() if operation in ("REDUCE", "NEWOBJ", "OBJ") else [{}, [], "torch"]
    slow = {}
    for name, above in OPERANDS.items():
        for below in belows:
            argument = ARGUMENTS.get(operation, above)
            seconds, steps = cost(operation, below, above, argument)
            if seconds > 0.03 + 5e-6 * steps:
                slow[name, getattr(below, "name", below)] = (seconds, steps)
    assert not slow


def test_the_steps_of_all_pickles_of_a_file_count_together(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_MOST_STEPS", 10_000)
    half = b"N0" * 3_000
    path = tmp_path / "w.pth"
    as_old(path, b"\x80\x02" + half + pickled()[2:])
    assert files.read(path).keys() == {"w"}
    path.write_bytes(path.read_bytes().replace(plain(["0"]), half + plain(["0"])))
    with pytest.raises(WeightsError, match=r"10,000 steps \(VITJAX_MODEL_LIMITS=off"):
        files.read(path)
    monkeypatch.setenv("VITJAX_MODEL_LIMITS", "off")
    assert files.read(path).keys() == {"w"}


def test_a_large_file_may_take_more_steps(tmp_path, monkeypatch):
    """As the names of the images of a training do, beside its weights."""
    monkeypatch.setattr(limits, "_MOST_STEPS", 1_000)
    names = b"](" + b"".join(text(f"train/class/{i}.jpg") for i in range(2_000)) + b"e"
    as_old(tmp_path / "w.pth", pickled(entry(text("x"), names)))
    assert files.read(tmp_path / "w.pth").keys() == {"w"}


def test_nothing_comes_before_the_number_of_an_old_file(tmp_path):
    path = tmp_path / "w.pth"
    as_old(path, pickled())
    assert files.read(path).keys() == {"w"}
    path.write_bytes(path.read_bytes().replace(plain(1001), b"N0" * 1_000 + plain(1001), 1))
    with pytest.raises(WeightsError, match=r"cut short or damaged"):
        files.read(path)
