"""Fuzzes each reader in a process of its own; see scripts/fuzz.sh."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from targets import TARGETS  # type: ignore[import-not-found]

MEGABYTES = 2048  # of a process, with the libraries that it loads
SECONDS = 10  # for one input


def fuzz(name: str, seconds: int, folder: Path, seed: int) -> tuple[int, int]:
    """Fuzzes one reader; returns the numbers of inputs and of findings."""
    findings, corpus = folder / "findings" / name, folder / "corpus" / name
    for path in (findings, corpus):
        path.mkdir(parents=True, exist_ok=True)
    inputs, end = 0, time.monotonic() + seconds
    # A crash, a hang and too much memory end the process; the time that is left needs another.
    while (left := round(end - time.monotonic())) > 0:
        log = folder / f"{name}.log"
        with log.open("w") as output:
            ended = subprocess.run(
                [
                    *(sys.executable, Path(__file__).with_name("one_reader.py"), name, findings),
                    *(f"-max_total_time={left}", f"-timeout={SECONDS}", f"-seed={seed}"),
                    *(f"-rss_limit_mb={MEGABYTES}", f"-artifact_prefix={findings}/"),
                    *("-print_final_stats=1", "-max_len=65536", "-reload=0", corpus),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        text = log.read_text(errors="replace")
        executed = re.findall(r"number_of_executed_units:\s*(\d+)", text)
        inputs += int(executed[-1]) if executed else 0
        if ended.returncode and not executed:
            sys.exit(f"{name}: the fuzzer did not start; see {log}")
        seed += 1
    return inputs, sum(path.suffix != ".txt" for path in findings.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", help="all, if none is named")
    parser.add_argument("--seconds", type=int, default=120, help="for each reader (%(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("fuzz"), help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the damage (%(default)s)")
    parser.add_argument("--list", action="store_true", help="print the readers")
    options = parser.parse_args()
    if options.list:
        print("\n".join(TARGETS))
        return
    if unknown := set(options.readers) - set(TARGETS):
        parser.error(f"unknown readers {sorted(unknown)} (known: {', '.join(TARGETS)})")
    found = 0
    columns = shutil.get_terminal_size().columns
    print(f"{'reader':16}{'inputs':>12}{'findings':>10}"[:columns])
    for name in options.readers or TARGETS:
        inputs, findings = fuzz(name, options.seconds, options.folder.resolve(), options.seed)
        print(f"{name:16}{inputs:12,}{findings:10,}", flush=True)
        found += findings
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
