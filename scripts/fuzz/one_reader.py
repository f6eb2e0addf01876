"""Fuzzes one reader in this process: one_reader.py NAME FINDINGS [options of libFuzzer] CORPUS.

An input that ends in words, or is read, is fine. Any other exception is a finding: the input and
the traceback are written to FINDINGS, once per place in the code. A crash, a hang and too much
memory end the process, and libFuzzer writes the input.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import atheris

# What reads bytes in Python, whose branches guide the damage.
CODE = ["vitjax", "zipfile", "pickletools", "PIL", "csv", "json", "ast", "numpy.lib"]

with atheris.instrument_imports(include=CODE, enable_loader_override=False):
    from targets import STEM, TARGETS, Target  # type: ignore[import-not-found]

    from vitjax.core.errors import UserError


class Unanswered(Exception):
    """An error in words lacks the name of the file."""


def attempt(target: Target, path: Path, content: bytes) -> None:
    """Reads ``content``, and raises what is no answer in words."""
    path.write_bytes(content)
    try:
        target.read(path)
    except UserError as error:
        if target.named and STEM not in str(error):
            raise Unanswered(str(error)) from error


def main() -> None:
    name, findings, *options = sys.argv[1:]
    target, folder = TARGETS[name], Path(findings).resolve()
    options = [str(Path(o).resolve()) if not o.startswith("-") else o for o in options]
    scratch = Path(tempfile.mkdtemp(dir="/dev/shm"))  # in memory
    os.chdir(scratch)
    corpus = Path(options[-1])
    for seed in target.seeds():
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    for entry in scratch.iterdir():
        entry.unlink()
    warnings.simplefilter("ignore")
    seen: set[tuple[str, ...]] = set()

    def test(content: bytes) -> None:
        try:
            attempt(target, scratch / f"{STEM}{target.suffix}", target.packed(content))
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[-3:]
            place = (type(error).__name__, *(f"{f.filename}:{f.lineno}" for f in frames))
            if place not in seen:
                seen.add(place)
                stem = hashlib.sha1(repr(place).encode()).hexdigest()[:12]
                (folder / f"error-{stem}").write_bytes(content)
                (folder / f"error-{stem}.txt").write_text(traceback.format_exc())

    atheris.Setup([sys.argv[0], *options], test)
    with contextlib.suppress(KeyboardInterrupt):
        atheris.Fuzz()


if __name__ == "__main__":
    main()
