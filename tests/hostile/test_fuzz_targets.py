"""Each reader that ``scripts/fuzz.sh`` fuzzes answers what it starts from, and reads some of it."""

import contextlib
import sys
from pathlib import Path

import pytest
from damaging import damaged

from vitjax.core.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "fuzz"))

from targets import STEM, TARGETS


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_seeds_of_a_reader_are_read(name, tmp_path, monkeypatch):
    target, read = TARGETS[name], 0
    monkeypatch.chdir(tmp_path)
    for seed in target.seeds():
        path = tmp_path / f"{STEM}{target.suffix}"
        path.write_bytes(target.packed(seed))
        with contextlib.suppress(UserError):
            target.read(path)
            read += 1
    assert read


@pytest.mark.parametrize("name", [name for name in TARGETS if TARGETS[name].named])
def test_what_is_damaged_is_named(name, tmp_path, monkeypatch):
    target = TARGETS[name]
    monkeypatch.chdir(tmp_path)
    seed = next(iter(target.seeds()))
    for what, content in damaged(seed, count=10):
        path = tmp_path / f"{STEM}{target.suffix}"
        path.write_bytes(target.packed(content))
        said = STEM
        try:
            target.read(path)
        except UserError as error:
            said = str(error)
        assert STEM in said, what
