"""scripts/bench/gpu.sh without a GPU: its dry run, its time limits, what it resumes."""

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import whole_runs

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts" / "bench"))
import gpu  # noqa: E402
import gpu_parts  # noqa: E402

# Seconds for a dry run: five times the minute of CPU time that it may take.
LIMIT = 300
FACTS = {
    **{"python": "3.11", "driver": None, "device": "cpu", "versions": {"jax": "1"}, "peers": {}},
    **{"missing": {}, "date": "2026-01-01", "revision": "abc", "dry_run": True, "budget": 9},
}
WRITES = """
import pathlib, sys
pathlib.Path(sys.argv[1]).write_text(
    '{"values": {"vitjax": 20.0, "timm": 10.0, "timm, torch.compile": null},'
    ' "ratios": {"timm": [2.0], "timm, torch.compile": null}, "notes": {"mfu": 0.5},'
    ' "failed": {"timm, torch.compile": "no compiler"}}'
)
"""


@pytest.fixture
def part(tmp_path_factory):
    """Makes parts of a program's text."""
    return functools.partial(make_part, tmp_path_factory.mktemp("programs"))


def make_part(folder, program=WRITES, name="vit", expected=20.0, **fields):
    row = f"row of {name}"
    path = folder / f"{name}.py"
    path.write_text(program)
    arguments = (str(path), "{json}")
    read = gpu_parts.read_training(row)
    return gpu_parts.Part(name, "training", {row: {}}, arguments, expected, read, **fields)


def run(monkeypatch, folder, parts, *arguments, missing=()):
    """The lines of the results, by part, after a run of ``parts``."""
    facts = {**FACTS, "missing": dict(missing)}
    monkeypatch.setattr(gpu_parts, "create", lambda sizes, data: parts)
    monkeypatch.setattr(gpu, "check", lambda arguments, runner: facts)
    monkeypatch.setattr(sys, "argv", ["gpu.py", f"--out={folder}", "--dry-run", *arguments])
    gpu.main()
    _, *lines = map(json.loads, (folder / "results.jsonl").read_text().splitlines())
    return {line["part"]: line for line in lines}


def test_a_failed_part_is_null_with_its_log_and_the_next_runs(monkeypatch, tmp_path, capsys, part):
    raises = "raise ValueError('no memory')"
    # Its child would outlive it.
    hangs = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('waits', flush=True); time.sleep(60)"
    )
    dies = "import os; print('dies', flush=True); os._exit(3)"
    parts = [
        *(part(raises, "raises"), part(hangs, "hangs", expected=1.0), part(dies, "dies")),
        *(part("", "silent"), part()),
    ]
    began = time.monotonic()
    found = run(monkeypatch, tmp_path, parts)
    assert time.monotonic() - began < 30
    assert {name: line["status"] for name, line in found.items()} == {
        **{
            "raises": "failed",
            "hangs": "failed",
            "dies": "failed",
            "silent": "failed",
            "vit": "done",
        }
    }
    assert found["raises"]["reason"] == "it ended with status 1 (ValueError: no memory)"
    assert found["hangs"]["reason"] == "it took more than 2 s (waits)"
    assert found["dies"]["reason"] == "it ended with status 3 (dies)"
    assert found["silent"]["reason"] == "it wrote no result"
    nulls = dict.fromkeys(gpu_parts.COLUMNS["training"])
    assert found["raises"]["rows"] == {"row of raises": nulls}
    assert found["vit"]["rows"]["row of vit"] == {
        **nulls,
        **{"images/s": 20.0, "MFU": 0.5, "timm eager, images/s": 10.0, "ratio to eager": 2.0},
    }
    assert "Traceback" in (tmp_path / "log.txt").read_text()
    table = (tmp_path / "table.md").read_text()
    assert "| row of vit | 20.0 | 50.0% | 10.0 | 2 | null | null |  |" in table
    assert "| row of raises | null | null | null | null | null | null |  |" in table
    assert "- vit: timm, torch.compile: no compiler" in table
    assert "- raises: it ended with status 1 (ValueError: no memory)" in table
    assert table in capsys.readouterr().out


def test_missing_needs_and_a_spent_budget_are_nulls_and_a_second_run_fills_them(
    monkeypatch, tmp_path, part
):
    counts = f"open({str(tmp_path / 'runs')!r}, 'a').write('x')\n{WRITES}"
    parts = [part(counts), part(name="data", needs=("gpu", "cifar10")), part(name="late")]
    missing = {"cifar10": "there is no file x"}
    found = run(*(monkeypatch, tmp_path / "out", parts, "--parts", "vit", "data"), missing=missing)
    assert found["vit"]["status"] == "done"
    assert found["data"]["reason"] == "there is no file x"
    assert found["late"]["reason"] == "--parts leaves it out"
    found = run(monkeypatch, tmp_path / "out", parts, "--budget=0.0")
    assert found["vit"]["status"] == "done"
    assert found["late"]["reason"].startswith("0 s of 0 s were left, and it takes about 20 s")
    found = run(monkeypatch, tmp_path / "out", parts)
    assert {line["status"] for line in found.values()} == {"done"}
    assert (tmp_path / "runs").read_text() == "x"
    monkeypatch.setitem(FACTS, "device", "another")
    with pytest.raises(SystemExit, match=r"results of another device \(cpu, not another\)"):
        run(monkeypatch, tmp_path / "out", parts)


def test_parts_share_a_process_unless_they_ask_for_their_own(monkeypatch, tmp_path, part):
    notes = f"import os; open({str(tmp_path / 'processes')!r}, 'a').write(f'{{os.getpid()}} ')\n"
    names = ("first", "second", "own", "last")
    parts = [part(notes + WRITES, name, alone=name == "own") for name in names]
    found = run(monkeypatch, tmp_path / "out", parts)
    assert {line["status"] for line in found.values()} == {"done"}
    first, second, own, last = (tmp_path / "processes").read_text().split()
    assert first == second == last
    assert len({first, own, str(os.getpid())}) == 3


def test_a_part_is_named_as_it_is(monkeypatch, tmp_path, part):
    with pytest.raises(SystemExit, match="--parts: there is no vif; parts are vit"):
        run(monkeypatch, tmp_path, [part()], "--parts", "vif")


@pytest.mark.parametrize("sizes", [gpu_parts.REAL, gpu_parts.TINY], ids=["real", "tiny"])
def test_parts_have_names_and_rows_of_their_own(sizes):
    parts = gpu_parts.create(sizes, "cifar10.npz")
    names = [each.name for each in parts]
    rows = [(each.table, row) for each in parts for row in each.empty()]
    assert len(set(names)) == len(names)
    assert len(set(rows)) == len(rows)
    assert {each.table for each in parts} == set(gpu_parts.COLUMNS)


def test_without_a_gpu_everything_is_null(monkeypatch, tmp_path):
    parts = gpu_parts.create(gpu_parts.REAL, None)
    found = run(monkeypatch, tmp_path, parts, missing={"gpu": "JAX finds no GPU, only cpu"})
    assert {line["reason"] for line in found.values()} == {"JAX finds no GPU, only cpu"}
    assert (tmp_path / "table.md").read_text().count("null") > 60


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory):
    """The folder of a dry run, and what it printed."""
    out = tmp_path_factory.mktemp("dry_run")
    environment = {**whole_runs.ENVIRONMENT, "PYTHON": sys.executable}
    environment.pop("VITJAX_TORCH_PYTHON", None)
    ended = subprocess.run(
        ["bash", "scripts/bench/gpu.sh", "--dry-run", f"--out={out}", f"--budget={LIMIT}"],
        **{"cwd": REPOSITORY, "env": environment, "text": True, "capture_output": True},
    )
    assert ended.returncode == 0, ended.stderr
    return out, ended.stdout


@pytest.mark.slow
def test_a_dry_run_fills_every_cell(dry_run):
    out, printed = dry_run
    facts, *lines = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    parts = {each.name: each for each in gpu_parts.create(gpu_parts.TINY, None)}
    assert [line["part"] for line in lines] == list(parts)
    assert {line["part"]: line["status"] for line in lines} == dict.fromkeys(parts, "done")
    torch = facts["peers"]["torch"] and facts["peers"]["timm"]
    # Without PyTorch its columns are null, and on a CPU the share of a GPU's peak always is.
    of_peers = {
        *("timm eager, images/s", "ratio to eager", "timm compiled, images/s"),
        *("ratio to compiled", "PyTorch loop, ms", "torch.func, ms", "ratio to the loop"),
    }
    for line in lines:
        columns = gpu_parts.COLUMNS[line["table"]]
        assert set(line["rows"]) == set(parts[line["part"]].rows)
        for cells in line["rows"].values():
            assert tuple(cells) == columns
            null = {name for name, value in cells.items() if value is None} - {"goal"}
            assert null == ((set() if torch else of_peers) | {"MFU"}) & set(columns)
    (choices,) = (line["rows"] for line in lines if line["table"] == "choices")
    assert sum(cells["wins"] for cells in choices.values()) == 1
    assert sum(cells["auto takes it"] for cells in choices.values()) == 1
    if not torch:
        assert "timm: missing" in printed or "torch: missing" in printed
    for line in (out / "table.md").read_text().splitlines():
        assert line in printed
