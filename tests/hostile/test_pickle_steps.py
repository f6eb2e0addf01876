"""The steps of a pickle: each takes the same short time, and all of a file count together."""

import time

import pytest
from pickle_files import as_old, as_zip, entry, pickled, plain, text

from vitjax.core.errors import UserError
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import files, limits, pickles
from vitjax.weights.formats import pickled as pickled_values


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
    slow = []
    for name, above in OPERANDS.items():
        for below in belows:
            argument = ARGUMENTS.get(operation, above)
            # The machine may do something else meanwhile.
            tries = (cost(operation, below, above, argument) for _ in range(4))
            if not any(seconds < 0.03 + 5e-6 * steps for seconds, steps in tries):
                slow.append((name, getattr(below, "name", below)))
    assert not slow


def test_steps_without_end_end_soon(tmp_path):
    as_zip(tmp_path / "w.pth", b"\x80\x02" + b"}0" * limits._MOST_STEPS + b".")
    started = time.process_time()
    with pytest.raises(WeightsError, match=r"takes more than 4,194,304 steps"):
        files.read(tmp_path / "w.pth")
    assert time.process_time() - started < 5


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
