"""Pickles of a few bytes that would take forever, fill the memory or end the process."""

import pytest
from pickle_files import (
    as_old,
    as_zip,
    colliding,
    copies,
    doubled,
    doubled_dicts,
    doubled_lists,
    entry,
    long_names,
    pickled,
    plain,
    tensor,
    text,
)
from reading import assert_told, read_in_a_process

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
            + b"ctypes\nSimpleNamespace\nh\x05R" * 20_000
            + b"e",
        ),
    ),
    "long arguments of objects": pickled(
        entry(
            text("x"),
            b"("
            + b"N" * 100_000
            + b"tq\x050]("
            + b"ctypes\nSimpleNamespace\nh\x05\x81" * 20_000
            + b"e",
        ),
    ),
    "huge negative integers as keys": pickled(
        entry(text("x"), plain(-(1 << 80_000_000)) + b"q\x050}(" + b"h\x05N" * 20_000 + b"u")
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
            + b"h\x05Q" * 20_000
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
    + entry(text("\u3000" * 1000), b"}(" + b"".join(plain(i) + b"}" for i in range(20_000)) + b"u")
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
