"""How the programs of scripts/bench time, and what they make of times."""

import json
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"
sys.path.insert(0, str(BENCH))

import peer  # noqa: E402
import plots  # noqa: E402
import tables  # noqa: E402
import timing  # noqa: E402


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(timing, "PAUSE", 0.0)
    monkeypatch.setattr(sys, "argv", ["bench/training.py", "--batch-size", "8", "--json", "x"])


def answering(*seconds):
    """A contestant whose turns take the given seconds per step, and the numbers of its steps."""
    asked = []

    def run(steps):
        asked.append(steps)
        return steps * seconds[min(len(asked), len(seconds)) - 1]

    return run, asked


def failing(steps):
    raise RuntimeError("it has no memory left")


def test_contestants_take_turns_after_warming_up():
    order = []

    def named(name):
        return lambda steps: order.append((name, steps)) or float(steps)

    times = timing.in_turn({"a": named("a"), "b": named("b")}, rounds=2, steps=3, warm_up=2)
    assert order[:4] == [("a", 1)] * 2 + [("b", 1)] * 2
    assert order[4:] == [("a", 3), ("b", 3)] * 2
    assert times.seconds == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_a_turn_lasts_as_long_as_it_should_and_a_slow_contestant_has_one():
    fast, fast_steps = answering(0.01)
    slow, slow_steps = answering(60.0)
    times = timing.in_turn({"fast": fast, "slow": slow}, rounds=3, least=0.5)
    assert fast_steps == [1, 1, 50, 50, 50]
    assert slow_steps == [1, 1]
    assert times.seconds["slow"] == [60.0]


def test_a_contestant_that_fails_is_left_out_and_a_missing_one_is_a_null(capsys):
    ours, _ = answering(9.0, 9.0, 1.0, 2.0, 4.0)
    theirs, _ = answering(9.0, 9.0, 3.0, 4.0, 4.0)
    times = timing.in_turn({timing.OURS: ours, "torch": theirs, "broken": failing}, rounds=3)
    peers = ("torch", "broken", "absent")
    row = timing.Row("training", "net", 8, "images/s", 8, times, peers, flops=1e9).as_json()
    assert row["values"] == {"vitjax": 4.0, "torch": 2.0, "broken": None, "absent": None}
    assert row["ratios"] == {"torch": [2.0, 1.0, 3.0], "broken": None, "absent": None}
    assert row["failed"] == {"broken": "it has no memory left"}
    assert row["share_of_peak"] is None
    assert "broken is left out" in capsys.readouterr().err


def test_the_share_is_of_the_faster_product():
    ours, _ = answering(0.5)
    products = {"JAX": answering(1.0)[0], "PyTorch": answering(2.0, 0.25)[0]}
    times = timing.in_turn({timing.OURS: ours}, rounds=1, peaks=products)
    row = timing.Row("training", "net", 8, "ms", 1, times, (), flops=timing.GEMM_FLOPS).as_json()
    assert row["values"] == {"vitjax": 500.0}
    assert row["share_of_peak"] == pytest.approx(2.0 / 4.0)


PROGRAM = f"""
import sys
sys.path.insert(0, {str(BENCH)!r})
from peer import received, serve

def start():
    settings, arrays = received()
    if settings["fails"]:
        raise ImportError("no timm\\nhere")

    def broken(steps):
        raise ValueError("steps\\nof it")

    total = float(sum(array.sum() for array in arrays.values()))
    print("not a line of the protocol")
    return {{"add": lambda steps: {{"seconds": total * steps}}, "broken": broken}}, {{"n": 1}}

serve(start)
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


def test_a_peer_answers_and_survives_a_run_that_fails(program):
    import numpy as np

    theirs = peer.Peer(sys.executable, program, {"fails": False}, {"x": np.ones(3)})
    assert theirs.facts == {"n": 1}
    assert theirs.seconds("add")(2) == 6.0
    with pytest.raises(peer.PeerError, match=r"^ValueError: steps$"):
        theirs.ask("broken", 1)
    assert theirs.seconds("add")(1) == 3.0
    theirs.close()


@pytest.mark.parametrize("python", [sys.executable, "/nowhere/python", "/bin/false"])
def test_a_peer_that_cannot_start_says_why_in_a_line(program, python):
    with pytest.raises(peer.PeerError) as caught:
        peer.Peer(python, program, {"fails": True})
    assert "\n" not in str(caught.value)


def written(path, speeds):
    """A file of rows: images per second by batch size."""
    report = timing.Report(path)
    for batch, speed in speeds.items():
        times = timing.Times({timing.OURS: [batch / speed]}, {}, {})
        report.add(timing.Row("training", "net", batch, "images/s", batch, times, ("timm",)))


def test_rows_become_the_table_of_a_page(tmp_path, monkeypatch):
    rows, page = tmp_path / "rows.jsonl", tmp_path / "page.md"
    written(rows, {8: 50.0})
    written(rows, {8: 1234.0})
    page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    monkeypatch.setattr(sys, "argv", ["tables.py", str(rows), "--docs", str(page)])
    tables.main()
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| net | 8 | images/s | 1,234 | timm - | - | - | 1 |" in text
    assert "1. `python scripts/bench/training.py --batch-size 8`" in text
    assert "old" not in text
    assert "50" not in text.partition(tables.BEGIN)[2].partition("| net |")[2].partition("\n")[0]
    page.write_text("no place")
    with pytest.raises(SystemExit, match="lacks the lines"):
        tables.main()
    assert page.read_text() == "no place"


@pytest.mark.parametrize(("half", "fails"), [(40.0, False), (20.0, True)])
def test_a_cliff_fails(tmp_path, monkeypatch, half, fails):
    rows = tmp_path / "rows.jsonl"
    written(rows, {16: half, 32: 42.0})
    images = tmp_path / "images"
    monkeypatch.setattr(
        sys, "argv", ["plots.py", str(rows), "--most", "1.15", "--images", str(images)]
    )
    if fails:
        with pytest.raises(SystemExit, match=r"up to 2\.10 times"):
            plots.main()
    else:
        plots.main()
    assert (images / "batches.png").stat().st_size > 1000
    assert {json.loads(line)["batch"] for line in rows.read_text().splitlines()} == {16, 32}
